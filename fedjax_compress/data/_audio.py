"""Speech by speaker: recordings joined to utterances, as log-mel features."""

from __future__ import annotations

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.building import Names
from fedjax_compress.data.columns import find
from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.data.speech.arrays import read_arrays
from fedjax_compress.data.speech.clients import parts_of
from fedjax_compress.data.speech.folder import read_folder
from fedjax_compress.data.speech.joining import joining
from fedjax_compress.data.speech.log_mel import log_mel
from fedjax_compress.data.speech.recordings import Recordings
from fedjax_compress.data.speech.rows import Making, as_columns, owners, test_owners
from fedjax_compress.data.speech.symbols import Units, symbols_of
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


@registry.register("data")
def audio(
    path: str,
    rate: int = 8000,
    join: tuple[int, ...] = (3, 5),
    uses: int = 4,
    test_uses: int = 2,
    sessions: int | None = None,
    gap: tuple[float, ...] = (0.05, 0.15),
    noise: float = 0.001,
    longest: float = 1.0,
    units: Units = "words",
    bins: int = 40,
    window: float = 0.025,
    hop: float = 0.010,
    low: float = 60.0,
    high: float = 3800.0,
    preemphasis: float = 0.0,
    mean: float = -6.0,
    std: float = 3.6,
    unseen: Names = (),
    test_takes: int = 5,
    holdout: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Speech: recordings joined to utterances, log-mel frames, and what is said.

    One row is an utterance: some recordings of one client, with a gap of Gaussian
    noise before, between and after them::

        features[t, b] = (log(sum_k filters[k, b] |X_t[k]|^2 + 1e-5) - mean) / std

    X_t is the spectrum of frame t under Hann's window, padded to a power of two;
    filters are triangles, equally spaced on the mel scale, 2595 log10(1 + f / 700).
    Frames after the ``lengths`` [rows] of a row are 0; labels [rows, longest of all]
    are the symbols 1, 2, ... and then, after ``label_lengths`` [rows], 0.

    A client is a speaker in one session. Its recordings in a random order, cut into
    runs of random lengths, are its utterances, and that ``uses`` times, so that each
    recording is used as often and an epoch has a length; the last run of a pass is what
    is left, at least one recording. They depend on the client's recordings and the seed
    alone. Test recordings are joined in the same way, by speaker, and the utterances
    dealt in turn to the speaker's clients.

    Args:
      path: an .npz file with the arrays audio (all recordings end to end: int16,
        int32, uint8, or floats in -1..1), ends (int, the end of each), speakers
        (numbers or names) and labels (whole numbers) or transcripts (texts), and, if
        known, speaker_names, takes, sessions, is_test and rate. Or a folder of WAV
        files with one channel and table.csv, with the columns file, transcript and
        speaker, and, if known, session and test (0 or 1).
      rate: samples a second of all recordings.
      join: fewest and most recordings in an utterance.
      uses: how often each recording for training is used; a partition other than
        ``natural`` may give one recording to several clients then.
      test_uses: likewise, each recording for tests.
      sessions: into how many sessions each speaker's training recordings are dealt, in
        blocks of takes in their order (without takes, of recordings in theirs); 1 for
        one client a speaker, 0 for the sessions that the recordings have. none: those,
        or 3 where they have none.
      gap: shortest and longest gap, in seconds.
      noise: standard deviation in a gap; 1 is full scale. Speech gets none.
      longest: recordings of more seconds are left out; 0 for none.
      units: of what is said. words: what stands between spaces; characters: these
        and the space between words. Symbols are those of all recordings, for tests and
        of unseen speakers too.
      bins: number of mel filters.
      window: length of a frame, in seconds.
      hop: from the start of a frame to that of the next, in seconds.
      low: where the first filter begins, in Hz.
      high: where the last filter ends, in Hz; at most half the rate.
      preemphasis: share of each sample that is taken from the next; 0.97 is usual where
        the treble is weak.
      mean: taken from all features. It and ``std`` are constants of the server, no
        message of the clients; those given here are of the utterances to train on in
        the Free Spoken Digit Dataset, rounded.
      std: what divides all features then.
      unseen: speakers who do not train; their test recordings have no client
        (``test_clients`` -1) and count in the figures of all test rows, not in those
        of clients.
      test_takes: where takes are known, but not what is for tests, takes below it are
        for tests, as in the Free Spoken Digit Dataset; 0 holds out a share.
      holdout: the share of each speaker's recordings, at least one, that is kept for
        tests where nothing says which are.
      seed: draws the utterances and their gaps; it does not follow the run's.

    Raises:
      InputError: a missing file, array or column, another rate, a recording that is
        empty or not finite, options that cannot be, nobody to train or to test.

    Reference: features as in Davis and Mermelstein, "Comparison of Parametric
    Representations for Monosyllabic Word Recognition in Continuously Spoken Sentences"
    (1980; from memory); triangles on the mel scale as TensorFlow's
    linear_to_mel_weight_matrix has them; Free Spoken Digit Dataset (Jackson and
    others), its split into takes 0-4 and 5-49.

    Deviations: one mean and one deviation for all bins rather than one for each; no
    cepstrum.
    """
    making = Making(
        joining(join, gap, noise, rate),
        log_mel(rate, bins, window, hop, low, high, preemphasis),
        mean,
        std,
        seed,
    )
    if not (np.isfinite(mean) and 0 < std < np.inf):
        raise InputError(f"std must be positive and mean finite, not {std}, {mean}")
    if min(uses, test_uses) < 1 or not longest >= 0:
        raise InputError("audio needs uses >= 1, test_uses >= 1 and longest >= 0")
    found = _read(path, rate, test_takes)
    most = longest * rate if longest else np.inf
    usable = np.array([len(clip) <= most for clip in found.clips])
    parts = parts_of(found, usable, sessions, unseen, holdout)
    train = [making.utterances(found, c, "train", uses) for c in parts.train]
    test = [making.utterances(found, c, "test", test_uses) for c in parts.test]
    symbols = symbols_of(found.words, units)
    columns = as_columns((train, test), symbols, units)
    task = Task(
        columns[0]["features"].shape[1:],
        len(symbols),
        scale=1.0,
        target="sequence",
        longest=columns[0]["labels"].shape[1],
        symbols=symbols,
    )
    return check(
        Dataset(
            found.name,
            task,
            columns[0],
            owners(parts.train, train),
            columns[1],
            test_owners(parts.train, parts.test, test),
        )
    )


def _read(path: str, rate: int, test_takes: int) -> Recordings:
    """The recordings of a file or a folder, in some of which somebody speaks."""
    place = find(path, "file or folder")
    if place.is_dir():
        found = read_folder(place, rate)
    else:
        found = read_arrays(path, rate, test_takes)
    if not any(found.words):
        raise InputError(f"{found.name}: nobody says anything")
    return found
