"""What a client minimises: shift, distance, lift, model of a step, and its gradient."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import shard, told_by, train

from fedjax_compress import registry, tree
from fedjax_compress.models.metrics import accuracy
from fedjax_compress.typing import Model, Problem

ROWS, LR = 23, 0.3


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-4, 1e-5), a, b)


def drawn(like, seed):
    """Normal numbers of its shapes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), like)


@pytest.fixture(scope="module")
def params(model):
    return drawn(jax.eval_shape(model.init, jax.random.key(0)), 0)


def lift(free):
    """Free numbers x -> 2 x + 1, as parameters."""
    return jax.tree.map(lambda x: 2 * x + 1, free)


def objective(model, columns, free, problem):
    """Written from the definition, over all rows."""
    params = problem.lift(free)
    value, weight = model.losses(model.apply(params, columns, None), columns)
    anchor = problem.anchor if problem.anchor else problem.lift(problem.start)
    away = tree.squared_norm(tree.subtract(params, anchor))
    shift = tree.dot(problem.shift, free) if problem.shift else 0.0
    mean = jnp.sum(value * weight) / jnp.sum(weight)
    return mean + shift + 0.5 * problem.mu * away


PROBLEMS = {
    "plain": lambda p: Problem(p),
    "shift": lambda p: Problem(p, shift=drawn(p, 1)),
    "distance from the start": lambda p: Problem(p, mu=0.7),
    "distance from an anchor": lambda p: Problem(p, mu=0.7, anchor=drawn(p, 2)),
    "lift": lambda p: Problem(p, lift),
    "all": lambda p: Problem(p, lift, drawn(p, 2), 0.7, drawn(p, 1)),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_step_descends_the_objective(model, columns, params, name):
    """Four steps of all rows, with momentum, against jax.grad of the definition."""
    problem = PROBLEMS[name](params)
    text = f"sgd(lr={LR}, momentum=0.5, batch=64, steps=4)"
    run = registry.build("local", text, model).run
    run = jax.jit(functools.partial(run, problem))
    found = run(shard(columns), told_by(jax.random.key(1))).update
    slope = jax.jit(jax.grad(lambda x: objective(model, columns, x, problem)))
    free, moving = params, tree.zeros_like(params)
    for _ in range(4):
        moving = jax.tree.map(lambda m, g: 0.5 * m + g, moving, slope(free))
        free = jax.tree.map(lambda x, m: x - LR * m, free, moving)
    close(found, tree.subtract(free, params))


def test_the_distance_adds_to_that_of_the_local_update(model, columns, params):
    """fedprox(0.5) from an anchor is a pull to the start and one to the anchor."""
    both = registry.build("local", f"fedprox(0.5, lr={LR}, batch=64, steps=3)", model)
    anchor = drawn(params, 2)
    found = train(both, params, shard(columns), jax.random.key(1), mu=0.2,
                  anchor=anchor).update  # fmt: skip
    pull = jax.grad(lambda x: objective(model, columns, x, Problem(params)))
    free = params
    for _ in range(3):
        free = jax.tree.map(
            lambda x, g, w, a: x - LR * (g + 0.5 * (x - w) + 0.2 * (x - a)),
            free, pull(free), params, anchor,
        )  # fmt: skip
    close(found, tree.subtract(free, params))


def test_a_distance_may_be_known_in_the_round_only(model, columns, params):
    given = registry.build("local", "sgd(batch=8)", model)

    def run(mu):
        return train(given, params, shard(columns), jax.random.key(1), mu=mu).update

    close(jax.jit(run)(jnp.float32(0.7)), run(0.7))
    close(jax.jit(run)(jnp.float32(0.0)), run(0.0))


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("text", ["sgd(batch=4)", "sgd(batch=8, last=drop, steps=2)"])
def test_the_gradient_is_that_of_all_rows(model, columns, params, name, text):
    """Of one client's own, incomplete batches too, weighted where rows are."""
    rng = np.random.default_rng(3)
    columns = columns | {"weights": rng.uniform(0, 2, ROWS).astype(np.float32)}
    problem = PROBLEMS[name](params)
    gradient = registry.build("local", text, model).gradient
    gradient = jax.jit(functools.partial(gradient, problem))
    given = shard(columns, start=7, size=9, largest=ROWS)
    found = gradient(given, told_by(jax.random.key(1)))
    mine = {name: column[7:16] for name, column in columns.items()}
    close(found, jax.grad(lambda x: objective(model, mine, x, problem))(params))


def test_the_gradient_holds_the_distance_of_the_local_update(model, columns, params):
    """It is zero at the start of what the local update pulls to."""
    plain, prox = (
        registry.build("local", text, model).gradient
        for text in ("sgd(batch=4)", "fedprox(mu=0.7, batch=4)")
    )
    given = shard(columns), told_by(jax.random.key(1))
    close(prox(Problem(params), *given), plain(Problem(params), *given))


def test_the_gradient_of_no_rows_is_zero(model, columns, params):
    nothing = columns | {"features": np.full((ROWS, 5), np.nan, np.float32)}
    gradient = registry.build("local", "sgd(batch=4)", model).gradient
    empty = shard(nothing, size=0, largest=ROWS)
    found = gradient(PROBLEMS["all"](params), empty, told_by(jax.random.key(0)))
    assert not any(np.any(x) for x in jax.tree.leaves(found))


def toy(losses=lambda outputs, columns: (outputs, jnp.ones_like(outputs))):
    """A model of one number, whose loss is the number times each feature; while it is
    trained, plus noise times the number."""

    def apply(params, columns, key):
        noise = 0.0 if key is None else jax.random.normal(key)
        return params * (columns["features"][:, 0] + noise)

    return Model(lambda key: jnp.zeros(()), apply, losses, {"accuracy": accuracy()})


def test_nothing_in_the_gradient_is_random(columns):
    """It is that of the model as it is evaluated, such as without dropout."""
    gradient = registry.build("local", "sgd(batch=4)", toy()).gradient
    found = gradient(Problem(jnp.zeros(())), shard(columns), told_by(jax.random.key(1)))
    np.testing.assert_allclose(found, columns["features"][:, 0].mean(), rtol=1e-5)


def test_each_step_has_its_model(columns):
    """Losses t + 1 times as large at step t: the steps add up to 1 + 2 + 3."""

    def model_at(t):
        scale = (t + 1).astype(jnp.float32)
        weigh = lambda outputs, columns: (scale * outputs, jnp.ones_like(outputs))  # noqa: E731
        return toy(weigh)._replace(apply=lambda p, columns, key: p + jnp.zeros(64))

    given = registry.build("local", "sgd(lr=1.0, batch=64, steps=3)", toy())
    key = jax.random.key(0)
    found = train(given, jnp.zeros(()), shard(columns), key, model=model_at)
    np.testing.assert_allclose(found.update, -6, rtol=1e-6)


def test_a_row_of_weight_two_is_two_rows(model, columns, params):
    times = np.arange(ROWS) % 3
    local = registry.build("local", "sgd(batch=64, steps=3)", model)
    run = jax.jit(functools.partial(train, local))
    weighted = shard(columns | {"weights": times.astype(np.int32)})
    repeated = {name: np.repeat(x, times, axis=0) for name, x in columns.items()}
    found = run(params, weighted, jax.random.key(1))
    wanted = run(params, shard(repeated), jax.random.key(1))
    close(found.update, wanted.update)
    np.testing.assert_allclose(found.metrics["loss"], wanted.metrics["loss"], rtol=1e-5)


def test_the_memory_is_passed_on(columns):
    """The optimizers here start anew each round: what is kept, they leave alone."""
    local = registry.build("local", "sgd(batch=8, momentum=0.5)", toy())
    memory = {"kept": jnp.arange(3)}
    given = shard(columns), jax.random.key(1)
    found = train(local, jnp.zeros(()), *given, memory=memory)
    assert found.memory["kept"].tolist() == [0, 1, 2]
    assert local.init(jnp.zeros(())) == ()


@pytest.mark.parametrize("last", ["keep", "drop"])
@pytest.mark.parametrize(
    ("passes", "batch"),
    [("epochs=2", 4), ("epochs=2", 64), ("steps=1", 8), ("steps=5", 4), ("steps=9", 8)],
)
def test_both_ends_know_how_many_rows_are_seen(columns, last, passes, batch):
    """For clients of 0 to 23 rows side by side; by hand for one of ten."""
    text = f"sgd({passes}, batch={batch}, last={last})"
    local = registry.build("local", text, toy())

    @jax.jit
    @jax.vmap
    def metrics(size):
        mine = shard(columns, size=size, largest=ROWS)
        return train(local, jnp.zeros(()), mine, jax.random.key(1)).metrics

    sizes = jnp.arange(ROWS + 1)
    found = metrics(sizes)
    np.testing.assert_array_equal(found["processed"], local.seen(sizes))
    full, rest = divmod(10, batch)
    each = [batch] * full + ([rest] if rest and last == "keep" else [])
    kind, number = passes.split("=")
    steps = int(number) * (len(each) if kind == "epochs" else 1)
    seen = [each[t % len(each)] for t in range(steps)] if each else []
    assert float(found["processed"][10]) == sum(seen)
    assert float(found["steps"][10]) == len(seen)
    assert float(found["examples"][10]) == sum(each)
