"""The table of codes. A new code is one file in ``codes``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from fedjax_compress import registry
from fedjax_compress.errors import InputError, WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.field import Field

SymbolCode = Literal[
    "fixed",
    "radix",
    "gamma",
    "elias",
    "huffman",
    "arithmetic",
    "zero_runs",
    "stream",
    "best",
]
"""Codes for symbols of any kind, as the type of an option."""
IndexCode = Literal["fixed", "words", "golomb", "bitmask", "best"]
"""Codes for strictly increasing positions, as the type of an option."""


class BitReader:
    """Reads a bit array from the front.

    Attributes:
      bits: uint8 [length], each 0 or 1.
      position: the next bit to be read.
    """

    def __init__(self, bits: np.ndarray):
        self.bits = bits
        self.position = 0

    @property
    def left(self) -> int:
        """The number of bits not yet read."""
        return self.bits.size - self.position

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` bits.

        Raises:
          WireError: fewer are left.
        """
        end = self.position + count
        if end > self.bits.size:
            raise WireError(
                f"the message ends at bit {self.bits.size}, expected at least {end}"
            )
        taken = self.bits[self.position : end]
        self.position = end
        return taken


class Code(NamedTuple):
    """How symbols become bits.

    Attributes:
      lengths: field -> its exact number of bits. A Python int where it depends on
        static facts alone, else an int32 array of parts whose sum is the number
        (so that whoever sums can carry). Works inside jit.
      encode: (unsigned numpy symbols [n], alphabet) -> uint8 bits, each 0 or 1.
      decode: (reader, n, alphabet) -> unsigned numpy symbols [n].
      symbolwise: every symbol costs about log2(alphabet) bits, which is then its
        nominal size; otherwise the true bits are the nominal ones.
      increasing: takes strictly increasing symbols only.
      largest: the largest alphabet that it takes.
    """

    lengths: Callable[[Field], int | Array]
    encode: Callable[[np.ndarray, int], np.ndarray]
    decode: Callable[[BitReader, int, int], np.ndarray]
    symbolwise: bool = False
    increasing: bool = False
    largest: int = 2**64


CODES: dict[str, Code] = {}


def register_code(name: str) -> Callable[[Callable[[], Code]], Callable[[], Code]]:
    """Decorator: enters the code that a function without arguments makes."""

    def enter(factory: Callable[[], Code]) -> Callable[[], Code]:
        if name in CODES:
            raise InputError(f"code {name!r} is registered already")
        CODES[name] = factory()
        return factory

    return enter


def code_of(field: Field) -> Code:
    """The code that a field names.

    Raises:
      InputError: as ``check_code``.
    """
    return check_code(field.code, field.alphabet)


def check_code(name: str, alphabet: int) -> Code:
    """The code of that name, if there is one and it takes the alphabet.

    Raises:
      InputError: there is none, with the nearest known one; or it does not take
        alphabets as large as this.
    """
    if name not in CODES:
        hint = registry.nearest(name, list(CODES))
        raise InputError(f"unknown code {name!r}; {hint}")
    if alphabet > CODES[name].largest:
        raise InputError(
            f"code {name} takes alphabets of up to {CODES[name].largest} symbols, not "
            f"{alphabet}; take another code, such as fixed or elias"
        )
    return CODES[name]


def carried(lengths: Array) -> tuple[Array, Array]:
    """The sum of int32 parts as whole bytes and 0 .. 7 bits, without overflow."""
    low = jnp.sum((lengths & 7).astype(jnp.uint32))
    whole = jnp.sum(lengths >> 3) + (low >> 3).astype(jnp.int32)
    return whole, (low & 7).astype(jnp.int32)
