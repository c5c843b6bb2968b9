#!/usr/bin/env python3
"""Holds the pages (README.md, CONTRIBUTING.md, docs/*.md, data/README.md) against the program and the tree.

  scripts/check_docs.py [--binary build/release/switchyard] [PAGE...]

- Every `switchyard` command of a shell block is run, in the order of its page, in a folder of its own: shortened by
  overrides (SHORTER), with placeholders filled in (STANDS_FOR), on a small text. What a page takes for granted, such as
  runs/demo, is put there. A block under `<!-- not run: why -->`, and what a launcher starts (NOT_RUN), is not run.
- A block under `<!-- output of: COMMAND -->` has lines that the command prints.
- YAML blocks are read by the program; one that begins with `# NAME.yaml` is that file for the commands of its page.
- Options exist (of commands, and of scripts), also those in backticks, keys are in the schema, files that are named are
  there, links and anchors lead somewhere.
- Code of CONTRIBUTING.md stands in the tree. Figures: parameters of README.md's configurations as `inspect` counts them,
  instructions of docs/speed.md as scripts/instruction_counts.json has them.

Exit codes: 0 all holds; 1 something does not, a line each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from lib.command_lines import Program, commands_of, lines_of_code, own_part, text_of_scripts
from lib.markdown import Block, Page, read_page

REPOSITORY = Path(__file__).resolve().parents[1]
SHELL = ("sh", "bash", "indented")
SMALL = ["training.num_threads=1", "training.micro_batch_size=1", "training.global_batch_size=1"]
TEXT = ["data.tokenizer=byte", 'data.sources=[{name: words, files: ["texts/*.txt"]}]']
SHORTER = {
    "train": [*SMALL, "training.max_steps=2", "eval.batches=1", "metrics.tensorboard=false"],
    "bench": [*SMALL, "--steps", "1", "--warmup", "0"],
    "ablate": ["--plan"],  # which checks every setting
    "prepare": [],
    "serve-report": ["--steps", "2", "--batch-sizes", "1,2"],
    "specialisation": ["--shufflings", "2"],
}
STANDS_FOR = {"CHECKPOINT": "runs/demo", "CONFIG": "configs/bench/reference.yaml", "PLACED": "placed", "N": "4"}
TENSORS = r"\.(weight|bias|\w+_proj)$|^moe\.shared_experts"  # what looks like a key, but is the name of a tensor
GIVEN = {  # what a page may take for granted, besides runs/NAME, a run of demo.yaml
    "mixtral-folder": "switchyard export runs/demo --format hf --out mixtral-folder",
    "trace.jsonl": "switchyard trace runs/demo --data --out trace.jsonl",
}
NOT_RUN = {  # by the first word
    "docker": "takes Docker", "git": "downloads", "python": "takes transformers", "torchrun": "starts several ranks",
    "mpirun": "starts several ranks", "srun": "takes a cluster", "for": "starts several ranks", "done": "", "wait": "",
    "RANK=$rank": "starts several ranks", "python3": "downloads", "cmake": "builds", "ctest": "takes minutes", "cd": "",
}  # fmt: skip
COUNTED = {  # configurations whose parameters README.md has, and what their data decides
    "configs/quickstart.yaml": [], "configs/moe-small.yaml": [], "configs/dense-small.yaml": [],
    "configs/ablations/base.yaml": [], "configs/bench/reference.yaml": [],
    "configs/shakespeare-dense.yaml": ["model.vocab_size=67"],
}  # fmt: skip


class Checker:
    def __init__(self, program: Program, pages: list[Path], folder: Path) -> None:
        self.program = program
        self.pages = {path.resolve(): read_page(path) for path in pages}
        self.folder = folder
        self.faults: list[str] = []
        self.done = 0

    def fault(self, page: Page, line: int, what: str) -> None:
        self.faults.append(f"{os.path.relpath(page.path, REPOSITORY)}:{line}: {what}")

    def check(self) -> None:
        for page in self.pages.values():
            self.check_links(page)
            for line, word in page.words:
                self.check_word(page, line, word)
            self.run_page(page)

    # -- words ------------------------------------------------------------------------------------------------------

    def check_links(self, page: Page) -> None:
        for line, link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            path = (page.path.parent / target).resolve() if target else page.path.resolve()
            if not path.exists():
                self.fault(page, line, f"the link {link} leads nowhere")
            elif anchor and anchor not in (self.pages.get(path) or read_page(path)).anchors:
                self.fault(page, line, f"{path.name} has no heading #{anchor}")

    def check_word(self, page: Page, line: int, word: str) -> None:
        """Something in backticks: a command, an option, a key or a file."""
        words = word.split()
        if own_part(words[:1]) is not None or (words[0].startswith("scripts/") and len(words) > 1):
            self.check_command(page, line, words)
        elif words[0].startswith("--"):
            name = words[0].split("=")[0]
            shown = any(name in block.text for block in page.blocks)  # of a program that is not ours
            ours = any(name in options for options in self.program.options.values())
            if not shown and not ours and name not in text_of_scripts():
                self.fault(page, line, f"no command and no script has the option {name}")
        else:
            self.check_key(page, line, re.split(r"[=:]", words[0])[0], word)
            self.check_file(page, line, words[0])

    def check_key(self, page: Page, line: int, key: str, word: str) -> None:
        sections = {known for known in self.program.keys if "." not in known}
        if not re.fullmatch(r"[a-z_]+(\.[a-z0-9_*\[\]]+)+", key) or key.split(".")[0] not in sections or "/" in word:
            return
        if re.search(r"\.(h|cpp|py|yaml|json|jsonl|safetensors|broken)$", key):
            return  # a file
        name = re.sub(r"\.\d+(?=\.)", "[]", key).removesuffix(".*")
        if name not in self.program.keys and not re.search(TENSORS, name):
            self.fault(page, line, f"there is no key {key}")

    def check_file(self, page: Page, line: int, word: str) -> None:
        """A path of the tree, or of src/: what begins with a folder that is there, and has an ending."""
        name = word.rstrip("/").split(":")[0]
        if not re.fullmatch(r"[\w.*/-]+\.(h|cpp|cu|py|sh|md|yaml|js|cmake|txt)", name) or "/" not in name:
            return
        roots = [REPOSITORY, REPOSITORY / "src", page.path.parent]
        known = [root for root in roots if (root / name.split("/")[0]).is_dir()]
        if known and not any(list(root.glob(name)) for root in known):
            self.fault(page, line, f"there is no file {name}")

    def check_command(self, page: Page, line: int, words: list[str]) -> None:
        """Options and keys of a command, which may be one of a script."""
        arguments = own_part(words)
        script = next((REPOSITORY / word for word in words if word.startswith("scripts/")), None)
        if arguments is None and script is None:
            presets = json.loads((REPOSITORY / "CMakePresets.json").read_text())["buildPresets"]
            if "--preset" in words and words[words.index("--preset") + 1] not in [one["name"] for one in presets]:
                self.fault(page, line, f"there is no such preset: {' '.join(words)}")
            return
        if script is not None and not script.is_file():
            self.fault(page, line, f"there is no script {script.name}")
            return
        name = arguments[0] if arguments else ""
        if script is None and not name.startswith("-") and name not in self.program.options:
            self.fault(page, line, f"switchyard has no command {name}")
            return
        known = self.program.options.get(name, self.program.options[""])
        for word in arguments if script is None else words:
            word = word.lstrip("[").rstrip("]")
            option = word.split("=")[0]
            if word.startswith("--") and option not in known and not (script and option in text_of_scripts()):
                self.fault(page, line, f"{script.name if script else name} has no option {option}")
            elif not word.startswith("-") and "=" in word:
                self.check_key(page, line, option, "")

    # -- blocks -----------------------------------------------------------------------------------------------------

    def run_page(self, page: Page) -> None:
        """The blocks of a page, in a folder of its own that begins with the texts and README.md's demo.yaml."""
        place = self.folder / re.sub(r"\W", "-", os.path.relpath(page.path, REPOSITORY))
        place.mkdir()
        for name in ("texts", "configs", "demo.yaml"):
            if (self.folder / name).exists():
                (place / name).symlink_to(self.folder / name)
        for block in page.blocks:
            kind, _, rest = block.note.partition(": ")
            if kind == "output of":
                self.check_output(page, block, shlex.split(rest), place)
            elif block.language in SHELL:
                for line, words in commands_of(block):
                    if block.language != "indented" or re.match(r"(switchyard|scripts/)", words[0]):
                        self.check_command(page, line, words)
                        if kind != "not run":
                            self.run_command(page, line, words, place)
            elif block.language == "yaml" and kind != "not run":
                self.check_yaml(page, block, place)
            elif block.language in ("cpp", "diff"):
                self.check_code(page, block)

    def run_command(self, page: Page, line: int, words: list[str], place: Path) -> None:
        if words[0].startswith(("scripts/", "build/release/test_")) or words[0] in NOT_RUN:
            return
        if own_part(words[:1]) is None:
            self.fault(page, line, f"'{words[0]}' is neither run nor named with a reason not to (NOT_RUN)")
            return
        if any(word.startswith("[") for word in words):
            return  # a synopsis
        done = self.program.run(self.filled_in(own_part(words), place), place)
        self.done += 1
        if done.returncode != 0:
            self.fault(page, line, f"ends with {done.returncode}: {' '.join(words)}\n  " + done.stderr.strip()[-600:])

    def filled_in(self, words: list[str], place: Path) -> list[str]:
        """The arguments as they are run: placeholders replaced, what is taken for granted put there, shortened."""
        words = [STANDS_FOR.get(word, word).replace("=8N", "=32").replace("/texts/", "texts/") for word in words]
        made = {words[words.index("--out") + 1]} if "--out" in words else set()
        for word in words:
            if word not in made:
                self.give(word, place)
        if words[0] == "train" and "--resume" in words:
            return [*words, "training.max_steps=3"]
        if words[0] == "train":
            own = any(word.startswith(("demo", "tune")) for word in words)
            return [*words, *SHORTER["train"], *([] if own else TEXT)]
        return [*words, *SHORTER.get(words[0], [])]

    def give(self, word: str, place: Path) -> None:
        if (place / word).exists():
            return
        if word in GIVEN:
            self.program.run(self.filled_in(shlex.split(GIVEN[word])[1:], place), place)
        elif re.fullmatch(r"runs/\w+", word):
            run = self.folder / "run"
            if not run.exists():
                self.program.run(["train", "demo.yaml", "run.dir=run", *SHORTER["train"]], self.folder)
            shutil.copytree(run, place / word)

    def check_output(self, page: Page, block: Block, words: list[str], place: Path) -> None:
        done = self.program.run(self.filled_in(own_part(words), place), place)
        self.done += 1
        for number, line in enumerate(block.text.splitlines(), block.line):
            if line not in (done.stdout + done.stderr).splitlines():
                self.fault(page, number, f"'{' '.join(words)}' does not print this line, but\n  {done.stderr.strip()}")

    def check_yaml(self, page: Page, block: Block, place: Path) -> None:
        name = re.match(r"# ([\w-]+\.yaml)", block.text)
        path = place / (name[1] if name else f"block-{block.line}.yaml")
        if not path.exists():
            path.write_text(block.text)
        sweep = re.search(r"^(axes|settings):", block.text, re.M)
        base = place / "base.yaml"
        if sweep and not base.exists():
            base.write_text((self.folder / "demo.yaml").read_text())
        done = self.program.run(["ablate", path.name, "--plan"] if sweep else ["config", path.name], place)
        self.done += 1
        if done.returncode != 0:
            self.fault(page, block.line, f"the program refuses this: {done.stderr.strip()}")

    def check_code(self, page: Page, block: Block) -> None:
        known = lines_of_code()
        for number, line in enumerate(block.text.splitlines(), block.line):
            code = (line[1:] if block.language == "diff" else line).strip()
            if code and code not in known:
                self.fault(page, number, f"no file has the line {code}")


