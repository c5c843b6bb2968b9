"""Times generation by Switchyard and by transformers with the same weights, token by token as each program prints."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.peer_shapes import Peer
from lib.processes import Finished, run_measured
from lib.tables import gigabytes, markdown_table, mean_and_spread
from lib.venv import REPOSITORY

WORKER = REPOSITORY / "scripts/lib/peer_generate.py"
# An id of the vocabulary is the character this far on, but for the last two ids, which mean unknown and end of text:
# what a program prints can be read back as ids.
FIRST_CHARACTER = 0x10000
PROMPT = [7, 42, 19, 3]


@dataclass
class Generation:
    """One process that generated a text."""

    tokens: list[int]  # without the prompt
    tokens_per_second: float
    first_token_seconds: float  # from the start of the process, so with loading
    peak_memory_bytes: int


@dataclass(frozen=True)
class Work:
    """What every program is to do; its first `warmup` new tokens are not timed."""

    threads: int
    new_tokens: int
    warmup: int
    environment: dict[str, str]


def tokenizer_file(vocab_size: int) -> str:
    """switchyard-tokenizer.json of that vocabulary."""
    characters = range(FIRST_CHARACTER, FIRST_CHARACTER + vocab_size - 2)
    return json.dumps({"type": "char", "characters": list(characters)})


def text_of(tokens: Sequence[int]) -> str:
    """The text that the tokenizer reads as these ids."""
    return "".join(chr(FIRST_CHARACTER + token) for token in tokens)


def tokens_of(text: str) -> list[int]:
    """The ids of a text; white space is of the program's making."""
    return [ord(character) - FIRST_CHARACTER for character in text if not character.isspace()]


def make_folders(python: Path, program: Path, peer: Peer, seed: int, folder: Path) -> tuple[Path, Path]:
    """The same random weights as a folder of transformers and, by `switchyard import`, as a checkpoint."""
    theirs, ours = folder / "transformers", folder / "checkpoint"
    job = {"save": str(theirs), "family": peer.family, "arguments": peer.arguments, "seed": seed}
    run_measured([python, WORKER, json.dumps(job)])
    (theirs / "switchyard-tokenizer.json").write_text(tokenizer_file(peer.arguments["vocab_size"]), encoding="utf-8")
    run_measured([program, "import", theirs, "--out", ours])
    return theirs, ours


def measure_theirs(python: Path, folder: Path, setting: dict[str, str], work: Work) -> Generation:
    """transformers' generate() in one setting."""
    job = {"load": str(folder), "prompt": PROMPT, "first_character": FIRST_CHARACTER, **setting}
    numbers = {"threads": work.threads, "new_tokens": work.new_tokens}
    return generation_of(run_measured([python, WORKER, json.dumps(job | numbers)], None, work.environment), work.warmup)


def measure_ours(program: Path, checkpoint: Path, precision: str, work: Work) -> Generation:
    """`switchyard generate` of the same prompt."""
    sampling = ["--prompt", text_of(PROMPT), "--temperature", "0", "--max-new-tokens", str(work.new_tokens)]
    overrides = [f"training.precision={precision}", f"training.num_threads={work.threads}"]
    command = [program, "generate", checkpoint, *sampling, *overrides]
    return generation_of(run_measured(command, None, work.environment), work.warmup)


def generation_of(done: Finished, warmup: int) -> Generation:
    """What a program that printed prompt and new tokens did. Its first `warmup` tokens are not timed.

    Throws ValueError when it printed too little for that.
    """
    printed = 0
    counts = []  # new tokens so far, and when
    for seconds, text in done.arrivals:
        printed += len(tokens_of(text))
        counts.append((printed - len(PROMPT), seconds))
    begun = [(count, seconds) for count, seconds in counts if count >= max(1, warmup)]
    if not begun or begun[0][0] == begun[-1][0]:
        raise ValueError(f"{printed} tokens were printed, prompt included: too few to be timed")
    (first, begin), (last, end) = begun[0], next(pair for pair in begun if pair[0] == begun[-1][0])
    first_token = next(seconds for count, seconds in counts if count > 0)
    speed = (last - first) / (end - begin)
    return Generation(tokens_of(done.stdout)[len(PROMPT) :], speed, first_token, done.peak_memory_bytes)


def equal_tokens(tokens: Sequence[int], reference: Sequence[int]) -> str:
    """How many tokens from the beginning on are the same, as "12 of 200"."""
    pairs = zip(tokens, reference)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(reference)))
    return f"{same} of {len(reference)}"


def generation_table(results: dict[str, list[Generation]], ours: Sequence[str]) -> str:
    """One row a program, with how much faster each of `ours` is, and tokens compared with the first program's."""

    def median(name: str, key: str) -> float:
        return statistics.median(getattr(found, key) for found in results[name])

    ours = [name for name in ours if name in results]
    reference = next(iter(results))
    rows = []
    for name, found in results.items():
        speeds = [generation.tokens_per_second for generation in found]
        rows.append([
            name,
            f"{1000 / median(name, 'tokens_per_second'):.2f}",
            mean_and_spread(speeds, 0),
            f"{median(name, 'tokens_per_second'):,.0f}",
            f"{median(name, 'first_token_seconds'):.2f}",
            gigabytes(max(generation.peak_memory_bytes for generation in found)),
            equal_tokens(found[0].tokens, results[reference][0].tokens),
            *(f"{median(our, 'tokens_per_second') / median(name, 'tokens_per_second'):.2f}" for our in ours),
        ])  # fmt: skip
    header = ["program", "ms a token", "tokens/s, mean", "median", "start to first token, s", "peak memory"]
    same = f"tokens as {reference}"
    return markdown_table([*header, same, *(f"{our} faster by" for our in ours)], rows)
