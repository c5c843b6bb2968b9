"""export and import against transformers: the same weights give the same logits, losses and gradients, and come back bit
for bit.

Runs in .venv-test (scripts/setup.sh --dev), which it starts by itself; without it the test is skipped. probe_model, in the
environment variable PROBE_MODEL, computes what the program makes of a checkpoint.
"""

import copy
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import setup_test_python  # noqa: E402

setup_test_python.enter(__file__)

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from support import HANG_SECONDS, ProgramTest  # noqa: E402
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func  # noqa: E402

PROBE = os.environ["PROBE_MODEL"]
AUX_LOSS_COEFF = 0.3
EXPERTS_IMPLEMENTATION = "eager"  # the default one wants widths in multiples of 16 bytes
VOCABULARY = 261  # the byte tokenizer's 257 and some unused
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": None,
}
LATENT = {
    "kv_lora_rank": 10,  # even: transformers views pairs of the joint rows as complex numbers
    "qk_rope_head_dim": 6,
    "qk_nope_head_dim": 8,
    "v_head_dim": 7,
    "intermediate_size": 22,
    "moe_intermediate_size": 5,
    "n_routed_experts": 6,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
}
HEADS = {"num_key_value_heads": 2, "head_dim": 10}
EXPERTS = {"num_experts_per_tok": 2, "router_aux_loss_coef": 0.02}

