"""Names to factories: options are bound and converted, mistakes are named."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal, NamedTuple

import pytest

from fedjax_compress import registry
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.registry import _entries, conversion
from fedjax_compress.spec import parse


class Part(NamedTuple):
    name: str


@pytest.fixture(autouse=True)
def entries(monkeypatch):
    """A registry of its own, with two kinds."""
    for home, table in (
        (_entries, "_tables"),
        (_entries, "_ROOMS"),
        (conversion, "_builders"),
        (conversion, "_pipe_kinds"),
    ):
        monkeypatch.setattr(home, table, {})

    @registry.register("stage")
    def uniform(bits: int, scale: float = 1.0, mode: Literal["low", "high"] = "low"):
        """Rounds.

        More.
        """
        if bits < 1:
            raise InputError(f"bits must be at least 1, not {bits}")
        return ("uniform", bits, scale, mode)

    @registry.register("stage", "wrap")
    def wrapped(
        inner: Part, sizes: tuple[int, ...] = (), limit: float | None = None, *, a: Any
    ):
        """Wraps."""
        return (inner, sizes, limit, a)

    @registry.register("model", context=1)
    def mlp(task: str, hidden: tuple[int, ...] = (200,), note: str = "x", on=True):
        """A network."""
        return (task, hidden, note, on)

    @registry.register("model", context=1)
    def free(task: str, **options: float):
        """Takes anything."""
        return options

    registry.register_type(Part, lambda pipe, text: Part(str(pipe)), "stage")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("uniform(4)", ("uniform", 4, 1.0, "low")),
        ("uniform(bits=4, scale=2)", ("uniform", 4, 2.0, "low")),
        ("uniform(4, .5, high)", ("uniform", 4, 0.5, "high")),
        ("uniform(4, mode='high')", ("uniform", 4, 1.0, "high")),
        ("wrap(a | b(1), a=1)", (Part("a | b(1)"), (), None, 1)),
        ("wrap(a, 3, none, a=true)", (Part("a"), (3,), None, True)),
        ("wrap(a, (3, 4), 5, a=word)", (Part("a"), (3, 4), 5.0, "word")),
    ],
)
def test_build(text, result):
    built = registry.build("stage", text)
    assert built == result
    assert list(map(type, built)) == list(map(type, result))


def test_context_comes_from_the_caller():
    assert registry.build("model", "mlp", "task") == ("task", (200,), "x", True)
    built = registry.build("model", "mlp((1, 2), note=y, on=false)", "task")
    assert built == ("task", (1, 2), "y", False)
    assert registry.build("model", "free(a=1, b=2.5)", "task") == {"a": 1.0, "b": 2.5}


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("unifrom(4)", 0, "unknown stage 'unifrom'; did you mean 'uniform'?"),
        ("zzz", 0, "unknown stage 'zzz'; known: uniform, wrap"),
        ("uniform", 0, "uniform needs bits: int, as in uniform(bits=...)"),
        ("uniform(4, bit=3)", 0, "no option 'bit'; did you mean 'bits'?"),
        ("uniform(4, bits=3)", 0, "bits is given twice"),
        ("uniform(4, 1, low, 9)", 0, "at most 3 options: bits, scale, mode"),
        ("uniform(4.5)", 0, "uniform: bits must be int, not 4.5"),
        ("uniform(true)", 0, "uniform: bits must be int, not True"),
        ("uniform(word)", 8, "uniform: bits must be int, not 'word'"),
        ("uniform(4, mode=hihg)", 16, "mode cannot be 'hihg'; did you mean 'high'?"),
        ("uniform(0)", 0, "uniform: bits must be at least 1, not 0"),
        ("uniform(4, scale='a')", 0, "scale must be float, not 'a'"),
        ("wrap(3, a=1)", 0, "wrap: inner must be Part, not 3"),
        ("wrap(a, (1, b), a=1)", 12, "wrap: sizes must be int, not 'b'"),
        ("wrap(a, limit=no, a=1)", 14, "limit must be float or none, not 'no'"),
        ("uniform(4) | wrap(a, a=1)", 13, "a stage is one call, not a pipe"),
    ],
)
def test_mistakes_are_named_with_a_caret(text, position, reason):
    with pytest.raises(SpecError) as caught:
        registry.build("stage", text)
    assert reason in str(caught.value)
    assert caught.value.position == position
    assert str(caught.value).endswith(f"\n  {text}\n  {' ' * position}^")


def test_options_and_summaries_for_the_list():
    stages = registry.entries("stage")
    assert list(stages) == ["uniform", "wrap"]
    assert stages["uniform"].summary == "Rounds."
    assert [str(o) for o in stages["uniform"].options()] == [
        "bits: int",
        "scale: float = 1.0",
        "mode: low or high = low",
    ]
    assert [str(o) for o in stages["wrap"].options()][1:3] == [
        "sizes: a list of int = ()",
        "limit: float or none = none",
    ]
    models = registry.entries("model")
    assert [o.name for o in models["mlp"].options()] == ["hidden", "note", "on"]
    assert models["free"].options() == []
    assert models["free"].rest() is float
    assert models["mlp"].rest() is None
    assert registry.kinds() == ["model", "stage"]
    assert registry.entries("nothing") == {}


def test_the_cell_of_a_notebook_can_be_run_twice():
    def uniform(bits: int):
        """The cell as it is now."""
        return bits + 1

    registry.register("stage")(uniform)
    registry.register("stage")(uniform)
    assert registry.build("stage", "uniform(4)") == 5
    assert registry.entries("stage")["uniform"].summary == "The cell as it is now."


def test_a_name_belongs_to_one_module():
    """Of this module are the functions of its file, whatever module that was run as."""
    place: dict[str, Any] = {"__name__": "somebody.elses"}
    exec(compile("def other(): pass", "elses.py", "exec"), place)
    other = place["other"]
    wanted = f"stage 'uniform' is registered already, by {__name__}; take another name"
    with pytest.raises(InputError, match=wanted):
        registry.register("stage", "uniform")(other)
    assert registry.build("stage", "uniform(4)")[1] == 4
    with pytest.raises(InputError):
        registry.build("stage", "lambda")


def test_canonical_names_every_option_also_inside():
    text = registry.canonical("stage", "uniform( 4,.5 )|wrap(uniform(3)|uniform(2),3)")
    inner = "uniform(bits=3) | uniform(bits=2)"
    assert text == f"uniform(bits=4, scale=0.5) | wrap(inner={inner}, sizes=3)"
    assert registry.canonical("stage", text) == text


def test_canonical_refuses_what_it_would_have_to_drop():
    with pytest.raises(SpecError, match="takes at most"):
        registry.canonical("stage", "uniform(4, 0.5, 1, 2, 3, 4)")


def test_a_kind_brings_its_room():
    code = "from fedjax_compress import registry as r; r.build('aggregate', 'mean')"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lookup_goes_through_kinds_in_order():
    (call,) = parse("mlp").calls
    assert registry.lookup(call, "stage", "model").kind == "model"
    with pytest.raises(SpecError, match="unknown stage 'mlp'"):
        registry.lookup(call, "stage")
