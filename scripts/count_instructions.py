#!/usr/bin/env python3
"""Counts the instructions of the fused CPU loops with callgrind: the same figures on an idle machine and on a busy one.

  scripts/count_instructions.py             prints a table, marks what is off instruction_counts.json by over 3 %
  scripts/count_instructions.py --check     and ends with exit code 1 if anything is
  scripts/count_instructions.py --record    writes that file and the table of docs/speed.md again

Needs valgrind (Debian package valgrind; scripts/setup.sh --dev installs it) and build/release/count_kernels. Each loop
runs a number of times and twice as often: the difference is free of what starting the program costs. valgrind emulates
a processor without AVX-512, so it is the AVX2 variants that are counted. Another compiler makes other counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.processes import ProcessError, run_measured
from lib.tables import markdown_table, put_on_page

REPOSITORY = Path(__file__).resolve().parents[1]
RECORD = REPOSITORY / "scripts" / "instruction_counts.json"
PAGE = REPOSITORY / "docs" / "speed.md"
TIMES = 8  # calls of the shorter run
TOLERANCE = 0.03
TYPES = ["float", "bf16"]


@dataclass(frozen=True)
class Run:
    """What callgrind counted in one run of a loop, and what count_kernels said of it."""

    instructions: int
    elements: int
    instruction_set: str
    compiler: str


@dataclass(frozen=True)
class Counts:
    """Instructions per element by KERNEL/TYPE, and what else they depend on."""

    instruction_set: str
    compiler: str
    instructions_per_element: Mapping[str, float]


def elements_by_kernel(listing: str) -> dict[str, str]:
    """What `count_kernels --list` prints, as a mapping."""
    return dict(line.split("\t") for line in listing.splitlines())


def total_instructions(profile: str) -> int:
    """The sum of a callgrind file; throws ValueError where there is none."""
    for line in reversed(profile.splitlines()):
        if line.startswith("totals: "):
            return int(line.split()[1])
    raise ValueError("callgrind's file has no line 'totals: '")


def per_element(once: Run, twice: Run) -> float:
    """Instructions per element of what `twice` did more than `once`."""
    return round((twice.instructions - once.instructions) / (twice.elements - once.elements), 3)


def marks(counted: Mapping[str, float], recorded: Mapping[str, float]) -> dict[str, str]:
    """KERNEL/TYPE of what differs: "+12.3 %" where it is over the tolerance, "new", "gone"."""
    found = {}
    for name, value in counted.items():
        if name not in recorded:
            found[name] = "new"
        elif abs(value - recorded[name]) > TOLERANCE * recorded[name]:
            found[name] = f"{100 * (value / recorded[name] - 1):+.1f} %"
    return found | {name: "gone" for name in recorded if name not in counted}


def table(elements: Mapping[str, str], counted: Mapping[str, float], marked: Mapping[str, str]) -> str:
    """One row a kernel, one column a type."""

    def cell(name: str) -> str:
        if name not in counted:
            return "-"
        return f"{counted[name]:.2f}" + (f" ({marked[name]})" if name in marked else "")

    kernels = dict.fromkeys(name.split("/")[0] for name in elements)
    rows = [
        [f"`{kernel}`", elements[f"{kernel}/{TYPES[0]}"], *(cell(f"{kernel}/{kind}") for kind in TYPES)]
        for kernel in kernels
    ]
    return markdown_table(["kernel", "per", *TYPES], rows)


def notes(counted: Counts, recorded: Counts, marked: Mapping[str, str]) -> list[str]:
    """What is to be said beside the table."""
    found = []
    for key in ("instruction_set", "compiler"):
        now, then = getattr(counted, key), getattr(recorded, key)
        if now != then:
            found.append(f"{key.replace('_', ' ')} is {now}, the recorded counts are of {then}")
    for name, mark in marked.items():
        now, then = (of.instructions_per_element.get(name) for of in (counted, recorded))
        found.append(f"{name}: {mark} (counted {now}, recorded {then})")
    return found


def count(binary: Path, kernel: str, times: int) -> Run:
    """Runs a loop under callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "callgrind.out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}"]
        said = json.loads(run_measured([*valgrind, binary, kernel, str(times)]).stdout)
        return Run(instructions=total_instructions(profile.read_text(encoding="utf-8")), **said)


def count_all(binary: Path, kernels: Mapping[str, str]) -> Counts:
    """Counts every kernel, and says on the error output which."""
    counted = {}
    for kernel in kernels:
        print(kernel, file=sys.stderr)
        once, twice = (count(binary, kernel, times) for times in (TIMES, 2 * TIMES))
        counted[kernel] = per_element(once, twice)
    return Counts(once.instruction_set, once.compiler, counted)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "build/release/count_kernels")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="exit code 1 where counts differ from the recorded ones")
    what.add_argument("--record", action="store_true", help="write the counts and the table of docs/speed.md")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> int:
    """Counts, compares or records; returns the exit code."""
    if shutil.which("valgrind") is None:
        raise OSError("valgrind is not installed: apt-get install valgrind, or scripts/setup.sh --dev")
    if not arguments.binary.exists():
        raise OSError(f"{arguments.binary} is not there: cmake --build --preset release --target count_kernels")
    elements = elements_by_kernel(run_measured([arguments.binary, "--list"]).stdout)
    counted = count_all(arguments.binary, elements)
    if arguments.record:
        RECORD.write_text(json.dumps(asdict(counted), indent=2) + "\n", encoding="utf-8")
        made = table(elements, counted.instructions_per_element, {})
        put_on_page(PAGE, "scripts/count_instructions.py", made)
        print(made)
        return 0
    recorded = Counts(**json.loads(RECORD.read_text(encoding="utf-8")))
    marked = marks(counted.instructions_per_element, recorded.instructions_per_element)
    print(table(elements, counted.instructions_per_element, marked))
    for note in notes(counted, recorded, marked):
        print(note)
    return 1 if arguments.check and marked else 0


def main() -> int:
    """Exit codes: 0 counted, 1 failed or, with --check, counts differ."""
    try:
        return run(parse_arguments())
    except (ProcessError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
