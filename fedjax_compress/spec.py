"""The specification language: ``"hadamard | uniform(bits=4)"``.

Grammar, read without ``eval``::

    pipe   := call ("|" call)*
    call   := NAME [ "(" [ arg ("," arg)* ] ")" ]
    arg    := [ NAME "=" ] value
    value  := NUMBER | STRING | "true" | "false" | "(" value, ... ")" | pipe

A STRING stands in single or double quotes and means what is between them, as it is,
backslashes and lines included. Only its own quote cannot stand there: it is written
twice, as in ``'it''s'``.

A bare word is a call without arguments; whether it names a component or stands for a
string is decided by the type of the parameter that receives it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from fedjax_compress.errors import SpecError

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf\b))
    | (?P<name>[A-Za-z_][A-Za-z_0-9.]*)
    | (?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<mark>[|(),=\[\]])
    )""",
    re.VERBOSE,
)
_STRINGS = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|(.)""", re.DOTALL)
_WORDS = {"true": True, "false": False, "True": True, "False": False}


@dataclasses.dataclass(frozen=True)
class Call:
    """One ``name(arguments)``.

    Attributes:
      name: what is called.
      args: positional values.
      kwargs: named values, as (name, value) pairs in order.
      position: where the name starts in the text, for error messages.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    position: int = dataclasses.field(default=0, compare=False)

    def __str__(self) -> str:
        parts = [format_value(v) for v in self.args]
        parts += [f"{k}={format_value(v)}" for k, v in self.kwargs]
        return f"{self.name}({', '.join(parts)})" if parts else self.name


@dataclasses.dataclass(frozen=True)
class Pipe:
    """Calls joined by ``|``, at least one."""

    calls: tuple[Call, ...]

    @property
    def position(self) -> int:
        return self.calls[0].position

    def __str__(self) -> str:
        return " | ".join(str(c) for c in self.calls)


def format_value(value: Any) -> str:
    """A value in the form in which ``parse`` reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_][A-Za-z_0-9.]*", value)
        if plain and value not in _WORDS and value != "inf":
            return value
        quote = "'" if '"' in value and "'" not in value else '"'
        return quote + value.replace(quote, 2 * quote) + quote
    if isinstance(value, (tuple, list)):
        inside = ", ".join(format_value(v) for v in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, float):
        return f"{value!r}"
    return str(value)


def parse(text: str) -> Pipe:
    """Reads a specification.

    Raises:
      SpecError: with a caret under the first character that does not fit.
    """
    if not isinstance(text, str) or not text.strip():
        raise SpecError("the specification is empty; expected a name such as identity")
    reader = _Reader(text)
    pipe = reader.pipe()
    if reader.kind != "end":
        raise reader.error(f"unexpected {reader.value!r}; expected '|' or the end")
    return pipe


def split(text: str, mark: str) -> list[str]:
    """The parts of a text between the marks, such as ``;``, that stand in no string."""
    found = [""]
    for quoted, other in _STRINGS.findall(text):
        if other == mark:
            found.append("")
        else:
            found[-1] += quoted or other
    return found


_DEEPEST = 32


class _Reader:
    """A recursive-descent reader with one token of look-ahead."""

    def __init__(self, text: str):
        self.text = text
        self.next = 0
        self.depth = 0
        self.advance()

    def advance(self) -> None:
        rest = self.text[self.next :]
        self.position = self.next + len(rest) - len(rest.lstrip())
        if not rest.strip():
            self.kind, self.value = "end", "the end"
            self.position = len(self.text.rstrip())
            return
        match = _TOKEN.match(self.text, self.next)
        if match is None:
            found = self.text[self.position]
            reason = f"cannot read {found!r} here; put paths and the like in quotes"
            raise self.error(reason)
        self.kind = str(match.lastgroup)
        self.value = match.group(self.kind)
        self.next = match.end()

    def error(self, reason: str) -> SpecError:
        return SpecError(reason, self.text, self.position)

    def accept(self, mark: str) -> bool:
        if self.kind == "mark" and self.value == mark:
            self.advance()
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise self.error(f"expected {mark!r}, found {self.value!r}")

    def pipe(self) -> Pipe:
        calls = [self.call()]
        while self.accept("|"):
            calls.append(self.call())
        return Pipe(tuple(calls))

    def call(self) -> Call:
        if self.kind != "name":
            raise self.error(f"expected a name, found {self.value!r}")
        name, position = self.value, self.position
        self.advance()
        args: list[Any] = []
        kwargs: list[tuple[str, Any]] = []
        if self.accept("("):
            while not self.accept(")"):
                if args or kwargs:
                    self.expect(",")
                    if self.accept(")"):
                        break
                self.argument(args, kwargs)
        return Call(name, tuple(args), tuple(kwargs), position)

    def argument(self, args: list[Any], kwargs: list[tuple[str, Any]]) -> None:
        start = self.position
        value = self.value_()
        named = isinstance(value, Pipe) and len(value.calls) == 1
        if named and self.kind == "mark" and self.value == "=":
            call = value.calls[0]
            if call.args or call.kwargs:
                raise self.error("only a plain name can stand before '='")
            if call.name in dict(kwargs):
                raise SpecError(f"{call.name} is given twice", self.text, start)
            self.advance()
            kwargs.append((call.name, self.value_()))
        elif kwargs:
            reason = "a value without a name cannot follow one with a name"
            raise SpecError(reason, self.text, start)
        else:
            args.append(value)

    def value_(self) -> Any:
        if self.depth == _DEEPEST:
            raise self.error(f"more than {_DEEPEST} calls or lists inside one another")
        self.depth += 1
        found = self.plain_value()
        self.depth -= 1
        return found

    def plain_value(self) -> Any:
        kind, value = self.kind, self.value
        if kind == "number":
            self.advance()
            return _number(value)
        if kind == "string":
            self.advance()
            return value[1:-1].replace(2 * value[0], value[0])
        if kind == "name" and value in _WORDS:
            self.advance()
            return _WORDS[value]
        if kind == "mark" and value in "([":
            return self.sequence(")" if value == "(" else "]")
        return self.pipe()

    def sequence(self, close: str) -> tuple[Any, ...]:
        self.advance()
        items: list[Any] = []
        while not self.accept(close):
            if items:
                self.expect(",")
                if self.accept(close):
                    break
            items.append(self.value_())
        return tuple(items)


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
