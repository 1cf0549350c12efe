"""A small federation with a clock; a client's update is its number, to be read off."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from systems import labelled, setup, updating

from fedjax_compress import algorithms, registry
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.work import Work

CLIENTS = 8
PARAMETERS = 1000
BYTES = 16 + 4 * PARAMETERS
"""Of a message of FP32, with its header."""
SIZES = np.arange(1, CLIENTS + 1)
"""Rows of each client."""


def ladder(seed, clients):
    """Client c: c + 1 kbit/s both ways, a quarter of a second of latency."""
    rates = 1000.0 * np.arange(1, clients + 1)
    return np.column_stack([rates, rates, np.full(clients, 0.25)])


def by_number(params, shard, key):
    """As many as the client has rows; told as its loss."""
    size = shard.size.astype(jnp.float32)
    told = {"loss": size, "examples": jnp.ones(()), "steps": size, "processed": size}
    return size * jnp.ones_like(params), told


def simulator_of(when, cohort=CLIENTS, macs=0.0, uplink="identity", **options):
    """Eight clients that average, by a clock."""
    algorithm = algorithms.fedavg(setup(updating(by_number), uplink=uplink))
    owner = np.repeat(np.arange(CLIENTS), SIZES).astype(np.int32)
    columns = np.zeros((len(owner), 1), np.float32), np.zeros(len(owner), np.int32)
    data = labelled(*columns, owner, CLIENTS)
    sampling = registry.build("sampling", "uniform")
    work = [Work(lambda n: 2 * n, (macs,), (PARAMETERS,))]
    return Simulator(
        algorithm, data, cohort=cohort, sampling=sampling, clock=when, work=work,
        **options,
    )  # fmt: skip


def rounds_of(simulator, rounds=1):
    """The state after some rounds from zeros, and their records."""
    return simulator.advance(simulator.start(jnp.zeros(PARAMETERS)), rounds)
