"""A user's own flax module in five lines, linen and nnx."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from systems import rows

from fedjax_compress import tree
from fedjax_compress.errors import InputError
from fedjax_compress.models import from_linen, from_nnx
from fedjax_compress.typing import Metric, Task

TASK = Task((4, 4), 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
PIXELS = IMAGES[..., None] / np.float32(255)
COLUMNS = rows(IMAGES, np.array([0, 1, 2, 0, 1]))


def test_the_recipe_for_linen():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3)(linen.relu(linen.Dense(8)(x.reshape(len(x), -1))))

    model = from_linen(Net(), TASK)

    params = model.init(jax.random.key(0))
    assert tree.paths(params) == [
        f"Dense_{i}/{n}" for i in range(2) for n in ("bias", "kernel")
    ]
    outputs = model.apply(params, COLUMNS, None)
    assert np.array_equal(outputs, Net().apply({"params": params}, PIXELS))
    value, weight = model.losses(outputs, COLUMNS)
    assert (value.shape, weight.tolist()) == ((5,), [1.0] * 5)


def test_the_recipe_for_nnx():
    class Net(nnx.Module):
        def __init__(self, rngs):
            sizes = [(16, 8), (8, 3)]
            self.layers = nnx.List([nnx.Linear(*s, rngs=rngs) for s in sizes])

        def __call__(self, x):
            return self.layers[1](nnx.relu(self.layers[0](x.reshape(len(x), -1))))

    model = from_nnx(lambda rngs: Net(rngs), TASK)

    key = jax.random.key(7)
    params = model.init(key)
    assert type(params) is dict
    assert tree.paths(params) == [
        f"layers/{i}/{n}" for i in range(2) for n in ("bias", "kernel")
    ]
    own = Net(nnx.Rngs(key))
    np.testing.assert_allclose(
        params["layers"]["1"]["kernel"], own.layers[1].kernel[...], rtol=1e-6
    )
    outputs = model.apply(params, COLUMNS, None)
    np.testing.assert_allclose(outputs, own(jnp.asarray(PIXELS)), rtol=1e-5, atol=1e-6)
    assert list(model.metrics) == ["accuracy"]
    right, _ = model.metrics["accuracy"].count(params, COLUMNS, outputs)
    assert right.shape == (5,)


class LinenDropout(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))
        return linen.Dense(3)(x)


class LinenDeterministic(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic=True):
        x = linen.Dropout(0.5, deterministic=deterministic)(x.reshape(len(x), -1))
        return linen.Dense(3)(x)


class NnxDropout(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(16, 3, rngs=rngs)
        self.offset = jnp.arange(3.0)

    def __call__(self, x):
        x = self.second(self.first(x.reshape(len(x), -1)))
        return self.dense(x) + self.offset[None]


@pytest.mark.parametrize(
    "make",
    [
        lambda: from_linen(LinenDropout(), TASK),
        lambda: from_linen(LinenDeterministic(), TASK),
        lambda: from_nnx(NnxDropout, TASK),
    ],
)
def test_a_key_means_training(draw, make):
    model = make()
    params = draw(model)
    a, b, c = (
        np.asarray(model.apply(params, COLUMNS, jax.random.key(k))) for k in (1, 1, 2)
    )
    assert np.array_equal(a, b)
    assert not np.allclose(a, c)
    dense = params.get("dense", params.get("Dense_0"))
    still = np.asarray(model.apply(params, COLUMNS, None))
    wanted = PIXELS.reshape(5, 16) @ dense["kernel"] + dense["bias"]
    offset = np.arange(3) if "dense" in params else 0
    np.testing.assert_allclose(still, wanted + offset, rtol=1e-4, atol=1e-5)


def test_two_dropouts_of_an_nnx_module_are_independent():
    # 64 * 16 ones through two dropouts of a half: kept with 1/4 if independent, with
    # 1/2 if both used one mask. Standard error 0.0135; the threshold is 6 of them.
    model = from_nnx(NnxDropout, TASK)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    params = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes)
    params["dense"]["kernel"] += 1 / 16
    ones = np.full((64, 4, 4), 255, np.uint8)
    y = model.apply(params, rows(ones), jax.random.key(0))[:, 0]
    assert float(jnp.mean(y)) / 4 == pytest.approx(0.25, abs=6 * 0.0135)


def test_own_inputs_and_losses():
    class Sum(linen.Module):
        @linen.compact
        def __call__(self, x):
            return self.param("scale", linen.initializers.ones, (1,)) * x.sum(axis=1)

    def count(params, columns, y):
        return [y > columns["labels"], params["scale"] * columns["extra"]]

    model = from_linen(
        Sum(),
        Task((4,), 2, more=(("extra", (), "float32"),)),
        inputs=lambda columns: columns["features"] + columns["extra"][:, None],
        loss=lambda y, columns: jnp.square(y - columns["labels"]),
        metrics={"above": Metric(count, lambda sums: sums[0] / sums[1], "lower")},
    )
    columns = {
        "features": np.array([[1.0, 2, 3, 4]]),
        "extra": np.array([2.0]),
        "labels": jnp.array([7.0]),
    }
    params = {"scale": jnp.ones(1)}
    y = model.apply(params, columns, None)
    assert y.tolist() == [18.0]
    value, weight = model.losses(y, columns)
    assert (value.tolist(), weight.tolist()) == ([121.0], [1.0])
    counts = model.metrics["above"].count(params, columns, y)
    assert [x.tolist() for x in counts] == [[True], [2.0]]
    counts = {"weights": np.array([3], np.uint8)}
    assert model.losses(y, columns | counts)[1].tolist() == [3.0]
    weighted = from_linen(
        Sum(),
        Task((4,), 2),
        loss=lambda y, columns: (y - columns["labels"], columns["labels"]),
    )
    value, weight = weighted.losses(y, columns)
    assert (value.tolist(), weight.tolist()) == ([11.0], [7.0])


def test_a_module_may_read_several_columns():
    """What ``inputs`` gives as a tuple are the arguments of the module."""

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, sex, train=False):
            return linen.Dense(3)(x.reshape(len(x), -1)) + sex[:, None]

    class Other(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(16, 3, rngs=rngs)

        def __call__(self, x, sex):
            return self.dense(x.reshape(len(x), -1)) + sex[:, None]

    task = TASK._replace(more=(("sex", (), "float32"),))
    read = lambda c: (c["features"].astype(jnp.float32), c["sex"])  # noqa: E731
    for model in (
        from_linen(Net(), task, inputs=read),
        from_nnx(Other, task, inputs=read),
    ):
        params = jax.tree.map(
            lambda s: jnp.zeros(s.shape), jax.eval_shape(model.init, jax.random.key(0))
        )
        columns = COLUMNS | {"sex": np.arange(5, dtype=np.float32)}
        found = model.apply(params, columns, None)
        assert found[:, 1].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match=r"'sex', and the task has .*'sex', \(\), "):
        from_linen(Net(), TASK, inputs=read)
    with pytest.raises(InputError, match=r"'sex' that nobody sets; .* inputs give a t"):
        from_linen(Net(), task)


def test_tokens_reach_a_users_module_as_tokens():
    class Table(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Embed(6, 6)(x)

    model = from_linen(Table(), Task((3,), 6, tokens=True))
    params = {"Embed_0": {"embedding": jnp.eye(6)}}
    symbols = np.array([[5, 0, 2]], np.uint8)
    y = model.apply(params, rows(symbols), None)
    assert np.argmax(y, axis=-1).tolist() == [[5, 0, 2]]
    _, weight = model.losses(y, rows(symbols, symbols))
    assert weight.tolist() == [2]  # 0 is padding
    unpadded = from_linen(Table(), Task((3,), 6, tokens=True), pad=-1)
    assert unpadded.losses(y, rows(symbols, symbols))[1].tolist() == [3]


class LinenBatchNorm(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.BatchNorm(use_running_average=False)(x.reshape(len(x), -1))
        return linen.Dense(3)(x)


class NnxBatchNorm(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x):
        return self.norm(x[:, 0, :3, 0])


class Half(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Dense(3, dtype=jnp.float32, param_dtype=jnp.bfloat16)(
            x.reshape(len(x), -1)
        )
        return x.astype(jnp.float32)


class TwoClasses(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(x.reshape(len(x), -1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: from_linen(LinenBatchNorm(), TASK), "keeps batch_stats besides"),
        (lambda: from_nnx(NnxBatchNorm, TASK), r"keeps norm/mean \(BatchStat\)"),
        (lambda: from_linen(Half(), TASK), "Dense_0/bias must be float32, not bfloat"),
        (lambda: from_linen(TwoClasses(), TASK), r"must have shape \(2, 3\), not"),
    ],
)
def test_modules_that_cannot_be_averaged_are_refused(make, said):
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_whole_numbers_reach_a_module_as_the_task_says():
    """Pictures in uint8 are pixels where nothing is said; columns are never."""

    class Plain(linen.Module):
        @linen.compact
        def __call__(self, x):
            return x.reshape(len(x), -1)

    def read(shape, stored, scale=None):
        task = Task(shape, int(np.prod(shape)), scale=scale)
        return from_linen(Plain(), task).apply({}, rows(stored), None)

    columns = np.array([[3, 150, 199]], np.uint8)
    pixels = columns / np.float32(255)
    assert np.array_equal(read((3,), columns), columns)
    assert np.array_equal(read((3,), columns, 255.0), pixels)
    assert np.array_equal(read((3,), columns.astype(int)), columns)
    square = np.array([[[3, 150], [199, 0]]], np.uint8)
    assert np.array_equal(read((2, 2), square)[:, :3], pixels)
    assert np.array_equal(read((2, 2), square, 1.0)[:, :3], columns)
    assert np.array_equal(read((2, 2), square.astype(float), 255.0)[:, :3], pixels)
