"""Output that can't be written: standard output and error that are full, closed or read no more, and --out files."""

import os
import resource
import signal
import stat
import subprocess
import threading
import unittest

from support import BINARY, HANG_SECONDS, ProgramTest


class StandardStreams(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny()

    def run_with(self, *arguments, expect, **options):
        """Runs the program with standard streams of the test's own; returns what it said on standard error."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options}
        command = [BINARY, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, check=False, text=True, timeout=HANG_SECONDS, **options)
        self.assertEqual(done.returncode, expect, f"{arguments}\n{done.stderr}")
        return done.stderr

    def test_colours_on_a_terminal_unless_they_are_not_wanted(self):
        for environment, coloured in (({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)):
            ours, theirs = os.openpty()
            base = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
            self.run_with("prepare", "config.yaml", expect=0, stderr=theirs, env=base | environment)
            said = os.read(ours, 1 << 16)
            os.close(ours)
            os.close(theirs)
            self.assertIn(b"info", said)
            self.assertEqual(b"\x1b[32minfo" in said, coloured, said)

    def printing_commands(self):
        self.train("run")
        yield ("inspect", "config.yaml")
        yield ("inspect", "config.yaml", "--json")
        yield ("config", "config.yaml")
        yield ("config", "--schema")  # larger than the buffer
        yield ("presets",)
        yield ("plan", "config.yaml", "--ranks", 2, "--flops", "1e9", "--intra-bandwidth", "1e9")
        yield ("prepare", "config.yaml")
        yield ("eval", "run")
        yield ("generate", "run", "--prompt", "abc", "--max-new-tokens", 1000)
        yield ("trace", "run", "--text", "abc")
        yield ("report", "run")
        yield ("completions", "man")
        yield ("--help",)
        yield ("--version",)

    def test_commands_that_print_fail_on_a_full_disk(self):
        for command in self.printing_commands():
            with self.subTest(command), open("/dev/full", "w") as full:
                said = self.run_with(*command, expect=1, stdout=full)
                self.assertEqual(said.count("cannot write to standard output: No space left on device"), 1, said)
                self.assertIn("cannot write", said.splitlines()[-1])

    def test_and_where_nobody_reads(self):
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        for command in self.printing_commands():
            with self.subTest(command):
                self.assertIn("Broken pipe", self.run_with(*command, expect=1, stdout=writer))

    def test_and_where_it_is_closed(self):
        self.assertIn("cannot write", self.run_with("presets", expect=1, preexec_fn=lambda: os.close(1)))

    def test_training_needs_none_of_them(self):
        self.train("whole", "checkpoint.interval=6")
        closed = {"closed": lambda: os.closerange(0, 3), "only error": lambda: os.close(2)}
        for name, close in closed.items():
            with self.subTest(name):
                arguments = ("train", "config.yaml", f"run.dir={name}", "checkpoint.interval=6")
                self.run_with(*arguments, expect=0, stderr=subprocess.DEVNULL, preexec_fn=close)
                self.assert_same_run(name, "whole")
        with open("/dev/full", "w") as full:
            self.run_with("train", "config.yaml", "run.dir=full", expect=0, stdout=full, stderr=full)
        self.assert_same_run("full", "whole")
        self.assertIn("saved", (self.folder / "full/log.txt").read_text())

    def test_training_goes_on_without_a_reader(self):
        """train 2>&1 | head -3"""
        self.train("whole", "training.max_steps=150")
        reader, writer = os.pipe()
        command = [BINARY, "train", "config.yaml", "training.max_steps=150"]
        process = subprocess.Popen(command, cwd=self.folder, stdout=writer, stderr=writer)
        os.close(writer)
        os.read(reader, 200)
        os.close(reader)
        self.assertEqual(process.wait(timeout=HANG_SECONDS), 0)
        self.assert_same_run("run", "whole")


class OutputFiles(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny()
        self.train("run")

    def writers(self, path):
        yield ("report", "run", "--out", path)
        yield ("specialisation", "run", "--shufflings", 2, "--out", path)
        yield ("trace", "run", "--data", "--out", path)
        yield ("bench", "config.yaml", "model.vocab_size=64", "--steps", 1, "--warmup", 0, "--trace", path)

    def test_the_older_file_outlives_a_failure(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        for name in ("old", "old.safetensors"):
            (self.folder / name).write_text("precious")
            for command in self.writers(name):
                if "bench" in command and name != "old":
                    continue
                with self.subTest(command):
                    before = sorted(os.listdir(self.folder))
                    self.switchyard(*command, expect=1, preexec_fn=limit)
                    self.assertEqual((self.folder / name).read_text(), "precious")
                    self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_a_whole_file_replaces_it(self):
        for command in self.writers("old"):
            (self.folder / "old").write_text("old")
            self.switchyard(*command)
            self.assertGreater((self.folder / "old").stat().st_size, 1000)

    def test_pipes_are_written_to(self):
        for command in self.writers("pipe"):
            with self.subTest(command):
                os.mkfifo(self.folder / "pipe")
                read = []
                reader = threading.Thread(target=lambda: read.append((self.folder / "pipe").read_bytes()))
                reader.start()
                self.switchyard(*command)
                reader.join()
                self.assertGreater(len(read[0]), 1000)
                self.assertTrue(stat.S_ISFIFO((self.folder / "pipe").stat().st_mode))
                os.remove(self.folder / "pipe")

    def test_standard_output_by_name(self):
        done = self.switchyard("trace", "run", "--text", "abc", "--out", "/dev/stdout")
        self.assertIn('"num_experts"', done.stdout)


if __name__ == "__main__":
    unittest.main()
