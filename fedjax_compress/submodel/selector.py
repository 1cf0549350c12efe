"""What decides which units a client keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fedjax_compress import registry
from fedjax_compress.submodel.extraction import Kept, Sizes
from fedjax_compress.typing import Array, Key

Memory = Any
"""A pytree of arrays."""


class Selector(NamedTuple):
    """Which units a client keeps, always as many as asked for.

    Attributes:
      init: units of each group -> memory of the server.
      begin: (memory, units of each group, units to keep by the largest clients, key of
        the round, which all know, number of the round) -> memory of the server for
        this round.
      client_init: units of each group -> memory of a client, () if it has none.
      choose: (memory of the server in this round, memory of the client, units of each
        group, units to keep, key of client and round, which both ends know) -> kept.
      credit: (memory of the client, kept, its mean loss) -> memory of the client.
      learn: (memory of the server, mean loss of the cohort) -> memory of the server.
      announced: whether both ends know the choice without a word: it follows from the
        keys and the round alone, and from no loss. Else all clients keep as many.
    """

    init: Callable[[Sizes], Memory]
    begin: Callable[[Memory, Sizes, Sizes, Key, Array], Memory]
    client_init: Callable[[Sizes], Memory]
    choose: Callable[[Memory, Memory, Sizes, Sizes, Key], Kept]
    credit: Callable[[Memory, Kept, Array], Memory]
    learn: Callable[[Memory, Array], Memory]
    announced: bool


def without_memory(
    choose: Callable[[Memory, Memory, Sizes, Sizes, Key], Kept],
    init: Callable[[Sizes], Memory] = lambda sizes: (),
    begin: Callable[[Memory, Sizes, Sizes, Key, Array], Memory] = (
        lambda memory, sizes, counts, key, number: memory
    ),
) -> Selector:
    """A selector that learns nothing."""
    return Selector(
        init=init,
        begin=begin,
        client_init=lambda sizes: (),
        choose=choose,
        credit=lambda memory, kept, loss: memory,
        learn=lambda memory, loss: memory,
        announced=True,
    )


registry.register_component(Selector, "selector")
