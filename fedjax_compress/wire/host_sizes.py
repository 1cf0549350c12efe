"""What a message costs, field by field, and what an ideal coder would need.

On the host, by writing the message: no program is compiled for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fedjax_compress.typing import Payload
from fedjax_compress.wire.code import code_of
from fedjax_compress.wire.field import Field, count, fields
from fedjax_compress.wire.message import unsigned, written

LARGEST = 2**16
"""Alphabets above this are not counted symbol by symbol."""


def entropy(payload: Payload) -> float:
    """The bits of an ideal coder for the symbols of a message, on the host, in float64.

    The sum over its fields: n H of the field's own histogram, H in bits a symbol; for
    strictly increasing indices log2 of the number of such sets; for words above 16 bits
    the bits that they have, since a histogram of floats says nothing. Neither
    histograms nor sets are paid for, so no message can be expected to be as short.
    """
    return float(sum(_ideal(f) for f in fields(payload)))


class FieldSize(NamedTuple):
    """What one field costs.

    Attributes:
      kind: values, indices, scales or mask.
      bits: exact, as ``wire.bits`` counts them.
      nominal: as papers count them; see ``wire.nominal_size``.
      ideal: of an ideal coder; see ``wire.entropy``.
    """

    kind: str
    bits: int
    nominal: float
    ideal: float


def field_sizes(payload: Payload) -> list[FieldSize]:
    """The sizes of all fields in bits, in pytree order, without any limit."""
    return [_sizes(f) for f in fields(payload)]


def _sizes(field: Field) -> FieldSize:
    bits = written(field).size
    nominal: float = bits
    if field.kind == "scales":
        nominal = 0.0
    elif code_of(field).symbolwise:
        nominal = count(field) * math.log2(field.alphabet)
    return FieldSize(field.kind, bits, nominal, _ideal(field))


def _ideal(field: Field) -> float:
    n, words = count(field), unsigned(field)
    if field.kind == "indices" and (words[1:] > words[:-1]).all():
        return _log2_choose(field.alphabet, n)
    if field.alphabet > LARGEST:
        return n * math.log2(field.alphabet)
    counts = np.bincount(words.astype(np.int64), minlength=1)
    counts = counts[counts > 0].astype(np.float64)
    return float(np.sum(counts * np.log2(n / counts)))


def _log2_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / (
        math.log(2)
    )
