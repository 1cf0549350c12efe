"""What all algorithms share whose clients train a part of the model's units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import submodel, tree, wire
from fedjax_compress.algorithms.shared import exchange
from fedjax_compress.algorithms.shared.absent_classes import (
    classes,
    classes_of,
    only,
    without,
)
from fedjax_compress.algorithms.shared.widths import Width, cuts_for
from fedjax_compress.checks import returned
from fedjax_compress.checks.returned import within
from fedjax_compress.errors import InputError
from fedjax_compress.submodel import Kept, Selector
from fedjax_compress.submodel.selector import check_kept
from fedjax_compress.typing import (
    Acc,
    Algorithm,
    Array,
    ClientState,
    Compressor,
    Context,
    Cuts,
    Key,
    Model,
    Params,
    Payload,
    Problem,
    Record,
    Report,
    Setup,
    Shard,
    State,
    Tier,
    Tiers,
    Trained,
    Tree,
)

_DOWNLINK, _SELECT, ROUND = 2, 3, 4
Average = Literal["cohort", "holders"]
TierOf = Callable[[int, int, Any], Any]
"""(run seed, round, client ids) -> number of each client's width; on the host."""


class SubmodelServer(NamedTuple):
    """What the server keeps.

    Attributes:
      params: of the whole model.
      optimizer: state of its optimizer.
      memory: of the selector.
    """

    params: Params
    optimizer: State
    memory: Tree


class Sums(NamedTuple):
    """Accumulator of a round.

    Attributes:
      updates: of the aggregator.
      held: for each parameter, by how many clients it was held; () if not asked for.
      loss: [2], the sum of the clients' losses by their weights, and of the weights;
        0 where units are not chosen by it.
    """

    updates: Acc
    held: Tree
    loss: Array


Network = Callable[[int, Key], Callable[[Array], Model]]
"""(number of the width, key of the round, which all know) -> number of the local step
-> the model to train."""


