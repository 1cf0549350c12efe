"""Selectors that follow from shared randomness or the number of the round."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.submodel.extraction import Kept, Sizes
from fedjax_compress.submodel.selector import Memory, Selector, without_memory
from fedjax_compress.typing import Array, Key


@registry.register("selector")
def random() -> Selector:
    """Units drawn without replacement, anew for each client and round.

    Reference: Caldas et al. 2018, section 3.
    """

    def choose(
        memory: Memory, own: Memory, sizes: Sizes, counts: Sizes, key: Key
    ) -> Kept:
        return first(noise(sizes, key), counts)

    return without_memory(choose)


@registry.register("selector")
def random_per_round() -> Selector:
    """Units drawn without replacement, the same for all clients of a round.

    Of clients of unequal sizes the smaller ones keep some of the larger ones' units.

    Reference: Caldas et al. 2018, section 5, names it as future work.
    """

    def init(sizes: Sizes) -> Memory:
        return {name: jnp.zeros(units, jnp.float32) for name, units in sizes.items()}

    def begin(
        memory: Memory, sizes: Sizes, counts: Sizes, key: Key, number: Array
    ) -> Memory:
        return noise(sizes, key)

    def choose(
        memory: Memory, own: Memory, sizes: Sizes, counts: Sizes, key: Key
    ) -> Kept:
        return first(memory, counts)

    return without_memory(choose, init, begin)


@registry.register("selector")
def prefix() -> Selector:
    """The first units of each group.

    Reference: Diao et al. 2021, section 3 (HeteroFL); Horvath et al. 2021 (FjORD).
    """

    def choose(
        memory: Memory, own: Memory, sizes: Sizes, counts: Sizes, key: Key
    ) -> Kept:
        return {name: jnp.arange(n, dtype=jnp.int32) for name, n in counts.items()}

    return without_memory(choose)


@registry.register("selector")
def rolling(step: int = 1) -> Selector:
    """A window of units that moves on by ``step`` each round, around the group.

    In round r units r step, ..., r step + count - 1 are kept, modulo their number.

    Args:
      step: units by which the window moves, at least 1.

    Raises:
      InputError: step is below 1.

    Reference: Alam et al. 2022 (FedRolex), equation 2, with step 1.
    """
    if step < 1:
        raise InputError(f"step must be at least 1 unit, not {step}")

    def begin(
        memory: Memory, sizes: Sizes, counts: Sizes, key: Key, number: Array
    ) -> Memory:
        return jnp.asarray(number, jnp.int32)

    def choose(
        memory: Memory, own: Memory, sizes: Sizes, counts: Sizes, key: Key
    ) -> Kept:
        kept = {}
        for name, n in counts.items():
            # Modulo first: the product of round and step may be large.
            start = (memory % sizes[name]) * (step % sizes[name])
            kept[name] = jnp.sort((start + jnp.arange(n)) % sizes[name])
        return {name: units.astype(jnp.int32) for name, units in kept.items()}

    return without_memory(choose, lambda sizes: jnp.zeros((), jnp.int32), begin)


def noise(sizes: Sizes, key: Key) -> dict[str, Array]:
    """A uniform number for each unit of each group, float32 [units]."""
    return {
        name: jax.random.uniform(jax.random.fold_in(key, i), (units,))
        for i, (name, units) in enumerate(sizes.items())
    }


def first(order: dict[str, Array], counts: Sizes) -> Kept:
    """As many units of each group as asked for, those of the smallest numbers."""
    kept = {}
    for name, values in order.items():
        units = jnp.argsort(values)[: counts[name]]
        kept[name] = jnp.sort(units).astype(jnp.int32)
    return kept
