#!/usr/bin/env python3
"""Checks that the folders of src build on each other in one direction only, and that tests mirror them.

  scripts/check_layout.py              checks this repository; exit code 1 when something is wrong
  scripts/check_layout.py --self-test  checks this checker on small trees that it makes up

What must hold:
  - a file of src/FOLDER (or tests/FOLDER) includes FOLDER itself and folders that stand above it in ORDER;
  - every quoted include names a file, from src; a test may also name helpers of its own folder or of tests/support;
  - the folders of TORCH_FREE reach no LibTorch header, not even through another file of src;
  - tests lie in tests/FOLDER with FOLDER as in src (or one of TEST_ONLY), and are named *_test.cpp: those the build finds.
Long files and functions are printed as notes and fail nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

# Top to bottom, as in docs/architecture.md. model/moe counts as model.
ORDER = [
    "base", "config", "data", "ops", "model", "losses", "optim", "parallel", "checkpoint", "metrics", "train", "ablate", "cli",
]  # fmt: skip
TORCH_FREE = {"base", "config", "data", "metrics", "ablate", "cli"}
TORCH_HEADER = re.compile(r"^(torch|ATen|c10|caffe2)/")
TEST_ONLY = {"support", "integration", "scripts", "fuzz"}
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
LONGEST_FILE = 300
LONGEST_FUNCTION = 60
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
NO_FUNCTION = re.compile(r"^(namespace|struct|class|enum|union|extern|\}|#|//)")


@dataclass
class Include:
    """One #include line."""

    line: int
    quoted: bool
    path: str


@dataclass
class Report:
    """What was found, as lines to print."""

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sources(folder: Path) -> list[Path]:
    """All C++ and CUDA files under a folder, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)


def includes_of(path: Path) -> list[Include]:
    """The #include lines of a file."""
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(text)
        if match:
            found.append(Include(number, match[1] == '"', match[2]))
    return found


def allowed_folders(folder: str) -> list[str]:
    """The folders that files of `folder` may include."""
    return ORDER[: ORDER.index(folder) + 1]


def is_test_helper(root: Path, include: str, folder: str) -> bool:
    """Whether `include` is a file that tests of `folder` share."""
    return include.startswith((f"tests/{folder}/", "tests/support/")) and (root / include).is_file()


def check_includes(root: Path, path: Path, folder: str, report: Report) -> None:
    """Every quoted include of one file: it exists, and stands in an allowed folder."""
    in_tests = path.is_relative_to(root / "tests")
    for include in includes_of(path):
        if not include.quoted or (in_tests and is_test_helper(root, include.path, folder)):
            continue
        where = f"{path.relative_to(root)}:{include.line}"
        target = include.path.split("/")[0]
        if not (root / "src" / include.path).is_file():
            report.errors.append(f'{where}: "{include.path}" is no file of src; includes are written from src')
        elif target not in ORDER:
            report.errors.append(f'{where}: "{include.path}": folder {target} is not in the order of the house')
        elif folder in ORDER and target not in allowed_folders(folder):
            report.errors.append(
                f'{where}: {folder} includes "{include.path}", which stands below it; '
                f"allowed: {', '.join(allowed_folders(folder))}"
            )


def torch_path(root: Path, path: Path, seen: set[Path]) -> list[str]:
    """How a file reaches a LibTorch header: the includes one after another, or [] when it does not."""
    seen.add(path)
    for include in includes_of(path):
        if TORCH_HEADER.match(include.path):
            return [f"{path.relative_to(root)}:{include.line}", include.path]
    for include in includes_of(path):
        target = root / "src" / include.path
        if include.quoted and target.is_file() and target not in seen:
            chain = torch_path(root, target, seen)
            if chain:
                return [f"{path.relative_to(root)}:{include.line}", *chain]
    return []


def check_torch_free(root: Path, path: Path, folder: str, report: Report) -> None:
    """Files of the torch-free folders compile, and are linted, without LibTorch."""
    if folder in TORCH_FREE:
        chain = torch_path(root, path, set())
        if chain:
            report.errors.append(f"{chain[0]}: {folder} must do without LibTorch, but reaches {' -> '.join(chain[1:])}")


def long_functions(text: str) -> list[tuple[int, int]]:
    """(first line, number of lines) of each function longer than LONGEST_FUNCTION.

    Reads clang-formatted code: a function outside a class starts in the first column and ends with a lone `}` there.
    """
    found = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("}"):
            if start and number - start + 1 > LONGEST_FUNCTION:
                found.append((start, number - start + 1))
            start = 0
        elif line and not line[0].isspace() and not NO_FUNCTION.match(line) and "(" in line and not start:
            start = number if not line.endswith((";", "}")) else 0
    return found


