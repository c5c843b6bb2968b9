"""Several ranks of the built program on one machine: launchers, layouts, faults."""

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import setup_test_python
from support import BINARY, HANG_SECONDS, ProgramTest

# What no test waits for, unless a rank really hangs.
TIMEOUT = "parallel.timeout=60"
SHORT_TIMEOUT = "parallel.timeout=4"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Ranks(ProgramTest):
    def setUp(self):
        super().setUp()
        every_four = {"interval": 4, "keep_last": 0}
        self.prepare_tiny(training={"global_batch_size": 8}, checkpoint=every_four, eval={"interval": 4})

    def environment(self, rank, size, port, **more):
        return {
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            **more,
        }

    def launch(self, size, *arguments, ranks=None, per_rank=None, binaries=None, folders=None, **more):
        """Starts ranks of `size`; per_rank gives a rank arguments of its own, binaries a program, folders a place."""
        port = free_port()
        processes = []
        for rank in ranks if ranks is not None else range(size):
            own = (per_rank or {}).get(rank, ())
            process = subprocess.Popen(
                [(binaries or {}).get(rank, BINARY), *map(str, arguments), *own],
                cwd=(folders or {}).get(rank, self.folder),
                env=self.environment(rank, size, port, **more),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            self.addCleanup(process.stderr.close)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            processes.append(process)
        return processes

    def finish_all(self, processes, expect=0):
        """Waits for all; their standard errors."""
        texts = [process.communicate(timeout=HANG_SECONDS)[1] for process in processes]
        codes = [process.returncode for process in processes]
        wanted = expect if isinstance(expect, list) else [expect] * len(processes)
        self.assertEqual(codes, wanted, "\n---\n".join(texts))
        return texts

    def run_ranks(self, size, *arguments, expect=0, **options):
        return self.finish_all(self.launch(size, *arguments, **options), expect)

    def wait_for_step(self, run, step):
        """Until the run has logged a step. A run that ends without it hangs here, and is ended by the clean-up."""
        path = self.folder / run / "metrics.jsonl"
        deadline = time.monotonic() + HANG_SECONDS
        while time.monotonic() < deadline:
            if path.exists() and f'"event":"train","step":{step},' in path.read_text():
                return
            time.sleep(0.01)
        self.fail(f"{run} never logged step {step}")

    def assert_close(self, ours, theirs, tolerance):
        if isinstance(theirs, dict):
            self.assertEqual(ours.keys(), theirs.keys())
            for key, value in theirs.items():
                self.assert_close(ours[key], value, tolerance)
        elif isinstance(theirs, list):
            for a, b in zip(ours, theirs, strict=True):
                self.assert_close(a, b, tolerance)
        elif isinstance(theirs, float):
            self.assertLessEqual(abs(ours - theirs), tolerance * max(abs(theirs), 1e-3))
        else:
            self.assertEqual(ours, theirs)


class Layouts(Ranks):
    def test_the_same_run_on_any_layout_and_resumed_on_others(self):
        precise = ("training.precision=fp64", "optimizer.lr=1e-3", "schedule.type=constant", TIMEOUT)
        self.train("one", *precise)
        self.run_ranks(2, "train", "config.yaml", "run.dir=two", "training.max_steps=4", *precise)
        sharded = "parallel.distributed_optimizer=true"
        four = ("training.max_steps=8", "parallel.expert_parallel_size=4", sharded, "checkpoint.background=true")
        self.run_ranks(4, "train", "--resume", "two", *four)
        self.assertEqual(len(list(self.newest("two").glob("model-*-of-00004.safetensors"))), 4)
        self.resume("two", "training.max_steps=12", "parallel.expert_parallel_size=1")
        self.assertEqual(len(self.curve("one")), len(self.curve("two")))
        self.assert_close(self.curve("two"), self.curve("one"), 1e-9)
        self.assertTrue((self.folder / "two/log-rank-00003.txt").read_text())
        losses = [
            json.loads(self.switchyard("eval", run, "--json").stdout)["val_loss"] for run in ("one", "two")
        ]
        self.assert_close(losses[0], losses[1], 1e-9)

    def test_saving_in_the_background_changes_nothing(self):
        self.train("plain")
        self.train("background", "checkpoint.background=true")
        for name in ("model.safetensors", "optimizer.safetensors", "trainer.json"):
            for ours, theirs in zip(self.checkpoints("background"), self.checkpoints("plain"), strict=True):
                self.assertEqual((ours / name).read_bytes(), (theirs / name).read_bytes())

    def test_a_batch_or_experts_that_cannot_be_shared(self):
        for text in self.run_ranks(3, "train", "config.yaml", "run.dir=run", expect=2):
            self.assertIn("4 micro-batches", text)
            self.assertIn("3 ranks cannot share evenly", text)
        texts = self.run_ranks(4, "train", "config.yaml", "run.dir=run", "parallel.expert_parallel_size=3", expect=2)
        self.assertIn("parallel.expert_parallel_size", texts[0])
        done = self.train("run", "parallel.expert_parallel_size=2", expect=2)
        self.assertIn("start several with torchrun, mpirun or srun", done.stderr)
        self.assertFalse((self.folder / "run").exists())


class Launchers(Ranks):
    def test_mpirun(self):
        mpirun = shutil.which("mpirun")
        if mpirun is None:
            self.skipTest("no mpirun (third_party/debian-dev.txt)")
        self.train("one", TIMEOUT)
        command = [mpirun, "--allow-run-as-root", "--oversubscribe", "-np", "2", BINARY, "train", "config.yaml"]
        done = subprocess.run(
            [*command, "run.dir=two", TIMEOUT, "parallel.expert_parallel_size=2"],
            cwd=self.folder, check=False, capture_output=True, text=True, timeout=HANG_SECONDS,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_close(self.curve("two")[:5], self.curve("one")[:5], 1e-4)

    def test_torchrun_starts_a_killed_group_again_and_it_goes_on(self):
        python = setup_test_python.python()
        if python is None:
            self.skipTest("no .venv-test (scripts/setup.sh --dev)")
        command = [str(python), "-m", "torch.distributed.run", "--no-python", "--nproc-per-node=2"]
        command += ["--max-restarts=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}"]
        command += [BINARY, "train", "config.yaml", "run.dir=run", "training.max_steps=400", TIMEOUT]
        with (self.folder / "torchrun.txt").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **setup_test_python.environment()}, stdout=log, stderr=log
            )
        self.addCleanup(process.kill)
        self.wait_for_step("run", 9)
        # Rank 1 is the child whose environment says so.
        for entry in Path("/proc").iterdir():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                command_line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            wanted = command_line.startswith(BINARY.encode()) and b"RANK=1" in variables
            if wanted and entry.joinpath("cwd").resolve() == self.folder.resolve():
                os.kill(int(entry.name), signal.SIGKILL)
        code = process.wait(timeout=HANG_SECONDS)
        text = (self.folder / "torchrun.txt").read_text()
        self.assertEqual(code, 0, text)
        self.assertEqual(self.lines("run")[-1]["event"], "end")
        self.assertIn("resuming run from step", (self.folder / "run/log.txt").read_text())


