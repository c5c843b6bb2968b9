#!/usr/bin/env python3
"""Times the training step on a machine that it has for itself, beside a busy process, and beside another training.

  scripts/bench_waiting.py                                          configs/quickstart.yaml
  scripts/bench_waiting.py --config configs/bench/batch-1.yaml training.precision=fp32
  scripts/bench_waiting.py --settings GOMP_SPINCOUNT=2000 OMP_WAIT_POLICY=active
  scripts/bench_waiting.py --settings --against before=old/switchyard      programs, not environments

What differs is how threads wait for each other (docs/speed.md): as the program has it, and as the environment tells it.
All take turns; the table has medians, and behind a slash the ratio to the program alone on the machine, whose threads
wait as it has it. While other processes have much of the machine a measurement says little: it is made again, up to
--tries times, and the last line tells how many were kept all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lib.processes import run_measured
from lib.tables import markdown_table

REPOSITORY = Path(__file__).resolve().parents[1]
OWN = "the program's own"
SETTINGS = ["OMP_WAIT_POLICY=passive", "GOMP_SPINCOUNT=300000"]
DECIDING = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"]
SITUATIONS = ["alone", "beside a busy process", "two trainings, each"]
BUSY = "while True: pass"
MUCH = 0.1  # of a core


@dataclass(frozen=True)
class Variant:
    """A program, and what the environment tells its threads."""

    switchyard: Path
    environment: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """One measurement: tokens/s of each training, and how many cores other processes had meanwhile."""

    rates: list[float]
    others: float


Samples = dict[tuple[str, str], list[Sample]]  # (variant, situation) -> one a round


def variants(switchyard: Path, settings: Sequence[str], against: Sequence[str]) -> dict[str, Variant]:
    """By name. `settings` are NAME=VALUE of the environment, `against` NAME=PROGRAM."""
    plain = {key: value for key, value in os.environ.items() if key not in DECIDING}
    found = {OWN: Variant(switchyard, plain)}
    for setting in settings:
        key, _, value = setting.partition("=")
        found[setting] = Variant(switchyard, plain | {key: value})
    for program in against:
        name, _, path = program.partition("=")
        found[name] = Variant(Path(path), plain)
    return found


def busy_seconds(text: str, ticks_per_second: int) -> float:
    """Processor time that all processes had, of /proc/stat's first line."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, text.split()[1:8])
    return (user + nice + system + irq + softirq) / ticks_per_second


def busy_here() -> float:
    """Of this machine, since it was started."""
    return busy_seconds(Path("/proc/stat").read_text().splitlines()[0], os.sysconf("SC_CLK_TCK"))


def busy_of_children() -> float:
    """Of this process and the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measured(measure: Callable[[], list[tuple[float, float]]]) -> Sample:
    """The rates of (rate, seconds) pairs, and what others did meanwhile."""
    machine, children = busy_here(), busy_of_children()
    found = measure()
    others = (busy_here() - machine) - (busy_of_children() - children)
    return Sample([rate for rate, _ in found], max(0.0, others) / max(seconds for _, seconds in found))


def bench(variant: Variant, arguments: argparse.Namespace) -> tuple[float, float]:
    """Tokens/s of `switchyard bench`, and how many seconds it ran."""
    command = [variant.switchyard, "bench", arguments.config, "--json", "--steps", str(arguments.steps)]
    done = run_measured([*command, *arguments.overrides], environment=variant.environment)
    return json.loads(done.stdout)["tokens_per_second"], done.seconds


def measure_in(situation: str, variant: Variant, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Of one training, or of two at once."""
    trainings = 2 if situation == SITUATIONS[2] else 1
    with ExitStack() as stack:
        if situation == SITUATIONS[1]:
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(busy.kill)
        pool = stack.enter_context(ThreadPoolExecutor(trainings))
        return [future.result() for future in [pool.submit(bench, variant, arguments) for _ in range(trainings)]]


def take_turns(programs: dict[str, Variant], arguments: argparse.Namespace) -> Samples:
    """All situations of all variants, round by round."""
    samples: Samples = {}
    for turn in range(arguments.rounds):
        for situation in SITUATIONS:
            for name, variant in programs.items():
                for _ in range(arguments.tries):
                    sample = measured(lambda: measure_in(situation, variant, arguments))
                    if sample.others <= MUCH:
                        break
                samples.setdefault((name, situation), []).append(sample)
                rates = " and ".join(f"{rate:,.0f}" for rate in sample.rates)
                words = f"round {turn + 1}, {name}, {situation}: {rates} tokens/s"
                print(f"{words} (others: {sample.others:.2f} cores)", file=sys.stderr)
    return samples


def median_rate(samples: Sequence[Sample]) -> float:
    """Of all trainings of the samples."""
    return statistics.median(rate for sample in samples for rate in sample.rates)


def table(samples: Samples) -> str:
    """A row a variant, a column a situation."""
    alone = median_rate(samples[OWN, SITUATIONS[0]])
    rows = []
    for name in dict.fromkeys(name for name, _ in samples):
        rates = [median_rate(samples[name, situation]) for situation in SITUATIONS]
        rows.append([name, *(f"{rate:,.0f} / {rate / alone:.2f}" for rate in rates)])
    return markdown_table(["threads wait", *SITUATIONS], rows)


def disturbed(samples: Samples) -> int:
    """How many samples others had much of the machine in."""
    return sum(sample.others > MUCH for found in samples.values() for sample in found)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration")
    parser.add_argument("--switchyard", type=Path, default=REPOSITORY / "build/release/switchyard")
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs/quickstart.yaml")
    parser.add_argument("--settings", nargs="*", default=SETTINGS, metavar="NAME=VALUE", help="environments to compare")
    parser.add_argument("--against", nargs="*", default=[], metavar="NAME=PROGRAM", help="other programs to compare")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of a training (default: 30)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--tries", type=int, default=3, help="at most, until others have been quiet (default: 3)")
    return parser.parse_intermixed_args()


def main() -> None:
    arguments = parse()
    samples = take_turns(variants(arguments.switchyard, arguments.settings, arguments.against), arguments)
    print(table(samples))
    count = sum(map(len, samples.values()))
    print(f"\nOther processes had over {MUCH} cores during {disturbed(samples)} of {count} measurements.")


if __name__ == "__main__":
    main()
