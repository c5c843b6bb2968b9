"""Going on with a run: bit for bit what an uninterrupted run does, and never by mistake with something else."""

import json
import shutil
import unittest

from support import ProgramTest, contents, flip_bit, write_texts

VARIANTS = {
    "fp32": [],
    "bf16": ["training.precision=bf16"],
    "dense": ["moe=null"],
    "noise": ["model.dropout=0.2", "moe.router.jitter=0.2"],
    "noise in bf16": ["model.dropout=0.2", "moe.router.jitter=0.2", "training.precision=bf16"],
    "balance per micro-batch": ["moe.aux_loss_scope=micro_batch"],
    "balance per sequence": ["moe.aux_loss_scope=sequence"],
    "balance per global batch": ["moe.aux_loss_scope=global_batch", "model.dropout=0.1", "moe.router.jitter=0.1"],
    "drops by probability": ["moe.capacity_factor=0.6", "moe.drop_policy=probability"],
    "drops by position": ["moe.capacity_factor=0.6", "moe.drop_policy=position", "training.precision=bf16"],
    "one expert a token": ["moe.top_k=1", "moe.router.softmax=before", "moe.router.normalize=false"],
    "shared experts": ["moe.num_shared_experts=1", "moe.layer_freq=2"],
    "skipped spikes": ["training.spike.action=skip", "training.spike.window=4", "training.spike.threshold=0.1"],
}


class Equality(ProgramTest):
    """One short text: an epoch is 3 steps of 8 sequences, in 4 micro-batches of 2."""

    def setUp(self):
        super().setUp()
        self.prepare_tiny(
            files=1, words=90, training={"global_batch_size": 8}, data={"validation_fraction": 0.3}, eval={"batches": 1}
        )

    def test_twice_n_steps_are_n_steps_and_a_resume(self):
        for name, overrides in VARIANTS.items():
            with self.subTest(name):
                whole, parts = f"{name} whole".replace(" ", "-"), f"{name} parts".replace(" ", "-")
                self.train(whole, *overrides, "schedule.decay_steps=12")
                self.train(parts, *overrides, "schedule.decay_steps=12", "training.max_steps=6")
                self.assertEqual(self.newest(parts).name, "step-00000006")
                self.resume(parts, "training.max_steps=12")
                self.assert_same_run(parts, whole)
                if name.startswith("drops"):
                    dropped = [line["dropped_fraction"] for line in self.lines(parts, "routing")]
                    self.assertGreater(max(dropped), 0.2)

    def test_a_run_stopped_by_a_signal_goes_on(self):
        steps = ["training.max_steps=90", "eval.interval=30"]
        for name in ("fp32", "bf16", "noise", "drops by probability", "one expert a token"):
            with self.subTest(name):
                whole, parts = f"{name} whole".replace(" ", "-"), f"{name} parts".replace(" ", "-")
                self.train(whole, *VARIANTS[name], *steps)
                saved = self.stop_at(7, "train", "config.yaml", f"run.dir={parts}", *VARIANTS[name], *steps)
                self.assertEqual(self.step_of(self.newest(parts)), saved)
                again = self.stop_at(saved + 3, "train", "--resume", parts)
                self.assertGreater(again, saved)
                self.resume(parts)
                self.assert_same_run(parts, whole)

    def test_each_step_in_a_process_of_its_own(self):
        self.train("whole", "training.max_steps=5", "schedule.decay_steps=12", "eval.interval=1")
        self.train("parts", "training.max_steps=1", "schedule.decay_steps=12", "eval.interval=1")
        for step in range(2, 6):
            self.resume("parts", f"training.max_steps={step}")
        self.assert_same_run("parts", "whole")

    def test_skipped_spikes_are_skipped(self):
        self.train("run", *VARIANTS["skipped spikes"])
        self.assertIn("update skipped", (self.folder / "run/log.txt").read_text())


