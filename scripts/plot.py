#!/usr/bin/env python3
"""Draws pictures from the metrics of run folders, for the docs. Needs matplotlib, which it installs into .venv-plots.

  scripts/plot.py loss RUN... --out loss.svg [--labels NAME...]    training and validation loss of several runs
  scripts/plot.py load RUN --out load.png [--layers N...]          what share of the tokens each expert got, over time
  scripts/plot.py overview RUN --out run.png                       both beside each other
  scripts/plot.py comparison routers.csv --out routers.png         final losses and balance, by compare_routers.py
  scripts/plot.py ablation SWEEP_DIR --out sweep.png               quality of every setting, and against balance

The ending of --out says the format: .png or .svg. `switchyard report` makes an interactive page without Python.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

from lib import runs, venv

# Okabe and Ito's colours, which people with any colour vision tell apart; line styles repeat the message.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLES = ["-", "--", "-.", ":"]
LOOK = {
    "figure.facecolor": "white", "axes.facecolor": "white", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6, "font.size": 10, "svg.fonttype": "none",
    "svg.hashsalt": "switchyard", "legend.frameon": False, "figure.dpi": 100, "savefig.dpi": 160,
}  # fmt: skip


def draw_loss(folders: list[Path], labels: list[str], figure: object) -> None:
    """Training loss (each value faint, smoothed strong) and validation loss (dots) against tokens."""
    axes = figure.subplots()
    for i, (folder, label) in enumerate(zip(folders, labels)):
        events = runs.read_metrics(folder)
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
        train = [event for event in runs.of_kind(events, "train") if event["lm_loss"] is not None]
        points = [(event["tokens"], event["lm_loss"]) for event in train]
        if not points:
            raise runs.RunError(f"{folder} has no training loss to draw")
        tokens, losses = map(list, zip(*points))
        axes.plot(tokens, losses, color=colour, alpha=0.2, linewidth=0.8)
        axes.plot(tokens, runs.smooth(losses), color=colour, linestyle=style, linewidth=1.6, label=f"{label}, training")
        curve = runs.validation_curve(events)
        if curve:
            axes.plot(*zip(*curve), color=colour, marker="o", markersize=4, linewidth=0, label=f"{label}, validation")
    axes.xaxis.set_major_formatter(lambda tokens, _: f"{tokens / 1e6:g} M")
    axes.set_xlabel("tokens")
    axes.set_ylabel("loss (nats per token)")
    axes.legend()


def load_of_layers(folder: Path, layers: list[int] | None) -> dict[int, list[tuple[int, list[float]]]]:
    """Layer -> (step, load of each expert) in the order of the run."""
    found: dict[int, list[tuple[int, list[float]]]] = {}
    for event in runs.of_kind(runs.read_metrics(folder), "routing"):
        if layers is None or event["layer"] in layers:
            found.setdefault(event["layer"], []).append((event["step"], event["load"]))
    if not found:
        what = " of these layers" if layers else ": is its model dense?"
        raise runs.RunError(f"{folder} has no routing events{what}")
    return dict(sorted(found.items()))


def draw_load(folder: Path, layers: list[int] | None, figure: object) -> None:
    """A map a layer: experts upwards, steps to the right; 1 is an expert's fair share, and the scale ends at 3."""
    from matplotlib.colors import TwoSlopeNorm

    by_layer = load_of_layers(folder, layers)
    columns = min(2 if len(by_layer) in (2, 4) else 3, len(by_layer))
    lines = -(-len(by_layer) // columns)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(by_layer) :]:
        axes.set_visible(False)
    for axes, (layer, history) in zip(grid.flat, by_layer.items()):
        steps = [step for step, _ in history]
        experts = len(history[0][1])
        shares = [[load[expert] * experts for _, load in history] for expert in range(experts)]
        # As in `switchyard report` (src/metrics/page/heat_map.js).
        picture = axes.pcolormesh(
            steps, range(experts), shares, cmap="PuOr_r", norm=TwoSlopeNorm(1, 0, 3), shading="nearest", rasterized=True
        )
        axes.set_title(f"layer {layer}", fontsize=10, loc="left")
        axes.grid(False)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("expert", fontsize=10)
    figure.colorbar(picture, ax=grid, label="load (1 is the fair share)", extend="max", ticks=[0, 0.5, 1, 2, 3])


def draw_overview(folder: Path, figure: object) -> None:
    """The loss on the left, the load on the right."""
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.25], wspace=0.03)
    draw_loss([folder], [folder.resolve().name], left)
    draw_load(folder, None, right)


