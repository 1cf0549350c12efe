"""Local updates, links and steps of the server of one's own, as ``test_checked``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from systems import server_told, setup, told_by

from fedjax_compress.checks import parts as checked
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Aggregator,
    Compressor,
    LocalUpdate,
    Problem,
    ServerOptimizer,
    Setup,
    Trained,
)

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
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
    aggregator = Aggregator(lambda tree, weight: tree, lambda acc: acc)
    with pytest.raises(InputError, match="the uplink must be a Compressor, not Aggreg"):
        checked.compressor(aggregator, "the uplink")
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


def test_an_encode_that_is_replaced_is_checked():
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


def test_metrics_of_python_become_arrays():
    metrics = {"loss": 1, "examples": jnp.asarray(3), "own": 0.5}
    found = update_of(PARAMS, (), metrics).metrics
    assert {n: (x.dtype, x.shape) for n, x in found.items()} == {
        name: (jnp.float32, ()) for name in metrics
    }
