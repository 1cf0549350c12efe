"""One thing to measure: a contender on a workload, with its settings."""

from __future__ import annotations

from typing import NamedTuple

from fedjax_compress.models.convolution.forms import Form

CONTENDERS = ("engine", "loop", "bound")
ENGINE, LOOP, BOUND = CONTENDERS
DEFAULT_CLIENTS = {"W1": 20, "W2": 1000, "W3": 4}
"""Clients a round of each workload where none are asked for."""
POPULATION = 3400
"""Registered clients where none are asked for, unless the cohort is larger."""


class Case(NamedTuple):
    """What one worker process runs; the fields are JSON.

    Attributes:
      workload: W1, W2 or W3.
      clients: clients a round.
      contender: ``engine`` (the simulator), ``loop`` (a plain Python loop over
        clients), or ``bound`` (plain SGD without clients).
      population: registered clients; 0: 3,400, or ``clients`` if more.
      lanes: of the engine; 0: chosen by a rule.
      devices: of the engine; a CPU appears as so many. 0: one for each core, or all.
      convolution: form of the engine's convolutions.
      tune: whether a measured search chooses the layout, from the above on.
      rounds_per_call: of the engine; a turn of the measurement is as many rounds.
      uplink, downlink: specifications of the engine's compressors.
      algorithm: specification of the engine's algorithm.
      model: specification of another model for the workload's data; empty for its own.
      qat: specification of quantization-aware training.
      clock: specification of virtual time.
    """

    workload: str
    clients: int
    contender: str = ENGINE
    population: int = 0
    lanes: int = 0
    devices: int = 0
    convolution: Form = "auto"
    tune: bool = False
    rounds_per_call: int = 1
    uplink: str = "identity"
    downlink: str = "identity"
    algorithm: str = "fedavg"
    model: str = ""
    qat: str = "none"
    clock: str = "none"

    @property
    def registered(self) -> int:
        """Number of registered clients."""
        return self.population or max(POPULATION, self.clients)

    def __str__(self) -> str:
        plural = "s" * (self.clients > 1)
        text = f"{self.workload}, {self.clients:,} client{plural}, {self.contender}"
        plain = Case(self.workload, self.clients, self.contender)
        differing = [n for n in self._fields if getattr(self, n) != getattr(plain, n)]
        return ", ".join([text, *(f"{n} {getattr(self, n)}" for n in differing)])
