"""FedMD: clients keep networks of their own and share what these say of public rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fedjax_compress import registry, tree, wire
from fedjax_compress.algorithms.shared import exchange
from fedjax_compress.algorithms.shared.groups import (
    Groups,
    check_public,
    groups_of,
    logits_of,
    public_rows,
)
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.algorithms.shared.students import student_of, studied, taught
from fedjax_compress.errors import InputError
from fedjax_compress.registry import LocalSpec, ModelSpec
from fedjax_compress.typing import (
    Algorithm,
    Array,
    ClientState,
    Columns,
    Context,
    Key,
    LocalUpdate,
    Model,
    Outputs,
    Params,
    Payload,
    Problem,
    Record,
    Report,
    Setup,
    Shard,
    Tier,
    Trained,
    rows_of,
)

DIGEST = LocalSpec("optax(adam, lr=0.001, epochs=1, batch=128)")
_DOWN, _ROWS, _BEGIN, _PRETRAIN, _DIGEST = 5, 6, 7, 8, 9
_TARGET = "consensus"


class Server(NamedTuple):
    """What the server keeps.

    Attributes:
      logits: float32 [rows, classes], the last consensus.
      rows: uint32 [2], what draws the rows of it.
      known: bool, whether there is any.
    """

    logits: Array
    rows: Array
    known: Array


class Sums(NamedTuple):
    """Accumulator: logits added up, and how many clients they are of."""

    logits: Array
    clients: Array


class Own(NamedTuple):
    """What a client keeps beside the memory of its local update.

    Attributes:
      params: float32 [parameters of the largest network], its network's and zeros.
      group: int32, which network that is.
      begun: bool, whether it has taken part.
    """

    params: Array
    group: Array
    begun: Array


@registry.register("algorithm", context=1)
@of_checked_parts
def fed_md(
    setup: Setup,
    others: tuple[ModelSpec, ...] = (),
    shares: tuple[float, ...] = (),
    digest: LocalSpec = DIGEST,
    pretrain: LocalSpec | None = None,
    rows: int = 5000,
) -> Algorithm:
    """FedMD: logits of public rows up, their mean down, and no weights at all.

    Each client keeps a network of its own, drawn with its own randomness. In a round it

        digests: steps on mean_c |z(x)_c - m(x)_c| over the rows x of the last consensus
        m, then revisits: trains on its own rows, as ``local`` says, and sends its
        logits z(x) of the round's public rows;

    the server makes m their mean, each client counting for one.

    Travels: up, the uplink's fields for one float32 array [rows, classes]; down, the
    downlink's for the same, before the first consensus nothing of it, besides 64 bits
    that draw its rows and 32 that say whether there is one. Links keep no state: the
    rows are others each round.

    Evaluated: the mean over clients, of many over 32 of them, of their own networks; a
    client that has never taken part has none, and says the same class to all.

    Args:
      setup: what is joined, with public rows. The run's model is that of the first
        group; aggregator and the server's step have nothing to do.
      others: models of further groups.
      shares: of the clients in each group, as ratios; none for equal ones. Who is in
        which group is drawn once.
      digest: how clients learn the consensus, as ``local`` says it.
      pretrain: how clients train on all public rows and their labels before their
        first round; none for not at all.
      rows: public rows of a round, drawn anew; 0 for all.

    Raises:
      InputError: no public rows or fewer than ``rows``, shares that do not fit, links
        that keep a state, ``pretrain`` without public labels.

    Reference: Li and Wang 2019, algorithm 1, and the authors' code for the loss.
    Deviations: pretraining is part of the first round and has no stage on the private
      rows of its own; no weak network counts for less; who does not take part misses
      its consensus. With ``augment`` clients digest changed rows, and the consensus is
      of the rows as they are.
    """
    groups = groups_of(setup, "fed_md", others, shares)
    found = check_public(setup.public, "fed_md", rows)
    if pretrain is not None and "labels" not in setup.public:
        raise InputError(
            "pretrain needs public rows with labels, as of held_out(0.1, labels=true)"
        )
    first = groups.models[0]
    local, digests = setup.local, student_of(digest, first, found, "digest")
    before = student_of(pretrain, first, rows_of(setup.public), "pretrain")
    assert digests is not None
    up, down = setup.uplink, setup.downlink
    classes = groups.population.task.classes
    like = jnp.zeros((found, classes), jnp.float32)
    width = max(tree.count(shape) for shape in _shapes(groups))

    def init(key: Key, params: Params) -> Server:
        for link, name in ((up, "uplink"), (down, "downlink")):
            state = jax.eval_shape(link.init, like)
            exchange.refuse_state(state, f"{name}: logits are of other rows each round")
        return Server(like, jnp.zeros(2, jnp.uint32), jnp.zeros((), bool))

    def client_init(params: Params) -> ClientState:
        memories = tuple(
            local.init(model.init(jax.random.key(0))) for model in groups.models
        )
        own = Own(jnp.zeros(width), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
        return memories, own

    def broadcast(server: Server, context: Context) -> tuple[Payload, Server]:
        logits, _ = down.encode(server.logits, (), context.keys.fold(_DOWN))
        payload = {
            "logits": logits,
            "rows": wire.Field(server.rows, 2**32),
        }
        whole = jax.tree.map(lambda x: x[None], payload)
        return wire.ragged(whole, server.known.astype(jnp.int32)), server

    def receive(payload: Payload, context: Context) -> tuple[Array, Array, Array]:
        inner = jax.tree.map(lambda x: x[0], payload.each)
        shared = jax.random.fold_in(context.common, _DOWN)
        logits = down.decode(inner["logits"], like, shared)
        return logits, inner["rows"].symbols, payload.used > 0

    def tier(group: int) -> Tier:
        model, shape = groups.models[group], _shapes(groups)[group]
        fits = _taught(model)

        def client(
            view: Any, alone: Payload, state: ClientState, shard: Shard,
            context: Context,
        ) -> Report:  # fmt: skip
            (target, drawn, known), (memories, own) = view, state
            fresh = model.init(context.keys.fold(_BEGIN).private)
            params = tree.where(own.begun, _unravelled(own.params, shape), fresh)
            if before is not None:
                params, _ = studied(
                    before, model, params, context.public, context.fold(_PRETRAIN),
                    jnp.where(own.begun, 0, rows_of(context.public)),
                )  # fmt: skip
            last = _drawn(context.public, found, drawn)
            params, loss = studied(
                digests, fits, params, {**last, _TARGET: target},
                context.fold(_DIGEST), jnp.where(known, found, 0),
            )  # fmt: skip
            problem = Problem(params, model=lambda t: model, memory=memories[group])

            def send(trained: Trained) -> tuple[Payload, Any]:
                now = tree.add(params, trained.update)
                some = _drawn(context.public, found, _seed(context))
                logits = logits_of(model, now, some)
                payload, _ = exchange.encode(up, logits, (), context)
                kept = Own(
                    _ravelled(now, width), jnp.asarray(group, jnp.int32),
                    jnp.ones((), bool),
                )  # fmt: skip
                return payload, kept

            made = exchange.report(local, problem, shard, context, send)
            memory, kept = made.state
            memories = (*memories[:group], memory, *memories[group + 1 :])
            metrics = {**made.metrics, "digest_loss": loss}
            return made._replace(state=(memories, kept), metrics=metrics)

        return Tier(lambda server, record, context: (), client, reduce)

    def reduce(
        server: Server, payload: Payload, weight: Array, record: Record,
        context: Context,
    ) -> tuple[Sums, Record]:  # fmt: skip
        logits = exchange.decode(up, payload, like, context)
        return Sums(logits, jnp.ones((), jnp.float32)), record

    def step(server: Server, sums: Sums, context: Context) -> Server:
        mean = sums.logits / jnp.maximum(sums.clients, 1.0)
        return Server(mean, _seed(context), jnp.ones((), bool))

    whole = _any_of(groups, width)
    each = tuple(tier(group) for group in range(len(groups.models)))
    return Algorithm(
        init, client_init, broadcast, receive, each[0].client, reduce, step,
        lambda server: (whole, whole.init(jax.random.key(0))),
        tiers=groups.tiers(each),
        trains=groups.models,
        personal=lambda params, state: {
            "own": state[1].params, "group": state[1].group.astype(jnp.float32)
        },
        judged=whole,
        public=setup.public,
        averaged=groups.parameters,
        links=dict.fromkeys(("uplink", "downlink"), like),
        seen=_seen(local, digests, found),
    )  # fmt: skip


def _shapes(groups: Groups) -> list[Params]:
    return [jax.eval_shape(m.init, jax.random.key(0)) for m in groups.models]


def _seed(context: Context) -> Array:
    """What both ends know of a round, in 64 bits."""
    key = jax.random.fold_in(context.common, _ROWS)
    return jax.random.bits(key, (2,), jnp.uint32)


def _drawn(public: Columns, rows: int, seed: Array) -> Columns:
    """The public rows that 64 bits draw."""
    key = jax.random.wrap_key_data(seed, impl="threefry2x32")
    return public_rows(public, rows, key)


def _taught(model: Model) -> Model:
    """The model with the loss of digesting: the mean distance of logits."""

    def loss(outputs: Outputs, columns: Columns) -> Array:
        return jnp.mean(jnp.abs(outputs - columns[_TARGET]), axis=-1)

    return taught(model, loss)


def _ravelled(params: Params, width: int) -> Array:
    flat, _ = ravel_pytree(params)
    return jnp.zeros(width, jnp.float32).at[: flat.size].set(flat)


def _unravelled(vector: Array, shape: Params) -> Params:
    restore = ravel_pytree(tree.zeros_like(shape))[1]
    made: Params = restore(vector[: tree.count(shape)])
    return made


def _any_of(groups: Groups, width: int) -> Model:
    """The network of a client, whichever group it is in."""
    shapes, first = _shapes(groups), groups.models[0]

    def init(key: Key) -> Params:
        return {"own": jnp.zeros(width), "group": jnp.zeros(())}

    def apply(params: Params, columns: Columns, key: Key | None) -> Outputs:
        each = [
            lambda own, model=model, shape=shape: model.apply(
                _unravelled(own, shape), columns, key
            )
            for model, shape in zip(groups.models, shapes, strict=True)
        ]
        group = params["group"].astype(jnp.int32)
        return jax.lax.switch(group, each, params["own"])

    return Model(init, apply, first.losses, first.metrics)


def _seen(local: LocalUpdate, digests: LocalUpdate, rows: int) -> Any:
    """Rows learned from, digested, and looked at once."""

    def seen(own: Any) -> Any:
        public = digests.seen(jnp.full(jnp.shape(own), rows))
        return local.seen(own) + public + rows / 3

    return seen
