"""Training from a config: what a run leaves behind, and that it depends on nothing but its config."""

import json
import math
import os
import re
import shutil
import struct
import time
import unittest

from support import ProgramTest, write_texts

# The whole config that the documentation shows, as outside scripts write it.
SAMPLE = """
run: {dir: runs/demo, seed: 1}
model: {hidden_size: 128, num_layers: 4, num_attention_heads: 4, intermediate_size: 384}
moe: {num_experts: 8, top_k: 2, intermediate_size: 192, aux_loss_coeff: 0.01, z_loss_coeff: 0.001}
data:
  tokenizer: char          # byte | char | sentencepiece (trained to model.vocab_size) | sentencepiece:FILE
  sources:
    - {name: shakespeare, files: ["texts/*.txt"], weight: 1.0}   # relative to the config file
training: {max_steps: 2000, seq_length: 64, micro_batch_size: 12, global_batch_size: 12, precision: fp32}
optimizer: {lr: 1.0e-3, beta2: 0.99, weight_decay: 0.1, grad_clip: 1.0}
schedule: {warmup_steps: 100, min_lr: 1.0e-4}
eval: {interval: 250, batches: 20}
checkpoint: {interval: 500, keep_last: 2}
"""

FIELDS = {
    "train": {"step", "time", "tokens", "loss", "lm_loss", "aux_loss", "z_loss", "lr", "grad_norm", "tokens_per_second"},
    "eval": {"step", "val_loss", "perplexity"},
    "routing": {"step", "layer", "load", "max_violation", "entropy", "dead_experts", "dropped_fraction"},
}


class Advice(ProgramTest):
    """What a user may not have meant is said, and what the environment asks for is done."""

    def setUp(self):
        super().setUp()
        self.prepare_tiny(training={"max_steps": 2, "num_threads": 0}, eval={"interval": 0})

    def threads(self, **variables):
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        text = self.train("run", env=environment | variables).stderr
        return int(re.search(r"(\d+) threads", text).group(1))

    def test_length_of_the_run(self):
        quiet = self.train("quiet").stderr
        self.assertNotIn("warmup_steps is", quiet)
        self.assertNotIn("passes", quiet)
        self.assertIn("schedule.warmup_steps is 3, more than", self.train("warm", "schedule.warmup_steps=3").stderr)
        text = self.train("long", "training.max_steps=1200", "training.log_interval=600", "schedule.warmup_steps=0").stderr
        self.assertRegex(text, r"by step 1200 the run has read words \d+\.\d times: beyond about four passes")

    def test_threads(self):
        cores = len(os.sched_getaffinity(0))
        self.assertEqual(self.threads(), cores)
        self.assertEqual(self.threads(OMP_NUM_THREADS="1"), 1)
        self.assertEqual(self.threads(OMP_NUM_THREADS="1", TORCHELASTIC_RUN_ID="none"), cores)
        shutil.rmtree(self.folder / "run")
        one = {min(os.sched_getaffinity(0))}
        text = self.train("run", preexec_fn=lambda: os.sched_setaffinity(0, one)).stderr
        self.assertIn(" 1 threads", text)


