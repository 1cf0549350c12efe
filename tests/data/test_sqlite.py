"""Databases of FedJAX and of TensorFlow Federated, as these projects write them."""

from __future__ import annotations

import json
import lzma
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from databases import assert_same, fedjax_database, tff_database

from fedjax_compress import registry
from fedjax_compress.cli.commands import main
from fedjax_compress.data.characters import CHARACTERS
from fedjax_compress.errors import InputError

CLIENTS = ["f0_9", "f1_2", "g 3"]
COUNTS = [7, 5, 9]


@pytest.fixture
def columns():
    """Pictures in 0..1 by three clients, white paper as federated EMNIST has it."""
    rng = np.random.default_rng(4)
    rows = sum(COUNTS)
    return {
        "pixels": rng.random((rows, 8, 8), np.float32),
        "label": np.arange(rows, dtype=np.int32) % 4,
    }


def owners():
    return np.repeat(CLIENTS, COUNTS)


def by_client(columns):
    """Columns of each client, by the id as FedJAX keeps it."""
    ends = np.cumsum(COUNTS)[:-1]
    parts = {name: np.split(column, ends) for name, column in columns.items()}
    return {
        client.encode(): {name: part[i] for name, part in parts.items()}
        for i, client in enumerate(CLIENTS)
    }


def examples(split, columns, ids=None):
    ids = owners() if ids is None else ids
    for row, client in enumerate(ids):
        yield split, client, {name: column[row] for name, column in columns.items()}


def build(path, options="", source="sqlite"):
    return registry.build("data", f"{source}('{path}'{options})")


def arrays(path, columns, ids=None):
    names = {"pixels": "images", "image": "images", "label": "labels"}
    kept = {names.get(name, name): column for name, column in columns.items()}
    np.savez(path, **kept, client=owners() if ids is None else ids)
    return path


def test_fedjax_gives_what_the_arrays_give(tmp_path, columns):
    path = fedjax_database(tmp_path / "a b?#%.sqlite", by_client(columns))
    wanted = build(arrays(tmp_path / "a.npz", columns), ", client=client", "npz")
    found = build(path)
    assert_same(found, wanted)
    assert found.own_clients == 3
    assert found.task.shape == (8, 8, 1)
    options = ", holdout=0.3, scale=2.0, classes=9"
    wanted = build(tmp_path / "a.npz", f", client=client{options}", "npz")
    assert_same(build(path, options), wanted)


def test_fedjax_with_a_file_for_each_split(tmp_path, columns):
    clients = by_client(columns)
    clients[b"stranger"] = clients.pop(b"g 3")
    train = fedjax_database(tmp_path / "train.sqlite", by_client(columns))
    test = fedjax_database(tmp_path / "test.sqlite", clients)
    ids = np.where(owners() == "g 3", "stranger", owners())
    arrays(tmp_path / "train.npz", columns)
    other = arrays(tmp_path / "test.npz", columns, ids)
    wanted = build(
        tmp_path / "train.npz", f", client=client, test='{other}'", source="npz"
    )
    found = build(train, f", test='{test}'")
    assert_same(found, wanted)
    assert found.test_clients.tolist() == [0] * 7 + [1] * 5 + [-1] * 9
    assert build(train, f", test='{test}', same_clients=false").test_clients is None


def test_tff_gives_what_the_arrays_give(tmp_path, columns):
    """Its lists have no shape: 64 numbers called pixels are a square."""
    held = {name: column[::2] for name, column in columns.items()}
    path = tff_database(
        tmp_path / "emnist.sqlite",
        [*examples("all_test", held, owners()[::2]), *examples("all_train", columns)],
    )
    arrays(tmp_path / "a.npz", columns)
    test = arrays(tmp_path / "b.npz", held, owners()[::2])
    wanted = build(tmp_path / "a.npz", f", client=client, test='{test}'", "npz")
    assert_same(build(path), wanted)
    assert_same(build(path, ", split=all_train, test_split=all_test"), wanted)
    whole = build(path, ", invert=true")
    np.testing.assert_array_equal(
        whole.train["features"][..., 0], 1 - columns["pixels"]
    )
    flat = build(path, ", shape=(4, 16)").task.shape
    assert flat == (4, 16, 1)


def test_tff_without_a_test_split_holds_out(tmp_path, columns):
    """``save_to_sql_client_data`` calls its only split N/A."""
    path = tff_database(tmp_path / "own.sqlite", examples("N/A", columns))
    wanted = build(arrays(tmp_path / "a.npz", columns), ", client=client", "npz")
    assert_same(build(path), wanted)
    packed = tmp_path / "own.sqlite.lzma"
    for kind in (lzma.FORMAT_ALONE, lzma.FORMAT_XZ):
        packed.write_bytes(lzma.compress(path.read_bytes(), kind))
        assert_same(build(packed), wanted)


