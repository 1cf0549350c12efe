"""Text by speaking role, as sequences of characters."""

from __future__ import annotations

import json
import lzma
import string
from pathlib import Path

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.columns import find
from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

PAD, BEGIN, END = 0, 1, 2
CHARACTERS = "".join(
    sorted(string.ascii_letters + string.digits + "\n\r !\"#$%&'()*,-./:;?@[]_")
)
"""The 86 characters of the vocabulary; the symbol of CHARACTERS[i] is 3 + i."""
UNKNOWN = 3 + len(CHARACTERS)
SYMBOLS = UNKNOWN + 1


@registry.register("data")
def text(path: str, length: int = 80, holdout: float = 0.1) -> Dataset:
    """Next-character prediction on text by speaking role; 90 symbols, 80 a sequence.

    Symbols: 0 padding, 1 begin and 2 end of a speech, 3 .. 88 the 86 characters of
    the usual vocabulary, 89 any other character. The speeches of a role are joined,
    ``begin speech end begin speech end ...``, and cut into sequences; the label of a
    symbol is the one that follows it. The last sequence is filled with padding, which
    no model scores. Each role is a client of its own.

    Args:
      path: JSON, possibly .xz, with ``users`` (list of names) and ``speeches`` (for
        each user the list of speeches in order).
      length: symbols in a sequence.
      holdout: the last speeches of each role are kept for testing: this share of
        them, at least one, but never the only one.

    Reference: sequences of 80 and 90 symbols as for Shakespeare in Reddi et al.,
    "Adaptive Federated Optimization" (2021); joining and cutting as in FedJAX.

    Deviations: symbols are numbered by code point.
    """
    if length < 1:
        raise InputError(f"length must be at least 1, not {length}")
    if not 0 < holdout < 1:
        raise InputError(f"holdout must lie between 0 and 1, not {holdout}")
    speeches = _read(path)
    train, test = [], []
    for spoken in speeches:
        kept = len(spoken) - round(holdout * len(spoken))
        kept = max(1, min(kept, len(spoken) - 1))
        train.append(_sequences(spoken[:kept], length))
        test.append(_sequences(spoken[kept:], length))
    return check(
        Dataset(
            Path(path).name.split(".")[0],
            Task((length,), SYMBOLS, tokens=True),
            *_columns(train),
            *_columns(test),
        )
    )


def encode(speech: str) -> np.ndarray:
    """int32 symbols of a text, one for each character."""
    points = np.frombuffer(speech.encode("utf-32-le", "surrogatepass"), np.uint32)
    table = np.array([ord(c) for c in CHARACTERS], np.uint32)
    spot = np.minimum(np.searchsorted(table, points), len(table) - 1)
    return np.where(table[spot] == points, 3 + spot, UNKNOWN).astype(np.int32)


def _sequences(speeches: list[str], length: int) -> np.ndarray:
    """int32 [2, sequences, length]: inputs and labels of one role."""
    parts = [np.concatenate([[BEGIN], encode(s), [END]]) for s in speeches]
    if not parts:
        return np.zeros((2, 0, length), np.int32)
    stream = np.concatenate(parts)
    count = -(-(len(stream) - 1) // length)
    result = np.full((2, count * length), PAD, np.int32)
    result[0, : len(stream) - 1] = stream[:-1]
    result[1, : len(stream) - 1] = stream[1:]
    return result.reshape(2, count, length)


def _columns(parts: list[np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features and labels, and the client of each sequence."""
    features, labels = np.concatenate(parts, axis=1)
    owner = np.repeat(np.arange(len(parts)), [p.shape[1] for p in parts])
    return {"features": features, "labels": labels}, owner.astype(np.int32)


def _read(path: str) -> list[list[str]]:
    """The speeches of each role that says something."""
    file = find(path, "file")
    opener = lzma.open if file.suffix == ".xz" else open
    try:
        with opener(file, "rt", encoding="utf-8") as stream:
            data = json.load(stream)
        pairs = zip(data["users"], data["speeches"], strict=True)
        speeches = [[str(speech) for speech in said] for _, said in pairs if said]
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be read: {reason}") from None
    except (ValueError, KeyError, TypeError, EOFError, lzma.LZMAError):
        kind = describe_kind(file)
        other = "" if "JSON" in kind or "xz" in kind else f"; it {kind.split(';')[0]}"
        raise InputError(
            f"{path} is not JSON with 'users' and, for each, a list in "
            f"'speeches'{other}"
        ) from None
    if not speeches:
        raise InputError(f"{path}: nobody says anything")
    return speeches
