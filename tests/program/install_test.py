"""An installation under a prefix: presets, training from them, man page, completions, schema, --version."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import support
from support import BINARY, ProgramTest, merged, write_texts

BUILD = Path(BINARY).parent
SOURCE = Path(__file__).parents[2]

# What each variant of the loops wants of a processor, in the words of /proc/cpuinfo, the plainest first.
VARIANTS = {
    "baseline": set(),
    "avx2": {"avx2", "fma", "bmi2"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd"},
    "avx512bf16": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd", "avx512_bf16"},
}

# Asks bash's completion of the first argument for the words that may follow the others.
BASH = r"""
source "$1"; shift
compopt() { :; }
COMP_LINE=$*; COMP_POINT=${#COMP_LINE}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_switchyard
printf '%s\n' "${COMPREPLY[@]}"
"""


class Installed(ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.prefix = Path(tempfile.mkdtemp(prefix="switchyard-prefix-")) / "usr"
        cls.addClassCleanup(shutil.rmtree, cls.prefix.parent, ignore_errors=True)
        done = subprocess.run(
            ["cmake", "--install", BUILD, "--prefix", cls.prefix], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise AssertionError(done.stdout[-2000:] + done.stderr)
        cls.program = cls.prefix / "bin/switchyard"
        cls.share = cls.prefix / "share"

    def setUp(self):
        super().setUp()
        previous = support.BINARY
        support.BINARY = str(self.program)
        self.addCleanup(setattr, support, "BINARY", previous)

    def said(self, *command):
        """What a command writes that finds the installed program in its PATH."""
        environment = {**os.environ, "PATH": f"{self.program.parent}:{os.environ['PATH']}"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


class Presets(Installed):
    def test_are_those_of_the_source_tree(self):
        listed = json.loads(self.switchyard("presets", "--json").stdout)
        folder = self.share / "switchyard/configs"
        for preset in listed:
            self.assertTrue(Path(preset["path"]).is_relative_to(folder))
            self.assertTrue(preset["purpose"], preset["name"])
        found = {str(Path(preset["path"]).relative_to(folder)) for preset in listed}
        ours = SOURCE / "configs"
        self.assertEqual(found, {str(path.relative_to(ours)) for path in ours.rglob("*.yaml")})
        names = [preset["name"] for preset in listed]
        self.assertEqual(self.switchyard("presets", "--names").stdout.splitlines(), names)
        self.assertIn("mixtral-8x7b-tiny", names)
        self.assertEqual(len(set(names)), len(names))

    def test_a_training_extends_one(self):
        write_texts(self.folder / "texts")
        changes = {name: dict(support.TINY[name]) for name in ("run", "data", "training", "eval")}
        changes["training"]["max_steps"] = 2
        changes["model"] = {"hidden_size": 16, "num_layers": 2, "num_attention_heads": 2, "vocab_size": None}
        changes["schedule"] = {"warmup_steps": 1}
        config = {"extends": "preset:mixtral-8x7b-tiny", **merged({}, changes)}
        (self.folder / "config.yaml").write_text(json.dumps(config))
        before = sorted(self.prefix.rglob("*"))
        self.train("run")
        self.assertEqual([line["step"] for line in self.lines("run", "train")], [1, 2])
        resolved = json.loads(self.switchyard("inspect", "config.yaml", "--json").stdout)
        self.assertEqual(resolved["components"][0]["name"], "embedding")
        self.assertIn("intermediate_size: 224", (self.folder / "run/config.yaml").read_text())
        self.assertEqual(sorted(self.prefix.rglob("*")), before)  # nothing is written below the prefix

    def test_one_stands_for_a_config(self):
        by_name = self.switchyard("config", "preset:quickstart", "training.max_steps=3").stdout
        path = self.share / "switchyard/configs/quickstart.yaml"
        self.assertEqual(by_name, self.switchyard("config", path, "training.max_steps=3").stdout)
        self.assertIn("runs/ablations/aux-loss", self.switchyard("ablate", "preset:aux_loss", "--plan").stdout)
        wrong = self.switchyard("inspect", "preset:mixtral-8x7b-tinny", expect=2).stderr
        self.assertIn("did you mean 'mixtral-8x7b-tiny'?", wrong)

    def test_the_default_corpus_is_found(self):
        text = self.switchyard("config", "preset:data/default").stdout
        pattern = re.search(r'"?(/[^"\]]*)/\*\*/\*\.h', text).group(1)
        self.assertTrue(Path(pattern).is_relative_to(self.share / "switchyard"))
        self.assertGreater(len(list(Path(pattern).rglob("*.h"))), 1000)

    def test_another_folder(self):
        (self.folder / "mine").mkdir()
        (self.folder / "mine/small.yaml").write_text("# Small.\nmodel: {num_layers: 1}\n")
        environment = {**os.environ, "SWITCHYARD_PRESETS": "mine"}
        self.assertEqual(self.switchyard("presets", "--names", env=environment).stdout, "small\n")
        self.assertIn("num_layers: 1\n", self.switchyard("config", "preset:small", env=environment).stdout)
        environment["SWITCHYARD_PRESETS"] = "nowhere"
        self.assertIn("nowhere", self.switchyard("presets", env=environment, expect=2).stderr)


class Version(Installed):
    def test_processor_variant(self):
        flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M).group(1).split())
        text = self.switchyard("--version").stdout
        compiled, used = re.search(r"^processor variants  (.*); in use: (\w+)$", text, re.M).groups()
        self.assertEqual(compiled.split(", "), list(VARIANTS))
        self.assertEqual(used, [name for name, wanted in VARIANTS.items() if wanted <= flags][-1])

    def test_the_rest(self):
        lines = self.switchyard("--version").stdout.splitlines()
        self.assertRegex(lines[0], r"^switchyard \d+\.\d+\.\d+ \(commit ([0-9a-f]{7,}( with changes)?|unknown)\)$")
        self.assertRegex(lines[1], r"^LibTorch +\d+\.\d+")
        self.assertRegex(lines[3], r"^CUDA +(yes|no)$")
        self.assertEqual(len(lines), 4)


class SelfDescription(Installed):
    def complete(self, *words):
        script = self.share / "bash-completion/completions/switchyard"
        return self.said("bash", "--norc", "-c", BASH, "bash", script, *words).split()

    def test_bash(self):
        self.assertEqual(self.complete("switchyard", "tr"), ["train", "trace"])
        self.assertEqual(self.complete("switchyard", "bench", "--st"), ["--steps"])
        self.assertEqual(self.complete("switchyard", "train", "a.yaml", "moe.top"), ["moe.top_k="])
        self.assertEqual(self.complete("switchyard", "train", "pre"), ["preset:"])
        # Bash itself has cut the word at the colon, and puts in what follows it.
        self.assertIn("mixtral-8x7b-tiny", self.complete("switchyard", "train", "preset:mixtral-8"))
        self.assertEqual(self.complete("switchyard", "report", "moe.top"), [])

    def check_shell(self, shell, *path):
        if shutil.which(shell) is None:
            self.skipTest(f"{shell} is not installed")
        script = self.share.joinpath(*path)
        subprocess.run([shell, "-n", script], check=True)
        return script

    def test_zsh(self):
        self.check_shell("zsh", "zsh/site-functions/_switchyard")

    def test_fish(self):
        script = self.check_shell("fish", "fish/vendor_completions.d/switchyard.fish")
        cases = {"tr": "train", "bench --st": "--steps", "train preset:mixt": "preset:mixtral-8x7b-tiny"}
        for words, expected in cases.items():
            said = self.said("fish", "-N", "-c", f"source {script}; complete -C 'switchyard {words}'")
            self.assertIn(expected, [line.split("\t")[0] for line in said.splitlines()])

    def test_man_page(self):
        page = self.share / "man/man1/switchyard.1"
        text = page.read_text()
        for word in ("NAME", "SYNOPSIS", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"):
            self.assertIn(f"\n.SH {word}\n", text)
        for line in self.switchyard("--help").stdout.split("Subcommands:\n")[1].splitlines():
            if found := re.match(r"  (\S+)", line):
                self.assertIn("\n.SS " + found.group(1).replace("-", r"\-") + "\n", text)
        self.assertNotIn("completions", text)
        if shutil.which("man"):
            shown = subprocess.run(["man", "--warnings", "-l", page], capture_output=True, text=True, check=True)
            self.assertEqual(shown.stderr, "")
            self.assertIn("switchyard train", re.sub(r"\s+", " ", re.sub(".\b", "", shown.stdout)))

    def test_schema(self):
        schema = json.loads((self.share / "switchyard/switchyard.schema.json").read_text())
        self.assertEqual(schema, json.loads(self.switchyard("config", "--schema").stdout))


if __name__ == "__main__":
    unittest.main()
