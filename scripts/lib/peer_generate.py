"""Saves a model of transformers, or generates with a saved one. bench_peers.py runs this file in its own process.

usage: peer_generate.py '{"save": FOLDER, "family": "Mixtral", "arguments": {...}, "seed": 1}'
       peer_generate.py '{"load": FOLDER, "prompt": [5, 7], "new_tokens": 200, "mode": "eager", ...}'
The second prints the prompt and each new token as soon as it is known, a character each: that of code point
first_character + id.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import transformers
from transformers.generation.streamers import BaseStreamer

DTYPES = {"fp32": torch.float32, "bf16-weights": torch.bfloat16}
# Five times the usual: layers then change what the embedding says enough for the text not to repeat itself.
INITIALIZER_RANGE = 0.1


class Characters(BaseStreamer):
    """Prints ids as they come: first the whole prompt, then token by token."""

    def __init__(self, first: int) -> None:
        self.first = first

    def put(self, value: torch.Tensor) -> None:
        """value: integer ids of any shape."""
        print("".join(chr(self.first + token) for token in value.flatten().tolist()), end="", flush=True)

    def end(self) -> None:
        """Nothing is left to be printed."""


def save(job: dict[str, Any]) -> None:
    """Writes a folder with random weights. The last two ids, unknown and end of text, have logit 0: they never win."""
    torch.manual_seed(job["seed"])
    config = getattr(transformers, f"{job['family']}Config")(**job["arguments"], initializer_range=INITIALIZER_RANGE)
    config.bos_token_id, config.eos_token_id = None, config.vocab_size - 1
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.get_output_embeddings().weight[-2:] = 0
    model.save_pretrained(job["save"])


def generate(job: dict[str, Any]) -> None:
    """Greedy, at batch 1, with a cache of keys and values: of fixed size when compiled, since compiling needs that."""
    torch.set_num_threads(job["threads"])
    names = {"attn_implementation": job["attention"]}
    if "experts" in job:
        names["experts_implementation"] = job["experts"]
    model = transformers.AutoModelForCausalLM.from_pretrained(job["load"], dtype=DTYPES[job["precision"]], **names)
    prompt = torch.tensor([job["prompt"]])
    settings: dict[str, Any] = {"do_sample": False, "use_cache": True, "max_new_tokens": job["new_tokens"]}
    if job["mode"] == "compile":
        compiling = transformers.CompileConfig(mode="default")
        compiling._compile_all_devices = True  # without it generate() compiles for accelerators only
        settings |= {"cache_implementation": "static", "compile_config": compiling}
    streamer = Characters(job["first_character"])
    model.generate(prompt, attention_mask=torch.ones_like(prompt), streamer=streamer, **settings)


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    save(task) if "save" in task else generate(task)
