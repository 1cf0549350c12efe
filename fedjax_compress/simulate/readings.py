"""Where the clock of a run stands, and rounds: as foreseen, and as they were."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fedjax_compress.clock import Choice, Spans

Array = np.ndarray


class Job(NamedTuple):
    """What a client is at, where nobody waits.

    Attributes:
      end: when its report comes, or when it is known to be gone.
      client: its id.
      round: in which it has begun.
      reports: whether it does.
      begin: when it has begun.
    """

    end: float
    client: int
    round: int
    reports: bool
    begin: float


class Reading(NamedTuple):
    """Where the clock stands after a round; kept in checkpoints.

    Attributes:
      now: virtual seconds since the run began.
      down, up: how many times as many bytes as foreseen the last round's messages had;
        0 before there are any, and where all sizes are known beforehand.
      begun: clients that have begun so far, where nobody waits.
      jobs: what clients are at then.
    """

    now: float = 0.0
    down: float = 0.0
    up: float = 0.0
    begun: int = 0
    jobs: tuple[Job, ...] = ()


class Wasted(NamedTuple):
    """Clients that nobody waits for and whose work is lost.

    Attributes:
      stale: reports that were too old.
      lost: clients that never reported.
      down, up: bytes in all, as foreseen: each was sent a message, and the stale have
        sent one.
      joules: of all of them.
    """

    stale: int = 0
    lost: int = 0
    down: int = 0
    up: int = 0
    joules: float = 0.0


class Plan(NamedTuple):
    """A round as it is foreseen.

    Attributes:
      ids: int32 [n], those invited, ascending.
      begin: when the round begins.
      waited: seconds until so many clients were there.
      compute: float64 [n], seconds.
      spans: foreseen.
      sizes: float64 [n] each, bytes down and up as foreseen from shapes alone.
      choice: whose report counts, and for how long the round is foreseen to last.
      staleness: int32 [n], rounds since each began; None where all begin with it.
      after: the clock behind it, where nobody waits.
      wasted: what did not become a report.
    """

    ids: Array
    begin: float
    waited: float
    compute: Array
    spans: Spans
    sizes: tuple[Array, Array]
    choice: Choice
    staleness: Array | None = None
    after: Reading | None = None
    wasted: Wasted = Wasted()

    @property
    def end(self) -> Reading:
        """The clock behind it, as foreseen; right where sizes are."""
        return self.after or Reading(self.begin + self.choice.seconds)


class Timed(NamedTuple):
    """A round as it was.

    Attributes:
      kept: bool [n], whose report counts.
      sent: bool [n], who has begun to send one.
      figures: for the record.
      reading: of the clock after it.
      spans: of the clients.
      plan: as it was foreseen.
    """

    kept: Array
    sent: Array
    figures: dict[str, Any]
    reading: Reading
    spans: Spans
    plan: Plan
