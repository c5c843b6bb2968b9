"""Which model of another program has the shape of one of our configurations, and with which arguments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.processes import run_measured

# What no peer has, or has in another form: key -> the value that a configuration must have there.
ALIKE = {
    "model.post_norm": False,
    "model.qk_norm": "none",
    "model.latent_attention": None,
    "model.sliding_window": None,
    "model.attention_softcap": None,
    "model.logit_softcap": None,
    "model.embedding_scale": 1,
    "model.logit_scale": 1,
    "model.dropout": 0,
    "mixture_of_depths": None,
}
GATED = {
    "model.activation": "swiglu",
    "model.normalization": "rms_norm",
    "model.position_embedding": "rotary",
    "model.bias": False,
}
ROUTED = {
    "moe.layer_freq": 1,
    "moe.first_k_dense": 0,
    "moe.dense_residual": False,
    "moe.capacity_factor": None,
    "moe.router.type": "top_k",
    "moe.router.score": "softmax",
    "moe.router.normalize": True,
    "moe.router.jitter": 0,
    "moe.router.scale": 1,
    "moe.router.num_groups": 1,
    "moe.router.expert_bias": False,
    "moe.router.second_expert": "always",
    "moe.router.null_experts": 0,
}
GPT2 = {
    "model.activation": "gelu",
    "model.normalization": "layer_norm",
    "model.position_embedding": "learned",
    "model.bias": True,
    "model.tie_word_embeddings": True,
    "moe": None,
}


class NoPeerError(ValueError):
    """A configuration that no peer can be given the shape of; the message names the key."""


@dataclass(frozen=True)
class Peer:
    """A model of another program: of transformers, `arguments` of FAMILYConfig; of nanoGPT, of its GPTConfig."""

    family: str
    arguments: dict[str, Any]
    differs: tuple[str, ...] = ()  # from ours, in sentences

    @property
    def has_experts(self) -> bool:
        """Whether it is a mixture of experts."""
        return "num_experts_per_tok" in self.arguments


def resolved(program: Path, python: Path, config: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """What `switchyard config` says of a configuration; read by `python`, which has a YAML reader.

    Throws ProcessError when the program refuses the configuration.
    """
    text = run_measured([program, "config", config, *overrides]).stdout
    convert = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.argv[1])))"
    return json.loads(run_measured([python, "-c", convert, text]).stdout)


def value_at(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key; None below a section that is null."""
    found: Any = config
    for part in key.split("."):
        found = None if found is None else found[part]
    return found


def require(config: dict[str, Any], wanted: dict[str, Any], why: str) -> None:
    """Throws NoPeerError for the first key that has another value than `wanted`."""
    for key, value in wanted.items():
        if value_at(config, key) != value:
            raise NoPeerError(f"no peer for {key}: {value_at(config, key)}; {why} {value}")


def peer_of(config: dict[str, Any]) -> Peer:
    """The model of transformers with the shape of a resolved configuration; throws NoPeerError where there is none."""
    require(config, ALIKE, "the models of transformers that are measured have")
    model, moe = config["model"], config["moe"]
    if model["position_embedding"] == "learned":
        return gpt2_of(config)
    require(config, GATED, "Llama and its kin have")
    arguments = gated_arguments(config)
    if moe is None:
        return Peer("Llama", arguments | {"intermediate_size": model["intermediate_size"]})
    require(config, ROUTED, "Mixtral and Qwen2-MoE have")
    arguments["num_experts_per_tok"] = moe["top_k"]
    single = "With top_k 1 it weighs the chosen expert by 1, ours by its probability."
    differs = (single,) if moe["top_k"] == 1 else ()
    if moe["num_shared_experts"] == 0:
        own = {"num_local_experts": moe["num_experts"], "intermediate_size": moe["intermediate_size"]}
        return Peer("Mixtral", arguments | own, differs)
    own = {
        "num_experts": moe["num_experts"],
        "moe_intermediate_size": moe["intermediate_size"],
        "shared_expert_intermediate_size": moe["num_shared_experts"] * moe["intermediate_size"],
        "norm_topk_prob": True,
        "qkv_bias": False,
    }
    gate = "It gates the shared experts' output by a sigmoid of one more product, hidden_size x 1 a layer."
    return Peer("Qwen2Moe", arguments | own, (*differs, gate))