class Faults(Ranks):
    LONG = ("training.max_steps=100000", "checkpoint.interval=1", "checkpoint.keep_last=2")

    def start(self, size, *more, **options):
        return self.launch(size, "train", "config.yaml", "run.dir=run", *self.LONG, *more, **options)

    def assert_whole_checkpoint(self):
        """The newest checkpoint resumes on one process."""
        step = self.step_of(self.newest("run"))
        self.resume("run", f"training.max_steps={step + 1}", "checkpoint.interval=0", "parallel.expert_parallel_size=1")
        self.assertGreaterEqual(step, 1)

    def test_a_killed_rank_ends_the_others_and_is_named(self):
        for victim in (1, 0):
            with self.subTest(victim=victim):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                processes = self.start(2, TIMEOUT, "parallel.expert_parallel_size=2")
                self.wait_for_step("run", 3)
                processes[victim].kill()
                expect = [1, 1]
                expect[victim] = -signal.SIGKILL
                texts = self.finish_all(processes, expect)
                self.assertRegex(texts[1 - victim], rf"rank {victim}( gave no answer|, which holds the store, is gone or out of reach)")
                self.assert_whole_checkpoint()

    def test_a_stopped_rank_is_named_after_the_time_out(self):
        processes = self.start(2, SHORT_TIMEOUT)
        self.wait_for_step("run", 3)
        processes[1].send_signal(signal.SIGSTOP)
        text = processes[0].communicate(timeout=HANG_SECONDS)[1]
        self.assertEqual(processes[0].returncode, 1, text)
        self.assertRegex(text, r"the collective [-a-z]+ \([- a-z]+\) failed; rank 1 gave no answer")
        processes[1].kill()
        self.assert_whole_checkpoint()

    def test_a_signal_to_one_rank_stops_all_after_saving_the_same_step(self):
        for number in (signal.SIGTERM, signal.SIGUSR1):
            with self.subTest(signal=number):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                processes = self.start(2, TIMEOUT, "checkpoint.interval=0")
                self.wait_for_step("run", 3)
                processes[1].send_signal(number)
                texts = self.finish_all(processes, 75)
                step = self.stopped_step(texts[0], number)
                self.assertEqual(self.step_of(self.newest("run")), step)
                self.assertEqual(self.lines("run")[-1], {"event": "stopped", "step": step})

    def test_a_signal_to_every_rank_twice_is_one_request(self):
        """A scheduler signals the launcher and its ranks, and the launcher passes it on."""
        processes = self.start(2, TIMEOUT, "checkpoint.interval=0")
        self.wait_for_step("run", 3)
        for _ in range(2):
            for process in processes:
                process.send_signal(signal.SIGTERM)
            time.sleep(0.01)
        step = self.stopped_step(self.finish_all(processes, 75)[0], signal.SIGTERM)
        self.assertEqual(self.step_of(self.newest("run")), step)

    def test_a_rank_that_never_comes(self):
        texts = self.finish_all(self.start(2, SHORT_TIMEOUT, ranks=[0]), 1)
        self.assertIn("rank 1 of 2 did not join within 4 s", texts[0])
        self.assertFalse((self.folder / "run").exists())

    def test_another_configuration_on_one_rank(self):
        for text in self.finish_all(self.start(2, TIMEOUT, per_rank={1: ["optimizer.lr=0.5"]}), 1):
            self.assertIn("rank 1 started with another configuration than rank 0", text)
        self.assertFalse((self.folder / "run").exists())

    def test_work_of_one_rank_may_take_longer_than_the_time_out(self):
        self.switchyard("prepare", "config.yaml")
        (path,) = (self.folder / "shards").glob("*.lock")
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # so that rank 0 waits for the data, and rank 1 for rank 0
            processes = self.launch(2, "train", "config.yaml", "run.dir=run", SHORT_TIMEOUT)
            time.sleep(10)
            self.assertEqual([process.poll() for process in processes], [None, None])
        self.finish_all(processes)

    def test_other_texts_on_another_machine(self):
        """Two machines, each with a cache of its own: one is of older texts, whose sizes and times are the same."""
        other = self.folder / "other"
        other.mkdir()
        config = self.folder / "config.yaml"
        self.switchyard("prepare", config, cwd=other)
        text = self.folder / "texts/text0.txt"
        times = text.stat()
        text.write_bytes(bytes(reversed(text.read_bytes())))
        os.utime(text, ns=(times.st_atime_ns, times.st_mtime_ns))
        arguments = ("train", config, f"run.dir={self.folder / 'run'}", TIMEOUT)
        for text in self.run_ranks(2, *arguments, expect=1, folders={1: other}, LOCAL_RANK="0", LOCAL_WORLD_SIZE="1"):
            self.assertIn("rank 1 started with another set of tokens", text)
        self.assertFalse((self.folder / "run").exists())

    def test_another_program_on_one_rank(self):
        other = self.folder / "other"
        shutil.copy(BINARY, other)
        with other.open("ab") as file:
            file.write(b"x")
        for text in self.finish_all(self.start(2, TIMEOUT, binaries={1: str(other)}), 1):
            self.assertIn("rank 1 started with another program than rank 0", text)

    def test_kills_while_saving_lose_nothing(self):
        stream = random.Random(3)
        arguments = ("train", "config.yaml", "run.dir=run")
        newest = 0
        for _ in range(6):
            processes = self.launch(2, *arguments, *self.LONG, TIMEOUT)
            self.wait_for_step("run", newest + stream.randint(2, 6))
            time.sleep(stream.random() / 50)  # somewhere in a step or a save
            victim = stream.randrange(2)
            processes[victim].kill()
            self.finish_all(processes, [-signal.SIGKILL if rank == victim else 1 for rank in range(2)])
            done = self.switchyard("eval", "run", "--json")
            step = json.loads(done.stdout)["step"]
            self.assertGreaterEqual(step, max(1, newest))
            newest = step
            arguments = ("train", "--resume", "run")

    def test_a_port_that_is_taken(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = str(other.getsockname()[1])
            texts = self.finish_all(self.start(2, SHORT_TIMEOUT, ranks=[0], MASTER_PORT=port), 1)
        self.assertIn(f"127.0.0.1:{port}", texts[0])
        self.assertIn("choose a free port with MASTER_PORT", texts[0])

    def test_it_listens_on_loopback_only(self):
        processes = self.start(2, TIMEOUT)
        self.wait_for_step("run", 1)
        own = {f"socket:[{inode}]" for inode in self.listening_elsewhere()}
        for process in processes:
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                try:
                    self.assertNotIn(os.readlink(link), own)
                except FileNotFoundError:
                    pass
            process.send_signal(signal.SIGTERM)
        self.finish_all(processes, 75)

    @staticmethod
    def listening_elsewhere():
        """Inodes of the sockets of this machine that listen on another address than loopback."""
        for table, loopback in (("tcp", ("0100007F",)), ("tcp6", ("00000000000000000000000001000000",))):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[1].split(":")[0] not in loopback:
                    yield fields[9]

    def test_a_full_disk_on_one_rank(self):
        limit = 'ulimit -f 8; exec "$@"'  # blocks of 1 KiB
        port = free_port()
        processes = []
        for rank, shell in ((0, []), (1, ["bash", "-c", limit, "bash"])):
            process = subprocess.Popen(
                [*shell, BINARY, "train", "config.yaml", "run.dir=run", *self.LONG, TIMEOUT, "checkpoint.interval=4"],
                cwd=self.folder, env=self.environment(rank, 2, port), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            self.addCleanup(process.stderr.close)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            processes.append(process)
        for text in self.finish_all(processes, 1):
            self.assertIn("rank 1 could not save", text)
        self.assertEqual(list((self.folder / "run/checkpoints").iterdir()), [])

    def test_a_missing_shard_is_named(self):
        self.run_ranks(2, "train", "config.yaml", "run.dir=run", TIMEOUT)
        lost = self.newest("run") / "model-00002-of-00002.safetensors"
        lost.unlink()
        done = self.switchyard("eval", self.newest("run"), expect=1)
        self.assertIn(lost.name, done.stderr)
        texts = self.run_ranks(2, "train", "--resume", "run", "training.max_steps=14")
        self.assertIn("skipping the partial checkpoint", (self.folder / "run/log.txt").read_text(), texts)


class Network(Ranks):
    """Two ranks on two machines, as far as the kernel can play them: network namespaces with a cable between them."""

    def setUp(self):
        super().setUp()
        self.names = [f"sw-{os.getpid()}-{side}" for side in "ab"]
        if shutil.which("ip") is None:
            self.skipTest("no ip (iproute2)")
        for name in self.names:
            done = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
            if done.returncode != 0:
                self.skipTest(f"no network namespaces here: {done.stderr.strip()}")
            self.addCleanup(subprocess.run, ["ip", "netns", "del", name], check=False)
        a, b = self.names
        self.ip("link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b)
        for name, address in zip(self.names, ("10.213.0.1", "10.213.0.2"), strict=True):
            self.ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            self.ip("-n", name, "link", "set", "cable", "up")
            self.ip("-n", name, "link", "set", "lo", "up")

    def ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def cable(self, state):
        self.ip("-n", self.names[1], "link", "set", "cable", state)

    def start(self, timeout, steps):
        processes = []
        for rank, name in enumerate(self.names):
            environment = self.environment(rank, 2, 29555, MASTER_ADDR="10.213.0.1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
            process = subprocess.Popen(
                ["ip", "netns", "exec", name, BINARY, "train", "config.yaml", "run.dir=run", f"parallel.timeout={timeout}",
                 "parallel.expert_parallel_size=2", f"training.max_steps={steps}"],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            self.addCleanup(process.stderr.close)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            processes.append(process)
        return processes

    def test_a_cut_cable_ends_both(self):
        processes = self.start(timeout=4, steps=100000)
        self.wait_for_step("run", 5)
        self.cable("down")
        texts = self.finish_all(processes, 1)
        self.assertRegex(texts[0], "the collective .* failed; rank 1 gave no answer")
        self.assertRegex(texts[1], "the collective .* failed; .*rank 0")
        self.assertTrue(self.checkpoints("run"))

    def test_a_cable_that_comes_back_in_time_ends_nothing(self):
        processes = self.start(timeout=60, steps=300)
        self.wait_for_step("run", 5)
        self.cable("down")
        time.sleep(1)
        self.cable("up")
        self.finish_all(processes)
        self.assertEqual(self.lines("run")[-1]["event"], "end")


if __name__ == "__main__":
    unittest.main()
