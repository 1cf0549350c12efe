"""Local training against hand-written SGD, and its identities."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from systems import shard, train

from fedjax_compress import local, registry
from fedjax_compress.errors import InputError
from fedjax_compress.models.metrics import accuracy
from fedjax_compress.numerics.shuffle import permute
from fedjax_compress.registry.libraries import optimizer
from fedjax_compress.typing import Model, Task

ROWS, WIDTH, CLASSES = 23, 5, 3


def picked(columns, rows):
    return {name: column[rows] for name, column in columns.items()}


def losses(model, params, columns):
    """Of each row."""
    return model.losses(model.apply(params, columns, None), columns)[0]


def mean_gradient(model, params, columns):
    return jax.grad(lambda p: jnp.mean(losses(model, p, columns)))(params)


def close(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol, atol), a, b)


def build(model, text):
    """(params, shard, key) -> Trained."""
    return jax.jit(functools.partial(train, registry.build("local", text, model)))


def test_one_batch_with_all_rows_is_one_step_of_gradient_descent(model, columns):
    params = model.init(jax.random.key(0))
    run = build(model, "sgd(lr=0.5, batch=64)")
    update, memory, metrics = run(params, shard(columns), jax.random.key(1))
    grads = mean_gradient(model, params, columns)
    close(update, jax.tree.map(lambda g: -0.5 * g, grads))
    assert memory == ()
    assert metrics["examples"] == ROWS


@pytest.mark.parametrize("last", ["keep", "drop"])
def test_epochs_follow_the_permutation_of_the_key(model, columns, last):
    params = model.init(jax.random.key(0))
    key = jax.random.key(5)
    text = f"sgd(lr=0.3, momentum=0.9, epochs=2, batch=8, last={last})"
    update, _, metrics = build(model, text)(params, shard(columns), key)
    expected, velocity, found = params, jax.tree.map(jnp.zeros_like, params), []
    for epoch in range(2):
        order_key = jax.random.fold_in(jax.random.fold_in(key, 0), epoch)
        order = np.asarray(permute(order_key, jnp.arange(ROWS), ROWS))
        for begin in range(0, ROWS, 8):
            rows = order[begin : begin + 8]
            if last == "drop" and len(rows) < 8:
                continue
            seen = picked(columns, rows)
            found += np.asarray(losses(model, expected, seen)).tolist()
            grads = mean_gradient(model, expected, seen)
            velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
            expected = jax.tree.map(lambda p, v: p - 0.3 * v, expected, velocity)
    close(update, jax.tree.map(jnp.subtract, expected, params))
    np.testing.assert_allclose(metrics["loss"], np.mean(found), rtol=1e-5)


def test_a_finished_client_is_held_still(model, columns):
    """More steps than it needs change no bit, of its loss neither, despite momentum."""
    params = model.init(jax.random.key(0))
    run = build(model, "sgd(lr=0.1, momentum=0.9, weight_decay=0.1, batch=4)")
    key = jax.random.key(3)
    alone = run(params, shard(columns, size=9), key)
    among = run(params, shard(columns, size=9, largest=ROWS), key)
    jax.tree.map(np.testing.assert_array_equal, alone, among)


def test_rows_of_others_do_not_matter(model, columns):
    params = model.init(jax.random.key(0))
    run = build(model, "sgd(batch=4)")
    changed = columns["features"].copy()
    changed[:7], changed[16:] = np.nan, np.nan
    here = shard(columns, start=7, size=9)
    there = shard(columns | {"features": changed}, start=7, size=9)
    first = run(params, here, jax.random.key(3))[0]
    second = run(params, there, jax.random.key(3))[0]
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_no_rows_no_update(model, columns):
    """Whatever the rows of others hold that it reads, masked, on the way."""
    columns = columns | {"features": np.full((ROWS, WIDTH), np.nan, np.float32)}
    params = model.init(jax.random.key(0))
    run = build(model, "sgd(momentum=0.5, batch=4)")
    empty = shard(columns, size=0, largest=ROWS)
    update, _, metrics = run(params, empty, jax.random.key(0))
    assert not any(np.any(x) for x in jax.tree.leaves(update))
    assert metrics["examples"] == 0
    assert metrics["loss"] == 0


def test_rows_that_no_batch_holds_have_no_weight(model, columns):
    """With last=drop a client smaller than a batch does nothing and counts nothing."""
    params = model.init(jax.random.key(0))
    run = build(model, "sgd(batch=8, last=drop)")
    for size, learned in [(7, 0), (8, 8), (9, 8), (23, 16)]:
        update, _, metrics = run(params, shard(columns, size=size), jax.random.key(0))
        assert metrics["examples"] == learned
        assert any(np.any(x) for x in jax.tree.leaves(update)) == (learned > 0)


def test_fedprox_with_mu_zero_is_sgd_bit_for_bit(model, columns):
    params = model.init(jax.random.key(0))
    args = params, shard(columns), jax.random.key(2)
    plain = build(model, "sgd(batch=4, epochs=2)")(*args)[0]
    prox = build(model, "fedprox(mu=0.0, batch=4, epochs=2)")(*args)[0]
    jax.tree.map(np.testing.assert_array_equal, plain, prox)


def test_fedprox_pulls_by_mu_times_the_distance(model, columns):
    params = model.init(jax.random.key(0))
    run = build(model, "fedprox(mu=0.7, lr=0.2, batch=64, steps=2)")
    update = run(params, shard(columns), jax.random.key(2))[0]
    expected = params
    for _ in range(2):
        grads = mean_gradient(model, expected, columns)
        expected = jax.tree.map(
            lambda p, g, w: p - 0.2 * (g + 0.7 * (p - w)), expected, grads, params
        )
    close(update, jax.tree.map(jnp.subtract, expected, params))


@pytest.mark.parametrize("nesterov", [False, True])
def test_weight_decay_and_momentum_by_hand(model, columns, nesterov):
    """g <- g + decay w; m <- 0.9 m + g; the step is m, or 0.9 m + g for Nesterov."""
    params = model.init(jax.random.key(0))
    text = f"momentum=0.9, nesterov={str(nesterov).lower()}, weight_decay=0.3"
    run = build(model, f"sgd(lr=0.2, {text}, batch=64, steps=3)")
    update = run(params, shard(columns), jax.random.key(2))[0]
    expected, velocity = params, jax.tree.map(jnp.zeros_like, params)
    for _ in range(3):
        grads = mean_gradient(model, expected, columns)
        grads = jax.tree.map(lambda g, p: g + 0.3 * p, grads, expected)
        velocity = jax.tree.map(lambda m, g: 0.9 * m + g, velocity, grads)
        move = velocity
        if nesterov:
            move = jax.tree.map(lambda m, g: 0.9 * m + g, velocity, grads)
        expected = jax.tree.map(lambda p, m: p - 0.2 * m, expected, move)
    close(update, jax.tree.map(jnp.subtract, expected, params))


def test_each_step_has_noise_of_its_own(columns):
    """A model whose gradient is its noise: the update is minus lr times their sum."""

    def apply(params, columns, key):
        return params * jax.random.normal(key) + 0 * columns["features"][:, 0]

    noisy = Model(
        init=lambda key: jnp.zeros(()),
        apply=apply,
        losses=lambda outputs, columns: (outputs, jnp.ones_like(outputs)),
        metrics={"accuracy": accuracy()},
    )
    key = jax.random.key(4)
    run = build(noisy, "sgd(lr=0.5, batch=8)")
    update = run(jnp.zeros(()), shard(columns), key)[0]
    stream = jax.random.fold_in(key, 1)
    noise = [jax.random.normal(jax.random.fold_in(stream, t)) for t in range(3)]
    np.testing.assert_allclose(update, -0.5 * np.sum(noise), rtol=1e-5)


def test_rows_in_stored_order(model, columns):
    params = model.init(jax.random.key(0))
    run = build(model, "sgd(lr=0.3, batch=8, shuffle=false)")
    update = run(params, shard(columns), jax.random.key(2))[0]
    expected = params
    for begin in range(0, ROWS, 8):
        seen = picked(columns, slice(begin, begin + 8))
        grads = mean_gradient(model, expected, seen)
        expected = jax.tree.map(lambda p, g: p - 0.3 * g, expected, grads)
    close(update, jax.tree.map(jnp.subtract, expected, params))


def test_steps_wrap_around_epochs(model, columns):
    """Twice as many steps as an epoch has equal two epochs."""
    params = model.init(jax.random.key(0))
    args = params, shard(columns), jax.random.key(2)
    by_epoch = build(model, "sgd(batch=8, epochs=2)")(*args)[0]
    by_steps = build(model, "sgd(batch=8, steps=6)")(*args)[0]
    jax.tree.map(np.testing.assert_array_equal, by_epoch, by_steps)


def test_optax_by_name(model, columns):
    params = model.init(jax.random.key(0))
    args = params, shard(columns), jax.random.key(2)
    ours = build(model, "sgd(lr=0.1, batch=8)")(*args)[0]
    theirs = build(model, "optax(sgd, lr=0.1, batch=8)")(*args)[0]
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    prox = build(model, "optax(sgd, lr=0.1, mu=0.7, batch=8)")(*args)[0]
    own = build(model, "fedprox(mu=0.7, lr=0.1, batch=8)")(*args)[0]
    jax.tree.map(np.testing.assert_array_equal, prox, own)
    adam = build(model, "optax(adam, lr=0.01, b1=0.5, batch=64)")(*args)[0]
    for leaf in jax.tree.leaves(adam):  # Adam's first step is lr in each coordinate
        np.testing.assert_allclose(np.abs(leaf), 0.01, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of optax
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sgd(lr=0)", "lr must be positive"),
        ("sgd(momentum=1.0)", r"momentum must be in \[0, 1\)"),
        ("sgd(batch=0)", "batch must be at least 1"),
        ("sgd(epochs=0)", "both 0"),
        ("sgd(epochs=-1)", "must not be negative"),
        ("sgd(nesterov=true)", "nesterov needs momentum"),
        ("fedprox(mu=-1)", "mu must not be negative"),
        ("sgd(last=half)", "keep"),
        ("optax(adamm, lr=0.1)", "did you mean 'adam"),
        ("optax(adam, lr=0.1, beta=0.1)", "has no option 'beta'"),
        ("optax(adam)", "needs lr"),
        ("optax(lbfgs, lr=1)", "optax.lbfgs needs more than gradients, .*'value_fn'"),
        (
            "optax(dpsgd, lr=1, l2_norm_clip=1, noise_multiplier=1, seed=0)",
            "optax.dpsgd needs more than gradients, .*batch dimension",
        ),
        ("optax(dpsgd, lr=1, seed=0)", "needs l2_norm_clip, noise_multiplier as well"),
        ("optax(sgd, lr=0.1, learning_rate=0.01)", "lr and learning_rate are one opt"),
        ("optax(sgd, lr=0.1, lr=0.01)", "lr is given twice"),
        ("optax(adam, 0.1, lr=0.01)", "lr is given twice"),
    ],
)
def test_bad_options_are_refused_in_one_line(model, text, words):
    with pytest.raises(InputError, match=words):
        registry.build("local", text, model)


def test_whole_numbers_stay_whole(monkeypatch):
    """An option that counts, as a seed does, is no float; one that measures may be."""
    found = {}

    def counted(learning_rate, seed, decay, flag):
        found.update(seed=seed, decay=decay, flag=flag)
        return optax.sgd(learning_rate)

    monkeypatch.setattr(optax, "counted", counted, raising=False)
    for kind, context in (("local", (None,)), ("server", ())):
        text = "optax(counted, lr=0.1, seed=3, decay=0.5, flag=true)"
        if kind == "local":
            context = (registry.build("model", "logistic", Task((WIDTH,), CLASSES)),)
        registry.build(kind, text, *context)
        assert [(type(v), v) for v in found.values()] == [
            (int, 3), (float, 0.5), (bool, True)
        ]  # fmt: skip
        found.clear()


def test_an_optimizer_of_ones_own_is_checked(model, columns):
    """One that gives other shapes is refused; one that raises keeps its traceback."""
    params = model.init(jax.random.key(0))

    def run(update):
        step = optax.GradientTransformation(lambda params: (), update)
        given = local.train(model, step, local.schedule())
        shards = shard(columns), jax.random.key(0)
        return jax.eval_shape(lambda p: train(given, p, *shards), params)

    with pytest.raises(InputError, match="the client's optimizer must have"):
        run(lambda g, s, p: (jax.tree.map(lambda x: x[None], g), s))
    with pytest.raises(TypeError) as caught:
        run(lambda g, s, p, *, value: (g, s))
    assert "raised in the client's optimizer" in caught.value.__notes__


def test_schedule_counts_steps():
    keep = local.schedule(epochs=3, batch=8)
    drop = local.schedule(epochs=3, batch=8, last="drop")
    fixed = local.schedule(steps=5, batch=8)
    for size, kept, dropped in [(0, 0, 0), (1, 3, 0), (8, 3, 3), (9, 6, 3), (16, 6, 6)]:
        assert keep.total(jnp.asarray(size)) == kept
        assert drop.total(jnp.asarray(size)) == dropped
        assert fixed.total(jnp.asarray(size)) == (5 if size else 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of optax
def test_an_option_that_is_refused_only_when_it_runs_is_one_line():
    step = optimizer(optax, "noisy_sgd", 0.1, {"seed": 0.5})
    with pytest.raises(InputError, match=r"^optax.noisy_sgd: PRNG key seed must be an"):
        jax.eval_shape(step.init, {"w": jnp.zeros(3)})
