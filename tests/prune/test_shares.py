"""Shares of counts are exact, where float32 is not."""

from __future__ import annotations

import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedjax_compress.prune.shares import (
    ONE,
    ceiled,
    floored,
    portion,
    rounded,
    to_share,
)

PORTION, ROUNDED, TO_SHARE = jax.jit(portion), jax.jit(rounded), jax.jit(to_share)


@example(ONE, 2**31 - 1)
@example(ONE // 2, 7)
@example(ONE - 1, 2**31 - 1)
@given(st.integers(0, ONE), st.integers(0, 2**31 - 1))
def test_the_product_is_whole_and_rest(share, count):
    whole, rest = PORTION(np.uint32(share), np.int32(count))
    assert (int(whole), int(rest)) == divmod(share * count, ONE)
    exact = Fraction(share * count, ONE)
    assert int(ROUNDED(np.uint32(share), np.int32(count))) == int(
        exact + Fraction(1, 2)
    )


@given(st.floats(2**-6, 1, width=32))
def test_a_float_keeps_its_value(value):
    assert int(TO_SHARE(np.float32(value))) == Fraction(value) * ONE


def test_shares_are_clipped():
    values = np.float32([-1, 0, 1, 2])
    assert TO_SHARE(values).tolist() == [0, 0, ONE, ONE]


DECIMALS = (0.0, 0.1, 0.2, 0.29, 0.3, 0.7, 0.9, 0.9999, 1.0)
EACH = jax.jit(lambda n: [(floored(s, n), ceiled(s, n)) for s in DECIMALS])


@example(2**31 - 1)
@given(st.integers(0, 2**31 - 1) | st.integers(0, 1000))
def test_decimal_fractions_of_counts(count):
    for share, (down, up) in zip(DECIMALS, EACH(np.int32(count)), strict=True):
        exact = Fraction(str(share)) * count
        assert (int(down), int(up)) == (math.floor(exact), math.ceil(exact))
    share = np.float32(0.3)
    assert int(floored(share, count)) == int(PORTION(TO_SHARE(share), count).whole)


FINE = ("1e-05", "0.00012345", "0.500003", "0.9999999", "1e-09")


@jax.jit
def of_fine(count):
    return [(floored(float(s), count), ceiled(float(s), count)) for s in FINE]


@pytest.mark.parametrize("count", [0, 1, 7, 10**5, 10**6, 10**9, 2**31 - 1])
def test_shares_that_no_small_fraction_is_near(count):
    for share, (down, up) in zip(FINE, of_fine(np.int32(count)), strict=True):
        exact = Fraction(share) * count
        assert (int(down), int(up)) == (math.floor(exact), math.ceil(exact)), share


def test_a_share_above_0_is_never_0():
    assert [int(ceiled(1e-300, count)) for count in (0, 1, 2**30)] == [0, 1, 1]
    assert int(floored(1e-300, 2**30 - 1)) == 0
