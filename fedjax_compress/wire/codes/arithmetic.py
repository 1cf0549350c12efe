"""Arithmetic coding: the entropy of the histogram, to within a fraction of a percent.

The coder is a range variant of asymmetric numeral systems. It works in lanes: lane l of
m codes the symbols l, l + m, l + 2 m, ... Each lane keeps an integer x in
2**16 .. 2**32 - 1, and all lanes take one step together, so a message of any length has
at most ``STEPS`` steps, and the number of bits can be had inside jit, exactly.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError, WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits
from fedjax_compress.wire.codes.gamma import gamma_length, read_gamma, write_gamma
from fedjax_compress.wire.field import Field, count, numbers
from fedjax_compress.wire.histogram import histogram

LARGEST = 4096
"""Largest alphabet."""
MOST = 2**30
"""Most symbols, so that the frequencies can be computed in 32 bits."""
STEPS = 4096
PRECISION = 14
"""Frequencies are parts of 2**14."""
_LOW = 2**16
_WORD, _STATE = 16, 32


def lanes(n: int) -> int:
    """The number of lanes for n symbols: one for each 4096, begun or full."""
    return -(-n // STEPS)


def frequencies(counts: np.ndarray) -> np.ndarray:
    """The model: for each symbol its share of 2**14, at least 1 if it occurs.

    f_a = 1 + floor(c_a (2**14 - K) / n) for the K symbols that occur; what is left of
    2**14 goes to the first symbol of the largest f. One symbol alone has 2**14.
    """
    present = counts > 0
    free = 2**PRECISION - int(present.sum())
    found = np.where(present, 1 + counts.astype(np.int64) * free // counts.sum(), 0)
    found[np.argmax(found)] += 2**PRECISION - found.sum()
    return found


def count_frequencies(counts: Array, n: int) -> Array:
    """``frequencies`` in the program: c (2**14 - K) / n by long division in 32 bits."""
    present = counts > 0
    free = (2**PRECISION - jnp.sum(present)).astype(jnp.uint32)
    c = counts.astype(jnp.uint32)
    quotient = jnp.zeros(counts.shape, jnp.uint32)
    rest = jnp.zeros(counts.shape, jnp.uint32)
    for bit in reversed(range(PRECISION)):
        rest = 2 * rest + c * (free >> bit & 1)  # below 3 n
        quotient = 2 * quotient + rest // n
        rest = rest % n
    found = jnp.where(present, 1 + quotient, 0)
    return found.at[jnp.argmax(found)].add(2**PRECISION - jnp.sum(found))


def _rows(symbols, n: int, xp):
    """Symbols as [steps, lanes], and which of them are there."""
    width = lanes(n)
    steps = -(-n // width)
    padded = xp.pad(symbols.reshape(-1), (0, steps * width - n))
    there = xp.arange(steps * width) < n
    return padded.reshape(steps, width), there.reshape(steps, width)


def _lengths(field: Field) -> int | Array:
    n = count(field)
    if n == 0:
        return 0
    if n > MOST:
        raise InputError(f"arithmetic takes up to {MOST} symbols, not {n}")
    symbols = numbers(field).astype(jnp.int32)
    share = count_frequencies(histogram(symbols, field.alphabet), n)
    first = jnp.cumsum(share) - share
    rows, there = _rows(symbols, n, jnp)

    def step(carry, given):
        x, words = carry
        symbol, valid = given
        f, c = share[symbol], first[symbol]
        full = (x >> (_STATE - PRECISION) >= f) & valid
        x = jnp.where(full, x >> _WORD, x)
        coded = (x // f << PRECISION) + x % f + c
        return (jnp.where(valid, coded, x), words + full.astype(jnp.int32)), None

    start = jnp.full(lanes(n), _LOW, jnp.uint32), jnp.zeros(lanes(n), jnp.int32)
    (_, words), _ = jax.lax.scan(step, start, (rows, there), reverse=True)
    alone = jnp.max(share) == 2**PRECISION
    body = jnp.where(alone, 0, _WORD * words + _STATE)
    return jnp.concatenate([gamma_length(share + 1), body])


def _encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    n = symbols.size
    if n == 0:
        return np.zeros(0, np.uint8)
    if n > MOST:
        raise InputError(f"arithmetic takes up to {MOST} symbols, not {n}")
    share = frequencies(np.bincount(symbols, minlength=alphabet))
    head = write_gamma(share + 1)
    if share.max() == 2**PRECISION:
        return head
    share = share.astype(np.uint64)
    first = np.cumsum(share) - share
    rows, there = _rows(symbols, n, np)
    x = np.full(rows.shape[1], _LOW, np.uint64)
    words = []
    for symbol, valid in zip(rows[::-1], there[::-1], strict=True):
        f = np.where(valid, share[symbol], 1)
        full = (x >> np.uint64(_STATE - PRECISION) >= f) & valid
        words.append(x[full] & np.uint64(_LOW - 1))
        x = np.where(full, x >> np.uint64(_WORD), x)
        coded = (x // f << np.uint64(PRECISION)) + x % f + first[symbol]
        x = np.where(valid, coded, x)
    body = to_bits(np.concatenate(words[::-1]), _WORD)
    return np.concatenate([head, to_bits(x, _STATE), body])


def _decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
    if n == 0:
        return np.zeros(0, np.uint16)
    if n > MOST:
        raise WireError(f"arithmetic takes up to {MOST} symbols, not {n}")
    share = read_gamma(reader, alphabet, "arithmetic").astype(np.int64) - 1
    if share.sum() != 2**PRECISION:
        raise WireError(f"frequencies that add up to {share.sum()}, not {2**PRECISION}")
    if share.max() == 2**PRECISION:
        return np.full(n, np.argmax(share), np.uint16)
    width = lanes(n)
    x = from_bits(reader.take(_STATE * width), _STATE).astype(np.uint64)
    if x.min() < _LOW:
        raise WireError("a lane of the arithmetic code begins below its range")
    symbol_at = np.repeat(np.arange(alphabet, dtype=np.uint16), share)
    share = share.astype(np.uint64)
    first = np.cumsum(share) - share
    symbols = np.zeros((-(-n // width), width), np.uint16)
    for row in range(symbols.shape[0]):
        here = min(width, n - row * width)
        part = x[:here] & np.uint64(2**PRECISION - 1)
        symbol = symbol_at[part]
        y = share[symbol] * (x[:here] >> np.uint64(PRECISION)) + part - first[symbol]
        low = y < _LOW
        more = from_bits(reader.take(_WORD * int(low.sum())), _WORD)
        y[low] = y[low] << np.uint64(_WORD) | more
        symbols[row, :here] = symbol
        x[:here] = y
    if (x != _LOW).any():
        raise WireError("a lane of the arithmetic code does not end where it began")
    return symbols.reshape(-1)[:n]


@register_code("arithmetic")
def arithmetic() -> Code:
    """Range-coded symbols under their own histogram, which travels in front.

    The model: frequencies f of all symbols of the alphabet, integers that add up to
    2**14 (``frequencies``), each as the Elias gamma code of f + 1. If one symbol has
    all of them, nothing follows. Else the last state of each lane, 32 bits; then words
    of 16 bits as decoding needs them. With F_a the sum of f below a, a state x is
    decoded as

        r = x mod 2**14;  the symbol a with F_a <= r < F_a + f_a;
        x = f_a floor(x / 2**14) + r - F_a;  if x < 2**16: x = 2**16 x + next word

    Lanes take turns in their order within a step. A lane ends at x = 2**16. No symbols
    cost nothing. At most 4096 symbols in the alphabet.

    Its length is within 32 bits for each 4096 symbols, and the model, of n H.

    Reference: range coding of Duda 2009, asymmetric numeral systems, in interleaved
    lanes.
    """
    return Code(_lengths, _encode, _decode, largest=LARGEST)
