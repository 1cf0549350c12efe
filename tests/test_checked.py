"""What parts of one's own may give back: the right shapes pass, others are refused.

Only shapes are traced here; nothing compiles.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import server_told, setup, told_by

from fedjax_compress import checked, returned
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import handed_in
from fedjax_compress.typing import (
    Aggregator,
    Compressor,
    LocalUpdate,
    Metric,
    Model,
    Problem,
    ServerOptimizer,
    Setup,
    Trained,
)

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


GOOD = {"loss": jnp.zeros(()), "examples": jnp.ones(())}


def update_of(update, memory=(), metrics=None, problem=PARAMS, gradient=None):
    """What a local update of these gives back for a problem."""
    metrics = GOOD if metrics is None else metrics

    def run(problem, shard, context):
        return Trained(update, memory, metrics)

    local = checked.local(LocalUpdate(run, gradient))
    problem = problem if isinstance(problem, Problem) else Problem(problem)
    if gradient:
        return local.gradient(problem, None, None)
    return local.run(problem, None, None)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ((PARAMS | {"b": jnp.ones(1)},), r"b is float32\[1\], not float32\[3\]"),
        ((PARAMS | {"b": jnp.ones(3, int)},), r"b is int32\[3\], not float32\[3\]"),
        (({"w": PARAMS["w"]},), "b is missing"),
        ((PARAMS | {"c": 1},), "c is too much"),
        ((PARAMS, jnp.ones(2)), "the memory of .* the memory before: a leaf is too m"),
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
        update_of(*made)


def test_an_update_is_of_the_free_parameters():
    free, lift = jnp.ones(4), lambda x: PARAMS
    assert update_of(free, problem=Problem(free, lift)).update is free
    with pytest.raises(InputError, match="what is trained"):
        update_of(PARAMS, problem=Problem(free, lift))
    with pytest.raises(InputError, match="run must give Trained, not dict"):
        checked.local(LocalUpdate(lambda *a: {})).run(Problem(free), 0, 0)


def test_a_gradient_is_of_the_free_parameters():
    assert update_of(None, gradient=lambda *a: PARAMS) is PARAMS
    with pytest.raises(InputError, match=r"gradient must .* is trained: b is missing"):
        update_of(None, gradient=lambda *a: {"w": PARAMS["w"]})
    assert checked.local(LocalUpdate(lambda *a: None)).gradient is None


def test_the_memory_stays_of_its_shape():
    memory = {"m": jnp.ones(2)}
    kept = Problem(PARAMS, memory=memory)
    assert update_of(PARAMS, memory, problem=kept).memory is memory
    with pytest.raises(InputError, match=r"the memory before: m is float32\[3\], not"):
        update_of(PARAMS, {"m": jnp.ones(3)}, problem=kept)


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
        (lambda u, s, p, c: (u["w"], s), "the params of .*b is missing"),
        (lambda u, s, p, c: (p, (jnp.ones(1),)), "the state of .*0 is too much"),
        (lambda u, s, p, c: p, "must give .params, state., not dict"),
    ],
)
def test_a_server_step_keeps_shapes(made, words):
    apply = checked.optimizer(ServerOptimizer(lambda p: (), made)).apply
    with pytest.raises(InputError, match=words):
        jax.eval_shape(lambda p: apply(p, (), p, server_told(p)), PARAMS)


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
    with pytest.raises(
        InputError, match="an algorithm joins must be a Setup, not Local"
    ):
        checked.setup(LocalUpdate(lambda *a: None))


def test_each_part_of_a_setup_is_checked():
    """What is checked already stays as it is."""
    made = checked.setup(setup(LocalUpdate(lambda *a: {})))
    again = checked.setup(made)
    assert all(a is b for a, b in zip(made, again, strict=True))
    with pytest.raises(InputError, match="must give Trained, not dict"):
        made.local.run(Problem(PARAMS), None, told_by(jax.random.key(0)))
    for name in Setup._fields:
        with pytest.raises(InputError, match=r"must be an? .*, not str"):
            checked.setup(made._replace(**{name: "fedavg"}))


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


def test_metrics_of_python_become_arrays():
    metrics = {"loss": 1, "examples": jnp.asarray(3), "own": 0.5}
    found = update_of(PARAMS, (), metrics).metrics
    assert {n: (x.dtype, x.shape) for n, x in found.items()} == {
        name: (jnp.float32, ()) for name in metrics
    }