class Refusals(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(schedule={"decay_steps": 20}, training={"max_steps": 4}, checkpoint={"interval": 2})
        self.train("run")

    def test_another_architecture(self):
        before = contents(self.folder / "run/checkpoints")
        done = self.resume("run", "model.hidden_size=24", "moe.num_experts=8", "training.max_steps=6", expect=2)
        for text in ("model.hidden_size is 16", "24", "moe.num_experts is 4", "8", "--allow-architecture-change"):
            self.assertIn(text, done.stderr)
        self.assertEqual(contents(self.folder / "run/checkpoints"), before)
        # The refused attempt has not changed the run: it goes on as it was.
        self.resume("run", "training.max_steps=6")
        self.assertEqual(self.newest("run").name, "step-00000006")

    def test_another_architecture_when_allowed(self):
        change = ["moe.num_experts=8", "training.max_steps=6"]
        done = self.resume("run", *change, "--allow-architecture-change")
        self.assertRegex(done.stderr, r"experts\S* is \[4, .*instead of \[8,")
        self.assertNotIn("embed_tokens", done.stderr)
        self.assertEqual(len(self.lines("run", "routing")[-1]["load"]), 8)
        self.switchyard("eval", "run", "--json")

    def test_changed_data(self):
        write_texts(self.folder / "texts", seed=3)
        done = self.resume("run", "training.max_steps=6", expect=2)
        self.assertIn("data has changed", done.stderr)
        self.assertIn("--allow-data-change", done.stderr)
        self.assertEqual(self.newest("run").name, "step-00000004")
        self.resume("run", "training.max_steps=6", "--allow-data-change")
        self.assertEqual(self.newest("run").name, "step-00000006")

    def test_touched_data_is_the_same_data(self):
        for path in (self.folder / "texts").iterdir():
            path.touch()
        self.resume("run", "training.max_steps=6")

    def test_a_folder_that_is_no_run(self):
        (self.folder / "empty").mkdir()
        for name in ("empty", "missing"):
            self.assertIn(name, self.resume(name, expect=2).stderr)
        self.assertEqual(list((self.folder / "empty").iterdir()), [])
        self.assertFalse((self.folder / "missing").exists())


class OtherTexts(ProgramTest):
    """A model's text is read with the model's tokenizer, whatever a tokenizer made of the text would be."""

    def setUp(self):
        super().setUp()
        self.prepare_tiny(training={"max_steps": 4})
        self.train("run")
        write_texts(self.folder / "texts", files=4, seed=5)
        (self.folder / "texts/text0.txt").write_text("0123456789 XYZ\n" * 30)  # none of which it knows

    def vocabulary(self, run):
        return json.loads(self.switchyard("inspect", run, "--json").stdout)["vocab_size"]

    def test_evaluation(self):
        found = json.loads(self.switchyard("eval", "run", "--json").stdout)
        self.assertGreater(found["val_loss"], 0)
        self.assertIn("data.tokenizer", self.switchyard("eval", "run", "data.tokenizer=byte", expect=2).stderr)

    def test_going_on(self):
        self.resume("run", "training.max_steps=6", "--allow-data-change")
        self.assertEqual(self.newest("run").name, "step-00000006")
        first, last = (json.loads((step / "tokenizer.json").read_text()) for step in self.checkpoints("run"))
        self.assertEqual(first, last)

    def test_beginning_with_its_weights(self):
        self.train("tuned", "--from", "run")
        self.resume("tuned", "training.max_steps=6")
        tokenizers = {(self.newest(run) / "tokenizer.json").read_bytes() for run in ("run", "tuned")}
        self.assertEqual(len(tokenizers), 1)
        self.train("bytes", "--from", "run", "data.tokenizer=byte")  # its own all the same
        self.assertEqual(self.vocabulary("bytes"), self.vocabulary("run"))


class OpenDefaults(ProgramTest):
    """What follows another key goes on following it, in a run, a printed configuration and a checkpoint's."""

    def setUp(self):
        super().setUp()
        self.prepare_tiny(training={"max_steps": 4, "global_batch_size": None}, eval={"interval": 0})
        self.train("run")

    def test_a_larger_micro_batch_on_resuming(self):
        done = self.resume("run", "training.max_steps=6", "training.micro_batch_size=4")
        self.assertIn("training.global_batch_size was 2 and is now 4", done.stderr)

    def test_changing_a_printed_configuration(self):
        printed = self.switchyard("config", "config.yaml").stdout
        self.assertRegex(printed, r"  head_dim: null  # 8: hidden_size / num_attention_heads\n")
        (self.folder / "printed.yaml").write_text(printed)
        for source in ("printed.yaml", "run/config.yaml"):
            wider = self.switchyard("inspect", source, "model.hidden_size=32", "--json").stdout
            plain = self.switchyard("inspect", "config.yaml", "model.hidden_size=32", "--json").stdout
            self.assertEqual(json.loads(wider), json.loads(plain), source)

    def test_tuning_from_a_checkpoint(self):
        self.write_config("tune.yaml", run=None, model=None, moe=None, data=None, optimizer=None, eval=None)
        tune = json.loads((self.folder / "tune.yaml").read_text())
        del tune["training"]["global_batch_size"]
        tune["extends"] = str(self.newest("run") / "config.yaml")
        (self.folder / "tune.yaml").write_text(json.dumps(tune))
        self.switchyard("train", "tune.yaml", "--from", "run", "run.dir=tuned", "training.micro_batch_size=3")
        self.assertEqual(self.lines("tuned", "train")[-1]["tokens"], 12 * 3 * 16)


class Finished(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(schedule={"decay_steps": 20}, training={"max_steps": 4}, eval={"interval": 2})

    def test_a_finished_run_says_so_and_saves_nothing_twice(self):
        self.train("run")
        metrics, checkpoints = self.lines("run"), contents(self.folder / "run/checkpoints")
        stamps = {path: path.stat().st_mtime_ns for path in self.newest("run").iterdir()}
        self.assertIn("finished", self.resume("run").stderr)
        self.assertEqual(self.lines("run"), metrics)
        self.assertEqual(contents(self.folder / "run/checkpoints"), checkpoints)
        self.assertEqual({path: path.stat().st_mtime_ns for path in self.newest("run").iterdir()}, stamps)

    def test_more_steps_go_on(self):
        self.train("run")
        self.train("whole", "training.max_steps=8")
        self.resume("run", "training.max_steps=8")
        self.assert_same_run("run", "whole")
        self.assertIn("finished", self.resume("run").stderr)

    def test_what_an_override_cannot_change_is_said(self):
        self.train("run")
        self.assertIn("overrides change nothing", self.resume("run", "optimizer.lr=1e-4").stderr)
        self.assertIn("run.dir can't be changed", self.resume("run", "run.dir=other", expect=2).stderr)
        self.assertFalse((self.folder / "other").exists())

    def test_from_elsewhere_and_after_a_move(self):
        self.train("whole", "training.max_steps=8")
        self.train("run")
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        (self.folder / "run").rename(elsewhere / "moved")
        self.resume("moved", "training.max_steps=8", cwd=elsewhere)
        self.assert_same_run("elsewhere/moved", "whole")
        found = json.loads(self.switchyard("eval", "moved", "--json", cwd=elsewhere).stdout)
        self.assertEqual(found["val_loss"], self.lines("whole", "eval")[-1]["val_loss"])

    def test_killed_before_the_first_checkpoint(self):
        self.train("whole")
        # What such a run leaves: its config, some metrics, the beginning of a checkpoint.
        self.train("run")
        shutil.rmtree(self.folder / "run/checkpoints")
        mark = json.loads((self.folder / "run/run.json").read_text())
        (self.folder / "run/run.json").write_text(json.dumps(mark | {"saved": False}))
        (self.folder / "run/checkpoints/.tmp-step-00000004-1").mkdir(parents=True)
        (self.folder / "run/checkpoints/.tmp-step-00000004-1/model.safetensors").write_bytes(b"half")
        with open(self.folder / "run/metrics.jsonl", "a") as metrics:
            metrics.write('{"event":"train","st')
        self.assertIn("starting over", self.resume("run").stderr)
        self.assert_same_run("run", "whole")
        self.assertEqual([path.name for path in (self.folder / "run/checkpoints").iterdir()], ["step-00000004"])
        # Killed while the last of an old one was removed; a run that is finished saves no more.
        (self.folder / "run/checkpoints/.tmp-step-00000002-1-old").mkdir()
        self.resume("run")
        self.assertEqual([path.name for path in (self.folder / "run/checkpoints").iterdir()], ["step-00000004"])


class Damage(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(checkpoint={"interval": 4, "keep_last": 0})
        self.train("whole")
        self.names = [path.name for path in self.newest("whole").iterdir()]

    def damaged_copy(self, name, damage):
        run = f"run-{name}"
        shutil.copytree(self.folder / "whole", self.folder / run)
        damage(self.newest(run) / name)
        return run

    def test_the_one_before_is_used(self):
        self.assertIn("manifest.json", self.names)
        for kind, damage in (("flipped bit", flip_bit), ("missing file", lambda path: path.unlink())):
            for name in self.names:
                with self.subTest(kind, file=name):
                    run = self.damaged_copy(name, damage)
                    done = self.resume(run)
                    self.assertRegex(done.stderr, r"skipping the partial checkpoint \S+step-00000012")
                    self.assertIn(name, done.stderr)
                    self.assertIn("from step 8", done.stderr)
                    self.assertEqual(self.lines(run, "start")[-1]["step"], 8)
                    self.assert_same_run(run, "whole")
                    shutil.rmtree(self.folder / run)

    def test_an_explicit_path_to_a_damaged_one_fails_by_name(self):
        for name in self.names:
            # Evaluating and generating need no optimizer state: of that file only the size is looked at.
            damage = flip_bit if name != "optimizer.safetensors" else lambda path: path.write_bytes(b"cut")
            run = self.damaged_copy(name, damage)
            checkpoint = self.newest(run).relative_to(self.folder)
            for command in (["eval", checkpoint], ["generate", checkpoint, "--prompt", "ab"]):
                with self.subTest(command[0], file=name):
                    done = self.switchyard(*command, expect=1)
                    self.assertIn(name, done.stderr)
                    self.assertEqual(done.stdout, "")
            # The run's folder instead of the checkpoint's: the one before, with a warning.
            done = self.switchyard("eval", run, "--json")
            if name != "optimizer.safetensors":
                self.assertIn("skipping", done.stderr)
            self.assertEqual(json.loads(done.stdout)["step"], 8)
            shutil.rmtree(self.folder / run)

    def test_all_damaged(self):
        for checkpoint in self.checkpoints("whole"):
            (checkpoint / "manifest.json").unlink()
        self.assertIn("none of the 3 checkpoints", self.switchyard("eval", "whole", expect=1).stderr)


if __name__ == "__main__":
    unittest.main()
