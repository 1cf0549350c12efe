"""Text as symbols, one a character, and sequences of them with the next as label."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

PAD, BEGIN, END = 0, 1, 2
CHARACTERS = "".join(
    sorted(string.ascii_letters + string.digits + "\n\r !\"#$%&'()*,-./:;?@[]_")
)
"""The 86 characters of the vocabulary; the symbol of CHARACTERS[i] is 3 + i."""
UNKNOWN = 3 + len(CHARACTERS)
SYMBOLS = UNKNOWN + 1


def encode(speech: str) -> np.ndarray:
    """int32 symbols of a text, one for each character."""
    points = np.frombuffer(speech.encode("utf-32-le", "surrogatepass"), np.uint32)
    table = np.array([ord(c) for c in CHARACTERS], np.uint32)
    spot = np.minimum(np.searchsorted(table, points), len(table) - 1)
    return np.where(table[spot] == points, 3 + spot, UNKNOWN).astype(np.int32)


def first_characters(texts: Sequence[str], length: int) -> np.ndarray:
    """int32 [texts, length]: the first characters of each, ``PAD`` after its end."""
    cut = [text[:length] for text in texts]
    symbols = encode("".join(text.ljust(length) for text in cut)).reshape(-1, length)
    ends = np.array([len(text) for text in cut])[:, None]
    return np.where(np.arange(length) < ends, symbols, PAD).astype(np.int32)


def check_sequences(length: int, holdout: float) -> None:
    """Raises InputError for sequences without a symbol, or no share held out."""
    if length < 1:
        raise InputError(f"length must be at least 1, not {length}")
    if not 0 < holdout < 1:
        raise InputError(f"holdout must lie between 0 and 1, not {holdout}")


def last_held_out(spoken: list[str], share: float) -> tuple[list[str], list[str]]:
    """Speeches to learn from, and the last ones, a share of them at least one, to test.

    The only speech of somebody stays to learn from.
    """
    kept = len(spoken) - round(share * len(spoken))
    kept = max(1, min(kept, len(spoken) - 1))
    return spoken[:kept], spoken[kept:]


def next_characters(
    name: str,
    train: Sequence[list[str]],
    test: Sequence[tuple[int, list[str]]],
    length: int,
    clients: bool = True,
) -> Dataset:
    """Data whose label is the character that follows; see the source ``text``.

    Args:
      name: of the data.
      train: the speeches of each client.
      test: of each who is tested: the number of the client among those of ``train``,
        -1 for somebody else, and what they say.
      length: symbols in a sequence.
      clients: whether it is known who says what.

    Raises:
      InputError: rows that cannot be used; see ``data.check``.
    """
    columns, owner = _columns([_sequences(said, length) for said in train])
    tested, spot = _columns([_sequences(said, length) for _, said in test])
    who = np.array([client for client, _ in test], np.int32)[spot]
    known = clients and bool((who >= 0).any())
    return check(
        Dataset(
            name,
            Task((length,), SYMBOLS, tokens=True),
            columns,
            owner if clients else None,
            tested,
            who if known else None,
        )
    )


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
    """Features and labels, and the number of the part that each row is of."""
    features, labels = np.concatenate(parts, axis=1)
    owner = np.repeat(np.arange(len(parts)), [p.shape[1] for p in parts])
    return {"features": features, "labels": labels}, owner.astype(np.int32)
