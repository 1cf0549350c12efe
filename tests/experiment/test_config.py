"""Configurations: TOML out and in, and everything that is refused."""

from __future__ import annotations

import ast
import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.experiment import Config, dump_toml, load_toml, validate
from fedjax_compress.experiment import config as config_module
from fedjax_compress.experiment.config import (
    FIELDS,
    LINKS,
    TYPES,
    Role,
    difference,
    from_dict,
    named,
)

VALUES: dict[Any, Any] = {
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    str: st.text(),
    tuple[str, ...]: st.lists(st.text(), max_size=3).map(tuple),
}
CONFIGS = st.builds(Config, **{n: VALUES[TYPES[n]] for n in FIELDS})


@given(config=CONFIGS)
def test_toml_round_trip(config: Config) -> None:
    text = dump_toml(config)
    assert from_dict(tomllib.loads(text)) == config
    assert text.encode("utf-8").decode("utf-8") == text


def test_file_round_trip_and_comments(tmp_path: Path) -> None:
    config = Config(uplink='top_k(0.5) | "é\\\n\x7f"', seed=7, evaluate_clients=True)
    path = tmp_path / "c.toml"
    path.write_text(dump_toml(config), encoding="utf-8")
    assert load_toml(path) == config
    lines = path.read_text().split("\n")
    for name, field in FIELDS.items():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name} = "))
        assert lines[at - 1] == f"# {field.metadata['help']}"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("rounds = 3\n", encoding="utf-8-sig")
    assert load_toml(path) == Config(rounds=3)


def test_absent_settings_have_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("rounds = 3\n")
    assert load_toml(path) == Config(rounds=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rouns = 3", ["unknown setting 'rouns'", "did you mean 'rounds'?"]),
        ("rounds = '3'", ["rounds must be a whole number, not '3'"]),
        ("rounds = 3.0", ["rounds must be a whole number, not 3.0"]),
        ("rounds = true", ["rounds must be a whole number, not True"]),
        ("uplink = 4", ["uplink must be text in quotes, not 4"]),
        ("imports = 'mine.py'", ["imports must be a list of names of files"]),
        ("imports = [3]", ["imports must be a list of names of files"]),
        ("evaluate_clients = 1", ["evaluate_clients must be true or false, not 1"]),
        ("[model]\nname = 'mlp'", ["model must be text in quotes"]),
        ("rounds = ", ["is not TOML"]),
        ("rounds = 1\nrounds = 2", ["is not TOML"]),
    ],
)
def test_bad_toml(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_toml(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message


def test_unreadable_toml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        load_toml(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"cannot read .*directory"):
        load_toml(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not text in UTF-8"):
        load_toml(tmp_path / "b.toml")


def test_default_is_valid() -> None:
    validate(Config())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rounds": 0}, "rounds must be between 1"),
        ({"cohort": 0}, "cohort must be between 1"),
        ({"seed": -1}, "seed must be between 0"),
        ({"seed": 2**31}, "seed must be between 0"),
        ({"devices": -1}, "devices must be between 0"),
        ({"convolution": "winograt"}, "did you mean 'winograd'"),
        ({"tune": "often"}, "tune cannot be 'often'"),
        ({"checkpoint_every": 0}, "checkpoint_every must be between 1"),
        ({"rounds": "5"}, "rounds must be a whole number"),
        ({"clients": 10}, "cohort can be at most 10"),
    ],
)
def test_bad_numbers(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        validate(Config(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [n for n in FIELDS if FIELDS[n].metadata["spec"]])
def test_bad_syntax_has_a_caret(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate(dataclasses.replace(Config(), **{name: "a(b=1"}))
    reason, text, caret = str(caught.value).split("\n")
    assert reason.startswith(f"{name}: ")
    assert text == "  a(b=1"
    assert caret == "       ^"


def test_difference() -> None:
    one, other = Config(rounds=5, seed=9), Config(rounds=6, seed=0)
    assert difference(one, one) == ""
    text = "rounds (wanted 5, found 6), seed (wanted 9, found 0)"
    assert difference(one, other) == text
    assert difference(one, other, ignore=("rounds", "seed")) == ""


def test_each_setting_has_known_roles() -> None:
    """What was kept by hand in several places, as it follows from the roles now."""
    assert named(Role.RESUME) == ["rounds", "devices", "tune", "imports"]
    assert set(named(Role.FREE)) == {*named(Role.RESUME), "checkpoint_every", "keep"}
    assert set(named(Role.PROGRAM)) == {
        "model", "augment", "qat", "local", "algorithm", "aggregate", "server",
        "uplink", "downlink",
    }  # fmt: skip
    assert named(Role.NETWORK) == ["model", "augment", "qat"]
    assert named(Role.STEPS) == ["local", "server"]
    assert named(Role.LAYOUT) == ["devices", "lanes", "convolution"]
    assert LINKS == ["uplink", "downlink"]


def listed_settings(source: str) -> list[list[str]]:
    """Tuples, lists and sets that name two settings or more and nothing else."""
    kept = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            words = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            if len(words) == len(node.elts) > 1 and set(words) <= set(FIELDS):
                kept.append(words)
    return kept


def test_no_list_of_settings_is_kept_by_hand() -> None:
    assert listed_settings("x = ('rounds', 'devices')\ny = {'a', 'b'}") == [
        ["rounds", "devices"]
    ]
    found = {
        path.name: lists
        for path in Path(config_module.__file__).parent.glob("*.py")
        if path.name != "config.py" and (lists := listed_settings(path.read_text()))
    }
    assert found == {}


def test_imports_are_whole_paths(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert Config(imports=("a.py",)).imports == (str(tmp_path / "a.py"),)
