"""The wire format of ``tf.train.Example``, read without TensorFlow or its schema.

An example is a protobuf message of messages, here as field numbers::

    Example  1: Features
    Features 1: entries of a map, each of them  1: name, 2: Feature
    Feature  one of  1: BytesList, 2: FloatList, 3: Int64List
    a list   1: its values; numbers one by one, or packed into one field

Each field begins with a varint of 8 number + type. A varint has seven bits a byte,
the lowest first, and the high bit on all bytes but its last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_TEXTS, _FLOATS, _WHOLE = 1, 2, 3
_LONGEST = 10


def features_of(
    data: bytes, wanted: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """The features of a serialized example by name.

    Args:
      data: the message.
      wanted: names of the features to give; None for all.

    Returns:
      float32 or int64 [values], or of bytes an array of objects, [values].

    Raises:
      ValueError: no such message.
    """
    found: dict[str, np.ndarray] = {}
    for _, features in _inner(data, 1):
        for _, entry in _inner(features, 1):
            parts = dict(_inner(entry, 1, 2))
            name = parts.get(1, b"").decode("utf-8")
            if wanted is None or name in wanted:
                found[name] = _values(parts.get(2, b""))
    return found


def _values(feature: bytes) -> np.ndarray:
    """The values of the list that a feature holds."""
    kind = 0
    parts: list[bytes] = []
    for number, content in _inner(feature, _TEXTS, _FLOATS, _WHOLE):
        if number != kind:  # of alternatives the last one counts
            kind, parts = number, []
        parts.append(content)
    content = b"".join(parts)
    if kind == _TEXTS:
        texts = [value for _, value in _inner(content, 1)]
        result = np.empty(len(texts), object)
        result[:] = texts
        return result
    if kind == _FLOATS:
        runs = [value for _, type_, value in _fields(content, 1) if type_ != _VARINT]
        return np.frombuffer(b"".join(runs), "<f4").astype(np.float32, copy=False)
    runs = [value for _, type_, value in _fields(content, 1) if type_ in (0, _BYTES)]
    return _whole(b"".join(runs))


def _whole(packed: bytes) -> np.ndarray:
    """int64 values of varints that stand one after the other."""
    raw = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if not len(raw):
        return np.zeros(0, np.int64)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise ValueError("a number is cut off")
    if len(ends) == len(raw):
        return raw.astype(np.int64)
    starts = np.append(0, ends[:-1] + 1)
    widths = ends - starts + 1
    if widths.max() > _LONGEST:
        raise ValueError(f"a number has more than {_LONGEST} bytes")
    values = (raw[starts] & 0x7F).astype(np.uint64)
    for spot in range(1, int(widths.max())):
        has = np.flatnonzero(widths > spot)
        bits = (raw[starts[has] + spot] & 0x7F).astype(np.uint64)
        values[has] |= bits << np.uint64(7 * spot)
    return values.view(np.int64)


def _inner(data: bytes, *numbers: int) -> Iterator[tuple[int, bytes]]:
    """The messages, or texts, in the fields of these numbers."""
    for number, type_, value in _fields(data, *numbers):
        if type_ == _BYTES:
            yield number, value


def _fields(data: bytes, *numbers: int) -> Iterator[tuple[int, int, bytes]]:
    """Number, type and content of the fields of these numbers; varints as they are."""
    spot = 0
    while spot < len(data):
        tag, spot = _varint(data, spot)
        number, type_ = tag >> 3, tag & 7
        if type_ == _VARINT:
            _, end = _varint(data, spot)
        elif type_ == _BYTES:
            size, spot = _varint(data, spot)
            end = spot + size
        elif type_ in (_EIGHT, _FOUR):
            end = spot + (8 if type_ == _EIGHT else 4)
        else:
            raise ValueError(f"a field has type {type_}")
        if end > len(data):
            raise ValueError("a field is cut off")
        if number in numbers:
            yield number, type_, data[spot:end]
        spot = end


def _varint(data: bytes, spot: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    if spot < len(data) and data[spot] < 0x80:
        return data[spot], spot + 1
    value = 0
    for shift in range(0, 7 * _LONGEST, 7):
        if spot >= len(data):
            raise ValueError("a number is cut off")
        byte = data[spot]
        value |= (byte & 0x7F) << shift
        spot += 1
        if byte < 0x80:
            return value, spot
    raise ValueError(f"a number has more than {_LONGEST} bytes")
