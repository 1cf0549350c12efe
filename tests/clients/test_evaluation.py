"""Which test rows measure which client."""

from __future__ import annotations

import numpy as np
from rows import changed

from fedjax_compress import registry
from fedjax_compress.clients import share_test_rows
from fedjax_compress.typing import Task


def test_test_rows_follow_their_natural_client(make):
    own = (np.arange(600) // 50).astype(np.int32)
    theirs = np.array([0, 3, -1, 11] * 5, np.int32)
    data = make(600, clients=own, test_clients=theirs)
    rng = np.random.default_rng(0)
    all_of_them = registry.build("partition", "natural")(data, 0, rng)
    np.testing.assert_array_equal(share_test_rows(data, all_of_them, 12, rng), theirs)
    some = registry.build("partition", "natural")(data, 5, rng)
    got = share_test_rows(data, some, 5, rng)
    for row, client in enumerate(theirs):
        want = -1 if client < 0 else some[own == client][0]
        assert got[row] == want


def test_otherwise_a_client_is_tested_on_the_labels_it_trains_on(make):
    """Client k trains on label k alone, so it must get exactly its test rows; a class
    nobody trains on measures nobody."""
    data = make(600, 10)
    assignment = np.where(data.train["labels"] < 8, data.train["labels"], -1)
    got = share_test_rows(
        data, assignment.astype(np.int32), 8, np.random.default_rng(0)
    )
    want = np.where(data.test["labels"] < 8, data.test["labels"], -1)
    np.testing.assert_array_equal(got, want)


def test_shares_are_in_proportion_to_training_rows(make):
    """One class, clients own 3/4 and 1/4: binomial with n = 4,000, sd 27.4; six sd."""
    data = make(labels=np.zeros(400, int), classes=2)
    data = changed(data, test_labels=np.zeros(4000, np.int32))
    assignment = (np.arange(400) >= 300).astype(np.int32)
    got = share_test_rows(data, assignment, 2, np.random.default_rng(0))
    assert abs((got == 0).sum() - 3000) < 6 * 27.4


def test_torn_clients_and_sequences_fall_back_to_shares(make):
    own = (np.arange(600) // 50).astype(np.int32)
    data = make(600, clients=own, test_clients=np.zeros(20, np.int32))
    rng = np.random.default_rng(0)
    torn = registry.build("partition", "iid")(data, 6, rng)
    assert len(set(share_test_rows(data, torn, 6, rng).tolist())) > 1
    sequences = changed(
        data,
        task=Task((4,), 10, target="positions"),
        train_labels=np.zeros((600, 4), np.int32),
        test_labels=np.zeros((20, 4), np.int32),
        test_clients=None,
    )
    assert (share_test_rows(sequences, torn, 6, rng) >= 0).all()
