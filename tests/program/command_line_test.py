"""Wrong command lines and configs: exit code 2, a message on standard error that says what and where, nothing written."""

import json
import unittest

from support import ProgramTest, contents


class Wrong(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny()

    def check(self, *arguments, says, expect=2):
        with self.subTest(arguments=arguments):
            before = contents(self.folder)
            done = self.switchyard(*arguments, expect=expect)
            for text in says:
                self.assertIn(text, done.stderr)
            self.assertEqual(done.stdout, "")
            self.assertEqual(contents(self.folder), before)
            return done.stderr

    def test_command_line(self):
        self.check(says=["Subcommands", "specialisation"])
        self.check("--vesion", says=["no option '--vesion'", "'--version'"])
        self.check("trian", "config.yaml", says=["'trian'", "'train'"])
        self.check("zzz", says=["'zzz'", "--help"])
        self.check("train", says=["CONFIG"])
        self.check("train", "--resume", says=["--resume"])
        self.check("train", "config.yaml", "--frobnicate", says=["--frobnicate", "train --help"])
        self.check("train", "config.yaml", "--form", "run", says=["train has no option '--form'", "'--from'"])
        self.check("eval", "--jsn", says=["eval has no option '--jsn'", "'--json'"])
        self.check("import", says=["import needs DIR (A Hugging Face folder", "and --out ("])
        self.check("presets", "all", says=["presets has no use for 'all'"])
        self.check("eval", says=["CHECKPOINT"])
        self.check("generate", "run", says=["--prompt"])
        self.check("generate", "run", "--prompt", "a", "--max-new-tokens", "many", says=["many"])
        self.check("generate", "run", "--prompt", "a", "--max-new-tokens", "0", says=["max-new-tokens"])
        for temperature in ("nan", "1e-310", "-1", "inf", "hot"):
            ask = ("generate", "run", "--prompt", "a", f"--temperature={temperature}")
            self.check(*ask, says=["--temperature", f"'{temperature}' is not a number in the range 1e-06 to 100, or 0"])
        for share in ("nan", "0", "2"):
            self.check("generate", "run", "--prompt", "a", "--top-p", share, says=["--top-p", "range 1e-06 to 1"])
        self.check("plan", "config.yaml", "--ranks", "2", "--hbm", "nan", says=["--hbm", "'nan'"])
        self.check("inspect", says=["PATH"])
        self.check("config", says=["CONFIG"])
        self.check("bench", "config.yaml", "--steps", "0", says=["--steps"])
        self.check("report", says=["RUN_DIR"])

    def test_missing_files(self):
        for command in ("train", "inspect", "prepare", "bench", "config"):
            self.check(command, "nothing.yaml", says=["nothing.yaml"])
        self.check("train", "texts", says=["texts is a folder"])
        # What is asked of a checkpoint that is not there is no error of usage.
        self.check("eval", "nothing", says=["nothing"], expect=1)
        self.check("generate", "nothing", "--prompt", "a", says=["nothing"], expect=1)

    def test_a_run_or_another_folder_in_the_place_of_a_config(self):
        self.train("run", "training.max_steps=2")
        self.check("train", "run", says=["train --resume run", "train run/config.yaml run.dir=NEW"])
        self.check("train", "config.yaml", "--resume", "run", says=["leave out 'config.yaml'", "key=value"])
        self.check("prepare", "run", says=["run is a folder", "it holds a config.yaml"])

    def test_a_hugging_face_folder_in_the_place_of_a_checkpoint(self):
        (self.folder / "hf").mkdir()
        (self.folder / "hf/config.json").write_text("{}")
        for command in (("eval", "hf"), ("train", "config.yaml", "--from", "hf")):
            self.check(*command, says=["switchyard import hf --out CHECKPOINT"], expect=1)

    def test_sources(self):
        for name in ("a b", "a/b", "é"):
            sources = json.dumps([{"name": name, "files": ["texts/*"]}])
            self.check("config", "config.yaml", f"data.sources={sources}", says=["letters, digits, '_', '-' or '.'"])
        for files, says in (("texts", "texts/*.txt"), ("texts/text{0,1}.txt", "a pattern for each word")):
            sources = json.dumps([{"name": "a", "files": [files]}])
            self.check("prepare", "config.yaml", f"data.sources={sources}", says=[says], expect=1)

    def test_overrides(self):
        self.check("train", "config.yaml", "training.max_step=5", says=["training.max_step", "max_steps"])
        self.check("train", "config.yaml", "training.max_steps=many", says=["training.max_steps", "many"])
        self.check("train", "config.yaml", "training.max_steps=-1", says=["training.max_steps", "-1"])
        self.check("train", "config.yaml", "optimizer.lr=.nan", says=["optimizer.lr"])
        self.check("train", "config.yaml", "training.precision=fp16", says=["fp16", "bf16"])
        self.check("train", "config.yaml", "training.max_steps", says=["training.max_steps"])
        self.check("train", "config.yaml", "moe.top_k=5", says=["moe.top_k", "4"])
        self.check("train", "config.yaml", "training.global_batch_size=5", says=["training.global_batch_size"])
        self.check("train", "config.yaml", "parallel.expert_parallel_size=2", says=["expert_parallel_size"])

    def test_configs(self):
        cases = {
            "model: {hiden_size: 16}\n": ["wrong.yaml:1:", "hiden_size", "hidden_size"],
            "model:\n  hidden_size: 16\n  hidden_size: 32\n": ["wrong.yaml:3:", "hidden_size"],
            "modle: {hidden_size: 16}\n": ["wrong.yaml:1:", "modle", "model"],
            "model: {hidden_size: [16]}\n": ["wrong.yaml:1:", "hidden_size"],
            "model: {hidden_size: 16\n": ["wrong.yaml"],
            "moe: {router: best}\n": ["best", "top_k"],
            "training: {max_steps: 1.5}\noptimizer: {lr: -1}\n": ["wrong.yaml:1:", "wrong.yaml:2:", "1.5", "-1"],
            "- 1\n- 2\n": ["wrong.yaml"],
        }
        for text, says in cases.items():
            (self.folder / "wrong.yaml").write_text(text)
            for command in ("train", "config"):
                self.check(command, "wrong.yaml", says=says)

    def test_one_message(self):
        message = self.check("train", "config.yaml", "training.max_step=5", says=[])
        self.assertEqual(message.count("max_steps"), 1)
        self.assertLessEqual(len(message.splitlines()), 3, message)

    def test_run_folder_in_the_way(self):
        (self.folder / "run").write_text("a file\n")
        self.check("train", "config.yaml", says=["run"])
        self.check("train", "config.yaml", "run.dir=texts", says=["texts", "not empty"])


class Help(ProgramTest):
    def test_help_and_version(self):
        whole = self.switchyard("--help").stdout
        for command in ("train", "eval", "generate", "inspect", "prepare", "report", "bench", "config"):
            self.assertIn(command, whole)
            self.assertIn("Usage", self.switchyard(command, "--help").stdout)
        self.assertRegex(self.switchyard("--version").stdout, r"^switchyard \d+\.\d+\.\d+ \(commit ")

    def test_an_empty_folder_will_do(self):
        self.prepare_tiny(training={"max_steps": 3})
        (self.folder / "run").mkdir()
        self.train("run")
        self.assertEqual(self.lines("run")[-1], {"event": "end", "step": 3})


if __name__ == "__main__":
    unittest.main()
