"""Partitions that go by another column than the labels, or by the data's clients."""

from __future__ import annotations

import numpy as np
import pytest
from rows import changed

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

SOME = [
    "dirichlet(alpha=0.3",
    "dirichlet(alpha=0.3, form=prior",
    "dirichlet(form=rejection, min_size=2",
    "shards(per_client=3",
    "pathological(classes=2",
    "label_count(classes=2",
]


def assign(text, data, clients, seed=0):
    return registry.build("partition", text)(data, clients, np.random.default_rng(seed))


def grouped(make, values, **more):
    """600 rows whose labels are of ten classes, with a column ``hsf``."""
    labels = np.random.default_rng(2).integers(0, 10, 600)
    data = make(labels=labels, **more)
    return changed(data, train_hsf=values, test_hsf=values[:20])


@pytest.mark.parametrize("text", SOME)
def test_another_column_does_what_labels_of_these_values_would(make, text):
    """Whatever the values are called: in ascending order they are 0, 1, 2, 3."""
    group = np.random.default_rng(3).integers(0, 4, 600).astype(np.int32)
    names = np.array([-7, 0, 4, 9000])[group]
    wanted = assign(f"{text})", make(labels=group, classes=4), 12)
    for column in (names, names.astype(np.float32), names.astype(np.int16)):
        got = assign(f"{text}, by=hsf)", grouped(make, column), 12)
        np.testing.assert_array_equal(got, wanted)
    owned = make(clients=group)
    np.testing.assert_array_equal(assign(f"{text}, by=client)", owned, 12), wanted)
    labels = assign(f"{text}, by=labels)", make(labels=names), 12)
    np.testing.assert_array_equal(labels, wanted)
    assert (assign(f"{text})", grouped(make, names), 12) != wanted).any()


def test_a_column_of_the_name_comes_before_the_clients(make):
    own = (np.arange(600) // 150).astype(np.int32)
    data = make(clients=own[::-1].copy())
    data = changed(data, train_client=own, test_client=own[:20])
    wanted = assign("shards", make(labels=own), 12)
    np.testing.assert_array_equal(assign("shards(by=client)", data, 12), wanted)


def numbers(make, **more):
    """Rows whose target is a number."""
    data = make(**more)
    y = np.random.default_rng(0).normal(size=600).astype(np.float32)
    task = Task((1,), 1, target="number")
    return changed(data, task=task, train_labels=y, test_labels=y[:20])


def several(make):
    y = np.zeros((600, 4), np.int32)
    task = Task((1,), 4, target="several")
    return changed(make(), task=task, train_labels=y, test_labels=y[:20])


@pytest.mark.parametrize("text", ["dirichlet", "shards", "pathological", "label_count"])
def test_where_rows_have_no_class_by_is_the_cure(make, text):
    with pytest.raises(InputError) as error:
        assign(text, numbers(make), 5)
    assert str(error.value) == (
        f"{text} needs classes, but the labels of made are numbers; name a column of "
        f"whole numbers among the inputs of the data and say {text}(by=NAME), or use "
        "iid"
    )
    own = (np.arange(600) // 50).astype(np.int32)
    with pytest.raises(InputError) as error:
        assign(text, numbers(make, clients=own), 5)
    assert str(error.value).endswith(
        f"say what to go by instead, as in {text}(by=client), or use iid or natural"
    )
    site = np.arange(600, dtype=np.int32) % 3
    with pytest.raises(InputError, match=rf"needs one label a row.*{text}\(by=site\)"):
        assign(text, changed(several(make), train_site=site, test_site=site[:20]), 5)
    data = changed(numbers(make), train_site=site, test_site=site[:20])
    assert len(np.unique(assign(f"{text}(by=site)", data, 5))) == 5


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("hfs", "dirichlet: by cannot be 'hfs'; did you mean 'hsf'?"),
        ("client", "dirichlet: by cannot be 'client'; known: hsf, labels"),
        ("features", "dirichlet needs one number a row, but features of made has (1,)"),
        ("part", "made: part 0.5 in row 1 is no whole number"),
    ],
)
def test_what_cannot_be_gone_by_is_one_line(make, by, words):
    data = grouped(make, np.arange(600) % 3)
    part = np.arange(600, dtype=np.float32) / 2
    data = changed(data, train_part=part, test_part=part[:20])
    with pytest.raises(InputError) as error:
        assign(f"dirichlet(by={by})", data, 5)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_data_set_with_nothing_to_go_by_says_so(make):
    with pytest.raises(InputError, match="has no column of whole numbers beside its"):
        assign("shards(by=hsf)", numbers(make), 5)
