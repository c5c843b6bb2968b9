#!/usr/bin/env python3
"""Trains the -tiny presets on equally many tokens, at equal FLOP a token; tabulates losses and routing, as Markdown.

  scripts/compare_routers.py --steps 1500 --out runs/routers [key=value ...]       trains what is not there, tabulates
  scripts/compare_routers.py --steps 1500 --out runs/routers --finished            tabulates the finished runs
  scripts/compare_routers.py --steps 1500 --out runs/routers --finished --bench 3  measures tokens/s before, in 3 turns

Presets of one seed run before those of the next, so that a part of the runs is a comparison too. Finished runs in --out
are used as they are, interrupted ones are resumed. Warm-up is shortened (stretched) with --steps, as the presets have
it. --out also gets routers.csv, one line a run.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib import comparison, runs
from lib.tables import markdown_table, mean_and_spread

REPOSITORY = Path(__file__).resolve().parents[1]
ENDING = "-tiny"
PRESET_STEPS, PRESET_WARMUP = 1500, 100  # training.max_steps and schedule.warmup_steps of configs/models/tiny.yaml
FLOP_TOLERANCE = 0.05
LATER_TOKENS = "looks at later tokens"  # what the program warns of in log.txt
ROUTING = {"max_violation": "max-violation", "entropy": "entropy", "dropped_fraction": "dropped",
           "experts_per_token": "experts a token", "dead_experts": "dead experts"}  # fmt: skip

Row = dict[str, "str | float"]


def mean_over_layers(events: Sequence[runs.Event], key: str, last: int) -> float:
    """Mean of `key` over layers and the last events of each; for dead_experts the sum over layers at the end."""
    if key == "dead_experts":
        return sum(runs.layer_means(events, key, 1).values())
    return statistics.fmean(runs.layer_means(events, key, last).values())


def measures(events: Sequence[runs.Event], last: int) -> Row:
    """What one finished run is judged by; a dense model has no routing."""
    evaluation = runs.final_eval(events)
    row: Row = {"tokens": runs.validation_curve(events)[-1][0], "val_loss": evaluation["val_loss"]}
    row |= {"perplexity": evaluation["perplexity"]}
    row |= {f"perplexity_{name}": values["perplexity"] for name, values in evaluation["domains"].items()}
    if runs.of_kind(events, "routing"):
        row |= {key: mean_over_layers(events, key, last) for key in ROUTING}
    return row


def looks_ahead(folder: Path) -> bool:
    """Whether the program warned that this model's losses are too low."""
    log = folder / "log.txt"
    return log.is_file() and LATER_TOKENS in log.read_text(encoding="utf-8", errors="replace")


def domains(row: Mapping[str, str | float]) -> list[str]:
    return [key.removeprefix("perplexity_") for key in row if key.startswith("perplexity_")]


def mark_incomparable(rows: Sequence[Row]) -> None:
    """Gives every row `note`: why its loss is left out of the ranking, or nothing. Most runs have the usual data."""
    usual = statistics.mode(tuple(domains(row)) for row in rows)
    for row in rows:
        reasons = [LATER_TOKENS] if row.pop("ahead") else []
        row["note"] = "; ".join(reasons + (["other data"] if tuple(domains(row)) != usual else []))


def collect(jobs: Mapping[tuple[str, int], runs.Job], arguments: argparse.Namespace) -> list[Row]:
    """One row a finished run."""
    rows: list[Row] = []
    sizes: dict[str, Row] = {}
    keys = {"forward_flops_per_token", "total_parameters", "active_parameters"}
    for (name, seed), job in jobs.items():
        if not runs.is_finished(job.folder, arguments.steps):
            continue
        if name not in sizes:
            found = runs.ask(job.binary, "inspect", job.config, arguments.overrides)
            sizes[name] = {key: found[key] for key in sorted(keys)}
        found = measures(runs.read_metrics(job.folder), arguments.last)
        rows.append({"preset": name, "seed": seed, **sizes[name], **found, "ahead": looks_ahead(job.folder)})
    if not rows:
        raise runs.RunError(f"no run in {arguments.out} is finished")
    mark_incomparable(rows)
    return rows


