"""Models with quantized weights: what they see, what moves, and what travels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from systems import local as local_of
from systems import setup

from fedjax_compress import registry, tree, wire
from fedjax_compress.errors import InputError
from fedjax_compress.models import cost, from_linen
from fedjax_compress.quantize.layer_quantizers import (
    quantize_activations,
    quantize_gradient,
)
from fedjax_compress.typing import Keys, Task

TASK = Task((5,), 3)
KEY = jax.random.key(0)
KEYS = Keys(jax.random.key(1), jax.random.key(2))


def build(text, model="mlp(hidden=(6, 4))"):
    return registry.build("qat", text, registry.build("model", model, TASK), TASK)


@pytest.fixture(scope="module")
def plain():
    return registry.build("model", "mlp(hidden=(6, 4))", TASK)


def test_bits_of_a_message():
    """4 bits for each of 5 x 6, 6 x 4 and 4 x 3 weights, 3 scales, 13 biases."""
    model = build("integer(bits=4)")
    payload, _ = model.quantized.compressor.encode(model.init(KEY), (), KEYS)
    assert int(wire.bits(payload)) == 4 * (30 + 24 + 12) + 32 * (3 + 13)


def test_32_bits_are_the_model_itself(plain):
    assert registry.build("qat", "integer(bits=32)", plain, TASK) is plain
    assert registry.build("qat", "lsq(bits=32)", plain, TASK) is plain
    assert registry.build("qat", "dorefa(weights=32)", plain, TASK) is plain


def test_labels_choose_and_skip(plain):
    def quantized(text):
        model = registry.build("qat", text, plain, TASK)
        payload, _ = jax.eval_shape(
            lambda p: model.quantized.compressor.encode(p, (), KEYS), model.init(KEY)
        )
        return sorted(path for path, part in payload.items() if "codes" in part)

    every = ["dense_1/kernel", "dense_2/kernel", "output/kernel"]
    assert quantized("integer") == every
    assert quantized("integer(skip=(dense_1,))") == every[1:]
    assert quantized("integer(labels=(output,))") == ["output/bias", "output/kernel"]
    assert quantized("integer(labels=('output/kernel',))") == ["output/kernel"]
    assert quantized("dorefa") == ["dense_2/kernel"]


def test_the_gradient_is_that_at_the_quantized_weights(plain):
    """Straight through: dL/dw of the quantized network is dL/dw^ of the plain one."""
    model = build("binary")
    params = model.init(KEY)
    features = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5)), jnp.float32)
    columns = {"features": features, "labels": jnp.asarray([0, 1, 2, 1])}

    def loss(net):
        outputs = lambda p: net.apply(p, columns, KEY)  # noqa: E731
        return lambda p: jnp.mean(net.losses(outputs(p), columns)[0])

    signs = jax.tree.map(
        lambda w: jnp.where(w >= 0, 1.0, -1.0) if w.ndim == 2 else w, params
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        jax.grad(loss(model))(params),
        jax.grad(loss(plain))(signs),
    )


def test_activations_are_clipped_and_rounded():
    x = jnp.asarray([-0.3, 0.1, 0.2, 0.49, 0.9, 1.7])
    wanted = np.rint(np.clip(x, 0, 1) * 3) / 3
    np.testing.assert_allclose(quantize_activations(x, 2), wanted, atol=1e-7)
    np.testing.assert_array_equal(quantize_activations(x, 32), np.clip(x, 0, 1))
    slope = jax.grad(lambda x: jnp.sum(quantize_activations(x, 2)))(x)
    np.testing.assert_array_equal(slope, [0, 1, 1, 1, 1, 0])


def test_gradients_that_flow_back_are_drawn_without_bias():
    """n = 4,000 draws, 6 standard errors, false alarm below 2e-8 for 12 numbers; one
    scale for each example, so that the small one keeps its own grid."""
    g = jnp.asarray([[1.0, -0.4, 0.3, 0.0], [0.01, 0.002, -0.007, 0.0], [0.0] * 4])
    x = jnp.zeros((3, 4))

    def back(key):
        return jax.grad(lambda x: jnp.sum(g * quantize_gradient(x, key, 3)))(x)

    n = 4_000
    drawn = np.asarray(jax.vmap(back)(jax.random.split(KEY, n)))
    top = np.max(np.abs(g), axis=1, keepdims=True)
    step = 2 * top / 7
    levels = (drawn + top) / np.where(step > 0, step, 1)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert np.all(np.abs(drawn.mean(axis=0) - g) <= 6 * step / 2 / np.sqrt(n) + 1e-9)
    assert np.all(drawn[:, 2] == 0)
    np.testing.assert_array_equal(quantize_gradient(x + 3, KEY, 3), x + 3)


def test_a_cut_model_is_quantized_too():
    for text in ("integer(bits=4)", "lsq(bits=4)", "dorefa(gradients=6)"):
        model = build(text)
        narrow = model.cuts.narrow({"dense_1": 3, "dense_2": 2})
        assert (narrow.quantized is None) == (model.quantized is None)
        params = narrow.init(KEY)
        assert tree.paths(params) == tree.paths(model.init(KEY))
        assert set(model.cuts.ties) == set(tree.paths(params))
        assert np.all(
            np.isfinite(narrow.apply(params, {"features": jnp.ones((2, 5))}, None))
        )


def test_quantizing_costs_no_multiplications_of_the_network():
    assert cost(build("integer(bits=4)"), TASK).macs == cost(build("none"), TASK).macs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("integer(bits=1)", "bits must be 2 to 16 bits, or 32 for none, not 1"),
        ("integer(labels=(kernal,))", "no parameter is labelled 'kernal'"),
        ("integer(skip=(kernel,))", "no weights are left to quantize"),
        ("binary(bound=0.0)", "bound must be above 0"),
        ("binary(bound=inf)", "bound must be above 0 and finite"),
        ("binary(stochastic=true, zero=zero)", "a drawn sign is never 0"),
        ("lsq(bits=40)", "bits must be 2 to 16"),
        ("dorefa(weights=0)", "weights must be 1 to 16 bits"),
        ("integer(bits=4, code=sparse)", "code"),
    ],
)
def test_refusals(text, said):
    with pytest.raises(InputError, match=said):
        build(text)


def test_dorefa_says_what_it_needs():
    with pytest.raises(InputError, match="has only 2; give ends=true"):
        build("dorefa", model="mlp(hidden=(6,))")
    bare = build("none")._replace(
        apply=lambda p, columns, key: columns["features"] @ p["output"]["kernel"]
    )
    with pytest.raises(InputError, match=r"of flax\.linen"):
        registry.build("qat", "dorefa", bare, Task((4,), 3))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("integer(bits=4)", True),
        ("lsq(bits=4)", True),
        ("binary(zero=zero)", True),
        ("binary", False),
        ("binary(stochastic=true)", False),
        ("dorefa(weights=1)", False),
        ("dorefa(weights=3)", False),
    ],
)
def test_masks_need_zeros_that_stay(text, kept):
    """A pruned weight must not come back as a number of the quantizer's own."""
    model = build(text)
    assert model.quantized.keeps_zeros == kept
    parts = setup(local_of("sgd(lr=0.1, steps=1, batch=4)", model))
    for name in ("federated_pruning", "magnitude_pruning", "lotteryfl"):
        if kept:
            registry.build("algorithm", name, parts)
            continue
        with pytest.raises(InputError, match=f"{name} sets weights to zero"):
            registry.build("algorithm", name, parts)


