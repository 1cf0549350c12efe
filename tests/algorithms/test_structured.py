"""Structured updates against plain numpy, and where they must be FedAvg."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounds import begun
from systems import client_told, server_told, setup, updating
from systems import local as local_of

from fedjax_compress import algorithms, registry, tree, wire
from fedjax_compress.clients import group
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.typing import Task

ROWS, WIDTH, CLASSES, LR = 12, 20, 6, 0.5
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(ROWS, WIDTH)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS).astype(np.int32)
DATA = group({"features": FEATURES, "labels": LABELS}, np.zeros(ROWS, np.int32), 1)
MODEL = registry.build("model", "logistic", Task((WIDTH,), CLASSES))
PARAMS = jax.tree.map(lambda x: x + 0.1, MODEL.init(jax.random.key(0)))
MASK, THIN = {"form": "mask", "fraction": 0.25}, {"form": "low_rank", "rank": 3}


def build(local="", uplink="identity", name="structured_updates", **options):
    local = local or f"sgd(lr={LR}, batch={ROWS}, steps=1)"
    parts = setup(local_of(local, MODEL), uplink=uplink)
    return getattr(algorithms, name)(parts, **options)


def stepping(algorithm):
    """(round, client) -> what the server makes of that client's report, the report."""

    @jax.jit
    def step(number, client):
        server, told = begun(algorithm, PARAMS), server_told(PARAMS, number=number)
        message, _ = algorithm.broadcast(server, told)
        view = algorithm.receive(message, told.decoding)
        state = algorithm.client_init(PARAMS)
        context = client_told(PARAMS, client, number=number, examples=ROWS)
        shard = DATA.shard(jnp.asarray(0), jnp.asarray(ROWS))
        report = algorithm.client(view, (), state, shard, context)
        acc, _ = algorithm.reduce(
            server, report.payload, report.weight, (), context.decoding
        )
        moved = algorithm.server(server, acc, told)
        return tree.subtract(moved.params, PARAMS), report

    return lambda number, client: jax.device_get(step(number, client))


def update_of(algorithm):
    return stepping(algorithm)(0, 0)


def gradient():
    """Of the mean cross entropy of a linear layer, by hand."""
    kernel, bias = (np.asarray(x, np.float64) for x in _layer(PARAMS))
    scores = FEATURES @ kernel + bias
    share = np.exp(scores - scores.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    share[np.arange(ROWS), LABELS] -= 1
    return FEATURES.T @ share / ROWS, share.mean(0)


def _layer(params):
    """Kernel and bias."""
    bias, kernel = sorted(jax.tree.leaves(params), key=lambda x: x.ndim)
    return kernel, bias


def test_a_mask_takes_the_gradient_at_its_places_and_nothing_elsewhere():
    update, report = update_of(build(**MASK))
    for found, exact in zip(_layer(update), gradient(), strict=True):
        moved = found != 0
        assert moved.sum() == np.ceil(0.25 * found.size)
        np.testing.assert_allclose(found[moved], -LR * exact[moved], rtol=1e-4)
    sent = sum(field.symbols.size for field in wire.fields(report.payload))
    assert sent == 30 + 2


def test_low_rank_is_a_fixed_factor_times_what_is_sent():
    update, report = update_of(build(**THIN))
    kernel, bias = _layer(update)
    exact, of_bias = gradient()
    np.testing.assert_allclose(bias, -LR * of_bias, rtol=1e-4)
    assert np.linalg.matrix_rank(kernel, tol=1e-5) == 3
    sent = [field.symbols for field in wire.fields(report.payload)]
    thin = np.asarray(next(x for x in sent if x.ndim == 2), np.float64)
    assert thin.shape == (3, CLASSES)
    # U = A B and B = -lr A^T G: A follows from the first, the second tests it.
    factor = kernel @ np.linalg.pinv(thin)
    np.testing.assert_allclose(factor @ thin, kernel, atol=1e-5)
    np.testing.assert_allclose(-LR * factor.T @ exact, thin, rtol=1e-3, atol=1e-5)


def test_the_fixed_factor_is_normal_with_the_variance_that_is_said():
    """20,000 x 6 numbers: the mean square of 20,000 A is 1 within 5 standard errors of
    sqrt(2 / 120,000) = 0.0041, a false-alarm rate of 6e-7; the seed is fixed."""
    thin = algorithms._structured_updates._thin((20_000, 9), 6)
    factor = np.asarray(thin.basis(root_key(5)), np.float64)
    assert factor.shape == (20_000, 6)
    assert abs(np.mean(factor**2) * 20_000 - 1) < 5 * np.sqrt(2 / factor.size)


@pytest.mark.parametrize("options", [MASK, THIN])
def test_every_client_and_every_round_has_a_form_of_its_own(options):
    step = stepping(build(**options))
    kernels = [_layer(step(*at)[0])[0] for at in [(0, 0), (0, 1), (1, 0)]]
    for i in range(3):
        assert not np.allclose(kernels[i], kernels[i - 1], atol=1e-4)
    again = _layer(step(0, 1)[0])[0]
    np.testing.assert_array_equal(again, kernels[1])


@pytest.mark.parametrize(
    "options", [{"form": "mask", "fraction": 1.0}, {"form": "low_rank", "rank": 99}]
)
@pytest.mark.parametrize("local", ["", "sgd(momentum=0.9, batch=5, epochs=3)"])
def test_with_all_freedom_it_is_fedavg(options, local):
    found, _ = update_of(build(local, **options))
    expected, _ = update_of(build(local, name="fedavg"))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        found,
        expected,
    )


