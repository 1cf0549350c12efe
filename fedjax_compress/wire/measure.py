"""Exact sizes of payloads, inside jit.

Bits are counted per message and never summed over clients on the device; the ledger
does that with Python integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Payload
from fedjax_compress.wire.code import carried, code_of
from fedjax_compress.wire.field import Field, count
from fedjax_compress.wire.ragged import COUNT_BITS, Ragged, number_of_rows, pieces, row

HEADER_BYTES = 16
"""Length of the header in front of every message, see ``wire.pack``."""
LARGEST = 2**31 - 1


def bits(payload: Payload) -> Array:
    """The bits of a message's body, as an int32 scalar.

    Where the number depends on the data and exceeds 2**31 - 1 it stays there, it never
    wraps. ``size`` goes 8 times further.

    Raises:
      InputError: the part that is known before compiling exceeds 2**31 - 1.
    """
    static, whole, rest = _total(pieces(payload))
    if static > LARGEST:
        raise InputError(
            f"a message of {static} bits does not fit an int32 count; use wire.size"
        )
    whole = whole + static // 8
    rest = rest + static % 8
    whole, rest = whole + rest // 8, rest % 8
    fits = whole <= LARGEST // 8
    return jnp.where(fits, jnp.where(fits, whole, 0) * 8 + rest, LARGEST)


def size(payload: Payload) -> Array:
    """The bytes of the packed message, ``len(pack(payload))``, as an int32 scalar.

    ceil(bits / 8) + 16. Right up to 2 GiB: bytes and left-over bits are summed apart.

    Raises:
      InputError: the part that is known before compiling exceeds 2**31 - 1 bytes.
    """
    static, whole, rest = _total(pieces(payload))
    return _bytes(static, whole, rest, HEADER_BYTES)


def nominal_size(payload: Payload) -> Array:
    """The bytes as papers count them, as an int32 scalar; never what was sent.

    log2(alphabet) for each symbol, the true bits for entropy-coded fields, nothing
    for scales and header; the total rounded up to bytes, that of a ``Ragged``'s row to
    bits.
    """
    static, whole, rest = _nominal(payload)
    return _bytes(static, whole, rest, 0)


def _nominal(payload: Payload) -> tuple[int, Array, Array]:
    """As ``_total``, of the bits as papers count them."""
    ideal = 0.0
    exact = []
    whole = rest = jnp.zeros((), jnp.int32)
    for piece in pieces(payload):
        if isinstance(piece, Ragged):
            more, low = carried(_of_rows(piece, lambda row: _joined(*_nominal(row))))
            whole, rest = whole + more + (rest + low >> 3), (rest + low) & 7
        elif piece.kind == "scales":
            continue
        elif code_of(piece).symbolwise:
            ideal += count(piece) * math.log2(piece.alphabet)
        else:
            exact.append(piece)
    static, more, low = _total(exact)
    whole, rest = whole + more + (rest + low >> 3), (rest + low) & 7
    return static + math.ceil(ideal - 1e-6), whole, rest


def foreseen(payload: Payload) -> tuple[int, bool]:
    """The bytes of the packed message before it is made, and whether they are exact.

    They are where no field's bits depend on its values; the symbols of one that does
    are counted at ceil(log2(alphabet)) bits each, and all rows that there is room for.
    Works on shapes, or while traced.
    """
    bits, exact = _foreseen(payload)
    return HEADER_BYTES + -(-bits // 8), exact


def foreseen_rows(payload: Payload) -> tuple[tuple[int, int], ...]:
    """Of each ``Ragged`` in a payload (bits of a row, room for rows), as foreseen."""
    return tuple(
        (_foreseen(row(piece, 0))[0], number_of_rows(piece))
        for piece in pieces(payload)
        if isinstance(piece, Ragged)
    )


def _foreseen(payload: Payload) -> tuple[int, bool]:
    bits, exact = 0, True
    for piece in pieces(payload):
        if isinstance(piece, Ragged):
            exact = False
            bits += COUNT_BITS + number_of_rows(piece) * _foreseen(row(piece, 0))[0]
            continue
        lengths = code_of(_checked(piece)).lengths(piece)
        if not isinstance(lengths, int):
            exact, lengths = False, count(piece) * (piece.alphabet - 1).bit_length()
        bits += lengths
    return bits, exact


def _total(parts) -> tuple[int, Array, Array]:
    """Static bits; and of the data-dependent ones, whole bytes and 0 .. 7 bits."""
    static = 0
    whole = jnp.zeros((), jnp.int32)
    rest = jnp.zeros((), jnp.int32)
    for field in parts:
        lengths: int | Array
        if isinstance(field, Ragged):
            static, lengths = static + COUNT_BITS, _of_rows(field, bits)
        else:
            lengths = code_of(_checked(field)).lengths(field)
        if isinstance(lengths, int):
            static += lengths
            continue
        more, low = carried(lengths)
        whole, rest = whole + more + (rest + low >> 3), (rest + low) & 7
    return static, whole, rest


def _of_rows(piece: Ragged, measure: Callable[[Payload], Array]) -> Array:
    """int32 [rows], the bits of each row that travels."""
    lengths = jax.vmap(measure)(piece.each)
    return jnp.where(jnp.arange(len(lengths)) < piece.used, lengths, 0)


def _joined(static: int, whole: Array, rest: Array) -> Array:
    return static + 8 * whole + rest


def _bytes(static: int, whole: Array, rest: Array, header: int) -> Array:
    known = static // 8 + header
    if known > LARGEST:
        raise InputError(f"a message of {known} bytes is too large; at most 2 GiB")
    return whole + known + (rest + static % 8 + 7) // 8


def _checked(field: Field) -> Field:
    if field.alphabet < 1:
        raise InputError(f"an alphabet needs at least one symbol, not {field.alphabet}")
    return field
