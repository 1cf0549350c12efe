"""The public surface: sorted, complete, importable, documented; import stays light."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fedjax_compress

ROOMS = sorted(
    m.name
    for m in pkgutil.iter_modules(fedjax_compress.__path__, "fedjax_compress.")
    if m.ispkg
)


def order(name: str) -> tuple[int, list[str]]:
    """CONSTANTS, then Types, then functions, each by name, 8 before 12."""
    parts = [part.zfill(9) for part in re.split(r"(\d+)", name) if part]
    parts = [part if part.isdigit() else part.lstrip("0") for part in parts]
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, parts)


def test_the_package_gives_every_room():
    names = fedjax_compress.__all__
    assert names == sorted(set(names), key=order)
    assert {room.split(".")[1] for room in ROOMS} <= set(names)
    assert "fedjax_compress.wire" in ROOMS
    for name in names:
        assert name in dir(fedjax_compress)
        assert getattr(fedjax_compress, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fedjax_compress.nothing  # noqa: B018


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_names_what_is_public(name):
    room = importlib.import_module(name)
    assert room.__doc__
    assert len(room.__doc__.strip().splitlines()) == 1
    names = list(room.__all__)
    assert names
    assert names == sorted(set(names), key=order)
    assert set(names) == imported(Path(str(room.__file__)).read_text())
    assert all(hasattr(room, n) for n in names)


def imported(source: str) -> set[str]:
    """What a room takes from its own modules, now or (lazily) for type checkers."""
    return {
        name.asname or name.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        and str(node.module).startswith("fedjax_compress.")
        for name in node.names
    }


@pytest.mark.parametrize("name", ROOMS)
def test_what_is_public_is_documented(name):
    room = importlib.import_module(name)
    bare = [
        n
        for n in room.__all__
        if inspect.isroutine(getattr(room, n)) or inspect.isclass(getattr(room, n))
        if not inspect.getdoc(getattr(room, n))
    ]
    assert bare == []


LIGHT = """
import importlib, pkgutil, sys
import fedjax_compress
for module in pkgutil.walk_packages(fedjax_compress.__path__, "fedjax_compress."):
    if module.name.endswith(".orbax_files"):
        continue  # imported by who writes or reads a checkpoint
    importlib.import_module(module.name)
heavy = {"tensorflow", "tensorflow_datasets", "sklearn", "orbax", "torch"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""


def test_importing_everything_takes_no_tensorflow_and_starts_no_device():
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
