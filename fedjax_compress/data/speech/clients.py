"""Whose a recording is: a client is a speaker in one session."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data.speech.recordings import Recordings, in_order
from fedjax_compress.data.split import hold_out
from fedjax_compress.errors import InputError

SESSIONS = 3
"""Of each speaker, where nothing is known or said of them."""


class Client(NamedTuple):
    """Recordings that belong together.

    Attributes:
      speaker: whose they are.
      session: which of the speaker's.
      members: int64 [some], numbers of the recordings.
    """

    speaker: str
    session: str
    members: np.ndarray


class Parts(NamedTuple):
    """Who trains on what, and who is tested on what.

    Attributes:
      train: by speaker, then session.
      test: one for each speaker with recordings for tests; ``session`` is empty.
    """

    train: list[Client]
    test: list[Client]


def parts_of(
    found: Recordings,
    usable: np.ndarray,
    sessions: int | None,
    unseen: tuple[str, ...],
    holdout: float,
) -> Parts:
    """The clients of both parts.

    Args:
      found: all recordings.
      usable: bool [recordings], those that are not left out.
      sessions: among how many each speaker's takes are dealt, in their order; 0 for
        those that the recordings have; None for those, or ``SESSIONS``.
      unseen: speakers who do not train.
      holdout: share of each speaker's recordings that is kept for tests, at least one,
        where no recording is marked.

    Raises:
      InputError: unknown speakers or sessions, or a part without recordings.
    """
    speakers = in_order(found.speakers)
    for name in unseen:
        if name not in speakers:
            hint = registry.nearest(name, speakers)
            raise InputError(f"{found.name}: nobody is called {name!r}; {hint}")
    if sessions is None:
        sessions = SESSIONS if found.sessions is None else 0
    if sessions < 0:
        raise InputError(f"sessions must be 0 or more, not {sessions}")
    if sessions == 0 and found.sessions is None:
        raise InputError(
            f"{found.name}: sessions=0 takes the sessions of the recordings, but these "
            "have none; say sessions=1 for one client a speaker"
        )
    numbers = {name: number for number, name in enumerate(speakers)}
    owner = np.array([numbers[name] for name in found.speakers])
    test = found.test
    if test is None:
        test = hold_out(owner, holdout, least=1)
    parts = Parts([], [])
    for number, speaker in enumerate(speakers):
        own = usable & (owner == number)
        if speaker not in unseen:
            members = np.flatnonzero(own & ~test)
            blocks = _sessions(found, members, sessions)
            parts.train.extend(Client(speaker, *block) for block in blocks)
        if (own & test).any():
            parts.test.append(Client(speaker, "", np.flatnonzero(own & test)))
        elif speaker in unseen:
            raise InputError(f"{found.name}: {speaker} has no recordings for tests")
    for what, clients in (("to train on", parts.train), ("for tests", parts.test)):
        if not clients:
            raise InputError(
                f"{found.name}: no recording is left {what}, of {len(usable)}, "
                f"{int((~usable).sum())} of them longer than the longest allowed, "
                f"{int(test.sum())} kept for tests"
            )
    return parts


def _sessions(
    found: Recordings, members: np.ndarray, sessions: int
) -> list[tuple[str, np.ndarray]]:
    """(session, numbers of recordings) of one speaker; those without any left out."""
    if sessions == 0:
        own = found.sessions or []
        names = np.array([own[i] for i in members])
        return [(name, members[names == name]) for name in in_order(names.tolist())]
    takes = found.takes[members]
    apart = np.unique(takes)
    blocks = np.array_split(apart, min(sessions, max(1, len(apart))))
    dealt = [members[np.isin(takes, block)] for block in blocks if len(block)]
    return [(str(number), block) for number, block in enumerate(dealt)]
