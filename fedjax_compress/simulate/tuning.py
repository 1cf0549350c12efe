"""How a round is laid out on the devices: chosen by a short measured search.

What is chosen changes the speed, and results only by rounding. The search times real
rounds of the algorithm on a sample of the clients, a candidate at a time, and goes on
in the direction that helps::

    forms of a convolution -> more or fewer lanes -> more or fewer devices
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from fedjax_compress import tree
from fedjax_compress.clients import ClientData
from fedjax_compress.errors import Diverged
from fedjax_compress.models import Form, convolution_form
from fedjax_compress.models.convolution.forms import default_form
from fedjax_compress.simulate.engine import RunState, Simulator
from fedjax_compress.simulate.foresee import one_client, some
from fedjax_compress.simulate.plan import DUMMY, choose_devices, choose_lanes, plan
from fedjax_compress.typing import Algorithm, Params

GAIN = 1.03
"""A candidate must be faster by this factor; less is noise."""
_FORMS: tuple[Form, ...] = ("winograd", "patches")
"""What the CPU can choose from: XLA's own convolution is twenty times slower there
inside a loop."""
_ROWS, _CLIENTS, _TIMED, _LEAST = 64, 4, 0.6, 2


class Choice(NamedTuple):
    """How a round is laid out.

    Attributes:
      lanes: clients side by side on a device.
      devices: over which the cohort is spread.
      convolution: form of the convolutions that leave it open.
    """

    lanes: int
    devices: int
    convolution: Form = "auto"


class Tuned(NamedTuple):
    """What a search has found.

    Attributes:
      choice: the fastest candidate.
      rates: (candidate, rows a second) in the order of measuring, the start first.
    """

    choice: Choice
    rates: list[tuple[Choice, float]]

    @property
    def gain(self) -> float:
        """How many times faster than the start."""
        return max(rate for _, rate in self.rates) / (self.rates[0][1] or 1.0)


def search(
    start: Choice,
    rate: Callable[[Choice], float],
    *,
    forms: Sequence[Form],
    devices: Sequence[int],
    most_lanes: int,
    seconds: float = 30.0,
) -> Tuned:
    """Climbs from ``start`` to a choice that no neighbour beats.

    Args:
      start: the first candidate.
      rate: measures a candidate; rows a second, 0 if it cannot run.
      forms: of convolutions, to be tried.
      devices: numbers of devices, to be tried.
      most_lanes: bound on lanes x devices.
      seconds: no new candidate is begun after this time.
    """
    begin = time.monotonic()
    rates = [(start, rate(start))]

    def best() -> tuple[Choice, float]:
        return max(rates, key=lambda r: r[1])

    def better(candidate: Choice) -> bool:
        known = [c for c, _ in rates]
        late = time.monotonic() - begin > seconds
        fits = 1 <= candidate.lanes <= max(1, most_lanes // candidate.devices)
        if candidate in known or late or not fits:
            return False
        before = best()
        found = rate(candidate)
        if found < before[1] * GAIN:  # remembered as no better, whatever the noise
            rates.append((candidate, min(found, before[1])))
            return False
        rates.append((candidate, found))
        return True

    for form in forms:
        better(best()[0]._replace(convolution=form))
    for factor in (2.0, 0.5):
        while better(best()[0]._replace(lanes=int(best()[0].lanes * factor))):
            pass
    for number in devices:
        better(best()[0]._replace(devices=number))
    return Tuned(best()[0], rates)


def tune(
    algorithm: Algorithm,
    data: ClientData,
    params: Params,
    ids: np.ndarray,
    cohort: int,
    start: Choice,
    *,
    seconds: float = 30.0,
) -> Tuned:
    """The search for a run, on the devices at hand.

    Args:
      algorithm, data, params: of the run.
      ids: clients of one round, from which samples are taken.
      cohort: clients a round.
      start: where to start; zeros and ``auto`` are filled by the fixed rules.
      seconds: no new candidate is begun after this time.
    """
    platform = jax.default_backend()
    devices = start.devices or choose_devices(cohort)
    lanes = start.lanes or choose_lanes(tree.count(params), cohort, devices, platform)
    form, forms = start.convolution, _FORMS[:0]
    if asks_for_form(algorithm, data, params):
        form = default_form() if form == "auto" else form
        forms = _FORMS if platform == "cpu" else (*_FORMS, "direct")

    def rate(choice: Choice) -> float:
        try:
            return measure(algorithm, data, params, ids, choice)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                return 0.0
            raise

    return search(
        Choice(lanes, devices, form),
        rate,
        forms=forms,
        devices=sorted({1, devices}),
        most_lanes=cohort,
        seconds=seconds,
    )


def measure(
    algorithm: Algorithm,
    data: ClientData,
    params: Params,
    cohort: np.ndarray,
    choice: Choice,
) -> float:
    """Rows a second of rounds of a few of the cohort's clients, laid out so.

    Args:
      algorithm, data, params: of the run.
      cohort: ids of the clients of one round, from which a sample is taken.
      choice: the candidate.
    """
    ids = _sample(cohort, data.sizes, choice)
    few = some(data, ids, _ROWS)

    def everybody(seed: int, round: int, sizes: np.ndarray, cohort: int) -> np.ndarray:
        return np.arange(cohort)

    simulator = Simulator(
        # What one client does before the first round says nothing of the others' speed.
        algorithm._replace(begin=None),
        few,
        cohort=len(ids),
        sampling=everybody,
        lanes=choice.lanes,
        devices=choice.devices,
        convolution=choice.convolution,
    )
    state = _after(simulator, simulator.start(params))
    best, spent, repeats = np.inf, 0.0, 0
    while spent < _TIMED or repeats < _LEAST:
        begin = time.perf_counter()
        state = _after(simulator, state)
        jax.block_until_ready(state.server)
        seconds = time.perf_counter() - begin
        best, spent, repeats = min(best, seconds), spent + seconds, repeats + 1
    return float(few.sizes.sum() / best)


def _after(simulator: Simulator, state: RunState) -> RunState:
    """The state after one more round; where that diverges, before it: as fast."""
    try:
        return simulator.advance(state, 1)[0]
    except Diverged as diverged:
        found: RunState = diverged.state
        return found


def asks_for_form(algorithm: Algorithm, data: ClientData, params: Params) -> bool:
    """Whether any convolution that a client computes leaves its form open."""
    few = some(data, np.arange(1), _ROWS)
    with convolution_form("patches") as questions:
        jax.eval_shape(lambda: one_client(algorithm, algorithm.tier, few, params)[2])
    return bool(questions)


def _sample(cohort: np.ndarray, sizes: np.ndarray, choice: Choice) -> np.ndarray:
    """Clients of the middle chunks of each device, as the cohort would be planned."""
    chunks = plan(cohort, sizes, choice.lanes, choice.devices)
    chunks = chunks.reshape(choice.devices, -1, choice.lanes)
    wanted = min(max(1, _CLIENTS // choice.lanes), chunks.shape[1])
    first = (chunks.shape[1] - wanted) // 2
    ids = chunks[:, first : first + wanted].reshape(-1)
    ids = ids[ids != DUMMY]
    return ids if len(ids) else np.asarray(cohort[:1])
