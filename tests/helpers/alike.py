"""Two data sets that must hold the same: what is predicted, columns and clients."""

from __future__ import annotations

import numpy as np

from fedjax_compress.data import Dataset


def assert_alike(one: Dataset, other: Dataset) -> None:
    """Everything but the name is equal, to the bit and the dtype."""
    assert one.task == other.task
    pairs = [
        (one.train_clients, other.train_clients),
        (one.test_clients, other.test_clients),
    ]
    for a, b in ((one.train, other.train), (one.test, other.test)):
        assert a.keys() == b.keys()
        pairs += [(a[name], b[name]) for name in a]
    for a, b in pairs:
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
