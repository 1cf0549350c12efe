"""Bytes of a message and back.

Layout, all numbers big-endian::

    offset  bytes
    0       2      magic, "FC"
    2       1      version, 1
    3       1      unused bits at the end of the last byte of the body, 0 .. 7
    4       4      length of the body in bytes
    8       4      CRC-32 of the structure
    12      4      CRC-32 of the body
    16      ...    body

The body holds the fields one after another in pytree order, each in its own code, most
significant bit first, without alignment in between; unused bits are zero. The
structure is the text with one line ``SHAPE DTYPE ALPHABET CODE`` for each field, as in
``[3, 5] uint8 16 fixed``; both ends know it, and its CRC tells when they do not agree.
Of rows (``Ragged``) their number stands in 32 bits in front of the fields of each, and
the structure has a line ``ROWS rows`` and the lines of one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import InputError, WireError
from fedjax_compress.typing import Payload
from fedjax_compress.wire.code import BitReader, code_of
from fedjax_compress.wire.field import Field, count, is_word
from fedjax_compress.wire.measure import HEADER_BYTES
from fedjax_compress.wire.ragged import (
    COUNT_BITS,
    Ragged,
    joined,
    number_of_rows,
    pieces,
    row,
)

MAGIC = b"FC"
VERSION = 1
_HEADER = struct.Struct(">2sBBIII")


def pack(payload: Payload) -> bytes:
    """The message as bytes, ``ceil(bits(payload) / 8) + 16`` of them.

    Args:
      payload: of one client, with concrete arrays.

    Raises:
      InputError: a symbol outside its alphabet, or an array outside a Field.
    """
    parts = list(pieces(payload))
    stream = np.concatenate([np.zeros(0, np.uint8), *map(written, parts)])
    body = np.packbits(stream).tobytes()
    unused = 8 * len(body) - stream.size
    header = _HEADER.pack(
        MAGIC, VERSION, unused, len(body), structure(parts), zlib.crc32(body)
    )
    return header + body


def written(field: Field | Ragged) -> np.ndarray:
    """The bits of one field, or of rows and their number; uint8 [bits], each 0 or 1."""
    if isinstance(field, Ragged):
        used = int(field.used)
        number = np.unpackbits(np.array([used], ">u4").view(np.uint8))
        each = [written(part) for i in range(used) for part in pieces(row(field, i))]
        return np.concatenate([number, *each])
    return code_of(field).encode(unsigned(field), field.alphabet)


def unpack(data: bytes, like: Payload) -> Payload:
    """The payload that was packed.

    Args:
      data: what ``pack`` returned.
      like: a payload of the same structure; its leaves may be ``ShapeDtypeStruct``.

    Returns:
      A payload with the structure, static facts and dtypes of ``like``.

    Raises:
      WireError: the bytes are not an undamaged message of that structure.
    """
    parts = list(pieces(like))
    reader = _open(data, parts)
    symbols = [leaf for f in parts for leaf in _read(reader, f)]
    if reader.position != reader.bits.size:
        left = reader.bits.size - reader.position
        raise WireError(f"{left} bits are left after the last field of the message")
    return jax.tree.unflatten(jax.tree.structure(like), symbols)


def _open(data: bytes, parts: list[Field | Ragged]) -> BitReader:
    """Checks the header and all checksums; a reader of the body's bits."""
    if len(data) < HEADER_BYTES:
        raise WireError(
            f"a message of {len(data)} bytes is cut off; its header alone has "
            f"{HEADER_BYTES}"
        )
    magic, version, unused, length, number, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise WireError(f"not a message: it starts with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise WireError(f"a message of version {version}; this reads {VERSION}")
    if len(data) != HEADER_BYTES + length:
        raise WireError(
            f"a message of {HEADER_BYTES + length} bytes has arrived with {len(data)}"
        )
    body = data[HEADER_BYTES:]
    if unused > 7 or unused > 8 * length or zlib.crc32(body) != checksum:
        raise WireError("the message is damaged: its checksum does not match")
    if number != structure(parts):
        raise WireError(
            "the message has another structure (shapes, dtypes, alphabets or codes) "
            "than the one expected"
        )
    bits = np.unpackbits(np.frombuffer(body, np.uint8))
    if unused and bits[-unused:].any():
        raise WireError("the unused bits at the end of the message are not zero")
    return BitReader(bits[: bits.size - unused])


def structure(parts: Iterable[Field | Ragged]) -> int:
    """CRC-32 of the shapes, dtypes, alphabets and codes of the fields."""
    return zlib.crc32("\n".join(_lines(parts)).encode())


def _lines(parts: Iterable[Field | Ragged]) -> list[str]:
    lines = []
    for part in parts:
        if isinstance(part, Ragged):
            lines.append(f"{number_of_rows(part)} rows")
            lines += _lines(pieces(row(part, 0)))
            continue
        shape, dtype = list(part.symbols.shape), np.dtype(part.symbols.dtype)
        lines.append(f"{shape} {dtype} {part.alphabet} {part.code}")
    return lines


def unsigned(field: Field) -> np.ndarray:
    """A field's symbols as unsigned integers [n].

    Raises:
      InputError: a symbol outside the alphabet.
    """
    array = np.asarray(field.symbols).reshape(-1)
    if is_word(field):
        return array.view(f"u{array.dtype.itemsize}")
    if array.dtype.kind not in "iub":
        raise InputError(
            f"{array.dtype} symbols need an alphabet of "
            f"{2 ** (8 * array.dtype.itemsize)}, not {field.alphabet}"
        )
    if array.size and not (array.min() >= 0 and array.max() < field.alphabet):
        worst = array.min() if array.min() < 0 else array.max()
        raise InputError(f"symbol {worst} in a field of {field.alphabet} symbols")
    return array.astype(np.uint8 if array.dtype == bool else f"u{array.dtype.itemsize}")


def restored(words: np.ndarray, field: Field) -> Any:
    """The symbols of a field, from unsigned integers that have been read.

    Raises:
      WireError: one of them is outside the alphabet.
    """
    dtype = np.dtype(field.symbols.dtype)
    if words.size and int(words.max()) >= field.alphabet:
        raise WireError(f"symbol {words.max()} in a field of {field.alphabet} symbols")
    if is_word(field):
        array = words.astype(f"u{dtype.itemsize}").view(dtype)
    else:
        array = words.astype(dtype)
    return jnp.asarray(array.reshape(field.symbols.shape))


def _read(reader: BitReader, field: Field | Ragged) -> list[Any]:
    """The arrays of a piece, in pytree order.

    Raises:
      WireError: more rows than there is room for.
    """
    if not isinstance(field, Ragged):
        words = code_of(field).decode(reader, count(field), field.alphabet)
        return [restored(words, field)]
    used = int(np.packbits(reader.take(COUNT_BITS)).view(">u4")[0])
    if used > number_of_rows(field):
        raise WireError(f"{used} rows in a message of at most {number_of_rows(field)}")
    like = row(field, 0)
    parts, shape = list(pieces(like)), jax.tree.structure(like)
    rows = []
    for _ in range(used):
        leaves = [leaf for part in parts for leaf in _read(reader, part)]
        rows.append(jax.tree.unflatten(shape, leaves))
    return jax.tree.leaves(joined(rows, field))
