"""Minimal filtering against the definition in float64, and the choice of a form."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.models import convolution_form
from fedjax_compress.models.convolution import forms
from fedjax_compress.models.convolution.layer import (
    Convolution,
    convolve,
    direct,
    patches,
)
from fedjax_compress.models.convolution.winograd import suits, transforms, winograd


@pytest.mark.parametrize(("outputs", "size"), [(4, 3), (4, 5), (2, 3), (2, 5)])
def test_transforms_filter_one_axis(outputs, size):
    rng = np.random.default_rng(0)
    of_outputs, of_kernel, of_inputs = transforms(outputs, size)
    g, d = rng.normal(size=size), rng.normal(size=outputs + size - 1)
    wanted = [g @ d[i : i + size] for i in range(outputs)]
    made = of_outputs @ ((of_kernel @ g) * (of_inputs @ d))
    np.testing.assert_allclose(made, wanted, rtol=1e-12, atol=1e-12)


def test_transforms_of_four_by_three_by_hand():
    # Powers of the points 0, 1, -1, 2, -2 and infinity; G divided by the products of
    # a point's distances from the others (4, -6, -6, 24, 24, 1); in B' the coefficients
    # of the product of (x - p) over the other points, (x^2 - 1)(x^2 - 4) for 0.
    of_outputs, of_kernel, of_inputs = transforms(4, 3)
    assert of_outputs.tolist() == [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
    rows = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
    np.testing.assert_allclose(of_kernel, np.array(rows) / 24, atol=1e-15)
    wanted = [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    np.testing.assert_allclose(of_inputs, wanted, atol=1e-12)


AROUND = {
    "VALID": [(0, 0), (0, 0)],
    "SAME": None,
    "uneven": [(0, 3), (2, 0)],
    "cropped": [(-1, 0), (0, -2)],
}


def run(convolve, x, kernel):
    y, pull = jax.vjp(convolve, x, kernel)
    return y, *pull(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


@functools.cache
def in_float64(size, height, width, channels, features, padding, clients):
    """Inputs of float32, and output and gradients of the definition in float64."""
    rng = np.random.default_rng(size)
    x = rng.normal(size=(clients, 2, height, width, channels))
    kernel = rng.normal(size=(clients, size, size, channels, features))
    around = AROUND[padding] or [((size - 1) // 2, size // 2)] * 2
    given = x.astype(np.float32), kernel.astype(np.float32)
    with jax.enable_x64():
        exact = [jnp.asarray(a, jnp.float64) for a in given]
        define = jax.jit(lambda x, k: run(lambda x, k: direct(x, k, around), x, k))
        made = [define(exact[0][i], exact[1][i]) for i in range(clients)]
        wanted = [np.stack(parts) for parts in zip(*made, strict=True)]
    return (*given, around, wanted)


CASES = [
    (3, 13, 10, 16, 32, "VALID"),
    (3, 8, 15, 32, 16, "SAME"),
    (5, 14, 11, 16, 32, "SAME"),
    (5, 9, 12, 32, 17, "VALID"),
    (3, 9, 12, 32, 16, "uneven"),
    (5, 13, 14, 32, 16, "cropped"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("lanes", [1, 3])
def test_winograd_is_the_definition_forward_and_backward(case, lanes):
    # Root mean square of the difference over that of the values. Each product of the
    # transformed domain is rounded about ten times as much as in the definition.
    x, kernel, around, wanted = in_float64(*case, clients=lanes)
    one = functools.partial(run, lambda x, k: winograd(x, k, around))
    if lanes == 1:
        made = [m[None] for m in jax.jit(one)(x[0], kernel[0])]
    else:
        made = jax.jit(jax.vmap(one))(x, kernel)
    assert suits(x[0], kernel[0], around)
    for a, b in zip(made, wanted, strict=True):
        error = np.sqrt(np.mean((np.asarray(a, np.float64) - b) ** 2) / np.mean(b**2))
        assert error < 1e-5


@pytest.mark.parametrize("form", ["patches", "winograd", "direct", "auto"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_every_form_is_the_definition(form, padding):
    x, kernel, _, wanted = in_float64(3, 11, 14, 16, 32, padding, clients=1)
    made = jax.jit(functools.partial(run, lambda x, k: convolve(x, k, padding, form)))(
        x[0], kernel[0]
    )
    for a, b in zip(made, wanted, strict=True):
        np.testing.assert_allclose(a, b[0], rtol=1e-3, atol=2e-4 * np.abs(b).max())


def test_forward_over_reverse_differentiation():
    x, kernel, around, _ = in_float64(3, 8, 8, 16, 32, "SAME", clients=1)

    def product(convolve):
        value = lambda k: jnp.sum(jnp.square(convolve(x[0], k, around)))  # noqa: E731
        return jax.jit(lambda k, v: jax.jvp(jax.grad(value), (k,), (v,))[1])

    made, wanted = (product(f)(kernel[0], kernel[0]) for f in (winograd, patches))
    np.testing.assert_allclose(
        made, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max()
    )


def shapes(size, height, channels, features, dtype="float32", columns=None):
    x = jax.ShapeDtypeStruct((2, height, height, channels), dtype)
    shape = (size, columns or size, channels, features)
    return x, jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (shapes(3, 16, 32, 64), True),
        (shapes(5, 16, 32, 64), True),
        (shapes(3, 16, 32, 64, "float64"), True),
        (shapes(3, 16, 32, 64, "bfloat16"), False),
        (shapes(1, 16, 32, 64), False),
        (shapes(7, 16, 32, 64), False),
        (shapes(3, 16, 32, 64, columns=5), False),
        (shapes(3, 16, 3, 32), False),
        (shapes(3, 4, 32, 64), False),  # 2 x 2 outputs: one tile, 36 products for 36
        (shapes(3, 2, 32, 64), False),  # no output
    ],
)
def test_where_winograd_suits(given, right):
    assert suits(*given, AROUND["VALID"]) is right


def test_where_it_does_not_suit_winograd_means_patches():
    x = jnp.ones((1, 6, 6, 3), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 3, 64), jnp.bfloat16)
    y = convolve(x, kernel, "VALID", "winograd")
    assert y.dtype == jnp.bfloat16
    assert np.array_equal(y, patches(x, kernel, "VALID"))


def products(form="auto"):
    """How a convolution that suits winograd is computed, as traced now."""
    x, kernel = shapes(3, 16, 32, 64)
    text = str(jax.make_jaxpr(lambda x, k: convolve(x, k, "SAME", form))(x, kernel))
    if "conv_general_dilated" in text:
        return "direct"
    return "winograd" if "_products" in text else "patches"


def test_auto_is_chosen_while_tracing(monkeypatch):
    named = ["patches", "winograd", "direct"]
    assert [products(form) for form in named] == named
    for form in named:
        with convolution_form(form):
            assert products() == form
            assert products("patches") == "patches"
            with convolution_form("auto"):
                assert products() == products_by_default()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert products() == "patches"
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert products() == "winograd"


def products_by_default():
    return {"cpu": "winograd"}.get(jax.default_backend(), "patches")


def test_an_error_inside_the_block_does_not_keep_the_form():
    before = forms.default_form()
    with pytest.raises(ZeroDivisionError), convolution_form("direct"):
        _ = 1 / 0
    assert forms.default_form() == before


def test_unknown_forms_are_refused():
    with (
        pytest.raises(InputError, match="use auto, patches, winograd, direct"),
        convolution_form("fft"),
    ):
        pass


def test_a_layer_follows_its_own_form():
    layer = Convolution(64, 3, "SAME", "winograd")
    x = jnp.zeros((1, 16, 16, 32))
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert "_products" in str(jax.make_jaxpr(layer.apply)(params, x))