def note_length(root: Path, path: Path, report: Report) -> None:
    """Notes for a long file and for long functions."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(root)
    lines = text.count("\n")
    if lines > LONGEST_FILE:
        report.notes.append(f"{name}: {lines} lines; past {LONGEST_FILE} wants a reason")
    for line, length in long_functions(text):
        report.notes.append(f"{name}:{line}: a function of {length} lines; past {LONGEST_FUNCTION} wants a reason")


def check_test_place(root: Path, path: Path, report: Report) -> None:
    """A test lies and is named where the build looks for it; another program is named in CMakeLists.txt."""
    place = path.relative_to(root / "tests")
    name = path.relative_to(root)
    build = root / "CMakeLists.txt"
    if place.parts[0] in TEST_ONLY:
        return
    if len(place.parts) != 2 or not (root / "src" / place.parts[0]).is_dir():
        report.errors.append(
            f"{name}: belongs in tests/FOLDER with FOLDER as in src (or one of {', '.join(sorted(TEST_ONLY))})"
        )
    elif path.suffix == ".cpp" and not path.stem.endswith("_test"):
        if not build.is_file() or name.as_posix() not in build.read_text(encoding="utf-8"):
            report.errors.append(f"{name}: name it {path.stem}_test.cpp, or the build does not see it")


def check(root: Path) -> Report:
    """Everything, for the repository at `root`."""
    report = Report()
    for path in sources(root / "src"):
        folder = path.relative_to(root / "src").parts[0]
        if folder not in ORDER:
            report.errors.append(f"{path.relative_to(root)}: folder {folder} is not in the order: {', '.join(ORDER)}")
            continue
        check_includes(root, path, folder, report)
        check_torch_free(root, path, folder, report)
        note_length(root, path, report)
    for path in sources(root / "tests"):
        check_test_place(root, path, report)
        check_includes(root, path, path.relative_to(root / "tests").parts[0], report)
    return report


SELF_TESTS: list[tuple[str, dict[str, str], list[str]]] = [
    ("a clean tree", {"src/base/a.h": "", "src/model/moe/b.h": '#include "base/a.h"', "src/model/c.h": '#include "model/moe/b.h"',
                      "tests/model/b_test.cpp": '#include "model/moe/b.h"\n#include "tests/support/s.h"\n#include "tests/model/h.h"',
                      "tests/support/s.h": "", "tests/model/h.h": "", "tests/model/shown.cpp": "",
                      "CMakeLists.txt": "add_executable(shown tests/model/shown.cpp)"}, []),
    ("upwards", {"src/train/t.h": "", "src/losses/l.h": '\n#include "train/t.h"'},
     ['src/losses/l.h:2: losses includes "train/t.h", which stands below it; allowed: base, config, data, ops, model, losses']),
    ("not from src", {"src/base/a.h": "", "src/base/b.h": '#include "a.h"'}, ['src/base/b.h:1: "a.h" is no file of src; includes are written from src']),
    ("unknown folder", {"src/extra/a.h": ""}, ["src/extra/a.h: folder extra is not in the order: " + ", ".join(ORDER)]),
    ("direct torch", {"src/data/d.cpp": "#include <ATen/ATen.h>"}, ["src/data/d.cpp:1: data must do without LibTorch, but reaches ATen/ATen.h"]),
    ("hidden torch", {"src/ops/o.h": "#include <torch/torch.h>", "src/metrics/m.h": '#include "ops/o.h"'},
     ["src/metrics/m.h:1: metrics must do without LibTorch, but reaches src/ops/o.h:1 -> torch/torch.h"]),
    ("a test looks down", {"src/train/t.h": "", "src/base/a.h": "", "tests/base/a_test.cpp": '#include "train/t.h"'},
     ['tests/base/a_test.cpp:1: base includes "train/t.h", which stands below it; allowed: base']),
    ("a test nowhere", {"tests/elsewhere/a_test.cpp": ""},
     ["tests/elsewhere/a_test.cpp: belongs in tests/FOLDER with FOLDER as in src (or one of fuzz, integration, scripts, support)"]),
    ("a test too deep", {"src/model/moe/a.h": "", "tests/model/moe/a_test.cpp": ""},
     ["tests/model/moe/a_test.cpp: belongs in tests/FOLDER with FOLDER as in src (or one of fuzz, integration, scripts, support)"]),
    ("another folder's helper", {"src/base/a.h": "", "tests/data/h.h": "", "src/data/d.h": "", "tests/base/a_test.cpp": '#include "tests/data/h.h"'},
     ['tests/base/a_test.cpp:1: "tests/data/h.h" is no file of src; includes are written from src']),
    ("a test unseen", {"src/base/a.h": "", "tests/base/a.cpp": ""}, ["tests/base/a.cpp: name it a_test.cpp, or the build does not see it"]),
    ("a test on top", {"tests/a_test.cpp": ""},
     ["tests/a_test.cpp: belongs in tests/FOLDER with FOLDER as in src (or one of fuzz, integration, scripts, support)"]),
]  # fmt: skip


def self_test() -> int:
    """Runs check() on made-up trees; returns the number of wrong answers."""
    wrong = 0
    for name, files, expected in SELF_TESTS:
        with tempfile.TemporaryDirectory() as folder:
            for path, text in files.items():
                (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / path).write_text(text + "\n", encoding="utf-8")
            found = check(Path(folder)).errors
        if found != expected:
            wrong += 1
            print(f"self-test '{name}': expected {expected}, found {found}", file=sys.stderr)
    body = "void f(int a,\n       int b) {\n" + "  g();\n" * 58 + "}\n"
    body = "int one() { return 1; }\n\n" + body
    if long_functions(body) != [(3, 61)] or long_functions(body.replace("  g();\n", "", 1)):
        wrong += 1
        print("self-test 'long function': the limit of 60 lines is not where it should be", file=sys.stderr)
    print(f"{len(SELF_TESTS) + 1 - wrong} passed, {wrong} failed")
    return wrong


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the repository")
    parser.add_argument("--self-test", action="store_true", help="check this checker and exit")
    arguments = parser.parse_args()
    if arguments.self_test:
        return 1 if self_test() else 0
    report = check(arguments.root.resolve())
    for note in report.notes:
        print(f"note: {note}")
    for error in report.errors:
        print(f"error: {error}", file=sys.stderr)
    print(f"layout: {len(report.errors)} errors, {len(report.notes)} notes")
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
