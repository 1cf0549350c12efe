"""What parts of one's own may give back: the right shapes pass, others are refused.

Only shapes are traced here; nothing compiles.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import checked, returned
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import handed_in
from fedjax_compress.typing import (
    Aggregator,
    Compressor,
    Frame,
    LocalUpdate,
    Model,
    ServerOptimizer,
)

BATCH = 5
OUTPUTS = jax.ShapeDtypeStruct((BATCH, 1), jnp.float32)
LABELS = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}


def right(outputs, labels):
    return jnp.square(outputs[:, 0] - labels)


def model_of(**parts):
    usual = {
        "init": lambda key: PARAMS,
        "apply": lambda params, features, key: features,
        "loss": right,
        "correct": right,
    }
    return checked.model(Model(**usual | parts))


def scored(name, function):
    return jax.eval_shape(getattr(model_of(**{name: function}), name), OUTPUTS, LABELS)


WRONG = [
    (lambda o, y: jnp.square(o - y[:, None]), r"\[5\], not float32\[5, 1\]"),
    (lambda o, y: jnp.square(o - y), r"\[5\], not float32\[5, 5\]"),
    (lambda o, y: jnp.mean(o[:, 0] - y), r"\[5\], not float32\[\]"),
    (lambda o, y: o[:-1, 0], r"\[5\], not float32\[4\]"),
    (lambda o, y: (right(o, y), o), r"\[5\], not tuple"),
    (lambda o, y: None, r"\[5\], not NoneType"),
    (lambda o, y: right(o, y) * 1j, r"\[5\], not complex64\[5\]"),
]


@pytest.mark.parametrize("name", ["loss", "correct"])
@pytest.mark.parametrize(("function", "words"), WRONG)
def test_each_example_has_one_number(name, function, words):
    wanted = f"^the model's {name} must give one (float|number) for each example, "
    with pytest.raises(InputError, match=wanted + words):
        scored(name, function)


def test_right_scores_pass_as_they_are():
    assert scored("loss", right) == jax.ShapeDtypeStruct((BATCH,), jnp.float32)
    assert scored("loss", lambda o, y: o[:, 0].astype(jnp.bfloat16)).dtype == "bfloat16"
    found = scored("correct", lambda o, y: o[:, 0] > y)
    assert found == jax.ShapeDtypeStruct((BATCH,), jnp.float32)
    with pytest.raises(InputError, match=r"float .*, not int32\[5\]"):
        scored("loss", lambda o, y: y)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "gives none"),
        ({"w": jnp.ones(2), "n": {"count": jnp.arange(2)}}, r"n/count is int32\[2\]"),
        ({"w": 1}, r"floats only; w is int64\[\]"),
        ({"w": "x"}, "arrays; w is str"),
    ],
)
def test_parameters_are_floats(params, words):
    with pytest.raises(InputError, match=f"the model's init must give .*{words}"):
        model_of(init=lambda key: params).init(jax.random.key(0))


def test_a_parameter_may_be_a_number_of_python():
    model = model_of(init=lambda key: {"scale": 0.5})
    scale = model.init(None)["scale"]
    assert (scale.dtype, scale.shape, scale.weak_type) == (jnp.float32, (), False)
    made = handed_in.parameters({"scale": 0.5, "w": [1.0, 2.0]})
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(made))
    with pytest.raises(InputError, match="parameter scale has 1 elements that are not"):
        handed_in.parameters({"scale": float("nan")})


def test_constrain_keeps_shapes():
    fine = model_of(constrain=lambda p: jax.tree.map(jnp.abs, p))
    assert jax.eval_shape(fine.constrain, PARAMS)["w"].shape == (2, 3)
    other = model_of(constrain=lambda p: {"w": p["w"]})
    with pytest.raises(InputError, match=r"constrain must have .*: b is missing"):
        jax.eval_shape(other.constrain, PARAMS)


GOOD = {"loss": jnp.zeros(()), "examples": jnp.ones(())}


def update_of(update, state=(), metrics=None):
    def run(params, state_, shard, key, frame=None):
        return update, state, GOOD if metrics is None else metrics

    return checked.local(LocalUpdate(lambda params: (), run)).run


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ((PARAMS | {"b": jnp.ones(1)},), r"b is float32\[1\], not float32\[3\]"),
        ((PARAMS | {"b": jnp.ones(3, int)},), r"b is int32\[3\], not float32\[3\]"),
        (({"w": PARAMS["w"]},), "b is missing"),
        ((PARAMS | {"c": 1},), "c is too much"),
        ((PARAMS, jnp.ones(2)), "state before: it is too much|a leaf is too much"),
        ((PARAMS, (), {"loss": jnp.zeros(())}), "must hold 'loss' and 'examples'"),
        (
            (PARAMS, (), GOOD | {"loss": jnp.ones(3)}),
            r"'loss' of the .* \[\], not float32",
        ),
        ((PARAMS, (), GOOD | {"own": "x"}), "'own' of the .* must give one"),
    ],
)
def test_an_update_looks_like_what_is_trained(made, words):
    with pytest.raises(InputError, match=f"({words})"):
        update_of(*made)(PARAMS, (), None, None)


def test_within_a_frame_the_update_is_of_its_free_parameters():
    free = jnp.ones(4)
    run = update_of(free)
    assert run(PARAMS, (), None, None, frame=Frame(free))[0] is free
    assert run(PARAMS, (), None, None, Frame(free))[0] is free
    with pytest.raises(InputError, match="what is trained"):
        run(PARAMS, (), None, None)
    with pytest.raises(InputError, match=r"update, state, metrics.*, not dict"):
        checked.local(LocalUpdate(lambda p: (), lambda *a: {})).run(PARAMS, (), 0, 0)


def test_a_mean_has_the_shapes_of_the_updates():
    def lift(tree, weight):
        return jax.tree.map(lambda x: x * weight, tree)

    fine = checked.aggregator(Aggregator(lift, lambda acc: acc))
    jax.eval_shape(fine.lift, PARAMS, jnp.ones(()))
    wrong = checked.aggregator(Aggregator(lift, lambda acc: {"w": acc["w"]}))
    with pytest.raises(InputError, match=r"finish makes .*: b is missing"):
        jax.eval_shape(wrong.lift, PARAMS, jnp.ones(()))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda u, s, p: (u["w"], s), "the params of .*b is missing"),
        (lambda u, s, p: (p, (jnp.ones(1),)), "the state of .*0 is too much"),
        (lambda u, s, p: p, "must give .params, state., not dict"),
    ],
)
def test_a_server_step_keeps_shapes(made, words):
    apply = checked.optimizer(ServerOptimizer(lambda p: (), made)).apply
    with pytest.raises(InputError, match=words):
        jax.eval_shape(lambda p: apply(p, (), p), PARAMS)


def test_what_is_decoded_has_the_shapes_of_what_was_encoded():
    def made(decoded, state=()):
        given = Compressor(
            lambda like: (), lambda v, s, c: ((), state), lambda p, like, k: decoded
        )
        return checked.compressor(given, "the uplink")

    assert made(PARAMS).decode((), PARAMS, None) is PARAMS
    with pytest.raises(InputError, match=r"what the uplink decodes .*b is float32.1."):
        made(PARAMS | {"b": jnp.ones(1)}).decode((), PARAMS, None)
    with pytest.raises(InputError, match=r"the state of the uplink .*before"):
        made(PARAMS, jnp.ones(2)).encode(PARAMS, (), None)


def test_a_part_of_another_kind_is_named():
    with pytest.raises(InputError, match="the uplink must be a Compressor, not Model"):
        checked.compressor(model_of(), "the uplink")
    with pytest.raises(InputError, match="local must be a LocalUpdate, not function"):
        checked.local(lambda: None)


def test_what_is_checked_is_not_checked_again():
    once = model_of()
    assert checked.model(once) is once
    assert checked.model(once._replace(constrain=None, cuts=None)).loss is once.loss


def test_a_function_that_is_replaced_is_checked():
    model = model_of()
    score = lambda o, y: o  # noqa: E731
    for name in ("loss", "correct"):
        changed = checked.model(model._replace(**{name: score}))
        with pytest.raises(InputError, match=f"the model's {name} must give one"):
            jax.eval_shape(getattr(changed, name), OUTPUTS, LABELS)
    wrong = checked.model(model._replace(constrain=lambda p: {"w": p["w"]}))
    with pytest.raises(InputError, match=r"constrain must have .*: b is missing"):
        wrong.constrain(PARAMS)
    up = Compressor(lambda like: (), lambda v, s, c: (v, s), lambda p, like, k: p)
    up = checked.compressor(up)._replace(encode=lambda v, s, c: (v, jnp.ones(2)))
    with pytest.raises(InputError, match="the state of the uplink must have"):
        checked.compressor(up, "the uplink").encode(PARAMS, (), None)


def test_a_finish_that_is_replaced_is_checked_in_place_of_the_old_one():
    def aggregator(finish):
        return checked.aggregator(Aggregator(lambda tree, weight: tree, finish))

    right, wrong = aggregator(lambda acc: acc), aggregator(lambda acc: acc["w"])
    with pytest.raises(InputError, match="the aggregator's finish makes"):
        checked.aggregator(right._replace(finish=wrong.finish)).lift(PARAMS, 1.0)
    mended = checked.aggregator(wrong._replace(finish=lambda acc: acc))
    assert mended.lift(PARAMS, 1.0) is PARAMS


def test_a_copy_of_a_checked_function_is_not_taken_for_it():
    model = model_of()

    @functools.wraps(model.loss)
    def loss(outputs, labels):
        return model.loss(outputs, labels)[:, None]

    with pytest.raises(InputError, match=r"loss must give .*, not float32\[5, 1\]"):
        jax.eval_shape(checked.model(model._replace(loss=loss)).loss, OUTPUTS, LABELS)


def test_an_error_of_ones_own_keeps_its_traceback_and_names_the_function():
    def broken(outputs, labels):
        return outputs.no_such_thing

    with pytest.raises(AttributeError) as caught:
        scored("loss", broken)
    assert caught.value.__notes__.count("raised in the model's loss") == 1
    assert caught.traceback[-1].name == "broken"
    raises = pytest.raises(ValueError, match="inner")
    with raises as caught, returned.within("outer"), returned.within("inner"):
        raise ValueError("inner")
    assert caught.value.__notes__ == ["raised in inner"]


def test_numpy_arrays_are_arrays():
    values = np.ones(2, np.float32)
    assert returned.floats("it", values, (2,), "floats") is values


def test_metrics_of_python_become_arrays():
    metrics = {"loss": 1, "examples": jnp.asarray(3), "own": 0.5}
    found = update_of(PARAMS, (), metrics)(PARAMS, (), None, None)[2]
    assert {n: (x.dtype, x.shape) for n, x in found.items()} == {
        name: (jnp.float32, ()) for name in metrics
    }
