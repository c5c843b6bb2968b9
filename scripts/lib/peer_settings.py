"""The ways of running the peers that can be measured, named MODE/PRECISION/EXPERTS/ATTENTION."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Sequence

from lib.peer_shapes import Peer

MODES = ["eager", "compile", "compile-max"]
PRECISIONS = ["fp32", "bf16", "bf16-weights"]
# transformers' third way, batched_mm, copies the weights of its experts for every token: in training on the reference
# shape, 13 GB a layer.
EXPERTS = ["eager", "grouped_mm"]
ATTENTIONS = ["sdpa", "eager"]


def product(*parts: Sequence[str]) -> list[str]:
    """Every choice of one word of each list, joined by slashes."""
    return ["/".join(words) for words in itertools.product(*parts)]


SETTINGS = product(MODES, PRECISIONS, EXPERTS, ATTENTIONS)
GENERATION_SETTINGS = product(["eager", "compile"], ["fp32", "bf16-weights"], [*EXPERTS, "batched_mm"], ATTENTIONS)


def chosen_settings(patterns: Sequence[str], known: Sequence[str]) -> list[str]:
    """Settings that match any of the patterns; throws ValueError for a pattern that matches none."""
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise ValueError(f"no setting matches '{pattern}'; --list shows them all")
    return [setting for setting in known if any(fnmatch.fnmatchcase(setting, pattern) for pattern in patterns)]


def parts_of(peer: Peer, setting: str) -> dict[str, str]:
    """The parts of a setting that say something about this model."""
    parts = dict(zip(["mode", "precision", "experts", "attention"], setting.split("/")))
    if not peer.has_experts:
        del parts["experts"]
    if peer.family == "nanoGPT":  # it always calls scaled_dot_product_attention
        del parts["attention"]
    return parts


def jobs_of(peer: Peer, settings: Sequence[str]) -> dict[str, dict[str, str]]:
    """Name of a row -> parts of its setting; settings that differ in what doesn't count are one."""
    jobs = {}
    for setting in settings:
        parts = parts_of(peer, setting)
        jobs[f"{peer.family} {'/'.join(parts.values())}"] = parts
    return jobs
