"""Signals: save and stop with exit code 75, at any time; a second request leaves at once."""

import os
import shutil
import signal
import time
import unittest

from support import HANG_SECONDS, ProgramTest

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class Stopping(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(training={"max_steps": 150}, eval={"interval": 50})

    def wait_for(self, process, condition):
        """Until the condition holds; fails when the process ends first."""
        while not condition():
            self.assertIsNone(process.poll(), "the program ended before the test could send its signal")
            time.sleep(0.001)

    def test_each_signal_saves_the_step_it_names(self):
        self.train("whole")
        for number in SIGNALS:
            with self.subTest(number.name):
                run = number.name
                saved = self.stop_at(5, "train", "config.yaml", f"run.dir={run}", number=number)
                self.assertGreaterEqual(saved, 5)
                self.assertEqual([self.step_of(path) for path in self.checkpoints(run)], [saved])
                self.assertEqual(self.lines(run, "train")[-1]["step"], saved)
                self.assertEqual(self.lines(run)[-1], {"event": "stopped", "step": saved})
                self.assertIn(f"saved step {saved}", (self.folder / run / "log.txt").read_text())
                self.resume(run)
                self.assert_same_run(run, "whole")

    def start_long_step(self, run="run", sequences=3000):
        """In a first step of half as many micro-batches."""
        long = (f"training.global_batch_size={sequences}", "moe.aux_loss_scope=sequence")
        process = self.start("train", "config.yaml", f"run.dir={run}", *long)
        self.read_until(process, "effective coefficients")  # a pipe of one page has room again only when all is read
        metrics = self.folder / run / "metrics.jsonl"
        self.wait_for(process, lambda: metrics.exists() and metrics.read_text().endswith("}\n"))
        time.sleep(0.1)
        return process

    def test_in_the_first_step(self):
        process = self.start_long_step()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.stopped_step(self.finish(process, 75), signal.SIGTERM), 1)
        self.assertEqual([path.name for path in self.checkpoints("run")], ["step-00000001"])

    def test_one_request_may_be_several_signals(self):
        """Schedulers signal the launcher and its children, which get it twice; a closing session sends SIGHUP, too."""
        requests = ((signal.SIGTERM,) * 3, (signal.SIGHUP, signal.SIGTERM), (signal.SIGINT, signal.SIGHUP))
        for number, numbers in enumerate(requests):
            with self.subTest(numbers):
                run = f"run{number}"
                process = self.start_long_step(run)
                for one in numbers:
                    process.send_signal(one)
                    time.sleep(0.05)
                self.assertEqual(self.stopped_step(self.finish(process, 75), numbers[0]), 1)

    def test_the_same_signal_later_leaves_at_once(self):
        process = self.start_long_step("run", 300000)
        process.send_signal(signal.SIGINT)
        self.read_until(process, "^SIGINT received: will save and stop when this step is done; again in two seconds")
        time.sleep(2.1)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=HANG_SECONDS), 1)
        self.assertEqual(self.checkpoints("run"), [])

    def test_an_ignored_hangup_stays_ignored(self):
        process = self.start("train", "config.yaml", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.read_until(process, "^step 5/")
        process.send_signal(signal.SIGHUP)
        self.finish(process, 0)
        self.assertEqual(self.lines("run")[-1], {"event": "end", "step": 150})

    def freeze_while_saving(self, process):
        """Stops the process at a moment when a checkpoint is half written."""

        def half_written():
            return list((self.folder / "run/checkpoints").glob(".tmp-*/model.safetensors"))

        while True:
            self.wait_for(process, half_written)
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            if half_written():
                return
            process.send_signal(signal.SIGCONT)

    def start_saving(self):
        # Wide layers, so that a checkpoint takes a while to write.
        return self.start("train", "config.yaml", "model.hidden_size=128", "checkpoint.interval=1")

    def test_while_saving(self):
        process = self.start_saving()
        self.read_until(process, r"saved \S+step-00000003")
        self.freeze_while_saving(process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        saved = self.stopped_step(self.finish(process, 75), signal.SIGTERM)
        self.assertEqual(self.step_of(self.newest("run")), saved)
        self.assertEqual(list((self.folder / "run/checkpoints").glob(".tmp*")), [])
        self.switchyard("eval", "run")

    def leave_at_once(self, process):
        """Two signals at the same moment."""
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        self.assertEqual(process.wait(timeout=HANG_SECONDS), 1)
        self.assertNotIn("stopped", [line["event"] for line in self.lines("run")])

    def test_a_second_signal_leaves_at_once(self):
        self.train("whole")
        process = self.start("train", "config.yaml", "checkpoint.interval=10")
        self.read_until(process, r"saved \S+step-00000020")
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        self.leave_at_once(process)
        whole = self.step_of(self.newest("run"))
        self.assertEqual(whole % 10, 0)
        self.resume("run")
        self.assertEqual(self.lines("run", "start")[-1]["step"], whole)
        self.assert_same_run("run", "whole")

    def test_a_second_signal_while_saving(self):
        process = self.start_saving()
        self.read_until(process, r"saved \S+step-00000003")
        self.freeze_while_saving(process)
        self.leave_at_once(process)
        self.assertEqual(len(list((self.folder / "run/checkpoints").glob(".tmp*"))), 1)
        whole = self.step_of(self.newest("run"))
        self.assertGreaterEqual(whole, 3)
        self.resume("run", f"training.max_steps={whole + 2}", "eval.interval=0")
        self.assertEqual(self.lines("run", "start")[-1]["step"], whole)
        self.assertEqual(list((self.folder / "run/checkpoints").glob(".tmp*")), [])


class DuringEvaluation(ProgramTest):
    """Step 3 is followed by an evaluation of some thousand batches."""

    def setUp(self):
        super().setUp()
        self.prepare_tiny(
            words=3000,
            training={"max_steps": 6},
            data={"validation_fraction": 0.5},
            eval={"batches": 0},
            schedule={"decay_steps": 12},
        )
        self.train("whole")

    def stop_in_evaluation(self, delay, *arguments, step):
        process = self.start(*arguments)
        self.read_until(process, step)
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        return self.stopped_step(self.finish(process, 75), signal.SIGTERM)

    def seconds_of_evaluation(self):
        process = self.start("train", "config.yaml", "run.dir=timed")
        self.read_until(process, "^step 3/")
        started = time.monotonic()
        self.read_until(process, "validation loss")
        return time.monotonic() - started

    def stop_part_way(self, share, run):
        """Starts `run` and stops it in the evaluation after step 3, so long as the machine is not much slower or
        faster from one moment to the next: then it tries again, earlier."""
        for _ in range(5):
            saved = self.stop_in_evaluation(share * self.duration, "train", "config.yaml", f"run.dir={run}", step="^step 3/")
            if not self.lines(run, "eval"):
                return saved
            shutil.rmtree(self.folder / run)
            share /= 2
        self.fail("the evaluation was over before the signal arrived, five times")

    def test_the_evaluation_is_made_up_for(self):
        self.duration = self.seconds_of_evaluation()
        for share in (0, 0.2, 0.5):
            with self.subTest(share=share):
                run = f"run-{share}"
                self.assertEqual(self.stop_part_way(share, run), 3)
                # Cut off once more while it is made up for.
                saved = self.stop_in_evaluation(0, "train", "--resume", run, step="effective coefficients")
                self.assertEqual((saved, self.lines(run, "eval")), (3, []))
                self.resume(run)
                self.assert_same_run(run, "whole")

    def test_it_is_made_up_for_once(self):
        self.stop_in_evaluation(0, "train", "config.yaml", step="^step 3/")
        for _ in range(2):  # killed after the evaluation, before anything was saved
            process = self.start("train", "--resume", "run")
            self.read_until(process, "^step 4/")
            process.kill()
            process.wait()
        self.resume("run")
        self.assert_same_run("run", "whole")

    def test_the_last_one_of_a_run(self):
        self.stop_in_evaluation(0, "train", "config.yaml", step="^step 6/")
        self.assertEqual(len(self.lines("run", "eval")), 1)
        self.resume("run")
        self.assertEqual(self.curve("run"), self.curve("whole"))
        self.assertIn("finished", self.resume("run").stderr)
        self.assertEqual(self.curve("run"), self.curve("whole"))


if __name__ == "__main__":
    unittest.main()
