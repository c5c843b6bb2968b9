"""Killed by strace at the system calls that change files, one after the other: what was saved is whole, and the run
goes on as if nothing had been.

CI takes every thirtieth call; all of them, some minutes long:  SWITCHYARD_KILL_EVERY=1 ctest -R program.kills
"""

import os
import re
import shutil
import signal
import subprocess
import unittest

from support import BINARY, ProgramTest

EVERY = int(os.environ.get("SWITCHYARD_KILL_EVERY", "30"))
# Those that this processor's kernel has. A file that was opened and not written to is there where the first write dies.
CALLS = ",".join(f"?{name}" for name in "write writev pwrite64 ftruncate fsync mkdir mkdirat rename renameat renameat2 "
                 "unlink unlinkat rmdir".split())  # fmt: skip


class Writes(ProgramTest):
    def setUp(self):
        super().setUp()
        if shutil.which("strace") is None:
            self.skipTest("no strace")
        self.prepare_tiny(
            model={"num_layers": 1},
            moe={"num_experts": 2},
            training={"max_steps": 4},
            eval={"interval": 2, "batches": 1},
            checkpoint={"interval": 2, "keep_last": 1},
        )
        self.train("whole")

    def traced(self, *arguments, more=()):
        """Runs the program under strace; returns its calls, each with how many of that name there were until then."""
        trace = self.folder / "trace"
        done = subprocess.run(
            ["strace", "-f", "-qq", "-o", trace, "-e", f"trace={CALLS}", *more, BINARY, *arguments],
            cwd=self.folder,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if "PTRACE" in done.stderr or "ptrace" in done.stderr:
            self.skipTest(f"strace may not trace here: {done.stderr}")
        counts, calls = {}, []
        for name in re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE):
            counts[name] = counts.get(name, 0) + 1
            calls.append((name, counts[name]))
        return done, calls

    def kill_at_every(self, prepare, *arguments):
        """prepare() makes what `arguments` start from. Returns the number of kills."""
        prepare()
        done, calls = self.traced(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        chosen = calls[::EVERY]
        for name, number in chosen:
            with self.subTest(call=name, number=number):
                prepare()
                kill = ("-e", f"inject={name}:signal=KILL:when={number}")
                done, until_then = self.traced(*arguments, more=kill)
                self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
                self.assertEqual(until_then[-1], (name, number))
                self.go_on()
                self.assert_same_run("run", "whole")
                self.assertEqual(self.newest("run").name, "step-00000004")  # the one before may not have gone yet
                self.assertEqual(list(self.folder.rglob("*tmp-*")), [])
        return len(chosen)

    def go_on(self):
        """As one does after a kill: started again, and where that is refused, resumed."""
        if self.train("run", expect=None).returncode != 0:
            self.resume("run", "training.max_steps=4")

    def test_a_run_that_resumes(self):
        self.train("half", "training.max_steps=2", "schedule.decay_steps=4")

        def prepare():
            shutil.rmtree(self.folder / "run", ignore_errors=True)
            shutil.copytree(self.folder / "half", self.folder / "run")

        kills = self.kill_at_every(prepare, "train", "--resume", "run", "training.max_steps=4")
        self.assertGreater(kills * EVERY, 60)

    def test_a_new_run_that_prepares_its_data(self):
        def prepare():
            for name in ("run", "shards"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

        kills = self.kill_at_every(prepare, "train", "config.yaml")
        self.assertGreater(kills * EVERY, 100)


if __name__ == "__main__":
    unittest.main()
