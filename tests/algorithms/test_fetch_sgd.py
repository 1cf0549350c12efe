"""FetchSGD's client and server step against plain numpy, one call at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounds import begun, player
from systems import client_told, server_told, setup, updating

from fedjax_compress import algorithms, wire
from fedjax_compress.clients import group
from fedjax_compress.compress._count_sketch import cells, sketch
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.randomness import root_key

CLIENTS, N, ROWS, COLUMNS = 3, 400, 5, 40
SIZES = [3, 1, 2]
OWNER = np.repeat(np.arange(CLIENTS), SIZES).astype(np.int32)
DATA = group(
    {"features": np.zeros((6, 1), np.float32), "labels": np.zeros(6, np.int32)},
    OWNER,
    CLIENTS,
)
PARAMS = {"a": jnp.zeros((30, 12)), "b": jnp.ones(40)}


def updates(number, client):
    """What a client's training gives in a round: a few heavy elements and noise."""
    rng = np.random.default_rng([number, client])
    vector = 0.1 * rng.normal(size=N)
    vector[[3, 17]] += [4.0, -3.0]
    return vector.astype(np.float32)


def as_tree(vector):
    vector = jnp.asarray(vector)
    return {"a": vector[:360].reshape(30, 12), "b": vector[360:]}


def as_vector(values):
    return np.concatenate([np.asarray(x).reshape(-1) for x in jax.tree.leaves(values)])


def given(vectors):
    """A local update that hands in the vector of the client, told by its size."""
    table = jnp.stack([jnp.asarray(v) for v in vectors])
    client = jnp.asarray([SIZES.index(max(size, 1)) for size in range(4)])

    def run(params, shard, key):
        mine = table[client[shard.size]]
        metrics = {"loss": jnp.zeros(()), "examples": shard.size.astype(jnp.float32)}
        return as_tree(mine), metrics

    return updating(run)


def build(local, uplink="identity", optimizer="fedavg", **options):
    options = {"rows": ROWS, "columns": COLUMNS, "fraction": 0.01, **options}
    parts = setup(local, server=optimizer, uplink=uplink)
    return algorithms.fetch_sgd(parts, **options)


def report_of(algorithm):
    """What the first client hands in, in the first round."""
    shard = DATA.shard(jnp.asarray(0), jnp.asarray(3))
    return algorithm.client(PARAMS, (), ((), ()), shard, client_told(PARAMS))


def params_of(algorithm, server):
    return as_vector(algorithm.network(server)[1])


def vectors_of(number):
    return [updates(number, client) for client in range(CLIENTS)]


def one_round(number, server, uplink="identity", **options):
    """A round without the engine: the algorithm, and what came of it."""
    algorithm = build(given(vectors_of(number)), uplink, **options)
    server = begun(algorithm, PARAMS) if server is None else server
    return algorithm, player(algorithm, PARAMS, DATA)(server, number=number)


class Plain:
    """The server of the paper, with loops over elements."""

    def __init__(self, removal, momentum, k, lr=1.0, seed=0):
        places, signs = cells(root_key(seed), N, ROWS, COLUMNS)
        self.places, self.signs = np.asarray(places), np.asarray(signs)
        self.removal, self.momentum, self.k, self.lr = removal, momentum, k, lr
        self.moving = np.zeros((ROWS, COLUMNS))
        self.due = np.zeros((ROWS, COLUMNS))
        self.params = as_vector(PARAMS).astype(np.float64)

    def sketch(self, vector):
        table = np.zeros((ROWS, COLUMNS))
        for j in range(ROWS):
            for i in range(N):
                table[j, self.places[j, i]] += self.signs[j, i] * vector[i]
        return table

    def round(self, vectors):
        mean = np.average(vectors, axis=0, weights=SIZES)
        self.moving = self.momentum * self.moving + self.sketch(mean)
        self.due = self.due + self.moving
        estimates = np.array(
            [
                np.median(
                    [
                        self.signs[j, i] * self.due[j, self.places[j, i]]
                        for j in range(ROWS)
                    ]
                )
                for i in range(N)
            ]
        )
        heavy = np.argsort(-np.abs(estimates), kind="stable")[: self.k]
        update = np.zeros(N)
        update[heavy] = estimates[heavy]
        if self.removal == "zero":
            for j in range(ROWS):
                for i in heavy:
                    self.due[j, self.places[j, i]] = 0
                    self.moving[j, self.places[j, i]] = 0
        else:
            self.due = self.due - self.sketch(update)
        self.params = self.params + self.lr * update


