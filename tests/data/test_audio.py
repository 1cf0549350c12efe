"""Speech by speaker: what utterances hold, whose they are, files and folders."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from tones import COUNT, RATE, ROWS, TAKES, recordings, write_arrays, write_folder

from fedjax_compress import registry
from fedjax_compress.data import audio
from fedjax_compress.data.speech.log_mel import log_mel
from fedjax_compress.typing import Task


@pytest.fixture
def save(tmp_path):
    """(arrays that differ from ``recordings``) -> path of the file."""
    return functools.partial(write_arrays, tmp_path)


@pytest.fixture
def folder(tmp_path):
    """(rows of the table, samples by file, rate) -> path of the folder."""
    return functools.partial(write_folder, tmp_path)


def texts(columns, owners, client):
    """The labels of a client's rows."""
    rows = np.flatnonzero(owners == client)
    return [columns["labels"][i, : columns["label_lengths"][i]].tolist() for i in rows]


def test_rows_are_utterances_of_one_client(save):
    data = audio(save(), sessions=2)
    assert data.name == "tones"
    shape = data.train["features"].shape[1:]
    assert shape[0] % 4 == 0
    assert data.task == Task(
        (shape[0], 40),
        COUNT + 1,
        scale=1.0,
        target="sequence",
        more=(("label_lengths", (), "int32"), ("lengths", (), "int32")),
        longest=3,
        symbols=("", *map(str, range(COUNT))),
    )
    assert data.own_clients == 6
    for client in range(6):  # a speaker's takes 2, 3, 4 and then 5, 6, 7
        first = client // 2 * TAKES + 2 + 3 * (client % 2)
        said = np.concatenate(texts(data.train, data.train_clients, client))
        assert sorted(said - 1) == sorted([first, first + 1, first + 2] * 4)
        for row in texts(data.test, data.test_clients, client):
            assert {(s - 1) // TAKES for s in row} == {client // 2}
    said = np.concatenate([row[row > 0] for row in data.test["labels"]]) - 1
    assert sorted(said) == sorted([i for i in range(COUNT) if i % TAKES < 2] * 2)
    assert sorted(set(data.test_clients)) == list(range(6))  # dealt in turn


def test_frames_after_a_row_are_zero_and_the_others_those_of_the_row_alone(save):
    options = {"join": (1, 1), "gap": (0.0, 0.0), "uses": 1, "test_uses": 1}
    data = audio(save(), **options, mean=-3.0, std=2.0)
    stored = recordings()
    clips = np.split(stored["audio"].astype(np.float32) / 32768, stored["ends"][:-1])
    for part in (data.train, data.test):
        for row, length, label in zip(
            part["features"], part["lengths"], part["labels"], strict=True
        ):
            alone = log_mel(RATE).frames(clips[label[0] - 1])
            assert len(alone) == length
            np.testing.assert_array_equal(
                row[:length], (alone + np.float32(3)) / np.float32(2)
            )
            assert not row[length:].any()
    lengths = np.concatenate([data.train["lengths"], data.test["lengths"]])
    assert data.task.shape[0] - lengths.max() in range(4)
    # Among fewer speakers the same utterances have the same frames.
    few = audio(save(), **options, mean=-3.0, std=2.0, unseen=("ann", "bob"))
    frames = few.task.shape[0]
    own = data.train["features"][-len(few.train["features"]) :, :frames]
    np.testing.assert_array_equal(few.train["features"], own[:, :frames])


def test_a_clients_utterances_depend_on_nobody_else_and_on_the_seed(save):
    path = save()
    data, again, other = audio(path), audio(path), audio(path, seed=1)
    for name, column in data.train.items():
        np.testing.assert_array_equal(column, again.train[name])
    few = audio(path, unseen=("ann",))
    for client in range(few.own_clients):
        first, second = (
            np.flatnonzero(x.train_clients == k)
            for x, k in ((data, client + 3), (few, client))
        )
        n = min(data.task.shape[0], few.task.shape[0])
        for name, cut in (("features", n), ("labels", 3), ("lengths", None)):
            columns = data.train[name][first], few.train[name][second]
            a, b = (x if cut is None else x[:, :cut] for x in columns)
            np.testing.assert_array_equal(a, b)
    assert texts(data.train, data.train_clients, 0) != texts(
        other.train, other.train_clients, 0
    )


def test_speakers_who_do_not_train_are_tested(save):
    data = audio(save(), sessions=1, unseen=("bob",))
    assert data.own_clients == 2
    assert sorted(set(data.test_clients)) == [-1, 0, 1]
    said = np.concatenate(texts(data.test, data.test_clients, -1)) - 1
    assert sorted(set(said)) == [TAKES, TAKES + 1]
    trained = data.train["labels"][data.train["labels"] > 0] - 1
    assert not {*trained} & set(range(TAKES, 2 * TAKES))
    assert data.task.classes == COUNT + 1  # the symbols are those of all


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"sessions": 1}, [6] * 3),
        ({"sessions": 4}, [2, 2, 1, 1] * 3),
        ({"sessions": 9}, [1] * 18),  # no session without a take
        ({"sessions": 0}, [3, 3] * 3),
        ({}, [3, 3] * 3),  # those that the recordings have
        ({"sessions": 10**9}, [1] * 18),
    ],
)
def test_sessions(options, sizes, save):
    sessions = np.array([f"day {i % 2}" for i in range(COUNT)])
    data = audio(save(sessions=sessions), uses=1, **options)
    total = np.zeros(data.own_clients, int)
    np.add.at(total, data.train_clients, data.train["label_lengths"])
    assert total.tolist() == sizes


