"""Stages with an entropy code: the bits that theory gives for Gaussian vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from fedjax_compress import compress, tree, wire
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.typing import Keys

N = 40_000
X = np.random.default_rng(0).normal(size=N).astype(np.float32)


def entropy(shares):
    shares = np.asarray(shares)
    return -np.sum(shares * np.log2(shares))


def eden_two_bits():
    """Max 1960: the four best levels of N(0, 1) meet at 0 and at 0.9816."""
    outer = norm.sf(0.9816)
    return [outer, 0.5 - outer, 0.5 - outer, outer]


def terngrad_clipped():
    """P(not zero) = E min(|z|, 2.5) / 2.5, by a sum over the density."""
    z = np.linspace(-12, 12, 2_000_001)
    some = np.sum(np.minimum(np.abs(z), 2.5) / 2.5 * norm.pdf(z)) * (z[1] - z[0])
    return [1 - some, some / 2, some / 2]


def sent(specification):
    """The bits of one message, and what arrives of it."""
    compressor = compress.parse(specification)
    keys = Keys(root_key(1), root_key(2))
    values = {"x": jnp.asarray(X)}
    encode = jax.jit(lambda v: compressor.encode(v, compressor.init(v), keys)[0])
    payload = encode(values)
    arrived = compressor.decode(payload, tree.shapes(values), keys.shared)
    return int(wire.bits(payload)), np.asarray(arrived["x"])


@pytest.mark.parametrize(
    ("specification", "shares"),
    [
        ("eden(bits=2, code=arithmetic)", eden_two_bits()),
        ("terngrad(code=arithmetic)", terngrad_clipped()),
    ],
)
def test_arithmetic_coding_comes_close_to_the_entropy(specification, shares):
    """The share of a symbol strays by 0.0025 at most (one standard error, n = 40,000),
    which moves the entropy by less than 0.01 bits; the table costs less than 0.01."""
    bits, _ = sent(specification)
    assert abs(bits / N - entropy(shares)) < 0.02


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ("eden(bits=2.5, {})", "huffman"),
        ("quic_fl(bits=3, {})", "huffman"),
        ("dorefa_gradient(bits=4, {})", "best"),
        ("terngrad(2.5, max, {})", "zero_runs"),
    ],
)
def test_a_code_changes_bits_and_nothing_else(stage, code):
    plain, expected = sent(stage.format("code=fixed"))
    bits, found = sent(stage.format(f"code={code}"))
    np.testing.assert_array_equal(found, expected)
    assert bits < plain


def test_the_expected_entropy_is_the_published_one():
    """1.911 bits: what the authors' levels give for two bits."""
    assert abs(entropy(eden_two_bits()) - 1.911) < 1e-3


def test_a_code_that_does_not_take_so_many_symbols_is_refused():
    with pytest.raises(InputError, match="take another code"):
        compress.parse("dorefa_gradient(bits=16, code=arithmetic)")
