"""HDF5 files, written by h5py: one's own arrays, and those of TensorFlow Federated."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from databases import assert_same

from fedjax_compress import registry
from fedjax_compress.cli.commands import main
from fedjax_compress.errors import InputError

ROWS = 40
CLIENTS = {"f0_9": 7, "f1_2": 5, "g 3": 9}
SPEECHES = {"ANN": ["Who's there?", "Long live.", "Ay."], "BOB": ["Nay", "Über"]}


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


@pytest.fixture
def columns():
    rng = np.random.default_rng(3)
    return {
        "images": rng.integers(0, 256, (ROWS, 4, 5), np.uint8),
        "labels": (np.arange(ROWS) % 3).astype(">i2"),
        "who": np.array(["zoe", "ann", "bob"])[np.arange(ROWS) // 15],
        "held": np.arange(ROWS) % 5 == 0,
        "weight": 0.5 + np.arange(ROWS) % 2,
    }


@pytest.fixture
def save(h5py, tmp_path):
    """Arrays by their paths in a file, whose path it gives."""

    def write(found, name="rows.h5"):
        with h5py.File(tmp_path / name, "w") as whole:
            for path, column in found.items():
                texts = np.asarray(column).dtype.kind in "UO"
                kind = h5py.string_dtype() if texts else None
                whole.create_dataset(
                    path, data=list(column) if texts else column, dtype=kind
                )
        return tmp_path / name

    return write


def build(path, options="", source="hdf5"):
    return registry.build("data", f"{source}('{path}'{options})")


def arrays(path, found):
    np.savez(path, **found)
    return path


def by_client(columns, clients=CLIENTS):
    """As TensorFlow Federated's HDF5ClientData reads: examples/CLIENT/FEATURE."""
    start, found = 0, {}
    for client, count in clients.items():
        for name, column in columns.items():
            found[f"examples/{client}/{name}"] = column[start : start + count]
        start += count
    return found


def emnist():
    rng = np.random.default_rng(5)
    rows = sum(CLIENTS.values())
    return {
        "label": np.arange(rows, dtype=np.int32) % 4,
        "pixels": rng.random((rows, 8, 8), np.float32),
    }


def test_arrays_give_what_npz_gives(save, tmp_path, columns):
    npz = arrays(tmp_path / "rows.npz", columns)
    path = save(columns)
    assert_same(build(path), build(npz, "", "npz"))
    for options in (
        ", client=who",
        ", client=who, test_column=held, weights=weight, scale=16",
        ", holdout=0.3, invert=true",
    ):
        assert_same(build(path, options), build(npz, options, "npz"))


def test_arrays_at_any_depth_and_of_a_test_part(save, tmp_path, columns):
    npz = arrays(tmp_path / "rows.npz", columns)
    half = {name: column[::2] for name, column in columns.items()}
    other = arrays(tmp_path / "half.npz", half)
    wanted = build(npz, f", test='{other}'", "npz")
    deep = {f"train/a/{name}": column for name, column in columns.items()}
    deep |= {f"test/{name}": column for name, column in half.items()}
    path = save(deep)
    train = ", features='train/a/images', labels='train/a/labels'"
    test = ", test_features='test/images', test_labels='test/labels'"
    assert_same(build(path, train + test), wanted)
    second = save({f"b/{name}": column for name, column in half.items()}, "b.h5")
    test = f", test='{second}', test_features='b/images', test_labels='b/labels'"
    assert_same(build(path, train + test), wanted)
    plain = save(half, "half.h5")
    options = f", client=who, test='{plain}'"
    wanted = build(npz, f", client=who, test='{other}'", "npz")
    assert_same(build(save(columns, "rows2.h5"), options), wanted)


def test_columns_go_together(save, tmp_path, columns):
    found = {"a": np.arange(ROWS), "b": columns["weight"], "y": columns["labels"]}
    data = build(save(found), ", features=(a, b)")
    x = np.stack([found["a"], found["b"]], axis=1)
    npz = arrays(tmp_path / "a.npz", {"x": x, "y": found["y"]})
    assert_same(data, build(npz, ", features=x, labels=y", "npz"))


def test_tff_gives_what_the_arrays_give(save, tmp_path):
    columns = emnist()
    ids = np.repeat(list(CLIENTS), list(CLIENTS.values()))
    npz = arrays(tmp_path / "train.npz", columns | {"client": ids})
    same = ", features=pixels, labels=label, client=client"
    path = save(by_client(columns), "emnist_train.h5")
    assert_same(build(path), build(npz, same, "npz"))
    fewer = {"f1_2": 3, "stranger": 4}
    held = {name: column[:7] for name, column in columns.items()}
    test = save(by_client(held, fewer), "emnist_test.h5")
    ids = np.repeat(list(fewer), list(fewer.values()))
    other = arrays(tmp_path / "test.npz", held | {"client": ids})
    found = build(path, f", test='{test}'")
    assert_same(found, build(npz, f"{same}, test='{other}'", "npz"))
    assert found.test_clients.tolist() == [1, 1, 1, -1, -1, -1, -1]
    found = build(path, f", test='{test}', same_clients=false, invert=true")
    assert found.test_clients is None
    np.testing.assert_array_equal(
        found.train["features"][..., 0], 1 - columns["pixels"]
    )


