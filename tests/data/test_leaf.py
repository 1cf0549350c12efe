"""LEAF's numbers and pictures: the rows of the same arrays in an .npz."""

from __future__ import annotations

import json

import numpy as np
import pytest
from alike import assert_alike
from leaf_json import dump, dump_parts
from PIL import Image

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, run
from fedjax_compress.typing import Task

NAMES = ("f2103_77", "f0010_00", "f3313_11", "f0999_04")


def build(path, options=""):
    return registry.build("data", f"leaf('{path}'{options})")


def letters(seed, rows=6, shape=(8, 8)):
    """Pixels and labels of each user; the last one has a single row."""
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(NAMES, rows) | {NAMES[-1]: 1}
    return {
        name: (
            rng.integers(0, 256, (n, *shape)).astype(np.uint8),
            rng.integers(0, 5, n),
        )
        for name, n in counts.items()
    }


def as_lists(users):
    """As LEAF's script for FEMNIST: a flat picture, divided by 255."""
    return {
        name: ((x.reshape(len(x), -1) / 255).tolist(), y.tolist())
        for name, (x, y) in users.items()
    }


def as_npz(folder, train, test=None, options="", change=None):
    """What ``npz`` makes of the users' rows, one after the other."""
    for part, users in (("train", train), ("test", test)):
        if users:
            x = np.concatenate([x for x, _ in users.values()])
            y = np.concatenate([y for _, y in users.values()])
            owner = np.repeat(list(users), [len(y) for _, y in users.values()])
            x = change(x) if change else x
            np.savez(folder / f"{part}.npz", images=x, labels=y, owner=owner)
    options += f", test='{folder}/test.npz'" if test else ""
    return registry.build("data", f"npz('{folder}/train.npz', client=owner{options})")


@pytest.fixture
def femnist(tmp_path):
    """The folder of a set with both parts, and its rows."""
    train, test = letters(0), letters(1, rows=2)
    folder = tmp_path / "femnist"
    dump_parts(as_lists(train), as_lists(test), folder / "data")
    return folder, train, test


def test_pixels_come_back_as_bytes(femnist, tmp_path):
    """From any of LEAF's folders, in the order of the files and their users."""
    folder, train, test = femnist
    data = build(folder)
    assert data.name == "femnist"
    assert data.task == Task((8, 8, 1), 5, scale=255.0)
    assert data.own_clients == 4
    assert_alike(data, as_npz(tmp_path, train, test))
    assert_alike(build(folder / "data"), data)
    assert_alike(build(folder, ", shape=(8, 8)"), data)
    white = build(folder, ", invert=true")
    assert_alike(white, as_npz(tmp_path, train, test, ", invert=true"))


def test_pixels_may_stay_numbers(femnist, tmp_path):
    folder, train, test = femnist
    data = build(folder, ", scale=none")
    assert data.train["features"].dtype == np.float32
    floats = as_npz(tmp_path, train, test, change=lambda x: x / 255)
    assert_alike(data, floats)
    with pytest.raises(InputError, match="only uint8 pixels can be inverted"):
        build(folder, ", scale=none, invert=true")
    flat = build(folder, ", shape=(64,)")
    assert flat.task == Task((64,), 5, scale=1.0)
    np.testing.assert_array_equal(
        flat.train["features"], data.train["features"].reshape(-1, 64)
    )


def test_every_tone_is_read_to_the_bit(tmp_path):
    """Each of 0..255, divided by 255 in float64 and written as JSON writes it."""
    tones = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    users = as_lists({"a": (tones, np.zeros(1, int)), "b": (tones, np.ones(1, int))})
    data = build(dump_parts(users, users, tmp_path))
    assert data.train["features"].dtype == np.uint8
    assert (data.train["features"][..., 0] == tones).all()
    floats = build(tmp_path, ", scale=none").train["features"]
    assert (floats[..., 0] == (tones / 255).astype(np.float32)).all()