class SampleConfig(ProgramTest):
    def setUp(self):
        super().setUp()
        write_texts(self.folder / "conf" / "texts")
        (self.folder / "conf" / "sample.yaml").write_text(SAMPLE)
        # Shorter, but the same in all else; the texts are found from another working directory.
        self.switchyard(
            "train",
            "conf/sample.yaml",
            "training.max_steps=30",
            "schedule.warmup_steps=5",
            "training.num_threads=1",
            "eval.interval=15",
            "eval.batches=2",
            "checkpoint.interval=10",
        )
        self.run_dir = self.folder / "runs/demo"

    def test_run_folder(self):
        names = {path.name for path in self.run_dir.iterdir()}
        self.assertLessEqual({"config.yaml", "metrics.jsonl", "log.txt", "checkpoints"}, names)
        self.assertEqual([path.name for path in self.checkpoints("runs/demo")], ["step-00000020", "step-00000030"])
        files = {path.name for path in self.newest("runs/demo").iterdir()}
        self.assertLessEqual({"model.safetensors", "optimizer.safetensors", "trainer.json", "manifest.json"}, files)
        self.check_metrics()
        self.check_second_run_is_refused()

    def check_metrics(self):
        lines = self.lines("runs/demo")
        for event, fields in FIELDS.items():
            found = [line for line in lines if line["event"] == event]
            self.assertTrue(found, event)
            for line in found:
                self.assertLessEqual(fields, line.keys())
        train = self.lines("runs/demo", "train")
        self.assertEqual([line["step"] for line in train], [1, 10, 20, 30])
        self.assertEqual([line["tokens"] for line in train], [line["step"] * 12 * 64 for line in train])
        times = [self.lines("runs/demo", "start")[0]["time"], *(line["time"] for line in train), time.time()]
        self.assertEqual(times, sorted(times))
        self.assertLess(times[-1] - times[0], 3600)
        # All that was said, from the first line on.
        said = (self.run_dir / "log.txt").read_text()
        self.assertRegex(said, r"^[-\d]+ [:.\d]+ info data: preparing ")
        self.assertIn("saved runs/demo/checkpoints/step-00000030", said)
        for line in train:
            self.assertTrue(all(math.isfinite(line[key]) for key in FIELDS["train"]))
            # loss = lm + coefficients times sums over the four MoE layers.
            whole = line["lm_loss"] + 4 * (0.01 * line["aux_loss"] + 0.001 * line["z_loss"])
            self.assertAlmostEqual(line["loss"], whole, delta=1e-5)
            self.assertGreater(line["aux_loss"], 0.9)
        # 12 characters, "unknown" and "end of text": a uniform guess is where an untrained model starts.
        self.assertAlmostEqual(train[0]["lm_loss"], math.log(14), delta=0.3)
        self.assertLess(train[-1]["lm_loss"], train[0]["lm_loss"] - 0.2)
        evaluations = self.lines("runs/demo", "eval")
        self.assertEqual([line["step"] for line in evaluations], [15, 30])
        self.assertLess(evaluations[1]["val_loss"], evaluations[0]["val_loss"])
        for line in evaluations:
            self.assertAlmostEqual(line["perplexity"], math.exp(line["val_loss"]), places=9)
        self.check_routing()

    def check_routing(self):
        routing = self.lines("runs/demo", "routing")
        self.assertEqual({line["layer"] for line in routing}, {0, 1, 2, 3})
        for line in routing:
            self.assertEqual(len(line["load"]), 8)
            self.assertAlmostEqual(sum(line["load"]), 1.0, places=9)
            self.assertEqual(line["dropped_fraction"], 0.0)

    def check_second_run_is_refused(self):
        before = (self.run_dir / "metrics.jsonl").read_bytes()
        again = self.switchyard("train", "conf/sample.yaml", expect=2)
        self.assertIn("runs/demo", again.stderr)
        self.assertIn("not empty", again.stderr)
        self.assertIn("--resume", again.stderr)
        self.assertEqual((self.run_dir / "metrics.jsonl").read_bytes(), before)


