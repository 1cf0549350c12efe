"""An algorithm that changes on the way: phases with a program each."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import jax

from fedjax_compress.checks.returned import describe
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import handed_in
from fedjax_compress.simulate.chunk import Kept
from fedjax_compress.typing import Algorithm, Key, Params, Tree


class Phases:
    """The algorithms of a run, in the order in which they take over.

    Args:
      first: the algorithm of round 1.
      later: (finished rounds, algorithm) of those that take over; rounds rise.

    Raises:
      InputError: the rounds do not rise from 1 on.
    """

    def __init__(self, first: Algorithm, later: Sequence[tuple[int, Algorithm]] = ()):
        self.after = [0, *(after for after, _ in later)]
        self.algorithms = [first, *(algorithm for _, algorithm in later)]
        for made in self.algorithms:
            if not isinstance(made, Algorithm):
                raise InputError(
                    f"the algorithm must be an Algorithm, not {describe(made)}"
                )
        self.algorithms = [handed_in.named(made) for made in self.algorithms]
        for a, b in zip(self.after, self.after[1:], strict=False):
            if b <= a:
                raise InputError(
                    f"phases must begin after 1, 2, ... rounds, rising; got {b} "
                    f"behind {a}"
                )

    def at(self, finished: int) -> int:
        """Number of the phase of the round that follows ``finished`` rounds."""
        return bisect.bisect_right(self.after, finished) - 1

    def within(self, finished: int, rounds: int) -> int:
        """As many of the next ``rounds`` rounds as belong to the same phase."""
        number = self.at(finished) + 1
        if number == len(self.after):
            return rounds
        return min(rounds, self.after[number] - finished)

    def check(self, key: Key, params: Params) -> None:
        """Traces what all phases keep between rounds; nothing compiles.

        Raises:
          InputError: a phase keeps other arrays than the first.
        """
        first = None
        for after, algorithm in zip(self.after, self.algorithms, strict=True):
            found = {
                "server": jax.eval_shape(algorithm.init, key, params),
                # Two functions that stay the same, so that a next start traces neither.
                "clients": Kept(
                    jax.eval_shape(algorithm.client_init, params),
                    jax.eval_shape(algorithm.record_init, params),
                ),
            }
            first = first or found
            for who, kept in found.items():
                if difference := _difference(first[who], kept):
                    raise InputError(
                        f"what the {who} keep{'s' * (who == 'server')} between rounds "
                        f"changes after round {after}: {difference}; an option on "
                        "which this depends cannot change over rounds"
                    )


def _difference(before: Tree, after: Tree) -> str:
    """How two trees of shapes differ, in words; empty if they do not."""
    a, b = jax.tree.leaves(before), jax.tree.leaves(after)
    for x, y in zip(a, b, strict=False):
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            return f"{_words(x)} becomes {_words(y)}"
    if len(a) != len(b):
        return f"{len(a)} arrays become {len(b)}"
    shapes: list[Any] = [jax.tree.structure(tree) for tree in (before, after)]
    if shapes[0] != shapes[1]:
        return "its arrays are arranged in another way"
    return ""


def _words(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