def test_weights_that_do_not_keep_their_scale_are_not_rescaled():
    def build_with(text, algorithm):
        local = local_of("sgd(steps=1, batch=4)", build(text))
        return registry.build("algorithm", algorithm, setup(local))

    assert build_with("integer(bits=4)", "heterofl(rates=(1.0, 0.5))")
    assert build_with("lsq", "federated_dropout(0.5)")
    for text in ("lsq", "binary", "dorefa(weights=2)"):
        with pytest.raises(InputError, match="heterofl multiplies weights by units"):
            build_with(text, "heterofl(rates=(1.0, 0.5))")


def test_dorefa_leaves_all_layers_that_read_the_image():
    """The shortcut around the first block is one."""
    task = Task((16, 16, 3), 4)
    model = registry.build("model", "resnet12(maps=4)", task)
    made = registry.build("qat", "dorefa(weights=2)", model, task)
    payload = jax.eval_shape(
        lambda p: made.quantized.compressor.encode(p, (), KEYS)[0],
        jax.eval_shape(made.init, KEY),
    )
    plain = {p for p, part in payload.items() if "values" in part and "kernel" in p}
    assert plain == {
        "block_1/conv_1/kernel", "block_1/shortcut/kernel", "output/kernel",
    }  # fmt: skip


def test_a_layer_called_twice_draws_twice():
    """A gradient of 0 beside one of 1 becomes +-1/3 at even odds, so that two of them
    add up to 0 for some of 10 numbers (all but one key in 1,000); twice one, never."""

    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x):
            shared = linen.Dense(3, name="shared")
            return shared(x) + shared(x)

    made = registry.build(
        "qat",
        "dorefa(weights=32, gradients=2, ends=true)",
        from_linen(Twice(), TASK),
        TASK,
    )

    def loss(params):
        outputs = made.apply(params, {"features": jnp.eye(5)}, KEY)
        return jnp.sum(outputs * jnp.asarray([[1.0, 0.0, 0.0]]))

    slope = np.abs(jax.grad(loss)(made.init(KEY))["shared"]["kernel"])
    np.testing.assert_allclose(slope[:, 0], 2, rtol=1e-6)
    sums = slope[:, 1:]
    nothing, twice = sums < 1e-6, np.abs(sums - 2 / 3) < 1e-6
    assert np.all(nothing | twice)
    assert nothing.any()
    assert twice.any()
