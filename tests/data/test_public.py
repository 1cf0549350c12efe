"""Rows that no client has: taken from clients, from elsewhere, or made up."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError, SpecError
from fedjax_compress.typing import Task


def made(rows=20, clients=None, dtype=np.float32, classes=3):
    rng = np.random.default_rng(1)
    features = (np.arange(rows * 2).reshape(rows, 2) % 250).astype(dtype)
    labels = rng.integers(0, classes, rows).astype(np.int32)
    columns = {"features": features, "labels": labels}
    ids = None if clients is None else np.asarray(clients, np.int32)
    return Dataset("made", Task((2,), classes), columns, ids, columns)


def taken(text, dataset, seed=0):
    return registry.build("public", text)(dataset, np.random.default_rng(seed))


def test_held_out_rows_are_gone_from_clients():
    whole = made()
    left, public = taken("held_out(0.25)", whole)
    assert set(public) == {"features"}
    assert len(public["features"]) == 5
    rows = [*public["features"][:, 0], *left.train["features"][:, 0]]
    assert sorted(rows) == sorted(whole.train["features"][:, 0])
    assert left.test is whole.test


def test_labels_are_public_only_where_one_says_so():
    whole = made()
    left, public = taken("held_out(0.25, labels=true)", whole)
    for row, label in zip(public["features"], public["labels"], strict=True):
        place = int(np.flatnonzero(whole.train["features"][:, 0] == row[0])[0])
        assert whole.train["labels"][place] == label
    assert len(left.train["labels"]) == 15


@pytest.mark.parametrize("seed", range(5))
def test_every_client_keeps_a_row(seed):
    clients = [0] * 1 + [1] * 2 + [2] * 17
    left, _ = taken("held_out(0.8)", made(clients=clients), seed)
    assert set(left.train_clients) == {0, 1, 2}
    assert len(left.train_clients) == 4
    with pytest.raises(InputError, match="18 of 20 rows would be public, and at most"):
        taken("held_out(0.9)", made(clients=clients), seed)


def test_the_rows_follow_from_the_seed():
    one, again, other = (
        taken("held_out(0.5)", made(), seed)[1]["features"] for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_noise_looks_like_the_data():
    """Uniform whole numbers: of 8,000, mean within 5 standard errors (72 / 89) of the
    middle; a false alarm in 1.7 million. Normal ones: likewise, at each place."""
    dataset, public = taken("noise(4000)", made(dtype=np.uint8))
    assert set(public) == {"features"}
    drawn = public["features"]
    assert (drawn.dtype, drawn.shape) == (np.uint8, (4000, 2))
    assert (drawn.min(), drawn.max()) == (0, 39)
    assert abs(drawn.mean() - 19.5) < 5 * 11.5 / np.sqrt(8000)
    real = taken("noise(4000)", made())[1]["features"]
    wanted = made().train["features"]
    error = wanted.std(0) / np.sqrt(4000)
    assert (np.abs(real.mean(0) - wanted.mean(0)) < 5 * error).all()
    assert dataset.train["features"].dtype == np.uint8


def test_a_source_of_other_rows(tmp_path):
    other = made(30, classes=2)
    path = tmp_path / "other.npz"
    np.savez(path, images=other.train["features"], labels=other.train["labels"])
    given = made()
    dataset, public = taken(f"source(npz(path='{path}', holdout=0.2), rows=9)", given)
    assert dataset is given
    assert public["features"].shape == (9, 2)
    assert set(np.unique(public["labels"])) <= {0, 1}
    fewer = made(classes=1)
    assert set(taken(f"source(npz(path='{path}'))", fewer)[1]) == {"features"}


def test_rows_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "bytes.npz"
    np.savez(path, images=np.zeros((9, 2), np.uint8), labels=np.arange(9) % 3)
    with pytest.raises(
        InputError, match=r"features of uint8 \[2\], those of made of f"
    ):
        taken(f"source(npz(path='{path}'))", made())
    with pytest.raises(InputError, match="has 8 rows, fewer than 50"):
        taken(f"source(npz(path='{path}'), rows=50)", made(dtype=np.uint8))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("held_out(0.0)", "share must lie between 0 and 1, not 0"),
        ("held_out(1.0)", "share must lie between 0 and 1, not 1"),
        ("noise(0)", "rows must be at least 1, not 0"),
        ("source(npz(path=x), rows=-1)", "rows must not be negative"),
        ("source(nzp(path=x))", "did you mean 'npz'"),
        ("source(npz(pth=x))", "no option 'pth'"),
        ("source(digits | digits)", "must be a data"),
        ("source(3)", "must be a data, not 3"),
    ],
)
def test_what_cannot_be_is_said_with_a_caret(text, words):
    with pytest.raises(SpecError, match=words):
        registry.build("public", text)


def test_a_spec_inside_may_stand_in_quotes():
    left, public = taken("source('digits')", registry.build("data", "digits"))
    assert public["features"].shape == left.train["features"].shape
