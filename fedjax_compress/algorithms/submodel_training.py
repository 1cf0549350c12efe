"""What all algorithms share whose clients train a part of the model's units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import submodel, tree, wire
from fedjax_compress.algorithms.absent_classes import (
    classes,
    classes_of,
    only,
    without,
)
from fedjax_compress.algorithms.widths import Width, cuts_for
from fedjax_compress.errors import InputError
from fedjax_compress.returned import within
from fedjax_compress.submodel import Kept, Selector
from fedjax_compress.submodel.selector import check_kept
from fedjax_compress.typing import (
    Acc,
    Aggregator,
    Algorithm,
    Array,
    ClientState,
    Coin,
    Compressor,
    Cuts,
    Frame,
    Key,
    LocalUpdate,
    Model,
    Params,
    Payload,
    Report,
    ServerOptimizer,
    Shard,
    State,
    Tier,
    Tiers,
    Tree,
)

_LOCAL, _UPLINK, _DOWNLINK, _SELECT, _ROUND = range(5)
Average = Literal["cohort", "holders"]
TierOf = Callable[[int, int, Any], Any]
"""(run seed, round, client ids) -> number of each client's width; on the host."""


class SubmodelServer(NamedTuple):
    """What the server keeps.

    Attributes:
      params: of the whole model.
      optimizer: state of its optimizer.
      memory: of the selector.
      number: int32, rounds begun.
    """

    params: Params
    optimizer: State
    memory: Tree
    number: Array


class View(NamedTuple):
    """What a round begins with; each client gets its own part of it only.

    Attributes:
      params: of the whole model.
      memory: of the selector, in this round.
      key: of the round, known to all.
    """

    params: Params
    memory: Tree
    key: Key


class Sums(NamedTuple):
    """Accumulator of a round.

    Attributes:
      updates: of the aggregator.
      held: for each parameter, by how many clients it was held; () if not asked for.
      loss: [2], the sum of the clients' losses by their weights, and of the weights.
    """

    updates: Acc
    held: Tree
    loss: Array


Network = Callable[[int, View], Callable[[Array], Model]]
"""(number of the width, view) -> number of the local step -> the model to train."""


