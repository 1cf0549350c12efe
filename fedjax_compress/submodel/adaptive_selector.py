"""Units that have been in good submodels come more often."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.submodel.extraction import Kept, Sizes
from fedjax_compress.submodel.fixed_selectors import first, noise
from fedjax_compress.submodel.selector import Memory, Selector
from fedjax_compress.typing import Array, Key

_NEVER = float(jnp.finfo(jnp.float32).max)


class Scores(NamedTuple):
    """What is known of submodels tried so far.

    Attributes:
      scores: float32 [units] of each group.
      kept: float32 [units] of each group, 1 for those of the last submodel, else 0.
      loss: with the last submodel; the largest float32 before the first.
      again: whether the last submodel is to be used once more.
    """

    scores: dict[str, Array]
    kept: dict[str, Array]
    loss: Array
    again: Array


@registry.register("selector")
def adaptive(per: Literal["client", "round"] = "client") -> Selector:
    """Adaptive Federated Dropout: units of submodels that lowered the loss.

    When a submodel's loss l is below the last one l', its units' scores grow by
    (l' - l) / l' and it is used once more; else units are drawn without replacement,
    with probabilities proportional to their scores.

    Args:
      per: client: scores of each client (the multi-model version). round: one map for
        all, and one submodel for the cohort (the single-model version).

    Reference: Bouacida et al. 2020, algorithms 1 and 2.
    Deviation: scores start at 1, so that units which have not been tried can come.
    """

    def start(sizes: Sizes) -> Scores:
        def each(value: float) -> dict[str, Array]:
            return {
                n: jnp.full(units, value, jnp.float32) for n, units in sizes.items()
            }

        never = jnp.asarray(_NEVER, jnp.float32)
        return Scores(each(1.0), each(0.0), never, jnp.zeros((), bool))

    def draw(memory: Scores, sizes: Sizes, counts: Sizes, key: Key) -> Kept:
        # Of the first of exponential variables at rate s_j, j comes first with
        # probability s_j / sum s: Efraimidis and Spirakis 2006.
        waits = {
            name: jnp.where(
                memory.again,
                1.0 - memory.kept[name],
                -jnp.log1p(-u) / memory.scores[name],
            )
            for name, u in noise(sizes, key).items()
        }
        return first(waits, counts)

    def marked(kept: Kept, memory: Scores) -> dict[str, Array]:
        return {
            name: jnp.zeros_like(memory.kept[name]).at[units].set(1.0)
            for name, units in kept.items()
        }

    def learned(memory: Scores, kept: dict[str, Array], loss: Array) -> Scores:
        better = (loss < memory.loss) & (memory.loss < _NEVER)
        gain = jnp.where(better, 1.0 - loss / jnp.where(better, memory.loss, 1.0), 0.0)
        scores = {n: s + gain * kept[n] for n, s in memory.scores.items()}
        return Scores(scores, kept, jnp.asarray(loss, jnp.float32), better)

    def choose_own(
        memory: Memory, own: Scores, sizes: Sizes, counts: Sizes, key: Key
    ) -> Kept:
        return draw(own, sizes, counts, key)

    def begin(
        memory: Scores, sizes: Sizes, counts: Sizes, key: Key, number: Array
    ) -> Scores:
        kept = draw(memory, sizes, counts, key)
        return memory._replace(kept=marked(kept, memory))

    def choose_shared(
        memory: Scores, own: Memory, sizes: Sizes, counts: Sizes, key: Key
    ) -> Kept:
        return first({name: 1.0 - k for name, k in memory.kept.items()}, counts)

    if per == "client":
        return Selector(
            init=lambda sizes: (),
            begin=lambda memory, sizes, counts, key, number: memory,
            client_init=start,
            choose=choose_own,
            credit=lambda own, kept, loss: learned(own, marked(kept, own), loss),
            learn=lambda memory, loss: memory,
            announced=False,
        )
    return Selector(
        init=start,
        begin=begin,
        client_init=lambda sizes: (),
        choose=choose_shared,
        credit=lambda own, kept, loss: own,
        learn=lambda memory, loss: learned(memory, memory.kept, loss),
        announced=False,
    )
