"""The archive of scripts/package.sh, used in a root that holds the C library and nothing else."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import BINARY

SCRIPTS = Path(__file__).parents[2] / "scripts"


class Package(unittest.TestCase):
    def test_in_a_bare_root(self):
        folder = Path(tempfile.mkdtemp(prefix="switchyard-package-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        pack = [SCRIPTS / "package.sh", "--build", Path(BINARY).parent, "--out", folder, "--level", "1"]
        subprocess.run(pack, check=True)
        (archive,) = folder.glob("*.tar.gz")
        self.assertRegex(archive.name, r"^switchyard-\d+\.\d+\.\d+-linux-\w+\.tar\.gz$")
        program = next(folder.glob("*/bin/switchyard"))
        rpath = subprocess.run(["patchelf", "--print-rpath", program], check=True, capture_output=True, text=True)
        self.assertEqual(rpath.stdout, "$ORIGIN/../lib/switchyard\n")
        done = subprocess.run([SCRIPTS / "check_package.sh", archive], check=False)
        if done.returncode == 77:
            self.skipTest("roots cannot be changed to here")
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    if shutil.which("patchelf") is None:
        print("skipped: patchelf is not installed (third_party/debian-dev.txt)")
        sys.exit(77)
    unittest.main()
