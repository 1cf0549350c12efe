"""From what a round's lanes report to one line of metrics."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fedjax_compress.errors import Diverged
from fedjax_compress.simulate import handed_in
from fedjax_compress.simulate.plan import DUMMY
from fedjax_compress.simulate.readings import Timed
from fedjax_compress.simulate.round import RoundRecord
from fedjax_compress.typing import Counted
from fedjax_compress.wire import Ledger


def rounds_run(record: RoundRecord, most: int) -> int:
    """How many of ``most`` rounds were run: those up to one that diverged."""
    bad = np.flatnonzero(~np.asarray(record.finite[:most]))
    return int(bad[0]) + 1 if len(bad) else most


def line(
    number: int,
    ids: np.ndarray,
    record: RoundRecord,
    i: int,
    seconds: float,
    timed: Timed | None = None,
) -> dict:
    """One line of metrics; sums of bytes are Python integers.

    ``train_NAME`` is the mean of what clients tell by that name, as ``train_loss`` is
    of their loss: over all whose report is used, weighted by their examples. Of what
    they have ``Counted`` it is the figure that their sums give.

    ``dropped`` are reports that are not finite; with a clock further ones are missing
    from the means, and only what was begun to be sent is counted.

    ``diverged`` stands only in that of a round after which the server's model would
    not have been finite.
    """
    real = ids != DUMMY
    lanes = jax.tree.map(lambda x: np.asarray(x[i])[real], record.lanes)
    order = np.argsort(ids[real])
    ok, counts = lanes.ok[order], lanes.counts[order]
    weight = lanes.examples[order][counts].astype(np.float64)
    told = {"loss": lanes.loss, **lanes.metrics}
    clients = int(real.sum())
    total = float(weight.sum())

    def figure(found: Any) -> float:
        if isinstance(found, Counted):
            add = lambda x: x[order][counts].sum(0, dtype=np.float64)  # noqa: E731
            sums = jax.tree.map(lambda x: add(x).astype(np.float32), found.sums)
            return float(found.metric.finish(sums))
        values = found[order][counts].astype(np.float64)
        return float((values * weight).sum() / total) if total else float("nan")

    ledger = Ledger()
    sent = slice(None) if timed is None else timed.sent
    ledger.up(lanes.up[order][sent], lanes.nominal_up[order][sent])
    # Each client gets the broadcast, and what is sent to it alone.
    down, nominal = int(record.down[i]), int(record.nominal_down[i])
    ledger.down(
        lanes.down.astype(np.int64) + down,
        lanes.nominal_down.astype(np.int64) + nominal,
    )
    if timed is not None:  # of those who were not waited for and were lost
        more = timed.plan.wasted
        ledger.up([more.up], [_as(more.up, ledger.nominal_bytes_up, ledger.bytes_up)])
        ledger.down(
            [more.down], [_as(more.down, ledger.nominal_bytes_down, ledger.bytes_down)]
        )
    return {
        "round": number,
        **{handed_in.trained_name(name): figure(found) for name, found in told.items()},
        "clients": clients,
        "dropped": int(clients - ok.sum()),
        "bytes_up": ledger.bytes_up,
        "bytes_down": ledger.bytes_down,
        "nominal_bytes_up": ledger.nominal_bytes_up,
        "nominal_bytes_down": ledger.nominal_bytes_down,
        "seconds": seconds,
        "clients_per_second": clients / seconds if seconds > 0 else float("inf"),
        **({} if timed is None else timed.figures),
        **{name: float(value[i]) for name, value in record.server.items()},
        **({} if bool(record.finite[i]) else {"diverged": True}),
    }


def _as(size: int, nominal: int, true: int) -> int:
    """The nominal bytes of messages that are like others."""
    return round(size * nominal / true) if true else 0


def diverged(state: Any, records: list[dict]) -> Diverged:
    """What ends a run after the last of these records, from the state before it."""
    number = records[-1]["round"]
    return Diverged(
        f"the server's model is not finite after round {number}: its steps or the "
        "clients' are too long, or a function of the model gives numbers too large; "
        "try a smaller lr",
        number,
        state,
        records,
    )


def bytes_of(
    ids: np.ndarray, record: RoundRecord, i: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bytes down and up of each client of a round, int64, in the order of ids."""
    real = ids != DUMMY
    order = np.argsort(ids[real])
    down, up = (
        np.asarray(x[i])[real][order].astype(np.int64)
        for x in (record.lanes.down, record.lanes.up)
    )
    return down + int(record.down[i]), up
