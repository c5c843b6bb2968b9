"""switchyard ablate: runs what it says once, goes on where it stopped, and records what failed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from support import BINARY, HANG_SECONDS, ProgramTest, contents

# In memory where there is such a place: runs that save every few steps would mostly wait for the disk.
if os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"

SWEEP = {
    "base": "config.yaml",
    "dir": "sweep",
    "axes": {"moe.aux_loss_coeff": [0, 0.1]},
    "settings": {"expert bias": {"moe.aux_loss_coeff": 0, "moe.router.expert_bias": True}},
    "seeds": [1, 2],
}
RUNS = [f"{name}-seed-{seed}" for seed in (1, 2) for name in ("aux_loss_coeff-0", "aux_loss_coeff-0.1", "expert-bias")]


class Ablation(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny()
        self.write_sweep()

    def write_sweep(self, **changes):
        (self.folder / "sweep.yaml").write_text(json.dumps({**SWEEP, **changes}, indent=1))

    def ablate(self, *arguments, expect=0):
        return self.switchyard("ablate", "sweep.yaml", *arguments, expect=expect)

    def results(self, folder="sweep"):
        return json.loads((self.folder / folder / "results.json").read_text())

    def statuses(self, folder="sweep"):
        return {run["name"]: run["status"] for run in self.results(folder)["runs"]}

    def stamps(self, folder="sweep"):
        return {path: path.stat().st_mtime_ns for path in (self.folder / folder / "runs").rglob("*") if path.is_file()}

    def assert_same_sweep(self, folder, reference):
        names = sorted(path.name for path in (self.folder / reference / "runs").iterdir())
        self.assertEqual(sorted(path.name for path in (self.folder / folder / "runs").iterdir()), names)
        for name in names:
            self.assert_same_run(f"{folder}/runs/{name}", f"{reference}/runs/{name}")
        ours, theirs = (self.results(name) for name in (folder, reference))
        for results in (ours, theirs):
            for part in (*results["settings"], *results["runs"]):
                part["measures"].pop("tokens_per_second")
                part.pop("seconds", None)
        self.assertEqual(ours, theirs)


class Children(Ablation):
    def test_when_the_parent_ignores_its_children(self):
        """As daemons and entry points of containers do: the system then keeps no exit codes."""
        self.write_sweep(seeds=[1])
        ignore = {"preexec_fn": lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)}
        self.switchyard("ablate", "sweep.yaml", **ignore)
        self.assertEqual(set(self.statuses().values()), {"finished"})


class Results(Ablation):
    def test_every_run_once(self):
        done = self.ablate("--jobs", "1")
        self.assertRegex(done.stdout, r"3 settings x 2 seeds = 6 runs in sweep")
        self.assertIn("wrote sweep/report.html", done.stdout)
        self.assertIn("sweep/report.html", self.switchyard("report", "sweep", expect=2).stderr)
        self.assertEqual(list(self.statuses()), RUNS)
        self.assertEqual(set(self.statuses().values()), {"finished"})
        # An ordinary run: what train makes of the same keys.
        self.train("alone", "moe.aux_loss_coeff=0", "moe.router.expert_bias=true", "run.seed=2")
        self.assert_same_run("sweep/runs/expert-bias-seed-2", "alone")
        losses = {run["name"]: run["measures"]["val_loss"] for run in self.results()["runs"]}
        self.assertEqual(losses["expert-bias-seed-2"], self.lines("alone", "eval")[-1]["val_loss"])
        with open(self.folder / "sweep/results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["run"] for row in rows], RUNS)
        self.assertEqual(rows[1]["moe.aux_loss_coeff"], "0.1")
        for row in rows:
            self.assertAlmostEqual(float(row["val_loss"]), losses[row["run"]], places=6)
        self.assertIn("Lowest validation loss", (self.folder / "sweep/results.md").read_text())
        self.assertIn("paired t-test", self.results()["conclusion"])
        page = (self.folder / "sweep/report.html").read_text()
        self.assertNotRegex(page, r"""(?:src|href)\s*=\s*["']?https?:""")
        # Nothing is run twice, whatever else is added.
        stamps = self.stamps()
        self.assertIn("finished 6, to go on with 0, failed 0, new 0", self.ablate().stdout)
        self.write_sweep(seeds=[1, 2, 3])
        self.assertIn("finished 6, to go on with 0, failed 0, new 3", self.ablate().stdout)
        self.assertEqual({path: stamp for path, stamp in self.stamps().items() if path in stamps}, stamps)
        self.assertEqual(len(self.statuses()), 9)
        # What is no longer planned is left out of the results and left alone.
        self.write_sweep(seeds=[1])
        self.assertIn("6 run folders are not (or no longer) part of the sweep", self.ablate().stderr)
        self.assertEqual(len(self.statuses()), 3)
        self.assertEqual({path: stamp for path, stamp in self.stamps().items() if path in stamps}, stamps)

    def test_two_at_once_equal_one_after_another(self):
        self.ablate("run.dir=one", "--jobs", "1")
        self.ablate("run.dir=two", "--jobs", "2")
        self.assert_same_sweep("two", "one")

    def test_a_plan_runs_nothing(self):
        before = contents(self.folder)
        done = self.ablate("--plan", "training.max_steps=7", "run.seed=5")
        self.assertIn("3 settings x 1 seed = 3 runs", done.stdout)
        self.assertIn("7 steps", done.stdout)
        self.assertEqual(contents(self.folder), before)


