"""Weight quantizers against plain numpy, and their gradients against the formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.quantize.weight_quantizers import (
    Codes,
    binary_values,
    check_bits,
    dorefa_values,
    learned_step,
    narrow_integers,
)

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
EDGES = {
    "normal": RNG.normal(size=(5, 7)).astype(np.float32),
    "uniform": RNG.uniform(-3, 3, size=(4, 3, 6)).astype(np.float32),
    "zeros": np.zeros((3, 4), np.float32),
    "one weight": np.float32([[0.0, 0.0], [-2.0, 0.0]]),
    "tiny": np.full((2, 3), 1e-20, np.float32),
    "large": np.float32([[1e30, -3e29], [5e29, 0]]),
    "halves": np.float32([[7.0, 0.5, 1.5], [2.5, -0.5, -1.5]]),
}


def integers(w, bits, axes):
    """Brevitas' default in float64 numpy: codes and scale."""
    top = 2 ** (bits - 1) - 1
    scale = np.maximum(np.max(np.abs(w), axis=axes, keepdims=True), np.float32(1e-10))
    scale = scale / np.float32(top)
    return np.clip(np.rint(w / scale), -top, top), scale


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("scale", ["tensor", "channel"])
def test_integers_are_those_of_numpy(name, bits, scale):
    w = EDGES[name]
    axes = None if scale == "tensor" else tuple(range(w.ndim - 1))
    quantizer = narrow_integers(bits, scale, True)
    found = quantizer.codes(jnp.asarray(w), None, KEY)
    wanted, step = integers(w, bits, axes)
    top = 2 ** (bits - 1) - 1
    assert quantizer.levels == 2 * top + 1
    np.testing.assert_array_equal(np.asarray(found.symbols) - top, wanted)
    np.testing.assert_allclose(found.scale, step, rtol=1e-6)
    seen = quantizer.view(jnp.asarray(w), None, None)
    np.testing.assert_allclose(seen, wanted * step, rtol=1e-6)
    np.testing.assert_array_equal(seen, quantizer.values(found, None))
    assert np.all(np.abs(seen - w) <= step * 0.5 * (1 + 1e-5))
    # Idempotent, and odd.
    np.testing.assert_allclose(quantizer.view(seen, None, None), seen, rtol=1e-6)
    np.testing.assert_array_equal(quantizer.view(-jnp.asarray(w), None, None), -seen)


def test_halves_go_to_even():
    found = narrow_integers(4, "tensor", True).view(
        jnp.asarray(EDGES["halves"]), None, None
    )
    np.testing.assert_array_equal(found, [[7, 0, 2], [2, 0, -2]])