def by_preset(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The runs of each preset; the best mean validation loss first, those that are not ranked last."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row["preset"]), []).append(row)

    def order(name: str) -> tuple[bool, float]:
        return bool(groups[name][0]["note"]), statistics.fmean(float(row["val_loss"]) for row in groups[name])

    return {name: groups[name] for name in sorted(groups, key=order)}


def cell(group: Sequence[Row], key: str, digits: int) -> str:
    """Mean and spread over seeds; "-" where the runs have no such measure."""
    return mean_and_spread([float(row[key]) for row in group], digits) if key in group[0] else "-"


def numbered(groups: Mapping[str, Sequence[Row]]) -> tuple[dict[str, str], list[str]]:
    """Each preset's name with the mark of its note, and the notes: losses that one does not compare."""
    found = list(dict.fromkeys(str(group[0]["note"]) for group in groups.values() if group[0]["note"]))
    marks = {note: "*" * (i + 1) for i, note in enumerate(found)}
    names = {}
    for name, group in groups.items():
        note = str(group[0]["note"])
        names[name] = f"{name} ({marks[note]})" if note else name
    return names, [f"({marks[note]}) {note}: not ranked" for note in found]


def loss_table(
    groups: Mapping[str, Sequence[Row]], names: Mapping[str, str], speeds: Mapping[str, Sequence[float]]
) -> str:
    """Losses and perplexities at the end, and tokens/s (the median) where it was measured."""
    all_domains = list(dict.fromkeys(domain for group in groups.values() for domain in domains(group[0])))
    header = ["preset", "parameters", "seeds", "validation loss", *(f"perplexity, {domain}" for domain in all_domains)]
    rows = []
    for name, group in groups.items():
        size = f"{float(group[0]['total_parameters']) / 1e6:.2f} M"
        perplexities = [cell(group, f"perplexity_{domain}", 2) for domain in all_domains]
        row = [names[name], size, str(len(group)), cell(group, "val_loss", 4), *perplexities]
        rows.append(row + ([f"{statistics.median(speeds[name]):,.0f}" if name in speeds else "-"] if speeds else []))
    return markdown_table(header + (["tokens/s"] if speeds else []), rows)


def routing_table(groups: Mapping[str, Sequence[Row]], last: int) -> str:
    """What the routers did."""
    digits = {"dead_experts": 1, "dropped_fraction": 3, "entropy": 3}
    rows = [[name, *(cell(group, key, digits.get(key, 2)) for key in ROUTING)] for name, group in groups.items()]
    return markdown_table([f"last {last} routing events", *ROUTING.values()], rows)


def fairness(groups: Mapping[str, Sequence[Row]]) -> str:
    """What was equal, and a warning for what was not."""
    flops = [float(group[0]["forward_flops_per_token"]) for group in groups.values()]
    tokens = {float(row["tokens"]) for group in groups.values() for row in group}
    text = f"Forward {min(flops) / 1e6:.2f} to {max(flops) / 1e6:.2f} MFLOP a token; {max(tokens):,.0f} tokens a run."
    if max(flops) / min(flops) - 1 > FLOP_TOLERANCE:
        text += f" **FLOP a token differ by more than {FLOP_TOLERANCE:.0%}.**"
    return text + (" **The runs saw unequal numbers of tokens.**" if len(tokens) > 1 else "")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line a run; the columns of all runs."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "note")) + ["note"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measure_speeds(arguments: argparse.Namespace, variants: Mapping[str, comparison.Variant]) -> None:
    """Tokens/s of every preset by `switchyard bench`, in turns, added to OUT/bench.json."""
    path = arguments.out / "bench.json"
    for _ in range(arguments.bench):
        for name, variant in variants.items():
            speeds = read_speeds(path)
            found = runs.ask(arguments.binary, "bench", variant.config, arguments.overrides)
            speeds.setdefault(name, []).append(found["tokens_per_second"])
            path.write_text(json.dumps(speeds, indent=1) + "\n", encoding="utf-8")


def read_speeds(path: Path) -> dict[str, list[float]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def variants_of(configs: Sequence[Path], steps: int) -> dict[str, comparison.Variant]:
    """A variant a preset, under the preset's name without -tiny."""
    warmup = f"schedule.warmup_steps={round(steps * PRESET_WARMUP / PRESET_STEPS)}"
    return {config.stem.removesuffix(ENDING): comparison.Variant(config, (warmup,)) for config in configs}


def compare(arguments: argparse.Namespace) -> str:
    """Runs what is to be run, writes the files and renders the tables."""
    variants = variants_of(arguments.presets, arguments.steps)
    jobs = comparison.jobs_of(arguments, variants)
    if not arguments.finished:
        runs.run_all(list(jobs.values()), arguments.steps, arguments.jobs)
    arguments.out.mkdir(parents=True, exist_ok=True)
    measure_speeds(arguments, variants)
    rows = collect(jobs, arguments)
    groups = by_preset(rows)
    names, notes = numbered(groups)
    routed = {name: group for name, group in groups.items() if "max_violation" in group[0]}
    parts = [fairness(groups), loss_table(groups, names, read_speeds(arguments.out / "bench.json"))]
    if routed:
        parts.append(routing_table(routed, arguments.last))
    write_csv(arguments.out / "routers.csv", rows)
    if arguments.plot is not None:
        plot = [sys.executable, str(REPOSITORY / "scripts/plot.py"), "comparison", str(arguments.out / "routers.csv")]
        subprocess.run([*plot, "--out", str(arguments.plot)], check=True)
    return "\n\n".join(parts + notes)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tiny = sorted((REPOSITORY / "configs/models").glob(f"*{ENDING}.yaml"))
    parser.add_argument("--presets", type=Path, nargs="+", default=tiny, metavar="FILE", help="default: all -tiny ones")
    parser.add_argument("--last", type=int, default=5, help="routing events at the end that are averaged")
    parser.add_argument("--finished", action="store_true", help="run nothing, tabulate what is finished")
    parser.add_argument("--bench", type=int, default=0, metavar="TURNS", help="measure tokens/s of each that often")
    parser.add_argument("--plot", type=Path, metavar="PICTURE", help="also draw a .png or .svg (installs matplotlib)")
    comparison.add_arguments(parser, seeds=(1, 2, 3))
    arguments = parser.parse_intermixed_args()
    return comparison.report(lambda: compare(arguments), arguments.write)


if __name__ == "__main__":
    sys.exit(main())
