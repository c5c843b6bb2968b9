"""Starts runs of the switchyard program and reads what they wrote to metrics.jsonl."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class RunError(RuntimeError):
    """A run that failed, or a run folder without what was looked for."""


@dataclass(frozen=True)
class Job:
    """One training run: `binary train config overrides`, writing to `folder`."""

    binary: Path
    config: Path
    folder: Path
    overrides: tuple[str, ...]

    def command(self) -> list[str]:
        """The words of the command line of a new run."""
        return [str(self.binary), "train", str(self.config), f"run.dir={self.folder}", *self.overrides]


def read_metrics(folder: Path) -> list[Event]:
    """All events of a run folder, oldest first. A last line cut short, as of a run still going on, is left out."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise RunError(f"{path} is not there: is {folder} a run folder?")
    text = path.read_text(encoding="utf-8")
    events = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == text.count("\n") + 1:
                break
            raise RunError(f"{path}:{number}: not a JSON object: {error}") from error
    return events


def of_kind(events: Sequence[Event], kind: str) -> list[Event]:
    """The events "train", "eval" or "routing" among all."""
    return [event for event in events if event.get("event") == kind]


def final_eval(events: Sequence[Event]) -> Event:
    """The last evaluation; throws RunError when there is none or its loss is not a number."""
    evaluations = of_kind(events, "eval")
    if not evaluations:
        raise RunError("the run has no evaluation")
    if evaluations[-1]["val_loss"] is None:
        raise RunError(f"the loss of the evaluation at step {evaluations[-1]['step']} is not a number")
    return evaluations[-1]


def domain_losses(evaluation: Event) -> dict[str, float]:
    """Validation loss by domain, nats per token."""
    return {name: values["val_loss"] for name, values in evaluation.get("domains", {}).items()}


def tokens_per_step(events: Sequence[Event]) -> float:
    """Tokens of one optimizer step, from the last train event."""
    train = of_kind(events, "train")
    if not train:
        raise RunError("the run has no train event")
    return train[-1]["tokens"] / train[-1]["step"]


def validation_curve(events: Sequence[Event]) -> list[tuple[float, float]]:
    """(tokens seen, validation loss) of every evaluation whose loss is a number."""
    scale = tokens_per_step(events)
    finite = [event for event in of_kind(events, "eval") if event["val_loss"] is not None]
    return [(event["step"] * scale, event["val_loss"]) for event in finite]


def tokens_to_reach(curve: Sequence[tuple[float, float]], loss: float) -> float | None:
    """Tokens at which the curve first comes down to `loss`, linear between evaluations; None when it never does."""
    for i, (tokens, value) in enumerate(curve):
        if value <= loss:
            if i == 0:
                return tokens
            before_tokens, before = curve[i - 1]
            return before_tokens + (before - loss) / (before - value) * (tokens - before_tokens)
    return None


def layer_means(events: Sequence[Event], key: str, last: int) -> dict[int, float]:
    """Layer -> mean of `key` over its last `last` routing events."""
    values: dict[int, list[float]] = {}
    for event in of_kind(events, "routing"):
        values.setdefault(event["layer"], []).append(event[key])
    return {layer: sum(found[-last:]) / len(found[-last:]) for layer, found in sorted(values.items())}


def is_finished(folder: Path, steps: int) -> bool:
    """Whether the run in `folder` was evaluated at its last step."""
    if not (folder / "metrics.jsonl").is_file():
        return False
    return any(event["step"] == steps for event in of_kind(read_metrics(folder), "eval"))


def next_command(job: Job, steps: int) -> list[str] | None:
    """What is to be started for `job`: a new run, a resumed one, or None when it is finished.

    A folder that holds a run of another command is refused; one without a checkpoint to resume from is emptied.
    """
    record = job.folder.with_name(job.folder.name + ".command.json")
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) != job.command():
        raise RunError(f"{job.folder} was made with another command ({record}); choose another folder or remove both")
    if job.folder.exists() and not record.is_file():
        raise RunError(f"{job.folder} was not made by this script; choose another folder")
    if is_finished(job.folder, steps):
        return None
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(job.command()) + "\n", encoding="utf-8")
    if any(job.folder.glob("checkpoints/step-*")):
        return [str(job.binary), "train", "--resume", str(job.folder)]
    shutil.rmtree(job.folder, ignore_errors=True)
    return job.command()


def run_job(job: Job, steps: int) -> None:
    """Brings one run to its end; its output goes to FOLDER.log. Throws RunError with the log's last lines."""
    command = next_command(job, steps)
    if command is None:
        print(f"{job.folder}: finished already", file=sys.stderr)
        return
    print(f"{job.folder}: running", file=sys.stderr)
    log = job.folder.with_name(job.folder.name + ".log")
    with log.open("a", encoding="utf-8") as output:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT).returncode
    if code != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
        raise RunError(f"{' '.join(command)} ended with {code}; the end of {log}:\n{tail}")


def run_all(jobs: Sequence[Job], steps: int, at_once: int) -> None:
    """Brings all runs to their end, `at_once` at a time; waits for those begun before it throws the first error."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        futures = [pool.submit(run_job, job, steps) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def ask(binary: Path, command: str, config: Path, overrides: Sequence[str]) -> Event:
    """What `switchyard COMMAND --json` says of a configuration; COMMAND is inspect or bench."""
    words = [str(binary), command, str(config), "--json", *overrides]
    answer = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if answer.returncode != 0:
        raise RunError(f"{' '.join(words)} ended with {answer.returncode}: {answer.stderr.strip()}")
    return json.loads(answer.stdout)


def smooth(values: list[float]) -> list[float]:
    """Mean over a window around each value, narrower towards both ends: a falling curve is not shown too high. The
    window has a twentieth of the points, at most eleven of them: few points are shown as they are."""
    out = []
    for i in range(len(values)):
        reach = min(5, len(values) // 40, i, len(values) - 1 - i)
        window = values[i - reach : i + reach + 1]
        out.append(sum(window) / len(window))
    return out
