"""Folders of pictures, written by pillow: the rows of the same arrays in an .npz."""

from __future__ import annotations

import numpy as np
import pytest
from alike import assert_alike
from PIL import Image

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, run
from fedjax_compress.typing import Task

CLASSES = ("cat", "dog", "emu")


def build(path, options=""):
    return registry.build("data", f"images('{path}'{options})")


def draw(shape, seed):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(pixels, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def written(folder, shape=(6, 5, 3), each=4, seed=0, classes=CLASSES):
    """Writes pictures of each class; gives back their pixels and labels, by name."""
    pixels, labels = [], []
    for label, name in enumerate(classes):
        for i in range(each):
            pixels.append(draw(shape, [seed, label, i]))
            labels.append(label)
            save(pixels[-1], folder / name / f"{i:03}.png")
    return np.stack(pixels), np.array(labels)


def as_npz(folder, train, test=None, options=""):
    """The data that ``npz`` makes of columns (images, labels, owner)."""
    for name, columns in (("train", train), ("test", test)):
        if columns:
            keys = ("images", "labels", "owner")[: len(columns)]
            np.savez(folder / f"{name}.npz", **dict(zip(keys, columns, strict=True)))
    if test:
        options += f", test='{folder}/test.npz'"
    return registry.build("data", f"npz('{folder}/train.npz'{options})")


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5)])
def test_two_parts_are_those_of_npz(tmp_path, shape):
    train = written(tmp_path / "pets" / "train", shape)
    test = written(tmp_path / "pets" / "test", shape, each=2, seed=1)
    data = build(tmp_path / "pets")
    assert data.name == "pets"
    assert data.task == Task((*shape, 1)[:3], 3, scale=255.0)
    assert_alike(data, as_npz(tmp_path, train, test))


def test_a_share_of_each_class_is_held_out_as_by_npz(tmp_path):
    rows = written(tmp_path / "pets", each=5)
    data = build(tmp_path / "pets", ", holdout=0.2")
    assert np.bincount(data.test["labels"]).tolist() == [1, 1, 1]
    assert_alike(data, as_npz(tmp_path, rows, options=", holdout=0.2"))
    written(tmp_path / "split" / "train", each=5)
    written(tmp_path / "split" / "val", each=1)
    assert_alike(data, build(tmp_path / "split", ", test='', holdout=0.2"))
    other = build(tmp_path / "split", ", test=val")
    assert len(other.train["labels"]) == 15


def test_folders_may_say_whose_pictures_are(tmp_path):
    """Clients of two classes and of one; one for tests alone."""
    columns = {}
    for part, owners in (
        ("train", {"ann": CLASSES, "bob": CLASSES[:1]}),
        ("test", {"ann": CLASSES, "eve": CLASSES[1:2]}),
    ):
        found = []
        for seed, (owner, classes) in enumerate(owners.items()):
            where = tmp_path / "pets" / part / owner
            pixels, labels = written(where, seed=seed, classes=classes)
            labels = labels + CLASSES.index(classes[0])
            found.append((pixels, labels, np.full(len(labels), owner)))
        columns[part] = [np.concatenate(c) for c in zip(*found, strict=True)]
    data = build(tmp_path / "pets", ", client=folder")
    assert np.bincount(data.train_clients).tolist() == [12, 4]
    assert np.unique(data.test_clients).tolist() == [-1, 0]
    other = as_npz(tmp_path, columns["train"], columns["test"], ", client=owner")
    assert_alike(data, other)
    whole = build(tmp_path / "pets" / "train", ", client=folder, holdout=0.25")
    assert np.bincount(whole.test_clients).tolist() == [3, 1]


def test_formats_of_pillow_and_what_is_left_out(tmp_path):
    """Files without loss give the same pixels; hidden and other files are no rows."""
    pixels = draw((4, 4, 3), 0)
    for ending in ("png", "bmp", "tiff", "ppm", "TGA"):
        save(pixels, tmp_path / "a" / f"x.{ending}")
    Image.fromarray(pixels).save(tmp_path / "a" / "x.webp", lossless=True)
    save(pixels, tmp_path / "b" / "x.png")
    save(pixels, tmp_path / "b" / "y.png")
    (tmp_path / "a" / "notes.txt").write_text("of 1999")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "table.csv").write_text("a,b")
    data = build(tmp_path)
    rows = np.concatenate([data.train["features"], data.test["features"]])
    assert len(rows) == 8
    assert (rows == pixels).all()


def test_kinds_of_pictures_become_grey_or_coloured(tmp_path):
    grey = draw((4, 4), 0)
    save(grey, tmp_path / "a" / "0.png")
    Image.fromarray(grey).convert("1").save(tmp_path / "a" / "1.png")
    save(grey, tmp_path / "b" / "0.png")
    save(grey, tmp_path / "b" / "1.png")
    assert build(tmp_path).task.shape == (4, 4, 1)
    assert build(tmp_path, ", channels=3").task.shape == (4, 4, 3)
    clear = np.dstack([draw((4, 4, 3), 1), draw((4, 4), 2)])
    save(clear, tmp_path / "b" / "2.png")
    palette = Image.fromarray(clear[..., :3]).quantize(8)
    palette.save(tmp_path / "b" / "3.png", transparency=bytes(range(8)))
    data = build(tmp_path, ", test='', holdout=0.5")
    assert data.task.shape == (4, 4, 3)
    rows = np.concatenate([data.train["features"], data.test["features"]])
    assert (rows == clear[..., :3]).all((1, 2, 3)).sum() == 1
    assert (rows == grey[..., None]).all((1, 2, 3)).sum() == 3
    assert build(tmp_path, ", channels=1").task.shape == (4, 4, 1)


