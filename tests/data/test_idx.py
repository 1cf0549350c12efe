"""IDX files as their authors describe the format, byte by byte, and the real ones."""

from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest
from alike import assert_alike

from fedjax_compress import registry
from fedjax_compress.data._idx import read_idx
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, run
from fedjax_compress.typing import Task

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def build(path, options=""):
    return registry.build("data", f"idx('{path}'{options})")


def idx_bytes(array):
    """Two zeros, the type, the number of axes, their lengths, the numbers."""
    kinds = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    kind = kinds[array.dtype.str[1:]]
    head = struct.pack(">HBB", 0, kind, array.ndim)
    head += struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def columns(rows, seed, shape=(6, 5)):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (rows, *shape)).astype(np.uint8)
    return pixels, (np.arange(rows) % 4).astype(np.uint8)


def write(folder, prefix="", pack=False, name=str):
    """Writes the four files; gives back the columns of each part."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for part, names in NAMES.items():
        found[part] = columns(20 if part == "train" else 8, len(part))
        for file, column in zip(names, found[part], strict=True):
            content = idx_bytes(column)
            path = folder / (name(prefix + file) + (".gz" if pack else ""))
            path.write_bytes(gzip.compress(content) if pack else content)
    return found


def as_npz(folder, parts):
    for part, (x, y, *owner) in parts.items():
        more = {"owner": owner[0]} if owner else {}
        np.savez(folder / f"{part}.npz", images=x, labels=y, **more)
    options = ", client=owner" if owner else ""
    text = f"npz('{folder}/train.npz', test='{folder}/test.npz'{options})"
    return registry.build("data", text)


@pytest.mark.parametrize("pack", [False, True])
def test_the_rows_are_those_of_npz(tmp_path, pack):
    parts = write(tmp_path / "mine", pack=pack)
    data = build(tmp_path / "mine")
    assert data.name == "mine"
    assert data.task == Task((6, 5, 1), 4, scale=255.0)
    assert_alike(data, as_npz(tmp_path, parts))


def test_names_that_people_have(tmp_path):
    parts = write(tmp_path / "dots", name=lambda x: x.replace("-idx", ".idx"))
    other = as_npz(tmp_path, parts)
    assert_alike(build(tmp_path / "dots"), other)
    write(tmp_path / "torch" / "raw", name=lambda x: x.replace("t10k", "test"))
    assert_alike(build(tmp_path / "torch"), other)
    write(tmp_path / "both", pack=True)
    write(tmp_path / "both")
    assert_alike(build(tmp_path / "both"), other)


def test_pictures_of_emnist_stand_upright(tmp_path):
    """Published with rows and columns in each other's place."""
    folder = tmp_path / "emnist"
    parts = write(folder, "emnist-digits-", name=lambda x: x.replace("t10k", "test"))
    upright = {k: (x.transpose(0, 2, 1), y) for k, (x, y) in parts.items()}
    data = build(folder)
    assert data.name == "emnist-digits"
    assert data.train["features"].flags.c_contiguous
    assert_alike(data, as_npz(tmp_path, upright))
    assert_alike(build(folder, ", transpose=false"), as_npz(tmp_path, parts))
    write(folder, "emnist-mnist-")
    with pytest.raises(InputError, match=r"several sets, emnist-digits, emnist-mnist;"):
        build(folder)
    with pytest.raises(InputError, match=r"emnist-digit-train.*mean 'emnist-digits'"):
        build(folder, ", prefix='emnist-digit'")
    assert_alike(build(folder, ", prefix='emnist-digits'"), data)
    write(folder)
    assert build(folder).name == "emnist"  # those without a prefix


