"""Ragged columns: nothing is padded, nothing lost, each client finds its rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.clients import ClientData, describe, group
from fedjax_compress.errors import InputError


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    assignment = rng.integers(-1, 6, 50).astype(np.int32)
    assignment[assignment == 4] = 5  # client 4 has no row
    features = np.arange(50, dtype=np.uint8).reshape(50, 1)
    labels = np.arange(50, dtype=np.int32)
    return {"features": features, "labels": labels}, assignment


def test_rows_are_sorted_by_client_and_keep_their_order(data):
    columns, assignment = data
    grouped = group(columns, assignment, 6)
    assert grouped.clients == 6
    assert grouped.columns["features"].dtype == np.uint8
    assert len(grouped.columns["labels"]) == (assignment >= 0).sum()
    for client in range(6):
        start, end = grouped.offsets[client : client + 2]
        mine = np.flatnonzero(assignment == client)
        np.testing.assert_array_equal(grouped.columns["labels"][start:end], mine)
        np.testing.assert_array_equal(grouped.columns["features"][start:end, 0], mine)
    np.testing.assert_array_equal(
        grouped.sizes, np.bincount(assignment[assignment >= 0], minlength=6)
    )


def test_shards_under_jit_and_vmap_hold_the_rows_of_their_client(data):
    columns, assignment = data
    grouped = group(columns, assignment, 6)
    largest = int(grouped.sizes.max())
    resident = jax.tree.map(jnp.asarray, grouped)

    @jax.jit
    def read(resident, clients):
        def one(client):
            shard = resident.shard(client, largest)
            index = jnp.arange(largest)
            return shard.size, shard.take(index, index < shard.size)

        return jax.vmap(one)(clients)

    sizes, batch = read(resident, jnp.arange(7))
    np.testing.assert_array_equal(sizes, [*grouped.sizes, 0])  # 6 is the dummy
    assert batch.columns["features"].dtype == jnp.uint8
    for client in range(7):
        real = np.asarray(batch.mask[client]) == 1
        mine = np.flatnonzero(assignment == client)
        np.testing.assert_array_equal(
            np.asarray(batch.columns["labels"][client])[real], mine
        )


def test_ids_out_of_range_and_lengths_that_differ_are_refused(data):
    columns, assignment = data
    with pytest.raises(InputError, match=r"client id 5 lies outside 0\.\.3"):
        group(columns, assignment, 4)
    with pytest.raises(InputError, match="50 rows of features but 49 labels"):
        group(columns | {"labels": columns["labels"][1:]}, assignment, 6)


def test_describe_gives_the_spread_in_one_line():
    assert describe(np.array([3, 4, 5])) == (
        "3 clients, 12 rows, 3 to 5, median 4 each"
    )
    assert describe(np.full(1000, 2)) == "1,000 clients, 2,000 rows, 2 each"


def test_clients_can_share_a_pool_of_rows():
    rows = np.array([3, 1, 1, 0, 2, 3], np.int32)
    pool = ClientData(
        {"features": np.arange(4, dtype=np.uint8), "labels": np.arange(4) * 10},
        np.array([0, 2, 6]),
        rows,
    )
    assert pool.clients == 2
    np.testing.assert_array_equal(pool.sizes, [2, 4])
    for client, own in enumerate(([3, 1], [1, 0, 2, 3])):
        shard = pool.shard(jnp.asarray(client), 4)
        batch = shard.take(jnp.arange(4), jnp.arange(4) < shard.size)
        np.testing.assert_array_equal(batch.columns["features"][: len(own)], own)
        np.testing.assert_array_equal(
            batch.columns["labels"][: len(own)], np.array(own) * 10
        )
        assert batch.mask.sum() == len(own)


@pytest.mark.parametrize(
    ("owners", "words"),
    [
        (np.zeros(50), r"whole numbers, .* not float64\[50\]"),
        (np.zeros(50, bool), "whole numbers"),
        (np.zeros((50, 1), np.int32), r"one client id for each row, \[50\], not int32"),
        (np.zeros(49, np.int32), r"\[50\], not int32\[49\]"),
        (np.full(50, -2), "or -1 for a row that nobody has, not -2"),
    ],
)
def test_owners_are_whole_numbers_one_a_row(data, owners, words):
    columns, _ = data
    with pytest.raises(InputError, match=words):
        group(columns, owners, 6)
