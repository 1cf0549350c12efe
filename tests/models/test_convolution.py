"""The convolution's forms, and max pooling."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.models.convolution.layer import (
    THIN,
    Convolution,
    direct,
    max_pool,
    patches,
)

BY_HAND = {
    "VALID": [[37.5, 47.5], [67.5, 77.5]],
    "SAME": [[37.5, 47.5, 21.5], [67.5, 77.5, 33.5], [23.5, 26.5, 9.5]],
}


@pytest.mark.parametrize("form", ["patches", "winograd", "direct"])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_convolution_by_hand(form, padding):
    # [[1, 2], [3, 4]] over 1 .. 9, plus 0.5: 1*1 + 2*2 + 4*3 + 5*4 + 0.5 = 37.5.
    x = jnp.arange(1.0, 10).reshape(1, 3, 3, 1)
    kernel = jnp.array([[1.0, 2], [3, 4]]).reshape(2, 2, 1, 1)
    layer = Convolution(1, 2, padding, form)
    params = {"kernel": kernel, "bias": jnp.array([0.5])}
    y = layer.apply({"params": params}, x)
    assert y[0, :, :, 0].tolist() == BY_HAND[padding]


def data(size, channels, features, seed=0, clients=()):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*clients, 2, 7, 9, channels)).astype(np.float32)
    kernel = rng.normal(size=(*clients, size, size, channels, features))
    return x, kernel.astype(np.float32)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(("size", "channels"), [(5, 3), (3, THIN), (4, THIN + 1)])
def test_patches_equal_direct_forward_and_gradient(padding, size, channels):
    x, kernel = data(size, channels, 4)

    @functools.partial(jax.jit, static_argnums=0)
    def run(convolve, x, kernel):
        y, pull = jax.vjp(lambda x, k: convolve(x, k, padding), x, kernel)
        return y, pull(jnp.sin(y))

    a, b = run(patches, x, kernel), run(direct, x, kernel)
    jax.tree.map(
        lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-3), a, b
    )


@pytest.mark.parametrize("channels", [1, THIN])
def test_patches_of_many_clients_are_batched_products(channels):
    x, kernel = data(3, channels, 4, clients=(3,))
    many = jax.jit(jax.vmap(functools.partial(patches, padding="SAME")))
    text = many.lower(x, kernel).as_text()
    assert "convolution" not in text
    assert "batching_dims = [0] x [0]" in text
    one_by_one = [direct(x[i], kernel[i], "SAME") for i in range(3)]
    np.testing.assert_allclose(many(x, kernel), one_by_one, rtol=1e-4, atol=1e-4)


def test_all_forms_have_the_same_parameters():
    x = jnp.zeros((1, 6, 6, 2))
    a, b = (
        jax.eval_shape(Convolution(3, 5, "SAME", form).init, jax.random.key(0), x)
        for form in ("auto", "direct")
    )
    assert a == b
    assert a["params"]["kernel"].shape == (5, 5, 2, 3)


def test_max_pool_by_hand():
    x = jnp.array([[1.0, 5, 2, 0, 9], [3, 4, -1, -2, 9], [9, 9, 9, 9, 9]])
    assert max_pool(x.reshape(1, 3, 5, 1)).ravel().tolist() == [5.0, 2.0]


def test_max_pool_equals_blockwise_maximum():
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    wanted = np.max(
        [x[:, i::2, j::2] for i in range(2) for j in range(2)],
        axis=0,
    )
    assert np.array_equal(max_pool(x), wanted)
