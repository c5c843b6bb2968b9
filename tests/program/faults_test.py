"""What happens when the machine or the numbers fail: kills, a full disk, losses that are not finite."""

import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import time
import unittest

from support import ProgramTest


def tensors_of(path):
    """Names and float32 values of a safetensors file."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            yield name, struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])


class Kills(ProgramTest):
    """A run that saves every step, killed fifty times: around 50 ms of each step are the saving."""

    def setUp(self):
        super().setUp()
        self.prepare_tiny(
            training={"max_steps": 400}, eval={"interval": 7, "batches": 1}, checkpoint={"interval": 1, "keep_last": 2}
        )

    def last_logged_step(self):
        steps = [0]
        for line in (self.folder / "run/metrics.jsonl").read_bytes().splitlines():
            try:
                steps.append(json.loads(line)["step"])
            except ValueError:  # only the last line may be cut
                continue
        return max(steps)

    def newest_step(self):
        return max([self.step_of(path) for path in self.checkpoints("run")], default=0)

    def kill_once(self, stream, first):
        process = self.start("train", "config.yaml") if first else self.start("train", "--resume", "run")
        # Nobody reads its output: none of it, with so few steps, fills the pipe.
        goal = self.newest_step() + stream.choice([0, 1, 1, 2])
        while self.newest_step() < goal and process.poll() is None:
            time.sleep(0.001)
        if goal == 0:
            self.read_until(process, "^step 1/")
        time.sleep(stream.uniform(0, 0.08))
        self.assertIsNone(process.poll(), "the run ended before it could be killed")
        process.kill()
        process.wait()
        process.stderr.close()

    def test_fifty_kills(self):
        self.train("whole", "checkpoint.interval=0")
        stream = random.Random(5)
        for kill in range(50):
            self.kill_once(stream, first=kill == 0)
            logged, saved = self.last_logged_step(), self.newest_step()
            # Complete, as its name says, and at most the step that was being saved is lost.
            self.assertGreaterEqual(saved, logged - 1)
        self.resume("run", "checkpoint.interval=0")
        starts = [line["step"] for line in self.lines("run", "start")]
        self.assertEqual(starts, sorted(starts))
        self.assert_same_run("run", "whole")
        self.assertEqual([path for path in (self.folder / "run/checkpoints").iterdir() if path.name[0] == "."], [])


class Shards(ProgramTest):
    def test_cut_while_training(self):
        self.prepare_tiny(training={"max_steps": 3000}, eval={"interval": 0})
        process = self.start("train", "config.yaml")
        self.read_until(process, "^step 5/")
        (shard,) = (self.folder / "shards").rglob("*train*")
        whole = shard.read_bytes()
        os.truncate(shard, 200)
        said = self.finish(process, 1)
        self.assertIn(f"cannot read shards/{shard.relative_to(self.folder / 'shards')}: it was cut while in use", said)
        saved = self.step_of(self.newest("run"))
        self.assertGreaterEqual(saved, 5)
        self.assertEqual(self.lines("run", "train")[-1]["step"], saved)
        shard.write_bytes(whole)
        self.resume("run", f"training.max_steps={saved + 2}")
        self.assertEqual(self.lines("run", "train")[-1]["step"], saved + 2)


class NoMemory(ProgramTest):
    def test_one_line_tells_of_it(self):
        self.prepare_tiny()

        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

        # 16 GiB of weights in one tensor.
        sizes = ["model.hidden_size=64", "moe.num_experts=1024", "moe.intermediate_size=65536"]
        done = self.train("run", *sizes, expect=1, preexec_fn=limit)
        self.assertRegex(done.stderr, r"error out of memory: you tried to allocate \d+ bytes")
        self.assertNotIn("frame #", done.stderr)
        self.assertNotIn("Exception raised", done.stderr)


class NoSpace(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(
            training={"max_steps": 6}, schedule={"decay_steps": 12}, checkpoint={"interval": 2}, eval={"interval": 2}
        )
        self.train("whole")

    def small_disk(self, size):
        """A file system of its own in the test's folder, or the test is skipped."""
        disk = self.folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            self.skipTest("mounting a small tmpfs needs root")
        self.addCleanup(subprocess.run, ["umount", "-l", str(disk)], check=True)
        return disk

    def check_failure(self, done, reason, run):
        self.assertIn(os.strerror(reason), done.stderr)
        self.assertIn(f"{run}/checkpoints/", done.stderr)
        self.assertNotIn("terminate called", done.stderr)
        leftovers = [path.name for path in (self.folder / run / "checkpoints").iterdir() if path.name[0] == "."]
        self.assertEqual(leftovers, [])
        # What was saved before is whole.
        self.assertEqual(
            json.loads(self.switchyard("eval", run, "--json").stdout)["step"], self.step_of(self.newest(run))
        )

    def test_a_limit_on_the_size_of_files(self):
        self.train("run", "training.max_steps=2")

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

        # The weights (35 kB) fit, the optimizer's state (70 kB) does not.
        done = self.resume("run", "training.max_steps=6", expect=1, preexec_fn=limit)
        self.check_failure(done, errno.EFBIG, "run")
        self.assertIn("optimizer.safetensors", done.stderr)
        self.assertEqual([path.name for path in self.checkpoints("run")], ["step-00000002"])
        self.resume("run")
        self.assert_same_run("run", "whole")

    def test_the_first_checkpoint_does_not_fit(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

        done = self.train("run", expect=1, preexec_fn=limit)
        self.assertIn(os.strerror(errno.EFBIG), done.stderr)
        self.resume("run")
        self.assert_same_run("run", "whole")

    def test_a_full_disk(self):
        disk = self.small_disk("300k")
        # Two checkpoints of 115 kB fit. The third one does not, and while it is written both are still there.
        done = self.train("disk/run", expect=1)
        self.check_failure(done, errno.ENOSPC, "disk/run")
        self.assertEqual([self.step_of(path) for path in self.checkpoints("disk/run")], [2, 4])
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        self.resume("disk/run")
        self.assert_same_run("disk/run", "whole")

    def test_no_space_at_all(self):
        """Metrics, log and events cannot be written either."""
        disk = self.small_disk("16k")
        done = self.train("disk/run", expect=1)
        self.assertIn(os.strerror(errno.ENOSPC), done.stderr)
        self.assertIn("disk/run", done.stderr)
        self.assertNotIn("terminate called", done.stderr)
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        self.resume("disk/run")
        self.assert_same_run("disk/run", "whole")


# With a rate like this the weights grow a hundred thousand times a step, until a product of them overflows.
WILD = ["optimizer.lr=1e6", "optimizer.grad_clip=0", "schedule.type=constant", "schedule.warmup_steps=0"]


class NotFinite(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(checkpoint={"interval": 1, "keep_last": 0}, eval={"interval": 0})

    def check_checkpoints(self, run):
        for checkpoint in self.checkpoints(run):
            for file in ("model.safetensors", "optimizer.safetensors"):
                for name, values in tensors_of(checkpoint / file):
                    # Comparing with infinity is false for NaN, too.
                    self.assertTrue(all(abs(value) < float("inf") for value in values), f"{checkpoint}: {name}")

    def test_a_loss_that_is_not_finite_stops_the_run(self):
        for precision in ("fp32", "bf16"):
            with self.subTest(precision):
                run = f"run-{precision}"
                done = self.train(run, *WILD, f"training.precision={precision}", expect=1)
                last = self.lines(run, "train")[-1]["step"]
                self.assertRegex(done.stderr, rf"step {last + 1}: .*(?:gradient of|parameter) layers\.|embed")
                self.assertIn(f"step {last + 1}: ", (self.folder / run / "log.txt").read_text())
                self.assertLessEqual(self.step_of(self.newest(run)), last)
                self.check_checkpoints(run)

    def test_skipping_goes_on(self):
        done = self.train("run", *WILD, "training.spike.action=skip")
        self.assertIn("update skipped", done.stderr)
        train = self.lines("run", "train")
        self.assertEqual(train[-1]["step"], 12)
        self.assertTrue(any(line["loss"] is None or line["grad_norm"] is None for line in train))
        self.check_checkpoints("run")

    def test_a_skipped_spike_leaves_the_weights(self):
        skipping = ["training.spike.action=skip", "training.spike.window=4", "training.spike.threshold=0.1"]
        said = self.train("run", *skipping, "training.max_steps=30", "schedule.type=constant").stderr
        skipped = {int(step) for step in re.findall(r"step (\d+): .*update skipped", said)}
        self.assertTrue(0 < len(skipped) < 20, skipped)
        weights = [(path / "model.safetensors").read_bytes() for path in self.checkpoints("run")]
        changed = {step for step in range(2, 31) if weights[step - 1] != weights[step - 2]}
        self.assertEqual(changed, set(range(2, 31)) - skipped)


if __name__ == "__main__":
    unittest.main()