def gated_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """What LlamaConfig, MixtralConfig and Qwen2MoeConfig have in common."""
    model = config["model"]
    return {
        "vocab_size": model["vocab_size"],
        "hidden_size": model["hidden_size"],
        "num_hidden_layers": model["num_layers"],
        "num_attention_heads": model["num_attention_heads"],
        "num_key_value_heads": model["num_key_value_heads"],
        "head_dim": model["head_dim"],
        "max_position_embeddings": config["training"]["seq_length"],
        "tie_word_embeddings": model["tie_word_embeddings"],
        "rms_norm_eps": model["norm_eps"],
        "rope_parameters": {"rope_type": "default", "rope_theta": model["rope_theta"]},
    }


def gpt2_of(config: dict[str, Any]) -> Peer:
    """transformers' GPT-2; throws NoPeerError for another model with learned positions."""
    require(config, GPT2 | own_heads(config["model"]), "GPT-2 has")
    model = config["model"]
    return Peer("GPT2", {
        "vocab_size": model["vocab_size"],
        "n_positions": config["training"]["seq_length"],
        "n_embd": model["hidden_size"],
        "n_layer": model["num_layers"],
        "n_head": model["num_attention_heads"],
        "n_inner": model["intermediate_size"],
        "layer_norm_epsilon": model["norm_eps"],
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "attn_pdrop": 0.0,
    })  # fmt: skip


def own_heads(model: dict[str, Any]) -> dict[str, Any]:
    """Multi-head attention whose heads share out the hidden size."""
    heads = model["num_attention_heads"]
    return {"model.num_key_value_heads": heads, "model.head_dim": model["hidden_size"] // heads}


def nanogpt_of(config: dict[str, Any]) -> Peer:
    """nanoGPT's model; throws NoPeerError where a configuration isn't a GPT-2 as it builds them."""
    model = config["model"]
    require(config, ALIKE | GPT2 | own_heads(model), "nanoGPT has")
    require(config, {"model.intermediate_size": 4 * model["hidden_size"], "model.norm_eps": 1e-5}, "nanoGPT has")
    arguments = {
        "block_size": config["training"]["seq_length"],
        "vocab_size": model["vocab_size"],
        "n_layer": model["num_layers"],
        "n_head": model["num_attention_heads"],
        "n_embd": model["hidden_size"],
        "dropout": 0.0,
        "bias": True,
    }
    return Peer("nanoGPT", arguments, ("Its GELU is the exact one, ours and GPT-2's the tanh form.",))


def step_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a training step is besides the model, in transformers' units (docs/huggingface.md, "Load balancing")."""
    training, moe = config["training"], config["moe"]
    require(config, {"training.global_batch_size": training["micro_batch_size"]}, "a step of the peers is one batch of")
    work = {
        "sequences": training["micro_batch_size"],
        "length": training["seq_length"],
        "vocab_size": config["model"]["vocab_size"],
        "lr": config["optimizer"]["lr"],
        "weight_decay": config["optimizer"]["weight_decay"],
        "betas": [config["optimizer"]["beta1"], config["optimizer"]["beta2"]],
        "grad_clip": config["optimizer"]["grad_clip"],
        "arguments": {},  # of the peer's configuration, for this work only
    }
    if moe is not None:
        layers = config["model"]["num_layers"] if moe["aux_loss_layers"] == "sum" else 1
        coefficient = moe["aux_loss_coeff"] * layers / moe["top_k"]
        work["arguments"] = {"output_router_logits": True, "router_aux_loss_coef": coefficient}
        work["z_loss_coef"] = moe["z_loss_coeff"]
    return work
