"""Times the training step of another program's model on the CPU. bench_peers.py runs this file in its own process.

usage: peer_step.py '{"family": "Mixtral", "arguments": {...}, "step": {...}, "mode": "compile", ...}'
Prints one JSON line: step_seconds (one number a timed step), losses (one a step), parameters, peak_memory_bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import transformers

COMPILE_MODES = {"compile": None, "compile-max": "max-autotune-no-cudagraphs"}


def build_transformers(job: dict[str, Any], **more: Any) -> transformers.PreTrainedModel:
    """The causal language model of FAMILYConfig with the job's arguments and `more`; random float32 weights."""
    names = {"attn_implementation": job["attention"]}
    if "experts" in job:
        names["experts_implementation"] = job["experts"]
    config = getattr(transformers, f"{job['family']}Config")(**job["arguments"], **names, **more)
    return transformers.AutoModelForCausalLM.from_config(config)


def build_nanogpt(job: dict[str, Any]) -> torch.nn.Module:
    """The model of a checkout of nanoGPT, with random float32 weights."""
    sys.path.insert(0, job["checkout"])
    from model import GPT, GPTConfig

    return GPT(GPTConfig(**job["arguments"]))


def build_model(job: dict[str, Any]) -> torch.nn.Module:
    """The model to be trained; parameters are bfloat16 for precision "bf16-weights", else float32."""
    if job["family"] == "nanoGPT":
        model = build_nanogpt(job)
    else:
        model = build_transformers(job, use_cache=False, **job["step"]["arguments"])
    if job["precision"] == "bf16-weights":
        model = model.to(torch.bfloat16)
    return model.train()


def make_loss(model: torch.nn.Module, job: dict[str, Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    """tokens [B, S] -> language-model loss; with experts, + transformers' balancing loss + z-loss (ST-MoE)."""

    def nanogpt_loss(tokens: torch.Tensor) -> torch.Tensor:
        return model(tokens, tokens.roll(-1, 1))[1]

    def dense_loss(tokens: torch.Tensor) -> torch.Tensor:
        return model(input_ids=tokens, labels=tokens).loss

    def routed_loss(tokens: torch.Tensor) -> torch.Tensor:
        output = model(input_ids=tokens, labels=tokens, output_router_logits=True)
        z_losses = [logits.float().logsumexp(dim=-1).square().mean() for logits in output.router_logits]
        return output.loss + job["step"]["z_loss_coef"] * torch.stack(z_losses).sum()

    if job["family"] == "nanoGPT":
        return nanogpt_loss
    return routed_loss if "experts" in job else dense_loss


def make_optimizer(model: torch.nn.Module, step: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW, in its fused form where this build of torch has one for the CPU."""
    settings = {"lr": step["lr"], "weight_decay": step["weight_decay"], "betas": tuple(step["betas"])}
    try:
        return torch.optim.AdamW(model.parameters(), fused=True, **settings)
    except RuntimeError:
        return torch.optim.AdamW(model.parameters(), foreach=True, **settings)


def autocast(precision: str) -> AbstractContextManager[Any]:
    """bfloat16 compute over float32 weights for precision "bf16"."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Warms up, then times `steps` training steps on fresh random tokens."""
    torch.manual_seed(job["seed"])
    torch.set_num_threads(job["threads"])
    step = job["step"]
    model = build_model(job)
    optimizer = make_optimizer(model, step)
    loss_of = make_loss(model, job)
    if job["mode"] != "eager":
        loss_of = torch.compile(loss_of, mode=COMPILE_MODES[job["mode"]])
    seconds, losses = [], []
    for _ in range(job["warmup"] + job["steps"]):
        begin = time.perf_counter()
        tokens = torch.randint(step["vocab_size"], (step["sequences"], step["length"]))
        with autocast(job["precision"]):
            loss = loss_of(tokens)
        loss.backward()
        if step["grad_clip"] > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), step["grad_clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    return {
        "step_seconds": seconds[job["warmup"] :],
        "warmup_seconds": sum(seconds[: job["warmup"]]),
        "losses": losses,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens_per_step": step["sequences"] * step["length"],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
