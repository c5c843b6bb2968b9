#!/usr/bin/env python3
"""Times Switchyard beside other programs on the same machine, turn by turn so that the machine's drift cancels.

  scripts/bench_peers.py --install                       third_party/python-peers.txt from PyPI into .venv-peers (5 GB)
  scripts/bench_peers.py --list                          the settings of transformers that can be measured
  scripts/bench_peers.py --settings 'compile/bf16/*'     the training step of configs/bench/reference.yaml
  scripts/bench_peers.py --config configs/bench/*.yaml --nanogpt DIR
                                                         of every shape in that folder, a table each; nanoGPT's model,
                                                         from a checkout, beside those that are a GPT-2
  scripts/bench_peers.py moe=null model.intermediate_size=1024
                                                         of the reference's dense counterpart: equal active FLOPs, since
                                                         the width is (top_k + num_shared_experts) x the experts' width
  scripts/bench_peers.py --generate                      text generation, token by token, with the same weights
  scripts/bench_peers.py --nanogpt DIR --text FILE --shakespeare CONFIG
                                                         a whole training on characters against nanoGPT's own

The peer's shape is read from the configuration: transformers' Mixtral, with shared experts its Qwen2-MoE, its Llama or
GPT-2 where there are none. A setting of it is MODE/PRECISION/EXPERTS/ATTENTION; without experts EXPERTS says nothing.
Every measurement is a process of its own. Ratios are of the medians over rounds, ours by theirs. Precision bf16 is
bfloat16 compute over float32 weights, which is what ours does in training; bf16-weights also keeps weights and
optimizer state in bfloat16, so it does less work. In generation both programs hold their matrices in bfloat16. The
machine must have nothing else to do: threads of one step wait for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib import peer_generation, peer_nanogpt, peer_shapes, runs, venv
from lib.peer_generation import Generation
from lib.peer_settings import GENERATION_SETTINGS, SETTINGS, chosen_settings, jobs_of
from lib.peer_shapes import Peer
from lib.processes import ProcessError, run_measured
from lib.tables import gigabytes, markdown_table, mean_and_spread

VENV = ".venv-peers"
REQUIREMENTS = "python-peers.txt"
REFERENCE = "configs/bench/reference.yaml"
DEFAULT_SETTINGS = ["eager/fp32/grouped_mm/sdpa", "eager/bf16/*/sdpa", "compile/bf16/*"]
DEFAULT_GENERATION_SETTINGS = ["*/sdpa"]


@dataclass
class Measurement:
    """One process: its median step, or its whole training."""

    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    loss: float  # nats per token; total loss of the last step, or the final validation loss
    parameters: int | None = None


def environment(threads: int) -> dict[str, str]:
    """This process's environment with the number of threads; without choices made for another BLAS."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    return kept | {"OMP_NUM_THREADS": str(threads)}


def measure_peer(python: Path, job: dict[str, Any], arguments: argparse.Namespace) -> Measurement:
    """The training step of another program's model; `job` as scripts/lib/peer_step.py takes it, without numbers."""
    numbers = {key: getattr(arguments, key) for key in ("threads", "warmup", "steps", "seed")}
    worker = venv.REPOSITORY / "scripts/lib/peer_step.py"
    done = run_measured([python, worker, json.dumps(job | numbers)], environment=environment(arguments.threads))
    answer = json.loads(done.stdout.splitlines()[-1])
    seconds = statistics.median(answer["step_seconds"])
    speed = answer["tokens_per_step"] / seconds
    return Measurement(seconds, speed, answer["peak_memory_bytes"], answer["losses"][-1], answer["parameters"])


def measure_ours(precision: str, config: Path, arguments: argparse.Namespace) -> Measurement:
    """`switchyard bench` on the same shape. Peak memory is the kernel's figure, as for the peers."""
    overrides = [*arguments.overrides, f"training.precision={precision}", f"training.num_threads={arguments.threads}"]
    steps = ["--steps", str(arguments.steps), "--warmup", str(arguments.warmup)]
    command = [arguments.switchyard, "bench", config, "--json", *steps, *overrides]
    done = run_measured(command, environment=environment(arguments.threads))
    answer = json.loads(done.stdout)
    speed, parameters = answer["tokens_per_second"], answer["parameters"]
    return Measurement(answer["step_seconds"], speed, done.peak_memory_bytes, answer["loss"], parameters)


