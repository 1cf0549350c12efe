"""Rounds of a configuration, timed; with what its network has learned."""

from __future__ import annotations

import time
from typing import Any

import jax

from fedjax_compress.bench.worker import device_peak
from fedjax_compress.data import Dataset
from fedjax_compress.experiment import Config
from fedjax_compress.experiment.build import build
from gpu_parts.measuring import Figure, per_round

SHOWN = (
    "model", "augment", "qat", "local", "server", "aggregate", "partition", "algorithm",
    "uplink", "downlink", "cohort", "rounds_per_call", "seed",
)  # fmt: skip


class Training:
    """A run without a folder: stepped, scored, and told as one figure.

    Args:
      name: of the figure.
      config: the configuration; its data are not read.
      dataset: the rows.
      words: what the rows are.
    """

    def __init__(self, name: str, config: Config, dataset: Dataset, words: str):
        self.name, self.config, self.words = name, config, words
        self.parts = build(config, dataset)
        self.state = self.parts.simulator.start(self.parts.params)
        self.seconds: list[float] = []
        self.rows: list[float] = []
        self.scores: list[dict[str, Any]] = []
        self.score_seconds: list[float] = []

    def advance(self, rounds: int) -> float:
        """Runs some rounds; seconds of each, the first ones without compiling."""
        simulator, first = self.parts.simulator, self.state.round
        compiled = simulator.compile_seconds
        begin = time.perf_counter()
        self.state, records = simulator.advance(self.state, rounds)
        jax.block_until_ready(self.state.server)
        took = time.perf_counter() - begin - (simulator.compile_seconds - compiled)
        if first:  # the very first call also fills caches
            self.seconds.append(took / rounds)
            numbers = range(first, first + rounds)
            self.rows.append(sum(map(self._rows_of, numbers)) / rounds)
        self.loss = records[-1]["train_loss"]
        return took / rounds

    def _rows_of(self, number: int) -> int:
        simulator, sizes = self.parts.simulator, self.parts.simulator.sizes
        ids = simulator.sampling(simulator.seed, number, sizes, simulator.cohort)
        return int(sizes[ids].sum())

    def score(self) -> None:
        """Loss and accuracy on the test rows."""
        begin = time.perf_counter()
        params = self.parts.algorithm.network(self.state.server)[1]
        found = self.parts.evaluate(params)
        self.score_seconds.append(time.perf_counter() - begin)
        short = {name: round(value, 4) for name, value in found.items()}
        self.scores.append({"rounds": self.state.round, **short})

    def figure(self, **facts: Any) -> Figure:
        """What has been found so far, after two calls at least."""
        simulator, peak = self.parts.simulator, device_peak()
        return per_round(
            self.name,
            self.seconds,
            self.rows,
            compile_seconds=round(simulator.compile_seconds, 2),
            lanes=simulator.lanes,
            convolution=simulator.convolution,
            clients=simulator.clients,
            device_peak_mb=None if peak is None else round(peak),
            rounds=self.state.round,
            train_loss=round(float(self.loss), 4),
            scores=self.scores,
            evaluation_seconds=[round(s, 3) for s in self.score_seconds],
            rows_are=self.words,
            settings={name: getattr(self.config, name) for name in SHOWN},
            **facts,
        )
