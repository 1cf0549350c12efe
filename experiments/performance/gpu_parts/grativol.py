"""Cells of ``experiments/grativol2023/table1.toml``, one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fedjax_compress.experiment import Config, load_grid
from gpu_parts import rows
from gpu_parts.measuring import Figure, Options, Piece
from gpu_parts.training import Training

TABLE = Path(__file__).resolve().parents[2] / "grativol2023" / "table1.toml"
FIRST = ("reference, E = 1", "4 bit, E = 1", "1 bit, E = 1", "prune 90 %, E = 1")
FORMS = ("auto", "direct")
"""Of convolutions; the faster one is taken for all cells."""
_CHUNK, _TRIED = 10, 3
"""Rounds between two evaluations; rounds of each form that is tried."""
_QUICK = {"clients": 4, "cohort": 2, "rounds": 3, "model": "cnn(widths=(4,), dense=8)"}
"""Another network, for ResNet-12 takes half a minute to compile on a CPU."""


class Cells:
    """The cells of one epoch, in the form of convolutions that has been found.

    Args:
      options: of the part.
    """

    def __init__(self, options: Options):
        self.options, self.form = options, "auto"
        self.begun: Training | None = None
        grid = load_grid(TABLE)
        assert grid is not None
        small = _QUICK if options.quick else {}
        self.configs = {
            scheme.name: dataclasses.replace(
                grid.base, **{**scheme.settings, "tune": "never", "devices": 1, **small}
            )
            for scheme in grid.schemes
            if scheme.name.endswith("E = 1")
        }
        self.rows = rows.cifar10(
            options.data, *((64, 32) if options.quick else (50_000, 10_000))
        )

    def names(self) -> list[str]:
        """Those that the study's summary is about, then the others."""
        others = [name for name in self.configs if name not in FIRST]
        return list(FIRST[:1]) if self.options.quick else [*FIRST, *others]

    def start(self, name: str, form: str) -> Training:
        """A cell before its first round."""
        config: Config = dataclasses.replace(self.configs[name], convolution=form)
        return Training(name, config, *self.rows)

    def try_forms(self) -> Iterator[Figure]:
        """Some rounds of the reference in each form."""
        taken: dict[str, float] = {}
        runs = {form: self.start(FIRST[0], form) for form in FORMS}
        for form, run in runs.items():
            run.advance(1)
            taken[form] = min(run.advance(1) for _ in range(_TRIED))
            yield run.figure() | {"name": f"{run.name}, convolutions {form}, tried"}
        self.form = min(taken, key=lambda form: taken[form])
        self.begun = runs[self.form]

    def whole(self, name: str) -> Iterator[Figure]:
        """A cell to its last round, from its first or from where it was tried."""
        if self.begun is not None and name == FIRST[0]:
            run, self.begun = self.begun, None
        else:
            run = self.start(name, self.form)
        most, each = run.config.rounds, 1 if self.options.quick else _CHUNK
        while (done := run.state.round) < most:
            for _ in range(min(each, most - done)):
                run.advance(1)
            run.score()
            if run.seconds:
                yield run.figure(of_rounds=most)


def grativol(options: Options) -> list[Piece]:
    """A piece for each cell; the last ones rarely come to their turn."""
    cells = Cells(options)
    tried = [] if options.quick else [Piece("forms of convolutions", cells.try_forms)]
    return tried + [Piece(name, partial(cells.whole, name)) for name in cells.names()]
