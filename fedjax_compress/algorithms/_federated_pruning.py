"""Federated Pruning: the server prunes, refines and freezes a mask."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import prune, registry, tree
from fedjax_compress.algorithms.shared.mask_training import (
    MaskServer,
    differ,
    mask_training,
)
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.errors import InputError
from fedjax_compress.models.labels import labelled
from fedjax_compress.prune import Pattern, Ramp, Score
from fedjax_compress.typing import (
    Algorithm,
    Array,
    Metrics,
    Params,
    Setup,
    Tree,
)

Allocation = Literal["uniform", "adaptive", "threshold"]


class Memory(NamedTuple):
    """What decides about the next mask, and what came of it.

    Attributes:
      moving: the gradient that is scored, like the weights that may be pruned.
      recovered: int32, how often a unit has come back into use.
    """

    moving: Tree
    recovered: Array


@registry.register("algorithm", context=1)
@of_checked_parts
def federated_pruning(
    setup: Setup,
    sparsity: Ramp | None = None,
    pattern: Pattern | None = None,
    score: Score | None = None,
    allocation: Allocation = "uniform",
    beta: float | None = None,
    every: int = 10,
    refine_until: int = 60,
    momentum: float = 0.0,
    outputs: bool = False,
    spare: tuple[str, ...] = (),
) -> Algorithm:
    """Federated Pruning: prune to a sparsity, refine the mask, then freeze and tune.

    After each ``every`` rounds, until ``refine_until`` are finished, the server scores
    all units of weight matrices and keeps the best. While the sparsity rises this is
    pruning; at its target, refining: units out of use keep the values that they had,
    and with scores of weights come back when those of units in use sink below. From
    then on the mask is frozen. Clients train w m; what is out of use gets no gradient,
    and no optimizer moves it. The model that is evaluated is w m.

    Travels: down, the downlink's fields for the parameters in use, and the mask of the
    units to a client that does not have the present one (else a few bits); up, the
    uplink's fields for the update of the parameters in use. A row or column out of use
    is not sent at all: what travels is the reduced dense model.

    Recorded besides: density of each layer and ``recovered``, how often a unit has come
    back into use. With scores of gradients it stays 0 (but for ties at 0), as what is
    out of use has none.

    Args:
      setup: what is joined; both links stateless and elementwise.
      sparsity: of each round, as in cubic(0.5, begin=0, end=20); none: one_shot(0.5),
        or one_shot(0.5, at=1) where gradients are scored, which come with a round.
        The pattern n_of_m looks only at whether it is above 0: it keeps n of every m.
      pattern: what a unit is: unstructured, row, column, half_row, half_column, block,
        channel or n_of_m; none: column.
      score: weight, gradient or weight_gradient, each with norm l1 or l2; none:
        weight. A gradient is the mean update, or its ``momentum``.
      allocation: the same sparsity in all layers (uniform), more in layers whose
        weights are small (adaptive), or one threshold for all (threshold).
      beta: of adaptive, how unequal; none: the sparsity S. No layer is pruned by more
        than (1 + S) / 2, so that none is lost.
      every: rounds between two masks, at least 1.
      refine_until: rounds after which the mask is frozen; 0 refines nothing, and
        freezes where the ramp ends.
      momentum: of the gradient that is scored, from 0 to below 1.
      outputs: whether the layer that makes the outputs is pruned, too. Whole rows of it
        are whole classes.
      spare: labels of further weights that are not pruned: paths, or parts of them,
        such as embedding.

    Raises:
      InputError: an option out of its range, gradients to be scored before there are
        any, a link that keeps a state or mixes elements; before the first round, a
        label that no parameter has, a model without weights to prune.

    Reference: Lin et al. 2022, section 2.
    Deviation: the clients' program computes with zeros in place of what is out of use,
      which gives the numbers of the reduced network and not its speed.
    """
    units, scoring = pattern or prune.column(), score or prune.weight()
    reads = _reads_gradients(scoring, units)
    ramp = sparsity or prune.one_shot(0.5, at=int(reads))
    if reads and float(ramp.at(0)) > 0:
        raise InputError(
            "gradients cannot be scored before the first round; let the sparsity begin "
            "after one, as in one_shot(0.5, at=1) or cubic(0.5, begin=0, end=20)"
        )
    model = setup.local.model
    spared = (
        () if outputs or model is None or model.cuts is None else model.cuts.outputs
    )
    if every < 1:
        raise InputError(f"every must be at least 1 round, not {every}")
    if refine_until < 0:
        raise InputError(f"refine_until must not be negative, got {refine_until}")
    if not 0 <= momentum < 1:
        raise InputError(f"momentum must be from 0 to below 1, not {momentum}")
    frozen = max(refine_until, ramp.end)

    def weights(params: Params) -> Tree:
        leaves, structure = jax.tree.flatten(prune.prunable(params))
        paths = tree.paths(params)
        whole = {*spared, *(labelled(paths, spare) if spare else ())}
        pairs = zip(leaves, paths, strict=True)
        some = [can and path not in whole for can, path in pairs]
        return prune.part(params, jax.tree.unflatten(structure, some))

    def start(params: Params) -> tuple[Tree, Memory]:
        found = weights(params)
        if not jax.tree.leaves(found):
            raise InputError("the model has no weight matrix that could be pruned")
        everything = prune.all_kept(found, units)
        moving = tree.zeros_like(found)
        mask = _best(ramp.at(0), found, everything, moving)
        return mask, Memory(moving, jnp.zeros((), jnp.int32))

    def _best(share: Array, params: Tree, mask: Tree, moving: Tree) -> Tree:
        """The mask of a sparsity; as it is where nothing is pruned yet."""
        scores = prune.unit_scores(scoring, units, params, moving)
        numbers = [s.size for s in jax.tree.leaves(scores)]
        if allocation == "threshold":
            total = prune.kept_total(share, sum(numbers))
            counts = prune.counts_of_threshold(scores, total)
        else:
            shares = prune.uniform(share, len(numbers))
            if allocation == "adaptive":
                sizes = [w.size for w in jax.tree.leaves(params)]
                importance = prune.mean_magnitude(params)
                most = (1 + share) / 2
                shares = prune.adaptive(share, importance, sizes, beta, most)
            counts = prune.kept_counts(shares, numbers)
        made = prune.make_mask(scores, counts, units)
        return tree.where(share > 0, made, mask)

    def refresh(
        server: MaskServer, mean: Tree, squares: Any
    ) -> tuple[Tree, Array, Memory]:
        finished, params = server.number, weights(server.params)
        before: Memory = server.memory
        moving = jax.tree.map(
            lambda m, u: momentum * m + u, before.moving, weights(mean)
        )
        rising = finished <= ramp.end
        due = (finished % every == 0) & ((finished <= refine_until) | rising)
        due = (due | (finished == ramp.end)) & (finished <= frozen)
        mask = jax.lax.cond(
            due,
            lambda: _best(ramp.at(finished), params, server.mask, moving),
            lambda: server.mask,
        )
        back = jax.tree.map(lambda new, old: jnp.sum(new & ~old), mask, server.mask)
        recovered = before.recovered + sum(jax.tree.leaves(back))
        return mask, differ(mask, server.mask), Memory(moving, recovered)

    algorithm = mask_training(
        setup, name="federated_pruning", start=start, refresh=refresh, pattern=units
    )

    def observe(server: MaskServer) -> Metrics:
        return {**algorithm.observe(server), "recovered": server.memory.recovered}

    return algorithm._replace(observe=observe)


def _reads_gradients(score: Score, pattern: Pattern) -> bool:
    """Whether a score looks at more than weights."""
    probe = {"w": jax.ShapeDtypeStruct((4, 4), jnp.float32)}
    try:
        jax.eval_shape(lambda w: prune.unit_scores(score, pattern, w), probe)
    except InputError:
        return True
    return False
