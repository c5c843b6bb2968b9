"""Every routing scheme through the whole program, a few steps each: train, evaluate, generate where it is causal."""

import json
import math
import unittest

from parallel_test import TIMEOUT, Ranks
from support import ProgramTest, write_texts

ROUTERS = {
    "top_k": [],
    "groups": ["moe.router={type: top_k, num_groups: 2, top_groups: 1}"],
    "expert_bias": ["moe.router={type: top_k, score: sigmoid, expert_bias: true}"],
    "null_experts": ["moe.router={type: top_k, null_experts: 2}"],
    "second_expert": ["moe.router={type: top_k, second_expert: random}", "moe.capacity_factor=1.0"],
    "switch": ["moe.router={type: switch, jitter: 0.01}", "moe.top_k=1", "moe.capacity_factor=1.25"],
    "noisy_top_k": ["moe.router=noisy_top_k"],
    "hierarchical": ["moe.router={type: hierarchical, num_groups: 2}"],
    "soft_mixture": ["moe.router=soft_mixture", "moe.top_k=4"],
    "competitive": ["moe.router={type: soft_mixture, error: competitive}", "moe.top_k=4"],
    "expert_choice": ["moe.router=expert_choice"],
    "expert_choice, none": ["moe.router={type: expert_choice, causal_form: none}"],
    "threshold": ["moe.router=threshold"],
    "hash": ["moe.router=hash"],
    "random": ["moe.router=random"],
    "sinkhorn": ["moe.router=sinkhorn"],
    "quantile": ["moe.router=quantile"],
    "soft_moe": ["moe.router=soft_moe"],
    "depth": ["moe=null", "mixture_of_depths.capacity_factor=0.5"],
    "depth and experts": ["mixture_of_depths={capacity_factor: 0.5, layer_freq: [1, 0]}"],
}
LOOK_AHEAD = {"expert_choice, none", "soft_moe"}
SHORT = ["training.max_steps=3", "metrics.tensorboard=false", "eval.batches=1"]


class Routers(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny()

    def test_every_one_trains_evaluates_and_generates(self):
        for name, overrides in ROUTERS.items():
            with self.subTest(name):
                run = name.replace(" ", "-").replace(",", "")
                self.train(run, *SHORT, *overrides)
                train, routing = self.lines(run, "train"), self.lines(run, "routing")
                self.assertEqual([line["step"] for line in train], [1, 2, 3])
                self.assertTrue(all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in train), train)
                self.assertEqual(len(routing), 0 if name == "depth" else 3 * 2)
                for line in routing:
                    self.assertAlmostEqual(sum(line["load"]), 1, msg=str(line))
                found = self.switchyard("eval", run, "--json")
                self.assertEqual(json.loads(found.stdout)["val_loss"], self.lines(run, "eval")[-1]["val_loss"])
                self.assertEqual("looks at later tokens" in found.stderr, name in LOOK_AHEAD)
                self.assertEqual("evaluation_looks_ahead" in self.lines(run, "start")[0], name in LOOK_AHEAD)
                ask = ("generate", run, "--prompt", "abc", "--max-new-tokens", "3", "--temperature", "0")
                done = self.switchyard(*ask, expect=2 if name in LOOK_AHEAD else 0)
                self.assertEqual(done.stdout.startswith("abc"), name not in LOOK_AHEAD)

    def test_competing_experts_learn(self):
        self.train("run", *ROUTERS["competitive"], "training.max_steps=60", "eval.interval=30")
        losses = [line["lm_loss"] for line in self.lines("run", "train")]
        self.assertLess(losses[-1], losses[0] - 0.3)
        evaluations = [line["val_loss"] for line in self.lines("run", "eval")]
        self.assertLess(evaluations[-1], losses[0] - 0.3)
        # The same weights with their experts blended are another model, from the first step on.
        self.train("blended", *ROUTERS["soft_mixture"], *SHORT)
        self.assertNotEqual(self.lines("blended", "train")[0]["lm_loss"], losses[0])
        done = self.switchyard("eval", "run", "moe.router.error=cooperative", expect=2)
        self.assertIn("moe.router.error is competitive there and cooperative here", done.stderr)


class Modalities(Ranks):
    def setUp(self):
        super().setUp()
        write_texts(self.folder / "texts")
        (self.folder / "pictures").mkdir()
        for i in range(6):
            (self.folder / "pictures" / f"{i}.txt").write_text("".join(chr(0xE000 + (i * j) % 7) for j in range(500)))
        sources = [
            {"name": "words", "files": ["texts/*.txt"]},
            {"name": "more-words", "files": ["texts/*1.txt", "texts/*2.txt"]},
            {"name": "pictures", "files": ["pictures/*.txt"], "modality": "image"},
        ]
        self.write_config(data={"sources": sources})

    def test_routing_is_reported_by_modality(self):
        self.train("run", "training.max_steps=6", "moe.layer_freq=[0, 1]")
        lines = self.lines("run", "routing_by_modality")
        self.assertEqual(
            [(line["step"], line["modality"], line["layer"]) for line in lines],
            [(step, modality, 1) for step in (3, 6) for modality in ("image", "text")],
        )
        for line in lines:
            self.assertEqual(len(line["load"]), 4)
            self.assertAlmostEqual(sum(line["load"]), 1)
        self.assertNotEqual(lines[-1]["load"], lines[-2]["load"])
        found = json.loads(self.switchyard("eval", "run", "--json").stdout)
        expected = [{key: line[key] for key in ("layer", "modality", "load")} for line in lines[-2:]]
        self.assertEqual(found["routing_by_modality"], expected)
        text = self.switchyard("eval", "run").stdout
        for line in lines[-2:]:
            self.assertIn(" ".join(f"{share:.3f}" for share in line["load"]), text)

    def test_two_ranks_find_what_one_does(self):
        # Three batches a domain: one rank has one batch more than the other.
        precise = ("training.precision=fp64", "training.max_steps=3", "eval.batches=3", TIMEOUT)
        for name in ("top_k", "competitive"):
            with self.subTest(name):
                one, two = f"{name}-one", f"{name}-two"
                self.train(one, *precise, *ROUTERS[name])
                shared = (*ROUTERS[name], "parallel.expert_parallel_size=2")
                self.run_ranks(2, "train", "config.yaml", f"run.dir={two}", *precise, *shared)
                self.assert_close(self.curve(two), self.curve(one), 1e-9)
                loads = [[line["load"] for line in self.lines(run, "routing_by_modality")] for run in (one, two)]
                self.assertEqual(len(loads[0]), 2 * 2)
                self.assertEqual(loads[0], loads[1])

    def test_one_modality_and_dense_models_report_none(self):
        self.train("dense", "training.max_steps=3", "moe=null")
        sources = [{"name": "words", "files": ["texts/*.txt"], "modality": "prose"}]
        self.write_config(data={"sources": sources})
        self.train("prose", "training.max_steps=3")
        for run in ("dense", "prose"):
            self.assertEqual(self.lines(run, "routing_by_modality"), [])
            self.assertNotIn("routing_by_modality", json.loads(self.switchyard("eval", run, "--json").stdout))
            self.assertNotIn("modality", self.switchyard("eval", run).stdout)


if __name__ == "__main__":
    unittest.main()
