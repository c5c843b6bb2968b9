"""scripts/bench_peers.py: peers of the shape of a configuration, settings, generated tokens, tables."""

import json
import sys
import unittest
from pathlib import Path
from typing import Any

import support  # noqa: F401, makes scripts/ importable
from bench_peers import Measurement, speed_table
from lib import peer_generation, peer_settings, peer_shapes
from lib.peer_generation import PROMPT, Generation
from lib.processes import Finished, run_measured


def configuration(**changes: Any) -> dict[str, Any]:
    """A resolved configuration, as far as peers look at it, with dotted keys changed (dots written as __)."""
    router = {
        "type": "top_k", "score": "softmax", "normalize": True, "jitter": 0.0, "scale": 1.0, "num_groups": 1,
        "expert_bias": False, "second_expert": "always", "null_experts": 0,
    }  # fmt: skip
    config: dict[str, Any] = {
        "model": {
            "hidden_size": 48, "num_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
            "intermediate_size": 100, "vocab_size": 500, "tie_word_embeddings": True, "activation": "swiglu",
            "normalization": "rms_norm", "position_embedding": "rotary", "bias": False, "post_norm": False,
            "qk_norm": "none", "latent_attention": None, "sliding_window": None, "attention_softcap": None,
            "logit_softcap": None, "embedding_scale": 1.0, "logit_scale": 1.0, "rope_theta": 1e4, "norm_eps": 1e-5,
            "dropout": 0.0,
        },
        "moe": {
            "num_experts": 8, "top_k": 2, "intermediate_size": 20, "num_shared_experts": 0, "layer_freq": 1,
            "first_k_dense": 0, "dense_residual": False, "capacity_factor": None, "aux_loss_coeff": 0.01,
            "aux_loss_layers": "sum", "z_loss_coeff": 0.001, "router": router,
        },
        "mixture_of_depths": None,
        "training": {"seq_length": 64, "micro_batch_size": 5, "global_batch_size": 5},
        "optimizer": {"lr": 3e-4, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "grad_clip": 1.0},
    }  # fmt: skip
    for key, value in changes.items():
        *sections, name = key.split("__")
        place = config
        for section in sections:
            place = place[section]
        place[name] = value
    return config


GPT2 = {
    "moe": None,
    "model__num_key_value_heads": 4,
    "model__activation": "gelu",
    "model__normalization": "layer_norm",
    "model__position_embedding": "learned",
    "model__bias": True,
}


