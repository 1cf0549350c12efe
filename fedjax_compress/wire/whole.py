"""A whole message squeezed by DEFLATE or zstandard: known on the host alone.

Their lengths depend on the data in a way that no compiled program can follow, so they
are never billed; they are measured beside the bill.

Layout of a squeezed message, all numbers big-endian::

    offset  bytes
    0       2      magic, "FD" for deflate, "FZ" for zstd
    2       1      version, 1
    3       1      0
    4       4      length in bytes of the body before squeezing
    8       4      CRC-32 of the structure, as in ``wire.pack``
    12      4      CRC-32 of the squeezed body
    16      ...    the squeezed body

Before squeezing, every field begins at a byte. Symbols of equal width (codes fixed and
radix) take 1, 2, 4 or 8 whole bytes each, the fewest that hold the alphabet: squeezing
finds patterns in bytes, not in bits. Other fields are written in their own code, the
last byte filled up with zeros.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import jax
import numpy as np

from fedjax_compress.errors import InputError, WireError
from fedjax_compress.registry import nearest
from fedjax_compress.typing import Payload
from fedjax_compress.wire.code import BitReader, code_of
from fedjax_compress.wire.codes.fixed import width
from fedjax_compress.wire.field import Field, count, fields
from fedjax_compress.wire.measure import HEADER_BYTES
from fedjax_compress.wire.message import pack, restored, structure, unsigned, written

DEFLATE_LEVEL = 9
ZSTD_LEVEL = 9
VERSION = 1
_MAGIC = {"deflate": b"FD", "zstd": b"FZ"}
_HEADER = struct.Struct(">2sBBIII")
_SLACK = 1 << 16
"""Bytes that a code may need beside its symbols: tables and frequencies."""


def squeeze(payload: Payload, method: str = "deflate") -> bytes:
    """The message as bytes, squeezed as a whole.

    Args:
      payload: of one client, with concrete arrays.
      method: deflate (zlib at level 9) or zstd (zstandard at level 9).

    Raises:
      InputError: an unknown method, or what ``pack`` refuses.
    """
    parts = list(fields(payload))
    return _sealed(b"".join(map(_aligned, parts)), parts, method)


def unsqueeze(data: bytes, like: Payload, method: str = "deflate") -> Payload:
    """The payload that was squeezed.

    No more is unpacked than a message of this structure can hold.

    Raises:
      WireError: the bytes are not an undamaged message of that structure.
    """
    magic = _magic(method)
    parts = list(fields(like))
    if len(data) < HEADER_BYTES:
        raise WireError(f"a squeezed message of {len(data)} bytes is cut off")
    found, version, zero, length, number, checksum = _HEADER.unpack_from(data)
    if (found, version, zero) != (magic, VERSION, 0):
        raise WireError(f"not a message squeezed by {method}")
    if number != structure(parts):
        raise WireError("the message has another structure than the one expected")
    body = data[HEADER_BYTES:]
    if zlib.crc32(body) != checksum:
        raise WireError("the message is damaged: its checksum does not match")
    if length > sum(_most(f) for f in parts):
        raise WireError(f"{length} bytes are more than such a message can hold")
    reader = BitReader(np.unpackbits(np.frombuffer(_plain(body, length, method), "u1")))
    symbols = [_read(reader, f) for f in parts]
    if reader.left:
        raise WireError(f"{reader.left} bits are left after the last field")
    return jax.tree.unflatten(jax.tree.structure(like), symbols)


def whole_sizes(payload: Payload) -> dict[str, int]:
    """Bytes of a message: ``packed``, ``deflate`` and ``zstd``, with their headers.

    Only the first is what the simulator counts.
    """
    parts = list(fields(payload))
    plain = b"".join(map(_aligned, parts))
    found = {"packed": len(pack(payload))}
    return found | {way: len(_sealed(plain, parts, way)) for way in _MAGIC}


def _sealed(plain: bytes, parts: list[Field], method: str) -> bytes:
    magic = _magic(method)
    if len(plain) >= 2**31:
        raise InputError(f"a message of {len(plain)} bytes is too large; at most 2 GiB")
    if method == "deflate":
        body = zlib.compress(plain, DEFLATE_LEVEL)
    else:
        import zstandard  # not needed by a run, whose bill it is no part of

        body = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(plain)
    checksum = zlib.crc32(body)
    head = _HEADER.pack(magic, VERSION, 0, len(plain), structure(parts), checksum)
    return head + body


def _magic(method: str) -> bytes:
    if method not in _MAGIC:
        hint = nearest(method, list(_MAGIC))
        raise InputError(f"unknown way to squeeze {method!r}; {hint}")
    return _MAGIC[method]


def _bytes_each(alphabet: int) -> int:
    return next(s for s in (1, 2, 4, 8) if 8 * s >= width(alphabet))


def _aligned(field: Field) -> bytes:
    if code_of(field).symbolwise:
        size = _bytes_each(field.alphabet)
        return unsigned(field).astype(f">u{size}").tobytes()
    return np.packbits(written(field)).tobytes()


def _most(field: Field) -> int:
    """Bytes that a field can take at most."""
    code, n = code_of(field), count(field)
    if code.symbolwise:
        return n * _bytes_each(field.alphabet)
    return 8 * n + _SLACK + (field.alphabet // 8 if code.increasing else 0)


def _read(reader: BitReader, field: Field) -> Any:
    code, n = code_of(field), count(field)
    if code.symbolwise:
        size = _bytes_each(field.alphabet)
        words = np.packbits(reader.take(8 * size * n)).view(f">u{size}")
        return restored(words.astype(f"u{size}"), field)
    words = code.decode(reader, n, field.alphabet)
    if reader.take(-reader.position % 8).any():
        raise WireError("the bits between two fields are not zero")
    return restored(words, field)


def _plain(body: bytes, length: int, method: str) -> bytes:
    """The body as it was before squeezing, of exactly this length."""
    plain, whole = {"deflate": _inflated, "zstd": _unzipped}[method](body, length)
    if len(plain) != length or not whole:
        raise WireError(f"the message does not unsqueeze to {length} bytes")
    return plain


def _inflated(body: bytes, length: int) -> tuple[bytes, bool]:
    """At most one byte more than ``length``, and whether that was all."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(body, length + 1)
    except zlib.error as error:
        raise _damaged(error) from None
    return plain, inflate.eof and not inflate.unused_data


def _unzipped(body: bytes, length: int) -> tuple[bytes, bool]:
    """Likewise; nothing where the frame says another length, for which it makes room
    before it unpacks."""
    import zstandard

    try:
        if zstandard.get_frame_parameters(body).content_size != length:
            return b"", False
        unzip = zstandard.ZstdDecompressor()
        return unzip.decompress(body, allow_extra_data=False), True
    except zstandard.ZstdError as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> WireError:
    reason = str(error).splitlines()[0]
    return WireError(f"the message cannot be unsqueezed: {reason}")