def test_the_gradient_of_integers_goes_through_the_scale():
    """By the formula: g, and at the largest weight sign / Q sum g (q - w / s) more."""
    w, g = EDGES["normal"], RNG.normal(size=(5, 7)).astype(np.float32)

    def along(scale_gradient):
        view = narrow_integers(3, "tensor", scale_gradient).view
        return jax.grad(lambda x: jnp.sum(g * view(x, None, None)))(jnp.asarray(w))

    q, scale = integers(w, 3, None)
    wanted = g.copy()
    largest = np.unravel_index(np.argmax(np.abs(w)), w.shape)
    wanted[largest] += np.sign(w[largest]) / 3 * np.sum(g * (q - w / scale))
    np.testing.assert_allclose(along(True), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(along(False), g, rtol=1e-6)


def test_largest_weights_that_tie_share_the_gradient_of_the_scale():
    """By hand: Q = 1; w^ = (2, -2, 0), so d loss / d max|w| = 3 (0 - 0.5) / 2."""
    w, g = jnp.asarray([[2.0, -2.0, 0.5]]), jnp.asarray([[1.0, 2.0, 3.0]])
    view = narrow_integers(2, "tensor", True).view
    found = jax.grad(lambda x: jnp.sum(g * view(x, None, None)))(w)
    np.testing.assert_allclose(found, [[1 - 0.375, 2 + 0.375, 3]], rtol=1e-6)
    tiny = jnp.full_like(w, 1e-12)  # below the least maximum, which is a constant
    found = jax.grad(lambda x: jnp.sum(g * view(x, None, None)))(tiny)
    np.testing.assert_array_equal(found, g)


def test_each_channel_has_its_own_gradient_of_the_scale():
    """As of its columns alone; one of zeros has that of the weights only."""
    w, g = RNG.normal(size=(2, 6, 3)).astype(np.float32)
    w[:, 1] = 0

    def slope(w, g, scale):
        view = narrow_integers(3, scale, True).view
        return jax.grad(lambda x: jnp.sum(g * view(x, None, None)))(jnp.asarray(w))

    found = slope(w, g, "channel")
    alone = [slope(w[:, [c]], g[:, [c]], "tensor") for c in range(3)]
    np.testing.assert_allclose(found, np.hstack(alone), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[:, 1], g[:, 1])


@pytest.mark.parametrize("zero", ["plus", "zero"])
def test_binary_weights_are_signs(zero):
    w = jnp.asarray([[0.3, -0.2, 0.0], [-5.0, 2.0, -0.0]])
    quantizer = binary_values(False, 0.5, zero, False)
    at_zero = 0.5 if zero == "plus" else 0.0
    wanted = [[0.5, -0.5, at_zero], [-0.5, 0.5, at_zero]]
    np.testing.assert_array_equal(quantizer.view(w, None, None), wanted)
    np.testing.assert_array_equal(quantizer.view(w, None, KEY), wanted)
    found = quantizer.codes(w, None, KEY)
    assert int(jnp.max(found.symbols)) < quantizer.levels
    assert int(jnp.min(found.symbols)) >= 0
    np.testing.assert_array_equal(quantizer.values(found, None), wanted)
    g = jnp.arange(6.0).reshape(2, 3)
    slope = jax.grad(lambda x: jnp.sum(g * quantizer.view(x, None, None)))(w)
    np.testing.assert_array_equal(slope, g)
    assert float(jnp.max(jnp.abs(quantizer.constrain(w)))) == 0.5


def test_drawn_signs_have_the_weight_as_their_mean():
    """n = 20,000 draws of 8 weights; 6 standard errors, false alarm below 2e-8."""
    w = jnp.asarray([[-1.0, -0.7, -0.2, 0.0], [0.1, 0.5, 0.9, 3.0]])
    quantizer = binary_values(True, 1.0, "plus", False)
    n = 20_000
    keys = jax.random.split(KEY, n)
    drawn = jax.vmap(lambda key: quantizer.view(w, None, key))(keys)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    mean, wanted = np.mean(drawn, axis=0), np.clip(w, -1, 1)
    assert np.all(np.abs(mean - wanted) <= 6 * np.sqrt((1 - wanted**2) / n) + 1e-6)
    np.testing.assert_array_equal(quantizer.view(w, None, None), wanted)


def test_a_binary_start():
    quantizer = binary_values(False, 1.0, "zero", True)
    found = quantizer.begin(jnp.asarray([[0.3, -0.2, 0.0]]))
    np.testing.assert_array_equal(found, [[1, -1, 0]])


def test_learned_steps_by_hand():
    """s = 0.5, 3 bits: -4 .. 3; of 2.0 and 1.6, 1.6 is above 3.49 steps no more."""
    quantizer = learned_step(3)
    w = jnp.asarray([[0.6, -0.3, 2.0], [-2.6, 1.1, 0.0]])
    s = jnp.asarray([0.5])
    seen = quantizer.view(w, s, None)
    np.testing.assert_allclose(seen, [[0.5, -0.5, 1.5], [-2.0, 1.0, 0.0]], atol=1e-7)
    found = quantizer.codes(w, s, KEY)
    np.testing.assert_array_equal(found.symbols, [[5, 3, 7], [0, 6, 4]])
    np.testing.assert_array_equal(quantizer.values(found, s), seen)

    g = jnp.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    by_w, by_s = jax.grad(
        lambda w, s: jnp.sum(g * quantizer.view(w, s, None)), argnums=(0, 1)
    )(w, s)
    np.testing.assert_allclose(by_w, [[1, 2, 0], [0, 5, 6]], atol=1e-6)
    slopes = [1 - 1.2, -1 + 0.6, 3, -4, 2 - 2.2, 0]
    wanted = np.dot(slopes, np.ravel(g)) / np.sqrt(6 * 3)
    np.testing.assert_allclose(by_s, [wanted], rtol=1e-5)
    start = quantizer.extend(w)
    np.testing.assert_allclose(start, [2 * np.mean(np.abs(w)) / np.sqrt(3)], rtol=1e-6)


def test_weights_at_the_ends_of_the_range_have_the_whole_gradient():
    quantizer = learned_step(3)
    w, s = jnp.asarray([[1.5, -2.0, 0.5, 2.5]]), jnp.asarray([0.5])
    slope = jax.grad(lambda w: jnp.sum(quantizer.view(w, s, None)))(w)
    np.testing.assert_array_equal(slope, [[1, 1, 1, 0]])


def test_a_step_that_is_not_positive_comes_back():
    """Finite, and with a gradient; after a local step it is positive."""
    quantizer = learned_step(4)
    w = jnp.asarray([[1.0, -1.0]])
    for step in (1e-6, -3e-3):
        s = jnp.asarray([step])
        assert np.all(np.isfinite(quantizer.view(w, s, None)))
        slope = jax.grad(lambda s: jnp.sum((quantizer.view(w, s, None) - w) ** 2))(s)
        assert np.all(np.isfinite(slope))
        assert np.sign(slope[0]) == -np.sign(step)
        assert float(quantizer.constrain_learned(s)[0]) > 0
    assert float(quantizer.constrain_learned(jnp.zeros(1))[0]) > 0


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_dorefa_weights_are_those_of_numpy(bits):
    w = EDGES["normal"]
    quantizer = dorefa_values(bits)
    if bits == 1:
        wanted = np.where(w >= 0, 1, -1) * np.mean(np.abs(w))
    else:
        steps = 2**bits - 1
        squashed = np.tanh(w) / np.max(np.abs(np.tanh(w))) * 0.5 + 0.5
        wanted = 2 * np.rint(squashed * steps) / steps - 1
    seen = quantizer.view(jnp.asarray(w), None, None)
    np.testing.assert_allclose(seen, wanted, rtol=1e-5, atol=1e-6)
    found = quantizer.codes(jnp.asarray(w), None, KEY)
    assert int(jnp.max(found.symbols)) < quantizer.levels == 2**bits
    # Codes are read as latent weights of which the same is made.
    latent = quantizer.values(found, None)
    np.testing.assert_allclose(quantizer.view(latent, None, None), wanted, atol=1e-6)
    assert len(np.unique(seen)) <= 2**bits
    if bits == 1:
        g = RNG.normal(size=w.shape).astype(np.float32)
        slope = jax.grad(lambda x: jnp.sum(g * quantizer.view(x, None, None)))
        np.testing.assert_array_equal(slope(jnp.asarray(w)), g)


@pytest.mark.parametrize("bits", [0, 1, 17, 31, 33, -4])
def test_bits_out_of_range(bits):
    with pytest.raises(InputError, match=f"or 32 for none, not {bits}"):
        check_bits("bits", bits, 2)


def test_codes_of_scales_by_channel():
    w = jnp.asarray([[1.0, 100.0], [-0.5, 50.0]])
    found = narrow_integers(8, "channel", True).codes(w, None, KEY)
    assert isinstance(found, Codes)
    np.testing.assert_array_equal(found.symbols - 127, [[127, 127], [-64, 64]])
    assert found.scale.shape == (1, 2)