class Shapes(unittest.TestCase):
    def test_mixtral(self) -> None:
        peer = peer_shapes.peer_of(configuration())
        self.assertEqual((peer.family, peer.differs, peer.has_experts), ("Mixtral", (), True))
        self.assertEqual(peer.arguments, {
            "vocab_size": 500, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 64, "tie_word_embeddings": True,
            "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 20,
        })  # fmt: skip

    def test_a_single_choice_is_said_to_differ(self) -> None:
        self.assertIn("top_k 1", peer_shapes.peer_of(configuration(moe__top_k=1)).differs[0])

    def test_shared_experts(self) -> None:
        peer = peer_shapes.peer_of(configuration(moe__num_shared_experts=2))
        self.assertEqual((peer.family, len(peer.differs)), ("Qwen2Moe", 1))
        self.assertEqual(peer.arguments["shared_expert_intermediate_size"], 40)
        self.assertEqual(peer.arguments["moe_intermediate_size"], 20)

    def test_dense(self) -> None:
        peer = peer_shapes.peer_of(configuration(moe=None))
        self.assertEqual((peer.family, peer.has_experts), ("Llama", False))
        self.assertEqual(peer.arguments["intermediate_size"], 100)

    def test_gpt2(self) -> None:
        peer = peer_shapes.peer_of(configuration(**GPT2))
        self.assertEqual(peer.family, "GPT2")
        sizes = [peer.arguments[key] for key in ("n_positions", "n_embd", "n_layer", "n_head", "n_inner")]
        self.assertEqual(sizes, [64, 48, 3, 4, 100])

    def test_nanogpt_has_one_width(self) -> None:
        peer = peer_shapes.nanogpt_of(configuration(**GPT2, model__intermediate_size=192))
        self.assertEqual((peer.family, peer.arguments["block_size"], peer.arguments["n_embd"]), ("nanoGPT", 64, 48))
        with self.assertRaisesRegex(peer_shapes.NoPeerError, "model.intermediate_size: 100"):
            peer_shapes.nanogpt_of(configuration(**GPT2))

    def test_what_no_peer_has_is_named(self) -> None:
        refused = {
            "model__qk_norm": "head",
            "model__activation": "geglu",
            "mixture_of_depths": {"capacity": 0.5},
            "moe__layer_freq": 2,
            "moe__router__score": "sigmoid",
        }
        for key, value in refused.items():
            with self.assertRaisesRegex(peer_shapes.NoPeerError, key.replace("__", ".")):
                peer_shapes.peer_of(configuration(**{key: value}))
        with self.assertRaisesRegex(peer_shapes.NoPeerError, "model.num_key_value_heads: 2"):
            peer_shapes.peer_of(configuration(**GPT2 | {"model__num_key_value_heads": 2}))

    def test_the_step(self) -> None:
        step = peer_shapes.step_of(configuration())
        self.assertEqual((step["sequences"], step["length"], step["vocab_size"]), (5, 64, 500))
        # 3 layers summed, 2 choices counted: what makes transformers' loss ours when balanced.
        self.assertAlmostEqual(step["arguments"]["router_aux_loss_coef"], 0.01 * 3 / 2)
        mean = peer_shapes.step_of(configuration(moe__aux_loss_layers="mean"))
        self.assertAlmostEqual(mean["arguments"]["router_aux_loss_coef"], 0.01 / 2)
        self.assertNotIn("z_loss_coef", peer_shapes.step_of(configuration(moe=None)))
        with self.assertRaisesRegex(peer_shapes.NoPeerError, "training.global_batch_size: 10"):
            peer_shapes.step_of(configuration(training__global_batch_size=10))


class Settings(unittest.TestCase):
    def test_patterns(self) -> None:
        known = peer_settings.SETTINGS
        self.assertEqual(len(peer_settings.chosen_settings(["eager/bf16/*"], known)), 4)
        with self.assertRaisesRegex(ValueError, "'eager/bf17/\\*'"):
            peer_settings.chosen_settings(["eager/bf16/*", "eager/bf17/*"], known)

    def test_a_part_that_says_nothing_is_left_out(self) -> None:
        settings = ["eager/bf16/eager/sdpa", "eager/bf16/grouped_mm/sdpa", "compile/fp32/eager/eager"]
        routed = peer_settings.jobs_of(peer_shapes.peer_of(configuration()), settings)
        self.assertEqual(list(routed), [f"Mixtral {setting}" for setting in settings])
        dense = peer_settings.jobs_of(peer_shapes.peer_of(configuration(moe=None)), settings)
        self.assertEqual(list(dense), ["Llama eager/bf16/sdpa", "Llama compile/fp32/eager"])
        self.assertEqual(dense["Llama eager/bf16/sdpa"], {"mode": "eager", "precision": "bf16", "attention": "sdpa"})


def finished(*arrivals: tuple[float, str]) -> Finished:
    """A program that printed these."""
    return Finished("".join(text for _, text in arrivals), 9.0, 1000, list(arrivals))


