"""The thirteen tasks of the documentation run as they stand."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from fedjax_compress import registry

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text()
BLOCKS = dict(
    zip(
        re.findall(r"^## (\d+)\.", TEXT, re.M),
        re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S),
        strict=True,
    )
)


def test_there_are_thirteen() -> None:
    assert len(BLOCKS) == 13


@pytest.mark.parametrize("number", BLOCKS)
def test_a_task(
    number: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    block = BLOCKS[number]
    assert len(block.splitlines()) < 30
    for kind in registry.kinds():
        monkeypatch.setitem(registry._entries._tables, kind, registry.entries(kind))
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"task_{number}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, "tasks.md", "exec"), module.__dict__)
    wanted = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.M)
    assert not wanted or capsys.readouterr().out.splitlines() == wanted
