"""Memory stays what it was after the first steps, batches or tokens: many more of them have the same peak."""

import os
import subprocess
import unittest

from support import BINARY, ProgramTest

MEGABYTE = 1 << 20
# Two runs of one length differ by less than half of this; what every step, batch or token leaves is seen from 2 KB on.
GROWTH = 4 * MEGABYTE


class Memory(ProgramTest):
    def peak(self, *arguments):
        """The largest resident set of a run to its end, in bytes, and its standard output."""
        with open(self.folder / "out", "wb") as out:
            process = subprocess.Popen(
                [BINARY, *map(str, arguments)], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, arguments)
        return usage.ru_maxrss * 1024, (self.folder / "out").read_text()

    def test_training_evaluation_and_generation(self):
        logged = {"max_steps": 200, "log_interval": 50}
        self.prepare_tiny(words=20000, training=logged, eval={"interval": 100}, schedule={"type": "constant"})
        self.switchyard("prepare", "config.yaml")
        short, _ = self.peak("train", "config.yaml")
        long, _ = self.peak("train", "config.yaml", "run.dir=long", "training.max_steps=2000")
        self.assertEqual(self.lines("long")[-1]["step"], 2000)
        self.assertLess(long, short + GROWTH)

        short, _ = self.peak("eval", "run", "eval.batches=10")
        long, _ = self.peak("eval", "run", "eval.batches=2000")
        self.assertLess(long, short + GROWTH)

        short, _ = self.peak("generate", "run", "--prompt", "ab", "--top-k", 2, "--max-new-tokens", 500)
        long, text = self.peak("generate", "run", "--prompt", "ab", "--top-k", 2, "--max-new-tokens", 5000)
        self.assertGreater(len(text), 5000)
        # Keys and values of 4,500 more tokens in 2 layers of width 16.
        self.assertLess(long, short + GROWTH + 4500 * 2 * 2 * 16 * 4)


if __name__ == "__main__":
    unittest.main()
