#!/usr/bin/env python3
"""Trains noisy top-k gating under several weights of its two balancing losses: a run shaped like table 6 of Shazeer et
al. 2017, printed as Markdown beside the paper's figures.

  scripts/compare_importance.py --steps 500 --out runs/importance [--config FILE] [key=value ...]

Finished runs in --out are used as they are, interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from lib import comparison, runs
from lib.tables import markdown_table, mean_and_spread

REPOSITORY = Path(__file__).resolve().parents[1]
# (w_importance, w_load), and what the paper has there: test perplexity, CV(importance), CV(load), max / mean load.
SETTINGS: dict[tuple[float, float], tuple[str, ...]] = {
    (0, 0): ("39.8", "3.04", "3.01", "17.80"),
    (0.01, 0): ("-",) * 4,
    (0, 0.01): ("-",) * 4,
    (0.2, 0): ("35.6", "0.06", "0.17", "1.47"),
    (0, 0.2): ("35.7", "0.22", "0.04", "1.15"),
    (0.01, 0.01): ("35.7", "0.48", "0.11", "1.37"),
    (0.1, 0.1): ("35.6", "0.06", "0.05", "1.14"),
    (1, 1): ("35.7", "0.03", "0.02", "1.07"),
}


def variation(events: Sequence[runs.Event], name: str, last: int) -> float:
    """The CV in a logged loss of 1 + CV^2, mean over the last training events."""
    losses = [event[name] for event in runs.of_kind(events, "train")[-last:]]
    return statistics.fmean(max(0.0, loss - 1) ** 0.5 for loss in losses)


def over_layers(events: Sequence[runs.Event], key: str, last: int) -> float:
    """Mean over layers and the last routing events."""
    return statistics.fmean(runs.layer_means(events, key, last).values())


def table(results: comparison.Results, names: dict[tuple[float, float], str], last: int) -> str:
    """A row a setting: means over seeds (± standard deviation where there are several)."""
    rows = []
    for weights, published in SETTINGS.items():
        seeds = list(results[names[weights]].values())
        cells = [
            mean_and_spread([runs.final_eval(events)["perplexity"] for events in seeds], 2),
            *(
                mean_and_spread([variation(events, name, last) for events in seeds], 2)
                for name in ("importance_loss", "load_loss")
            ),
            mean_and_spread([over_layers(events, "max_violation", last) + 1 for events in seeds], 2),
        ]
        rows.append([f"{weights[0]:g}", f"{weights[1]:g}", *cells, *published])
    measures = ["perplexity", "CV(importance)", "CV(load)", "max / mean load"]
    return markdown_table(["w_importance", "w_load", *measures, *(f"paper: {name}" for name in measures)], rows)


def compare(arguments: argparse.Namespace) -> str:
    """Runs everything and renders the answer."""
    names = {weights: f"importance-{weights[0]:g}-load-{weights[1]:g}" for weights in SETTINGS}
    variants = {}
    for (importance, load), name in names.items():
        changes = (f"moe.router.importance_coeff={importance:g}", f"moe.router.load_coeff={load:g}")
        variants[name] = comparison.Variant(arguments.config, changes)
    return table(comparison.run_variants(arguments, variants), names, arguments.last)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    preset = REPOSITORY / "configs/models/shazeer-2017-tiny.yaml"
    parser.add_argument("--config", type=Path, default=preset, help="a config with noisy_top_k; default: %(default)s")
    parser.add_argument("--last", type=int, default=5, help="logged steps at the end that are averaged")
    comparison.add_arguments(parser, seeds=(1,))
    arguments = parser.parse_intermixed_args()
    return comparison.report(lambda: compare(arguments), arguments.write)


if __name__ == "__main__":
    sys.exit(main())
