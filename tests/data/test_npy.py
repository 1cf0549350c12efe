"""A folder of .npy files: the run of the same rows in memory, and nothing copied."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.clients import group
from fedjax_compress.data import npy
from fedjax_compress.data.values import pieces
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, build, fingerprint, run
from fedjax_compress.typing import Task

ROWS, TEST_ROWS, CLIENTS = 120, 30, 6


def columns_of(features, seed=3):
    """Train and test columns; client ids have gaps and stand in no order."""
    rng = np.random.default_rng(seed)
    return {
        "features": features,
        "labels": rng.integers(0, 3, ROWS).astype(np.uint8),
        "clients": rng.permutation(np.arange(ROWS) % CLIENTS) * 10 + 5,
        "test_features": features[:TEST_ROWS],
        "test_labels": (np.arange(TEST_ROWS) % 3).astype(np.uint8),
        "test_clients": np.arange(TEST_ROWS) % (CLIENTS + 1) * 10 + 5,
    }


@pytest.fixture
def columns():
    return columns_of(np.random.default_rng(2).integers(0, 256, (ROWS, 4, 5), np.uint8))


@pytest.fixture
def save(tmp_path):
    def write(columns, name="rows"):
        folder = tmp_path / name
        folder.mkdir()
        for column, values in columns.items():
            np.save(folder / f"{column}.npy", values)
        return folder

    return write


def build_data(folder, options=""):
    return registry.build("data", f"npy('{folder}'{options})")


def sorted_by_client(columns):
    order = np.argsort(columns["clients"], kind="stable")
    train = {k: columns[k][order] for k in ("features", "labels", "clients")}
    return columns | train


def as_npz(columns, folder):
    """The data setting that reads the same rows from .npz files."""
    train = {k: v for k, v in columns.items() if not k.startswith("test_")}
    test = {k[5:]: v for k, v in columns.items() if k.startswith("test_")}
    np.savez(folder / "train.npz", **train)
    np.savez(folder / "test.npz", **test)
    where = f"'{folder}/train.npz', test='{folder}/test.npz'"
    return f"npz({where}, features=features, client=clients)"


def test_columns_are_those_of_npz_and_features_stay_on_the_disk(
    save, columns, tmp_path
):
    data = build_data(save(columns))
    other = registry.build("data", as_npz(columns, tmp_path))
    assert data.name == "rows"
    assert data.task == other.task == Task((4, 5, 1), 3, scale=255.0)
    pairs = [
        (data.train_clients, other.train_clients),
        (data.test_clients, other.test_clients),
        *((data.train[name], other.train[name]) for name in data.train),
        *((data.test[name], other.test[name]) for name in data.test),
    ]
    assert len(pairs) == 6
    for one, two in pairs:
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    for features in (data.train["features"], data.test["features"]):
        assert isinstance(features, np.memmap)
    assert not isinstance(data.train["labels"], np.memmap)


def test_clients_are_optional_and_may_be_names(save, columns):
    for column in ("clients", "test_clients"):
        named = np.char.add("c", columns[column].astype(str))
        columns = columns | {column: named}
    assert build_data(save(columns, "named")).own_clients == CLIENTS
    known = {k: v for k, v in columns.items() if k != "test_clients"}
    assert build_data(save(known, "known")).test_clients is None
    plain = {k: v for k, v in known.items() if k != "clients"}
    assert build_data(save(plain, "plain")).train_clients is None


def test_tokens_and_their_labels_stay_on_the_disk(save, columns):
    tokens = np.arange(ROWS * 4, dtype=np.int32).reshape(ROWS, 4) % 7
    parts = {"features": tokens, "labels": tokens}
    columns = {k: v for k, v in columns.items() if "clients" in k}
    columns |= parts | {f"test_{k}": v[:TEST_ROWS] for k, v in parts.items()}
    folder = save(columns)
    data = build_data(folder, ", tokens=true")
    assert data.task == Task((4,), 7, tokens=True)
    assert isinstance(data.train["features"], np.memmap)
    assert isinstance(data.train["labels"], np.memmap)
    np.save(folder / "labels.npy", tokens.astype(np.int64))
    with pytest.raises(InputError, match=r"rows: labels of tokens are int64, .* int32"):
        build_data(folder, ", tokens=true")


@pytest.mark.parametrize(
    ("partition", "kind"),
    [
        pytest.param("natural", np.uint8, marks=pytest.mark.slow),
        ("natural sorted", np.float32),
        pytest.param("dirichlet", np.float32, marks=pytest.mark.slow),
    ],
)
def test_a_run_is_that_of_the_same_rows_in_memory_bit_for_bit(
    save, partition, kind, tmp_path
):
    rng = np.random.default_rng(4)
    columns = columns_of(rng.integers(0, 256, (ROWS, 4, 5)).astype(kind))
    if partition == "natural sorted":
        columns = sorted_by_client(columns)
    base = Config(
        data=f"npy('{save(columns)}')",
        partition=partition.split()[0],
        clients=CLIENTS,
        cohort=4,
        rounds=3,
        model="logistic",
        local="sgd(lr=0.01, epochs=2, batch=7)",
        uplink="error_feedback(top_k(0.2))",
        downlink="identity",
        lanes=2,
        devices=1,
        convolution="patches",
        evaluate_clients=partition == "natural sorted",
    )
    data = build.build(base).data
    assert isinstance(data.columns["features"], np.memmap)
    assert (data.rows is None) == (partition == "natural sorted")
    mapped = run(base, tmp_path / "mapped", quiet=True)
    resident = dataclasses.replace(base, data=as_npz(columns, tmp_path))
    resident = run(resident, tmp_path / "resident", quiet=True)
    assert mapped["parameters_sha256"] == resident["parameters_sha256"]
    scores = {k: v for k, v in mapped.items() if "accuracy" in k or "loss" in k}
    assert scores
    assert scores == {k: resident[k] for k in scores}


def test_rows_that_stand_by_client_are_taken_as_they_stand(save, columns):
    """Unused rows in front are cut off; a gap needs a list of rows."""
    data = build_data(save(sorted_by_client(columns)))
    features, labels = data.train["features"], data.train["labels"]
    for front in (0, 7):
        assignment = np.where(np.arange(ROWS) < front, -1, data.train_clients)
        found = group(data.train, assignment, CLIENTS)
        assert found.rows is None
        assert isinstance(found.columns["features"], np.memmap)
        assert np.may_share_memory(found.columns["features"], features)
        np.testing.assert_array_equal(found.columns["features"], features[front:])
        np.testing.assert_array_equal(found.columns["labels"], labels[front:])
        assert found.offsets[-1] == ROWS - front
    gap = np.where(data.train_clients == 2, -1, data.train_clients)
    found = group(data.train, gap, CLIENTS)
    assert found.rows.dtype == np.int32
    assert found.columns["features"] is features
    np.testing.assert_array_equal(found.rows, np.flatnonzero(gap >= 0))


def test_listed_rows_are_those_that_memory_would_hold(save, columns):
    data = build_data(save(columns))
    assignment = np.random.default_rng(1).integers(-1, CLIENTS, ROWS).astype(np.int32)
    listed = group(data.train, assignment, CLIENTS)
    loaded = {name: np.asarray(column) for name, column in data.train.items()}
    copied = group(loaded, assignment, CLIENTS)
    assert copied.rows is None
    assert not isinstance(copied.columns["features"], np.memmap)
    np.testing.assert_array_equal(listed.offsets, copied.offsets)
    for name, column in copied.columns.items():
        np.testing.assert_array_equal(listed.columns[name][listed.rows], column)


def test_the_fingerprint_sees_who_owns_a_listed_row(save, columns):
    """Swapping two rows of two clients changes nothing but the list."""
    config = Config(
        data=f"npy('{save(columns)}')", partition="natural", cohort=2, model="logistic"
    )
    parts = build.build(config)
    rows = np.array(parts.data.rows)
    rows[[0, -1]] = rows[[-1, 0]]
    other = parts._replace(data=dataclasses.replace(parts.data, rows=rows))
    assert fingerprint.digest(parts) != fingerprint.digest(other)


def test_pieces_are_the_array_and_far_smaller():
    array = np.broadcast_to(np.arange(5000, dtype=np.uint8)[:, None], (5000, 3000))
    starts, parts = zip(*pieces(array), strict=True)
    assert len(parts) == -(-5000 // (2**22 // 3000))
    assert list(starts) == list(np.cumsum([0, *map(len, parts)])[:-1])
    assert all(part.size <= 2**22 for part in parts)
    np.testing.assert_array_equal(np.concatenate([p[:, 0] for p in parts]), array[:, 0])


def test_a_bad_value_in_a_late_piece_is_named(save, columns):
    """Rows of 2**21 elements stand two in a piece."""
    wide = np.zeros((5, 2**21), np.float32)
    wide[3, 7] = np.inf
    wide[4, 0] = np.nan
    columns = {"features": wide, "labels": np.zeros(5, np.int32)}
    columns |= {"test_features": wide[:1], "test_labels": np.zeros(1, np.int32)}
    with pytest.raises(InputError, match=r"2 rows .* not finite, first row 3 \(inf\)"):
        build_data(save(columns, "wide"))
    tokens = np.zeros((5, 2**21), np.int32)
    tokens[3:, 7] = 9, -1
    columns |= {"features": tokens, "labels": np.zeros_like(tokens)}
    columns |= {"test_features": tokens[:1], "test_labels": tokens[:1]}
    with pytest.raises(
        InputError, match=r"token 9 in row 3 lies outside 0\.\.4 \(2 such"
    ):
        build_data(save(columns, "long"), ", tokens=true, classes=5")


WRONG = {
    "labels are missing": ({"labels": None}, r"has no labels\.npy; needed are"),
    "no test part": ({"test_features": None}, r"has no test_features\.npy; needed"),
    "ids of the test part only": ({"clients": None}, r"but no clients\.npy"),
    "fewer labels": ({"labels": np.zeros(9)}, "120 rows of features but 9 labels"),
    "fewer ids": ({"clients": np.zeros(9)}, r"must have shape \(120,\), not \(9,\)"),
    "one value": ({"labels": np.int32(3)}, "a single value, not rows"),
    "no rows": ({"features": np.zeros((0, 2), np.uint8)}, "no rows"),
    "flat": ({"features": np.zeros(ROWS, np.uint8)}, r"shape \[rows, \.\.\.\]"),
    "doubles": (
        {"features": np.zeros((ROWS, 2))},
        "features are float64, but .* uint8 or float32; convert them with astype",
    ),
    "foreign bytes": ({"features": np.zeros((ROWS, 2), ">f4")}, "features are >f4"),
    "labels with fractions": ({"labels": np.full((ROWS, 2), 0.5)}, "labels have shape"),
    "labels of words": ({"labels": np.full(ROWS, "a")}, "labels must be integers"),
    "negative labels": ({"labels": np.full(ROWS, -1)}, "label -1 in row 0"),
    "two labels a row": ({"labels": np.zeros((ROWS, 2))}, r"labels have shape"),
    "other images": (
        {"test_features": np.zeros((TEST_ROWS, 9, 9), np.uint8)},
        r"test part: one example has shape \(9, 9, 1\), expected \(4, 5, 1\)",
    ),
    "objects": ({"clients": np.full(ROWS, None)}, "clients.npy holds Python objects"),
    "not finite": (
        {
            "features": np.full((ROWS, 4), np.nan, np.float32),
            "test_features": np.zeros((TEST_ROWS, 4), np.float32),
        },
        "120 rows have features that are not finite",
    ),
    "columns first": (
        {"features": np.asfortranarray(np.zeros((ROWS, 9), np.uint8))},
        r"features\.npy is stored column by column",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_one_line(case, save, columns):
    changes, message = WRONG[case]
    columns |= changes
    folder = save({k: v for k, v in columns.items() if v is not None})
    with pytest.raises(InputError, match=message) as caught:
        npy(str(folder))
    assert "\n" not in str(caught.value)


def test_folders_and_files_that_are_none(save, columns, tmp_path):
    with pytest.raises(InputError, match=r"folder '.*/nowhere' does not exist"):
        npy(str(tmp_path / "nowhere"))
    folder = save(columns)
    with pytest.raises(InputError, match=r"is a file, but npy reads a folder"):
        npy(str(folder / "labels.npy"))
    whole = (folder / "labels.npy").read_bytes()
    for content in (b"", b"no array at all", whole[:-5]):
        (folder / "labels.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"labels\.npy cannot be read as") as found:
            npy(str(folder))
        assert "\n" not in str(found.value)
