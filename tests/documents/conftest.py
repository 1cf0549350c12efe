"""The README in pieces: fenced blocks, tables, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """All fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.M | re.S)


def title(block: str) -> str:
    """The last name a block defines or the last line: says which block failed."""
    names = re.findall(r"^(?:class|def) (\w+)|^(\w+) = ", block, re.M)
    return next((a or b for a, b in reversed(names)), block.splitlines()[-1])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "python_block" in metafunc.fixturenames:
        found = blocks("python")
        metafunc.parametrize("python_block", found, ids=[title(b) for b in found])
    if "shell_line" in metafunc.fixturenames:
        lines = [line for b in blocks("sh") for line in b.splitlines() if line]
        metafunc.parametrize("shell_line", lines)


@pytest.fixture
def readme() -> str:
    """The text of the README."""
    return README.read_text()


@pytest.fixture
def table():
    """First column's heading -> rows of the first table with it, as lists of cells."""

    def rows(heading: str) -> list[list[str]]:
        lines = README.read_text().splitlines()
        start = next(i for i, s in enumerate(lines) if s.startswith(f"| {heading} |"))
        found = []
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found.append([cell.strip().replace(r"\|", "|") for cell in cells])
        return found

    return rows
