"""The shortest form of a sparse field, and what it costs to say which."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import CODES, BitReader, Code, carried, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits, width
from fedjax_compress.wire.field import Field, count
from fedjax_compress.wire.sparse import check_size


class Form(NamedTuple):
    """One way to write a sparse field.

    Attributes:
      code: of the positions and values.
      dropped: symbols 0 and 1 change places before, so that the positions are those of
        the elements which are not sent.
    """

    code: str
    dropped: bool = False


SENT = tuple(Form(f"sparse_{name}") for name in ("bitmask", "fixed", "golomb", "runs"))
"""The choice for any alphabet."""
DROPPED = tuple(Form(f"sparse_{name}", True) for name in ("fixed", "golomb", "runs"))
"""What two symbols, which are a mask, have on top."""


def forms(alphabet: int) -> tuple[Form, ...]:
    """The forms of a sparse field, by their numbers on the wire."""
    return SENT + DROPPED if alphabet == 2 else SENT


def _lengths(field: Field) -> int | Array:
    n = check_size(count(field))
    if n == 0:
        return 0
    choice = forms(field.alphabet)
    symbols = jnp.asarray(field.symbols)
    sizes = []
    for form in choice:
        written = ~symbols.astype(bool) if form.dropped else symbols
        one = dataclasses.replace(field, symbols=written, code=form.code)
        found = CODES[form.code].lengths(one)
        parts = jnp.full(1, found, jnp.int32) if isinstance(found, int) else found
        sizes.append(carried(parts))
    whole, rest = (jnp.stack(part) for part in zip(*sizes, strict=True))
    least = jnp.min(whole)
    low = jnp.min(jnp.where(whole == least, rest, 8))
    # Bits as eight parts of as many bits as there are bytes: none of them overflows.
    return jnp.append(jnp.broadcast_to(least, (8,)), low + width(len(choice)))


def _encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    if not symbols.size:
        return np.zeros(0, np.uint8)
    choice = forms(alphabet)
    flipped = (symbols == 0).astype(np.uint8)
    written = [
        CODES[form.code].encode(flipped if form.dropped else symbols, alphabet)
        for form in choice
    ]
    shortest = min(range(len(choice)), key=lambda i: written[i].size)
    number = np.array([shortest], np.uint8)
    return np.concatenate([to_bits(number, width(len(choice))), written[shortest]])


def _decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
    if check_size(n) == 0:
        return np.zeros(0, np.uint8)
    choice = forms(alphabet)
    bits = width(len(choice))
    number = int(from_bits(reader.take(bits), bits)[0])
    if number >= len(choice):
        raise WireError(f"form number {number}, where there are {len(choice)}")
    form = choice[number]
    symbols = CODES[form.code].decode(reader, n, alphabet)
    return 1 - symbols if form.dropped else symbols


@register_code("sparse_best")
def sparse_best() -> Code:
    """The shortest form of a sparse field, the first of equals; it says which.

    In front is its number, from 0, in the list bitmask, fixed, golomb, runs: 2 bits. Of
    two symbols, which are a mask, there are three more forms, which write the positions
    of the elements that are not sent: fixed, golomb, runs; that makes 3 bits. Counting
    takes as long as for all of them together. No symbols cost nothing.
    """
    return Code(_lengths, _encode, _decode)