class Refusals(Ablation):
    def test_a_sweep_file_that_is_wrong(self):
        (self.folder / "sweep.yaml").write_text(
            "base: config.yaml\naxes:\n  moe.aux_los_coeff: [0, 1]\nsettings:\n  wide: {moe.top_k: 9}\n"
        )
        message = self.ablate(expect=2).stderr
        self.assertIn("sweep.yaml:3:3: key 'moe.aux_los_coeff' is not known here; did you mean 'aux_loss_coeff'?", message)
        self.assertIn("sweep.yaml:5:21: key 'moe.top_k' is 9, more than moe.num_experts 4", message)
        (self.folder / "sweep.yaml").write_text("base: config.yaml\naxis:\n  moe.top_k: [1]\n")
        self.assertIn("did you mean 'axes'?", self.ablate(expect=2).stderr)
        self.assertFalse((self.folder / "runs").exists())

    def test_a_changed_sweep(self):
        self.write_sweep(axes={"moe.aux_loss_coeff": [0]}, settings={"other": {"moe.top_k": 1}}, seeds=[1])
        self.ablate()
        before = contents(self.folder / "sweep/runs")
        self.write_sweep(axes={"moe.aux_loss_coeff": [0]}, settings={"other": {"moe.top_k": 4}}, seeds=[1])
        message = self.ablate(expect=2).stderr
        self.assertIn("other-seed-1: moe.top_k was 1 and is now 4", message)
        self.assertNotIn("aux_loss_coeff-0-seed-1:", message)
        self.assertEqual(contents(self.folder / "sweep/runs"), before)
        stamps = self.stamps()
        self.ablate("--redo-changed")
        kept = [path for path in stamps if "aux_loss_coeff-0-seed-1" in str(path)]
        self.assertEqual([self.stamps()[path] for path in kept], [stamps[path] for path in kept])
        self.assertIn("top_k: 4", (self.folder / "sweep/runs/other-seed-1/config.yaml").read_text())

    def test_a_folder_of_something_else(self):
        (self.folder / "sweep").mkdir()
        (self.folder / "sweep/notes.txt").write_text("mine")
        self.assertIn("is not the folder of a sweep", self.ablate(expect=2).stderr)
        self.assertEqual(contents(self.folder / "sweep"), {"notes.txt": b"mine"})


class Failures(Ablation):
    def test_the_rest_goes_on(self):
        sources = [{"name": "words", "files": ["late/*.txt"]}]
        self.write_sweep(settings={"other data": {"data.sources": sources}}, seeds=[1])
        done = self.ablate(expect=1)
        self.assertIn("some runs failed", done.stderr)
        self.assertEqual(list(self.statuses().values()), ["finished", "finished", "failed"])
        error = self.results()["runs"][2]["error"]
        self.assertIn("late/*.txt", error)
        self.assertIn("late/*.txt", (self.folder / "sweep/report.html").read_text())
        # Called again it is not tried again; when asked for, it is, and alone.
        stamps = self.stamps()
        self.assertIn("failed 1, new 0", self.ablate(expect=1).stdout)
        (self.folder / "texts").rename(self.folder / "late")
        (self.folder / "texts").symlink_to("late")
        self.assertIn("failed 0, new 1", self.ablate("--retry-failed").stdout)
        self.assertEqual(set(self.statuses().values()), {"finished"})
        self.assertEqual({path: stamp for path, stamp in self.stamps().items() if path in stamps}, stamps)


