"""What must hold of every file, and of every entry that ``list`` shows."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import pkgutil
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import groups
import pytest

import fedjax_compress
from fedjax_compress import registry

# A path of somebody's machine, or the address of a package index.
PRIVATE = re.compile(
    r"(?<![\w.:/-])/(?:work|root|home|Users|mnt)/|index[-_]url|find[-_]links"
)


def repository_files(root: Path) -> Iterator[Path]:
    """All files but those that .gitignore leaves out."""
    lines = (root / ".gitignore").read_text().splitlines()
    left_out = [".git", *(line.rstrip("/") for line in lines)]

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in left_out):
                continue
            if path.is_dir() and not path.is_symlink():
                yield from walk(path)
            elif path.is_file():
                yield path

    return walk(root)


def test_no_file_holds_a_path_of_a_machine(repository):
    found = []
    for path in repository_files(repository):
        text = path.read_bytes().decode(errors="ignore")
        for number, line in enumerate(text.splitlines(), 1):
            if PRIVATE.search(line):
                found.append(f"{path.relative_to(repository)}:{number}: {line[:80]}")
    assert found == []


@pytest.mark.parametrize("folder", ["work", "root", "home", "Users"])
def test_a_path_of_a_machine_is_seen(folder):
    assert PRIVATE.search(f"open('/{folder}/somebody/data')")
    assert PRIVATE.search(f"see file:/{folder}x/") is None
    assert PRIVATE.search(f"https://example.org/{folder}/page") is None


def all_entries() -> list[registry.Entry]:
    for module in pkgutil.walk_packages(fedjax_compress.__path__, "fedjax_compress."):
        importlib.import_module(module.name)
    kinds = registry.kinds()
    return [e for kind in kinds for e in registry.entries(kind).values()]


def test_every_entry_has_a_one_line_summary_and_typed_options():
    entries = all_entries()
    assert {"stage", "data", "model", "algorithm"} <= {e.kind for e in entries}
    wrong = []
    for entry in entries:
        lines = (inspect.getdoc(entry.factory) or "").splitlines()
        if not (lines and lines[0].endswith(".") and len(lines[0]) <= 88):
            wrong.append(f"{entry.kind} {entry.name}: no summary of one line")
        elif len(lines) > 1 and lines[1]:
            wrong.append(f"{entry.kind} {entry.name}: summary of more than one line")
        untyped = [o.name for o in entry.options() if o.type is Any]
        if untyped:
            wrong.append(f"{entry.kind} {entry.name}: options without type: {untyped}")
    assert wrong == []


def test_versions_are_pinned_exactly(repository):
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    which = r' ; python_version (?:<|>=) "3\.12"'
    pattern = re.compile(rf"[\w.-]+==[\w.]+(?:{which})?")
    assert [p for p in pins if not pattern.fullmatch(p)] == []
    # One version for all, or one for old Pythons and one for new ones.
    names = Counter(p.split("==")[0] for p in pins)
    for name, number in names.items():
        assert number == 1 + (name in {p.split("==")[0] for p in pins if ";" in p})
    pinned = {normal(p.split("==")[0]) for p in pins}
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {normal(re.split(r"[\[<>=!~; ]", w)[0]) for w in wanted}
    assert names - pinned == set()
    assert normal(project["name"]) not in pinned


def test_jax_is_bounded_by_what_is_tested(repository):
    """From the older pinned version on, below the next minor one of the newer."""
    text = (repository / "constraints.txt").read_text()
    older, newer = re.findall(r"^jax==(\d+\.\d+)", text, re.M)
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    (bounds,) = [d for d in project["dependencies"] if d.startswith("jax>")]
    major, minor = newer.split(".")
    assert bounds == f"jax>={older},<{major}.{int(minor) + 1}"


def test_the_first_look_has_what_it_names(repository):
    """Files that are there, and cases that are registered."""
    cases = {name for kind in registry.kinds() for name in registry.entries(kind)}
    for group in groups.SMOKE:
        name = group.removeprefix("qat ").split("(")[0]
        assert (repository / "tests" / group).is_file() or name in cases, group
    for place in groups.BY_CASE:
        assert (repository / "tests" / place).is_file()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_version_is_the_same_everywhere(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert fedjax_compress.__version__ == project["version"]
    citation = (repository / "CITATION.cff").read_text()
    assert f"version: {project['version']}\n" in citation
    assert "## [Unreleased]" in (repository / "CHANGELOG.md").read_text()
