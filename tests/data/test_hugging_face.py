"""Data sets as Hugging Face's library saves them, without that library.

The files in ``saved`` are its own: ``write(saved)`` below, with datasets 5.2.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tables import build, same

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

SAVED = Path(__file__).parent / "saved"
TRAIN, TEST = range(12), range(20, 24)
NAMES = ["ant", "bee", "cow"]


def picture(i: int) -> np.ndarray:
    return np.arange(5 * i, 5 * i + 12, dtype=np.uint8).reshape(3, 4)


def text(i: int) -> str:
    return "größer " * (i % 3) + str(i)


def write(folder: Path) -> None:
    """A dictionary of two data sets, in two shards and one, and files as on the Hub."""
    import datasets
    from PIL import Image

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=[*NAMES, "dog"]),
            "meta": {"user": datasets.Value("string"), "age": datasets.Value("int64")},
            "grid": datasets.Array2D((2, 3), "float32"),
            "pair": datasets.Sequence(datasets.Value("float32"), length=2),
            "ragged": datasets.Sequence(datasets.Value("int64")),
            "text": datasets.Value("string"),
        }
    )

    def rows(numbers: range) -> datasets.Dataset:
        columns = {
            "image": [Image.fromarray(picture(i)) for i in numbers],
            "label": [i % 3 for i in numbers],
            "meta": [{"user": f"user {i % 4}", "age": i} for i in numbers],
            "grid": [np.full((2, 3), i / 2, np.float32) for i in numbers],
            "pair": [[i, -i] for i in numbers],
            "ragged": [list(range(1, 2 + i % 3)) for i in numbers],
            "text": [text(i) for i in numbers],
        }
        return datasets.Dataset.from_dict(columns, features)

    parts = datasets.DatasetDict({"train": rows(TRAIN), "test": rows(TEST)})
    parts.save_to_disk(folder / "both", num_shards={"train": 2, "test": 1})
    parts["train"].select([5, 3, 4]).save_to_disk(folder / "chosen")
    (folder / "hub").mkdir()
    for part, data in parts.items():
        data.to_parquet(folder / "hub" / f"{part}-00000-of-00001.parquet")


@pytest.fixture(scope="module", params=["committed", "written now"])
def saved(request, tmp_path_factory) -> Path:
    if request.param == "committed":
        return SAVED
    pytest.importorskip("datasets", reason="datasets is not installed")
    folder = tmp_path_factory.mktemp("saved")
    write(folder)
    return folder


def as_npz(folder, **columns) -> str:
    """The same arrays as npz reads them, with their test rows."""
    for name, numbers in (("train", TRAIN), ("test", TEST)):
        rows = {key: np.array([f(i) for i in numbers]) for key, f in columns.items()}
        np.savez(folder / f"{name}.npz", **rows)
    return f"npz('{folder}/train.npz', test='{folder}/test.npz', classes=4"


@pytest.mark.parametrize("place", ["both", "hub"])
def test_pictures_classes_and_users_are_those_of_npz(saved, place, tmp_path):
    found = build(
        f"parquet('{saved / place}', label, client='meta.user', features=image)"
    )
    assert found.task == Task((3, 4, 1), 4, scale=255.0)
    wanted = as_npz(
        tmp_path,
        images=picture,
        labels=lambda i: i % 3,
        who=lambda i: i % 4,
    )
    same(found, build(f"{wanted}, client=who)"))


def test_the_only_class_label_is_the_label(saved):
    path = saved / "both"
    same(
        build(f"parquet('{path}', features=grid)"),
        build(f"parquet('{path}', label, features=grid)"),
    )


@pytest.mark.parametrize("place", ["both", "hub"])
def test_arrays_and_lists_of_one_length(saved, place, tmp_path):
    found = build(f"parquet('{saved / place}', label, features=grid)")
    shape = as_npz(
        tmp_path,
        images=lambda i: np.full((2, 3), i / 2, np.float32),
        labels=lambda i: i % 3,
    )
    same(found, build(f"{shape})"))
    found = build(f"parquet('{saved / place}', label, features=('meta.age', pair))")
    rows = as_npz(
        tmp_path,
        images=lambda i: np.array([i, i, -i], np.float32),
        labels=lambda i: i % 3,
    )
    same(found, build(f"{rows})"))


def test_a_test_split_may_be_held_out_or_another_folder(saved, tmp_path):
    path = saved / "both"
    train = build(f"parquet('{path / 'train'}', label, features=pair, holdout=0.25)")
    assert (len(train.train["labels"]), len(train.test["labels"])) == (9, 3)
    named = f"parquet('{path / 'train'}', label, features=pair, test='{path / 'test'}')"
    same(build(named), build(f"parquet('{path}', label, features=pair)"))
    other = f"parquet('{path}', label, features=pair, test='{saved / 'chosen'}')"
    assert build(other).test["features"][:, 0].tolist() == [5, 3, 4]


def test_text_and_tokens(saved):
    path = saved / "both"
    found = build(f"parquet('{path}', label, text=text, length=9)")
    assert found.task == Task((9,), 4, tokens=True, target="class")
    for row, i in zip(found.train["features"], TRAIN, strict=True):
        said = text(i).encode()[:9]
        assert bytes(token - 1 for token in row if token) == said
        assert not row[len(said) :].any()
    tokens = build(f"parquet('{path}', label, text=ragged)").train["features"]
    assert tokens[:3].tolist() == [[1, 0, 0], [1, 2, 0], [1, 2, 3]]
    following = build(f"parquet('{path}', text=ragged)")
    assert following.task == Task((2,), 4, tokens=True)
    assert following.train["features"][2].tolist() == [1, 2]
    assert following.train["labels"][2].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("label, features=ragged", r"arrow, row 1: column 'ragged' has a list of 2, "),
        ("label", r"column 'image' holds .*; say features=image"),
        ("label, features=(image, pair)", r"'image' holds arrays \[3, 4, 1\], which s"),
        ("label, client=pair, features=grid", r"is fixed_size_list.*; client ids must"),
        ("label, features=meta", r"has no column 'meta'; did you mean 'meta.age'"),
        ("'meta.age', features=pair, classes=9", r"label 9 in row 9 lies outside 0..8"),
    ],
)
def test_what_cannot_be_used_is_one_line(options, reason):
    with pytest.raises(InputError, match=reason) as caught:
        build(f"parquet('{SAVED / 'both'}', {options})")
    assert "\n" not in caught.value.reason


def test_a_saved_set_that_is_not_whole(tmp_path):
    shutil.copytree(SAVED / "both", tmp_path / "both")
    path, train = tmp_path / "both", tmp_path / "both" / "train"

    def reason(options="label, features=pair"):
        with pytest.raises(InputError) as caught:
            build(f"parquet('{path}', {options})")
        return caught.value.reason

    state = json.loads((train / "state.json").read_text())
    first = train / state["_data_files"][0]["filename"]
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    assert f"{first} is damaged or not whole" in reason()
    first.unlink()
    assert f"{train} is not whole: it has no {first.name}" in reason()
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (train / "state.json").write_text(json.dumps(state))
    assert "save it again after flatten_indices()" in reason()
    (train / "state.json").write_text("{")
    assert "state.json is no JSON" in reason()
    (path / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    assert "has no split train, but ['a', 'b']; name the folder" in reason()
