"""The specification language: what is written is read back, errors show the spot."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedjax_compress import registry
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.spec import Call, Pipe, format_value, parse, split

names = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,8}", fullmatch=True).filter(
    lambda n: n not in {"true", "false", "True", "False", "inf"}
)
strings = st.text("abc XYZ/.-|(,'=é", min_size=1).filter(
    lambda s: any(c in " /-|(,'=é" for c in s)
)
scalars = (
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.booleans()
    | strings
    | names.map(lambda n: Pipe((Call(n),)))
)


def calls(values):
    args = st.lists(values, max_size=3).map(tuple)
    kwargs = st.dictionaries(names, values, max_size=3).map(lambda d: tuple(d.items()))
    call = st.builds(Call, names, args, kwargs)
    pipe = st.lists(call, min_size=1, max_size=3).map(lambda c: Pipe(tuple(c)))
    return pipe | st.lists(values, max_size=3).map(tuple)


pipes = st.recursive(scalars, calls, max_leaves=12).filter(
    lambda v: isinstance(v, Pipe)
)


@given(pipes)
def test_what_is_written_is_read_back(pipe):
    assert parse(str(pipe)) == pipe


TEXTS = (
    st.text()
    | st.text("'\"\\ ", max_size=6)
    | st.text("'\"\\\n\t |;(),=é世 a", max_size=12)
)


@example('it\'s "b"', "\\'\"\n''é;")
@given(TEXTS, TEXTS)
def test_any_string_is_read_back(one, other):
    """Both kinds of quotes, backslashes, lines, any script: alone, named, in a list."""
    first, second = format_value(one), format_value(other)
    text = f"f({first}, ({second}, {first}), x={second}) | g({second})"
    pipe = parse(text)
    assert str(pipe) == text
    read = [pipe.calls[0].args[0], *pipe.calls[0].args[1], pipe.calls[0].kwargs[0][1]]
    read += pipe.calls[1].args
    found = [registry.convert(str, value, "x", text, 0) for value in read]
    assert found == [one, other, one, other, other]
    assert split(f"{first};{second}; ", ";") == [first, second, " "]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("it's", '"it\'s"'),
        ('a "b"', "'a \"b\"'"),
        ('it\'s "b"', '"it\'s ""b"""'),
        ("C:\\data\\x", '"C:\\data\\x"'),
        ("", '""'),
    ],
)
def test_how_a_string_is_written(value, text):
    assert format_value(value) == text
    assert parse(f"f({text})").calls[0].args == (value,)
    assert parse("f('it''s')").calls[0].args == ("it's",)


@pytest.mark.parametrize(("before", "after"), [(0, 5000), (5000, 0), (900, 900)])
def test_of_a_long_line_the_surroundings_are_shown(before, after):
    line = "a" * before + "?" + "b" * after
    reason, shown, caret = str(SpecError("no", line, before)).splitlines()
    assert reason == "no"
    assert shown[caret.index("^")] == "?"
    assert 100 < len(shown) < 220
    assert ("..." in shown[:6]) == (before > 100)
    assert shown.endswith("...") == (after > 100)
    assert str(SpecError("no", "short", 2)) == "no\n  short\n    ^"


def test_an_error_shows_its_line():
    with pytest.raises(SpecError) as caught:
        parse("f('a\nb', &)")
    assert str(caught.value).split("\n")[1:] == ["  b', &)", "      ^"]


@pytest.mark.parametrize(
    ("text", "pipe"),
    [
        ("identity", Pipe((Call("identity"),))),
        ("identity()", Pipe((Call("identity"),))),
        (
            " hadamard|uniform( bits = 4 ) ",
            Pipe((Call("hadamard"), Call("uniform", (), (("bits", 4),)))),
        ),
        (
            "top_k(0.01, exact=true, axes=[1, 2,],)",
            Pipe((Call("top_k", (0.01,), (("exact", True), ("axes", (1, 2)))),)),
        ),
        (
            "by_label(rules=(conv, top_k(.5) | cast(float16)))",
            Pipe(
                (
                    Call(
                        "by_label",
                        (),
                        (
                            (
                                "rules",
                                (
                                    Pipe((Call("conv"),)),
                                    Pipe(
                                        (
                                            Call("top_k", (0.5,)),
                                            Call("cast", (Pipe((Call("float16"),)),)),
                                        )
                                    ),
                                ),
                            ),
                        ),
                    ),
                )
            ),
        ),
        ("npz('a b/c.npz')", Pipe((Call("npz", ("a b/c.npz",)),))),
    ],
)
def test_what_is_read(text, pipe):
    assert parse(text) == pipe


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("3.", 3.0),
        (".5", 0.5),
        ("1e-3", 1e-3),
        ("+2E2", 200.0),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("()", ()),
        ("(1,)", (1,)),
        ("[1, (2, 3)]", (1, (2, 3))),
        ('"it\'s"', "it's"),
        ("False", False),
    ],
)
def test_values(text, value):
    (read,) = parse(f"f({text})").calls[0].args
    assert read == value
    assert type(read) is type(value)
    assert parse(f"f({format_value(value)})").calls[0].args == (value,)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("top_k(0.1", 9, "expected ','"),
        ("top_k(0.1))", 10, "unexpected ')'"),
        ("top_k 0.1", 6, "unexpected '0.1'"),
        ("a | | b", 4, "expected a name, found '|'"),
        ("a |", 3, "expected a name, found 'the end'"),
        ("4", 0, "expected a name, found '4'"),
        ("a(b=1, 2)", 7, "without a name cannot follow"),
        ("a(b=1, b=2)", 7, "b is given twice"),
        ("a(f(1)=2)", 6, "only a plain name"),
        ("a(1 2)", 4, "expected ','"),
        ("a & b", 2, "cannot read '&'"),
        ("a('open)", 2, "cannot read"),
        ("a(" * 5000, 66, "more than 32 calls or lists inside one another"),
        ("a(" + "(" * 5000, 34, "more than 32 calls or lists inside one another"),
        ("__import__('os').x", 16, "cannot read '.'"),
    ],
)
def test_an_error_shows_the_spot(text, position, reason):
    with pytest.raises(SpecError) as caught:
        parse(text)
    error = caught.value
    assert reason in error.reason
    assert error.position == position
    told, written, caret = str(error).split("\n")
    assert told == error.reason
    assert written == f"  {text if len(text) <= 200 else text[:200] + '...'}"
    assert caret == " " * (2 + position) + "^"


@pytest.mark.parametrize("text", ["", "   ", None, 3])
def test_nothing_to_read(text):
    with pytest.raises(InputError, match="the specification is empty"):
        parse(text)


@given(st.text("ab1.,()[]|='\" ", max_size=12))
def test_any_text_is_read_or_refused(text):
    try:
        pipe = parse(text)
    except SpecError as error:
        spot = error.position
    else:
        spot = 0
        assert parse(str(pipe)) == pipe
    assert spot is None or 0 <= spot <= len(text)
