"""The commands of scripts/check_docs.py: those that pages show, and what the built program knows."""

from __future__ import annotations

import functools
import json
import re
import shlex
import subprocess
from pathlib import Path

from .markdown import Block

REPOSITORY = Path(__file__).resolve().parents[2]


class Program:
    """The built program: what it does, which options and keys it has."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        self.options = self.read_options()
        self.keys = self.read_keys()

    def run(self, words: list[str], folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        command = [str(self.binary), *words]
        return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")

    def read_options(self) -> dict[str, set[str]]:
        """Command -> its options, by the man page."""
        options: dict[str, set[str]] = {"": set()}
        name = ""
        for line in self.run(["completions", "man"]).stdout.replace("\\-", "-").splitlines():
            if line.startswith(".SS "):
                name = line[4:]
                options[name] = {"--help"}
            elif found := re.match(r"\\fB(--[a-z-]+)", line):
                options[name].add(found[1])
        return options

    def read_keys(self) -> set[str]:
        """Dotted keys and sections by the schema; an item of a list as `data.sources[].weight`."""
        keys: set[str] = set()

        def walk(schema: dict, path: str) -> None:
            keys.add(path)
            for part in (schema, *schema.get("anyOf", [])):
                for key, value in part.get("properties", {}).items():
                    walk(value, f"{path}.{key}" if path else key)
                if isinstance(part.get("items"), dict):
                    walk(part["items"], path + "[]")

        walk(json.loads(self.run(["config", "--schema"]).stdout), "")
        return keys - {""}


def commands_of(block: Block) -> list[tuple[int, list[str]]]:
    """The commands of a block with their lines, without comments and prompts."""
    found, text, first = [], "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        first = first if text else number
        text += line.rstrip("\\").strip() + " " if line.endswith("\\") else line
        if line.endswith("\\"):
            continue
        for part in re.split(r" && |(?<!&)&$", text):
            words = shlex.split(part, comments=True)
            if words:
                found.append((first, words))
        text = ""
    return found


def own_part(words: list[str]) -> list[str] | None:
    """The arguments of switchyard among the words of a command, or None."""
    for i, word in enumerate(words if words[:2] != ["docker", "build"] else []):
        if word == "switchyard" or word.endswith("/switchyard"):
            return words[i + 1 :]
    return None


@functools.cache
def text_of_scripts() -> str:
    """All scripts, in which an option of one of them stands somewhere."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "scripts").glob("**/*.[ps][yh]")))


@functools.cache
def lines_of_code() -> set[str]:
    """Every line of src/ and tests/, without its indentation."""
    found = set()
    for folder in ("src", "tests"):
        for path in (REPOSITORY / folder).glob("**/*.[ch]*"):
            found.update(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return found