def cut_training(
    local: LocalUpdate,
    aggregator: Aggregator,
    optimizer: ServerOptimizer,
    uplink: Compressor,
    downlink: Compressor,
    *,
    name: str,
    selector: Selector,
    widths: tuple[Width, ...],
    tier_of: TierOf | None = None,
    average: Average = "cohort",
    rescale: bool = False,
    mask_absent: bool = False,
    network: Network | None = None,
) -> Algorithm:
    """FedAvg in which each client gets, trains and sends its kept units only.

    Args:
      local, aggregator, optimizer, uplink, downlink: as in ``fedavg``; both links have
        to be stateless, since a client holds other parameters each round.
      name: of the algorithm, for messages.
      selector: which units a client keeps.
      widths: the sizes, largest first.
      tier_of: which of them a client trains; None where there is only one.
      average: over the whole cohort, where a parameter that a client has not held
        counts as not moved; or over those that held it. Then one that nobody held
        stays as it was, whatever the server's optimizer.
      rescale: what a layer reads from cut units is multiplied by units / kept units
        while training.
      mask_absent: outputs of classes that a client has no rows of are 0 while it
        trains, and what leads to them is not averaged; needs ``holders``.
      network: what is trained in place of the network of the client's width.

    Raises:
      InputError: a model without cuts, a local update without frames, weights rescaled
        whose quantized values do not follow; and before the first round, a link that
        keeps a state.
    """
    cuts = cuts_for(local, name)
    if rescale and local.model is not None and not local.model.keeps_scale:
        raise InputError(
            f"{name} multiplies weights by units / kept units, which this quantized "
            "training does not follow; switch its scaling off, or take qat=integer"
        )
    if len(widths) > 1 and not selector.announced:
        raise InputError(
            f"{name} has clients of several sizes, for which units cannot be chosen by "
            "score; take prefix, rolling, random or random_per_round"
        )

    def part_of(params: Params, width: Width) -> Tree:
        """Shapes of the parameters that a client of this width holds."""
        kept = {g: jnp.zeros(n, jnp.int32) for g, n in width.counts.items()}
        return jax.eval_shape(lambda p: submodel.extract(p, cuts, kept), params)

    def refuse_state(link: Compressor, way: str, params: Params) -> None:
        for width in widths:
            if jax.tree.leaves(jax.eval_shape(link.init, part_of(params, width))):
                raise InputError(
                    f"clients of {name} hold other parameters each round, so its {way} "
                    "cannot keep a state between rounds; leave error_feedback out"
                )

    def init(key: Key, params: Params) -> SubmodelServer:
        refuse_state(downlink, "downlink", params)
        memory = selector.init(cuts.groups)
        start = jnp.zeros((), jnp.int32)
        return SubmodelServer(params, optimizer.init(params), memory, start)

    def client_init(params: Params) -> ClientState:
        refuse_state(uplink, "uplink", params)
        return local.init(params), selector.client_init(cuts.groups)

    def broadcast(
        server: SubmodelServer, coin: Coin
    ) -> tuple[View, Payload, SubmodelServer]:
        key = jax.random.fold_in(coin.shared, _ROUND)
        memory = selector.begin(
            server.memory, cuts.groups, widths[0].counts, key, server.number
        )
        view = View(server.params, memory, key)
        return view, (), server._replace(memory=memory, number=server.number + 1)

    def tier(number: int, width: Width) -> Tier:
        def choose(view: View, credit: Tree, shared: Key) -> Kept:
            key = jax.random.fold_in(shared, _SELECT)
            with within("the selector's choose"):
                kept = selector.choose(
                    view.memory, credit, cuts.groups, width.counts, key
                )
            return check_kept(kept, width.counts)

        def client(view: View, state: ClientState, shard: Shard, coin: Coin) -> Report:
            memory, credit = state
            kept = choose(view, credit, coin.shared)
            part = submodel.extract(view.params, cuts, kept)
            down = coin.fold(_DOWNLINK)
            message, _ = downlink.encode(part, (), down)
            received = downlink.decode(message, part, down.shared)
            net = network(number, view) if network else (lambda t: width.model)
            payload = {}
            if mask_absent:
                present = classes_of(shard, classes(view.params, cuts))
                payload["classes"] = wire.Field(present, 2, kind="mask")
                net = without(net, present)
            lift = submodel.inverse_scale(cuts, width.counts)
            frame = Frame(received, lift if rescale else lambda free: free, net)
            key = jax.random.fold_in(coin.private, _LOCAL)
            update, memory, metrics = local.run(
                received, memory, shard, key, frame=frame
            )
            payload["update"], _ = uplink.encode(update, (), coin.fold(_UPLINK))
            lists = {}
            if not selector.announced:
                # What the server chooses by: it has to know the loss.
                lists = _index_lists(kept, cuts)
                payload["loss"] = wire.raw(metrics["loss"])
            learned = selector.credit(credit, kept, metrics["loss"])
            some = metrics["examples"] > 0
            return Report(
                payload,
                metrics["examples"],
                (memory, tree.where(some, learned, credit)),
                metrics,
                tree.all_finite(update),
                {"parameters": message, "units": lists},
            )

        def reduce(view: View, report: Report, key: Key) -> Sums:
            if selector.announced:
                kept = choose(view, (), key)
            else:
                lists = report.down["units"]
                kept = {group: field.symbols for group, field in lists.items()}
            shared = jax.random.fold_in(key, _UPLINK)
            like = part_of(view.params, width)
            update = uplink.decode(report.payload["update"], like, shared)
            whole = submodel.scatter(update, cuts, kept, view.params)
            weight, loss = report.weight, report.metrics["loss"]
            losses = jnp.stack([loss * weight, weight])
            if average == "cohort":
                return Sums(aggregator.lift(whole, weight), (), losses)
            held = submodel.held(cuts, kept, view.params)
            if mask_absent:
                held = only(held, report.payload["classes"].symbols, cuts)
            weights = jax.tree.map(lambda h: h * weight, held)
            return Sums(aggregator.lift(whole, weights), weights, losses)

        return Tier(client, reduce)

    def server(server: SubmodelServer, sums: Sums) -> SubmodelServer:
        mean = aggregator.finish(sums.updates)
        params, state = optimizer.apply(mean, server.optimizer, server.params)
        if average == "holders":
            params = jax.tree.map(
                lambda new, old, held: jnp.where(held > 0, new, old),
                params, server.params, sums.held,
            )  # fmt: skip
        total, weight = sums.loss
        learned = selector.learn(server.memory, total / jnp.maximum(weight, 1e-30))
        memory = tree.where(weight > 0, learned, server.memory)
        return server._replace(params=params, optimizer=state, memory=memory)

    each = tuple(tier(number, width) for number, width in enumerate(widths))
    tiers = None
    if len(widths) > 1:
        assert tier_of is not None
        tiers = Tiers(tier_of, each, tuple(_work(width.rate) for width in widths))
    return Algorithm(
        init, client_init, broadcast, *each[0], server, lambda s: s.params, tiers=tiers,
        trains=tuple(width.model for width in widths),
    )  # fmt: skip


def _index_lists(kept: Kept, cuts: Cuts) -> dict[str, wire.Field]:
    """The kept units of each group as they travel."""
    return {
        group: wire.Field(units, cuts.groups[group], "best", "indices")
        for group, units in kept.items()
    }


def _work(rate: float) -> float:
    """Cost of a row, about: layers between two cut ones fall by the square."""
    return rate * rate
