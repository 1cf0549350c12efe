"""The real sets kept beside the repository load, with the published counts."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.clients import group


def build(text):
    return registry.build("data", text)


def natural(data, clients=0):
    rng = np.random.default_rng(0)
    return registry.build("partition", "natural")(data, clients, rng)


def test_mnist_by_its_539_writers(shared):
    folder = shared / "mnist"
    data = build(f"npz('{folder}/train.npz', client=writers, test='{folder}/test.npz')")
    assert data.task.shape == (28, 28, 1)
    assert data.task.classes == 10
    assert data.train["features"].shape == (60_000, 28, 28, 1)
    assert data.test["features"].shape == (10_000, 28, 28, 1)
    assert data.test_clients is None  # 297 other writers
    grouped = group(data.train, natural(data), 539)
    assert grouped.clients == 539
    assert (grouped.sizes.min(), np.median(grouped.sizes)) == (19, 116)
    assert grouped.sizes.max() == 131
    assert grouped.columns["features"].dtype == np.uint8
    # the published count of ones in the 60,000 training labels
    assert np.bincount(data.train["labels"])[1] == 6742


def test_femnist_by_105_writers_with_their_own_test_rows(shared):
    path = shared / "femnist" / "writers_105.npz"
    data = build(f"npz('{path}', client=writers, test_column=is_test)")
    assert data.task.classes == 62
    assert len(data.train["labels"]) == 14_708
    assert len(data.test["labels"]) == 1_685
    train, test = np.bincount(data.train_clients), np.bincount(data.test_clients)
    assert len(train) == len(test) == 105
    assert (train.min(), train.max()) == (4, 165)
    assert (train + test).min() == 5
    assert (train + test).max() == 184
    assert np.median(train + test) == 169


def test_fashion_mnist_has_6000_of_each(shared):
    folder = shared / "fashion_mnist"
    data = build(f"npz('{folder}/train.npz', test='{folder}/test.npz')")
    assert np.bincount(data.train["labels"]).tolist() == [6000] * 10
    assert np.bincount(data.test["labels"]).tolist() == [1000] * 10
    assert data.train_clients is None


def test_cifar10_has_5000_of_each(shared):
    data = build(f"cifar10('{shared / 'cifar10'}')")
    assert data.train["features"].shape == (50_000, 32, 32, 3)
    assert data.train["features"].dtype == np.uint8
    assert np.bincount(data.train["labels"]).tolist() == [5000] * 10
    assert np.bincount(data.test["labels"]).tolist() == [1000] * 10
    # per-channel mean of the training pixels, as everybody normalises with
    mean = data.train["features"][:, ::4, ::4].reshape(-1, 3).mean(0) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=0.01)


def test_shakespeare_by_1355_roles(shared):
    data = build(f"text('{shared / 'shakespeare' / 'roles.json.xz'}')")
    assert data.own_clients == 1355
    assert len(np.unique(data.test_clients)) == 1127  # roles of two speeches or more
    scored = (data.train["labels"] != 0).sum() + (data.test["labels"] != 0).sum()
    # Every character and every end is scored once, and every begin but the first of a
    # role's part; joining lines cost nothing.
    assert scored == 4_272_956 + 2 * 30_920 - 1355 - 1127


def test_a_missing_writer_column_names_the_nearest(shared):
    path = shared / "femnist" / "writers_105.npz"
    with pytest.raises(ValueError, match="did you mean 'writers'"):
        build(f"npz('{path}', client=writer)")
