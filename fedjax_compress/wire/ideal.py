"""What an ideal coder would need: a figure to compare with, never a bill."""

from __future__ import annotations

import math

import numpy as np

from fedjax_compress.typing import Payload
from fedjax_compress.wire.field import Field, count, fields
from fedjax_compress.wire.message import unsigned

LARGEST = 2**16
"""Alphabets above this are not counted symbol by symbol."""


def entropy(payload: Payload) -> float:
    """The bits of an ideal coder for the symbols of a message, on the host, in float64.

    The sum over its fields: n H of the field's own histogram, H in bits a symbol; for
    strictly increasing indices log2 of the number of such sets; for words above 16 bits
    the bits that they have, since a histogram of floats says nothing. Neither
    histograms nor sets are paid for, so no message can be expected to be as short.
    """
    return float(sum(_bits(f) for f in fields(payload)))


def _bits(field: Field) -> float:
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