def test_snippets_are_the_task_of_text(h5py, save, tmp_path):
    users, speeches = list(SPEECHES), list(SPEECHES.values())
    roles = tmp_path / "roles.json"
    roles.write_text(json.dumps({"users": users, "speeches": speeches}))
    path = save({f"examples/{u}/snippets": said for u, said in SPEECHES.items()})
    options = ", length=6, holdout=0.4"
    wanted = build(roles, options, "text")
    assert_same(build(path, options), wanted)
    with h5py.File(tmp_path / "bytes.h5", "w") as whole:  # as numpy's type S
        for user, said in SPEECHES.items():
            fixed = np.array([speech.encode() for speech in said])
            whole[f"examples/{user}/snippets"] = fixed
    assert_same(build(tmp_path / "bytes.h5", options), wanted)


def test_a_run_by_natural_clients(save, tmp_path):
    path = save(by_client(emnist()))
    options = ["--partition", "natural", "--cohort", "2", "--rounds", "2", "--quiet"]
    options += ["--model", "logistic", "--uplink", "identity", "--downlink", "identity"]
    output = ["--output", str(tmp_path / "run")]
    assert main(["run", "--data", f"hdf5('{path}')", *options, *output]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["clients"] == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (", features=imges", "has no array 'imges'; did you mean 'images'"),
        (", features=deep", "'deep' is a group, not an array; it holds records"),
        (", client=whose", "has no array 'whose'"),
        (", labels='deep/records'", "holds .*; only numbers and texts are read"),
        (", labels=empty", "holds nothing; only numbers and texts are read"),
        (", labels=one", "a column is a single value, not rows"),
        (", labels=short", "40 rows of features but 3 labels"),
        (", test_column=who", "must be true"),
        (", test=x, test_column=held", "give test or test_column, not both"),
        (", test_features=images", "need both test_features and test_labels"),
        (", test_labels=labels", "need both test_features and test_labels"),
        (
            ", test_features=images, test_labels=labels, test_column=held",
            "give test_features or test_column, not both",
        ),
        (
            ", test_features=images, test_labels=labels, weights=weight",
            "weights: of test rows in the same file there is only",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(h5py, save, columns, options, words):
    path = save(columns | {"short": np.arange(3), "one": np.int64(4)})
    with h5py.File(path, "a") as whole:
        whole["empty"] = h5py.Empty("f4")
        whole["deep/records"] = np.zeros(ROWS, [("a", "i4"), ("b", "f4")])
    with pytest.raises(InputError, match=words) as caught:
        build(path, options)
    assert "\n" not in caught.value.reason


def test_clients_that_cannot_be_used(h5py, save):
    good = by_client(emnist())
    for name, value, options, words in (
        ("client", 0, ", client=client", "says by itself whose a row is"),
        ("a", 0, ", test_features=pixels, test_labels=label", "for arrays of your own"),
        ("examples/g 3/label", np.arange(2), "", "equally many, not 9 pixels, 2 label"),
        (
            "examples/g 3/label",
            np.int64(1),
            "",
            "client 'g 3': label is a single value",
        ),
        ("examples/g 3/pixels", np.ones((9, 3)), "", r"'g 3' holds float64 \(3,\)"),
        ("examples/z/label", np.arange(2), "", "client 'z' has no array 'pixels'"),
    ):
        path = save(good | {name: value})
        with pytest.raises(InputError, match=words):
            build(path, options)
    with h5py.File(path, "w") as whole:
        whole.create_group("examples")
    with pytest.raises(InputError, match="group examples has no clients"):
        build(path)
    with h5py.File(path, "w") as whole:
        whole["a/b"] = np.zeros(3)
    with pytest.raises(InputError, match="say features=NAME; there are a/b"):
        build(path)


def test_files_that_are_no_hdf5(h5py, save, tmp_path, columns):
    path = save(columns)
    whole = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    for name, words in {
        "a.npz": r"a.npz is no HDF5 file: it looks like .* \(.npz\); read it with npz",
        "cut.h5": "cut.h5 cannot be read: .*truncated",
        "none.h5": "does not exist",
        ".": "is a folder, but hdf5 reads one file",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            build(tmp_path / name)
        assert "\n" not in caught.value.reason


def test_without_h5py_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'fedjax_compress\[hdf5\]'"):
        build(tmp_path / "a.h5")
