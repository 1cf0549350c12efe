"""Local training: a loop of optimizer steps whose bound is one number per chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fedjax_compress import tree
from fedjax_compress.checks import parts as checked
from fedjax_compress.checks import returned
from fedjax_compress.errors import InputError
from fedjax_compress.local.steps import Schedule
from fedjax_compress.numerics.by_round import is_known
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.typing import (
    Array,
    Batch,
    Context,
    Key,
    LocalUpdate,
    Model,
    Params,
    Problem,
    Shard,
    Trained,
    Tree,
)

_OPTIMIZER = 2
_FREE = "what is trained"
Anchors = list[tuple[float | Array, Params]]
"""What pulls the parameters towards itself, and how strongly."""


Optimizer = Any
"""An optax.GradientTransformation, or a function (context) -> one."""


def by_round(make: Callable[[Array], LocalUpdate]) -> LocalUpdate:
    """The local update of each round, as one.

    Args:
      make: number of the round, traced -> its local update.
    """
    first = make(jnp.zeros((), jnp.int32))

    def run(problem: Problem, shard: Shard, context: Context) -> Trained:
        return make(context.round).run(problem, shard, context)

    def gradient(problem: Problem, shard: Shard, context: Context) -> Tree:
        now = make(context.round).gradient
        assert now is not None
        return now(problem, shard, context)

    known = gradient if first.gradient is not None else None
    return first._replace(run=run, gradient=known)


def train(
    model: Model,
    optimizer: Optimizer,
    schedule: Schedule,
    proximal: float | Array = 0.0,
    keeps: bool = False,
) -> LocalUpdate:
    """Steps of an optax optimizer on the client's batches, from a state fresh or kept.

    The loss of a batch is the mean over its real rows, weighted as the model says, plus
    ``proximal / 2 * ||v - w||^2`` where w are the received parameters.

    All clients that run together take as many steps as the largest of them. A client
    that has finished takes steps of weight zero: its parameters and its optimizer
    state are held still, so momentum and weight decay do not move it.

    The metric ``examples``, a client's weight in the mean, is the number of rows that
    a pass covers: where incomplete batches are dropped, those of the full ones. So a
    client that has none neither counts nor pulls the mean towards zero.
    ``processed`` counts each row as often as it was seen.

    All of this holds for the free parameters of the problem: they are what the
    optimizer sees, what momentum and weight decay move, and what the update is of. The
    proximal distance is that of what they are lifted to, from its start. A model's
    ``constrain`` is applied to them after each step.

    Args:
      model: the model to train.
      optimizer: any optax gradient transformation; its state starts anew each round,
        unless ``keeps``.
        Or a function (context) -> one, for what depends on ``context.round`` or draws
        with ``context.keys.private``, which each client has anew in each round.
      schedule: number of steps and which rows each of them sees.
      proximal: mu of FedProx; 0 is FedAvg.
      keeps: the optimizer goes on from the state that the client's last round has left;
        for optimizers that are no function of the context.

    Raises:
      InputError: from ``run``, while it is traced: the model or the optimizer gives
        back another shape than it should, see ``checked.model``.

    Reference: McMahan et al. 2017, algorithm 1 (ClientUpdate); Li et al. 2020,
    equation 2 (FedProx).
    """

    model = checked.model(model)

    def at(problem: Problem, t: Array) -> Model:
        return model if problem.model is None else checked.model(problem.model(t))

    def objective(
        free: Tree, problem: Problem, anchors: Anchors, batch: Batch, key: Key | None,
        t: Array,
    ) -> tuple:  # fmt: skip
        params, net = problem.lift(free), at(problem, t)
        outputs = net.apply(params, batch.columns, key)
        losses, weights = net.losses(outputs, batch.columns)
        weights = weights * batch.mask
        total, weight = jnp.sum(losses * weights), jnp.sum(weights)
        value = total / jnp.where(weight > 0, weight, 1.0)
        for strength, anchor in anchors:
            distance = tree.squared_norm(tree.subtract(params, anchor))
            value = value + 0.5 * strength * distance
        if problem.shift is not None:
            value = value + tree.dot(problem.shift, free)
        return value, (total, weight)

    def anchors_of(problem: Problem) -> Anchors:
        """What pulls the parameters, and how strongly."""
        received = problem.lift(problem.start)
        pulls = not is_known(proximal) or proximal
        found: Anchors = [(proximal, received)] if pulls else []
        if not is_known(problem.mu) or problem.mu:
            anchor = received if problem.anchor is None else problem.anchor
            found.append((problem.mu, anchor))
        return found

    slope = jax.grad(objective, has_aux=True)

    def run(problem: Problem, shard: Shard, context: Context) -> Trained:
        key = context.keys.private
        order, noise = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        mine = schedule.total(shard.size)
        anchors = anchors_of(problem)
        moves = of_context(optimizer, context.fold(_OPTIMIZER))

        def step(t: Array, carry: tuple) -> tuple:
            current, memory, loss, counted, seen = carry
            batch = schedule.batch_at(shard, order, t)
            grads, (total, weight) = slope(
                current, problem, anchors, batch, jax.random.fold_in(noise, t), t
            )
            with as_written(), returned.within("the client's optimizer"):
                updates, memorized = moves.update(grads, memory, current)
                moved = optax.apply_updates(current, updates)
            net = at(problem, t)
            returned.like("the move of the client's optimizer", moved, current, _FREE)
            if net.constrain is not None:
                moved = net.constrain(moved)
            active = t < mine
            return (
                tree.where(active, moved, current),
                tree.where(active, memorized, memory),
                loss + jnp.where(active, total, 0.0),
                counted + jnp.where(active, weight, 0.0),
                seen + jnp.sum(batch.mask),
            )

        zero = jnp.zeros((), jnp.float32)
        with as_written():
            memory = problem.memory if keeps else moves.init(problem.start)
        start = (problem.start, memory, zero, zero, zero)
        bound = schedule.total(shard.largest)
        trained, memory, loss, counted, seen = jax.lax.fori_loop(0, bound, step, start)
        metrics = {
            "loss": loss / jnp.where(counted > 0, counted, 1.0),
            "examples": schedule.rows(shard.size).astype(jnp.float32),
            "steps": mine.astype(jnp.float32),
            "processed": seen,
        }
        update = tree.subtract(trained, problem.start)
        return Trained(update, memory if keeps else problem.memory, metrics)

    def gradient(problem: Problem, shard: Shard, context: Context) -> Tree:
        """Over all rows once, in the order stored; the model as it is evaluated, so
        that nothing in it is random."""
        whole = schedule._replace(epochs=1, steps=0, last="keep", shuffle=False)
        zero, key = jnp.zeros((), jnp.int32), context.keys.private
        anchors = anchors_of(problem)

        def add(t: Array, total: tuple) -> tuple:
            batch = whole.batch_at(shard, key, t)
            grads, (_, weight) = slope(
                problem.start, problem, anchors, batch, None, zero
            )
            sums, weights = total
            more = jax.tree.map(lambda s, g: s + weight * g, sums, grads)
            # Without rows of its own, a client reads those of another.
            return tree.where(weight > 0, more, sums), weights + weight

        start = tree.zeros_like(problem.start), jnp.zeros((), jnp.float32)
        bound = whole.total(shard.largest)
        sums, weights = jax.lax.fori_loop(0, bound, add, start)
        return tree.scale(sums, 1.0 / jnp.where(weights > 0, weights, 1.0))

    def first(start: Tree) -> Any:
        with as_written():
            return optimizer.init(start)

    made = LocalUpdate(run, gradient, model=model, seen=schedule.seen)
    return made._replace(init=first) if keeps else made


def of_context(optimizer: Optimizer, context: Context) -> optax.GradientTransformation:
    """The optimizer of a client and round.

    Raises:
      InputError: the function gives something else.
    """
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    with as_written(), returned.within("the function that makes the optimizer"):
        found = optimizer(context)
    if not isinstance(found, optax.GradientTransformation):
        raise InputError(
            "the function that makes the client's optimizer must give a "
            f"GradientTransformation of optax, not {returned.describe(found)}"
        )
    return found
