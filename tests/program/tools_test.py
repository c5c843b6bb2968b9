"""The other commands, on the checkpoint of a short run: eval, generate, inspect, prepare, config, report, bench."""

import json
import math
import os
import re
import subprocess
import unittest
from pathlib import Path

from support import BINARY, ProgramTest, contents

REFERENCE_SHAPE = {
    "model": {
        "hidden_size": 256,
        "num_layers": 6,
        "num_attention_heads": 8,
        "vocab_size": 8192,
        "tie_word_embeddings": True,
    },
    "moe": {"num_experts": 8, "top_k": 2, "intermediate_size": 512},
    "training": {"seq_length": 256, "micro_batch_size": 16, "global_batch_size": 16, "precision": "bf16"},
}

TRILLION = {
    "model": {
        "hidden_size": 8192,
        "num_layers": 60,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128000,
    },
    "moe": {"num_experts": 256, "top_k": 8, "intermediate_size": 2816},
    "training": {"seq_length": 4096, "micro_batch_size": 1, "global_batch_size": 1},
}


class Tools(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(training={"max_steps": 30}, eval={"interval": 10})

    def json_of(self, *arguments):
        return json.loads(self.switchyard(*arguments, "--json").stdout)


class Reference(ProgramTest):
    def test_the_page_of_all_keys_is_fresh(self):
        page = Path(__file__).parents[2] / "docs" / "config.md"
        self.assertEqual(
            self.switchyard("config", "--reference").stdout,
            page.read_text(encoding="utf-8"),
            "docs/config.md is not what `switchyard config --reference` prints",
        )


class Eval(Tools):
    def test_equals_the_evaluation_of_the_run(self):
        for precision in ("fp32", "bf16"):
            with self.subTest(precision):
                self.train(precision, f"training.precision={precision}")
                last = self.lines(precision, "eval")[-1]
                for path in (precision, f"{precision}/checkpoints", f"{precision}/checkpoints/step-00000030"):
                    found = self.json_of("eval", path)
                    for key in ("val_loss", "perplexity", "domains", "step"):
                        self.assertEqual(found[key], last[key])
        # The windows are 16 tokens; two batches of two.
        self.assertEqual(found["tokens"], {"words": 64})
        told = self.switchyard("eval", "fp32").stdout
        self.assertIn("nats per token", told)
        self.assertRegex(told, r"words +\d\.\d{4} +\d+\.\d{3} +\d\.\d{4} +64\n")

    def test_bits_per_byte_compare_models_with_other_tokenizers(self):
        text = "äöü " * 400  # two bytes a character but for the space
        (self.folder / "texts").mkdir(exist_ok=True)
        for path in (self.folder / "texts").iterdir():
            path.write_text(text)
        found = {}
        for tokenizer in ("byte", "char"):
            self.train(tokenizer, f"data.tokenizer={tokenizer}", "training.max_steps=2", "schedule.warmup_steps=0")
            found[tokenizer] = self.json_of("eval", tokenizer, "eval.batches=0")
        nats = {name: one["val_loss"] * one["tokens"]["words"] for name, one in found.items()}
        # Six validation texts of 160 characters, and an end each, which has no bytes: all but the first token are targets.
        for name, tokens, first in (("byte", 6 * (280 + 1) - 1, 1), ("char", 6 * (160 + 1) - 1, 2)):
            self.assertEqual(found[name]["tokens"]["words"], tokens)
            expected = nats[name] / math.log(2) / (6 * 280 - first)
            self.assertAlmostEqual(found[name]["bits_per_byte"], expected, delta=1e-9)
            self.assertEqual(found[name]["domains"]["words"]["bits_per_byte"], found[name]["bits_per_byte"])
        self.assertEqual(self.lines("byte", "eval")[-1].keys(), {"event", "step", *found["byte"].keys()} - {"tokens"})

    def test_overrides(self):
        self.train("run")
        before = contents(self.folder / "run")
        few, all_of_it = (self.json_of("eval", "run", f"eval.batches={n}")["val_loss"] for n in (2, 0))
        self.assertNotEqual(few, all_of_it)
        self.assertAlmostEqual(few, all_of_it, delta=0.3)
        self.assertIn("model.num_layers", self.switchyard("eval", "run", "model.num_layers=3", expect=2).stderr)
        self.assertEqual(contents(self.folder / "run"), before)


class Generate(Tools):
    def setUp(self):
        super().setUp()
        self.train("run", "optimizer.lr=0.003")

    def generate(self, *options, prompt="abc", expect=0):
        done = self.switchyard("generate", "run", "--prompt", prompt, "--max-new-tokens", "24", *options, expect=expect)
        return done.stdout

    def test_seeds_and_temperature(self):
        one = self.generate("--seed", "1")
        self.assertTrue(one.startswith("abc"), one)
        # As many characters as were asked for, unless the model draws the end of the text.
        self.assertLessEqual(len(one), len("abc") + 24 + 1)
        self.assertEqual(self.generate("--seed", "1"), one)
        self.assertGreater(len({self.generate("--seed", str(seed)) for seed in range(1, 5)}), 1)
        greedy = self.generate("--temperature", "0")
        self.assertEqual(self.generate("--temperature", "0", "--seed", "9"), greedy)
        for seed in ("1", "2"):
            self.assertEqual(self.generate("--top-k", "1", "--seed", seed), greedy)
            self.assertEqual(self.generate("--top-p", "0.000001", "--seed", seed), greedy)
        self.assertNotEqual(self.generate("--temperature", "100", "--seed", "1"), greedy)

    def test_unusual_prompts(self):
        for prompt in ("", " ", "\n", "a", "a" * 40):
            with self.subTest(prompt=prompt):
                text = self.generate(prompt=prompt)
                self.assertTrue(text.startswith(prompt))
        # Characters that the tokenizer has not seen stand for "unknown".
        for prompt in ("Zoë", "日本語"):
            self.assertTrue(self.generate(prompt=prompt).startswith(prompt))

    def test_longer_than_the_training_sequences_is_said(self):
        done = self.switchyard("generate", "run", "--prompt", "abc", "--max-new-tokens", "30")
        self.assertIn("trained on 16", done.stderr)

    def test_learned_positions_end(self):
        self.train("learned", "model.position_embedding=learned", "training.max_steps=5")
        command = ("generate", "learned", "--prompt", "abc", "--temperature", "0", "--max-new-tokens")
        self.switchyard(*command, "14")  # the last of 3 + 14 tokens is not read
        self.assertIn("can be at most 14", self.switchyard(*command, "15", expect=2).stderr)

    def test_learned_positions_fix_the_length(self):
        self.train("learned", "model.position_embedding=learned", "training.max_steps=2")
        for command in (
            ("eval", "learned"),
            ("train", "--resume", "learned", "training.max_steps=3"),
            ("train", "config.yaml", "model.position_embedding=learned", "--from", "learned", "run.dir=new"),
        ):
            said = self.switchyard(*command, "training.seq_length=8", expect=2).stderr
            self.assertIn("training.seq_length is 16 there and 8 here, and each position has a learned vector", said)

    def test_bytes_are_printed_as_whole_characters(self):
        (self.folder / "texts/wide.txt").write_text("äöü ßéè " * 300)
        self.train("bytes", "data.tokenizer=byte", "training.max_steps=5")
        done = subprocess.run(
            [BINARY, "generate", "bytes", "--prompt", "ä", "--max-new-tokens", "40"],
            cwd=self.folder,
            capture_output=True,
            check=True,
        )
        self.assertTrue(done.stdout.startswith("ä".encode()))

    def test_options_out_of_range(self):
        for options in (["--temperature", "-1"], ["--top-k", "-1"], ["--top-p", "0"], ["--top-p", "1.5"]):
            self.assertEqual(self.generate(*options, expect=2), "")


class Inspect(Tools):
    def test_config_checkpoint_and_run_agree(self):
        self.train("run")
        start = self.lines("run", "start")[0]
        wanted = (start["parameters"], start["active_parameters"], start["flops_per_token"])
        weights = (self.newest("run") / "model.safetensors").stat().st_size
        for path in ("run", "run/config.yaml", "run/checkpoints/step-00000030"):
            found = self.json_of("inspect", path)
            self.assertEqual((found["total_parameters"], found["active_parameters"], found["flops_per_token"]), wanted)
        # The same from the parts, and from what was written.
        self.assertEqual(sum(part["total_parameters"] for part in found["components"]), wanted[0])
        self.assertEqual(sum(part["active_parameters"] for part in found["components"]), wanted[1])
        self.assertAlmostEqual(weights / 4, wanted[0], delta=2000)  # less than 8 kB of header
        # The config alone does not know the vocabulary.
        found = self.json_of("inspect", "config.yaml", "model.vocab_size=14")
        self.assertEqual(found["total_parameters"], wanted[0])
        self.assertIn("training FLOP per token", self.switchyard("inspect", "run").stdout)

    def test_reference_shape(self):
        self.write_config(**REFERENCE_SHAPE)
        found = self.json_of("inspect", "config.yaml")
        self.assertAlmostEqual(found["total_parameters"] / 22.6e6, 1, delta=0.01)
        self.assertAlmostEqual(found["flops_per_token"] / 53e6, 1, delta=0.01)

    def test_a_trillion_parameters_allocate_nothing(self):
        self.write_config(**TRILLION)
        process = subprocess.Popen(
            [BINARY, "inspect", "config.yaml", "--json"], cwd=self.folder, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(process.stdout.read())
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        self.assertGreater(found["total_parameters"], 1e12)
        self.assertLess(found["active_parameters"], 1e11)
        self.assertLess(usage.ru_maxrss * 1024, 500e6)


class Prepare(Tools):
    def prepared(self):
        """Without the lock, which names the process that took it last."""
        return {path: text for path, text in contents(self.folder / "shards").items() if not path.endswith(".lock")}

    def test_second_time_builds_nothing(self):
        first = self.switchyard("prepare", "config.yaml")
        self.assertIn("preparing", first.stderr)
        before = self.prepared()
        stamps = {path: path.stat().st_mtime_ns for path in (self.folder / "shards").rglob("*.bin")}
        self.assertEqual(len(stamps), 2)
        second = self.switchyard("prepare", "config.yaml")
        self.assertNotIn("preparing", second.stderr)
        self.assertEqual(second.stdout, first.stdout)
        self.assertEqual(self.prepared(), before)
        self.assertEqual({path: path.stat().st_mtime_ns for path in stamps}, stamps)
        # train takes what is there.
        self.assertNotIn("preparing", self.train("run", "training.max_steps=3").stderr)

    def test_sentencepiece(self):
        change = ["data.tokenizer=sentencepiece", "model.vocab_size=280"]
        self.assertIn("vocabulary 280", self.switchyard("prepare", "config.yaml", *change).stdout)
        self.train("run", *change, "training.max_steps=3")
        done = self.switchyard("generate", "run", "--prompt", "abc def", "--max-new-tokens", "5")
        self.assertTrue(done.stdout.startswith("abc def"))

    def test_without_files(self):
        for path in (self.folder / "texts").iterdir():
            path.unlink()
        self.assertIn("texts/*.txt", self.switchyard("prepare", "config.yaml", expect=1).stderr)
        self.assertIn("texts/*.txt", self.train("run", expect=1).stderr)
        self.assertFalse((self.folder / "run").exists())


class ConfigAndReports(Tools):
    def test_config_of_a_config_is_itself(self):
        first = self.switchyard("config", "config.yaml", "moe.router.jitter=0.25", "optimizer.lr=3e-4").stdout
        self.assertIn("jitter: 0.25", first)
        (self.folder / "resolved.yaml").write_text(first)
        self.assertEqual(self.switchyard("config", "resolved.yaml").stdout, first)
        self.train("run")
        resolved = (self.folder / "run/config.yaml").read_text()
        # But for the vocabulary, which nothing but the tokenizer knows.
        told = re.sub(r"vocab_size: null  # \d+: .*", "vocab_size: null", resolved)
        self.assertNotEqual(told, resolved)
        self.assertEqual(self.switchyard("config", "run/config.yaml").stdout, told)
        # What a run was told is what it writes down, and enough to repeat it.
        self.switchyard("train", "run/config.yaml", "run.dir=again")
        self.assert_same_run("again", "run")

    def test_schema_and_reference(self):
        schema = json.loads(self.switchyard("config", "--schema").stdout)
        for section in ("run", "model", "moe", "data", "training", "optimizer", "schedule", "eval", "checkpoint"):
            self.assertIn(section, schema["properties"])
        reference = self.switchyard("config", "--reference").stdout
        for key in ("capacity_factor", "global_batch_size", "keep_last"):
            self.assertIn(key, reference)

    def test_report(self):
        for run in ("first-run", "second-run"):
            self.train(run, "training.max_steps=6")
        self.switchyard("report", "first-run")
        alone = (self.folder / "first-run/report.html").read_text()
        self.switchyard("report", "first-run", "second-run", "--out", "both.html")
        both = (self.folder / "both.html").read_text()
        for page in (alone, both):
            self.assertTrue(page.lower().startswith("<!doctype html>"))
            self.assertIn("</html>", page)
            self.assertIn("first-run", page)
            # One file: nothing is loaded from elsewhere.
            self.assertNotRegex(page, r"""(?:src|href)\s*=\s*["']?https?:""")
        self.assertNotIn("second-run", alone)
        self.assertIn("second-run", both)
        self.assertIn("missing", self.switchyard("report", "missing", expect=1).stderr)

    def test_bench(self):
        found = self.json_of("bench", "config.yaml", "--steps", "2", "--warmup", "1", "model.vocab_size=50")
        for key in ("tokens_per_second", "gemm_flops_share", "peak_memory_bytes", "step_seconds"):
            self.assertGreater(found[key], 0)
        self.assertEqual(found["tokens_per_step"], 64)
        self.assertAlmostEqual(found["tokens_per_second"] * found["step_seconds"], 64, delta=1e-6)
        self.assertFalse((self.folder / "run").exists())
        for part in ("router", "dispatch", "experts", "attention", "loss", "optimizer", "overhead"):
            self.assertGreater(found["parts"][part], 0, part)
        self.assertEqual(found["parts"]["communication"], 0)

    def test_bench_writes_a_trace(self):
        self.switchyard("bench", "config.yaml", "--steps", "1", "--trace", "step.json", "model.vocab_size=50")
        events = json.loads((self.folder / "step.json").read_text())["traceEvents"]
        names = {event.get("name") for event in events}
        self.assertLessEqual({"router", "experts", "attention", "loss", "optimizer"}, names)
        self.assertTrue(any("GroupedMlp" in name for name in names if name))
        missing = self.switchyard("bench", "config.yaml", "--trace", "no/such/folder/step.json", expect=1).stderr
        self.assertIn("no/such/folder/step.json", missing)


if __name__ == "__main__":
    unittest.main()
