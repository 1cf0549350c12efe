"""The five parts that an algorithm joins, checked in what they give back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fedjax_compress import checked
from fedjax_compress.typing import (
    Aggregator,
    Algorithm,
    Compressor,
    LocalUpdate,
    ServerOptimizer,
)


def of_checked_parts(factory: Callable[..., Algorithm]) -> Callable[..., Algorithm]:
    """The factory of an algorithm with its parts as ``checked`` makes them.

    Stands below ``register``, so that each algorithm has it however it is called.
    """

    @functools.wraps(factory)
    def make(
        local: LocalUpdate,
        aggregator: Aggregator,
        optimizer: ServerOptimizer,
        uplink: Compressor,
        downlink: Compressor,
        *rest: Any,
        **options: Any,
    ) -> Algorithm:
        return factory(
            checked.local(local),
            checked.aggregator(aggregator),
            checked.optimizer(optimizer),
            checked.compressor(uplink, "the uplink"),
            checked.compressor(downlink, "the downlink"),
            *rest,
            **options,
        )

    return make
