"""What features are divided by: one rule for every source, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.data import Dataset, describe_features, scaled
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

ROWS = 60
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (ROWS, 4, 4))
COLUMNS = RNG.integers(0, 2, (ROWS, 6))
WORDS = RNG.integers(0, 200, (ROWS, 7))
LABELS = np.arange(ROWS, dtype=np.int32) % 3


def own(train, test=None, task=None):
    """A source of somebody's own, which converts nothing."""
    test = train[:9] if test is None else test
    task = task or Task(train.shape[1:], 3)
    parts = [{"features": x, "labels": LABELS[: len(x)]} for x in (train, test)]
    return Dataset("own", task, parts[0], None, parts[1])


def by_npz(path, train, options=""):
    np.savez(path, images=train, labels=LABELS)
    return registry.build("data", f"npz('{path}'{options})")


@pytest.mark.parametrize("kind", ["uint8", "int16", "int64", "uint16", ">i4"])
@pytest.mark.parametrize(
    ("stored", "divided", "words"),
    [
        (PICTURES, 255, "pixels / 255"),
        (PICTURES // 128, 1, "numbers as they are"),
        (COLUMNS, 1, "numbers as they are"),
        (WORDS, 1, "numbers as they are"),
        (WORDS[..., None, None], 1, "numbers as they are"),
    ],
)
def test_one_rule_for_all_integers_and_sources(tmp_path, kind, stored, divided, words):
    stored = stored.astype(kind)
    mine, read = scaled(own(stored)), by_npz(tmp_path / "rows.npz", stored)
    assert mine.task.scale == read.task.scale == divided
    assert describe_features(mine) == f"{stored.dtype} {words}"
    assert describe_features(read).endswith(words)


def test_a_part_of_dark_pictures_is_of_the_pixels_of_the_other():
    pixels = PICTURES.astype(np.uint8)
    dark, black = pixels // 255, np.zeros_like(pixels)
    for kind in ("uint8", "int16"):
        for train, test in ((pixels, dark), (dark, pixels), (pixels, black)):
            mine = own(train.astype(kind), test.astype(kind))
            assert scaled(mine).task.scale == 255
    assert scaled(own(dark, black)).task.scale == 1
    assert scaled(own(PICTURES, PICTURES - 1)).task.scale == 1  # no pixels in the test


def test_floats_and_truth_values_are_numbers_and_tokens_are_left_alone():
    for stored in (PICTURES / 255, PICTURES / 1.0, PICTURES > 99):
        assert scaled(own(stored)).task.scale == 1
    task = Task((7,), 200, tokens=True)
    assert scaled(own(WORDS, task=task)).task == task
    assert describe_features(own(WORDS, task=task)) == "int64 tokens"
    # A board with a cell of -1 is no picture, and neither are heights above 255.
    assert scaled(own(PICTURES - 1)).task.scale == 1
    assert scaled(own(PICTURES * 300)).task.scale == 1


def test_what_is_said_goes_before_the_rule(tmp_path):
    pixels = PICTURES.astype(np.uint8)
    for words, wanted in (("none", 1), ("16", 16), ("0.5", 0.5), ("auto", 255)):
        read = by_npz(tmp_path / "rows.npz", pixels, f", scale={words}")
        assert scaled(read).task.scale == wanted
    said = own(COLUMNS, task=Task((6,), 3, scale=255.0))
    assert describe_features(scaled(said)) == "int64 numbers / 255"
    for wrong in ("0", "-1", "maybe"):
        with pytest.raises(InputError, match="scale must be"):
            by_npz(tmp_path / "rows.npz", pixels, f", scale={wrong}")


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("uint8", "float", "are uint8 in the train part, but float64 in the test part"),
        ("float", "uint8", "are float64 in the train part, but uint8"),
        ("bytes", "unit", r"whole numbers in 0..255 in the .* numbers in 0..1 in the"),
        (
            "unit",
            "float",
            "numbers in 0..1 in the train part, but whole numbers in 0..",
        ),
    ],
)
def test_parts_that_no_one_number_suits_are_refused(tmp_path, train, test, message):
    kinds = {
        "uint8": PICTURES.astype(np.uint8),
        "float": PICTURES.astype(float),
        "unit": PICTURES / 255,
        "bytes": PICTURES / 1.0,
    }
    with pytest.raises(InputError, match=message) as caught:
        scaled(own(kinds[train], kinds[test]))
    # What a source of one's own has no option for is said where it can be said.
    assert str(caught.value).endswith(
        "as in Task(..., scale=255) or Task(..., scale=1)"
    )
    assert "\n" not in str(caught.value)
    np.savez(tmp_path / "test.npz", images=kinds[test], labels=LABELS)
    option = f", test='{tmp_path}/test.npz'"
    with pytest.raises(InputError, match=f"{message}.* as in scale=255 or scale=none"):
        by_npz(tmp_path / "train.npz", kinds[train], option)
    found = by_npz(tmp_path / "train.npz", kinds[train], f"{option}, scale=255")
    assert found.task.scale == 255