class Generations(unittest.TestCase):
    def test_ids_and_characters(self) -> None:
        tokens = [0, 9, 497]
        characters = json.loads(peer_generation.tokenizer_file(500))["characters"]
        self.assertEqual([characters.index(ord(letter)) for letter in peer_generation.text_of(tokens)], tokens)
        self.assertEqual(peer_generation.tokens_of(peer_generation.text_of(tokens) + "\n"), tokens)
        self.assertEqual(len(characters), 498)

    def test_seconds_of_the_tokens_after_the_warm_up(self) -> None:
        prompt = peer_generation.text_of(PROMPT)
        new = [peer_generation.text_of([token]) for token in (1, 2, 3, 4, 5)]
        # The first token with the prompt, two at once, and a line's end that is none.
        arrivals = [(2.0, prompt + new[0]), (2.5, new[1] + new[2]), (2.75, new[3]), (3.0, new[4]), (7.0, "\n")]
        done = finished(*arrivals)
        generation = peer_generation.generation_of(done, warmup=0)
        self.assertEqual(generation, Generation([1, 2, 3, 4, 5], 4 / 1.0, 2.0, 1000))
        self.assertEqual(peer_generation.generation_of(done, warmup=2).tokens_per_second, 2 / 0.5)

    def test_too_few_tokens(self) -> None:
        done = finished((1.0, peer_generation.text_of([*PROMPT, 1])), (1.5, peer_generation.text_of([2])))
        self.assertEqual(peer_generation.generation_of(done, warmup=1).tokens_per_second, 2.0)
        with self.assertRaisesRegex(ValueError, "too few"):
            peer_generation.generation_of(done, warmup=2)
        with self.assertRaisesRegex(ValueError, "too few"):
            peer_generation.generation_of(finished(), warmup=1)

    def test_equal_tokens(self) -> None:
        self.assertEqual(peer_generation.equal_tokens([1, 2, 3], [1, 2, 3]), "3 of 3")
        self.assertEqual(peer_generation.equal_tokens([1, 5, 3], [1, 2, 3]), "1 of 3")
        self.assertEqual(peer_generation.equal_tokens([1, 2], [1, 2, 3]), "2 of 3")

    def test_pieces_of_what_a_program_prints(self) -> None:
        text = peer_generation.text_of([1, 2])
        script = f"import sys; out = sys.stdout.buffer; word = {text.encode()!r}\n"
        script += "for i in range(len(word)): out.write(word[i:i + 1]); out.flush()\n"
        done = run_measured([Path(sys.executable), "-c", script])
        self.assertEqual(done.stdout, text)
        self.assertEqual([seconds for seconds, _ in done.arrivals], sorted(seconds for seconds, _ in done.arrivals))


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, its rule left out."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "---" not in line]


class Tables(unittest.TestCase):
    def test_steps(self) -> None:
        peer = [Measurement(seconds, 100 / seconds, 2_000_000_000, 9.0, 1_500_000) for seconds in (2.0, 4.0, 2.0)]
        results = {"peer": peer, "switchyard bf16": [Measurement(1.0, 100.0, 500_000_000, 8.5, 1_500_000)]}
        table = rows(speed_table(results, ["switchyard bf16", "switchyard fp32"], "step"))
        self.assertEqual(table[0][:3], ["program", "parameters", "seconds a step"])
        self.assertEqual(table[0][-1], "switchyard bf16 faster by")
        self.assertEqual(table[1], ["peer", "1.50 M", "2.000", "42 ± 14", "50", "2.00 GB", "9.000", "2.00"])
        self.assertEqual(table[2], ["switchyard bf16", "1.50 M", "1.000", "100", "100", "0.50 GB", "8.500", "1.00"])

    def test_trainings_have_no_parameters(self) -> None:
        table = rows(speed_table({"nanoGPT": [Measurement(1.0, 1.0, 1, 1.0)]}, [], "run"))
        self.assertEqual(table[0][:2], ["program", "seconds a run"])

    def test_generations(self) -> None:
        theirs = [Generation([1, 2], 50.0, 4.0, 1_000_000_000), Generation([1, 2], 50.0, 6.0, 1_000_000_000)]
        results = {"peer": theirs, "switchyard fp32": [Generation([1, 3], 200.0, 0.5, 250_000_000)]}
        table = rows(peer_generation.generation_table(results, ["switchyard fp32"]))
        self.assertEqual(table[0][-2:], ["tokens as peer", "switchyard fp32 faster by"])
        self.assertEqual(table[1], ["peer", "20.00", "50 ± 0", "50", "5.00", "1.00 GB", "2 of 2", "4.00"])
        self.assertEqual(table[2], ["switchyard fp32", "5.00", "200", "200", "0.50", "0.25 GB", "1 of 2", "1.00"])


if __name__ == "__main__":
    unittest.main()
