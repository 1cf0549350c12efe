"""What parts of one's own may give back: the right shapes pass, others are refused.

Only shapes are traced here; nothing compiles.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.checks import parts as checked
from fedjax_compress.checks import returned
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import handed_in
from fedjax_compress.typing import Metric, Model

BATCH = 5
OUTPUTS = jax.ShapeDtypeStruct((BATCH, 1), jnp.float32)
COLUMNS = {"labels": jax.ShapeDtypeStruct((BATCH,), jnp.int32)}
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}


def right(outputs, labels):
    return jnp.square(outputs[:, 0] - labels)


def losses_of(score, weight=lambda outputs, labels: jnp.ones(BATCH)):
    """Losses of a model from what each row costs, and counts for."""

    def losses(outputs, columns):
        labels = columns["labels"]
        return score(outputs, labels), weight(outputs, labels)

    return losses


def metric_of(score, finish=lambda total: total):
    """A metric of a model from what each row counts."""

    def count(params, columns, outputs):
        return score(outputs, columns["labels"])

    return {"own": Metric(count, finish)}


def model_of(**parts):
    usual = {
        "init": lambda key: PARAMS,
        "apply": lambda params, columns, key: columns["features"],
        "losses": losses_of(right),
        "metrics": metric_of(right),
    }
    return checked.model(Model(**usual | parts))


def trace(model, name):
    """What the model's losses or metric make of the rows."""
    if name == "losses":
        return jax.eval_shape(model.losses, OUTPUTS, COLUMNS)
    return jax.eval_shape(model.metrics["own"].count, PARAMS, COLUMNS, OUTPUTS)


def scored(score):
    """The values of losses made of a score."""
    return trace(model_of(losses=losses_of(score)), "losses")[0]


def counted(score, *finish):
    return trace(model_of(metrics=metric_of(score, *finish)), "own")


WRONG = [
    (lambda o, y: jnp.square(o - y[:, None]), r"\[5\], not float32\[5, 1\]"),
    (lambda o, y: jnp.square(o - y), r"\[5\], not float32\[5, 5\]"),
    (lambda o, y: jnp.mean(o[:, 0] - y), r"\[5\], not float32\[\]"),
    (lambda o, y: o[:-1, 0], r"\[5\], not float32\[4\]"),
    (lambda o, y: (right(o, y), o), r"\[5\], not tuple"),
    (lambda o, y: None, r"\[5\], not NoneType"),
    (lambda o, y: right(o, y) * 1j, r"\[5\], not complex64\[5\]"),
]


@pytest.mark.parametrize(("function", "words"), WRONG)
def test_each_example_has_one_loss_and_weight(function, words):
    wanted = "must give one float for each example, " + words
    with pytest.raises(InputError, match="^the model's loss " + wanted):
        scored(function)
    model = model_of(losses=losses_of(right, function))
    with pytest.raises(InputError, match="^the weights of the model's loss " + wanted):
        trace(model, "losses")


@pytest.mark.parametrize(
    "losses", [lambda o, c: o[:, 0], lambda o, c: [o, o], lambda o, c: (o, o, o)]
)
def test_losses_are_a_value_and_a_weight(losses):
    with pytest.raises(InputError, match=r"losses must give \(value, weight\), not "):
        trace(model_of(losses=losses), "losses")


def test_right_scores_pass_as_they_are():
    assert scored(right) == jax.ShapeDtypeStruct((BATCH,), jnp.float32)
    assert scored(lambda o, y: o[:, 0].astype(jnp.bfloat16)).dtype == "bfloat16"
    with pytest.raises(InputError, match=r"float .*, not int32\[5\]"):
        scored(lambda o, y: y)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda o, y: jnp.mean(o[:, 0] - y), r"\[5\], not float32\[\]"),
        (lambda o, y: o[:-1], r"\[5, 1\], not float32\[4, 1\]"),
        (lambda o, y: [right(o, y), 1.0], r"\[5\], not float"),
        (lambda o, y: right(o, y) * 1j, r"\[5\], not complex64\[5\]"),
        (lambda o, y: None, "gives nothing"),
        (lambda o, y: (), "gives nothing"),
    ],
)
def test_a_metric_counts_row_by_row(score, words):
    wanted = "^the metric own must give one number or more for each example.*"
    with pytest.raises(InputError, match=wanted + words):
        counted(score)