def measure_nanogpt(python: Path, compile_model: bool, arguments: argparse.Namespace) -> Measurement:
    """A whole training by nanoGPT's train.py; reading the text is not timed."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        peer_nanogpt.prepare(arguments.text, data)
        training = peer_nanogpt.Training(python, arguments.nanogpt, data, compile_model, arguments.iterations)
        result = peer_nanogpt.train(training, environment(arguments.threads))
    return Measurement(result.seconds, result.tokens_per_second, result.peak_memory_bytes, result.val_loss)


def measure_our_training(precision: str, arguments: argparse.Namespace) -> Measurement:
    """A whole training of CONFIG on the text by `switchyard train`; `prepare` runs before and is not timed."""
    surroundings = environment(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        text = json.dumps([str(arguments.text.resolve())])
        data = [f"data.sources.0.files={text}", f"data.cache_dir={folder}/shards"]
        length = [f"training.max_steps={arguments.iterations}", f"training.num_threads={arguments.threads}"]
        length.append(f"training.precision={precision}")
        run_measured([arguments.switchyard, "prepare", arguments.shakespeare, *data], environment=surroundings)
        command = [arguments.switchyard, "train", arguments.shakespeare, f"run.dir={run}", *data, *length]
        done = run_measured(command, environment=surroundings)
        events = runs.read_metrics(run)
    speed = statistics.median(event["tokens_per_second"] for event in runs.of_kind(events, "train"))
    return Measurement(done.seconds, speed, done.peak_memory_bytes, runs.final_eval(events)["val_loss"])


Result = Measurement | Generation
Measure = Callable[[], Result]
Results = dict[str, list[Any]]  # program -> a Result a round


def take_turns(programs: dict[str, Measure], rounds: int) -> Results:
    """A, B, C, A, B, C, ...; a program that fails is named and left out from then on."""
    results: Results = {name: [] for name in programs}
    failed: set[str] = set()
    for turn in range(rounds):
        for name, measure in programs.items():
            if name in failed:
                continue
            try:
                result = measure()
            except (ProcessError, runs.RunError, OSError, ValueError, KeyError) as error:
                failed.add(name)
                print(f"{name}: failed and left out: {error}", file=sys.stderr)
                continue
            results[name].append(result)
            print(f"round {turn + 1}, {name}: {result.tokens_per_second:,.0f} tokens/s", file=sys.stderr)
    return {name: found for name, found in results.items() if found}


def speed_table(results: dict[str, list[Measurement]], ours: Sequence[str], unit: str) -> str:
    """One row a program, with how much faster each of `ours` is. `unit` is what `seconds` count: a step or a run."""

    def median(name: str, key: str) -> float:
        return statistics.median(getattr(found, key) for found in results[name])

    ours = [name for name in ours if name in results]
    counted = all(found[0].parameters for found in results.values())
    rows = []
    for name, found in results.items():
        rows.append([
            name,
            *([f"{found[0].parameters / 1e6:.2f} M"] if counted else []),
            f"{median(name, 'seconds'):.3f}",
            mean_and_spread([measurement.tokens_per_second for measurement in found], 0),
            f"{median(name, 'tokens_per_second'):,.0f}",
            gigabytes(max(measurement.peak_memory_bytes for measurement in found)),
            f"{median(name, 'loss'):.3f}",
            *(f"{median(name, 'seconds') / median(our, 'seconds'):.2f}" for our in ours),
        ])  # fmt: skip
    header = [f"seconds a {unit}", "tokens/s, mean", "median", "peak memory", "loss"]
    first = ["program", *(["parameters"] if counted else [])]
    return markdown_table([*first, *header, *(f"{our} faster by" for our in ours)], rows)


def peers_of(config: dict[str, Any], nanogpt: Path | None) -> list[Peer]:
    """transformers' model of this shape and, where there is a checkout and it fits, nanoGPT's."""
    peers = [peer_shapes.peer_of(config)]
    if nanogpt:
        try:
            peers.append(peer_shapes.nanogpt_of(config))
        except peer_shapes.NoPeerError as error:
            print(f"nanoGPT left out: {error}", file=sys.stderr)
    return peers


def heading(arguments: argparse.Namespace, config: Path, work: str) -> str:
    """What is compared, in a line."""
    answer = runs.ask(arguments.switchyard, "inspect", config, arguments.overrides)
    counts = f"{answer['total_parameters'] / 1e6:.2f} M parameters, {answer['active_parameters'] / 1e6:.2f} M active"
    flops = f"{answer['forward_flops_per_token'] / 1e6:.1f} MFLOP a token forward"
    return f"{' '.join([str(config), *arguments.overrides])}: {counts}, {flops}; {work}\n"


def our_names(arguments: argparse.Namespace) -> dict[str, str]:
    """Name of our row -> its precision."""
    return {} if arguments.peers_only else {f"switchyard {precision}": precision for precision in arguments.precisions}


def compare_steps(arguments: argparse.Namespace, python: Path, config: Path) -> tuple[Results, str]:
    """Measures the training step of one configuration; the measurements and the text with the table."""
    shape = peer_shapes.resolved(arguments.switchyard, python, config, arguments.overrides)
    settings = chosen_settings(arguments.settings or DEFAULT_SETTINGS, SETTINGS)
    step = peer_shapes.step_of(shape)
    programs: dict[str, Measure] = {}
    notes = []
    for peer in peers_of(shape, arguments.nanogpt):
        fixed = {"family": peer.family, "arguments": peer.arguments, "step": step, "checkout": str(arguments.nanogpt)}
        for name, parts in jobs_of(peer, settings).items():
            programs[name] = lambda job=fixed | parts: measure_peer(python, job, arguments)
        notes += [f"\n{peer.family}: {note}" for note in peer.differs]
    ours = our_names(arguments)
    for name, precision in ours.items():
        programs[name] = lambda precision=precision: measure_ours(precision, config, arguments)
    results = take_turns(programs, arguments.rounds)
    title = heading(arguments, config, f"steps of {step['sequences']} x {step['length']} tokens")
    return results, "\n".join([title, speed_table(results, list(ours), "step") if results else "", *notes])


def compare_generation(arguments: argparse.Namespace, python: Path, config: Path) -> tuple[Results, str]:
    """Measures generation with random weights of one configuration; the measurements and the text with the table."""
    shape = peer_shapes.resolved(arguments.switchyard, python, config, arguments.overrides)
    peer = peer_shapes.peer_of(shape)
    settings = chosen_settings(arguments.settings or DEFAULT_GENERATION_SETTINGS, GENERATION_SETTINGS)
    numbers = {key: getattr(arguments, key) for key in ("threads", "new_tokens", "warmup")}
    work = peer_generation.Work(environment=environment(arguments.threads), **numbers)
    ours = our_names(arguments)
    with tempfile.TemporaryDirectory() as folder:
        made = peer_generation.make_folders(python, arguments.switchyard, peer, arguments.seed, Path(folder))
        programs: dict[str, Measure] = {}
        for name, parts in jobs_of(peer, settings).items():
            programs[name] = lambda parts=parts: peer_generation.measure_theirs(python, made[0], parts, work)
        for name, precision in ours.items():
            programs[name] = lambda precision=precision: peer_generation.measure_ours(
                arguments.switchyard, made[1], precision, work
            )
        results = take_turns(programs, arguments.rounds)
    table = peer_generation.generation_table(results, list(ours)) if results else ""
    title = heading(arguments, config, f"{work.new_tokens} new tokens, the likeliest each, of one sequence")
    return results, f"{title}\n{table}"


def compare_trainings(arguments: argparse.Namespace, python: Path) -> tuple[Results, str]:
    """Measures whole trainings on characters of a text."""
    programs: dict[str, Measure] = {}
    for compiled in (False, True):
        name = f"nanoGPT, {'torch.compile' if compiled else 'eager'}"
        programs[name] = lambda compiled=compiled: measure_nanogpt(python, compiled, arguments)
    ours = our_names(arguments) if arguments.shakespeare else {}
    for name, precision in ours.items():
        programs[name] = lambda precision=precision: measure_our_training(precision, arguments)
    results = take_turns(programs, arguments.rounds)
    return results, speed_table(results, list(ours), "run") if results else ""


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="make .venv-peers and exit")
    parser.add_argument("--list", action="store_true", help="print the settings of transformers and exit")
    parser.add_argument("--switchyard", type=Path, default=Path("build/release/switchyard"), help="our program")
    parser.add_argument("--config", nargs="+", default=[REFERENCE], help="files, a table each; overrides may follow")
    parser.add_argument("--generate", action="store_true", help="measure generation instead of the training step")
    parser.add_argument("--new-tokens", type=int, default=200, help="of a generation")
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"], choices=["fp32", "bf16"], help="ours")
    parser.add_argument("--peers-only", action="store_true", help="leave our program out")
    parser.add_argument("--settings", nargs="+", metavar="PATTERN", help="of transformers, as --list shows them")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every program")
    parser.add_argument("--steps", type=int, default=12, help="timed steps in a turn")
    parser.add_argument("--warmup", type=int, default=4, help="steps, or new tokens, before those that are timed")
    parser.add_argument("--seed", type=int, default=1, help="of the peers' weights and tokens")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every program")
    parser.add_argument("--nanogpt", type=Path, metavar="DIR", help="a checkout of nanoGPT, measured where it fits")
    parser.add_argument("--text", type=Path, help="with --nanogpt: compare whole trainings on this text instead")
    parser.add_argument("--shakespeare", type=Path, metavar="CONFIG", help="our configuration of that training")
    parser.add_argument("--iterations", type=int, default=peer_nanogpt.MAX_ITERS, help="of nanoGPT; a multiple of 250")
    parser.add_argument("--out", type=Path, help="also write every measurement to this JSON file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set in every --config, for both programs")
    arguments = parser.parse_args()
    arguments.overrides += [word for word in arguments.config if "=" in word]
    arguments.config = [Path(word) for word in arguments.config if "=" not in word] or [Path(REFERENCE)]
    if arguments.text and (not arguments.nanogpt or arguments.overrides or arguments.iterations % 250):
        parser.error("--text needs --nanogpt DIR, no overrides, and --iterations that are a multiple of nanoGPT's 250")
    return arguments


def run_all(arguments: argparse.Namespace, python: Path) -> dict[str, Results]:
    """Measures everything that was asked for, printing each table as soon as it is complete."""
    if arguments.text:
        results, text = compare_trainings(arguments, python)
        print(text)
        return {"training": results}
    compare = compare_generation if arguments.generate else compare_steps
    found = {}
    for config in arguments.config:
        found[str(config)], text = compare(arguments, python, config)
        print(f"{text}\n", flush=True)
    return found


def main() -> int:
    """Measures and prints tables; exit code 1 when something could not be measured at all, 2 when asked wrongly."""
    arguments = parse_arguments()
    if arguments.list:
        print("training step:", *SETTINGS, "generation:", *GENERATION_SETTINGS, sep="\n")
        return 0
    if arguments.install:
        venv.ensure(VENV, REQUIREMENTS)
        return 0
    if not venv.is_ready(VENV, REQUIREMENTS):
        print("error: the peers are not installed: scripts/bench_peers.py --install", file=sys.stderr)
        return 1
    try:
        found = run_all(arguments, venv.environment_of(VENV, REQUIREMENTS)[0])
    except (ValueError, ProcessError, runs.RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.out:
        details = {
            title: {name: [asdict(result) for result in taken] for name, taken in results.items()}
            for title, results in found.items()
        }
        arguments.out.write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
