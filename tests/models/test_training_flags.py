"""How a module is told whether it is training, and what is refused.

Whether dropout is on is read from the traced program: it draws random bits or it does
not. Nothing is compiled, but for one module whose outputs are looked at.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from systems import rows

from fedjax_compress.checks import parts as checked
from fedjax_compress.errors import InputError
from fedjax_compress.models import from_linen, from_nnx
from fedjax_compress.typing import Metric, Task

TASK = Task((16,), 3)
ROWS = rows(np.ones((4, 16), np.float32))


def draws(model, training: bool) -> int:
    """How often random bits are drawn in one call of the model."""
    key = jax.random.key(1) if training else None
    params = jax.eval_shape(model.init, jax.random.key(0))
    traced = jax.make_jaxpr(lambda p: model.apply(p, ROWS, key))(params)
    return str(traced).count("random_bits[")


def dropped(module, x, deterministic):
    return linen.Dropout(0.5, deterministic=deterministic)(linen.Dense(8)(x))


class ByTrain(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        return linen.Dense(3)(dropped(self, x, not train))


class ByTraining(linen.Module):
    @linen.compact
    def __call__(self, x, training: bool = True):
        return linen.Dense(3)(dropped(self, x, not training))


class ByIsTraining(linen.Module):
    @linen.compact
    def __call__(self, x, *, is_training):
        return linen.Dense(3)(dropped(self, x, not is_training))


class ByDeterministic(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic):
        return linen.Dense(3)(dropped(self, x, deterministic))


class ByField(linen.Module):
    training: bool

    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(dropped(self, x, not self.training))


class ByEither(linen.Module):
    """As flax writes it: a field, or an argument, and not both."""

    deterministic: bool | None = None

    @linen.compact
    def __call__(self, x, deterministic: bool | None = None):
        off = linen.merge_param("deterministic", self.deterministic, deterministic)
        return linen.Dense(3)(dropped(self, x, off))


class Holder(linen.Module):
    """Has a body that it calls without a word about training."""

    body: linen.Module

    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(self.body(x))


class Teller(linen.Module):
    """Tells its layers by itself."""

    layers: tuple[linen.Module, ...]

    @linen.compact
    def __call__(self, x, train):
        for layer in self.layers:
            x = layer(x, deterministic=not train)
        return linen.Dense(3)(x)


SEQUENTIAL = linen.Sequential([linen.Dense(8), linen.Dropout(0.5), linen.Dense(3)])


@pytest.mark.parametrize(
    "module",
    [
        ByTrain(),
        ByTraining(),
        ByIsTraining(),
        ByDeterministic(),
        ByField(True),
        ByField(False),
        ByEither(),
        SEQUENTIAL,
        Holder(SEQUENTIAL),
        Holder(ByField(True)),
        linen.Sequential([linen.Sequential([ByEither()]), linen.Dense(3)]),
        Teller((linen.Dropout(0.5),)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_dropout_is_on_while_training_and_only_then(module):
    model = from_linen(module, TASK)
    assert [draws(model, training) for training in (True, False)] == [1, 0]


class NnxByArgument(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x, training):
        return self.dense(self.drop(x, deterministic=not training))


class NnxByAttribute(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(16, 3, rngs=rngs)
        self.train = False

    def __call__(self, x):
        return self.dense(self.drop(x, deterministic=not self.train))


class NnxInside(nnx.Module):
    def __init__(self, rngs):
        self.inner = NnxByAttribute(rngs)

    def __call__(self, x):
        return self.inner(x)


class NnxByMethod(nnx.Module):
    """Has methods of its own for it, beside flags of other names."""

    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(16, 3, rngs=rngs)
        self.mode = "new"

    def train(self):
        self.mode = "train"

    def eval(self):
        self.mode = "eval"

    def __call__(self, x):
        off = {"train": False, "eval": True}[self.mode]
        return self.dense(self.drop(x, deterministic=off))


@pytest.mark.parametrize(
    "made", [NnxByArgument, NnxByAttribute, NnxByMethod, NnxInside]
)
def test_an_nnx_module_is_told_by_argument_or_attribute(made):
    model = from_nnx(made, TASK)
    assert [draws(model, training) for training in (True, False)] == [1, 0]


def test_dropout_in_a_sequential_keeps_parameters_and_scale():
    """A kept unit counts twice; evaluation is the plain product."""
    module = linen.Sequential([linen.Dropout(0.5), linen.Dense(3, use_bias=False)])
    model = from_linen(module, TASK)
    params = {"layers_1": {"kernel": jnp.eye(16, 3)}}
    assert jax.tree.structure(params) == jax.tree.structure(
        jax.eval_shape(model.init, jax.random.key(0))
    )
    ones = rows(np.ones((64, 16), np.float32))
    noisy = np.asarray(model.apply(params, ones, jax.random.key(0)))
    assert set(np.unique(noisy)) == {0.0, 2.0}
    np.testing.assert_array_equal(model.apply(params, ones, None), np.ones((64, 3)))


def test_a_module_that_is_shared_stays_shared():
    class Twice(linen.Module):
        one: linen.Module
        other: linen.Module

        @linen.compact
        def __call__(self, x):
            return linen.Dense(3)(self.other(self.one(x)))

    block = linen.Sequential([linen.Dense(16), linen.Dropout(0.5)])
    model = from_linen(Twice(block, block), TASK)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert sorted(params) == ["Dense_0", "one"]
    assert draws(model, True)  # the same layer twice is one in the program


class Noise(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Dropout(0.5, deterministic=not train)(x)
        if train:
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return linen.Dense(3)(x)


def test_further_streams_have_keys_of_their_own():
    class Stream(linen.Module):
        name_of: str

        @linen.compact
        def __call__(self, x, train=False):
            scale = self.param("scale", linen.initializers.ones, (3,))
            if not train:
                return scale * x[:, :3]
            return scale * jax.random.normal(self.make_rng(self.name_of), (len(x), 3))

    assert draws(from_linen(Noise(), TASK, streams=("noise",)), True) == 2
    params = {"scale": jnp.ones(3)}
    found = {}
    for name in ("dropout", "noise", "other"):
        model = from_linen(Stream(name), TASK, streams=("noise", "other"))
        found[name] = np.asarray(model.apply(params, ROWS, jax.random.key(3)))
    alone = from_linen(Stream("noise"), TASK, streams=("noise",))
    again = np.asarray(alone.apply(params, ROWS, jax.random.key(3)))
    np.testing.assert_array_equal(again, found["noise"])
    assert len({x.tobytes() for x in found.values()}) == 3


class Frozen(linen.Module):
    """One Dropout is told; another, in its call or that of a module, to stay off."""

    inside: bool

    @linen.compact
    def __call__(self, x, train):
        x = linen.Dropout(0.5)(x, deterministic=not train)
        if self.inside:
            return ByTrain()(x, False)
        return linen.Dense(3)(linen.Dropout(0.5)(x, deterministic=True))


@pytest.mark.parametrize("inside", [False, True])
def test_a_dropout_may_be_switched_off_in_a_call(inside):
    model = from_linen(Frozen(inside), TASK)
    assert [draws(model, training) for training in (True, False)] == [1, 0]


class Again(linen.Module):
    """Computes a block anew on the way back, as large networks do."""

    @linen.compact
    def __call__(self, x, train):
        block = linen.remat(ByTrain, static_argnums=(2,))
        return block()(x, train)


def test_a_block_that_is_computed_anew_is_told():
    model = from_linen(Again(), TASK)
    assert [draws(model, training) > 0 for training in (True, False)] == [True, False]


class PartlyTold(linen.Module):
    """One Dropout is told, and one is forgotten, whose module passes its default on."""

    @linen.compact
    def __call__(self, x, train):
        x = linen.Dropout(0.5)(x, deterministic=not train)
        return HandsOn()(x)


class HandsOn(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic=True):
        x = linen.Dropout(0.5)(x, deterministic=deterministic)
        return linen.Dense(3)(x)


class OtherName(linen.Module):
    @linen.compact
    def __call__(self, x, learning=False):
        return linen.Dense(3)(linen.Dropout(0.5)(x, deterministic=not learning))


class Promoting(linen.Module):
    """Adds [3] to [batch, 3], and a whole number, without a word."""

    @linen.compact
    def __call__(self, x):
        bias = self.param("bias", lambda key: jnp.zeros(3) + jnp.zeros((1, 3)))
        return linen.Dense(3)(x) + bias[0] + jnp.arange(3)


class NnxPromoting(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(16, 3, rngs=rngs)
        self.bias = nnx.Param((jnp.zeros(3) + jnp.zeros((1, 3)))[0])

    def __call__(self, x):
        return self.dense(x) + self.bias[...] + jnp.arange(3)


@pytest.mark.parametrize(
    ("adapted", "module"), [(from_linen, Promoting()), (from_nnx, NnxPromoting)]
)
def test_a_module_of_ones_own_runs_under_strict_promotion(adapted, module):
    """The suite has jax refuse silent promotion, as a user may."""

    def score(outputs, columns):
        return (outputs - jnp.arange(3)).sum(1) * columns["labels"]

    def count(params, columns, outputs):
        return score(outputs, columns)

    metrics = {"own": Metric(count, lambda total: total / 4)}
    model = checked.model(adapted(module, TASK, loss=score, metrics=metrics))
    labels = jax.ShapeDtypeStruct((4,), jnp.int32)

    def scored(key, labels):
        params, columns = model.init(key), ROWS | {"labels": labels}
        outputs = model.apply(params, columns, None)
        counts = model.metrics["own"].count(params, columns, outputs)
        return *model.losses(outputs, columns), counts

    found = jax.eval_shape(scored, jax.random.key(0), labels)
    assert [(x.shape, x.dtype) for x in found] == [((4,), jnp.float32)] * 3


class NeedsMask(linen.Module):
    @linen.compact
    def __call__(self, x, mask, train=False):
        return linen.Dense(3)(x * mask)


class Untold(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.Dropout(0.5)(x))


class NeverOn(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(ByTrain()(x))


class AlwaysOn(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.Dropout(0.5, deterministic=False)(x))


class NnxWithoutStream(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5)
        self.dense = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.drop(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: from_linen(NeedsMask(), TASK), "'mask' that nobody sets; give it a"),
        (lambda: from_linen(Untold(), TASK), "'deterministic' and nobody sets it"),
        (lambda: from_linen(NeverOn(), TASK), "ByTrain_0/Dropout_0 is off while the"),
        (lambda: from_linen(PartlyTold(), TASK), "HandsOn_0/Dropout_0 is off while"),
        (lambda: from_linen(OtherName(), TASK), "Dropout_0 is off while the"),
        (lambda: from_linen(AlwaysOn(), TASK), "'dropout' in evaluation"),
        (
            lambda: from_linen(linen.Sequential([ByTrain()]), TASK),
            "ByTrain stands in a Sequential, which does not hand on its argument",
        ),
        (lambda: from_linen(Noise(), TASK), r"'noise' .* pass streams=\('noise',\)"),
        (lambda: from_linen(Noise(), TASK, streams="noise"), "streams must be names"),
        (lambda: from_nnx(NnxWithoutStream, TASK), "make it with rngs=rngs"),
    ],
)
def test_what_nobody_can_have_meant_is_refused_in_one_line(make, words):
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_an_error_inside_the_module_keeps_its_traceback_and_says_where():
    class Broken(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3)(x).no_such_thing

    with pytest.raises(AttributeError) as caught:
        from_linen(Broken(), TASK)
    assert "raised in the module's __call__ or setup" in caught.value.__notes__
    assert any(frame.name == "__call__" for frame in caught.traceback)
