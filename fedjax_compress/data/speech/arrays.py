"""Recordings in the arrays of one ``.npz`` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedjax_compress.data.columns import as_labels, has_array, load_npz
from fedjax_compress.data.speech.recordings import Recordings, as_samples, check_rate
from fedjax_compress.data.split import test_marks
from fedjax_compress.data.values import check_labels
from fedjax_compress.errors import InputError


def read_arrays(path: str, rate: int, test_takes: int) -> Recordings:
    """The recordings of a file.

    Args:
      path: an ``.npz`` with ``audio`` (all recordings end to end), ``ends`` (the end of
        each), ``speakers``, and ``transcripts`` or ``labels``; it may have
        ``speaker_names``, ``takes``, ``sessions``, ``is_test`` and ``rate``.
      rate: samples a second that are expected.
      test_takes: where there are ``takes`` but no ``is_test``, those below it are for
        tests.

    Raises:
      InputError: a missing array, or arrays that do not fit each other.
    """
    where = Path(path).stem
    spoken = "transcripts" if has_array(path, "transcripts") else "labels"
    audio, ends, said, speakers = load_npz(path, ["audio", "ends", spoken, "speakers"])
    if audio.ndim == 0:
        raise InputError(f"{where}: audio is a single value, not samples")
    count = ends.size
    _check_length(where, "ends", ends, count)
    further = {
        name: load_npz(path, [name])[0]
        for name in ("speaker_names", "takes", "sessions", "is_test", "rate")
        if has_array(path, name)
    }
    for name, column in {spoken: said, "speakers": speakers, **further}.items():
        if name not in ("speaker_names", "rate"):
            _check_length(where, name, column, count)
    if "rate" in further:
        found = as_labels(further["rate"].reshape(-1), where, "rate")
        if len(found) != 1:
            raise InputError(f"{where}: rate must be one number, not {len(found)}")
        check_rate(path, int(found[0]), rate)
    takes = np.arange(count)
    test = None
    if "takes" in further:
        takes = as_labels(further["takes"], where, "take").astype(np.int64)
        test = takes < test_takes if test_takes else None
    if "is_test" in further:
        test = test_marks(further["is_test"], where, "is_test")
    owners = _texts(speakers, where, "speakers")
    if "speaker_names" in further:
        column = further["speaker_names"]
        if column.ndim != 1 or len(np.unique(column)) < len(column):
            raise InputError(
                f"{where}: speaker_names must be names on one axis, each once, not "
                f"{column.dtype}{list(column.shape)}"
            )
        names = _texts(column, where, "speaker_names")
        check_labels(where, speakers, len(names), "speaker")
        owners = [names[i] for i in speakers]
    if "" in owners:
        raise InputError(f"{where}: recording {owners.index('')} has no speaker")
    sessions = further.get("sessions")
    return Recordings(
        where,
        _clips(audio, ends, where),
        [tuple(text.split()) for text in _texts(said, where, spoken)],
        owners,
        takes,
        None if sessions is None else _texts(sessions, where, "sessions"),
        test,
    )


def _clips(audio: np.ndarray, ends: np.ndarray, where: str) -> list[np.ndarray]:
    """The samples of each recording."""
    ends = as_labels(ends, where, "end")
    starts = np.concatenate([[0], ends[:-1]])
    wrong = ends < starts
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{where}: recording {row} ends at {ends[row]}, before it starts, at "
            f"{starts[row]}"
        )
    if ends[-1:].sum() != len(audio):
        raise InputError(
            f"{where}: the last recording ends at {ends[-1:].sum()}, but there are "
            f"{len(audio)} samples"
        )
    return [
        as_samples(audio[start:end], f"{where}: recording {row}")
        for row, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _check_length(where: str, name: str, column: np.ndarray, count: int) -> None:
    if column.shape != (count,):
        raise InputError(
            f"{where}: {name} must hold one value for each of {count} recordings, not "
            f"have shape {column.shape}"
        )


def _texts(column: np.ndarray, where: str, name: str) -> list[str]:
    """Whole numbers or texts as texts."""
    if column.dtype.kind == "S":
        return [text.decode("utf-8", "replace") for text in column.tolist()]
    if column.dtype.kind == "U":
        return column.tolist()
    if column.dtype.kind in "iu":
        return [str(number) for number in column.tolist()]
    raise InputError(
        f"{where}: {name} must be whole numbers or texts, not {column.dtype}"
    )
