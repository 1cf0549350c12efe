"""FedGKT: clients send what their small network makes of their rows, not weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import registry, tree, wire
from fedjax_compress.algorithms.shared import exchange
from fedjax_compress.algorithms.shared.groups import population_of
from fedjax_compress.algorithms.shared.needs import model_of
from fedjax_compress.algorithms.shared.row_messages import row_link
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.algorithms.shared.two_halves import (
    TAUGHT,
    TEACHER,
    followed_by,
    halves_of,
    of_other_rows,
    outputs_of,
    own_rows,
    taught_by_columns,
)
from fedjax_compress.errors import InputError
from fedjax_compress.models.distilling import distillation
from fedjax_compress.registry import ModelSpec, ServerSpec
from fedjax_compress.typing import (
    Algorithm,
    Array,
    ClientState,
    Context,
    Key,
    LocalUpdate,
    Params,
    Payload,
    Problem,
    Record,
    Report,
    Setup,
    Shard,
    Stacked,
    State,
    Task,
)

RESNET = ModelSpec("resnet55")
ADAM = ServerSpec("optax(adam, lr=0.001)")
_DOWN, _ORDER, _SERVER = 2, 3, 4
Distils = Literal["clients", "both"]


class Server(NamedTuple):
    """What the server keeps.

    Attributes:
      params, optimizer: of its own network.
      edge: what clients start from.
      logits: float32 [clients, largest, classes], what it made of each row last.
      taught: bool [clients], who has had any.
    """

    params: Params
    optimizer: State
    edge: Params
    logits: Array
    taught: Array


class Rows(NamedTuple):
    """What has come from a client; zeros behind its ``used`` rows.

    Attributes:
      features: float32 [largest, ...].
      logits: float32 [largest, classes].
      labels: int32 [largest].
      used: int32.
      client: int32, its id.
    """

    features: Array
    logits: Array
    labels: Array
    used: Array
    client: Array


@registry.register("algorithm", context=1)
@of_checked_parts
def fedgkt(
    setup: Setup,
    server: ModelSpec = RESNET,
    optimizer: ServerSpec | None = ADAM,
    epochs: int = 20,
    batch: int = 256,
    temperature: float = 3.0,
    alpha: float = 1.0,
    distils: Distils = "clients",
    matched: bool = True,
) -> Algorithm:
    """FedGKT: features and logits up, the server's logits down, no weights at all.

    Each client keeps and trains a small network f_c(f_e(x)), by

        CE(z_c, y) + alpha KD(z_s -> z_c)

    where z_s are the logits that the server has sent for the row, and no KD before
    there are any. Then it sends H = f_e(x), z_c and, the first time, y of each row. The
    server trains a larger network on H of all clients of the round, batch after batch,
    client after client, by CE(z_s, y), or with ``distils=both`` by
    KD(z_c -> z_s) + alpha CE(z_s, y); and keeps z_s of each row as it was before the
    last step on it. KD is ``distillation``.

    Travels: up, the uplink's fields for H and z_c of each row, ceil(log2 classes) bits
    for its label the first time it is sent, and twice the number of rows in 32 bits;
    down, the downlink's fields for z_s of each row of a client that has sent some, the
    number of rows, and a bit that says whether the server has the labels. Links work on
    the row, and keep no state.

    Evaluated: the client's f_e followed by the server's network, the mean over clients,
    of many over 32 of them; ``test_edge_NAME`` is of the client's own f_c(f_e(x)).

    Args:
      setup: what is joined. ``local`` names a model in halves, such as resnet8. The
        aggregator has nothing to do.
      server: model of the server, of which the features are the input.
      optimizer: of the server, by a SPEC of ``server``, which gets minus the gradient
        of each step: ``fedavg(lr=0.1)`` is SGD; none: that of the run, whose numbers
        may change over rounds.
      epochs: of the server, in a round.
      batch: rows of a step of the server, all of one client.
      temperature: T of KD.
      alpha: weight as above.
      distils: who learns from whom: clients from the server, or both.
      matched: each row is taught by its own logits; false: by those of another row of
        the client, as where the authors' code shuffles rows between its two passes.

    Raises:
      InputError: an option out of its range, a model that has no halves, links that
        keep a state.

    Reference: He et al. 2020, algorithm 1, and the authors' code.
    Deviations: features and logits are those of rows as they are evaluated, not of a
      random crop of them, and no row is left out as incomplete batches are; the
      optimizer of a client starts anew in each round, unless it is
      ``optax(..., state=kept)``; the server's rate follows a
      schedule of rounds, if any, not its best accuracy; weights of rows are not used.
    """
    _check(epochs, batch, temperature, alpha)
    local, moves = setup.local, setup.optimizer
    if optimizer is not None:
        moves = registry.build("server", optimizer)
    edge = model_of(local, "fedgkt")
    halves, people = halves_of(edge), population_of(setup, "fedgkt")
    classes, largest = people.task.classes, people.largest
    net = registry.build("model", server, Task(halves.shape, classes))
    up, down = row_link(setup.uplink, "uplink"), row_link(setup.downlink, "downlink")
    like = {
        "features": jnp.zeros(halves.shape, jnp.float32),
        "logits": jnp.zeros(classes, jnp.float32),
    }
    taught_by = taught_by_columns(edge, temperature, alpha)

    def init(key: Key, params: Params) -> Server:
        up.check(like)
        down.check(like["logits"])
        made = net.init(key)
        logits = jnp.zeros((people.clients, largest, classes), jnp.float32)
        taught = jnp.zeros(people.clients, bool)
        return Server(made, moves.init(made), params, logits, taught)

    def client_init(params: Params) -> ClientState:
        return local.init(params), params

    def record_init(params: Params) -> Record:
        return jnp.zeros(largest, jnp.int32), jnp.zeros((), bool)

    def unicast(state: Server, record: Record, context: Context) -> Payload:
        mine, told = context.inputs["client"], context.fold(_DOWN)
        used = jnp.where(state.taught[mine], context.inputs["examples"], 0)
        _, has_labels = record
        return {
            "logits": down.encode(state.logits[mine], used, told.keys),
            "has_labels": wire.Field(has_labels.astype(jnp.int32), 2),
        }

    def client(
        view: Payload,
        alone: Payload,
        state: ClientState,
        shard: Shard,
        context: Context,
    ) -> Report:
        memory, params = state
        logits, told = alone["logits"], alone["has_labels"].symbols > 0
        teacher = down.decode(logits, like["logits"], context.keys.fold(_DOWN).shared)
        if not matched:
            teacher = of_other_rows(teacher, shard.size, context.fold(_ORDER))
        rows = own_rows(shard, largest)
        more = {TEACHER: teacher, TAUGHT: jnp.broadcast_to(logits.used > 0, largest)}
        taught = Shard(
            rows.columns | more, jnp.zeros((), jnp.int32), shard.size, shard.largest
        )
        problem = Problem(params, model=lambda t: taught_by, memory=memory)

        def send(trained: Any) -> tuple[Payload, Any]:
            now = tree.add(params, trained.update)
            features, logits = outputs_of(halves, now, rows.columns, largest)
            made = {"features": features, "logits": logits}
            labels = rows.columns["labels"].astype(jnp.int32)
            payload = {
                "rows": up.encode(made, shard.size, exchange.uplink_keys(context)),
                "labels": wire.ragged(
                    wire.Field(labels, max(classes, 2)), jnp.where(told, 0, shard.size)
                ),
            }
            return payload, now

        return exchange.report(local, problem, taught, context, send)

    def reduce(
        state: Server, payload: Payload, weight: Array, record: Record, context: Context
    ) -> tuple[Rows, Record]:
        known, told = record
        made = up.decode(payload["rows"], like, exchange.uplink_key(context))
        labels = jnp.where(told, known, payload["labels"].each.symbols)
        rows = Rows(**made, labels=labels, used=payload["rows"].used,
                    client=context.inputs["client"])  # fmt: skip
        return rows, (labels, jnp.ones((), bool))

    def step(state: Server, given: Stacked, context: Context) -> Server:
        rows = given.each._replace(used=jnp.where(given.ok, given.each.used, 0))
        seats = rows.used.shape[0]
        blocks = -(-largest // batch)
        logits = jnp.zeros((seats, largest, classes), jnp.float32)
        noise = context.fold(_SERVER).keys.private

        def loss(
            params: Params, features: Array, of: Array, labels: Array, mask: Array,
            key: Key,
        ) -> tuple[Array, Array]:  # fmt: skip
            outputs = net.apply(params, {"features": features}, key)
            values, _ = net.losses(outputs, {"features": features, "labels": labels})
            if distils == "both":
                values = distillation(of, outputs, temperature) + alpha * values
            total = jnp.maximum(mask.sum(), 1).astype(jnp.float32)
            return jnp.sum(jnp.where(mask, values, 0.0)) / total, outputs

        def one(t: Array, carry: tuple) -> tuple:
            seat, block = (t // blocks) % seats, t % blocks
            index = block * batch + jnp.arange(batch)
            mask = index < rows.used[seat]
            place = jnp.minimum(index, largest - 1)

            def learn(params: Params, optimizer: State, logits: Array) -> tuple:
                grads, outputs = jax.grad(loss, has_aux=True)(
                    params, rows.features[seat, place], rows.logits[seat, place],
                    rows.labels[seat, place], mask, jax.random.fold_in(noise, t),
                )  # fmt: skip
                moved = moves.apply(tree.scale(grads, -1.0), optimizer, params, context)
                into = jnp.where(mask, index, largest)
                return *moved, logits.at[seat, into].set(outputs, mode="drop")

            keep = lambda *same: same  # noqa: E731
            found: tuple = jax.lax.cond(mask.any(), learn, keep, *carry)
            return found

        start = state.params, state.optimizer, logits
        params, optimizer, logits = jax.lax.fori_loop(
            0, epochs * seats * blocks, one, start
        )
        into = jnp.where(rows.used > 0, rows.client, people.clients)
        return state._replace(
            params=params,
            optimizer=optimizer,
            logits=state.logits.at[into].set(logits, mode="drop"),
            taught=state.taught.at[into].set(True, mode="drop"),
        )

    whole = followed_by(edge, halves, net)
    return Algorithm(
        init, client_init,
        lambda state, context: ((), state), lambda payload, context: (),
        client, reduce, step,
        lambda state: (whole, {"edge": state.edge, "server": state.params}),
        unicast=unicast,
        record_init=record_init,
        reduction="stack",
        personal=lambda params, state: params | {"edge": state[1]},
        judged=whole,
        trains=(edge,),
        seen=_seen(local),
        links={"uplink": like, "downlink": like["logits"]},
    )  # fmt: skip


def _seen(local: LocalUpdate) -> Callable[[Any], Any]:
    """Rows learned from, and looked at once more for their features."""
    return lambda rows: local.seen(rows) + rows / 3


def _check(epochs: int, batch: int, temperature: float, alpha: float) -> None:
    if epochs < 1 or batch < 1:
        raise InputError(
            f"epochs and batch must be at least 1, not {epochs} and {batch}"
        )
    if not 0 < temperature < math.inf or not 0 <= alpha < math.inf:
        raise InputError(
            "temperature must be above 0, alpha at least 0, both finite, not "
            f"{temperature:g} and {alpha:g}"
        )
