"""What holds for every registered partition: each row once, nobody empty, the
arguments alone decide."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.errors import InputError

VARIANTS = {
    "blocks": [""],
    "dirichlet": [
        "",
        "(alpha=0.01)",
        "(alpha=inf)",
        "(form=prior)",
        "(alpha=0.001, form=prior)",
        "(alpha=inf, form=prior)",
        "(alpha=1.0, form=rejection, min_size=2)",
        "(alpha=inf, form=rejection)",
        "(sizes=quantity(sigma=2.0))",
        "(alpha=0.01, form=prior, sizes=quantity(alpha=0.3))",
        "(by=client)",
    ],
    "iid": [""],
    "label_count": ["", "(classes=1)", "(classes=10)", "(by=client, classes=3)"],
    "natural": [""],
    "pathological": ["", "(classes=1)", "(classes=10)", "(by=client, classes=3)"],
    "quantity": ["", "(sigma=0.0)", "(sigma=3.0)", "(alpha=0.1)"],
    "shards": ["", "(per_client=5)", "(by=client)"],
}
EVERY = [f"{name}{options}" for name, found in VARIANTS.items() for options in found]
OWN = 12
FEWEST = {
    "label_count": 10,
    "label_count(classes=1)": 10,
    "label_count(classes=10)": 10,
    "label_count(by=client, classes=3)": 12,
    "pathological": 5,
    "pathological(classes=1)": 10,
    "pathological(by=client, classes=3)": 4,
}
"""Clients that there must be for all ten labels, or twelve own clients."""
MAY_LEAVE_ROWS = {"natural"}
DRAWS_NOTHING = {"blocks", "natural"}
"""Where all of the data's own clients take part."""


def assign(text, data, clients, seed=0):
    return registry.build("partition", text)(data, clients, np.random.default_rng(seed))


def name_of(text):
    return text.partition("(")[0]


@pytest.fixture
def owned(make):
    """rows -> data of ten labels, unequally many of each, and twelve own clients."""

    def build(rows):
        labels = np.random.default_rng(5).permutation(np.arange(rows)) % 55
        labels = np.searchsorted(np.cumsum(np.arange(1, 10)), labels, side="right")
        return make(labels=labels, clients=(np.arange(rows) * OWN // rows).astype("i4"))

    return build


def test_every_registered_partition_is_here():
    ours = {n for n, e in registry.entries("partition").items() if e.is_ours}
    assert set(VARIANTS) == ours


@pytest.mark.parametrize(
    ("text", "rows", "clients"),
    [
        (text, rows, clients)
        for text in EVERY
        for rows, clients in ((600, 12), (613, 7), (600, 1))
        if clients >= FEWEST.get(text, 1)
    ],
)
def test_every_row_has_one_owner_and_every_client_a_row(owned, text, rows, clients):
    got = assign(text, owned(rows), clients)
    assert got.dtype == np.int32
    assert got.shape == (rows,)
    leaves = name_of(text) in MAY_LEAVE_ROWS and clients < OWN
    assert got.min() == (-1 if leaves else 0)
    assert len(np.unique(got[got >= 0])) == clients == got.max() + 1


@pytest.mark.parametrize("text", EVERY)
def test_the_arguments_alone_decide(owned, text):
    """Not what numpy draws elsewhere; and the data are left as they are."""
    data = owned(600)
    before = {n: x.copy() for n, x in data.train.items()}
    clients = 5 if name_of(text) == "natural" else OWN
    build = registry.build("partition", text)
    got = build(data, clients, np.random.default_rng(3))
    np.random.seed(7)
    state = np.random.get_state()[1].copy()
    again = build(data, clients, np.random.default_rng(3))
    np.testing.assert_array_equal(got, again)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(got, assign(text, owned(600), clients, 3))
    for name, column in before.items():
        np.testing.assert_array_equal(data.train[name], column)


@pytest.mark.parametrize("text", EVERY)
def test_another_seed_gives_another_partition(owned, text):
    data = owned(600)
    same = (assign(text, data, OWN) == assign(text, data, OWN, seed=1)).all()
    assert same == (name_of(text) in DRAWS_NOTHING)


@pytest.mark.parametrize("text", EVERY)
def test_more_clients_than_there_can_be_are_refused(owned, text):
    own = name_of(text) in ("natural", "blocks")
    words = "has 12 clients of its own, not" if own else "cannot share the 600|positive"
    for wrong in (601, -1):
        with pytest.raises(InputError, match=words) as error:
            assign(text, owned(600), wrong)
        assert "\n" not in str(error.value)
