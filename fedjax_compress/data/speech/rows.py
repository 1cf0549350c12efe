"""Utterances of clients as rows of columns."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from fedjax_compress.data.speech.clients import Client
from fedjax_compress.data.speech.joining import Joining, generator
from fedjax_compress.data.speech.log_mel import LogMel
from fedjax_compress.data.speech.recordings import Recordings
from fedjax_compress.data.speech.symbols import Units, Words, as_symbols
from fedjax_compress.typing import Columns

_MULTIPLE = 4
"""Frames of a row are a multiple of it, so that networks may halve them twice."""


class Utterance(NamedTuple):
    """One row before it is filled with zeros.

    Attributes:
      features: float32 [frames, bins], at least one frame.
      words: what is said in all its recordings.
    """

    features: np.ndarray
    words: Words


class Making(NamedTuple):
    """How utterances are made; the same for all clients.

    Attributes:
      how: recordings are joined.
      features: what is computed of the samples.
      mean, std: (features - mean) / std is kept.
      seed: of all that is drawn.
    """

    how: Joining
    features: LogMel
    mean: float
    std: float
    seed: int

    def utterances(
        self, found: Recordings, client: Client, part: str, uses: int
    ) -> list[Utterance]:
        """All utterances of a client, each of its recordings used ``uses`` times."""
        rng = generator(self.seed, part, client.speaker, client.session)
        rows = []
        for run in self.how.order(len(client.members), uses, rng):
            members = client.members[run]
            samples = self.how.join([found.clips[i] for i in members], rng)
            frames = self.features.frames(samples)
            words = tuple(word for i in members for word in found.words[i])
            frames = (frames - np.float32(self.mean)) / np.float32(self.std)
            rows.append(Utterance(frames, words))
        return rows


def as_columns(
    parts: tuple[list[list[Utterance]], ...], symbols: tuple[str, ...], units: Units
) -> list[Columns]:
    """features, lengths, labels and label_lengths of each part, in the same shapes.

    Args:
      parts: of each, the rows of its clients, at least one.
      symbols: names of all, the first for none.
      units: of what is said.
    """
    number = {symbol: i for i, symbol in enumerate(symbols)}
    listed = [list(itertools.chain.from_iterable(part)) for part in parts]
    texts = [[as_symbols(row.words, units) for row in rows] for rows in listed]
    most = max(len(text) for spoken in texts for text in spoken)
    longest = max(len(row.features) for rows in listed for row in rows)
    frames = -(-longest // _MULTIPLE) * _MULTIPLE
    columns = []
    for rows, spoken in zip(listed, texts, strict=True):
        bins = rows[0].features.shape[1]
        features = np.zeros((len(rows), frames, bins), np.float32)
        labels = np.zeros((len(rows), max(1, most)), np.int32)
        for i, (row, text) in enumerate(zip(rows, spoken, strict=True)):
            features[i, : len(row.features)] = row.features
            labels[i, : len(text)] = [number[symbol] for symbol in text]
        columns.append(
            {
                "features": features,
                "lengths": np.array([len(row.features) for row in rows], np.int32),
                "labels": labels,
                "label_lengths": np.array([len(text) for text in spoken], np.int32),
            }
        )
    return columns


def owners(clients: list[Client], parts: list[list[Utterance]]) -> np.ndarray:
    """int32 [train rows]: the number of the client whose rows these are."""
    return np.repeat(np.arange(len(clients), dtype=np.int32), [len(x) for x in parts])


def test_owners(
    clients: list[Client], tested: list[Client], parts: list[list[Utterance]]
) -> np.ndarray:
    """int32 [test rows]: a speaker's rows in turn to the speaker's clients, -1 where
    there is none."""
    dealt = []
    for speaker, rows in zip(tested, parts, strict=True):
        own = [k for k, c in enumerate(clients) if c.speaker == speaker.speaker]
        dealt.append(np.resize(np.array(own or [-1], np.int32), len(rows)))
    return np.concatenate(dealt)