class Interruptions(Ablation):
    """Sweeps that are interrupted once a run of theirs is on its way, beside one in the same folder that never is."""

    STEPS = ("training.max_steps=200", "eval.interval=100", "checkpoint.interval=5", "checkpoint.keep_last=1")

    @classmethod
    def setUpClass(cls):
        cls.shared = None

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared, ignore_errors=True)

    def setUp(self):
        if self.shared is not None:
            self.folder = self.shared
            return
        self.folder = type(self).shared = Path(tempfile.mkdtemp(prefix="switchyard-test-"))
        self.prepare_tiny()
        self.write_sweep(axes={"moe.aux_loss_coeff": [0, 0.1]}, settings={"x": {"moe.top_k": 1}}, seeds=[1])
        self.ablate("run.dir=whole", *self.STEPS, "--jobs", "1")

    def start_sweep(self, jobs):
        shutil.rmtree(self.folder / "sweep", ignore_errors=True)
        process = subprocess.Popen(
            [BINARY, "ablate", "sweep.yaml", *self.STEPS, "--jobs", str(jobs)],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_for_steps(self, process, run):
        """Until `run` has trained and saved some steps."""
        output = self.folder / f"sweep/output/{run}.txt"
        deadline = time.monotonic() + HANG_SECONDS
        while not (output.exists() and "\nstep 9/" in output.read_text()):
            self.assertIsNone(process.poll(), "the sweep ended before the test could interrupt it")
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.001)

    def children(self, process):
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]

    def go_on(self, interrupted):
        """The sweep is called again and equals one that never stopped; `interrupted` had to be gone on with."""
        for run in interrupted:
            self.assertLess(self.lines(f"sweep/runs/{run}", "train")[-1]["step"], 200)
        done = self.ablate(*self.STEPS)
        self.assertIn(f"to go on with {len(interrupted)}, failed 0", done.stdout)
        self.assertEqual(set(self.statuses().values()), {"finished"})
        for run in interrupted:
            self.assertGreater(self.lines(f"sweep/runs/{run}", "start")[-1]["step"], 0)
        self.assert_same_sweep("sweep", "whole")

    def test_stopped_by_a_signal(self):
        process = self.start_sweep(jobs=2)
        runs = ["aux_loss_coeff-0-seed-1", "aux_loss_coeff-0.1-seed-1"]
        for run in runs:
            self.wait_for_steps(process, run)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=HANG_SECONDS), 75)
        for run in runs:
            self.assertEqual(self.lines(f"sweep/runs/{run}")[-1]["event"], "stopped")
        self.assertEqual(list(self.statuses().values()), ["interrupted", "interrupted", "not started"])
        self.go_on(runs)

    def test_killed(self):
        process = self.start_sweep(jobs=1)
        run = "aux_loss_coeff-0-seed-1"
        self.wait_for_steps(process, run)
        process.kill()
        process.wait()
        # The child is told to end by the death of its parent; the next sweep waits for it.
        done = self.ablate(*self.STEPS)
        self.assertIn("to go on with 1, failed 0", done.stdout)
        self.assertEqual([line["event"] for line in self.lines(f"sweep/runs/{run}")].count("stopped"), 1)
        self.assert_same_sweep("sweep", "whole")

    def test_killed_with_its_runs(self):
        process = self.start_sweep(jobs=1)
        run = "aux_loss_coeff-0-seed-1"
        self.wait_for_steps(process, run)
        process.send_signal(signal.SIGSTOP)  # so that it does not see its child end
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        for child in self.children(process):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        self.go_on([run])

    def test_a_second_sweep_waits_for_the_first(self):
        first = self.start_sweep(jobs=1)
        self.wait_for_steps(first, "aux_loss_coeff-0-seed-1")
        second = self.start("ablate", "sweep.yaml", *self.STEPS)
        self.read_until(second, "waiting for the runs of another ablate")
        first.send_signal(signal.SIGTERM)
        self.assertEqual(first.wait(timeout=HANG_SECONDS), 75)
        self.finish(second, 0)
        self.assert_same_sweep("sweep", "whole")


if __name__ == "__main__":
    unittest.main()