def draw_comparison(path: Path, figure: object) -> None:
    """A line a preset, the best loss on top, a dot a seed: validation loss (hollow where it isn't ranked), balance."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise runs.RunError(f"{path} holds no run")
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["preset"], []).append(row)
    mean_loss = {name: sum(float(row["val_loss"]) for row in group) / len(group) for name, group in groups.items()}
    names = sorted(groups, key=lambda name: (groups[name][0]["note"] == "", -mean_loss[name]))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, name in enumerate(names):
        ranked = groups[name][0]["note"] == ""
        losses = [float(row["val_loss"]) for row in groups[name]]
        left.plot(losses, [place] * len(losses), "o", color=COLOURS[0], fillstyle="full" if ranked else "none")
        violations = [float(row["max_violation"]) for row in groups[name] if row.get("max_violation")]
        right.plot(violations, [place] * len(violations), "o", color=COLOURS[1])
    left.set_yticks(range(len(names)), names)
    left.set_xlabel("validation loss (nats per token)")
    right.set_xlabel("max-violation (0 is balance)")
    right.set_xlim(left=0)
    left.locator_params(axis="x", nbins=5)


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of a sweep's folder."""
    path = folder / "results.json"
    if not path.is_file():
        raise runs.RunError(f"{path} is not there: is {folder} the folder of a sweep?")
    return json.loads(path.read_text(encoding="utf-8"))


def draw_settings(settings: list[dict[str, Any]], results: dict[str, Any], axes: object) -> None:
    """A row a setting: the validation loss of every seed, their mean, and one standard deviation to both sides."""
    for row, setting in enumerate(settings):
        spread, colour = setting["measures"]["val_loss"], COLOURS[row % len(COLOURS)]
        finished = [run for run in results["runs"] if run["setting"] == setting["label"] and run["status"] == "finished"]
        losses = [run["measures"]["val_loss"] for run in finished]
        axes.errorbar(spread["mean"], row, xerr=spread["deviation"] or 0, color=colour, elinewidth=5, alpha=0.35, zorder=2)
        axes.scatter(losses, [row] * len(losses), color=colour, s=14, zorder=3)
        axes.scatter(spread["mean"], row, color=colour, marker="|", s=180, linewidths=2, zorder=4)
    axes.set_yticks(range(len(settings)), [setting["label"] for setting in settings])
    axes.invert_yaxis()
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("validation loss (nats per token)")


def short_name(label: str) -> str:
    """The values alone: `capacity_factor=1.25, top_k=2` is `1.25, 2`. Names that the sweep gives stay as they are."""
    return ", ".join(part.partition("=")[2] or part for part in label.split(", "))


def name_points(names: list[str], points: list[Any], colours: list[str], axes: object) -> None:
    """Writes each name beside its point, in the place of eight that meets the fewest points, names and error bars."""
    from matplotlib.colors import to_rgb

    axes.figure.draw_without_rendering()  # settles the layout
    dots = [line.get_window_extent() for line, _, _ in axes.containers]
    bars = [path.get_extents(axes.transData) for _, _, both in axes.containers for bar in both for path in bar.get_paths()]
    taken = [box.padded(1) for box in (*dots, *bars, axes.get_legend().get_window_extent())]
    places = [(8, 4), (8, -11), (-8, 4), (-8, -11), (8, 14), (8, -21), (-8, 14), (-8, -21)]
    for name, point, colour in zip(names, points, colours):
        dark = [0.7 * part for part in to_rgb(colour)]  # else thin letters in a light colour are hard to read
        text = axes.annotate(name, point, (0, 0), textcoords="offset points", fontsize=9, color=dark, in_layout=False)

        def box_at(place: tuple[int, int]) -> Any:
            text.set(position=place, ha="left" if place[0] > 0 else "right")
            return text.get_window_extent()

        def faults(place: tuple[int, int]) -> int:
            box = box_at(place)
            return box.count_overlaps(taken) + len(taken) * (box.x0 < axes.bbox.x0 or box.x1 > axes.bbox.x1)

        taken.append(box_at(min(places, key=faults)))


