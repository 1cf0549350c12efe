"""Checks a command line before it is parsed, so that a slip gives one clear line.

Also what the encoding of a shell takes and gives.
"""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest


class Shape(NamedTuple):
    """What a subcommand takes.

    Attributes:
      values: type of each option that takes a value, by its name with dashes.
      flags: options without a value.
      positionals: fewest and most arguments that are no options.
    """

    values: dict[str, type]
    flags: set[str]
    positionals: tuple[int, int]


def shape_of(options: type, positional: str | None) -> Shape:
    """The shape of a dataclass of options.

    Args:
      options: as made by ``options``.
      positional: the field that is no option.
    """
    from tyro.conf import FlagCreatePairsOff

    values: dict[str, type] = {}
    flags = {"--help"}
    most, least = 0, 0
    hints = typing.get_type_hints(options)
    marked = typing.get_type_hints(options, include_extras=True)
    for field in dataclasses.fields(options):
        kinds = [k for k in _flat(hints[field.name]) if k in (str, int, bool)]
        called = [
            name for name in map(_called, typing.get_args(marked[field.name])) if name
        ]
        name = f"--{(called or [field.name])[0].replace('_', '-')}"
        if field.name == positional:
            several = typing.get_origin(hints[field.name]) is tuple
            most = 10**6 if several else 1
            least = int(several or field.default is dataclasses.MISSING)
        elif bool in kinds:
            single = FlagCreatePairsOff in typing.get_args(marked[field.name])
            flags |= {name} if single else {name, f"--no-{name[2:]}"}
        else:
            values[name] = kinds[0]
    return Shape(values, flags, (least, most))


def _called(mark: Any) -> str:
    """The name that a mark gives an option, if it does."""
    return getattr(mark, "name", None) or ""


def _flat(kind: Any) -> list[Any]:
    inner = typing.get_args(kind)
    return [k for part in inner for k in _flat(part)] if inner else [kind]


def positionals(arguments: list[str], shape: Shape, command: str) -> list[str]:
    """The arguments that are no options; checks the options on the way.

    Raises:
      InputError: an unknown option (with the nearest known one), a value that lacks
        or is no whole number where one is needed, too many or too few arguments.
    """
    found: list[str] = []
    rest = list(arguments)
    help_wanted = "-h" in rest or "--help" in rest
    while rest:
        word = rest.pop(0)
        if word == "-h" or not word.startswith("-") or word == "-":
            found += [word] if word != "-h" else []
            continue
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if name in shape.flags:
            if equals:
                raise InputError(f"{name} takes no value")
            continue
        if name not in shape.values:
            hint = nearest(name, [*shape.values, *sorted(shape.flags)])
            raise InputError(f"{command} has no option {name}; {hint}")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise InputError(f"{name} needs a value")
            value = rest.pop(0)
        if shape.values[name] is int and not _is_whole(value):
            raise InputError(f"{name} needs a whole number, not {value!r}")
    least, most = shape.positionals
    if len(found) > most:
        raise InputError(f"{command} does not take the argument {found[most]!r}")
    if len(found) < least and not help_wanted:
        raise InputError(f"{command} needs a folder; see: {command} --help")
    return found


def _is_whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def check_file(what: str, name: str | None) -> None:
    """Checks that a file can be written before there is anything to write.

    Args:
      what: the option, for messages.
      name: of the file; None where none is wanted.

    Raises:
      InputError: no name of a file, or a folder that is not there or is locked.
    """
    if name is None:
        return
    path = Path(name)
    if not name or path.is_dir():
        raise InputError(f"{what} needs the name of a file, not {name!r}")
    if not path.parent.is_dir():
        raise InputError(f"{what}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{what}: the folder {path.parent} cannot be written to")


def view_of(options: Any) -> dict[str, Any]:
    """How results are to be shown.

    Raises:
      InputError: the target is no number.
    """
    text = options.target
    try:
        target = None if text is None else float(text)
    except ValueError:
        raise InputError(f"--target needs a number, not {text!r}") from None
    return {"axis": options.axis, "target": target, "quiet": options.quiet}


def print_all_characters() -> None:
    """Shows what the terminal's encoding lacks as escapes, instead of failing there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def check_text(arguments: Sequence[str]) -> None:
    """Refuses arguments with bytes that the shell's encoding does not know.

    Raises:
      InputError: names the argument and the encoding.
    """
    for text in arguments:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"{text!a} is no text in {sys.getfilesystemencoding()}, the "
                "encoding of this shell; set LC_ALL=C.UTF-8"
            )
