"""``list`` shows everything that is registered."""

from __future__ import annotations

import pytest

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import describe
from fedjax_compress.experiment.config import SPECS
from fedjax_compress.experiment.listing import KINDS


def test_everything_is_listed() -> None:
    text = describe()
    for kind in registry.kinds():
        assert registry.entries(kind), kind
        block = describe(kind)
        assert block in text
        for entry in registry.entries(kind).values():
            assert f"\n  {entry.name}" in block
            assert entry.summary
            assert f"\n      {entry.summary}" in block
            for option in entry.options():
                assert str(option) in " ".join(block.split())


def test_every_kind_has_a_heading_that_names_its_option() -> None:
    assert set(KINDS) == set(registry.kinds())
    named = " ".join(KINDS.values())
    for name in SPECS:
        assert f"--{name}" in named


def test_lines_are_short() -> None:
    for line in describe().splitlines():
        assert len(line) <= 100, line


def test_unknown_kind() -> None:
    with pytest.raises(InputError, match="unknown kind 'stages'; did you mean 'stage'"):
        describe("stages")
