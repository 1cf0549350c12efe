"""Two recipes by which other simulators were measured, as their files state them.

FLUTE's: experiments/cv_cnn_femnist of microsoft/msrflute, config.yaml and README.md.
pfl-research's: benchmarks/image_classification of apple/pfl-research, baseline.yaml,
with the network of benchmarks/model/pytorch/cnn.py. First weights are drawn by our
models' own law.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

from fedjax_compress.data import Dataset
from fedjax_compress.experiment import Config
from gpu_parts import rows
from gpu_parts.measuring import Figure, Options, Piece, repeated
from gpu_parts.training import Training

FLUTE = Config(
    partition="natural",
    cohort=10,
    rounds=800,
    model="emnist_cnn",
    local="sgd(lr=0.1, epochs=1, batch=20)",
    server="fedavg(lr=1.0)",
    uplink="identity",
    downlink="identity",
    evaluate_every=50,
    checkpoint_every=50,
    rounds_per_call=10,
    tune="never",
    devices=1,
)
FLUTE_SAYS = {
    "rounds": 800,
    "seconds": 502,
    "where": "README.md beside its configuration, which names no hardware; with tests",
}
PFL = Config(
    partition="iid",
    clients=1000,
    cohort=50,
    rounds=1500,
    model="emnist_cnn",
    local="sgd(lr=0.1, epochs=1, batch=10)",
    server="fedavg(lr=1.0)",
    aggregate="mean(weight=uniform)",
    uplink="identity",
    downlink="identity",
    evaluate_every=10,
    checkpoint_every=10,
    rounds_per_call=10,
    tune="never",
    devices=1,
)
WRITERS, ROWS, TEST_ROWS = 3_400, 671_585, 77_483
"""Of the data that FLUTE reads, the federated EMNIST of TensorFlow Federated."""
_QUICK: dict[str, Any] = {"cohort": 3, "rounds_per_call": 1}


def flute(options: Options) -> list[Piece]:
    """Its rounds, with convolutions in the form of the rule and as XLA has them."""
    full = WRITERS, ROWS / WRITERS, TEST_ROWS
    few = (12, 20.0, 50) if options.quick else full

    @cache
    def read() -> tuple[Dataset, str]:
        return rows.femnist(options.data, *few)

    return _in_both_forms("FLUTE's FEMNIST recipe", FLUTE, read, options, FLUTE_SAYS)


def pfl(options: Options) -> list[Piece]:
    """Likewise."""
    few = (200, 50) if options.quick else (50_000, 10_000)

    @cache
    def read() -> tuple[Dataset, str]:
        return rows.cifar10(options.data, *few)

    config = dataclasses.replace(PFL, clients=10) if options.quick else PFL
    return _in_both_forms("pfl-research's CIFAR-10 recipe", config, read, options, None)


def _in_both_forms(
    name: str,
    config: Config,
    read: Callable[[], tuple[Dataset, str]],
    options: Options,
    published: dict[str, object] | None,
) -> list[Piece]:
    forms = ["auto"] if options.quick else ["auto", "direct"]
    small = _QUICK if options.quick else {}

    def work(form: str) -> Iterator[Figure]:
        made = dataclasses.replace(config, convolution=form, **small)
        run = Training(f"{name}, convolutions {form}", made, *read())
        each = made.rounds_per_call
        run.advance(each)
        least = 2 if options.quick else 3
        repeated(lambda: run.advance(each), options.budget(4.0), least, 40)
        run.score()
        yield run.figure(published=published, recipe_rounds=config.rounds)

    return [Piece(f"convolutions {form}", partial(work, form)) for form in forms]