def check_figures(checker: Checker) -> None:
    """Figures that follow from the tree."""
    counts = json.loads((REPOSITORY / "scripts/instruction_counts.json").read_text())["instructions_per_element"]
    speed = (REPOSITORY / "docs/speed.md").read_text(encoding="utf-8")
    for name, count in counts.items():
        kernel, kind = name.split("/")
        row = re.search(rf"^\| `{kernel}` .*", speed, re.M)
        cells = [cell.strip() for cell in row[0].split("|")[3:5]] if row else []
        if not cells or cells[kind == "bf16"] != f"{count:.2f}":
            checker.faults.append(f"docs/speed.md: {name} takes {count:.2f} by scripts/instruction_counts.json, not {cells}")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for config, overrides in COUNTED.items():
        found = json.loads(checker.program.run(["inspect", config, "--json", *overrides]).stdout)
        total, active = (f"{found[key] / 1e6:.2f} M" for key in ("total_parameters", "active_parameters"))
        wanted = total if total == active else f"{total} ({active})"
        row = next((line for line in readme.splitlines() if line.startswith("|") and Path(config).name in line), "")
        row = row or next(line for line in readme.splitlines() if line.startswith(f"| [`{Path(config).parent}/`]"))
        if wanted not in row:
            checker.faults.append(f"README.md: {config} has {wanted} parameters, which its row does not say: {row}")


def prepare(folder: Path, readme: Path) -> None:
    """Texts of a few words, the configurations, and the demo.yaml that README.md shows."""
    (folder / "texts").mkdir()
    for i in range(4):
        (folder / f"texts/text{i}.txt").write_text(f"Once upon a time there were {i} routers. " * 60)
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    block = next(block for block in read_page(readme).blocks if block.text.startswith("# demo.yaml"))
    (folder / "demo.yaml").write_text(block.text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="default: all of them, and the figures")
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "build/release/switchyard")
    arguments = parser.parse_args()
    all_pages = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")]
    all_pages += sorted((REPOSITORY / "docs").glob("*.md"))
    with tempfile.TemporaryDirectory(prefix="switchyard-docs-") as folder:
        prepare(Path(folder), REPOSITORY / "README.md")
        checker = Checker(Program(arguments.binary.resolve()), arguments.pages or all_pages, Path(folder))
        checker.check()
        if not arguments.pages:
            check_figures(checker)
    for fault in checker.faults:
        print(fault)
    print(f"check_docs: {len(checker.pages)} pages, {checker.done} commands and blocks run, {len(checker.faults)} faults")
    return 1 if checker.faults else 0


if __name__ == "__main__":
    sys.exit(main())
