#!/usr/bin/env python3
"""Trains a dense and a MoE configuration on equally many tokens and prints what the experts bought, as Markdown.

  scripts/compare_dense_moe.py --dense dense.yaml --moe moe.yaml --steps 2000 --out runs/dense-moe [key=value ...]

The comparison is fair when both have equally many active parameters and see equally many tokens; where they do not,
the answer says so on top. Finished runs in --out are used as they are, interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from lib import comparison, runs
from lib.tables import markdown_table, mean_and_spread

SIZE_TOLERANCE = 0.05


def loss_row(label: str, dense: Sequence[float], moe: Sequence[float]) -> list[str]:
    """One row: both means with their spread over seeds, and the spread of the differences seed by seed."""
    differences = [b - a for a, b in zip(dense, moe)]
    return [label, *(mean_and_spread(values, 4) for values in (dense, moe, differences))]


def loss_table(results: comparison.Results) -> str:
    """Final validation loss by seed, over seeds, and by domain."""
    seeds = list(results["dense"])
    final = {name: [runs.final_eval(results[name][seed]) for seed in seeds] for name in ("dense", "moe")}
    losses = {name: [evaluation["val_loss"] for evaluation in final[name]] for name in final}
    rows = [loss_row(f"seed {seed}", [losses["dense"][i]], [losses["moe"][i]]) for i, seed in enumerate(seeds)]
    rows.append(loss_row("mean ± standard deviation", losses["dense"], losses["moe"]))
    for domain in runs.domain_losses(final["dense"][0]):
        by_domain = [[runs.domain_losses(evaluation)[domain] for evaluation in final[name]] for name in final]
        rows.append(loss_row(f"domain {domain}", *by_domain))
    return markdown_table(["final validation loss (nats per token)", "dense", "MoE", "MoE - dense"], rows)


def token_table(results: comparison.Results) -> str:
    """For each seed: the dense model's final loss, and the tokens after which the MoE was as good."""
    rows, shares = [], []
    for seed, events in results["dense"].items():
        dense = runs.validation_curve(events)
        reached = runs.tokens_to_reach(runs.validation_curve(results["moe"][seed]), runs.final_eval(events)["val_loss"])
        total = dense[-1][0]
        if reached is None:
            rows.append([f"seed {seed}", f"{total:,.0f}", "not reached", ""])
        else:
            shares.append(reached / total)
            rows.append([f"seed {seed}", f"{total:,.0f}", f"{reached:,.0f}", f"{total / reached:.2f}"])
    if len(shares) == len(rows) and len(rows) > 1:
        rows.append(["mean", "", "", f"{1 / statistics.fmean(shares):.2f}"])
    return markdown_table(["to the dense model's final loss", "dense tokens", "MoE tokens", "times fewer"], rows)


def size_notes(results: comparison.Results, active: dict[str, int]) -> list[str]:
    """The sizes compared, and a warning for each way in which the comparison is not fair."""
    notes = [f"Active parameters: dense {active['dense']:,}, MoE {active['moe']:,}."]
    if abs(active["moe"] / active["dense"] - 1) > SIZE_TOLERANCE:
        notes.append(f"**Not equal: they differ by more than {SIZE_TOLERANCE:.0%}.**")
    for seed in results["dense"]:
        tokens = {name: runs.validation_curve(results[name][seed])[-1][0] for name in ("dense", "moe")}
        if tokens["dense"] != tokens["moe"]:
            notes.append(f"**Seed {seed}: dense saw {tokens['dense']:,.0f} tokens, MoE {tokens['moe']:,.0f}.**")
    return notes


def compare(arguments: argparse.Namespace) -> str:
    """Runs everything and renders the answer."""
    variants = {"dense": comparison.Variant(arguments.dense), "moe": comparison.Variant(arguments.moe)}
    active = {
        name: runs.ask(arguments.binary, "inspect", variant.config, arguments.overrides)["active_parameters"]
        for name, variant in variants.items()
    }
    results = comparison.run_variants(arguments, variants)
    return "\n\n".join([" ".join(size_notes(results, active)), loss_table(results), token_table(results)])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dense", type=Path, required=True, help="configuration without a moe section")
    parser.add_argument("--moe", type=Path, required=True, help="configuration with one")
    comparison.add_arguments(parser, seeds=(1, 2, 3))
    arguments = parser.parse_intermixed_args()
    return comparison.report(lambda: compare(arguments), arguments.write)


if __name__ == "__main__":
    sys.exit(main())
