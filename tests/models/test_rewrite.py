"""Rewritten functions against the functions themselves."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax
from systems import rows

from fedjax_compress.models import (
    convolution_form,
    from_linen,
    from_nnx,
    rewrite_convolutions,
)
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.typing import Task

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def slow_operations(function, *args):
    """Names of convolutions and pools in the whole jaxpr, however deep."""
    text = str(jax.make_jaxpr(function)(*args))
    return [n for n in ("conv_general_dilated", "reduce_window_max") if n in text]


def close(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * (1e-3 + np.abs(b).max()))


NHWC, NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
MIXED = ("NCHW", "HWIO", "NHWC")
CONVOLUTIONS = {
    "1x1": ((2, 5, 6, 4), (1, 1, 4, 3), {}),
    "1x1 strided": ((2, 5, 6, 4), (1, 1, 4, 3), {"window_strides": (2, 2)}),
    "3x3 strided": ((2, 9, 8, 16), (3, 3, 16, 8), {"window_strides": (2, 1)}),
    "7x7 stem": ((1, 12, 13, 3), (7, 7, 3, 4), {"window_strides": (2, 2)}),
    "uneven kernel": ((2, 7, 6, 3), (2, 4, 3, 5), {"padding": [(0, 1), (3, 0)]}),
    "VALID": ((2, 7, 6, 3), (3, 3, 3, 5), {"padding": "VALID"}),
    "dilated": ((2, 9, 9, 17), (3, 2, 17, 4), {"rhs_dilation": (2, 3)}),
    "winograd": ((2, 9, 8, 32), (3, 3, 32, 16), {}),
    "channels first": ((2, 32, 9, 8), (16, 32, 3, 3), {"dimension_numbers": NCHW}),
    "mixed layouts": ((2, 3, 9, 8), (3, 3, 3, 16), {"dimension_numbers": MIXED}),
    "depthwise": ((2, 7, 6, 3), (3, 3, 1, 6), {"feature_group_count": 3}),
    "depthwise strided": (
        (2, 7, 6, 3),
        (3, 3, 1, 3),
        {"feature_group_count": 3, "window_strides": (2, 2), "rhs_dilation": (1, 2)},
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_of_any_kind(name):
    of_x, of_kernel, options = CONVOLUTIONS[name]
    given = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NHWC}
    untouched = functools.partial(lax.conv_general_dilated, **(given | options))
    rewritten = rewrite_convolutions(untouched, "winograd")
    x, kernel = normal(*of_x), normal(*of_kernel)
    assert slow_operations(untouched, x, kernel)
    assert not slow_operations(rewritten, x, kernel)

    def run(function, x, kernel):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(jnp.sin(y))

    made, wanted = (
        jax.jit(functools.partial(run, f))(x, kernel) for f in (rewritten, untouched)
    )
    jax.tree.map(close, made, wanted)


@pytest.mark.parametrize(
    ("of_x", "of_kernel", "options"),
    [
        ((2, 7, 4), (3, 4, 5), {"dimension_numbers": ("NWC", "WIO", "NWC")}),
        ((2, 5, 6, 4), (3, 3, 2, 4), {"feature_group_count": 2}),
        ((2, 5, 6, 4), (3, 3, 4, 4), {"batch_group_count": 2}),
        ((2, 5, 6, 4), (3, 3, 4, 2), {"lhs_dilation": (2, 2), "padding": [(1, 1)] * 2}),
        ((2, 2, 2, 4), (3, 3, 4, 2), {"padding": "VALID"}),
    ],
)
def test_what_cannot_be_rewritten_is_left(of_x, of_kernel, options):
    of_space = len(of_x) - 2
    given = {"window_strides": (1,) * of_space, "padding": "SAME"}
    given |= {"dimension_numbers": NHWC} | options
    function = functools.partial(lax.conv_general_dilated, **given)
    x, kernel = normal(*of_x), normal(*of_kernel)
    rewritten = rewrite_convolutions(function, "patches")
    assert np.array_equal(rewritten(x, kernel), function(x, kernel))


def test_integers_are_left():
    x, kernel = np.ones((1, 4, 4, 1), np.int32), np.ones((3, 3, 1, 1), np.int32)

    def function(x, k):
        return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=NHWC)

    assert np.array_equal(
        rewrite_convolutions(function)(x, kernel), function(x, kernel)
    )


def test_a_wider_result_type_is_kept():
    def function(x, k):
        return lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=NHWC,
            preferred_element_type=jnp.float32,
        )  # fmt: skip

    x = normal(1, 5, 5, 2).astype(jnp.bfloat16)
    kernel = normal(3, 3, 2, 2).astype(jnp.bfloat16)
    close(rewrite_convolutions(function)(x, kernel), function(x, kernel))


def first_of_max(x):
    return linen.max_pool(x, (2, 2), strides=(2, 2))


def test_max_pooling_and_its_gradient():
    x = normal(2, 7, 6, 3)
    rewritten = rewrite_convolutions(first_of_max)
    assert not slow_operations(rewritten, x)
    for f in (lambda f: f, lambda f: jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))):
        assert np.array_equal(f(rewritten)(x), f(first_of_max)(x))


def test_ties_of_a_pool_share_the_gradient():
    def gradient(pool, values):
        x = jnp.array(values).reshape(1, 2, 2, 1)
        return jax.grad(lambda x: jnp.sum(pool(x)))(x).ravel().tolist()

    rewritten = rewrite_convolutions(first_of_max)
    assert gradient(first_of_max, [1.0, 1, 0, 0]) == [1, 0, 0, 0]
    assert gradient(rewritten, [1.0, 1, 0, 0]) == [0.5, 0.5, 0, 0]
    assert gradient(rewritten, [1.0, 0, 0, 1]) == [0.5, 0, 0, 0.5]
    assert gradient(rewritten, [1.0, 1, 1, 1]) == [0.25] * 4


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: linen.max_pool(x, (2, 2), strides=(1, 1)),
        lambda x: linen.max_pool(x, (3, 3), strides=(2, 2)),
        lambda x: linen.max_pool(x, (2, 2), strides=(2, 2), padding="SAME"),
        lambda x: linen.avg_pool(x, (2, 2), strides=(2, 2)),
    ],
)
def test_other_pools_are_left(pool):
    x = normal(1, 5, 5, 2)
    with as_written():  # flax divides by a whole number
        assert np.array_equal(rewrite_convolutions(pool)(x), pool(x))


class Block(linen.Module):
    """A residual block with strides, a 1x1 shortcut and dropout."""

    width: int
    strides: int = 1

    @linen.compact
    def __call__(self, x, train):
        y = linen.relu(linen.GroupNorm(2)(x))
        y = linen.Conv(self.width, (3, 3), self.strides, use_bias=False)(y)
        y = linen.Dropout(0.3, deterministic=not train)(linen.gelu(y))
        y = linen.Conv(self.width, (3, 3))(y)
        if x.shape != y.shape:
            x = linen.Conv(self.width, (1, 1), self.strides)(x)
        return x + y


class ResNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(16, (3, 3))(x)
        x = linen.max_pool(x, (2, 2), strides=(2, 2))
        x = linen.remat(Block, static_argnums=(2,))(32)(x, train)
        x = Block(32, 2)(x, train)
        return linen.Dense(5)(jnp.mean(linen.swish(x), (1, 2)))


TASK = Task((14, 12, 3), 5)


def test_a_residual_network_with_clients_side_by_side(draw):
    plain = from_linen(ResNet(), TASK, conv="direct")
    params = [draw(plain, seed) for seed in (0, 1)]
    many = jax.tree.map(lambda *x: np.stack(x) / 2, *params)
    images = RNG.integers(0, 256, (2, 3, 14, 12, 3), dtype=np.uint8)
    labels = RNG.integers(0, 5, (2, 3))
    keys = jax.random.split(jax.random.key(3), 2)

    def step(model, params, x, y, key):
        def loss(params):
            outputs = model.apply(params, rows(x), key)
            return jnp.mean(model.losses(outputs, rows(x, y))[0]), outputs

        return jax.grad(loss, has_aux=True)(params)

    made = {}
    for conv in ("direct", "winograd"):
        model = from_linen(ResNet(), TASK, conv=conv)
        run = jax.vmap(functools.partial(step, model))
        assert bool(slow_operations(run, many, images, labels, keys)) == (
            conv == "direct"
        )
        made[conv] = jax.jit(run)(many, images, labels, keys)
    jax.tree.map(close, made["winograd"], made["direct"])


def test_an_nnx_module(draw):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.dense = nnx.Linear(16, 3, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.conv(x))
            return self.dense(self.dropout(jnp.mean(x, (1, 2))))

    task = Task((9, 9), 3)
    models = [from_nnx(Net, task, conv=conv) for conv in ("auto", "direct")]
    params = draw(models[0])
    x = RNG.integers(0, 256, (4, 9, 9), dtype=np.uint8)
    for key in (None, jax.random.key(1)):
        runs = [lambda p, m=m, key=key: m.apply(p, rows(x), key) for m in models]
        assert [bool(slow_operations(r, params)) for r in runs] == [False, True]
        close(*(r(params) for r in runs))


def test_running_statistics_of_a_function_with_several_outputs():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(8, (3, 3))(x)
            return linen.BatchNorm(use_running_average=False)(x)

    x = normal(2, 6, 6, 3)
    variables = jax.jit(Net().init)(jax.random.key(0), x)
    function = functools.partial(Net().apply, mutable=["batch_stats"])
    rewritten = rewrite_convolutions(function)
    assert not slow_operations(rewritten, variables, x)
    made, wanted = (jax.jit(f)(variables, x) for f in (rewritten, function))
    jax.tree.map(close, made, wanted)


def convolve(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)


def test_scans_over_layers():
    kernels = normal(3, 3, 3, 2, 2) / 3

    def function(x, kernels):
        def layer(x, kernel):
            return jnp.tanh(jax.jit(convolve)(x, kernel)), jnp.sum(x)

        return lax.scan(layer, x, kernels, reverse=True)

    x = normal(2, 5, 5, 2)
    rewritten = rewrite_convolutions(function)
    assert not slow_operations(rewritten, x, kernels)
    jax.tree.map(close, jax.jit(rewritten)(x, kernels), function(x, kernels))


def test_rules_and_branches_of_the_users_own_are_kept():
    @jax.custom_vjp
    def halved(x, kernel):
        return convolve(x, kernel)

    halved.defvjp(
        lambda x, k: (convolve(x, k), (x, k)),
        lambda kept, dy: tuple(d / 2 for d in jax.vjp(convolve, *kept)[1](dy)),
    )

    def function(x, kernel):
        y = lax.cond(jnp.sum(x) > 0, convolve, lambda x, k: x, x, kernel)
        return jnp.sum(jnp.sin(halved(y, kernel)))

    x, kernel = normal(1, 4, 4, 2), normal(3, 3, 2, 2)
    made, wanted = (
        jax.grad(f, (0, 1))(x, kernel)
        for f in (rewrite_convolutions(function), function)
    )
    jax.tree.map(close, made, wanted)


def test_arguments_are_any_trees_and_the_form_is_asked_for_each_time():
    def function(trees, *, scale=1.0):
        return {"y": scale * convolve(trees["x"], trees["kernel"][0]), "none": None}

    trees = {"x": normal(1, 4, 4, 2), "kernel": [normal(3, 3, 2, 2)], "key": None}
    rewritten = rewrite_convolutions(function)
    made, wanted = rewritten(trees, scale=2.0), function(trees, scale=2.0)
    assert made["none"] is None
    close(made["y"], wanted["y"])
    assert not slow_operations(lambda t: rewritten(t)["y"], trees)
    with convolution_form("direct"):
        assert slow_operations(lambda t: rewritten(t)["y"], trees)


def test_a_function_without_convolutions_is_called_as_it_is(monkeypatch):
    def refuse(form):
        raise AssertionError("asked for a form")

    monkeypatch.setattr("fedjax_compress.models.convolution.rewrite.resolve", refuse)
    x = normal(3, 4)
    assert np.array_equal(rewrite_convolutions(linen.softmax)(x), linen.softmax(x))
    with pytest.raises(AssertionError, match="asked for a form"):
        rewrite_convolutions(convolve)(normal(1, 4, 4, 2), normal(3, 3, 2, 2))