def test_pictures_are_resized(tmp_path):
    """One of one colour stays so; one of the right size stays as it is."""
    save(np.full((9, 7, 3), 77, np.uint8), tmp_path / "a" / "0.png")
    right = draw((6, 4, 3), 0)
    save(right, tmp_path / "a" / "1.png")
    save(right, tmp_path / "b" / "0.png")
    save(np.full((3, 20, 3), 77, np.uint8), tmp_path / "b" / "1.png")
    data = build(tmp_path, ", size=(6, 4)")
    assert data.task.shape == (6, 4, 3)
    rows = np.concatenate([data.train["features"], data.test["features"]])
    assert (rows == 77).all((1, 2, 3)).sum() == 2
    assert (rows == right).all((1, 2, 3)).sum() == 2
    assert build(tmp_path, ", size=5").task.shape == (5, 5, 3)


def shapes(folder):
    written(folder)
    save(draw((6, 7, 3), 0), folder / "emu" / "wide.png")


def deep(folder):
    pixels = draw((4, 4), 0)
    save(pixels, folder / "ann" / "cat" / "0.png")


def broken(folder):
    written(folder)
    whole = (folder / "dog" / "001.png").read_bytes()
    (folder / "dog" / "001.png").write_bytes(whole[:-40])


def foreign(folder):
    written(folder)
    (folder / "dog" / "001.png").write_text("x,y\n1,2\n")


def sixteen(folder):
    written(folder, (6, 5))
    Image.fromarray(np.full((6, 5), 300, np.uint16)).save(folder / "dog" / "001.png")


def no_class(folder):
    folder.mkdir()
    save(draw((4, 4), 0), folder / "0.png")


def bare(folder):
    written(folder)
    (folder / "eel").mkdir()
    (folder / "eel" / "notes.txt").write_text("")


def stranger(folder):
    written(folder / "train", classes=("cat", "dogs"))
    written(folder / "test", classes=("cat", "dog"))


def one_part(folder):
    written(folder / "train")
    written(folder / "val")


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (shapes, "", r"cat/000\.png is 6 x 5 .*emu/wide\.png 6 x 7; .*size=\(6, 5\)"),
        (deep, "", "ann holds no pictures, but folders, as cat; .*client=folder"),
        (deep, ", client=folder, holdout=0.5", "no row can be held out"),
        (broken, "", r"dog/001\.png cannot be decoded"),
        (foreign, "", r"dog/001\.png is no picture that pillow reads: it looks like C"),
        (sixteen, "", r"dog/001\.png is neither grey nor red.* mode is I;16"),
        (no_class, "", "holds no folders of pictures; needed are CLASS/a.png"),
        (no_class, ", client=folder", "needed are CLIENT/CLASS/a.png"),
        (bare, "", r"eel holds no pictures \(.png"),
        (stranger, "", "test has the class 'dog', which .*train lacks; .*mean 'dogs'"),
        (one_part, "", "has 'train' but no 'test'; it holds train, val: .*test=val"),
        (one_part, ", train=trian", "has no folder 'trian'; did you mean 'train'"),
        (written, ", size=(1, 2, 3)", r"size must be one number or \(height, width\)"),
        (written, ", size=-1", "size must be one number"),
        (written, ", channels=2", "channels cannot be 2"),
        (written, ", holdout=1.5", "between 0 and 1"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, make, options, words):
    make(tmp_path / "pets")
    with pytest.raises(InputError, match=words) as caught:
        build(tmp_path / "pets", options)
    assert "\n" not in caught.value.reason


def test_a_file_in_place_of_a_folder(tmp_path):
    save(draw((4, 4), 0), tmp_path / "0.png")
    with pytest.raises(InputError, match="is a file that looks like a picture"):
        build(tmp_path / "0.png")
    with pytest.raises(InputError, match="does not exist"):
        build(tmp_path / "nowhere")


def test_a_class_may_be_called_train(tmp_path):
    written(tmp_path, classes=("car", "train"))
    assert build(tmp_path).task.classes == 2


def test_a_run_by_client(tmp_path):
    for seed, owner in enumerate(("ann", "bob", "eve")):
        written(tmp_path / "pets" / owner, (8, 8, 3), seed=seed)
    config = Config(
        data=f"images(path='{tmp_path}/pets', client=folder, size=8)",
        partition="natural",
        cohort=2,
        rounds=2,
        model="logistic",
    )
    summary = run(config, tmp_path / "run", quiet=True)
    assert summary["clients"] == 3
    assert summary["rounds"] == 2
