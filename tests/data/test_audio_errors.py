"""Recordings of speech, tables and options that cannot be used: one line each."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from tones import COUNT, ROWS, SPEAKERS, write_arrays, write_folder

from fedjax_compress.data import audio
from fedjax_compress.errors import InputError


@pytest.fixture
def save(tmp_path):
    """(arrays that differ from ``recordings``) -> path of the file."""
    return functools.partial(write_arrays, tmp_path)


@pytest.fixture
def folder(tmp_path):
    """(rows of the table, samples by file, rate) -> path of the folder."""
    return functools.partial(write_folder, tmp_path)


def changed(index, **fields):
    """The rows of the table, one of them with other fields."""
    return [row | (fields if i == index else {}) for i, row in enumerate(ROWS)]


TABLES = {
    "no such file": (changed(2, file="dan/9.wav"), r"line 4: there is no file 'dan/9"),
    "no file": (changed(2, file=""), "line 4: there is no file ''"),
    "a folder": (changed(2, file="dan"), "line 4: there is no file 'dan'"),
    "twice, said otherwise": (
        changed(2, file="./eve/../dan/0.wav"),
        "line 4 names './eve/../dan/0.wav' again, as line",
    ),
    "outside": (changed(2, file=__file__), "line 4: '.*' lies outside "),
    "too long": (changed(2, file="x" * 5000), "line 4: there is no file 'xxx"),
    "twice": (changed(2, file="dan/0.wav"), r"line 4 names 'dan/0.wav' again, as line"),
    "no speaker": (changed(0, speaker=" "), "line 2 has no speaker"),
    "no test": (changed(1, test="yes"), "line 3: test is 'yes', but must be 1"),
    "no session": (ROWS, "sessions=0 takes the sessions .* but these have none"),
    "another column": ([r | {"sesion": "1"} for r in ROWS], "did you mean 'session'"),
    "missing": (
        [{k: v for k, v in r.items() if k != "speaker"} for r in ROWS],
        "has no column 'speaker'; needed are file, transcript, speaker",
    ),
    "nobody": ([r | {"transcript": ""} for r in ROWS], "nobody says anything"),
    "only tests": ([r | {"test": "1"} for r in ROWS], "left to train on, of 8, 0 of"),
    "no tests": ([r | {"test": "0"} for r in ROWS], "no recording is left for tests"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_cannot_be_are_one_line(case, folder):
    rows, message = TABLES[case]
    sessions = 0 if case == "no session" else 1
    with pytest.raises(InputError, match=message) as caught:
        audio(folder(rows), sessions=sessions)
    assert "\n" not in str(caught.value)


SOUNDS = {
    "empty": (np.zeros(0, np.int16), "0.wav is empty: it has no samples"),
    "two channels": (np.zeros((9, 2), np.int16), r"shape \(9, 2\), but one channel"),
    "nan": (np.full(9, np.nan, np.float32), r"sample 0 is not finite \(nan\)"),
    "loud": (np.full(9, 2.0, np.float32), r"reaches 2, but floats must lie in -1\.\.1"),
    "wide": (np.zeros(9, np.int64), "holds int64, but samples must be floats or uint8"),
}


@pytest.mark.parametrize("case", SOUNDS)
def test_recordings_that_cannot_be_are_one_line(case, folder):
    samples, message = SOUNDS[case]
    with pytest.raises(InputError, match=message) as caught:
        audio(folder(samples={"dan/0.wav": samples}), sessions=1)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_recordings_are_one_line(folder, tmp_path):
    path = folder()
    whole = (tmp_path / "dan" / "0.wav").read_bytes()
    for content, message in (
        (b"", "0.wav cannot be read as WAV: it is empty"),
        (b"hello", "0.wav cannot be read as WAV: it looks like text"),
        (whole[:900], "0.wav is not whole"),
        (whole[:38], "0.wav cannot be read as WAV: "),
    ):
        (tmp_path / "dan" / "0.wav").write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            audio(path)
        assert "\n" not in str(caught.value)
    for content, message in (
        (b"", "has no column 'file'"),
        (b"file,transcript,speaker\n", "nobody says anything"),
        (b"file,file,transcript,speaker\n", "names a column twice"),
        (b"file,transcript,speaker\na,b,c,d\n", "line 2 has 4 fields, but there are 3"),
        (b"file,transcript,speaker\n\xff,b,c\n", "is no table of text"),
    ):
        (tmp_path / "table.csv").write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            audio(path)
        assert "\n" not in str(caught.value)
    (tmp_path / "table.csv").unlink()
    with pytest.raises(InputError, match=r"has no table\.csv; it names the recordings"):
        audio(path)


def test_another_rate_is_one_line_with_a_cure(folder, save):
    with pytest.raises(
        InputError,
        match=r"0\.wav has 16000 samples a second, but rate is 8000; say rate=16000",
    ):
        audio(folder(rate=16000))
    assert audio(folder(rate=16000), rate=16000).own_clients == 6
    path = save(rate=np.array(11025))
    with pytest.raises(InputError, match=r"tones\.npz has 11025 samples a second"):
        audio(path)
    assert audio(path, rate=11025).own_clients == 9


ENDS = np.cumsum([240 + 8 * i for i in range(COUNT)])
ARRAYS = {
    "no audio": ({"audio": None}, "has no array 'audio'"),
    "no speakers": ({"speakers": None}, "has no array 'speakers'"),
    "no labels": ({"labels": None}, "has no array 'labels'"),
    "empty": (
        {"ends": np.where(np.arange(COUNT) == 3, ENDS[2], ENDS)},
        "recording 3 is empty",
    ),
    "backwards": (
        {"ends": np.where(np.arange(COUNT) == 3, 5, ENDS)},
        "recording 3 ends at 5, before it starts, at 744",
    ),
    "too few": ({"ends": ENDS - 1}, r"ends at 7967, but there are 7968 samples"),
    "another length": ({"labels": np.arange(9)}, r"labels must hold one .* shape \(9,"),
    "another speaker": (
        {"speakers": np.arange(COUNT) % 4},
        r"speaker 3 in row 3 lies outside 0\.\.2",
    ),
    "fractions": ({"labels": np.arange(COUNT) / 2}, "labels must be whole numbers or"),
    "no name": ({"speaker_names": np.array(["a", "", "c"])}, "recording 8 has no spe"),
    "marks": ({"is_test": np.arange(COUNT)}, "'is_test' holds 2, 3, 4, 5"),
    "two rates": ({"rate": np.array([8000, 8000])}, "rate must be one number, not 2"),
    "nan": (
        {"audio": np.full(ENDS[-1], np.nan)},
        "recording 0: sample 0 is not finite",
    ),
    "nobody": (
        {"labels": None, "transcripts": np.full(COUNT, "")},
        "nobody says anything",
    ),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_cannot_be_are_one_line(case, save):
    arrays, message = ARRAYS[case]
    with pytest.raises(InputError, match=message) as caught:
        audio(save(**arrays))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unseen": ("bop",)}, "nobody is called 'bop'; did you mean 'bob'"),
        ({"unseen": SPEAKERS}, "no recording is left to train on"),
        ({"sessions": -1}, "sessions must be 0 or more"),
        ({"hop": np.inf}, "at most 10 s, not .* inf s"),
        ({"window": 1e9}, "at most 10 s, not 1e.09 s"),
        ({"bins": 10**10}, "bins must be 1 to 128, the frequencies"),
        ({"sessions": 0}, "sessions=0 takes the sessions of the recordings"),
        ({"longest": 0.01}, "left to train on, of 24, 24 of them longer"),
        ({"longest": -1.0}, "longest >= 0"),
        ({"uses": 0}, "audio needs uses >= 1"),
        ({"std": 0.0}, "std must be positive"),
        ({"mean": np.nan}, "std must be positive and mean finite"),
        ({"join": (2, 1)}, "join must be"),
        ({"high": 5000.0}, "half the rate"),
    ],
)
def test_options_that_cannot_be_are_one_line(options, message, save):
    with pytest.raises(InputError, match=message) as caught:
        audio(save(), **options)
    assert "\n" not in str(caught.value)


def test_a_path_to_nothing_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"file or folder '.*' does not exist"):
        audio(str(tmp_path / "nothing"))


def test_a_quote_that_is_not_closed_does_not_swallow_lines(folder, tmp_path):
    path = folder()
    table = tmp_path / "table.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace("a cat", '"a cat')
    table.write_text("\n".join(lines))
    with pytest.raises(InputError, match="is no table of text"):
        audio(path)


@pytest.mark.parametrize(
    "names", [np.array("annbobcyd"), np.array([list(SPEAKERS)]), np.array(["a"] * 3)]
)
def test_names_of_speakers_that_cannot_be(names, save):
    with pytest.raises(InputError, match="speaker_names must be names on one axis"):
        audio(save(speaker_names=names))
