"""Markdown tables and the numbers in them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column left, the others right; columns padded so that it reads as plain text too."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *others]) + " |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([line(header), rule, *map(line, rows)])


def part_on_page(page: Path, maker: str) -> str:
    """What stands on a Markdown page between the marks `<!-- made by MAKER -->` and `<!-- end -->`."""
    begin, end = f"<!-- made by {maker} -->\n", "\n<!-- end -->"
    _, _, rest = page.read_text(encoding="utf-8").partition(begin)
    if end not in rest:
        raise ValueError(f"{page} has no place that says {begin.strip()} ... {end.strip()}")
    return rest.partition(end)[0]


def put_on_page(page: Path, maker: str, text: str) -> None:
    """Replaces it by `text`."""
    mark = f"<!-- made by {maker} -->\n"
    whole = page.read_text(encoding="utf-8")
    page.write_text(whole.replace(mark + part_on_page(page, maker), mark + text), encoding="utf-8")


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 for a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """"1.234 ± 0.005", or just the value when there is only one."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {spread(values):.{digits}f}" if len(values) > 1 else mean


def gigabytes(count: float) -> str:
    """Bytes as "1.23 GB" (10^9 bytes)."""
    return f"{count / 1e9:.2f} GB"
