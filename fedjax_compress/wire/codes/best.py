"""The shortest of a list of codes, and what it costs to say which."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import CODES, BitReader, Code, carried, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits
from fedjax_compress.wire.field import Field, count, numbers

MANY = ("fixed", "radix", "gamma", "elias", "huffman", "arithmetic", "zero_runs")
"""The choice for more symbols than the alphabet has."""
FEW = ("fixed", "radix", "gamma", "elias", "golomb", "bitmask")
"""The choice for all others. Positions are always among them; and here a histogram
would be longer than what it stands for."""
BITS = 3


def choices(n: int, alphabet: int) -> list[str]:
    """The codes for n symbols, by their numbers on the wire; both ends know n."""
    return [
        name
        for name in (MANY if n > alphabet else FEW)
        if alphabet <= CODES[name].largest
    ]


def _lengths(field: Field) -> int | Array:
    n = count(field)
    if n == 0:
        return 0
    symbols = numbers(field)
    increasing = jnp.all(symbols[1:] > symbols[:-1])
    whole = rest = jnp.array(2**31 - 1, jnp.int32)
    for name in choices(n, field.alphabet):
        code = CODES[name]
        found = code.lengths(dataclasses.replace(field, code=name))
        if isinstance(found, int):
            more, low = jnp.int32(min(found // 8, 2**31 - 1)), jnp.int32(found % 8)
        else:
            more, low = carried(found)
        shorter = (more < whole) | ((more == whole) & (low < rest))
        if code.increasing:
            shorter &= increasing
        whole, rest = jnp.where(shorter, more, whole), jnp.where(shorter, low, rest)
    # Bits as eight parts of as many bits as there are bytes: none of them overflows.
    return jnp.append(jnp.broadcast_to(whole, (8,)), rest + BITS)


def _encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    if not symbols.size:
        return np.zeros(0, np.uint8)
    increasing = bool(np.all(symbols[1:] > symbols[:-1]))
    written = {
        name: CODES[name].encode(symbols, alphabet)
        for name in choices(symbols.size, alphabet)
        if increasing or not CODES[name].increasing
    }
    shortest = min(written, key=lambda name: written[name].size)
    names = choices(symbols.size, alphabet)
    number = np.array([names.index(shortest)], np.uint8)
    return np.concatenate([to_bits(number, BITS), written[shortest]])


def _decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
    if n == 0:
        return np.zeros(0, np.uint8)
    number = int(from_bits(reader.take(BITS), BITS)[0])
    names = choices(n, alphabet)
    if number >= len(names):
        raise WireError(f"code number {number}, where there are {len(names)}")
    return CODES[names[number]].decode(reader, n, alphabet)


@register_code("best")
def best() -> Code:
    """The shortest of a list of codes, the first of equals; 3 bits in front say which.

    They hold its number, from 0, in the list ``MANY`` if there are more symbols than
    the alphabet has, else in ``FEW``, after codes that do not take the alphabet have
    been struck out. golomb and bitmask take part only if the symbols strictly increase.
    So best serves for symbols and for positions alike. Counting takes as long as for
    all of them together. No symbols cost nothing.
    """
    return Code(_lengths, _encode, _decode)
