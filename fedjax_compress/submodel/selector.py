"""What decides which units a client keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.checks.returned import describe, is_array
from fedjax_compress.errors import InputError
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


def check_kept(kept: Any, counts: Sizes) -> Kept:
    """What a selector has chosen, if it can be.

    Raises:
      InputError: other groups, no whole numbers, or more or fewer units than asked for.
    """
    if not isinstance(kept, dict) or set(kept) != set(counts):
        found = sorted(kept) if isinstance(kept, dict) else describe(kept)
        raise InputError(
            f"the selector's choose must give the groups {sorted(counts)}, not {found}"
        )
    for group, count in counts.items():
        units = kept[group]
        whole = is_array(units) and jnp.issubdtype(units.dtype, jnp.integer)
        if not whole or units.shape != (count,):
            raise InputError(
                f"the selector's choose must give {count} unit numbers of group "
                f"{group}, int32[{count}], not {describe(units)}"
            )
    return kept


registry.register_component(Selector, "selector")
