"""Reports that are not finite, rounds without reports, and the mean over a cohort.

The local updates here are made up, so that a round compiles in no time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup, updating

from fedjax_compress import algorithms, registry, wire
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Compressor


def local_of(update):
    """A local update from a function of (params, size) alone."""

    def train(params, shard, key):
        examples = shard.size.astype(jnp.float32)
        metrics = {"loss": examples**2, "examples": examples}
        return update(params, shard.size), metrics

    return updating(train)


def simulator_of(
    update,
    uplink="identity",
    server="fedavg",
    clients=6,
    weight="uniform",
    **options,
):
    owner = np.repeat(np.arange(clients), 1 + np.arange(clients) % 3).astype(np.int32)
    zeros = np.zeros((len(owner), 1), np.float32)
    parts = setup(local_of(update), f"mean({weight})", server, uplink)
    options = {"cohort": clients, "lanes": 4, **options}
    sampling = registry.build("sampling", "uniform")
    data = labelled(zeros, np.zeros(len(owner), np.int32), owner, clients)
    return Simulator(algorithms.fedavg(parts), data, sampling=sampling, **options)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("server", ["fedavgm(momentum=0.5)", "fedadam(lr=0.1)"])
def test_a_round_without_a_usable_report_moves_nothing(server, devices):
    """From round 2 on every update is NaN: momentum must not move the server.

    Only the dummies, in the lanes that are left, hand in something finite.
    """

    def update(params, size):
        return jnp.where((params == 0) | (size == 0), 1.0, jnp.nan)

    simulator = simulator_of(update, server=server, devices=devices)
    state, (first,) = simulator.advance(simulator.start(jnp.zeros(3)), 1)
    before = jax.device_get(state.server)
    assert (before.params != 0).all()
    state, records = simulator.advance(state, 2)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state.server))
    assert [r["dropped"] for r in [first, *records]] == [0, 6, 6]
    assert np.isnan(records[-1]["train_loss"])
    assert records[-1]["bytes_up"] == first["bytes_up"] > 0


def test_one_usable_report_is_enough():
    def update(params, size):
        return jnp.where(size == 3, jnp.full(3, 2.0), jnp.nan)

    simulator = simulator_of(update, clients=5)
    state, (record,) = simulator.advance(simulator.start(jnp.zeros(3)), 1)
    np.testing.assert_allclose(state.server.params, 2.0)
    assert record["dropped"] == 4


def test_what_a_compressor_hides_is_dropped_all_the_same():
    hide = Compressor(
        lambda like: (),
        lambda values, state, keys: (wire.raw(jnp.nan_to_num(values)), state),
        lambda payload, like, key: payload.symbols,
    )
    simulator = simulator_of(lambda params, size: params + jnp.nan, hide)
    state, (record,) = simulator.advance(simulator.start(jnp.zeros(3)), 1)
    assert record["dropped"] == 6
    np.testing.assert_array_equal(state.server.params, 0)


def test_what_overflows_by_its_weight_is_dropped():
    """3e38 alone is finite, three times 3e38 is not."""

    def update(params, size):
        return jnp.where(size == 3, 3e38, jnp.ones(3))

    simulator = simulator_of(update, weight="examples")
    state, (record,) = simulator.advance(simulator.start(jnp.zeros(3)), 1)
    assert record["dropped"] == 2
    np.testing.assert_allclose(state.server.params, 1)


def test_the_training_loss_is_a_mean_over_examples():
    """Sizes 1, 2, 3, 1, 2, 3, each with its square as loss."""
    simulator = simulator_of(lambda params, size: params)
    _, (record,) = simulator.advance(simulator.start(jnp.zeros(3)), 1)
    assert record["train_loss"] == pytest.approx((1 + 8 + 27) / (1 + 2 + 3), 1e-12)


def test_a_round_gives_the_old_state_up():
    simulator = simulator_of(lambda params, size: params, "error_feedback(identity)")
    old = simulator.start(jnp.zeros(3))
    simulator.advance(old, 1)
    leaves = jax.tree.leaves((old.server, old.store))
    assert len(leaves) == 2
    assert all(leaf.is_deleted() for leaf in leaves)


def test_a_residual_that_overflows_is_not_kept():
    """Elements are summed until they are sent; an infinite one would never leave."""
    uplink = "error_feedback(random_k(0.05, rescale=false))"
    huge = jnp.where(jnp.arange(20) == 7, 3e38, 1.0)
    simulator = simulator_of(lambda params, size: huge, uplink)
    state, records = simulator.advance(simulator.start(jnp.zeros(20)), 6)
    assert sum(r["dropped"] for r in records) > 0
    for leaf in jax.tree.leaves(state.store):
        assert np.isfinite(leaf).all()
        assert np.asarray(leaf).max() > 1e38


def test_errors_of_the_mean_fall_with_the_cohort():
    """One bit by rotation: clients share no noise, so the error falls as 1 / K.

    4096 errors e_i of about the same normal distribution, nearly independent: the
    relative spread of their mean square is sqrt(2 / 4096) = 0.022. The threshold of
    25 % is eight of the combined spread 0.031: false alarms below 1e-14. With common
    noise the ratio would be 1, not 16.
    """
    truth = jnp.sin(jnp.arange(4096.0))

    def square(cohort):
        simulator = simulator_of(
            lambda params, size: truth,
            "hadamard | uniform(bits=1)",
            clients=cohort,
            lanes=4,
        )
        state, _ = simulator.advance(simulator.start(jnp.zeros(4096)), 1)
        return float(np.mean(np.square(state.server.params - truth)))

    few, many = square(4), square(64)
    assert abs(few / many / 16 - 1) < 0.25


def test_the_server_may_hold_an_array_twice():
    """Rounds give their arrays up; the same one must not be given up twice."""
    simulator = simulator_of(lambda params, size: jnp.ones(3))
    plain = simulator.algorithm
    twice = plain._replace(
        init=lambda key, params: plain.init(key, params)._replace(downlink=(params,))
    )
    simulator.algorithm = twice._replace(
        broadcast=lambda server, context: ((), server),
        receive=lambda payload, context: context.params,
    )
    params = jnp.zeros(3)
    state, _ = simulator.advance(simulator.start(params), 2)
    np.testing.assert_array_equal(state.server.params, 2)
    np.testing.assert_array_equal(state.server.downlink[0], 0)
    np.testing.assert_array_equal(params, 0)


@pytest.mark.parametrize("server", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_parameters_of_16_bits_keep_their_type(server):
    def update(params, size):
        return jnp.ones(3, jnp.bfloat16)

    simulator = simulator_of(update, server=server)
    state, _ = simulator.advance(simulator.start(jnp.zeros(3, jnp.bfloat16)), 2)
    assert state.server.params.dtype == jnp.bfloat16
    assert (state.server.params > 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cohort": 0}, "the cohort must be 1 to 6"),
        ({"lanes": -1}, "lanes must not be negative"),
        ({"rounds_per_call": 0}, "rounds_per_call must be at least 1"),
        ({"seed": -1}, "the seed must be 0 to"),
        ({"generator": "mt19937"}, "unknown generator"),
    ],
)
def test_numbers_that_cannot_work_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        simulator_of(lambda params, size: params, **options)
