"""Scores of the server's model, and whether they say that it is lost."""

from __future__ import annotations

import functools
import math

import jax
import numpy as np

from fedjax_compress import tree
from fedjax_compress.experiment.build import Parts, current_params
from fedjax_compress.experiment.config import Config
from fedjax_compress.report.records import Record
from fedjax_compress.runtime import distributed
from fedjax_compress.simulate import RunState
from fedjax_compress.typing import Params

_JUDGES = 32
"""Clients whose networks are scored, where each has one of its own."""


class Judge:
    """Adds scores to records where they are due.

    A model that has been scored is not scored again: it stays the same for as long as
    nobody hands in an update.
    """

    def __init__(self, config: Config, parts: Parts):
        self.config, self.parts = config, parts
        self._known: tuple[str, dict[str, float]] = "", {}

    def __call__(self, state: RunState, record: Record) -> int:
        """The round's number if the server's model is lost by its scores, or 0.

        A model may be finite and still so large that nothing can be computed with it.
        Then no client hands in a finite update, and the loss on the test data is not
        finite.
        """
        link, nobody = distributed.link(), record["dropped"] == record["clients"]
        due = evaluates(self.config, state.round)
        scores: dict[str, float] = {}
        if link.leads and (nobody or due):
            scores = self._scores(state, nobody)
        if link.leads and due:
            record.update(scores)
        if not nobody or not link.lead(lambda: not math.isfinite(scores["test_loss"])):
            return 0
        record["diverged"] = True
        return int(record["round"])

    def score(self, state: RunState, record: Record) -> None:
        """Adds the scores of a state that is the last one, if it has none yet."""
        if "test_loss" not in record:
            record.update(self._scores(state, nobody=False))

    def _scores(self, state: RunState, nobody: bool) -> dict[str, float]:
        params = current_params(self.parts, state)
        if not nobody:
            return self._evaluated(params, state)
        digest = tree.sha256(params)
        if digest != self._known[0]:
            self._known = digest, self._evaluated(params, state)
        return self._known[1]

    def _evaluated(self, params: Params, state: RunState) -> dict[str, float]:
        found = self._of_test_rows(params, state) | self._of_others(state)
        if self.parts.personal is not None:
            states = functools.partial(self.parts.simulator.client_states, state)
            found |= self.parts.personal(params, states)
        return found

    def _of_others(self, state: RunState) -> dict[str, float]:
        """``test_NAME_OTHER`` of the algorithm's further networks."""
        algorithm = self.parts.algorithm
        if algorithm.others is None:
            return {}
        server = self.parts.simulator.placement.local(state.server)
        return {
            f"{score}_{name}": value
            for name, (_, params) in algorithm.others(server).items()
            for score, value in self.parts.others[name](params).items()
        }

    def _of_test_rows(self, params: Params, state: RunState) -> dict[str, float]:
        """Of the server's model; or the means over clients, at most ``_JUDGES``."""
        parts, personal = self.parts, self.parts.algorithm.personal
        if parts.algorithm.judged is None:
            return parts.evaluate(params)
        assert personal is not None
        clients = parts.simulator.clients
        ids = np.arange(0, clients, -(-clients // _JUDGES))
        states = parts.simulator.client_states(state, ids)
        each = [
            parts.evaluate(personal(params, jax.tree.map(lambda x, i=i: x[i], states)))
            for i in range(len(ids))
        ]
        return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def evaluates(config: Config, finished: int) -> bool:
    """Whether scores are due after so many rounds."""
    return finished % config.evaluate_every == 0 or finished == config.rounds
