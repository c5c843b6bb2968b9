"""What the comparisons of runs have in common: their command line, and their runs over variants and seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from lib import runs
from lib.tables import put_on_page


@dataclass(frozen=True)
class Variant:
    """One side of a comparison: a config and what is changed in it."""

    config: Path
    overrides: tuple[str, ...] = ()


Results = Mapping[str, Mapping[int, list[runs.Event]]]  # variant name -> seed -> events


def integers(text: str) -> list[int]:
    """"1,2,3" -> [1, 2, 3]; argparse reports the ValueError of anything else."""
    return [int(word) for word in text.split(",")]


def add_arguments(parser: argparse.ArgumentParser, seeds: Sequence[int]) -> None:
    """The options that every comparison has."""
    parser.add_argument("--binary", type=Path, default=Path("build/release/switchyard"), help="the program")
    parser.add_argument("--seeds", type=integers, default=list(seeds), help="run.seed of each repetition, as in 1,2,3")
    parser.add_argument("--steps", type=int, required=True, help="training.max_steps of every run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs; finished ones are not run again")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="also put the answer on a Markdown page")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set in every run")


def jobs_of(arguments: argparse.Namespace, variants: Mapping[str, Variant]) -> dict[tuple[str, int], runs.Job]:
    """The run of every variant with every seed, in OUT/VARIANT-seed-N; all variants of one seed, then of the next."""
    jobs = {}
    for seed in arguments.seeds:
        for name, variant in variants.items():
            changes = (f"run.seed={seed}", f"training.max_steps={arguments.steps}", *variant.overrides)
            folder = arguments.out / f"{name}-seed-{seed}"
            jobs[name, seed] = runs.Job(arguments.binary, variant.config, folder, (*changes, *arguments.overrides))
    return jobs


def run_variants(arguments: argparse.Namespace, variants: Mapping[str, Variant]) -> Results:
    """Runs (or finds finished) all of them and reads their metrics."""
    jobs = jobs_of(arguments, variants)
    runs.run_all(list(jobs.values()), arguments.steps, arguments.jobs)
    return {name: {seed: runs.read_metrics(jobs[name, seed].folder) for seed in arguments.seeds} for name in variants}


def report(action: Callable[[], str], page: Path | None) -> int:
    """Prints what `action` returns and puts it on the page; an expected error becomes a message and exit code 1."""
    try:
        answer = action()
        print(answer)
        if page is not None:
            put_on_page(page, f"scripts/{Path(sys.argv[0]).name}", answer)
    except (runs.RunError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
