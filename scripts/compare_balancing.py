#!/usr/bin/env python3
"""Trains one MoE configuration with and without the balancing losses and prints the router's balance, as Markdown.

  scripts/compare_balancing.py --config moe.yaml --steps 2000 --out runs/balancing [key=value ...]

"off" has moe.aux_loss_coeff and moe.z_loss_coeff at 0; "on" has moe.aux_loss_coeff at --coeff and the configuration's
own moe.z_loss_coeff. Finished runs in --out are used as they are, interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from lib import comparison, runs
from lib.tables import markdown_table, mean_and_spread

KEYS = {"max_violation": "max-violation", "entropy": "load entropy"}


def balance_table(results: comparison.Results, last: int) -> str:
    """By layer: mean over seeds (± standard deviation) of each measure at the end, without and with balancing."""
    means = {
        (name, key): [runs.layer_means(events, key, last) for events in results[name].values()]
        for name in ("off", "on")
        for key in KEYS
    }
    layers = list(means["off", "entropy"][0])
    if not layers:
        raise runs.RunError("the runs have no routing events: is the configuration one of a MoE?")
    columns = [means[name, key] for key in KEYS for name in ("off", "on")]
    rows = []
    for layer in layers:
        cells = [[by_layer[layer] for by_layer in column] for column in columns]
        rows.append([f"layer {layer}", *(mean_and_spread(values, 3) for values in cells)])
    all_layers = [[statistics.fmean(by_layer.values()) for by_layer in column] for column in columns]
    rows.append(["mean", *(mean_and_spread(values, 3) for values in all_layers)])
    header = [f"{title}, {name}" for title in KEYS.values() for name in ("off", "on")]
    return markdown_table([f"last {last} routing events", *header], rows)


def loss_table(results: comparison.Results) -> str:
    """What balancing costs or brings: the final validation loss."""
    losses = {name: [runs.final_eval(events)["val_loss"] for events in results[name].values()] for name in results}
    rows = [["final validation loss", mean_and_spread(losses["off"], 4), mean_and_spread(losses["on"], 4)]]
    return markdown_table(["nats per token", "off", "on"], rows)


def compare(arguments: argparse.Namespace) -> str:
    """Runs everything and renders the answer."""
    off = ("moe.aux_loss_coeff=0", "moe.z_loss_coeff=0")
    variants = {
        "off": comparison.Variant(arguments.config, off),
        "on": comparison.Variant(arguments.config, (f"moe.aux_loss_coeff={arguments.coeff}",)),
    }
    results = comparison.run_variants(arguments, variants)
    return "\n\n".join([balance_table(results, arguments.last), loss_table(results)])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="configuration with a moe section")
    parser.add_argument("--coeff", type=float, default=0.01, help="moe.aux_loss_coeff of the balanced runs")
    parser.add_argument("--last", type=int, default=5, help="routing events at the end that are averaged")
    comparison.add_arguments(parser, seeds=(1,))
    arguments = parser.parse_intermixed_args()
    return comparison.report(lambda: compare(arguments), arguments.write)


if __name__ == "__main__":
    sys.exit(main())