def test_without_parts_a_share_of_each_user_is_held_out(tmp_path):
    """Of what LEAF's next step would take: the folder that it has written last."""
    users = letters(0)
    folder = tmp_path / "femnist" / "data"
    few = {name: users[name] for name in NAMES[:2]}
    dump(as_lists(few), folder / "all_data" / "all_data_0.json")
    assert build(folder, ", holdout=0.3").own_clients == 2
    dump(as_lists(users), folder / "rem_user_data" / "all_data_0_keep_1.json")
    data = build(folder, ", holdout=0.3")
    assert_alike(data, as_npz(tmp_path, users, options=", holdout=0.3"))
    assert np.bincount(data.test_clients, minlength=4).tolist() == [2, 0, 2, 2]
    file = folder / "rem_user_data" / "all_data_0_keep_1.json"
    assert_alike(build(file, ", holdout=0.3"), data)
    assert build(file).name == "all_data_0_keep_1"
    assert_alike(build(file.parent, ", holdout=0.3"), data)


def test_users_who_were_left_out(tmp_path):
    """LEAF keeps empty lists of users with one row; others are for tests alone."""
    train, test = as_lists(letters(0)), as_lists(letters(1))
    del train[NAMES[0]]
    dump_parts(train, test, tmp_path)
    file = next((tmp_path / "train").iterdir())
    content = json.loads(file.read_text())
    content["user_data"]["f9999_99"] = {"x": [], "y": []}
    file.write_text(json.dumps(content))
    data = build(tmp_path)
    assert data.own_clients == 3
    assert np.unique(data.test_clients).tolist() == [-1, 0, 1, 2]


def test_numbers_are_no_pictures(tmp_path):
    """Synthetic: a square number of columns, but outside 0..1; also regression."""
    rng = np.random.default_rng(0)
    users = {str(i): (rng.normal(size=(5, 100)), np.arange(5) % 3) for i in range(12)}
    lists = {name: (x.tolist(), y.tolist()) for name, (x, y) in users.items()}
    data = build(dump_parts(lists, lists, tmp_path / "synthetic"))
    assert data.task == Task((100,), 3, scale=1.0)
    assert_alike(data, as_npz(tmp_path, users, users))
    binary = {name: ((x > 0) * 1.0, y / 2) for name, (x, y) in users.items()}
    lists = {name: (x.tolist(), y.tolist()) for name, (x, y) in binary.items()}
    data = build(dump_parts(lists, lists, tmp_path / "b"), ", shape=(100,)")
    assert data.task.predicts == "number"
    assert_alike(data, as_npz(tmp_path, binary, binary))


def test_whole_numbers_are_pixels_as_in_npz(tmp_path):
    users = letters(0)
    lists = {n: (x.reshape(-1, 64).tolist(), y.tolist()) for n, (x, y) in users.items()}
    data = build(dump_parts(lists, lists, tmp_path / "old"))
    assert_alike(data, as_npz(tmp_path, users, users))


def test_pictures_of_celeba_lie_in_a_folder(tmp_path):
    """Decoded and resized by pillow as LEAF's own model does; y is 0.0 or 1.0."""
    folder = tmp_path / "celeba" / "data"
    place = folder / "raw" / "img_align_celeba"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    users, rows, number = {}, {}, 0
    for name in ("12", "3"):
        files, pixels = [], []
        for _ in range(4):
            number += 1
            files.append(f"{number:06}.jpg")
            face = rng.integers(0, 256, (20, 16, 3)).astype(np.uint8)
            Image.fromarray(face).save(place / files[-1])
            with Image.open(place / files[-1]) as found:
                resized = found.resize((12, 12)).convert("RGB")
            pixels.append(np.asarray(resized))
        users[name] = (files, [0.0, 1.0, 1.0, 0.0])
        rows[name] = (np.stack(pixels), np.array([0, 1, 1, 0]))
    dump_parts(users, users, folder)
    data = build(folder.parent, ", size=12")
    assert data.name == "celeba"
    assert_alike(data, as_npz(tmp_path, rows, rows))
    assert build(folder, f", size=(6, 4), images='{place}'").task.shape == (6, 4, 3)
    assert build(folder, ", size=0").task.shape == (20, 16, 3)
    (place / "000003.jpg").unlink()
    with pytest.raises(InputError, match=r"000003\.jpg cannot be read: No such file"):
        build(folder)
    place.rename(tmp_path / "faces")
    with pytest.raises(
        InputError, match=r"celeba' does not exist.*name it with images"
    ):
        build(folder)


