"""``list`` shows everything that is registered."""

from __future__ import annotations

import inspect

import pytest

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import SPECS
from fedjax_compress.registry import describe
from fedjax_compress.registry.listing import KINDS


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


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("stages", "did you mean 'stage'"),
        ("edn", "did you mean 'eden'"),
        ("qqqqq", "known: aggregate, algorithm, "),
    ],
)
def test_neither_kind_nor_name(name, hint) -> None:
    with pytest.raises(InputError, match=f"unknown kind or name '{name}'; {hint}"):
        describe(name)


def test_everything_has_a_page_with_all_that_is_written_about_it() -> None:
    for kind in registry.kinds():
        for entry in registry.entries(kind).values():
            page = describe(entry.name)
            assert entry.name not in registry.kinds()  # which would hide its page
            assert f"\n  {entry.name}" in page
            assert f"{kind}  ({KINDS[kind]})" in page
            about = (inspect.getdoc(entry.factory) or "").replace("``", "")
            for line in about.splitlines():
                assert f"  {line}" in page if line else True
            for option in entry.options():
                assert str(option) in " ".join(page.split())
            assert all(len(line) <= 100 for line in page.splitlines())


def test_a_name_of_two_kinds_gives_both_pages() -> None:
    kinds = [k for k in registry.kinds() if "uniform" in registry.entries(k)]
    assert len(kinds) > 1
    page = describe("uniform")
    assert [line.split("  ")[0] for line in page.splitlines() if "(--" in line] == kinds


def test_a_page_says_what_options_may_name() -> None:
    page = " ".join(describe("federated_dropout").split())
    names = ", ".join(registry.entries("selector"))
    assert f"select may name: {names}" in page
