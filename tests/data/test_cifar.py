"""CIFAR's binary version, byte by byte as its authors describe it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from alike import assert_alike

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, run
from fedjax_compress.typing import Task

TEN = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


def build(path, options=""):
    return registry.build("data", f"cifar('{path}'{options})")


def record(pixels, *labels):
    """Labels, then 1,024 bytes of red, of green, of blue, each row by row."""
    return bytes([*labels]) + b"".join(pixels[..., c].tobytes() for c in range(3))


def pictures(rows, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, 32, 32, 3)).astype(np.uint8)


def write_ten(folder, each=4):
    """CIFAR-10 of a few rows; gives back images and labels of both parts."""
    folder.mkdir()
    found = []
    for seed, name in enumerate((*TEN, "test_batch")):
        x, y = pictures(each, seed), (np.arange(each) + seed) % 10
        content = b"".join(map(record, x, y))
        (folder / f"{name}.bin").write_bytes(content)
        found.append((x, y.astype(np.uint8)))
    train = [np.concatenate(column) for column in zip(*found[:-1], strict=True)]
    return train, found[-1]


def write_hundred(folder, rows=30):
    folder.mkdir()
    found = []
    for seed, name in enumerate(("train", "test")):
        x, fine = pictures(rows, seed), np.arange(rows).astype(np.uint8)
        coarse = fine // 5
        content = b"".join(map(record, x, coarse, fine))
        (folder / f"{name}.bin").write_bytes(content)
        found.append((x, fine, coarse))
    return found


def as_npz(folder, parts, labels=1, client=0):
    for name, columns in zip(("train", "test"), parts, strict=True):
        more = {"owner": columns[client]} if client else {}
        file = folder / f"{name}.npz"
        np.savez(file, images=columns[0], labels=columns[labels], **more)
    options = ", client=owner" if client else ""
    options += f", classes={(10, 100, 20)[labels if len(columns) > 2 else 0]}"
    text = f"npz('{folder}/train.npz', test='{folder}/test.npz'{options})"
    return registry.build("data", text)


def test_cifar10_is_that_of_npz(tmp_path):
    parts = write_ten(tmp_path / "cifar-10-batches-bin")
    data = build(tmp_path / "cifar-10-batches-bin")
    assert data.name == "cifar10"
    assert data.task == Task((32, 32, 3), 10, scale=255.0)
    assert data.train_clients is None
    assert_alike(data, as_npz(tmp_path, parts))
    assert_alike(build(tmp_path), data)  # the folder that holds it


def test_cifar100_has_fine_and_coarse_labels(tmp_path):
    parts = write_hundred(tmp_path / "cifar-100-binary")
    fine = build(tmp_path)
    assert fine.name == "cifar100"
    assert_alike(fine, as_npz(tmp_path, parts))
    coarse = build(tmp_path, ", labels=coarse")
    assert_alike(coarse, as_npz(tmp_path, parts, labels=2))
    owned = build(tmp_path, ", client=coarse")
    assert np.bincount(owned.train_clients).tolist() == [5] * 6
    assert_alike(owned, as_npz(tmp_path, parts, client=2))


def test_coarse_labels_of_cifar10(tmp_path):
    write_ten(tmp_path / "ten")
    for option in ("labels", "client"):
        with pytest.raises(InputError, match="holds CIFAR-10, but only CIFAR-100 has"):
            build(tmp_path / "ten", f", {option}=coarse")


class Bomb:
    """What must never be loaded."""

    def __reduce__(self):
        return (exec, ("raise AssertionError('unpickled')",))


@pytest.mark.parametrize("name", ["data_batch_1", "train"])
@pytest.mark.parametrize("inner", ["", "cifar-batches-py"])
def test_pickles_are_never_read(tmp_path, name, inner):
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(Bomb(), protocol=2))
    archive = "cifar-10-binary" if name in TEN else "cifar-100-binary"
    with pytest.raises(InputError) as caught:
        build(tmp_path)
    reason = caught.value.reason
    assert "\n" not in reason
    assert f"{name} looks like a pickle, which is never read" in reason
    assert reason.endswith(f"binary version of the same authors, {archive}.tar.gz")


def set_label(content, value):
    return bytes([value]) + content[1:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c[:-1], r"test_batch.bin is not whole.*12,291 bytes.*of 3,073"),
        (lambda c: b"", "test_batch.bin is not whole"),
        (lambda c: set_label(c, 10), "record 0 has the fine label 10, above 9"),
        (None, r"lacks test_batch\.bin"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, change, words):
    write_ten(tmp_path / "ten")
    file = tmp_path / "ten" / "test_batch.bin"
    if change is None:
        file.unlink()
    else:
        file.write_bytes(change(file.read_bytes()))
    with pytest.raises(InputError, match=words) as caught:
        build(tmp_path / "ten")
    assert "\n" not in caught.value.reason


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"holds neither data_batch_1\.bin \.\. data"):
        build(tmp_path)
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match=r"is a file that looks like .* gzip; unpack"):
        build(tmp_path / "x.tar.gz")
    (tmp_path / "data_batch_1.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(InputError, match="looks like a MATLAB file; take the binary"):
        build(tmp_path)


def test_a_run_by_coarse_classes(tmp_path):
    write_hundred(tmp_path / "hundred")
    config = Config(
        data=f"cifar(path='{tmp_path}/hundred', client=coarse)",
        partition="natural",
        cohort=2,
        rounds=2,
        model="logistic",
    )
    assert run(config, tmp_path / "run", quiet=True)["clients"] == 6


def test_the_real_pixels_of_cifar10(shared, tmp_path):
    """One real batch, whose pickle has been checked, as all five files and the test."""
    known = registry.build("data", f"cifar10('{shared / 'cifar10'}', batches=1)")
    x, y = (known.train[name][:200] for name in ("features", "labels"))
    content = b"".join(map(record, x, y))
    for name in (*TEN, "test_batch"):
        (tmp_path / f"{name}.bin").write_bytes(content)
    data = build(tmp_path)
    np.testing.assert_array_equal(data.test["features"], x)
    np.testing.assert_array_equal(data.train["features"][800:], x)
    np.testing.assert_array_equal(data.test["labels"], y)