def test_tff_cifar_is_rgb_and_uint8_with_two_labels(tmp_path):
    """CIFAR-100 holds int64 lists; its test clients are others of the same names."""
    rng = np.random.default_rng(0)
    columns = {
        "image": rng.integers(0, 256, (21, 4, 4, 3), np.uint8),
        "label": np.arange(21) % 5,
        "coarse_label": np.arange(21) % 2,
    }
    rows = [*examples("train", columns), *examples("test", columns)]
    path = tff_database(tmp_path / "cifar100.sqlite", rows)
    arrays(tmp_path / "a.npz", columns)
    same = f", client=client, test='{tmp_path}/a.npz'"
    assert_same(build(path), build(tmp_path / "a.npz", same, "npz"))
    found = build(path, ", label=coarse_label, same_clients=false")
    assert found.task.classes == 2
    assert found.task.scale == 255
    assert found.own_clients == 3
    assert found.test_clients is None
    several = build(path, ", label=(coarse_label, coarse_label), target=several")
    assert several.train["labels"].tolist()[1] == [1, 1]


def test_tff_whole_numbers_above_255_are_kept(tmp_path):
    columns = {"image": np.arange(21 * 4).reshape(21, 2, 2), "label": np.arange(21) % 2}
    columns["image"][20] = 300
    held = {name: column[:3] for name, column in columns.items()}
    rows = [*examples("train", columns), *examples("test", held, CLIENTS)]
    found = build(tff_database(tmp_path / "a.sqlite", rows))
    assert {found.train["features"].dtype, found.test["features"].dtype} == {
        np.dtype(np.float32)
    }
    np.testing.assert_array_equal(found.train["features"][..., 0], columns["image"])
    np.testing.assert_array_equal(found.test["features"][..., 0], held["image"])


SPEECHES = {
    "ANN": ["Who's there?", "Long live the king!", "Ay."],
    "BOB": ["Nay, answer me.", "Stand, and unfold yourself. Über"],
    "CID": ["He."],
}


@pytest.mark.parametrize("writer", ["fedjax", "tff"])
def test_snippets_are_the_task_of_text(tmp_path, writer):
    users, speeches = list(SPEECHES), list(SPEECHES.values())
    (tmp_path / "roles.json").write_text(
        json.dumps({"users": users, "speeches": speeches})
    )
    path = tmp_path / "shakespeare.sqlite"
    if writer == "fedjax":
        fedjax_database(
            path,
            {
                user.encode(): {
                    "snippets": np.array([s.encode() for s in said], object)
                }
                for user, said in reversed(SPEECHES.items())
            },
        )
    else:
        rows = [(u, s) for u, said in SPEECHES.items() for s in said]
        tff_database(path, [("train", u, {"snippets": s.encode()}) for u, s in rows])
    options = ", length=6, holdout=0.4"
    assert_same(build(path, options), build(tmp_path / "roles.json", options, "text"))


def test_snippets_of_two_splits(tmp_path):
    rows = [("train", user, said[0]) for user, said in SPEECHES.items()]
    rows += [("test", "BOB", "Nay."), ("test", "DON", "A"), ("test", "BOB", "No.")]
    path = tff_database(
        tmp_path / "a.sqlite", [(s, u, {"snippets": t.encode()}) for s, u, t in rows]
    )
    found = build(path, ", length=100")
    assert found.train_clients.tolist() == [0, 1, 2]
    assert found.test_clients.tolist() == [1, -1]
    assert (found.test["labels"] != 0).sum(1).tolist() == [4 + 3 + 3, 2]
    with pytest.raises(InputError, match="length must be at least 1"):
        build(path, ", length=0")
    with pytest.raises(InputError, match="texts have no shape"):
        build(path, ", invert=true")


def test_texts_with_labels_are_rows_of_characters(tmp_path):
    """Sent140 as FedJAX keeps it: labels are texts, too."""
    texts = np.array([b"good", b"bad day", b"so so", b"fine"] * 2, object)
    labels = np.array([b"1", b"0", b"0", b"1"] * 2, object)
    columns = {"tweet_text": texts, "tweet_sentiment": labels}
    path = fedjax_database(tmp_path / "a.sqlite", {b"u": columns, b"v": columns})
    found = build(
        path, ", features=tweet_text, label=tweet_sentiment, length=5, holdout=0.2"
    )
    assert found.task.predicts == "class"
    assert found.task.classes == 2
    assert found.task.tokens
    assert found.own_clients == 2
    pairs = {
        ("".join(CHARACTERS[symbol - 3] for symbol in row if symbol), int(label))
        for row, label in zip(
            *map(found.train.get, ("features", "labels")), strict=True
        )
    }
    assert pairs == {("good", 1), ("bad d", 0), ("so so", 0), ("fine", 1)}


def test_a_run_by_natural_clients(tmp_path, columns):
    path = tff_database(tmp_path / "a.sqlite", examples("train", columns))
    options = ["--partition", "natural", "--cohort", "2", "--rounds", "2", "--quiet"]
    options += ["--model", "logistic", "--uplink", "identity", "--downlink", "identity"]
    output = ["--output", str(tmp_path / "run")]
    assert main(["run", "--data", f"sqlite('{path}')", *options, *output]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["clients"] == 3


def test_the_file_is_not_written(tmp_path, columns):
    path = fedjax_database(tmp_path / "a.sqlite", by_client(columns))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    path.chmod(0o444)
    before = path.read_bytes()
    build(path)
    with pytest.raises(InputError, match="attempt to write a readonly database"):
        build(path, ", query='DELETE FROM federated_data'")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.sqlite"]
