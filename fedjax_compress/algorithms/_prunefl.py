"""PruneFL: the mask that lowers the loss most in a second."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import prune, registry, tree
from fedjax_compress.algorithms._lotteryfl import accuracy
from fedjax_compress.algorithms.shared.mask_training import (
    MaskServer,
    Squares,
    differ,
    mask_training,
)
from fedjax_compress.algorithms.shared.needs import model_of
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Algorithm,
    Array,
    Beginning,
    Columns,
    Context,
    Metrics,
    Params,
    Problem,
    Setup,
    Shard,
    Tree,
)

_LAST = 5
"""Reconfigurations after the first that must have changed little for it to end."""
_LITTLE = 0.1
_LOOK = 10
"""Rounds of the first stage between two looks at the accuracy."""


class Memory(NamedTuple):
    """What decides about the next mask.

    Attributes:
      squares: squared gradients since the last one, float32, like the parameters.
      seconds: float32, simulated time of all rounds so far.
    """

    squares: Tree
    seconds: Array


@registry.register("algorithm", context=1)
@of_checked_parts
def prunefl(
    setup: Setup,
    times: Literal["conv2", "vgg11", "own"] = "conv2",
    constant: float = 1.0,
    communication: float = 1e-6,
    computation: tuple[float, ...] = (),
    every: int = 50,
    removable: float = 0.3,
    half_life: float = 10_000.0,
    max_density: float = 1.0,
    initial_rounds: int = 1000,
    initial_every: int = 50,
    first: int = 0,
) -> Algorithm:
    """PruneFL: adaptive pruning that maximises the loss reduction per second.

    First, client ``first`` trains alone for at most ``initial_rounds``. Every ten
    rounds it looks whether it is right on 1.5 / classes of its rows; once it is, the
    round that begins there ends with a new mask, as does each ``initial_every``-th
    after it, until five in a row have changed the density by a tenth at most. Then
    after each ``every`` rounds the server chooses the mask M that maximises

      Gamma(M) = sum_{j in M} g_j^2 / (c + sum_{j in M} t_j),

    of which at most the share d = removable 0.5^(r / half_life) of the weights in use,
    the smallest of each layer, may be pruned, and any weight may come back; see
    ``prune.reconfigure``. g_j^2 is the squared sum of a client's gradients in a round
    times the rows that it processed, summed over clients and rounds since the last
    mask; as all gradients are taken at w m, also for weights out of use. A weight that
    comes back starts from what it was. The model that is evaluated is w m.

    Travels: down, the downlink's fields for the parameters in use, and the mask to a
    client that does not have the present one (else a few bits); up, the uplink's fields
    for the update of those in use, and in the last round before a new mask the float32
    g_j^2 of those that are not, which the client has gathered. The paper's time model
    charges for neither mask nor g_j^2; the bytes that are recorded hold both.

    Recorded besides: density of each layer and ``simulated_seconds``, the sum over
    rounds of c + sum_l k_l t_l, t_l = p_l + m, for k_l weights of layer l in use.

    Args:
      setup: what is joined. ``local``: SGD without momentum or weight decay and with a
        constant learning rate, as squared gradients are read from what it moves; the
        server's step: ``fedavg`` is the paper's; links: stateless and elementwise.
      times: the authors' constants for Conv-2 (5 local steps; 4 weight tensors) or
        VGG-11, or one's own: the three options that follow.
      constant: c, seconds of a round, above 0.
      communication: m, seconds a parameter, both ways together, at least 0.
      computation: p_l, seconds a parameter of each weight tensor, in the order of the
        parameters' paths; m + p_l above 0.
      every: rounds between two masks; 0 never prunes after the first stage.
      removable: share of the weights in use that may be removed at first, 0 to 1.
      half_life: rounds in which that share is halved, above 0.
      max_density: largest share of all weights in use, above 0, at most 1.
      initial_rounds: most rounds of the first stage; 0 leaves it out.
      initial_every: rounds of the first stage between two masks, at least 1.
      first: id of the client of the first stage.

    Raises:
      InputError: an option out of its range, times for another number of layers, a link
        that keeps a state or mixes elements, a local update without model.

    Reference: Jiang et al. 2022, sections 3 and 4, and the authors' code.
    Deviations: in the first stage a round is one run of the local update (the authors':
      one pass over ten batches, with gradients squared batch by batch) and the accuracy
      is that on all rows of the client; g_j^2 misses the square of the learning rate,
      which cancels in Gamma. The authors' masks come one round later, after 51, 101,
      151 rounds, with the same d. What clients have gathered of weights out of use
      reaches the server only from those that take part in the last round before a mask:
      where a cohort is a part of the population, such weights are credited with less.
    """
    if initial_every < 1:
        raise InputError(f"initial_every must be at least 1 round, not {initial_every}")
    model = _model_of(times, constant, communication, computation)
    if every < 0 or initial_rounds < 0 or first < 0:
        raise InputError(
            "every, initial_rounds and first must not be negative, got "
            f"{every}, {initial_rounds} and {first}"
        )
    if not 0 <= removable <= 1:
        raise InputError(f"removable must be from 0 to 1, not {removable}")
    if not half_life > 0:
        raise InputError(f"half_life must be above 0 rounds, not {half_life}")
    if not 0 < max_density <= 1:
        raise InputError(f"max_density must be above 0, at most 1, not {max_density}")
    local = setup.local
    net = model_of(local, "prunefl")
    cap = max_density if max_density < 1 else None

    def weights(params: Params) -> Tree:
        return prune.part(params, prune.prunable(params))

    def start(params: Params) -> tuple[Tree, Memory]:
        found = weights(params)
        if len(jax.tree.leaves(found)) != len(model.per_layer):
            raise InputError(
                f"prunefl has times for {len(model.per_layer)} weight tensors, the "
                f"model has {len(jax.tree.leaves(found))}; give times=own and "
                "computation, a number for each"
            )
        zero = jnp.zeros((), jnp.float32)
        return prune.all_kept(found), Memory(tree.zeros_like(params), zero)

    def refresh(
        server: MaskServer, mean: Tree, squares: Tree
    ) -> tuple[Tree, Array, Memory]:
        finished, before = server.number, server.memory
        kept = prune.kept_elements(server.mask, server.params)
        seconds = before.seconds + model.seconds(kept)
        if not every:
            return server.mask, jnp.zeros((), bool), before._replace(seconds=seconds)
        squares = tree.add(before.squares, squares)
        due = finished % every == 0
        share = removable * 0.5 ** (finished.astype(jnp.float32) / half_life)
        mask = jax.lax.cond(
            due,
            lambda: prune.reconfigure(
                server.params, server.mask, squares, model, share, cap
            ),
            lambda: server.mask,
        )
        squares = tree.where(due, tree.zeros_like(squares), squares)
        return mask, differ(mask, server.mask), Memory(squares, seconds)

    algorithm = mask_training(
        setup, name="prunefl", start=start, refresh=refresh,
        squares=Squares(lambda number: (number + 1) % every == 0) if every else None,
    )  # fmt: skip

    def observe(server: MaskServer) -> Metrics:
        return {
            **algorithm.observe(server),
            "simulated_seconds": server.memory.seconds,
        }

    def begin(server: MaskServer, shard: Shard, context: Context) -> MaskServer:
        """The first stage: one client trains, and the mask only shrinks."""

        def one(state: tuple) -> tuple:
            number, params, mask, squares, past, started, changed = state
            view = prune.apply(mask, params)

            def score() -> Array:
                return accuracy(net, view, shard) >= 1.5 / classes

            looks = (started < 0) & (number % _LOOK == 0)
            begins = jax.lax.cond(looks, score, lambda: jnp.zeros((), bool))
            started = jnp.where(begins, number, started)
            problem = Problem(
                view,
                lambda w: prune.apply(mask, w),
                memory=local.init(params),
            )
            update = local.run(problem, shard, context.fold(number)).update
            params = tree.add(params, prune.apply(mask, update))
            n = local.seen(shard.size)
            squares = jax.tree.map(lambda s, u: s + n * u * u, squares, update)
            due = (started >= 0) & ((number - started) % initial_every == 0)

            def anew() -> tuple:
                made = prune.reconfigure(params, mask, squares, model, removable, cap)
                # What has no gradient cannot come back: the mask only shrinks.
                made = jax.tree.map(jnp.logical_and, made, mask)
                return made, tree.zeros_like(squares)

            made, squares = jax.lax.cond(due, anew, lambda: (mask, squares))
            was, now = (prune.density(m, params).overall for m in (mask, made))
            step = jnp.abs(now - was) / was
            past = jnp.where(due, jnp.roll(past, 1).at[0].set(step), past)
            changed = changed + due.astype(jnp.int32)
            return number + 1, params, made, squares, past, started, changed

        def going(state: tuple) -> Array:
            number, _, _, _, past, _, changed = state
            # The first of all has none before it to differ from.
            settled = (changed > _LAST) & jnp.all(past <= _LITTLE)
            return (number < initial_rounds) & ~settled

        classes = jax.eval_shape(
            lambda p: net.apply(p, _first(shard), None), server.params
        ).shape[-1]
        zero = jnp.zeros((), jnp.int32)
        state: Any = (
            zero, server.params, server.mask, tree.zeros_like(server.memory.squares),
            jnp.ones(_LAST, jnp.float32), zero - 1, zero,
        )  # fmt: skip
        _, params, mask, *_ = jax.lax.while_loop(going, one, state)
        version = server.version + 1
        return server._replace(params=params, mask=mask, version=version)

    stage = Beginning(first, begin) if initial_rounds else None
    return algorithm._replace(observe=observe, begin=stage)


def _first(shard: Shard) -> Columns:
    """A row, whoever has it."""
    return {name: column[:1] for name, column in shard.columns.items()}


def _model_of(
    times: str, constant: float, communication: float, computation: tuple[float, ...]
) -> prune.TimeModel:
    """The times of a round.

    Raises:
      InputError: numbers out of range, or none where they are needed.
    """
    if times != "own":
        if (constant, communication, computation) != (1.0, 1e-6, ()):
            raise InputError(
                f"times={times} has constants of its own; give times=own to set "
                "constant, communication and computation"
            )
        return {"conv2": prune.conv2_femnist, "vgg11": prune.vgg11_cifar10}[times]()
    if not computation:
        raise InputError(
            "times=own needs computation, the seconds a parameter of each weight tensor"
        )
    each = [communication + seconds for seconds in computation]
    if not constant > 0 or communication < 0 or not min(each) > 0:
        raise InputError(
            "constant and all communication + computation must be above 0, and "
            f"communication not negative; got {constant}, {computation} and "
            f"{communication}"
        )
    return prune.TimeModel(constant, communication, computation)
