"""What a run and its checkpoint say about their routing: routing lines, alarms, trace, specialisation, serve-report."""

import collections
import json
import math
import random
import struct
import subprocess
import sys
import unittest
from pathlib import Path

from support import ProgramTest, write_texts

CHECK_REPORT = Path(__file__).parents[2] / "scripts" / "check_report.py"
DTYPES = {"I32": "i", "F32": "f"}


def read_safetensors(path):
    """name -> (shape, flat values), and the metadata."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, info in header.items():
        begin, end = (8 + size + offset for offset in info["data_offsets"])
        tensors[name] = (info["shape"], struct.unpack(f"<{(end - begin) // 4}{DTYPES[info['dtype']]}", data[begin:end]))
    return tensors, metadata


def mutual_information(pairs):
    """Of a list of (label, expert), by the definition."""
    both, labels, experts = (collections.Counter(values) for values in (pairs, *zip(*pairs)))
    total = len(pairs)
    return sum(n / total * math.log(n * total / (labels[a] * experts[e])) for (a, e), n in both.items())


class RoutingDiagnostics(ProgramTest):
    def prepare_domains(self, **sections):
        """Two domains: words of letters, and lines of numbers."""
        write_texts(self.folder / "texts")
        stream = random.Random(5)
        (self.folder / "numbers").mkdir()
        for i in range(6):
            lines = [" + ".join(str(stream.randint(0, 9999)) for _ in range(8)) for _ in range(40)]
            (self.folder / "numbers" / f"{i}.txt").write_text("\n".join(lines) + "\n")
        sources = [{"name": "words", "files": ["texts/*.txt"]}, {"name": "numbers", "files": ["numbers/*.txt"]}]
        self.write_config(**{"data": {"sources": sources}, **sections})

    def prepare_collapse(self, **sections):
        """One character only: every token is routed like every other."""
        (self.folder / "texts").mkdir()
        for i in range(6):
            (self.folder / "texts" / f"{i}.txt").write_text("a" * 60000)  # ends of texts, which go elsewhere, are rare
        self.write_config(**{"metrics": {"dead_expert_window": 5}, **sections})

    # -- during the run ---------------------------------------------------------------------------------------------

    def test_every_routing_line_has_the_measures(self):
        self.prepare_domains(training={"log_interval": 5})
        self.train("run")
        lines = self.lines("run", "routing")
        self.assertEqual([(line["step"], line["layer"]) for line in lines], [(s, l) for s in (1, 5, 10, 12) for l in (0, 1)])
        for line in lines:
            self.assertEqual([len(line[name]) for name in ("logit_rms", "expert_output_norm")], [4, 4])
            # The root of the mean square is no less than the mean.
            self.assertGreaterEqual(math.sqrt(sum(rms**2 for rms in line["logit_rms"])), line["logit_norm"] * (1 - 1e-9))
            self.assertGreater(line["z"], 0)
        trained = {line["step"]: line["z_loss"] for line in self.lines("run", "train")}
        for step in (1, 5, 10, 12):
            z = [line["z"] for line in lines if line["step"] == step]
            self.assertAlmostEqual(sum(z) / 2, trained[step], delta=1e-5 * trained[step])

    def test_evaluations_tell_drift_domains_and_pairs(self):
        self.prepare_domains()
        self.train("run")
        lines = [line for line in self.lines("run", "routing_eval") if line["layer"] == 1]
        self.assertEqual([line["step"] for line in lines], [3, 6, 9, 12])
        self.assertIsNone(lines[0]["drift"])
        for line in lines:
            self.assertEqual(sorted(line["domain_load"]), ["numbers", "words"])
            for load in line["domain_load"].values():
                self.assertAlmostEqual(sum(load), 1)
            self.assertEqual(sum(count for _, _, count in line["pairs"]), 2 * 2 * 2 * 16)  # domains, batches, B, S
            self.assertAlmostEqual(line["domain_share"], line["domain_information"] / math.log(2))
        for line in lines[1:]:
            self.assertGreater(line["drift"], 0)
            self.assertLessEqual(line["drift"], 1)

    def test_a_healthy_run_gives_no_alarm(self):
        self.prepare_domains()
        # A balanced one, that is: with the tiny config's learning rate routing swings.
        self.train("run", "training.max_steps=100", "schedule.warmup_steps=20", "optimizer.lr=3e-4",
                   "training.micro_batch_size=16", "training.global_batch_size=16", "moe.aux_loss_coeff=0.3")
        self.assertEqual(self.lines("run", "alarm"), [])

    def test_a_collapse_is_told_everywhere(self):
        self.prepare_collapse()
        told = self.train("run", "moe.aux_loss_coeff=0", "optimizer.lr=1e-7", "schedule.min_lr=0").stderr
        alarms = self.lines("run", "alarm")
        self.assertEqual([(a["step"], a["layer"], a["kind"]) for a in alarms],
                         [(5, 0, "load"), (5, 1, "load"), (7, 0, "dead_experts"), (7, 1, "dead_experts")])
        used = {line["layer"]: line["load"] for line in self.lines("run", "routing") if line["step"] == 5}
        for alarm in alarms:
            busy = [expert for expert, load in enumerate(used[alarm["layer"]]) if load > 0]
            if alarm["kind"] == "load":
                self.assertIn(alarm["experts"][0], busy)
                self.assertEqual((alarm["share"], alarm["limit"]), (1, 0.75))
            else:
                self.assertEqual(sorted(alarm["experts"] + busy), [0, 1, 2, 3])
            self.assertIn("set moe.aux_loss_coeff=0.01 (now 0)", alarm["advice"])
            self.assertIn(f"step {alarm['step']}: routing alarm: {alarm['message']}; {alarm['advice']}", told)
        self.assertIn("routing alarm: layer 1: expert", (self.folder / "run" / "log.txt").read_text())
        events = next((self.folder / "run").glob("events*")).read_bytes()
        self.assertEqual(events.count(alarms[0]["message"].encode()), 1)
        self.switchyard("report", "run")
        self.assertIn(alarms[0]["message"], (self.folder / "run" / "report.html").read_text())

    def test_an_alarm_can_stop_the_run_which_goes_on_as_if_it_had_not(self):
        self.prepare_collapse()
        self.train("whole")
        told = self.train("run", "metrics.alarm.action=stop", expect=1).stderr
        self.assertIn("step 5: saved and stopped, because the routing has collapsed", told)
        self.assertEqual(self.step_of(self.newest("run")), 5)
        self.assertEqual(self.lines("run")[-1], {"event": "stopped", "step": 5})
        self.resume("run", "metrics.alarm.action=off")
        self.assert_same_run("run", "whole")
        self.assertEqual(len(self.lines("run", "alarm")), 2)

    # -- of a checkpoint --------------------------------------------------------------------------------------------

    def trace(self, *arguments):
        lines = [json.loads(line) for line in self.switchyard("trace", *arguments).stdout.splitlines()]
        return lines[0], lines[1:]

    def test_a_trace_is_what_the_evaluation_saw(self):
        self.prepare_domains()
        self.train("run")
        header, lines = self.trace("run", "--data")
        self.assertEqual(header["domains"], ["words", "numbers"])
        self.assertEqual((header["step"], header["layers"], header["num_experts"], header["top_k"]), (12, [0, 1], 4, 2))
        for event in self.lines("run", "routing_eval")[-2:]:
            mine = [line for line in lines if line["layer"] == event["layer"]]
            for domain, load in event["domain_load"].items():
                counts = collections.Counter(e for line in mine if line["domain"] == domain for e in line["experts"])
                self.assertEqual([counts[expert] / counts.total() for expert in range(4)], load)
            pairs = collections.Counter(tuple(sorted(line["experts"])) for line in mine)
            self.assertEqual({(a, b): n for a, b, n in event["pairs"]}, pairs)
        for line in lines:
            self.assertAlmostEqual(sum(line["weights"]), 1, places=5)
            self.assertEqual(line["weights"], sorted(line["weights"], reverse=True))

    def test_a_trace_as_tensors_is_the_same_trace(self):
        self.prepare_domains()
        self.train("run")
        header, lines = self.trace("run", "--data")
        self.switchyard("trace", "run", "--data", "--out", "trace.safetensors")
        tensors, metadata = read_safetensors(self.folder / "trace.safetensors")
        self.assertEqual(json.loads(metadata["trace"]), header)
        tokens = [line for line in lines if line["layer"] == 0]
        for name in ("token", "sequence", "position"):
            self.assertEqual(list(tensors[name][1]), [line[name] for line in tokens])
        self.assertEqual([header["domains"][d] for d in tensors["domain"][1]], [line["domain"] for line in tokens])
        for layer in (0, 1):
            flat = [(line["experts"], line["weights"]) for line in lines if line["layer"] == layer]
            self.assertEqual(tensors[f"layers.{layer}.experts"][0], [len(tokens), 2])
            self.assertEqual(list(tensors[f"layers.{layer}.experts"][1]), [e for experts, _ in flat for e in experts])
            for ours, theirs in zip(tensors[f"layers.{layer}.weights"][1], [w for _, weights in flat for w in weights]):
                self.assertAlmostEqual(ours, theirs, delta=1e-5)

    def test_a_trace_of_a_text(self):
        self.prepare_domains(training={"seq_length": 16})
        self.train("run")
        text = "abc ghi 12 + 7 abc def 5"
        _, lines = self.trace("run", "--text", text)
        first = [line for line in lines if line["layer"] == 0]
        self.assertEqual("".join(line["text"] for line in first), text)
        self.assertEqual([(line["sequence"], line["position"]) for line in first],
                         [(i // 16, i % 16) for i in range(len(text))])
        self.switchyard("trace", "run", "--text", text, "--out", "trace.jsonl")
        written = [json.loads(line) for line in (self.folder / "trace.jsonl").read_text().splitlines()]
        self.assertEqual(written[1:], lines)
        for arguments in ([], ["--text", text, "--data"]):
            self.assertIn("one of --text TEXT and --data", self.switchyard("trace", "run", *arguments, expect=2).stderr)

    def test_specialisation_is_that_of_the_trace(self):
        self.prepare_domains()
        self.train("run", "training.max_steps=40")
        _, lines = self.trace("run", "--data")
        found = json.loads(self.switchyard("specialisation", "run", "--json").stdout)["checkpoints"][0]
        self.assertEqual((found["step"], found["tokens"], found["sequences"]), (40, 128, 8))
        for layer in found["layers"]:
            mine = [line for line in lines if line["layer"] == layer["layer"]]
            for label, key in (("domain", lambda line: line["domain"]), ("position", lambda line: line["position"]),
                               ("token", lambda line: line["token"])):
                pairs = [(key(line), expert) for line in mine for expert in line["experts"]]
                information = layer["information"][label]
                self.assertAlmostEqual(information["nats"], mutual_information(pairs), delta=1e-5)
                self.assertLess(information["chance"], information["highest_chance"] + 1e-9)
            # I(domain; expert | token) = I(domain, token; expert) - I(token; expert)
            choices = [(line["domain"], line["token"], expert) for line in mine for expert in line["experts"]]
            given = layer["information"]["domain_given_token"]
            self.assertAlmostEqual(
                given["nats"], mutual_information([((d, t), e) for d, t, e in choices])
                - mutual_information([(t, e) for _, t, e in choices]), delta=1e-5)
            domain = layer["information"]["domain"]
            self.assertAlmostEqual(domain["of_label"], domain["nats"] / math.log(2), places=5)
            most = layer["experts"][0]["most"][0]
            counts = collections.Counter(line["text"] for line in mine if 0 in line["experts"])
            self.assertEqual(most["count"], max(counts.values()))
        # The two domains share hardly a token: the class and the token tell the domain, and routing follows them.
        self.assertGreater(max(layer["information"]["class"]["nats"] for layer in found["layers"]), 0.01)

    def test_the_page_of_several_checkpoints(self):
        self.prepare_domains(checkpoint={"interval": 6, "keep_last": 0})
        self.train("run")
        paths = [str(path) for path in self.checkpoints("run")]
        self.assertEqual(len(paths), 2)
        self.switchyard("specialisation", *paths, "--out", "several.html")
        found = json.loads(self.switchyard("specialisation", *paths, "run", "eval.batches=1", "--json").stdout)["checkpoints"]
        self.assertEqual([(one["run"], one["step"]) for one in found], [("run", 6), ("run", 12), ("run", 12)])
        self.assertEqual({one["sequences"] for one in found}, {4})  # one batch of two for each of two domains
        told = self.switchyard("specialisation", "run", "--out", "one.html", "--shufflings", "20").stdout
        self.assertIn("wrote one.html", told)
        for name in ("one.html", "several.html"):
            self.assertLess((self.folder / name).stat().st_size, 5e6)
        done = subprocess.run([sys.executable, CHECK_REPORT, "one.html", "several.html"], cwd=self.folder, check=False,
                              capture_output=True, text=True)
        self.assertIn(done.returncode, (0, 77), done.stdout + done.stderr)

    def test_serve_report(self):
        self.prepare_domains()
        self.train("run")
        arguments = ["serve-report", "run", "--data", "--batch-sizes", "1,2,6", "--prompt", "4", "--steps", "8"]
        report = json.loads(self.switchyard(*arguments, "--devices", "2", "--json").stdout)
        rows = {(row["traffic"], row["batch_size"]): row for row in report["traffic"]}
        self.assertEqual(sorted({traffic for traffic, _ in rows}), ["mixed", "numbers", "words"])
        for (_, batch), row in rows.items():
            self.assertEqual(row["steps"], 8)
            self.assertGreaterEqual(row["latency_p99"], row["latency_median"])
            expected = (report["shared_bytes"] + 2 * row["experts_touched"] * report["expert_bytes"]) / batch
            self.assertAlmostEqual(row["bytes_per_token"], expected, delta=1e-6 * expected)
            if batch == 1:
                self.assertEqual((row["experts_touched"], row["load_imbalance"]), (2, 2))
            self.assertLessEqual(row["experts_touched"], min(4, 2 * batch))
        # Three matrices of 16 x 16 in float32; embeddings (tied), attention, norms, routers.
        self.assertEqual(report["expert_bytes"], 3 * 16 * 16 * 4)
        names = {row["placement"] for row in report["placement"]}
        self.assertEqual(len(report["placement"]), 3 * len(names))
        for row in report["placement"]:
            self.assertTrue(1 <= row["imbalance"] <= 2 and 1 <= row["devices_per_token"] <= 2, row)
        self.assertIn("tokens/s", self.switchyard(*arguments).stdout)

    def test_what_can_not_be_looked_at_is_told(self):
        self.prepare_domains(moe=None)
        self.train("dense")
        for command in (["trace", "dense", "--data"], ["specialisation", "dense"], ["serve-report", "dense"]):
            self.assertIn("dense is a dense model", self.switchyard(*command, expect=2).stderr)


if __name__ == "__main__":
    unittest.main()