ROW = [0.5] * 64
KINDS = [
    ({"a": ([ROW], [1]), "b": ([ROW[:-1]], [1])}, r"'a' has shape \(64,\), one of 'b'"),
    (
        {"a": ([ROW, ROW[:-1]], [1, 0])},
        "user 'a' are no lists of numbers of one length",
    ),
    ({"a": ([ROW], [1, 0])}, "user 'a' has 1 x but 2 y"),
    ({"a": ([ROW], ["b"])}, "y of user 'a' must be numbers, all alike"),
    ({"a": ([ROW], [[1, [2]]])}, "y of user 'a' must be numbers, all alike"),
    ({"a": ([ROW], [1]), "b": (["1.jpg"], [1])}, "'a' has numbers, but 'b' files"),
    ({"a": ([[["<BOS>", "so"]]], [{"score": 1}])}, "not what leaf reads: .*Reddit's"),
    ({"a": ([0.5], [1])}, "x of user 'a' is not what leaf reads"),
    ({"a": ([[]], [1])}, "x of user 'a' is not what leaf reads|has no numbers"),
    ({"a": ([[*ROW[:-1], float("nan")]], [1])}, "not finite"),
    ({"a": ([ROW], [-1])}, "label -1"),
    ({"a": ([], [])}, "no user has any rows"),
]


@pytest.mark.parametrize(("users", "words"), KINDS)
def test_rows_that_cannot_be_used_are_one_line(tmp_path, users, words):
    dump(users, tmp_path / "train" / "x.json")
    dump(users, tmp_path / "test" / "x.json")
    with pytest.raises(InputError, match=words) as caught:
        build(tmp_path)
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y\n1,2\n", "is not whole JSON: it looks like CSV"),
        ('{"users": ["a"], "user_data": {"a": {"x": [[0.1', "whole JSON: Expecting"),
        ("[" * 100_000, "is not whole JSON"),
        ("[]", "has no 'user_data'"),
        ('{"speeches": [], "users": []}', "has no 'user_data'"),
        ('{"users": 3, "user_data": {}}', "'users' must be a list of names"),
        ('{"users": [[3]], "user_data": {}}', r"user \[3\] has no rows"),
        ('{"users": ["a"], "user_data": {}}', "user 'a' has no rows in 'user_data'"),
        ('{"user_data": {"a": {"x": [[1]]}}}', "user 'a' has no lists 'x' and 'y'"),
        ("", "is not whole JSON: it is empty"),
    ],
)
def test_files_that_are_none_of_leaf(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        build(tmp_path)
    assert "\n" not in caught.value.reason
    assert f"{tmp_path}/x.json" in caught.value.reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ", shape=(28, 28, 1)",
            r"shape \(28, 28, 1\) needs 784 numbers a row, but .*64",
        ),
        (", images=faces", "holds numbers, but images is for files"),
        (", classes=2", "lies outside 0..1"),
    ],
)
def test_options_that_do_not_fit(femnist, options, words):
    with pytest.raises(InputError, match=words):
        build(femnist[0], options)


def test_folders_that_are_none_of_leaf(tmp_path, femnist):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"no JSON as LEAF writes it; needed are train"
    ):
        build(tmp_path / "empty")
    for file in (femnist[0] / "data" / "test").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"holds no test/\*\.json"):
        build(femnist[0])


def test_a_run_by_writer(femnist, tmp_path):
    config = Config(
        data=f"leaf(path='{femnist[0]}')",
        partition="natural",
        cohort=2,
        rounds=2,
        model="logistic",
    )
    assert run(config, tmp_path / "run", quiet=True)["clients"] == 4


def test_real_writers_of_femnist(shared, tmp_path):
    """Ten of LEAF's own writers, written as LEAF's script writes them."""
    path = shared / "femnist" / "writers_105.npz"
    with np.load(path) as arrays:
        x, y, who, held = (
            arrays[n] for n in ("images", "labels", "writers", "is_test")
        )
        names = arrays["writer_names"][:10].astype(str)
    few = who < 10
    owner = names[who[few]]
    np.savez(
        tmp_path / "few.npz", images=x[few], labels=y[few], is_test=held[few],
        owner=owner,
    )  # fmt: skip
    parts = [
        {
            str(n): (x[part & (who == k)], y[part & (who == k)])
            for k, n in enumerate(names)
        }
        for part in (~held, held)
    ]
    folder = dump_parts(*map(as_lists, parts), tmp_path / "femnist")
    data = build(folder, ", classes=62")
    other = f"npz('{tmp_path}/few.npz', client=owner, test_column=is_test, classes=62)"
    assert len(data.train["labels"]) > 1000
    assert_alike(data, registry.build("data", other))
