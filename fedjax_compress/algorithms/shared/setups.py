"""What an algorithm joins, checked in what it gives back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fedjax_compress import checked
from fedjax_compress.typing import Algorithm, Setup


def of_checked_parts(factory: Callable[..., Algorithm]) -> Callable[..., Algorithm]:
    """The factory of an algorithm with its setup as ``checked`` makes it.

    Stands below ``register``, so that each algorithm has it however it is called.
    """

    @functools.wraps(factory)
    def make(setup: Setup, *rest: Any, **options: Any) -> Algorithm:
        return factory(checked.setup(setup), *rest, **options)

    return make
