#!/usr/bin/env python3
"""Where the time of a build goes: seconds of one core by folder and by file, from Ninja's log.

  scripts/build_times.py [BUILD]            build/release by default; the last build of every file
  scripts/build_times.py --files 30         the 30 slowest files as well

A file's time is from its start to its end while other files were compiled beside it. Files that the build compiles
together (SWITCHYARD_UNITY) count as one. Numbers are of a whole build only after one with an empty ccache:
CCACHE_DISABLE=1 cmake --build --preset release
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

OBJECT = re.compile(r"^CMakeFiles/(?P<target>[^/]+)\.dir/(?P<file>.+)\.(?:o|gch)$")


def read_log(text: str) -> dict[str, float]:
    """Output -> seconds of its last build. Throws ValueError where the text is no log of Ninja."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("# ninja log v"):
        raise ValueError("it does not begin with '# ninja log'")
    seconds = {}
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        if len(fields) != 5 or not (fields[0].isdigit() and fields[1].isdigit()):
            raise ValueError(f"line {number} is no entry: start, end, time, output, hash")
        seconds[fields[3]] = (int(fields[1]) - int(fields[0])) / 1000
    return seconds


def place(output: str) -> tuple[str, str]:
    """(folder, file) of an output: the target without its prefix for objects, "linking" for the rest."""
    match = OBJECT.match(output)
    if not match:
        return "linking and others", output
    return match["target"].removeprefix("switchyard_"), match["file"].removeprefix("src/")


def by_folder(seconds: dict[str, float]) -> list[tuple[str, int, float]]:
    """(folder, number of outputs, seconds), the longest first."""
    sums: dict[str, list[float]] = defaultdict(list)
    for output, time in seconds.items():
        sums[place(output)[0]].append(time)
    return sorted(((name, len(times), sum(times)) for name, times in sums.items()), key=lambda row: -row[2])


def table(seconds: dict[str, float], files: int) -> str:
    """What is printed."""
    rows = by_folder(seconds)
    lines = [f"{'folder':<28} {'files':>6} {'seconds':>9}"]
    lines += [f"{name:<28} {count:>6} {time:>9.1f}" for name, count, time in rows]
    lines.append(f"{'all':<28} {len(seconds):>6} {sum(seconds.values()):>9.1f}")
    if files:
        slowest = sorted(seconds.items(), key=lambda item: -item[1])[:files]
        lines += ["", f"{'slowest':<58} {'seconds':>9}"]
        lines += [f"{'/'.join(place(output)):<58} {time:>9.1f}" for output, time in slowest]
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", type=Path, default=Path("build/release"), help="the build folder")
    parser.add_argument("--files", type=int, default=0, metavar="N", help="also the N slowest files")
    arguments = parser.parse_args()
    log = arguments.build / ".ninja_log"
    try:
        print(table(read_log(log.read_text(encoding="utf-8")), arguments.files))
    except (OSError, ValueError) as error:
        print(f"build_times: {log}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
