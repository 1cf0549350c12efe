"""Shares of counts are exact, where float32 is not."""

from __future__ import annotations

from fractions import Fraction

import jax
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from fedjax_compress.prune.shares import ONE, portion, rounded, to_share

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
