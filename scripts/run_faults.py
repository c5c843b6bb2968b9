#!/usr/bin/env python3
"""What the program must survive, and the tests that show it: runs them and prints a line for each fault.

    scripts/run_faults.py                 all, some ten minutes on two cores
    scripts/run_faults.py --only signal   those whose line has that word
    scripts/run_faults.py --list          the tests of each, which run nothing

The tests are part of ctest; of the kills at every system call, CI takes some (tests/program/kills_test.py). Exit code 1
where one fails. A fault whose tests were all skipped, as for want of a right, is not shown and said to be skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

# A test of tests/program is FILE.CLASS or FILE.CLASS.METHOD, one of a test binary FOLDER:SUITE.CASE or FOLDER:SUITE.*
FAULTS = {
    "Saving and resuming": {
        "SIGKILL at every write: what was saved before is whole, and the run goes on (keep_last 1, too)": (
            "kills.Writes faults.Kills checkpoint:CheckpointFaults.KilledAnywhereACheckpointRemains "
            "checkpoint:CheckpointFaults.DyingInsideAWriteLeavesTheOldOnes"
        ),
        "killed imports, exports, saves and preparations: no leftovers after the next start": (
            "kills.Writes checkpoint:HfExport.WritesThroughNoPlantedLinkAndRemovesLeftovers base:NewFolderTest.* "
            "checkpoint:CheckpointFolders.LeftoversOfKilledProcessesGo data:DatasetTest.LeftoversOfKilledBuildersGo"
        ),
        "the newest checkpoint is partial: a warning, and the one before": (
            "resume.Damage.test_the_one_before_is_used "
            "checkpoint:CheckpointFolders.LatestSkipsPartialOnesWithAWarningEach"
        ),
        "an explicit path to a partial one: an error that names the file": (
            "resume.Damage.test_an_explicit_path_to_a_damaged_one_fails_by_name"
        ),
        "every checkpoint damaged, or of a newer format: refused, nothing touched": (
            "resume.Damage.test_all_damaged run_folder.Folders.test_damaged_checkpoints_are_not_started_over "
            "checkpoint:CheckpointFolders.AnotherFormatVersionIsRefusedAndLeftAlone"
        ),
        "no space, a quota, a short write: the old ones intact, all ranks end": (
            "faults.NoSpace parallel.Faults.test_a_full_disk_on_one_rank checkpoint:CheckpointFaults.AFullDiskIsTold "
            "checkpoint:CheckpointFaults.AFailingWriteLeavesTheOldOnesAndNoLitter "
            "base:Files.ShortWritesAreReportedAndLeaveNothing"
        ),
        "one bit flipped in any file: a checksum error that names it": (
            "checkpoint:DamagedCheckpoint.OneFlippedBitIsFound checkpoint:Manifest.EveryFlippedBitIsFound "
            "data:TokenShardTest.AnyFlippedBitIsFound"
        ),
        "a rank's shard is missing: named": "parallel.Faults.test_a_missing_shard_is_named",
        "a finished run is started again: it says so and saves nothing twice": (
            "resume.Finished.test_a_finished_run_says_so_and_saves_nothing_twice"
        ),
        "2 N steps are N and a resume, bit for bit, with dropout, jitter and noise": (
            "resume.Equality pairs:Pairs.Resume"
        ),
        "resumed on other numbers of ranks: every tensor and moment exact, the same numbers": (
            "pairs:Reshard.* parallel.Layouts.test_the_same_run_on_any_layout_and_resumed_on_others layouts:Layouts.*"
        ),
        "expert bias, schedule and the spike guard's window come back": (
            "expert_bias.ExpertBias.test_resume_goes_on_with_the_bias resume.Equality train:RunState.RoundTripsExactly"
        ),
        "the data has changed: refused unless asked for": "resume.Refusals.test_changed_data",
        "the architecture has changed: refused; when allowed, tensors and shapes are named": (
            "resume.Refusals.test_another_architecture resume.Refusals.test_another_architecture_when_allowed"
        ),
        "--resume on a checkpoint, a sweep, a file, anything else: understood or refused": (
            "run_folder.Folders resume.Refusals.test_a_folder_that_is_no_run"
        ),
        "killed before the first checkpoint: started over with the same weights": (
            "resume.Finished.test_killed_before_the_first_checkpoint run_folder.Starts"
        ),
        "two processes in one run folder: the second is told who holds it": "run_folder.TwoProcesses base:FileLock.*",
    },
    "Signals": {
        "SIGTERM or SIGUSR1 to one rank: all save the same step": (
            "parallel.Faults.test_a_signal_to_one_rank_stops_all_after_saving_the_same_step"
        ),
        "a signal in an evaluation, while saving, in the first step: saves": (
            "signals.DuringEvaluation signals.Stopping.test_while_saving signals.Stopping.test_in_the_first_step"
        ),
        "a second signal: out at once, the old checkpoint whole": (
            "signals.Stopping.test_a_second_signal_leaves_at_once signals.Stopping.test_a_second_signal_while_saving "
            "signals.Stopping.test_the_same_signal_later_leaves_at_once"
        ),
        "the same signal twice within a second, from a launcher: one request": (
            "signals.Stopping.test_one_request_may_be_several_signals "
            "parallel.Faults.test_a_signal_to_every_rank_twice_is_one_request"
        ),
        "SIGHUP: saves, unless it is ignored": (
            "signals.Stopping.test_each_signal_saves_the_step_it_names "
            "signals.Stopping.test_an_ignored_hangup_stays_ignored"
        ),
        "SIGPIPE, full or closed output: training goes on, commands that print exit with 1": "output.StandardStreams",
        "SIGCHLD ignored: sweeps end": "ablate.Children",
    },
    "Ranks": {
        "one is killed: the others end and name it": "parallel.Faults.test_a_killed_rank_ends_the_others_and_is_named",
        "one is stopped, or the network is cut: the time-out names rank and collective": (
            "parallel.Faults.test_a_stopped_rank_is_named_after_the_time_out parallel.Network"
        ),
        "one never comes: a readable error": "parallel.Faults.test_a_rank_that_never_comes",
        "killed while saving: nothing is lost": "parallel.Faults.test_kills_while_saving_lose_nothing",
        "the launcher restarts: the run goes on": (
            "parallel.Launchers.test_torchrun_starts_a_killed_group_again_and_it_goes_on "
            "run_folder.Starts.test_a_requeued_job_goes_on_and_another_job_does_not"
        ),
        "the port is taken: said": "parallel.Faults.test_a_port_that_is_taken",
        "a run on loopback: listens there only": "parallel.Faults.test_it_listens_on_loopback_only",
        "no tokens on a rank, all on one expert: the gradients of one process": (
            "layouts:Layouts.* model:MoeLayer.AllTokensOnOneExpert model:MoeLayer.NoTokensAtAll"
        ),
        "machines with another configuration, program or other texts: refused before the first step": (
            "parallel.Faults.test_another_configuration_on_one_rank parallel.Faults.test_another_program_on_one_rank "
            "parallel.Faults.test_other_texts_on_another_machine"
        ),
    },
    "Numbers": {
        "NaN on one rank, on a step that is not logged: all stop before the update": (
            "layouts:Faults.ANumberThatIsNotFiniteOnOneRankIsSeenByAllBeforeTheUpdate "
            "faults.NotFinite.test_a_loss_that_is_not_finite_stops_the_run"
        ),
        "a spike that is skipped: the weights unchanged": (
            "faults.NotFinite.test_a_skipped_spike_leaves_the_weights train:SpikeGuard.*"
        ),
        "NaN while skipping: the next finite step is applied": "faults.NotFinite.test_skipping_goes_on",
        "an imbalance that would not fit: foreseen, with the bytes and what to change": "parallel:RequireRoom.*",
        "no memory: one line": "faults.NoMemory",
        "thousands of steps, batches and tokens: no more memory than some": "memory.Memory",
    },
    "Input": {
        "an unknown or duplicate key, NaN, negative, wrong type: line and column, nothing written": (
            "config:Reader.* config:Malformed.* command_line.Wrong"
        ),
        "YAML nested without end, bombs: an error in bounded memory": (
            "config:Malformed.NestingIsBounded config:Malformed.BombsTakeBoundedMemory"
        ),
        "malformed safetensors headers: rejected before anything is allocated": (
            "checkpoint:SafetensorsLies.* checkpoint:SafetensorsMalformed.*"
        ),
        "JSON with many siblings, great depth, millions of dimensions: bounded, a short message": (
            "base:Json.* checkpoint:SafetensorsMalformed.AMillionDimensionsAreRefusedInAFewWords"
        ),
        "../, absolute and linked shards: rejected": (
            "checkpoint:Manifest.NamesThatLeaveTheFolderAreRefused checkpoint:HfFolderTest.LinksAreRefused "
            "checkpoint:DamagedCheckpoint.LinksAndFoldersAreRefused checkpoint:HfFolderTest.PathsInAnIndexAreRefused"
        ),
        "a token shard with wrong magic, size or tokens: rejected; offsets beyond 4 GiB right": (
            "data:TokenShardTest.SealedLiesAreFoundByName data:TokenShardTest.AnyOtherLengthIsFound "
            "data:TokenShardTest.OffsetsBeyondFourGigabytes"
        ),
        "parsers given every cut and many flips: no crash": (
            "config:Malformed.CutAtEveryByte config:Malformed.FlippedBits checkpoint:SafetensorsDamage.* "
            "data:TokenShardTest.GeneratedLiesNeverGetThroughUnlessTheyAreTrue data:SentencePiece.BrokenModelsDoNoHarm"
        ),
        "a mapped shard is cut while in use: an error that names it": (
            "faults.Shards data:TokenShardTest.CutWhileInUse base:Files.WhatIsCutWhileInUseIsNamed"
        ),
        "a cut TensorBoard file: its prefix is readable": "metrics:Events.EveryCutLeavesAReadablePrefix",
        "zero bytes or a broken line in metrics.jsonl: the good lines kept": (
            "metrics:Jsonl.* run_folder.Changes.test_a_broken_line_of_the_metrics_is_put_aside"
        ),
        "--out to a device, a pipe, a folder without room: nothing that was there is lost": "output.OutputFiles",
        "a planted link under a temporary name: refused": (
            "base:FileLock.APlantedLinkIsRefused base:Files.WhatHasTheTemporaryNameIsNotWrittenThrough "
            "base:NewFolderTest.WritesThroughNothingThatOthersPut"
        ),
        "escape sequences in names: quoted": (
            "base:Text.NothingForTheTerminalToObey base:Json.ForeignTextInMessagesIsEscaped"
        ),
    },
}


def command_of(tests: Iterable[str], build: Path) -> tuple[list[str], str]:
    """What runs these tests of one file or binary, and its name."""
    tests = list(tests)
    if ":" in tests[0]:
        folder = tests[0].partition(":")[0]
        cases = [test.partition(":")[2] for test in tests]
        pattern = ":".join(f"{case}:*/{case}" + ("" if case.endswith("*") else "/*") for case in cases)
        return [str(build / f"test_{folder}"), f"--gtest_filter={pattern}"], f"test_{folder}"
    name = tests[0].partition(".")[0]
    file = REPOSITORY / "tests/program" / f"{name}_test.py"
    return [sys.executable, "-B", str(file), *(test.partition(".")[2] for test in tests)], file.name


def by_file(tests: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for test in tests:
        groups.setdefault(re.split("[:.]", test)[0] + (":" if ":" in test else ""), []).append(test)
    return list(groups.values())


def result_of(code: int, output: str) -> tuple[int, int]:
    """How many tests one command ran that were not skipped, and whether it failed; without any test it did."""
    def total(pattern: str) -> int:
        return sum(int(number) for number in re.findall(pattern, output, re.MULTILINE))

    ran = total(r"^(?:Ran|\[=+\]) (\d+) tests? (?:in|from .* ran)")
    return ran - total(r"(?:skipped=|^\[  SKIPPED \] )(\d+)"), int(code != 0 or ran == 0)


def run_fault(tests: str, build: Path, environment: dict[str, str]) -> tuple[str, str]:
    """"ok", "skipped" or "FAILED", and what the failed commands said."""
    ran, said = 0, ""
    for group in by_file(tests.split()):
        command, name = command_of(group, build)
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        shown, failed = result_of(done.returncode, done.stdout)
        ran += shown
        if failed:
            said += f"{name}:\n{done.stdout[-3000:]}\n"
    return ("FAILED" if said else "ok" if ran > 0 else "skipped"), said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build/release", help="where the program was built")
    parser.add_argument("--only", default="", help="faults whose line has this text")
    parser.add_argument("--list", action="store_true", help="name the tests and run nothing")
    options = parser.parse_args()
    build = options.build.resolve()
    if not (build / "switchyard").exists():
        parser.error(f"{build} holds no program: cmake --build --preset release")
    programs = {"SWITCHYARD": str(build / "switchyard"), "PROBE_MODEL": str(build / "probe_model")}
    environment = {"SWITCHYARD_KILL_EVERY": "1", **os.environ, **programs}
    failures = 0
    for heading, faults in FAULTS.items():
        chosen = {fault: tests for fault, tests in faults.items() if options.only.lower() in fault.lower()}
        if chosen:
            print(heading)
        for fault, tests in chosen.items():
            if options.list:
                print(f"  {fault}\n      {tests}")
                continue
            begin = time.monotonic()
            result, said = run_fault(tests, build, environment)
            print(f"  {result:8}{time.monotonic() - begin:6.1f} s  {fault}\n{said}".rstrip(), flush=True)
            failures += result == "FAILED"
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