def test_what_is_for_tests(save):
    def tested(path, **options):
        data = audio(path, join=(1, 1), test_uses=1, **options)
        return sorted(data.test["labels"][:, 0] - 1)

    path = save(is_test=None)
    assert tested(path, test_takes=2) == [0, 1, 8, 9, 16, 17]
    held = tested(path, test_takes=0, holdout=0.2)
    assert len(held) == 5
    assert {i // TAKES for i in held} == {0, 1, 2}
    assert held == tested(save(is_test=None, takes=None), holdout=0.2)
    assert len(tested(path, test_takes=0, holdout=0.01)) == 3  # one of each


def test_long_recordings_are_left_out(save):
    data = audio(save(), longest=0.045, uses=1)  # 360 samples: recordings 0 to 15
    assert data.train["labels"].max() - 1 == 15
    assert data.own_clients == 6
    assert audio(save(), longest=0.0, uses=1).train["labels"].max() == COUNT


def test_a_folder_with_a_table(folder):
    data = audio(folder(), sessions=1, join=(2, 2), uses=1)
    assert data.name == folder().split("/")[-1]
    assert data.task.symbols == ("", "Cat", "a", "cat", "dog")
    # Three recordings of each train, of which one says nothing.
    assert np.bincount(data.train_clients).tolist() == [2, 2]
    assert sorted(data.train["label_lengths"]) in (
        [0, 0, 4, 4],
        [0, 2, 2, 4],
        [2, 2, 2, 2],
    )
    assert data.test["labels"][:, 0].tolist() == [1, 1, 1, 1]


def test_characters_have_a_space_between_words_and_recordings(folder):
    data = audio(
        folder(), sessions=1, join=(3, 3), uses=1, test_uses=1, units="characters"
    )
    names = data.task.symbols
    assert names == ("", *" Cacdgot")
    rows = texts(data.train, data.train_clients, 0)
    said = "".join(names[i] for i in rows[0])
    assert said in ("a cat a dog", "a dog a cat")
    assert data.task.longest == len(said)
    one = [row | {"transcript": "x"} for row in ROWS]
    assert audio(folder(one), units="characters").task.symbols == ("", " ", "x")


def test_silence_and_an_empty_transcript_are_rows(folder):
    rows = [row | {"transcript": "" if "dan" in row["file"] else "a"} for row in ROWS]
    silent = {row["file"]: np.zeros(50, np.int16) for row in ROWS}
    path = folder(rows, silent)
    data = audio(path, sessions=1, join=(1, 1), gap=(0.0, 0.0), mean=0.0, std=1.0)
    for part in (data.train, data.test):
        assert (part["lengths"] == 1).all()
        np.testing.assert_allclose(part["features"][:, 0], np.log(1e-5), rtol=1e-6)
    assert not data.train["label_lengths"][data.train_clients == 0].any()
    assert not data.train["labels"][data.train_clients == 0].any()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (np.uint8, 192, 0.5),
        (np.int16, -16384, -0.5),
        (np.int32, 2**30, 0.5),
        (np.float32, 0.5, 0.5),
        (np.float64, -0.5, -0.5),
    ],
)
def test_samples_of_every_kind(kind, value, expected, folder):
    sounds = {row["file"]: np.full(400, value, kind) for row in ROWS}
    options = {"join": (1, 1), "gap": (0.0, 0.0), "mean": 0.0, "std": 1.0}
    found = audio(folder(samples=sounds), **options).train["features"][0, :3]
    whole = np.full(400, expected, np.float32)
    np.testing.assert_array_equal(found, log_mel(RATE).frames(whole))


def test_the_specification(save):
    text = f"audio('{save()}', join=(1, 2), unseen=ann, units=characters, sessions=1)"
    data = registry.build("data", text)
    assert data.own_clients == 2
    assert data.task.symbols == ("", " ", *"0123456789")


def test_real_spoken_digits(shared):
    data = registry.build("data", f"audio('{shared}/fsdd/fsdd.npz')")
    stored = np.load(shared / "fsdd" / "fsdd.npz")
    sizes = np.diff(stored["ends"], prepend=0)
    train = (stored["takes"] >= 5) & (sizes <= RATE)
    assert data.task.symbols == ("", *"0123456789")
    assert data.own_clients == 18
    total = np.zeros(18, int)
    np.add.at(total, data.train_clients, data.train["label_lengths"])
    blocks = (stored["takes"].astype(int) - 5) // 15
    owner = stored["speakers"].astype(int) * 3 + blocks
    assert total.tolist() == (4 * np.bincount(owner[train], minlength=18)).tolist()
    assert (
        data.test["label_lengths"].sum()
        == 2 * ((stored["takes"] < 5) & (sizes <= RATE)).sum()
    )
    # A run has 4 recordings on average, the last of each of 72 passes up to 5 fewer.
    assert total.sum() / 4 <= len(data.train["labels"]) <= total.sum() / 4 + 72
    assert set(data.test_clients) == set(range(18))
    # (samples - 200) / 80 + 1 frames; of each utterance one is cut off in part.
    lengths = data.train["lengths"].astype(float)
    seconds = 4 * sizes[train].sum() / RATE + 0.1 * (total.sum() + len(lengths))
    assert abs(lengths.mean() - (100 * seconds / len(lengths) - 2)) < 1
    assert data.task.shape == (4 * int(np.ceil(lengths.max() / 4)), 40)
    # The usual constants are those of these features, rounded to one decimal.
    real = np.arange(data.task.shape[0]) < data.train["lengths"][:, None]
    x = data.train["features"][real].astype(np.float64) * 3.6 - 6.0
    assert abs(x.mean() + 6.0) <= 0.05
    assert abs(x.std() - 3.6) <= 0.05
