"""Runs other programs and says how long they took and how much memory they held."""

from __future__ import annotations

import codecs
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class ProcessError(RuntimeError):
    """A program that ended with another exit code than 0; the message ends with the last lines of its output."""


@dataclass
class Finished:
    """A program that ended well."""

    stdout: str
    seconds: float
    peak_memory_bytes: int
    arrivals: list[tuple[float, str]]  # stdout in pieces as they came, each after how many seconds


def run_measured(
    command: Sequence[str | Path], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Finished:
    """Runs `command` to its end. Its peak resident memory is the kernel's, of the largest process it waited for.

    Throws ProcessError when it fails, OSError when it cannot be started.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        begin = time.monotonic()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd=cwd, env=environment
        )
        assert process.stdout is not None
        with process.stdout:
            arrivals = read_pieces(process.stdout.fileno(), begin)
        stdout = "".join(text for _, text in arrivals)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        tail = "\n".join((stdout + errors.read()).splitlines()[-12:])
    if process.returncode != 0:
        raise ProcessError(f"{' '.join(words)} ended with {process.returncode}:\n{tail}")
    return Finished(stdout, seconds, usage.ru_maxrss * 1024, arrivals)


def read_pieces(descriptor: int, begin: float) -> list[tuple[float, str]]:
    """All that can be read, as it comes, each piece with the seconds since `begin` (time.monotonic)."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pieces = []
    while data := os.read(descriptor, 1 << 16):
        pieces.append((time.monotonic() - begin, decoder.decode(data)))
    return pieces
