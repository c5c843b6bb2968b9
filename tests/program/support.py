"""Helpers for tests that drive the built program as a user would: its path is in the environment variable SWITCHYARD."""

import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BINARY = os.environ.get("SWITCHYARD")
if not BINARY:
    sys.exit("the environment variable SWITCHYARD must hold the path of the built program")

# No test asserts on time; this only keeps a hanging program from blocking the suite for ever.
HANG_SECONDS = 300

# Small enough that a step takes about a millisecond, with experts, so that every part of the program is in it.
TINY = {
    "run": {"dir": "run", "seed": 1},
    "model": {"hidden_size": 16, "num_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "moe": {"num_experts": 4, "top_k": 2, "intermediate_size": 16},
    "data": {"tokenizer": "char", "cache_dir": "shards", "sources": [{"name": "words", "files": ["texts/*.txt"]}]},
    "training": {
        "max_steps": 12,
        "seq_length": 16,
        "micro_batch_size": 2,
        "global_batch_size": 4,
        "num_threads": 1,
        "log_interval": 1,
    },
    "optimizer": {"lr": 1e-2},
    "schedule": {"warmup_steps": 2},
    "eval": {"interval": 3, "batches": 2},
    "checkpoint": {"interval": 0},
}


def write_texts(folder, files=6, words=400, seed=0):
    """Texts of a few made-up words, so that a small model learns something from them."""
    folder.mkdir(parents=True, exist_ok=True)
    stream = random.Random(seed)
    vocabulary = ["".join(stream.choices("abcdefghij", k=stream.randint(2, 6))) for _ in range(50)]
    for i in range(files):
        (folder / f"text{i}.txt").write_text(" ".join(stream.choices(vocabulary, k=words)) + "\n")


def merged(base, changes):
    """`base` with the sections of `changes` laid over it; a section that is None goes."""
    result = {name: dict(section) for name, section in base.items()}
    for name, section in changes.items():
        if section is None:
            result.pop(name, None)
        else:
            result.setdefault(name, {}).update(section)
    return result


def contents(folder):
    """Every path below a folder with its bytes (None for a folder)."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def flip_bit(path, position=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 1
    path.write_bytes(data)


class ProgramTest(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="switchyard-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    # -- making things ----------------------------------------------------------------------------------------------

    def write_config(self, name="config.yaml", **sections):
        """The tiny config with changes. JSON is YAML, too."""
        (self.folder / name).write_text(json.dumps(merged(TINY, sections), indent=1))

    def prepare_tiny(self, files=6, words=400, **sections):
        write_texts(self.folder / "texts", files=files, words=words)
        self.write_config(**sections)

    # -- running ----------------------------------------------------------------------------------------------------

    def switchyard(self, *arguments, expect=0, cwd=None, **options):
        """Runs the program to its end (in the test's folder) and checks its exit code."""
        done = subprocess.run(
            [BINARY, *map(str, arguments)],
            cwd=cwd or self.folder,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # an untrained model may write any bytes
            timeout=HANG_SECONDS,
            **options,
        )
        if expect is not None:
            self.assertEqual(done.returncode, expect, f"{arguments}\n{done.stdout}\n{done.stderr}")
        return done

    def train(self, run, *overrides, expect=0, **options):
        return self.switchyard("train", "config.yaml", f"run.dir={run}", *overrides, expect=expect, **options)

    def resume(self, run, *overrides, expect=0, **options):
        return self.switchyard("train", "--resume", run, *overrides, expect=expect, **options)

    def start(self, *arguments, **options):
        """Starts the program in the background. Its standard error is a pipe of one page: a program that writes a
        progress line a step cannot get more than some 60 steps ahead of the test that reads them."""
        process = subprocess.Popen(
            [BINARY, *map(str, arguments)],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def read_until(self, process, pattern):
        """Reads the program's standard error up to a line that matches."""
        seen = []
        for line in process.stderr:
            seen.append(line)
            if re.search(pattern, line):
                return line
        self.fail(f"no line matches {pattern}:\n" + "".join(seen))

    def finish(self, process, expect):
        """Reads the rest of standard error and checks the exit code."""
        _, rest = process.communicate(timeout=HANG_SECONDS)
        self.assertEqual(process.returncode, expect, rest)
        return rest

    def stop_at(self, step, *arguments, number=signal.SIGTERM):
        """Runs the program until it reports `step`, then sends a signal. Returns the step that was saved."""
        process = self.start(*arguments)
        self.read_until(process, rf"^step {step}/")
        process.send_signal(number)
        return self.stopped_step(self.finish(process, 75), number)

    def stopped_step(self, text, number):
        found = re.search(r"(\w+) received: saved step (\d+)", text)
        self.assertIsNotNone(found, text)
        self.assertEqual(found.group(1), signal.Signals(number).name)
        return int(found.group(2))

    # -- looking at runs --------------------------------------------------------------------------------------------

    def lines(self, run, event=None):
        text = (self.folder / run / "metrics.jsonl").read_text()
        parsed = [json.loads(line) for line in text.splitlines()]
        return [line for line in parsed if event in (None, line["event"])]

    def curve(self, run):
        """Everything a run measured, without how fast it was and when it was."""
        measured = [line for line in self.lines(run) if line["event"] in ("train", "routing", "eval")]
        return [{k: v for k, v in line.items() if k not in ("time", "tokens_per_second")} for line in measured]

    def checkpoints(self, run):
        return sorted((self.folder / run / "checkpoints").glob("step-*"))

    def newest(self, run):
        return self.checkpoints(run)[-1]

    def step_of(self, checkpoint):
        return int(checkpoint.name.removeprefix("step-"))

    def assert_same_run(self, run, reference):
        """Same measurements, and the same bits in every weight and every moment of the newest checkpoint."""
        self.assertEqual(self.curve(run), self.curve(reference))
        self.assertEqual(self.newest(run).name, self.newest(reference).name)
        for name in ("model.safetensors", "optimizer.safetensors"):
            ours, theirs = ((self.newest(r) / name).read_bytes() for r in (run, reference))
            self.assertEqual(ours == theirs, True, f"{name} of {run} and {reference} differ")
        ours, theirs = (json.loads((self.newest(r) / "trainer.json").read_text()) for r in (run, reference))
        self.assertEqual(ours, theirs)
