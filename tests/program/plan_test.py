"""plan: what a config needs on many ranks. place: experts of a checkpoint in another order."""

import json
import unittest

from support import ProgramTest

GIVEN = ("--hbm", "80e9", "--flops", "4e14", "--efficiency", "0.4", "--intra-bandwidth", "4.5e11")
TWO_SPEEDS = (*GIVEN, "--inter-bandwidth", "5e10", "--gpus-per-node", "8")


class Plan(ProgramTest):
    def setUp(self):
        super().setUp()
        self.write_config(training={"global_batch_size": 128}, moe={"num_experts": 16})

    def plan(self, *arguments):
        return json.loads(self.switchyard("plan", "config.yaml", *arguments, "--json").stdout)

    def test_layouts_of_64_ranks(self):
        plan = self.plan("--ranks", 64, *TWO_SPEEDS)
        layouts = {(one["expert_parallel_size"], one["distributed_optimizer"]): one for one in plan["layouts"]}
        self.assertEqual({size for size, _ in layouts}, {1, 2, 4, 8, 16})
        self.assertEqual(len(layouts), 10)
        for (size, sharded), one in layouts.items():
            self.assertEqual(one["expert_copies"], 64 // size)
            self.assertEqual(one["sent_bytes_per_step"]["all_to_all"] > 0, size > 1)
            self.assertEqual(one["sent_bytes_per_step"]["parameters"] > 0, sharded)
            self.assertTrue(one["fits"])
            whole = layouts[size, False]["memory_bytes"]
            if sharded:
                self.assertLess(one["memory_bytes"]["optimizer"], whole["optimizer"] / 4)
            self.assertEqual(one["memory_bytes"]["imbalance"] > 0, size > 1)
        fastest = min(one["seconds_per_step"]["total"] for one in plan["layouts"])
        best = plan["layouts"][plan["best"]]
        self.assertLessEqual(best["seconds_per_step"]["total"], fastest * 1.001)
        self.assertIn(f"expert_parallel_size {best['expert_parallel_size']}", plan["reason"])
        self.assertEqual(set(plan["origin"].values()), {"given"})

    def test_what_is_not_given_is_measured_here(self):
        plan = self.plan("--ranks", 2)
        self.assertEqual(plan["ranks_per_node"], 2)
        for name in ("memory_bytes", "flops", "intra_bandwidth", "inter_bandwidth"):
            self.assertGreater(plan[name], 1e6, name)
        self.assertIn("measured here", plan["origin"]["flops"])
        text = self.switchyard("plan", "config.yaml", "--ranks", 2).stdout
        self.assertIn("<- best", text)
        self.assertIn("measured here", text)
        self.assertIn("assumed: experts are used evenly", text)

    def test_what_does_not_fit(self):
        plan = self.plan("--ranks", 2, *GIVEN[2:], "--hbm", 1000)
        self.assertFalse(any(one["fits"] for one in plan["layouts"]))
        self.assertIn("no layout fits", plan["reason"])

    def test_one_rank_is_what_inspect_says(self):
        inspected = json.loads(self.switchyard("inspect", "config.yaml", "--json").stdout)
        (only,) = self.plan("--ranks", 1, *GIVEN)["layouts"]
        self.assertEqual(only["memory_bytes"]["peak"], inspected["memory_bytes"]["total"])

    def test_wrong_command_lines(self):
        for arguments, message in (
            ((), "--ranks"),
            (("--ranks", 0), "--ranks"),
            (("--ranks", 3), "64 micro-batches"),
            (("--ranks", 2, "--hbm", -1), "--hbm"),
            (("--ranks", 2, "--efficiency", 2), "--efficiency"),
        ):
            with self.subTest(arguments):
                done = self.switchyard("plan", "config.yaml", *arguments, expect=2)
                self.assertIn(message, done.stderr + done.stdout)


class Place(ProgramTest):
    """Experts 0 and 2 are chosen together, and 1 and 3."""

    def setUp(self):
        super().setUp()
        self.prepare_tiny(training={"max_steps": 6})
        self.train("run")
        header = {"format": "switchyard-trace-1", "num_experts": 4, "top_k": 2, "layers": [0, 1]}
        lines = [header]
        for position in range(10):
            pair = [0, 2] if position % 2 else [3, 1]
            lines += [
                {"position": position, "token": 1, "layer": layer, "experts": pair, "weights": [0.6, 0.4]}
                for layer in (0, 1)
            ]
        (self.folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def place(self, *arguments, **options):
        return self.switchyard("place", "run", "--trace", "trace.jsonl", *arguments, **options)

    def evaluation(self, path):
        return json.loads(self.switchyard("eval", path, "--json").stdout)["val_loss"]

    def test_the_model_is_the_same_and_trains_on(self):
        text = self.place("--expert-parallel", 2, "--out", "placed").stdout
        self.assertIn("wrote placed", text)
        self.assertRegex(text, r"all +2\.00 +2\.00 +1\.00 +1\.00 +1\.00")
        self.assertAlmostEqual(self.evaluation("placed"), self.evaluation("run"), places=6)
        folders = (self.folder / "placed", self.newest("run"))
        ours, theirs = ((folder / "model.safetensors").read_bytes() for folder in folders)
        self.assertEqual(len(ours), len(theirs))
        self.assertNotEqual(ours, theirs)
        # The moments moved along: the next steps are those of the run as it was.
        self.resume("run", "training.max_steps=9")
        placed = self.folder / "run2" / "checkpoints"
        placed.mkdir(parents=True)
        (self.folder / "run2" / "config.yaml").write_bytes((self.folder / "run" / "config.yaml").read_bytes())
        (self.folder / "placed").rename(placed / "step-00000006")
        self.resume("run2", "training.max_steps=9")
        for ours, theirs in zip(self.lines("run2", "train"), self.lines("run", "train")[6:], strict=True):
            self.assertEqual(ours["step"], theirs["step"])
            self.assertAlmostEqual(ours["loss"], theirs["loss"], places=4)

    def test_plan_says_what_it_would_bring(self):
        arguments = ("--ranks", 2, *GIVEN, "--trace", "trace.jsonl", "--json")
        (line,) = json.loads(self.switchyard("plan", "run", *arguments).stdout)["placements"]
        self.assertEqual(line["ranks_per_token"], [2, 1])
        before, after = line["bytes_per_token_one_row_a_rank"]
        self.assertEqual(after, before / 2)
        self.assertEqual(line["bytes_per_token_one_row_a_choice"], before)

    def test_what_is_refused(self):
        self.place("--expert-parallel", 3, "--out", "placed", expect=2)
        self.place("--expert-parallel", 2, "--out", "run", expect=1)
        (self.folder / "trace.jsonl").write_text('{"step": 1}\n')
        done = self.place("--expert-parallel", 2, "--out", "placed", expect=1)
        self.assertIn("trace.jsonl:1", done.stderr)
        self.assertFalse((self.folder / "placed").exists())


if __name__ == "__main__":
    unittest.main()