def test_the_mask_does_not_depend_on_the_training():
    """Twelve steps with momentum and weight decay move the same 30 + 2 elements."""
    local = "sgd(momentum=0.9, weight_decay=0.1, batch=4, epochs=4)"
    update, _ = update_of(build(local, **MASK))
    short, _ = update_of(build(**MASK))
    for found, other in zip(_layer(update), _layer(short), strict=True):
        np.testing.assert_array_equal(found != 0, other != 0)


def test_what_is_sent_can_be_compressed():
    uplink = "on_vector(uniform(bits=8))"
    found, report = update_of(build(uplink=uplink, **MASK))
    exact, _ = update_of(build(**MASK))
    assert wire.bits(report.payload) == 8 * 32 + 64
    kernel, other = _layer(found)[0], _layer(exact)[0]
    spread = max(x.max() for x in _layer(exact)) - min(x.min() for x in _layer(exact))
    assert np.abs(kernel - other).max() <= spread / 255 * 1.001


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"form": "cross"}, "form must be mask or low_rank"),
        ({"fraction": 0.0}, "fraction must be above 0"),
        ({"rank": 0}, "rank must be at least 1"),
    ],
)
def test_what_cannot_work_is_refused(options, says):
    with pytest.raises(InputError, match=says):
        build(**options)


def test_a_state_between_rounds_is_refused():
    algorithm = build(uplink="error_feedback(top_k(0.5))", **MASK)
    with pytest.raises(InputError, match="leave error_feedback out"):
        algorithm.client_init(PARAMS)


def test_an_update_of_the_parameters_is_none_of_what_is_trained():
    """A local update that does not look at the problem is found out."""

    def run(free, shard, key):
        return PARAMS, {"loss": jnp.zeros(()), "examples": jnp.ones(())}

    algorithm = algorithms.structured_updates(setup(updating(run)), **THIN)
    shard = DATA.shard(jnp.asarray(0), jnp.asarray(ROWS))
    with pytest.raises(InputError, match=r"what is trained.*\[3, 6\]"):
        algorithm.client(
            PARAMS, (), algorithm.client_init(PARAMS), shard, client_told(PARAMS)
        )