def cut_training(
    setup: Setup,
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
      setup: what is joined; both links have to be stateless, since a client holds other
        parameters each round.
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
      InputError: a model without cuts, weights rescaled whose quantized values do not
        follow; and before the first round, a link that keeps a state.
    """
    local, aggregator, optimizer = setup.local, setup.aggregator, setup.optimizer
    uplink, downlink = setup.uplink, setup.downlink
    cuts = cuts_for(local, name)
    quantized = None if local.model is None else local.model.quantized
    if rescale and quantized and not quantized.keeps_scale:
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
            exchange.refuse_state(
                jax.eval_shape(link.init, part_of(params, width)),
                f"clients of {name} hold other parameters each round, so its {way} "
                "cannot keep a state between rounds",
            )

    def begun(memory: Tree, context: Context) -> Tree:
        """The selector's memory in this round."""
        key = jax.random.fold_in(context.common, ROUND)
        return selector.begin(memory, cuts.groups, widths[0].counts, key, context.round)

    def choose(memory: Tree, credit: Tree, width: Width, context: Context) -> Kept:
        key = jax.random.fold_in(context.keys.shared, _SELECT)
        with within("the selector's choose"):
            kept = selector.choose(memory, credit, cuts.groups, width.counts, key)
        return check_kept(kept, width.counts)

    def init(key: Key, params: Params) -> SubmodelServer:
        refuse_state(downlink, "downlink", params)
        memory = selector.init(cuts.groups)
        return SubmodelServer(params, optimizer.init(params), memory)

    def client_init(params: Params) -> ClientState:
        refuse_state(uplink, "uplink", params)
        parts = [
            submodel.extract(params, cuts, {g: jnp.arange(n) for g, n in counts})
            for counts in (width.counts.items() for width in widths)
        ]
        memory, *others = [local.init(part) for part in parts]
        for other in others:
            what = f"what local keeps at a client of {name} of another size"
            returned.like(what, other, memory, "that of the largest")
        return memory, ()

    def record_init(params: Params) -> Record:
        return selector.client_init(cuts.groups)

    def broadcast(
        server: SubmodelServer, context: Context
    ) -> tuple[Payload, SubmodelServer]:
        return (), server._replace(memory=begun(server.memory, context))

    def tier(number: int, width: Width) -> Tier:
        def unicast(
            server: SubmodelServer, credit: Record, context: Context
        ) -> Payload:
            kept = choose(server.memory, credit, width, context)
            part = submodel.extract(server.params, cuts, kept)
            message, _ = downlink.encode(part, (), context.keys.fold(_DOWNLINK))
            lists = {} if selector.announced else _index_lists(kept, cuts)
            return {"parameters": message, "units": lists}

        def client(
            view: Payload,
            alone: Payload,
            state: ClientState,
            shard: Shard,
            context: Context,
        ) -> Report:
            memory, _ = state
            part = part_of(context.params, width)
            shared = context.keys.fold(_DOWNLINK).shared
            received = downlink.decode(alone["parameters"], part, shared)
            key = jax.random.fold_in(context.common, ROUND)
            net = network(number, key) if network else (lambda t: width.model)
            payload: dict[str, Payload] = {}
            if mask_absent:
                present = classes_of(shard, classes(context.params, cuts))
                payload["classes"] = wire.Field(present, 2, kind="mask")
                net = without(net, present)

            def send(trained: Trained) -> tuple[Payload, Tree]:
                update, _ = exchange.encode(uplink, trained.update, (), context)
                sent = payload | {"update": update}
                if not selector.announced:
                    # What the server chooses by: it has to know the loss.
                    sent["loss"] = wire.raw(trained.metrics["loss"])
                return sent, ()

            lift = submodel.inverse_scale(cuts, width.counts)
            problem = Problem(received, model=net, memory=memory)
            problem = problem._replace(lift=lift) if rescale else problem
            return exchange.report(local, problem, shard, context, send)

        def reduce(
            server: SubmodelServer,
            payload: Payload,
            weight: Array,
            record: Record,
            context: Context,
        ) -> tuple[Sums, Record]:
            kept = choose(server.memory, record, width, context)
            like = part_of(context.params, width)
            update = exchange.decode(uplink, payload["update"], like, context)
            whole = submodel.scatter(update, cuts, kept, context.params)
            losses = jnp.zeros(2, jnp.float32)
            if not selector.announced:
                loss = payload["loss"].symbols
                losses = jnp.stack([loss * weight, weight])
                learned = selector.credit(record, kept, loss)
                record = tree.where(weight > 0, learned, record)
            if average == "cohort":
                return Sums(aggregator.lift(whole, weight), (), losses), record
            held = submodel.held(cuts, kept, context.params)
            if mask_absent:
                held = only(held, payload["classes"].symbols, cuts)
            weights = jax.tree.map(lambda h: h * weight, held)
            return Sums(aggregator.lift(whole, weights), weights, losses), record

        return Tier(unicast, client, reduce)

    def step(server: SubmodelServer, sums: Sums, context: Context) -> SubmodelServer:
        mean = aggregator.finish(sums.updates)
        params, state = optimizer.apply(mean, server.optimizer, server.params, context)
        if average == "holders":
            params = jax.tree.map(
                lambda new, old, held: jnp.where(held > 0, new, old),
                params, server.params, sums.held,
            )  # fmt: skip
        memory = server.memory
        if not selector.announced:
            total, weight = sums.loss
            learned = selector.learn(memory, total / jnp.maximum(weight, 1e-30))
            memory = tree.where(weight > 0, learned, memory)
        return SubmodelServer(params, state, memory)

    each = tuple(tier(number, width) for number, width in enumerate(widths))
    tiers = None
    if len(widths) > 1:
        assert tier_of is not None
        tiers = Tiers(tier_of, each, tuple(_work(width.rate) for width in widths))
    return Algorithm(
        init, client_init, broadcast, lambda payload, context: (), each[0].client,
        each[0].reduce, step, lambda server: (local.model, server.params),
        unicast=each[0].unicast,
        record_init=record_init,
        tiers=tiers,
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