def draw_trade_off(settings: list[dict[str, Any]], results: dict[str, Any], measure: str, axes: object) -> None:
    """Validation loss against a measure of balance; a dashed line joins the settings on the Pareto front."""
    colours = {setting["label"]: COLOURS[row % len(COLOURS)] for row, setting in enumerate(settings)}
    places = {}
    for setting in settings:
        balance, loss = setting["measures"].get(measure), setting["measures"]["val_loss"]
        if balance is None:
            continue
        places[setting["label"]] = (balance["mean"], loss["mean"])
        errors = {"xerr": balance["deviation"] or 0, "yerr": loss["deviation"] or 0}
        look = {"fmt": "s", "label": "baseline"} if setting["baseline"] else {"fmt": "o"}
        axes.errorbar(*places[setting["label"]], **errors, **look, color=colours[setting["label"]], markersize=6, linewidth=1)
    if not places:
        raise runs.RunError(f"no setting of the sweep has the measure {measure}")
    front = [places[label] for label in results.get("pareto_front", {}).get(measure, []) if label in places]
    if front:
        axes.plot(*zip(*front), color="#777777", linestyle="--", linewidth=1, zorder=0, label="Pareto front")
    axes.margins(x=0.12, y=0.1)
    axes.set_xlabel(f"{measure.replace('_cv', ' CV').replace('_', '-')} (0 is balanced)")
    axes.set_ylabel("validation loss (nats per token)")
    names = [short_name(label) for label in places]
    keys = dict.fromkeys(part.partition("=")[0] for label in places for part in label.split(", ") if "=" in part)
    axes.legend(title=f"numbers: {', '.join(keys)}" if keys else None, alignment="left")
    name_points(names, list(places.values()), [colours[label] for label in places], axes)


def draw_ablation(folder: Path, measure: str, figure: object) -> None:
    """The settings on the left, the trade-off on the right. Bars are one standard deviation over seeds."""
    results = read_results(folder)
    settings = [setting for setting in results["settings"] if setting["finished_seeds"]]
    if not settings:
        raise runs.RunError(f"{folder}: no run of the sweep has finished")
    left, right = figure.subplots(1, 2)
    draw_settings(settings, results, left)
    draw_trade_off(settings, results, measure, right)


def size_of(arguments: argparse.Namespace) -> tuple[float, float]:
    """Inches, wide and high."""
    sizes = {"loss": (7.0, 4.0), "load": (7.4, 4.7), "overview": (12.0, 4.2), "comparison": (8.0, 4.8), "ablation": (11.0, 4.2)}
    return sizes[arguments.kind]


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    loss = kinds.add_parser("loss", help="loss curves of several runs")
    loss.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    loss.add_argument("--labels", nargs="+", help="one name a run, for the legend; default: the folders' names")
    load = kinds.add_parser("load", help="load of every expert over time")
    load.add_argument("run", type=Path, metavar="RUN")
    load.add_argument("--layers", type=int, nargs="+", help="default: all that have experts")
    overview = kinds.add_parser("overview", help="loss and load of one run")
    overview.add_argument("run", type=Path, metavar="RUN")
    comparison = kinds.add_parser("comparison", help="what scripts/compare_routers.py measured")
    comparison.add_argument("table", type=Path, metavar="CSV")
    ablation = kinds.add_parser("ablation", help="quality and balance of the settings of a sweep")
    ablation.add_argument("sweep", type=Path, metavar="SWEEP_DIR")
    ablation.add_argument("--balance", choices=("max_violation", "load_cv"), default="max_violation")
    for kind in (loss, load, overview, comparison, ablation):
        kind.add_argument("--out", type=Path, required=True, help="picture to write: .png or .svg")
        kind.add_argument("--title", default="", help="over the picture")
    arguments = parser.parse_args()
    if arguments.out.suffix not in (".png", ".svg"):
        parser.error(f"--out {arguments.out}: the name must end in .png or .svg")
    if arguments.kind == "loss" and arguments.labels and len(arguments.labels) != len(arguments.runs):
        parser.error(f"{len(arguments.labels)} labels for {len(arguments.runs)} runs")
    return arguments


def draw(arguments: argparse.Namespace) -> None:
    """Writes the picture. Runs in .venv-plots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=size_of(arguments), layout="constrained")
        if arguments.kind == "loss":
            draw_loss(arguments.runs, arguments.labels or [folder.resolve().name for folder in arguments.runs], figure)
        elif arguments.kind == "load":
            draw_load(arguments.run, arguments.layers, figure)
        elif arguments.kind == "comparison":
            draw_comparison(arguments.table, figure)
        elif arguments.kind == "ablation":
            draw_ablation(arguments.sweep, arguments.balance, figure)
        else:
            draw_overview(arguments.run, figure)
        if arguments.title:
            figure.suptitle(arguments.title, fontsize=11)
        # Without a date, the same run gives the same file.
        figure.savefig(arguments.out, metadata={"Date": None} if arguments.out.suffix == ".svg" else None)


def main() -> int:
    """Draws, after moving over to the Python that has matplotlib."""
    arguments = parse_arguments()
    python = venv.ensure(".venv-plots", "python-plots.txt")
    if Path(sys.prefix).resolve() != python.parent.parent.resolve():
        os.execv(python, [str(python), *sys.argv])
    try:
        draw(arguments)
    except (runs.RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
