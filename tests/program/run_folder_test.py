"""Whose a folder is: what may begin, go on or start over in it, and that one process at a time does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import unittest

from support import TINY, ProgramTest, contents, merged, write_texts


class Folders(ProgramTest):
    """One run of four steps with two checkpoints, and what must not be taken for it."""

    def setUp(self):
        super().setUp()
        self.prepare_tiny(
            schedule={"decay_steps": 20}, training={"max_steps": 4}, eval={"interval": 0}, checkpoint={"interval": 2}
        )
        self.train("run", "checkpoint.keep_last=0")

    def refused(self, path, expect, *says, command=None):
        before = contents(self.folder)
        done = self.switchyard(*(command or ("train", "--resume", path)), expect=expect)
        for text in says:
            self.assertIn(text, done.stderr)
        after = contents(self.folder)
        for changing in ("log.txt", "lock"):
            for found in (before, after):
                for name in [name for name in found if name.endswith("/" + changing)]:
                    del found[name]
        self.assertEqual(after, before)

    def test_what_is_no_run_is_named_and_left_alone(self):
        # A checkpoint by itself, which has a config.yaml as well.
        shutil.copytree(self.newest("run"), self.folder / "alone")
        shutil.copytree(self.newest("run"), self.folder / "step-00000004")
        shutil.copytree(self.newest("run"), self.folder / "cut")
        (self.folder / "cut/manifest.json").unlink()
        (self.folder / "sweep").mkdir()
        for name in ("sweep.yaml", "state.json"):
            (self.folder / "sweep" / name).write_text("{}")
        (self.folder / "other").mkdir()
        (self.folder / "other/config.yaml").write_text("a: 1")
        (self.folder / "other/run.json").write_text("{}")
        for name in ("alone", "step-00000004/"):
            self.refused(name, 2, f"{name} is a checkpoint, not a run folder", f"--from {name}")
        self.refused("sweep", 2, "the folder of a sweep", "switchyard ablate")
        self.refused("config.yaml", 2, "is a file", "switchyard train config.yaml")
        for name in ("cut", "other"):
            self.refused(name, 2, f"{name} is not a run folder")
        for name in ("run/checkpoints", "run/checkpoints/step-00000002/"):
            self.refused(name, 2, "is inside the run", f"--resume {self.folder / 'run'}")

    def test_damaged_checkpoints_are_not_started_over(self):
        for checkpoint in self.checkpoints("run"):
            (checkpoint / "manifest.json").unlink()
        self.refused("run", 1, "none of the 2 checkpoints", "step-00000002: not", "step-00000004: not")

    def test_checkpoints_that_are_gone_are_not_started_over(self):
        shutil.rmtree(self.folder / "run/checkpoints")
        self.refused("run", 1, "steps were saved, but run/checkpoints holds none")
        self.refused("run", 2, "exists and is not empty", command=("train", "config.yaml"))

    def test_a_run_without_a_mark_goes_on_where_it_has_a_checkpoint(self):
        (self.folder / "run/run.json").unlink()
        self.resume("run", "training.max_steps=6")
        self.assertEqual(self.newest("run").name, "step-00000006")
        self.assertTrue(json.loads((self.folder / "run/run.json").read_text())["saved"])

    def test_other_folders_are_not_begun_in(self):
        (self.folder / "mine").mkdir()
        (self.folder / "mine/thesis.txt").write_text("all of it")
        done = self.train("mine", expect=2)
        self.assertIn("mine exists and is not empty", done.stderr)
        self.assertNotIn("--resume", done.stderr)
        self.assertEqual(list(contents(self.folder / "mine")), ["thesis.txt"])


class Starts(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(training={"max_steps": 120}, eval={"interval": 0})

    def kill_at(self, step, *arguments):
        process = self.start(*arguments)
        self.read_until(process, f"^step {step}/")
        process.kill()
        process.wait()

    def test_a_start_that_fails_leaves_nothing(self):
        sources = json.dumps([{"name": "words", "files": ["none/*.txt"]}])
        for wrong in (
            f"data.sources={sources}",  # no such files
            "training.seq_length=100000",  # longer than the text
            "training.seq_length=3000",  # longer than the text to evaluate on
            "data.tokenizer=sentencepiece:none.model",
            "model.vocab_size=3",
        ):
            self.assertNotEqual(self.train("run", wrong, expect=None).returncode, 0, wrong)
            self.assertFalse((self.folder / "run").exists(), wrong)
        self.switchyard("train", "config.yaml", "--from", "missing", expect=1)
        self.assertFalse((self.folder / "run").exists())
        self.train("run", "training.max_steps=4")

    def test_a_folder_without_a_step_is_used_again(self):
        self.train("whole", "training.max_steps=4")
        shutil.copytree(self.folder / "whole", self.folder / "run")
        # As a process leaves it that died in its first step.
        shutil.rmtree(self.folder / "run/checkpoints")
        mark = json.loads((self.folder / "run/run.json").read_text())
        (self.folder / "run/run.json").write_text(json.dumps(mark | {"saved": False}))
        (self.folder / "run/metrics.jsonl").write_text('{"event":"start","step":0}\n{"ev')
        self.train("run", "training.max_steps=4")
        self.assert_same_run("run", "whole")
        # With steps in it, it is kept.
        self.kill_at(3, "train", "config.yaml", "run.dir=other")
        self.assertIn("--resume other", self.train("other", expect=2).stderr)

    def test_killed_before_the_first_checkpoint(self):
        self.train("whole")
        self.kill_at(3, "train", "config.yaml", "run.dir=run")
        self.assertIn("starting over", self.resume("run").stderr)
        self.assert_same_run("run", "whole")
        self.assertEqual((self.folder / "run/log.txt").read_text().count("effective coefficients"), 2)

    def test_the_weights_that_a_killed_run_began_with_are_taken_again(self):
        self.train("old", "training.max_steps=3")
        self.train("whole", "--from", "old", "run.seed=2")
        for run in ("run", "lost", "other"):
            self.kill_at(3, "train", "config.yaml", f"run.dir={run}", "--from", "old", "run.seed=2")
        self.assertIn(f"the weights of {self.newest('old')}", self.resume("run").stderr)
        self.assert_same_run("run", "whole")
        # Another checkpoint under its name, then none.
        self.train("third", "training.max_steps=3", "run.seed=3")
        shutil.rmtree(self.newest("old"))
        shutil.copytree(self.newest("third"), self.folder / "old/checkpoints/step-00000003")
        self.assertIn("is another one now", self.resume("other", expect=1).stderr)
        shutil.rmtree(self.folder / "old")
        before = contents(self.folder / "lost")
        self.assertIn(f"{self.folder}/old/checkpoints/step-00000003", self.resume("lost", expect=1).stderr)
        del before["log.txt"], before["lock"]
        self.assertEqual({name: data for name, data in contents(self.folder / "lost").items() if name in before}, before)

    def test_a_requeued_job_goes_on_and_another_job_does_not(self):
        first = {**os.environ, "SLURM_JOB_ID": "17"}
        self.train("old", "training.max_steps=3")
        begin = ("training.max_steps=6", "--from", "old", "run.seed=2")
        self.train("whole", *begin)
        self.train("run", *begin, env=first)
        shutil.rmtree(self.folder / "run/checkpoints")
        mark = json.loads((self.folder / "run/run.json").read_text())
        (self.folder / "run/run.json").write_text(json.dumps(mark | {"saved": False}))
        other = {**os.environ, "SLURM_JOB_ID": "18", "SLURM_RESTART_COUNT": "1"}
        self.assertIn("not empty", self.train("run", *begin, expect=2, env=other).stderr)
        self.train("run", *begin, env={**first, "SLURM_RESTART_COUNT": "1"})
        self.assert_same_run("run", "whole")


class TwoProcesses(ProgramTest):
    def test_the_second_is_told_who_has_the_folder(self):
        self.prepare_tiny(training={"max_steps": 100000}, eval={"interval": 0}, checkpoint={"interval": 5})
        process = self.start("train", "config.yaml")
        self.read_until(process, r"saved \S+step-00000005")
        process.send_signal(signal.SIGSTOP)
        before = contents(self.folder / "run/checkpoints")
        for command in (("--resume", "run"), ("config.yaml",)):
            done = self.switchyard("train", *command, expect=2)
            self.assertIn(f"run is in use by process {process.pid} on {socket.gethostname()}", done.stderr)
        self.assertEqual(contents(self.folder / "run/checkpoints"), before)
        self.switchyard("eval", "run", "--json")  # reading needs no lock
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        self.stopped_step(self.finish(process, 75), signal.SIGTERM)
        self.resume("run", f"training.max_steps={self.step_of(self.newest('run')) + 1}")


class ReadOnlyCorpus(ProgramTest):
    def test_a_prepared_corpus_on_a_read_only_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            self.skipTest("mounting a tmpfs needs root")
        self.addCleanup(subprocess.run, ["umount", "-l", str(disk)], check=True)
        self.prepare_tiny(training={"max_steps": 2}, data={"cache_dir": "disk/shards"}, schedule={"warmup_steps": 0})
        self.switchyard("prepare", "config.yaml")
        for path in (self.folder / "texts").iterdir():
            path.touch()  # as copying leaves them
        for run, without_lock in (("one", False), ("two", True)):
            if without_lock:
                for lock in (disk / "shards").glob("*.lock"):
                    lock.unlink()
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            self.train(run)
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        write_texts(self.folder / "texts", seed=4)
        done = self.train("three", expect=1)
        self.assertIn("Read-only file system", done.stderr)
        self.assertIn("data.cache_dir", done.stderr)


class Changes(ProgramTest):
    def test_another_batch_goes_on_with_the_sequences_that_were_not_seen(self):
        """The losses at a rate of zero tell which sequences a step has read."""
        still = ["optimizer.lr=1e-30", "optimizer.weight_decay=0", "schedule.type=constant", "schedule.warmup_steps=0"]
        one = ["training.micro_batch_size=1", "training.global_batch_size=1"]
        self.prepare_tiny(eval={"interval": 0})
        self.train("single", *still, *one, "training.max_steps=24")
        single = [line["lm_loss"] for line in self.lines("single", "train")]
        two = ["training.micro_batch_size=1", "training.global_batch_size=2"]
        self.train("run", *still, *one, "training.global_batch_size=4", "training.max_steps=3")
        done = self.resume("run", *two, "training.max_steps=6")
        self.assertIn("was 4 and is now 2: the data goes on after the 12 sequences seen", done.stderr)
        self.resume("run", *one, "training.max_steps=12")
        begin = 0
        for line in self.lines("run", "train"):
            count = 4 if line["step"] <= 3 else 2 if line["step"] <= 6 else 1
            self.assertAlmostEqual(line["lm_loss"], sum(single[begin : begin + count]) / count, delta=1e-5)
            begin += count
        self.assertEqual(begin, 24)

    def test_other_windows_and_weights_are_told(self):
        write_texts(self.folder / "texts")
        write_texts(self.folder / "more", seed=1)
        sources = [{"name": name, "files": [f"{name}/*.txt"]} for name in ("texts", "more")]
        (self.folder / "config.yaml").write_text(json.dumps(merged(TINY, {"data": {"sources": sources}})))
        self.train("run", "training.max_steps=4")
        sources[0]["weight"] = 3
        for source in sources:
            source["files"] = [str(self.folder / source["files"][0])]
        done = self.resume("run", "training.max_steps=5", "training.seq_length=8", "data.sources=" + json.dumps(sources))
        self.assertIn("training.seq_length was 16 and is now 8", done.stderr)
        self.assertIn("the weights of data.sources have changed", done.stderr)
        self.assertEqual(self.lines("run", "train")[-1]["tokens"], 4 * 4 * 16 + 4 * 8)

    def test_a_broken_line_of_the_metrics_is_put_aside(self):
        self.prepare_tiny(schedule={"decay_steps": 20}, eval={"interval": 4})
        self.train("whole", "training.max_steps=8")
        self.train("run", "training.max_steps=4")
        metrics = self.folder / "run/metrics.jsonl"
        lines = metrics.read_bytes().splitlines(keepends=True)
        metrics.write_bytes(b"".join(lines[:3]) + b'{"event":"tr#ain"\n' + b"".join(lines[3:]) + b"\0" * 4096)
        done = self.resume("run", "training.max_steps=8")
        self.assertIn("metrics.jsonl.broken", done.stderr)
        self.assertIn("zero bytes", done.stderr)
        self.assertEqual((self.folder / "run/metrics.jsonl.broken").read_bytes(), b'{"event":"tr#ain"\n')
        self.assert_same_run("run", "whole")


if __name__ == "__main__":
    unittest.main()
