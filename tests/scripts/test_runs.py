"""scripts/lib/runs.py: reading metrics, and starting, skipping and resuming runs."""

import tempfile
import unittest
from pathlib import Path

import support
from lib import runs


class Folder(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)


class Smooth(unittest.TestCase):
    def test_few_points_stay_as_they_are(self) -> None:
        values = [float(i % 2) for i in range(13)]
        self.assertEqual(runs.smooth(values), values)

    def test_windows_grow_with_the_points_to_eleven(self) -> None:
        jump = [0.0] * 30 + [1.0] * 30
        self.assertEqual(runs.smooth(jump)[28:32], [0.0, 1 / 3, 2 / 3, 1.0])
        jump = [0.0] * 300 + [11.0] * 300
        self.assertEqual(runs.smooth(jump)[294:300], [0, 1, 2, 3, 4, 5])


class ReadMetrics(Folder):
    def test_reads_events_in_order(self) -> None:
        events = [support.train(1, 3.0), support.evaluation(1, 2.5)]
        support.write_metrics(self.folder, events)
        self.assertEqual(runs.read_metrics(self.folder), events)

    def test_leaves_out_a_last_line_cut_short(self) -> None:
        support.write_metrics(self.folder, [support.train(1, 3.0)])
        with (self.folder / "metrics.jsonl").open("a") as out:
            out.write('{"event":"tra')
        self.assertEqual(runs.read_metrics(self.folder), [support.train(1, 3.0)])

    def test_names_a_broken_line(self) -> None:
        (self.folder / "metrics.jsonl").write_text('{"event":"train","step":1}\noops\n{}\n')
        with self.assertRaisesRegex(runs.RunError, "metrics.jsonl:2"):
            runs.read_metrics(self.folder)

    def test_names_a_broken_last_line_that_is_whole(self) -> None:
        (self.folder / "metrics.jsonl").write_text("{}\noops\n")
        with self.assertRaisesRegex(runs.RunError, "metrics.jsonl:2"):
            runs.read_metrics(self.folder)

    def test_names_a_folder_without_metrics(self) -> None:
        with self.assertRaisesRegex(runs.RunError, "is not there"):
            runs.read_metrics(self.folder / "nothing")


class Numbers(unittest.TestCase):
    def test_final_eval_is_the_last(self) -> None:
        events = [support.evaluation(1, 3.0), support.evaluation(2, 2.0, books=2.5), support.train(3, 1.0)]
        self.assertEqual(runs.final_eval(events)["step"], 2)
        self.assertEqual(runs.domain_losses(runs.final_eval(events)), {"books": 2.5})

    def test_final_eval_refuses_a_loss_that_is_no_number(self) -> None:
        with self.assertRaisesRegex(runs.RunError, "step 7 is not a number"):
            runs.final_eval([support.evaluation(7, None)])
        with self.assertRaisesRegex(runs.RunError, "no evaluation"):
            runs.final_eval([support.train(1, 1.0)])

    def test_validation_curve_counts_tokens(self) -> None:
        evaluations = [support.evaluation(step, loss) for step, loss in ((5, 3.0), (10, None), (20, 1.0))]
        events = [support.train(10, 3.0), *evaluations]
        self.assertEqual(runs.validation_curve(events), [(500.0, 3.0), (2000.0, 1.0)])

    def test_tokens_to_reach_is_linear_between_evaluations(self) -> None:
        curve = [(100.0, 4.0), (200.0, 3.0), (400.0, 1.0)]
        self.assertEqual(runs.tokens_to_reach(curve, 2.0), 300.0)
        self.assertEqual(runs.tokens_to_reach(curve, 3.0), 200.0)
        self.assertEqual(runs.tokens_to_reach(curve, 5.0), 100.0)
        self.assertIsNone(runs.tokens_to_reach(curve, 0.5))

    def test_tokens_to_reach_takes_the_first_crossing(self) -> None:
        self.assertEqual(runs.tokens_to_reach([(0.0, 4.0), (10.0, 2.0), (20.0, 3.0), (30.0, 1.0)], 3.0), 5.0)

    def test_layer_means_are_over_the_last_events_of_each_layer(self) -> None:
        places = [(step, layer) for step in (1, 2, 3) for layer in (1, 0)]
        events = [support.routing(step, layer, [1.0], entropy=step + 10 * layer) for step, layer in places]
        self.assertEqual(runs.layer_means(events, "entropy", 2), {0: 2.5, 1: 12.5})


class RunAll(Folder):
    def job(self, *overrides: str, name: str = "a") -> runs.Job:
        changes = ("run.seed=1", "training.max_steps=10", *overrides)
        return runs.Job(support.write_program(self.folder), Path("dense.yaml"), self.folder / "out" / name, changes)

    def calls(self) -> list[str]:
        return (self.folder / "calls.txt").read_text().splitlines()

    def test_runs_once_and_then_finds_it_finished(self) -> None:
        job = self.job()
        runs.run_all([job], 10, 1)
        runs.run_all([job], 10, 1)
        self.assertEqual(self.calls(), [" ".join(job.command()[1:])])
        self.assertEqual(runs.final_eval(runs.read_metrics(job.folder))["val_loss"], 2.0)

    def test_runs_several_at_once(self) -> None:
        jobs = [self.job(name=name) for name in "abcd"]
        runs.run_all(jobs, 10, 3)
        self.assertTrue(all(runs.is_finished(job.folder, 10) for job in jobs))

    def test_resumes_an_interrupted_run(self) -> None:
        job = self.job("fail=1")
        with self.assertRaisesRegex(runs.RunError, "ended with 1; the end of .*a.log:\nout of luck"):
            runs.run_all([job], 10, 1)
        runs.run_all([job], 10, 1)
        self.assertEqual(self.calls()[1], f"train --resume {job.folder}")
        self.assertTrue(runs.is_finished(job.folder, 10))

    def test_starts_anew_where_nothing_was_saved(self) -> None:
        job = self.job()
        runs.next_command(job, 10)
        job.folder.mkdir()
        (job.folder / "log.txt").touch()
        self.assertEqual(runs.next_command(job, 10), job.command())
        self.assertFalse(job.folder.exists())

    def test_refuses_a_run_of_another_command(self) -> None:
        runs.run_all([self.job()], 10, 1)
        with self.assertRaisesRegex(runs.RunError, "another command"):
            runs.run_all([self.job("optimizer.lr=1")], 10, 1)

    def test_never_empties_a_folder_it_did_not_make(self) -> None:
        job = self.job()
        job.folder.mkdir(parents=True)
        with self.assertRaisesRegex(runs.RunError, "not made by this script"):
            runs.run_all([job], 10, 1)
        self.assertTrue(job.folder.exists())


if __name__ == "__main__":
    unittest.main()