class Determinism(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny()

    def test_same_seed_same_run_other_seed_other_run(self):
        noisy = ["model.dropout=0.1", "moe.router.jitter=0.1"]
        for run in ("one", "two"):
            self.train(run, *noisy)
        self.train("other", *noisy, "run.seed=2")
        self.assert_same_run("two", "one")
        first = [self.lines(run, "train")[0]["lm_loss"] for run in ("one", "other")]
        self.assertNotEqual(*first)

    def test_dense_model_has_no_routing(self):
        self.write_config(moe=None)
        self.train("dense")
        self.assertEqual(self.lines("dense", "routing"), [])
        for line in self.lines("dense", "train"):
            self.assertEqual((line["aux_loss"], line["z_loss"]), (0, 0))
            self.assertAlmostEqual(line["loss"], line["lm_loss"], places=9)

    def test_several_domains_are_evaluated_apart(self):
        write_texts(self.folder / "more", seed=1)
        sources = [
            {"name": "words", "files": ["texts/*.txt"], "weight": 3},
            {"name": "more", "files": ["more/*.txt"], "weight": 1},
        ]
        self.write_config(data={"sources": sources})
        self.train("run")
        for line in self.lines("run", "eval"):
            losses = {name: domain["val_loss"] for name, domain in line["domains"].items()}
            self.assertEqual(losses.keys(), {"words", "more"})
            self.assertAlmostEqual(line["val_loss"], 0.75 * losses["words"] + 0.25 * losses["more"], places=9)


class Invariance(ProgramTest):
    def test_accumulation_does_not_change_the_loss(self):
        self.prepare_tiny(optimizer={"lr": 1e-3}, training={"global_batch_size": 8, "max_steps": 6})
        for scope in ("sequence", "global_batch"):
            curves = {}
            for micro in (8, 4, 2):
                run = f"{scope}-{micro}"
                # A large coefficient, so that a wrong auxiliary gradient shows.
                self.train(
                    run,
                    f"training.micro_batch_size={micro}",
                    f"moe.aux_loss_scope={scope}",
                    "moe.aux_loss_coeff=0.1",
                    "eval.interval=0",
                )
                curves[micro] = self.lines(run, "train")
            for micro in (4, 2):
                for whole, parts in zip(curves[8], curves[micro], strict=True):
                    for key in ("loss", "lm_loss", "aux_loss", "z_loss"):
                        with self.subTest(scope=scope, micro=micro, step=whole["step"], key=key):
                            self.assertAlmostEqual(parts[key] / whole[key], 1, delta=1e-5)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(crc):
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def message(data):
    """The fields of a protocol-buffer message: (number, value)."""
    fields, at = [], 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = {1: 8, 5: 4}[kind]
            value, at = struct.unpack("<d" if kind == 1 else "<f", data[at : at + size])[0], at + size
        fields.append((key >> 3, value))
    return fields


class TensorBoard(ProgramTest):
    def records(self, path):
        data, at, found = path.read_bytes(), 0, []
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            record = data[at + 12 : at + 12 + size]
            self.assertEqual(struct.unpack_from("<I", data, at + 8)[0], masked(crc32c(data[at : at + 8])))
            self.assertEqual(struct.unpack_from("<I", data, at + 12 + size)[0], masked(crc32c(record)))
            found.append(dict(message(record)))
            at += 16 + size
        self.assertEqual(at, len(data))
        return found

    def test_events_say_what_the_metrics_say(self):
        self.assertEqual(masked(crc32c(b"\x1a\x11CRC test, one two")), 0x5794D08A)
        self.prepare_tiny()
        self.train("run", "training.max_steps=4")
        (path,) = (self.folder / "run").glob("events.out.tfevents.*")
        records = self.records(path)
        self.assertEqual(records[0][3], b"brain.Event:2")
        scalars = {}
        for record in records[1:]:
            value = dict(message(dict(message(record[5]))[1]))
            if 2 in value:
                scalars[value[1].decode(), record[2]] = value[2]
        for line in self.lines("run", "train"):
            for key in ("loss", "lm_loss", "grad_norm", "lr"):
                self.assertAlmostEqual(scalars[f"train/{key}", line["step"]], line[key], delta=1e-6 * abs(line[key]))
        last = self.lines("run", "eval")[-1]
        self.assertAlmostEqual(scalars["eval/val_loss", 4], last["val_loss"], delta=1e-6 * last["val_loss"])

    def test_a_resume_opens_a_new_file_and_off_means_none(self):
        self.prepare_tiny()
        self.train("run", "training.max_steps=2", "schedule.decay_steps=10")
        self.resume("run", "training.max_steps=4")
        paths = list((self.folder / "run").glob("events.out.tfevents.*"))
        self.assertEqual(len(paths), 2)
        starts = [record[2] for path in paths for record in self.records(path) if 7 in record]
        self.assertEqual(starts, [3])  # what TensorBoard has of step 3 and later is done anew
        self.train("plain", "metrics.tensorboard=false", "training.max_steps=1", "schedule.warmup_steps=0")
        self.assertEqual(list((self.folder / "plain").glob("events*")), [])
        self.assertEqual(json.loads((self.folder / "plain/metrics.jsonl").read_text().splitlines()[0])["step"], 0)


if __name__ == "__main__":
    unittest.main()
