#!/usr/bin/env python3
"""The tables of presets in docs/models.md: what was published of each model, and what the program counts.

  scripts/model_table.py [--switchyard build/release/switchyard]            prints the tables
  scripts/model_table.py --write                                            and puts them into docs/models.md

tests/program/presets_test.py holds the published figures against the counted ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.tables import markdown_table, part_on_page, put_on_page

REPOSITORY = Path(__file__).resolve().parents[1]
MODELS = REPOSITORY / "configs" / "models"
PAGE = REPOSITORY / "docs" / "models.md"
MAKER = "scripts/model_table.py"


@dataclass(frozen=True)
class Preset:
    """What is known of a model. Figures are written as published: "46.7 B"; "" where there is none."""

    source: str
    total: str = ""
    active: str = ""
    replaced: str = "-"
    active_cut: bool = False  # whether further digits of the published figure were cut off instead of rounded


PRESETS: dict[str, Preset] = {
    "gpt2-124m": Preset("Radford 2019", "124.4 M"),
    "llama2-7b": Preset("2307.09288", "6.74 B"),
    "llama2-70b": Preset("2307.09288", "69.0 B"),
    "jacobs-1991": Preset("Jacobs 1991", replaced="task; decoder around the experts"),
    "shazeer-2017": Preset("1701.06538, MoE-256", "1.1 B", replaced="LSTMs by attention blocks"),
    "gshard": Preset("2006.16668, MoE(2048E, 36L)", "600 B", replaced="encoder-decoder by a decoder"),
    "switch-base": Preset("2101.03961", "7 B", replaced="encoder-decoder by a decoder"),
    "switch-c": Preset("2101.03961", "1571 B", replaced="encoder-decoder by a decoder"),
    "mixtral-8x7b": Preset("2401.04088", "46.7 B", "12.9 B"),
    "mixtral-8x22b": Preset("Mistral AI 2024", "141 B", "39 B"),
    "grok-1": Preset("xAI 2024", "314 B"),  # and "25% of the weights active"
    "deepseek-moe-16b": Preset("2401.06066", "16.4 B", "2.8 B"),
    "deepseek-v2": Preset("2405.04434", "236 B", "21 B"),
    "deepseek-v3": Preset("2412.19437", "671 B", "37 B", "without the second-token module", active_cut=True),
    "qwen3-30b-a3b": Preset("2505.09388", "30.5 B", "3.3 B", active_cut=True),
    "olmoe-1b-7b": Preset("2409.02060", "6.9 B", "1.3 B"),
    "gpt-4-rumoured": Preset("a rumour", "1.76 T", replaced="all but 8 x 220 B, 2 active, is made up"),
    "gemini-style": Preset("2403.05530", replaced="all sizes are made up; patches as symbols"),
}

UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def number(figure: str) -> float:
    """"46.7 B" as 46.7e9."""
    value, unit = figure.split(" ")
    return float(value) * UNITS[unit]


def last_place(figure: str) -> float:
    """What one in the last digit that counts is worth; zeros before the unit don't count: 1e8 for "46.7 B", 1e11 for
    "600 B"."""
    value, unit = figure.split(" ")
    if "." in value:
        return UNITS[unit] * 10.0 ** -len(value.split(".")[1])
    return UNITS[unit] * 10.0 ** (len(value) - len(value.rstrip("0")))


def agrees(counted: float, figure: str, cut: bool = False) -> bool:
    """Within 1 % of the published figure, or rounded (with `cut`: shortened) to its digits."""
    distance = counted - number(figure)
    if cut:
        return 0 <= distance < last_place(figure)
    return abs(distance) <= max(0.01 * number(figure), 0.5 * last_place(figure))


def shown(count: float) -> str:
    """A count of parameters with four digits: "46.70 B"."""
    unit = "T" if count >= 1e12 else "B" if count >= 1e9 else "M" if count >= 1e6 else "K"
    value = count / UNITS[unit]
    return f"{value:.{max(0, 3 - len(str(int(value))) + 1)}f} {unit}"


def inspect(switchyard: str, config: Path) -> dict[str, Any]:
    """What `switchyard inspect` says of a config."""
    command = [switchyard, "inspect", str(config), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def inspect_all(switchyard: str, configs: list[Path]) -> list[dict[str, Any]]:
    """The same of several, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda config: inspect(switchyard, config), configs))


def pair(total: str, active: str) -> str:
    return f"{total} / {active}" if active else total or "none"


def plain(value: float) -> str:
    """Three digits without an exponent, all of them before the point."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(figures: list[dict[str, Any]]) -> str:
    """The Markdown table; `figures` are inspect's, in the order of PRESETS."""
    rows = []
    for (name, preset), found in zip(PRESETS.items(), figures):
        total, active = shown(found["total_parameters"]), shown(found["active_parameters"])
        rows.append(
            [
                f"[`{name}`](../configs/models/{name}.yaml)",
                preset.source,
                pair(preset.total, preset.active),
                pair(total, active if found["active_parameters"] != found["total_parameters"] else ""),
                plain(found["forward_flops_per_token"] / 1e9),
                plain(found["weight_bytes"]["bf16"] / 1e9),
                plain(found["weight_bytes"]["int4"] / 1e9),
                preset.replaced,
            ]
        )
    header = ["preset", "source", "published", "counted", "forward GFLOP/token", "bf16 GB", "int4 GB", "replaced"]
    return markdown_table(header, rows)


def tiny_table(figures: list[dict[str, Any]]) -> str:
    """The same of the -tiny presets."""
    rows = []
    for name, found in zip(PRESETS, figures):
        total, active = found["total_parameters"], found["active_parameters"]
        link = f"[`{name}-tiny`](../configs/models/{name}-tiny.yaml)"
        rows.append([link, shown(total), shown(active), f"{found['forward_flops_per_token'] / 1e6:.2f}"])
    return markdown_table(["preset", "parameters", "active", "forward MFLOP/token"], rows)


def tables(switchyard: str) -> str:
    """Both, as docs/models.md has them."""
    paths = [MODELS / f"{name}{ending}.yaml" for ending in ("", "-tiny") for name in PRESETS]
    figures = inspect_all(switchyard, paths)
    return table(figures[: len(PRESETS)]) + "\n\n" + tiny_table(figures[len(PRESETS) :])


def tables_on_page() -> str:
    """The tables that docs/models.md has now."""
    return part_on_page(PAGE, MAKER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switchyard", default=str(REPOSITORY / "build/release/switchyard"))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    made = tables(arguments.switchyard)
    if arguments.write:
        put_on_page(PAGE, MAKER, made)
    print(made)


if __name__ == "__main__":
    main()