def test_labels_of_qmnist_know_the_writer(tmp_path):
    """Eight columns: class, series, writer, index, NIST's class, index, 0, 0."""
    folder, parts = tmp_path / "qmnist", {}
    folder.mkdir()
    for part, rows in (("train", 20), ("test", 8)):
        x, y = columns(rows, rows)
        table = np.zeros((rows, 8), np.int32)
        table[:, 0], table[:, 1], table[:, 4] = y, 4, 30 + y
        table[:, 2] = 2100 + np.arange(rows) % 3 * 50 + (part == "test") * 50
        (folder / f"qmnist-{part}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        labels = folder / f"qmnist-{part}-labels-idx2-int.gz"
        labels.write_bytes(gzip.compress(idx_bytes(table)))
        parts[part] = (x, y, table[:, 2])
    (folder / "qmnist-test-labels-idx1-ubyte.gz").write_bytes(b"not read")
    data = build(folder)
    assert data.own_clients == 3
    assert np.unique(data.test_clients).tolist() == [-1, 1, 2]
    assert_alike(data, as_npz(tmp_path, parts))


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_every_type_of_the_format(tmp_path, kind):
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    (tmp_path / "x").write_bytes(idx_bytes(array))
    found = read_idx(tmp_path / "x")
    np.testing.assert_array_equal(found, array)
    assert found.dtype.str[1:] == kind


def test_shorts_are_read_the_right_way_round(tmp_path):
    """By hand: 1 and 256 as two bytes each, the higher one first."""
    (tmp_path / "x").write_bytes(bytes.fromhex("00000b01 00000002 0001 0100"))
    assert read_idx(tmp_path / "x").tolist() == [1, 256]


def cut(content):
    return content[:-1]


def longer(content):
    return content + b"\0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut, r"by which it holds 8 x 6 x 5 numbers in 256 bytes, but there are 255"),
        (longer, "but there are 257 bytes"),
        (lambda c: c[:10], r"does not fit its header, but there are 10 bytes"),
        (lambda c: b"", "is no IDX: it is empty"),
        (lambda c: b"x,y\n1,2\n", "is no IDX: it looks like CSV"),
        (lambda c: b"\0\0\x07\3" + c[4:], "is no IDX: it looks like nothing"),
        (lambda c: gzip.compress(c)[:-9], "is damaged or not whole"),
        (lambda c: gzip.compress(b"x,y"), "something else inside gzip"),
        (lambda c: idx_bytes(np.zeros((8, 30), "u1")), r"numbers of shape \(8, 30\)"),
        (lambda c: idx_bytes(np.zeros((7, 6, 5), "u1")), "7 rows of features but 8 la"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, change, words):
    write(tmp_path / "mine")
    file = tmp_path / "mine" / NAMES["test"][0]
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(InputError, match=words) as caught:
        build(tmp_path / "mine")
    assert "\n" not in caught.value.reason
    assert str(file) in caught.value.reason


def test_labels_of_another_shape(tmp_path):
    write(tmp_path / "mine")
    file = tmp_path / "mine" / NAMES["train"][1]
    file.write_bytes(idx_bytes(np.zeros((20, 3), "i4")))
    with pytest.raises(InputError, match=r"one label a row, or QMNIST's 8 columns"):
        build(tmp_path / "mine")


def test_what_is_missing_is_named(tmp_path):
    write(tmp_path / "mine")
    (tmp_path / "mine" / NAMES["test"][1]).unlink()
    with pytest.raises(InputError, match=r"lacks t10k-labels-\.\.\.; needed"):
        build(tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no IDX files by their names: train-im"):
        build(tmp_path / "empty")
    with pytest.raises(InputError, match="is a file, but idx reads the folder"):
        build(tmp_path / "mine" / NAMES["train"][0])
    with pytest.raises(InputError, match="does not exist"):
        build(tmp_path / "nowhere")


def test_a_run(tmp_path):
    write(tmp_path / "mine", pack=True)
    config = Config(
        data=f"idx(path='{tmp_path}/mine')",
        partition="iid",
        clients=4,
        cohort=2,
        rounds=2,
        model="logistic",
    )
    assert run(config, tmp_path / "run", quiet=True)["rounds"] == 2


@pytest.mark.parametrize(
    ("name", "sums"),
    [
        (
            "mnist",
            (
                "6bbc9ace898e44ae57da46a324031adb",
                "a25bea736e30d166cdddb491f175f624",
                "2646ac647ad5339dbf082846283269ea",
                "27ae3e4e09519cfbb04c329615203637",
            ),
        ),
        (
            "fashion_mnist",
            (
                "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "9018921c3c673c538a1fc5bad174d6f9",
                "8181f5470baa50b63fa0f6fddb340f0a",
                "15d484375f8d13e6eb1aabb0c3f46965",
            ),
        ),
    ],
)
def test_the_published_files(shared, tmp_path, name, sums):
    """Their md5 as published, so that these are the files themselves."""
    made = []
    for part, names in NAMES.items():
        with np.load(shared / name / f"{part}.npz") as arrays:
            for file, column in zip(names, ("images", "labels"), strict=True):
                made.append(idx_bytes(arrays[column]))
                (tmp_path / file).write_bytes(made[-1])
    assert tuple(hashlib.md5(content).hexdigest() for content in made) == sums
    folder = shared / name
    other = f"npz('{folder}/train.npz', test='{folder}/test.npz')"
    assert_alike(build(tmp_path), registry.build("data", other))
