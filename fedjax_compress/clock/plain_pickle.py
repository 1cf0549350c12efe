"""Pickles of plain data, read without unpickling: nothing in them can run."""

from __future__ import annotations

import pickletools
import struct
from pathlib import Path
from typing import Any

from fedjax_compress.errors import InputError

_INTEGERS = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"})
_FLOATS = frozenset({"FLOAT", "BINFLOAT"})
_TEXTS = frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # of Python 2
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_VALUES = _INTEGERS | _FLOATS | _TEXTS
_BYTES = frozenset({"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"})
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_plain_pickle(path: str) -> Any:
    """What a pickle of dicts, lists, tuples, numbers and texts holds.

    Its opcodes are followed by a machine that knows no others than those of such data,
    in protocols 0 to 5. Bytes become text, byte by byte (latin-1).

    Raises:
      InputError: no such file, no pickle, or one with any other opcode, as a class or a
        function would need.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    machine = _Machine()
    try:
        for opcode, value, _ in pickletools.genops(content):
            if not machine.step(opcode.name, value):
                raise InputError(
                    f"{path} is a pickle of more than plain data: it uses "
                    f"{opcode.name}; nothing of it has been run"
                )
        (found,) = machine.stack
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is no pickle, or a broken one: {reason}") from None
    return found


class _Machine:
    """A pickle's stack, the places of its marks, and its memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, value: Any) -> bool:
        """Does what one opcode says; False if it is none of plain data."""
        stack = self.stack
        if name in _VALUES:
            stack.append(value)
        elif name in _PUT:
            self.memo[value] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in _GET:
            stack.append(self.memo[value])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _BYTES:
            stack.append(value.decode("latin-1"))
        else:
            return name in {"PROTO", "FRAME", "STOP"} or self._gather(name)
        return True

    def _gather(self, name: str) -> bool:
        """An opcode that makes one thing of what is on the stack."""
        stack = self.stack
        if name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = self._marked()
            stack[-1].extend(items)
        elif name == "SETITEM":
            item, key = stack.pop(), stack.pop()
            stack[-1][key] = item
        elif name == "SETITEMS":
            items = self._marked()
            stack[-1].update(_pairs(items))
        elif name == "DICT":
            stack.append(_pairs(self._marked()))
        elif name == "LIST":
            stack.append(self._marked())
        elif name == "TUPLE":
            stack.append(tuple(self._marked()))
        elif name in _TUPLES:
            start = len(stack) - _TUPLES[name]
            stack[start:] = [tuple(stack[start:])]
        else:
            return False
        return True

    def _marked(self) -> list[Any]:
        """Takes what lies above the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))