def test_a_metric_is_any_tree_of_rows_and_ends_in_one_number():
    found = counted(lambda o, y: {"a": o[:, 0] > y, "b": [y]}, lambda sums: sums["a"])
    assert found == {
        "a": jax.ShapeDtypeStruct((BATCH,), jnp.float32),  # truth values, and integers
        "b": [jax.ShapeDtypeStruct((BATCH,), jnp.float32)],
    }
    assert counted(lambda o, y: jnp.ones((BATCH, 2, 4)), jnp.sum).shape == (BATCH, 2, 4)
    with pytest.raises(InputError, match=r"own must be finished to one number, .*2, 4"):
        counted(lambda o, y: jnp.ones((BATCH, 2, 4)))


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({}, "at least one Metric by its name, not none"),
        (None, "at least one Metric by its name, not NoneType"),
        ([right], "at least one Metric by its name, not list"),
        ({"own": right}, "the metric own must be a Metric, not function"),
        ({"two words": metric_of(right)["own"]}, "must be one word, .*'two words'"),
        ({"loss": metric_of(right)["own"]}, "a metric cannot be named loss: test_loss"),
        ({"own": Metric(right, right, "up")}, "better must be higher or lower, not up"),
    ],
)
def test_a_model_has_metrics(metrics, words):
    with pytest.raises(InputError, match=words):
        model_of(metrics=metrics)


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


def test_what_is_checked_is_not_checked_again():
    once = model_of()
    assert checked.model(once) is once
    assert checked.model(once._replace(constrain=None, cuts=None)).losses is once.losses
    other = checked.model(once._replace(losses=losses_of(lambda o, y: o[:, 0])))
    assert other.metrics["own"] is once.metrics["own"]


def test_a_function_that_is_replaced_is_checked():
    model = model_of()
    changed = checked.model(model._replace(losses=losses_of(lambda o, y: o)))
    with pytest.raises(InputError, match="the model's loss must give one"):
        trace(changed, "losses")
    changed = checked.model(model._replace(metrics=metric_of(lambda o, y: o[0])))
    with pytest.raises(InputError, match="the metric own must give one"):
        trace(changed, "own")
    own = model.metrics["own"]._replace(finish=lambda total: [total])
    changed = checked.model(model._replace(metrics={"own": own}))
    with pytest.raises(InputError, match="own must be finished to one number"):
        trace(changed, "own")
    wrong = checked.model(model._replace(constrain=lambda p: {"w": p["w"]}))
    with pytest.raises(InputError, match=r"constrain must have .*: b is missing"):
        wrong.constrain(PARAMS)


def test_a_copy_of_a_checked_function_is_not_taken_for_it():
    model = model_of()

    @functools.wraps(model.losses)
    def losses(outputs, columns):
        value, weight = model.losses(outputs, columns)
        return value[:, None], weight

    with pytest.raises(InputError, match=r"loss must give .*, not float32\[5, 1\]"):
        trace(checked.model(model._replace(losses=losses)), "losses")


def test_an_error_of_ones_own_keeps_its_traceback_and_names_the_function():
    def broken(outputs, labels):
        return outputs.no_such_thing

    with pytest.raises(AttributeError) as caught:
        scored(broken)
    assert caught.value.__notes__.count("raised in the model's loss") == 1
    assert caught.traceback[-1].name == "broken"
    with pytest.raises(AttributeError) as caught:
        counted(broken)
    assert caught.value.__notes__.count("raised in the metric own") == 1
    raises = pytest.raises(ValueError, match="inner")
    with raises as caught, returned.within("outer"), returned.within("inner"):
        raise ValueError("inner")
    assert caught.value.__notes__ == ["raised in inner"]


def test_numpy_arrays_are_arrays():
    values = np.ones(2, np.float32)
    assert returned.floats("it", values, (2,), "floats") is values