# Name -> transformers' class, its configuration. No two sizes are equal, and no matrix is square where the family allows.
PEERS = {
    "llama": (
        transformers.LlamaForCausalLM,
        {**COMMON, **HEADS, "intermediate_size": 20, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ),
    "llama_tied_with_biases": (
        transformers.LlamaForCausalLM,
        {**COMMON, **HEADS, "intermediate_size": 20, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "llama_geglu": (
        transformers.LlamaForCausalLM,
        {**COMMON, **HEADS, "intermediate_size": 20, "hidden_act": "gelu_pytorch_tanh"},
    ),
    "mixtral": (
        transformers.MixtralForCausalLM,
        {**COMMON, **HEADS, **EXPERTS, "intermediate_size": 14, "num_local_experts": 5},
    ),
    "mixtral_sliding_window": (
        transformers.MixtralForCausalLM,
        {**COMMON, **HEADS, **EXPERTS, "intermediate_size": 14, "num_local_experts": 5, "sliding_window": 4},
    ),
    "qwen3_moe": (
        transformers.Qwen3MoeForCausalLM,
        {
            **COMMON,
            **HEADS,
            **EXPERTS,
            "intermediate_size": 20,
            "moe_intermediate_size": 5,
            "num_experts": 6,
            "mlp_only_layers": [0],
            "norm_topk_prob": True,
        },
    ),
    "qwen3_moe_one_layer_of_experts": (
        transformers.Qwen3MoeForCausalLM,
        {
            **COMMON,
            **HEADS,
            **EXPERTS,
            "intermediate_size": 20,
            "moe_intermediate_size": 5,
            "num_experts": 6,
            "decoder_sparse_step": 2,
            "norm_topk_prob": False,
        },
    ),
    "olmoe": (
        transformers.OlmoeForCausalLM,
        {**COMMON, **EXPERTS, "num_key_value_heads": 2, "intermediate_size": 7, "num_experts": 5},
    ),
    "deepseek_v2": (
        transformers.DeepseekV2ForCausalLM,
        {**COMMON, **LATENT, "q_lora_rank": 11, "n_group": 3, "topk_group": 2, "topk_method": "group_limited_greedy"},
    ),
    "deepseek_v2_lite": (transformers.DeepseekV2ForCausalLM, {**COMMON, **LATENT, "q_lora_rank": None}),
    "deepseek_v3": (
        transformers.DeepseekV3ForCausalLM,
        {**COMMON, **LATENT, "num_key_value_heads": 4, "q_lora_rank": 11, "n_group": 3, "topk_group": 2},
    ),
    "gpt2": (
        transformers.GPT2LMHeadModel,
        {
            "vocab_size": VOCABULARY,
            "n_positions": 40,
            "n_embd": 24,
            "n_layer": 3,
            "n_head": 4,
            "n_inner": 20,
            "bos_token_id": 256,
            "eos_token_id": 256,
        },
    ),
}
# transformers' load-balancing loss is of a plain softmax over all experts.
WITH_AUX_LOSS = [name for name in PEERS if name.startswith(("mixtral", "qwen3", "olmoe"))]

# What makes a run of the program a member of a family, over SHAPE.
SHAPE = {
    "model": {"hidden_size": 24, "num_layers": 3, "num_attention_heads": 4, "intermediate_size": 22, "init_std": 0.3},
    "training": {"max_steps": 3, "seq_length": 16},
}
OWN_LATENT = {
    "latent_attention": {"kv_lora_rank": 10, "q_lora_rank": 11, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 7},
    "norm_eps": 1e-6,
}
OWN_EXPERTS = {"num_experts": 6, "top_k": 3, "intermediate_size": 5}
OWN_SHARED = {**OWN_EXPERTS, "num_shared_experts": 2, "first_k_dense": 1}
OWN = {
    "llama": ({"num_key_value_heads": 2, "head_dim": 10}, None),
    "mixtral": ({"num_key_value_heads": 2, "head_dim": 10, "tie_word_embeddings": False}, OWN_EXPERTS),
    "qwen3_moe": ({"num_key_value_heads": 2, "head_dim": 10, "qk_norm": "head"}, {**OWN_EXPERTS, "layer_freq": [1, 0, 1]}),
    "olmoe": (
        {"num_key_value_heads": 2, "qk_norm": "full"},
        {**OWN_EXPERTS, "router": {"type": "top_k", "normalize": False}},
    ),
    "deepseek_v2": (
        OWN_LATENT,
        {**OWN_SHARED, "router": {"type": "top_k", "normalize": False, "num_groups": 3, "top_groups": 2, "scale": 1.5}},
    ),
    "deepseek_v3": (
        OWN_LATENT,
        {
            **OWN_SHARED,
            "router": {
                "type": "top_k",
                "score": "sigmoid",
                "expert_bias": True,
                "bias_rate": 0.05,
                "num_groups": 3,
                "top_groups": 2,
                "group_score": "top_two_sum",
                "scale": 1.5,
            },
        },
    ),
    "gpt2": (
        {"normalization": "layer_norm", "position_embedding": "learned", "bias": True, "activation": "gelu"},
        None,
    ),
}


def random_peer(name, seed=1):
    """A model of transformers in which no value is what initialisation would give."""
    kind, settings = PEERS[name]
    torch.manual_seed(seed)
    model = kind(kind.config_class(**settings, experts_implementation=EXPERTS_IMPLEMENTATION))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            if value.dim() == 1 and "norm" in key or ".ln_" in key and key.endswith("weight"):
                value.copy_(1 + 0.3 * torch.randn_like(value))
            elif "gate.weight" in key:
                value.copy_(torch.randn_like(value))
            else:
                value.copy_(0.25 * torch.randn_like(value))
    return model.eval()


def loaded(folder):
    """The folder as transformers loads it; every tensor must be used, and none made up."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, local_files_only=True, experts_implementation=EXPERTS_IMPLEMENTATION
    )
    problems = {key: value for key, value in report.items() if value}
    if problems:
        raise AssertionError(f"{folder}: {problems}")
    return model.eval()


def reference(model, tokens, coefficient):
    """What transformers computes, in the form of probe_model's result without the gradients, which the model gets."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    with_router = coefficient > 0
    output = model(input_ids=inputs, **({"output_router_logits": True} if with_router else {}))
    lm = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), targets.flatten())
    aux = torch.zeros(())
    if with_router:
        experts, top_k = output.router_logits[0].shape[-1], model.config.num_experts_per_tok
        # One layer at a time, over top_k: 1 at perfect balance (docs/huggingface.md).
        for logits in output.router_logits:
            aux = aux + load_balancing_loss_func((logits,), experts, top_k) / top_k
    loss = lm + coefficient * aux
    model.zero_grad()
    loss.backward()
    return {"logits": output.logits, "lm_loss": lm, "aux_loss": aux, "loss": loss}, output


def gradients_of(model, folder):
    """The gradients, named and cut as transformers writes parameters to disk."""
    shadow = copy.deepcopy(model)
    with torch.no_grad():
        for (name, target), (_, source) in zip(shadow.named_parameters(), model.named_parameters()):
            target.copy_(torch.zeros_like(source) if source.grad is None else source.grad)
    shadow.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


class HuggingFace(ProgramTest):
    def setUp(self):
        super().setUp()
        generator = torch.Generator().manual_seed(3)
        self.tokens = torch.randint(0, VOCABULARY, (3, 14), generator=generator)

    def probe(self, checkpoint, tokens, *overrides):
        save_file({"tokens": tokens.contiguous()}, self.folder / "tokens.safetensors")
        done = subprocess.run(
            [PROBE, checkpoint, "tokens.safetensors", "probe.safetensors", "training.num_threads=1", *overrides],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return load_file(self.folder / "probe.safetensors")

    def assert_close(self, found, wanted, limit, what):
        self.assertEqual(found.shape, wanted.shape, what)
        self.assertLess((found - wanted).abs().max().item(), limit, what)

    def assert_same_tensors(self, folder, other):
        ours, theirs = (load_file(self.folder / each / "model.safetensors") for each in (folder, other))
        self.assertEqual(ours.keys(), theirs.keys())
        for name, value in theirs.items():
            self.assertTrue(torch.equal(ours[name], value), name)

    def assert_same_model(self, model, found, tokens, coefficient=0.0):
        """Logits, losses and gradients of a transformers model are what probe_model found."""
        wanted, output = reference(model, tokens, coefficient)
        self.assertGreater(wanted["logits"].std().item(), 0.1)
        if coefficient == 0:
            del wanted["aux_loss"]
        for name, value in wanted.items():
            self.assert_close(found[name], value.detach(), 1e-4, name)
        gradients = gradients_of(model, self.folder / "gradients")
        for name in [name for name in gradients if name.endswith("e_score_correction_bias")]:
            del gradients[name]  # a buffer
        self.assertEqual({f"gradient.{name}" for name in gradients}, {n for n in found if n.startswith("gradient.")})
        for name, value in gradients.items():
            size = value.abs().max().item()
            self.assert_close(found[f"gradient.{name}"], value, 1e-6 + 2e-4 * size, f"gradient of {name}")
        return output


class FromTransformers(HuggingFace):
    """A folder of transformers' making -> import -> the same numbers -> export -> the same bits."""

    def check(self, name):
        model = random_peer(name)
        model.save_pretrained(self.folder / "theirs")
        self.switchyard("import", "theirs", "--tokenizer", "byte", "--out", "imported")
        coefficient = AUX_LOSS_COEFF if name in WITH_AUX_LOSS else 0.0
        overrides = []
        if "num_experts_per_tok" in PEERS[name][1]:
            overrides = [f"moe.aux_loss_coeff={coefficient}", "moe.aux_loss_layers=sum"]  # as in reference()
        found = self.probe("imported", self.tokens, *overrides)
        output = self.assert_same_model(model, found, self.tokens, coefficient)
        if coefficient > 0 and len(output.router_logits) == 1:
            # With one layer of experts transformers' own loss is top_k times ours.
            self.assert_close(output.aux_loss / model.config.num_experts_per_tok, found["aux_loss"], 1e-5, "aux_loss")
        self.switchyard("export", "imported", "--format", "hf", "--out", "back")
        self.assert_same_tensors("back", "theirs")
        again = loaded(self.folder / "back")
        with torch.no_grad():
            inputs = self.tokens[:, :-1]
            self.assertTrue(torch.equal(again(input_ids=inputs).logits, model(input_ids=inputs).logits))
        if name in WITH_AUX_LOSS:
            self.assertAlmostEqual(again.config.router_aux_loss_coef, model.config.router_aux_loss_coef)
        # And what was exported is imported as what it was.
        self.switchyard("import", "back", "--out", "again")
        self.assert_same_tensors("again", "imported")


class FromRuns(HuggingFace):
    """A trained checkpoint -> export -> the same numbers in transformers -> import -> the same bits."""

    def check(self, family):
        model, moe = OWN[family]
        self.prepare_tiny(
            model={**SHAPE["model"], **model}, moe=moe, training=SHAPE["training"], data={"tokenizer": "byte"}
        )
        self.train("run")
        done = self.switchyard("export", "run", "--format", "hf", "--out", "hf")
        self.assertIn(loaded(self.folder / "hf").config.architectures[0], done.stdout)
        tokens = self.tokens % 257
        overrides = ["moe.aux_loss_coeff=0"] if moe else []
        self.assert_same_model(loaded(self.folder / "hf"), self.probe("run", tokens, *overrides), tokens)
        self.switchyard("import", "hf", "--out", "imported")
        ours, theirs = (load_file(path / "model.safetensors") for path in (self.folder / "imported", self.newest("run")))
        self.assertEqual(ours.keys(), theirs.keys())
        for name, value in theirs.items():
            self.assertTrue(torch.equal(ours[name], value), name)


# The small presets of the families.
PRESETS = {
    "llama2-7b": "LlamaForCausalLM",
    "mixtral-8x7b": "MixtralForCausalLM",
    "qwen3-30b-a3b": "Qwen3MoeForCausalLM",
    "olmoe-1b-7b": "OlmoeForCausalLM",
    "deepseek-v2": "DeepseekV2ForCausalLM",
    "deepseek-v3": "DeepseekV3ForCausalLM",
    "gpt2-124m": "GPT2LMHeadModel",
}


class FromPresets(HuggingFace):
    """What a preset trains can be exported as the model that it is named after."""

    def check(self, name):
        self.prepare_tiny()
        changes = {
            "run": {"dir": "run"},
            "model": {"vocab_size": 300},
            "data": {
                "tokenizer": "byte",
                "cache_dir": "shards",
                "sources": [{"name": "words", "files": ["texts/*.txt"]}],
            },
            "training": {
                "max_steps": 1,
                "seq_length": 16,
                "micro_batch_size": 1,
                "global_batch_size": 1,
                "precision": "fp32",
                "num_threads": 1,
            },
            "eval": {"batches": 1},
        }
        preset = REPOSITORY / "configs" / "models" / f"{name}-tiny.yaml"
        (self.folder / "small.yaml").write_text(json.dumps({"extends": str(preset), **changes}))
        self.switchyard("train", "small.yaml")
        self.switchyard("export", "run", "--format", "hf", "--out", "hf")
        model = loaded(self.folder / "hf")
        self.assertEqual(type(model).__name__, PRESETS[name])
        found = json.loads(self.switchyard("inspect", "run", "--json").stdout)
        self.assertEqual(sum(value.numel() for value in model.parameters()), found["total_parameters"])


def add_tests(case, names):
    for name in names:
        setattr(case, f"test_{name.replace('-', '_')}", lambda self, name=name: self.check(name))


add_tests(FromTransformers, PEERS)
add_tests(FromRuns, OWN)
add_tests(FromPresets, PRESETS)


class Commands(HuggingFace):
    def setUp(self):
        super().setUp()
        self.prepare_tiny(training={"max_steps": 2})
        self.write_config("wide.yaml", data={"tokenizer": "byte"}, training={"max_steps": 2})

    def imported(self):
        random_peer("mixtral").save_pretrained(self.folder / "theirs")
        self.switchyard("import", "theirs", "--tokenizer", "byte", "--out", "imported")

    def test_an_imported_checkpoint_is_one_like_any_other(self):
        self.imported()
        found = json.loads(self.switchyard("inspect", "imported", "--json").stdout)
        wanted = sum(value.numel() for value in random_peer("mixtral").parameters())
        self.assertEqual(found["total_parameters"], wanted)
        text = self.switchyard("generate", "imported", "--prompt", "abc", "--max-new-tokens", "5").stdout
        self.assertTrue(text.startswith("abc"))
        source = self.folder / "texts" / "*.txt"
        sources = f'data.sources=[{{name: words, files: ["{source}"]}}]'
        before = json.loads(self.switchyard("eval", "imported", sources, "eval.batches=2", "--json").stdout)
        self.assertEqual(before["step"], 0)
        # Training goes on from its weights.
        (self.folder / "tune.yaml").write_text(
            "extends: imported/config.yaml\n"
            "run: {dir: tuned}\n"
            'data: {cache_dir: shards, sources: [{name: words, files: ["texts/*.txt"]}]}\n'
            "training: {max_steps: 20, num_threads: 1, log_interval: 1}\n"
            "eval: {batches: 2, interval: 0}\n"
            "optimizer: {lr: 0.01}\n"
        )
        self.switchyard("train", "tune.yaml", "--from", "imported")
        after = self.lines("tuned", "eval")[-1]["val_loss"]
        self.assertLess(after, before["val_loss"] - 0.5)
        self.assertIn("another architecture", self.train("other", "--from", "imported", expect=2).stderr)
        self.assertFalse((self.folder / "other").exists())
        self.assertIn("exists already", self.switchyard("import", "theirs", "--tokenizer", "byte", "--out", "imported",
                                                        expect=1).stderr)  # fmt: skip

    def test_tokenizers_come_along(self):
        for kind in ("byte", "char"):
            with self.subTest(kind):
                self.train(kind, f"data.tokenizer={kind}", "model.tie_word_embeddings=false")
                self.switchyard("export", kind, "--out", f"hf-{kind}")
                tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder / f"hf-{kind}")
                characters = sorted(set("".join(path.read_text() for path in (self.folder / "texts").iterdir())))
                text = "abc cab\n bad"
                wanted = list(text.encode()) if kind == "byte" else [characters.index(c) for c in text]
                self.assertEqual(tokenizer(text)["input_ids"], wanted)
                self.assertEqual(tokenizer.decode(wanted), text)
                self.assertEqual(tokenizer.eos_token_id, 256 if kind == "byte" else len(characters) + 1)
                self.switchyard("import", f"hf-{kind}", "--out", f"back-{kind}")
                ours, theirs = (
                    json.loads((folder / "tokenizer.json").read_text())
                    for folder in (self.folder / f"back-{kind}", self.newest(kind))
                )
                self.assertEqual(ours, theirs)
        self.train("pieces", "data.tokenizer=sentencepiece", "model.vocab_size=280")
        self.switchyard("export", "pieces", "--out", "hf-pieces")
        self.switchyard("import", "hf-pieces", "--out", "moved/back-pieces")
        (self.folder / "hf-pieces").rename(self.folder / "elsewhere")
        wanted = self.switchyard("generate", "pieces", "--prompt", "abc", "--seed", "3").stdout
        self.assertEqual(self.switchyard("generate", "moved/back-pieces", "--prompt", "abc", "--seed", "3").stdout, wanted)

    def test_what_does_not_work_is_said(self):
        self.train("run", "moe.num_shared_experts=1")
        done = self.switchyard("export", "run", "--format", "hf", "--out", "hf", expect=2)
        self.assertIn("moe.num_shared_experts", done.stderr)
        self.assertIn("--format", self.switchyard("export", "run", "--format", "onnx", "--out", "hf", expect=2).stderr)
        self.assertIn("--family", self.switchyard("export", "run", "--family", "bert", "--out", "hf", expect=2).stderr)
        done = self.switchyard("export", "run", "--family", "gpt2", "--out", "hf", expect=2)
        self.assertIn("model.position_embedding", done.stderr)
        self.assertFalse((self.folder / "hf").exists())
        self.imported()
        done = self.switchyard("import", "theirs", "--out", "other", expect=2)
        self.assertIn("--tokenizer", done.stderr)
        (self.folder / "theirs" / "config.json").write_text("{")
        done = self.switchyard("import", "theirs", "--tokenizer", "byte", "--out", "other", expect=1)
        self.assertIn("config.json", done.stderr)
        self.assertFalse((self.folder / "other").exists())


if __name__ == "__main__":
    unittest.main()
