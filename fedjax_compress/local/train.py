"""Local training: a loop of optimizer steps whose bound is one number per chunk."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fedjax_compress import checked, returned, tree
from fedjax_compress.local.steps import Schedule
from fedjax_compress.promotion import as_written
from fedjax_compress.typing import (
    Array,
    Batch,
    ClientState,
    Frame,
    Key,
    LocalUpdate,
    Metrics,
    Model,
    Params,
    Shard,
    Tree,
)

_FREE = "what is trained"


def train(
    model: Model,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    proximal: float = 0.0,
) -> LocalUpdate:
    """Steps of an optax optimizer on the client's batches, from a fresh state.

    The loss of a batch is the mean over its real rows, plus
    ``proximal / 2 * ||v - w||^2`` where w are the received parameters.

    All clients that run together take as many steps as the largest of them. A client
    that has finished takes steps of weight zero: its parameters and its optimizer
    state are held still, so momentum and weight decay do not move it.

    The metric ``examples``, a client's weight in the mean, is the number of rows that
    a pass covers: where incomplete batches are dropped, those of the full ones. So a
    client that has none neither counts nor pulls the mean towards zero.
    ``processed`` counts each row as often as it was seen.

    Within a frame all of this holds for its free parameters: they are what the
    optimizer sees, what momentum and weight decay move, and what the update is of. The
    proximal distance is that of what they are lifted to, from its start. A model's
    ``constrain`` is applied to them after each step.

    Args:
      model: the model to train.
      optimizer: any optax gradient transformation; its state starts anew each round.
      schedule: number of steps and which rows each of them sees.
      proximal: mu of FedProx; 0 is FedAvg.

    Raises:
      InputError: from ``run``, while it is traced: the model or the optimizer gives
        back another shape than it should, see ``checked.model``.

    Reference: McMahan et al. 2017, algorithm 1 (ClientUpdate); Li et al. 2020,
    equation 2 (FedProx).
    """

    model = checked.model(model)

    def at(frame: Frame, t: Array) -> Model:
        return model if frame.model is None else checked.model(frame.model(t))

    def objective(
        free: Tree, frame: Frame, anchor: Params, batch: Batch, key: Key, t: Array
    ) -> tuple:
        params = frame.lift(free)
        net = at(frame, t)
        losses = net.loss(net.apply(params, batch.features, key), batch.labels)
        total = jnp.sum(losses * batch.mask)
        value = total / jnp.maximum(jnp.sum(batch.mask), 1.0)
        if proximal:
            distance = tree.squared_norm(tree.subtract(params, anchor))
            value = value + 0.5 * proximal * distance
        return value, total

    gradient = jax.grad(objective, has_aux=True)

    def run(
        params: Params,
        state: ClientState,
        shard: Shard,
        key: Key,
        frame: Frame | None = None,
    ) -> tuple[Tree, ClientState, Metrics]:
        order, noise = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        mine = schedule.total(shard.size)
        within = Frame(params) if frame is None else frame
        anchor = within.lift(within.start) if proximal else params

        def step(t: Array, carry: tuple) -> tuple:
            current, memory, loss, seen = carry
            batch = schedule.batch_at(shard, order, t)
            grads, total = gradient(
                current, within, anchor, batch, jax.random.fold_in(noise, t), t
            )
            with as_written(), returned.within("the client's optimizer"):
                updates, memorized = optimizer.update(grads, memory, current)
                moved = optax.apply_updates(current, updates)
            net = at(within, t)
            returned.like("the move of the client's optimizer", moved, current, _FREE)
            if net.constrain is not None:
                moved = net.constrain(moved)
            active = t < mine
            return (
                tree.where(active, moved, current),
                tree.where(active, memorized, memory),
                loss + jnp.where(active, total, 0.0),
                seen + jnp.sum(batch.mask),
            )

        zero = jnp.zeros((), jnp.float32)
        with as_written():
            memory = optimizer.init(within.start)
        start = (within.start, memory, zero, zero)
        bound = schedule.total(shard.largest)
        trained, _, loss, seen = jax.lax.fori_loop(0, bound, step, start)
        metrics = {
            "loss": loss / jnp.maximum(seen, 1.0),
            "examples": schedule.rows(shard.size).astype(jnp.float32),
            "processed": seen,
        }
        return tree.subtract(trained, within.start), state, metrics

    return LocalUpdate(init=lambda params: (), run=run, model=model)
