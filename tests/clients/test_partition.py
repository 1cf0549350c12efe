"""Partitions without draws of labels: iid, shards, quantity, the data's own clients."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.errors import InputError


def assign(text, data, clients, seed=0):
    return registry.build("partition", text)(data, clients, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "text", ["iid", "dirichlet", "shards", "quantity", "pathological", "label_count"]
)
def test_zero_clients_means_a_hundred(make, text):
    assert assign(text, make(1000), 0).max() == 99


def test_iid_sizes_differ_by_one_and_labels_are_not_skewed(make):
    data = make(6000, 2)
    got = assign("iid", data, 7)
    assert set(np.bincount(got)) == {857, 858}
    # Hypergeometric count of label 0 for a client with n = 857: sd 13.5. Six sd for
    # seven clients: false alarm below 2e-8.
    ones = np.bincount(got, weights=data.train["labels"])
    assert (abs(ones - np.bincount(got) / 2) < 6 * 13.6).all()


def test_shards_of_mcmahan_give_each_client_two_pieces_of_the_sorted_data(make):
    rng = np.random.default_rng(3)
    data = make(labels=rng.permutation(np.repeat(np.arange(10), 600)))
    got = assign("shards", data, 100)
    assert (np.bincount(got) == 60).all()
    by_label = got[np.argsort(data.train["labels"], kind="stable")].reshape(200, 30)
    assert (by_label == by_label[:, :1]).all()  # 200 whole shards of 30 rows
    assert (np.bincount(by_label[:, 0]) == 2).all()
    labels = [len(np.unique(data.train["labels"][got == c])) for c in range(100)]
    assert max(labels) <= 2


def test_too_many_shards_are_refused(make):
    with pytest.raises(InputError, match="300 clients with 3 shards each need 900"):
        assign("shards(per_client=3)", make(600), 300)


def test_quantity_sizes_follow_their_law(make):
    """Sizes minus one are proportional to lognormal weights.

    n = 2,000 clients, 10**6 rows: the standard deviation of log(size - 1) estimates
    sigma = 1 with standard error 1 / sqrt(2 n) = 0.0158, rounding adds less than
    0.01. Threshold 6 standard errors + 0.01: false alarm below 1e-8.
    """
    data = make(1_000_000, 2)
    sizes = np.bincount(assign("quantity(sigma=1.0)", data, 2000))
    assert sizes.sum() == 1_000_000
    assert abs(np.std(np.log(np.maximum(sizes - 1, 0.5))) - 1) < 6 * 0.0158 + 0.01
    equal = np.bincount(assign("quantity(sigma=0.0)", data, 3000))
    assert equal.max() - equal.min() <= 1


def test_quantity_keeps_one_row_for_the_poorest(make):
    sizes = np.bincount(assign("quantity(sigma=6.0)", make(600), 500))
    assert len(sizes) == 500
    assert sizes.min() == 1


def test_natural_takes_the_clients_of_the_data(make):
    own = (np.arange(600) // 50).astype(np.int32)
    data = make(600, clients=own)
    np.testing.assert_array_equal(assign("natural", data, 0), own)
    np.testing.assert_array_equal(assign("natural", data, 12), own)


def test_natural_draws_some_clients_and_leaves_the_others_out(make):
    own = (np.arange(600) // 50).astype(np.int32)
    got = assign("natural", make(600, clients=own), 5)
    assert set(got) == {-1, 0, 1, 2, 3, 4}
    assert (got >= 0).sum() == 5 * 50
    chosen = [np.unique(own[got == c]) for c in range(5)]
    assert all(len(c) == 1 for c in chosen)
    assert sorted(c[0] for c in chosen) == [c[0] for c in chosen]
    other = assign("natural", make(600, clients=own), 5, seed=1)
    assert (got != other).any()


def test_blocks_merge_consecutive_clients(make):
    """12 as 5: two each, and the last four; 13 cannot be had."""
    own = (np.arange(600) // 50).astype(np.int32)
    data = make(600, clients=own)
    np.testing.assert_array_equal(assign("blocks", data, 5), np.minimum(own // 2, 4))
    np.testing.assert_array_equal(assign("blocks", data, 0), own)
    with pytest.raises(InputError, match="has 12 clients of its own, not 13"):
        assign("blocks", data, 13)
    with pytest.raises(InputError, match="no clients of its own"):
        assign("blocks", make(), 5)


def test_natural_needs_clients_and_cannot_invent_more(make):
    with pytest.raises(InputError, match="no clients of its own; use iid"):
        assign("natural", make(), 0)
    own = (np.arange(600) // 50).astype(np.int32)
    with pytest.raises(InputError, match="has 12 clients of its own, not 13"):
        assign("natural", make(600, clients=own), 13)


def test_an_empty_client_is_counted_and_the_cure_is_named(make):
    own = np.where(np.arange(600) < 300, 0, 3).astype(np.int32)
    with pytest.raises(InputError, match=r"^2 of 4 clients would be empty; \w+"):
        assign("natural", make(600, clients=own), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dirichlet(alpha=0)", "alpha must be above 0, not 0.0"),
        ("dirichlet(form=lda)", "form cannot be 'lda'"),
        ("dirichlet(min_size=0)", "at least 1"),
        ("shards(per_client=0)", "per_client must be at least 1"),
        ("quantity(sigma=-1)", "sigma must be 0 to 100, not -1.0"),
        ("quantity(sigma=600)", "sigma must be 0 to 100, not 600.0"),
        ("quantity(alpha=0)", "alpha must be above 0"),
        ("pathological(classes=0)", "classes must be at least 1, not 0"),
        ("label_count(classes=0)", "classes must be at least 1, not 0"),
        ("dirichlet(form=rejection, sizes=iid)", "form=rejection has sizes of its own"),
        ("dirichlet(sizes=quantiti)", "did you mean 'quantity'"),
        ("dirichlet(sizes=quantity(sigma=-1))", "sigma must be 0 to 100"),
        ("dirichlett", "did you mean 'dirichlet'"),
    ],
)
def test_wrong_options_are_refused_by_name(text, message):
    with pytest.raises(InputError, match=message):
        registry.build("partition", text)