@pytest.mark.parametrize(
    ("removal", "momentum", "lr"), [("zero", 0.9, 1.0), ("subtract", 0.5, 0.25)]
)
def test_three_rounds_equal_the_paper_with_loops(removal, momentum, lr):
    plain = Plain(removal, momentum, 4, lr)
    options = {"removal": removal, "momentum": momentum, "optimizer": f"fedavg({lr})"}
    server = None
    for number in range(3):
        algorithm, done = one_round(number, server, **options)
        server = done.server
        plain.round(vectors_of(number))
        found = params_of(algorithm, server)
        np.testing.assert_allclose(found, plain.params, atol=1e-5)
        np.testing.assert_allclose(server.error, plain.due, atol=1e-5)
        np.testing.assert_allclose(server.momentum, plain.moving, atol=1e-5)
    assert np.any(plain.due)


def test_the_server_gets_the_sketch_of_the_weighted_sum():
    """Sketches are summed, not what they decode to; all under the same hashes."""
    _, done = one_round(0, None)
    weighted = sum(n * v for n, v in zip(SIZES, vectors_of(0), strict=True))
    expected = sketch(jnp.asarray(weighted), root_key(0), ROWS, COLUMNS)
    np.testing.assert_allclose(done.acc.sent.total, expected, atol=1e-5)
    assert float(done.acc.sent.weight) == 6
    for report in done.reports:
        assert int(wire.bits(report.payload)) == 32 * ROWS * COLUMNS
        assert report.state == ((), ())


def test_a_round_changes_k_elements_and_the_heavy_ones_first():
    algorithm, done = one_round(0, None, fraction=0.005)
    moved = params_of(algorithm, done.server) - as_vector(PARAMS)
    assert np.flatnonzero(moved).tolist() == [3, 17]
    np.testing.assert_allclose(moved[[3, 17]], [4, -3], atol=1)


def test_two_elements_in_cells_of_their_own_arrive_exactly():
    """And nothing is left of them: the tables are empty afterwards."""
    vector = np.zeros(N, np.float32)
    vector[[3, 17]] = [4.0, -3.0]
    algorithm = build(given([vector] * 3), fraction=0.005)
    report, told = report_of(algorithm), client_told(PARAMS).decoding
    server = begun(algorithm, PARAMS)
    acc, _ = algorithm.reduce(server, report.payload, report.weight, (), told)
    server = algorithm.server(server, acc, server_told(PARAMS))
    moved = params_of(algorithm, server) - as_vector(PARAMS)
    np.testing.assert_allclose(moved, vector, atol=1e-5)
    assert not np.any(server.error)
    assert not np.any(server.momentum)


def test_the_uplink_compresses_the_table():
    """In 16 bits: half as long, and what arrives is averaged."""
    _, done = one_round(0, None, "cast(bfloat16)")
    assert int(wire.bits(done.reports[0].payload)) == 16 * ROWS * COLUMNS
    _, exact = one_round(0, None)
    difference = np.abs(done.acc.sent.total - exact.acc.sent.total).max()
    assert 0 < difference < 2.0**-8 * 6 * 8  # weights, and cells below 8


def test_hashes_follow_from_the_seed_alone():
    same = [one_round(0, None, seed=s)[1].acc.sent.total for s in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert (np.asarray(same[0]) != np.asarray(same[2])).any()


def test_a_broken_update_is_reported():
    bad = updates(0, 0)
    bad[5] = np.nan
    assert not bool(report_of(build(given([bad] * 3))).ok)


def test_a_table_is_a_fifth_of_the_parameters_by_default():
    algorithm = build(given(vectors_of(0)), rows=1, columns=0)
    server = begun(algorithm, PARAMS)
    assert server.error.shape == (1, 80)
    with pytest.raises(InputError, match=r"5 x 80 cells .* 400 .* at most 79"):
        begun(build(given(vectors_of(0)), columns=80), PARAMS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 2}, "rows must be odd"),
        ({"columns": -1}, "columns must be"),
        ({"fraction": 0.0}, "fraction must be"),
        ({"momentum": 1.0}, "momentum must be"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        build(given(vectors_of(0)), **options)
