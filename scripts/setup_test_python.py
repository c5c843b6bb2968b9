#!/usr/bin/env python3
"""Makes .venv-test: a Python in which transformers runs on the CPU, with the torch that the build uses.

The torch wheel on PyPI links CUDA libraries of 3 GB that a CPU never calls. The loader wants them all the same, so small
stand-ins are built here: libraries of these names whose functions, all of them, end the process. Nothing in .venv is
changed; whoever starts .venv-test/bin/python puts environment() into its environment.

usage: setup_test_python.py   (scripts/setup.sh --dev calls it)
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lib.venv import REPOSITORY, ensure, environment_of, is_ready

NAME = ".venv-test"
REQUIREMENTS = "python-test.txt"
INSIDE = "SWITCHYARD_TEST_PYTHON"  # 1 for what .venv-test's Python runs
SKIPPED = 77  # exit code of a test that can't be run here
# Made for one torch; other pins get others.
TORCH_PINS = hashlib.sha256((REPOSITORY / "third_party" / "python.txt").read_bytes()).hexdigest()[:16]
STAND_INS = REPOSITORY / NAME / f"stand-ins-{TORCH_PINS}"

# Library -> the beginning of its functions' names.
LIBRARIES = {
    "libcublas.so.13": "cublas(?!Lt)",
    "libcublasLt.so.13": "cublasLt",
    "libcudnn.so.9": "cudnn",
    "libcufft.so.12": "cufft",
    "libcufile.so.0": "cuFile",
    "libcurand.so.10": "curand",
    "libcusolver.so.12": "cusolver",
    "libcusparse.so.12": "cusparse(?!Lt)",
    "libcusparseLt.so.0": "cusparseLt",
    "libnccl.so.2": "nccl",
    "libnvshmem_host.so.3": "nvshmem",
}
USERS = ("torch_cuda", "torch_cuda_linalg", "torch_nvshmem", "torch_python", "c10_cuda")


def site_packages(venv: str) -> Path:
    """The folder of a virtual environment's packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return REPOSITORY / venv / "lib" / version / "site-packages"


def undefined_symbols(folder: Path) -> set[str]:
    """Every name, with its version if it has one, that torch's libraries take from others."""
    symbols: set[str] = set()
    for user in USERS:
        library = folder / f"lib{user}.so"
        listing = subprocess.run(
            ["nm", "--dynamic", "--undefined-only", library], check=True, capture_output=True, text=True
        )
        symbols.update(line.split()[-1] for line in listing.stdout.splitlines())
    return symbols


def build_stand_in(folder: Path, library: str, symbols: list[str]) -> None:
    """One shared library of this name that defines these symbols, under the version that they are asked for with."""
    names = [symbol.split("@")[0] for symbol in symbols]
    versions = {symbol.split("@")[1] for symbol in symbols if "@" in symbol}
    source = folder / "source.c"
    source.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in names))
    command = ["gcc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", folder / library, source]
    if versions:
        script = folder / "versions.map"
        script.write_text("".join(f"{version} {{ global: *; }};\n" for version in versions))
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, check=True)


def build_stand_ins() -> None:
    """All of them, in a folder that appears as a whole."""
    symbols = undefined_symbols(site_packages(".venv") / "torch" / "lib")
    temporary = STAND_INS.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for library, pattern in LIBRARIES.items():
        build_stand_in(temporary, library, sorted(symbol for symbol in symbols if re.match(pattern, symbol)))
    temporary.rename(STAND_INS)


def environment() -> dict[str, str]:
    """The environment in which .venv-test's Python finds everything; no hub is asked for anything."""
    paths = [str(STAND_INS), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(path for path in paths if path),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def python() -> Path | None:
    """.venv-test's Python, if it is there with these very pins."""
    return environment_of(NAME, REQUIREMENTS)[0] if is_ready(NAME, REQUIREMENTS) and STAND_INS.is_dir() else None


def enter(script: str) -> None:
    """Goes on as `script` run by .venv-test's Python; ends as a skipped test where that is not there."""
    if os.environ.get(INSIDE) == "1":
        return
    found = python()
    if found is None:
        print(f"skipped: {NAME} is not there; scripts/setup.sh --dev makes it")
        sys.exit(SKIPPED)
    os.execve(found, [str(found), "-B", script, *sys.argv[1:]], {**environment(), INSIDE: "1"})


def main() -> None:
    """Makes what is missing, and tries it."""
    torch = site_packages(".venv")
    if not (torch / "torch").is_dir():
        sys.exit(f"{torch} holds no torch: run scripts/setup.sh without SWITCHYARD_LIBTORCH")
    found = ensure(NAME, REQUIREMENTS)
    (site_packages(NAME) / "torch-of-the-build.pth").write_text(f"{torch}\n")
    if not STAND_INS.is_dir():
        build_stand_ins()
    subprocess.run([found, "-c", "import torch; torch.ones(1)"], check=True, env=environment())


if __name__ == "__main__":
    main()
