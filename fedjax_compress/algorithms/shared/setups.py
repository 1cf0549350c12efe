"""What an algorithm joins, checked in what it gives back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fedjax_compress.algorithms.shared.frozen import sent_once
from fedjax_compress.checks import parts as checked
from fedjax_compress.typing import Algorithm, Setup


def of_checked_parts(factory: Callable[..., Algorithm]) -> Callable[..., Algorithm]:
    """The factory of an algorithm with its setup as ``checked`` makes it.

    Stands below ``register``, so that each algorithm has it however it is called.
    """

    @functools.wraps(factory)
    def make(setup: Setup, *rest: Any, **options: Any) -> Algorithm:
        made = factory(checked.setup(setup), *rest, **options)
        model = setup.local.model
        frozen = None if model is None else model.frozen
        return made if frozen is None else sent_once(made, frozen)

    return make
