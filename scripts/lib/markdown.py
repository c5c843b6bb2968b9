"""What scripts/check_docs.py reads of a page: headings, links, words in backticks, fenced blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Block:
    """A fenced or indented block. `note`: the HTML comment right above it, without its marks."""

    line: int
    language: str
    note: str
    text: str = ""


@dataclass
class Page:
    path: Path
    anchors: set[str] = field(default_factory=set)
    links: list[tuple[int, str]] = field(default_factory=list)
    words: list[tuple[int, str]] = field(default_factory=list)  # in backticks
    blocks: list[Block] = field(default_factory=list)


def anchor_of(heading: str) -> str:
    """As GitHub names it: lower case, marks gone, blanks as hyphens."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower())
    return plain.replace(" ", "-")


def read_page(path: Path) -> Page:
    """Reads a page. Blocks indented by four are those after an empty line that are no part of a list."""
    page = Page(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    prose: list[str] = []
    block, note, fenced = None, "", False
    for number, line in enumerate(lines, 1):
        fence = re.match(r"\s*```(\w*)$", line)
        if fence:
            fenced = not fenced
            block = Block(number + 1, fence[1], note) if fenced else None
            if block:
                page.blocks.append(block)
        elif fenced or (line.startswith("    ") and (block or (not prose[-1] and not in_list(prose)))):
            if block is None:
                block = Block(number, "indented", note)
                page.blocks.append(block)
            block.text += (line if fenced else line[4:]) + "\n"
        else:
            block = None
            comment = re.fullmatch(r"<!-- (.*) -->", line)
            note = comment[1] if comment else note if not line else ""
            prose.append(line)
            continue
        prose.append("")
        note = ""
    scan_prose(page, prose)
    return page


def in_list(prose: list[str]) -> bool:
    """Whether the last paragraph is of a list."""
    last = next((line for line in reversed(prose) if line), "")
    return bool(re.match(r"\s*([-*]|\d+\.) |\s{2,}\S", last))


def scan_prose(page: Page, prose: list[str]) -> None:
    """Anchors, links and words in backticks, which may go over the end of a line."""
    for line in prose:
        if heading := re.match(r"#+ (.*)", line):
            page.anchors.add(anchor_of(heading[1]))
    text = "\n".join(prose)
    for found in re.finditer(r"`([^`]+)`", text):
        page.words.append((text.count("\n", 0, found.start()) + 1, " ".join(found[1].split())))
    for found in re.finditer(r"\]\(([^)\s]+)\)", text):
        page.links.append((text.count("\n", 0, found.start()) + 1, found[1]))
