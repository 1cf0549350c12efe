"""Groups of clients that train networks of different architecture."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import registry, spec, tree
from fedjax_compress.algorithms.shared.needs import model_of
from fedjax_compress.algorithms.shared.submodel_training import TierOf
from fedjax_compress.errors import InputError
from fedjax_compress.models import forward_macs
from fedjax_compress.typing import (
    Array,
    Columns,
    Model,
    Params,
    Population,
    Setup,
    Shard,
    Tier,
    Tiers,
    rows_of,
)

_STREAM = 0x47524F55
_BLOCK = 128
"""Rows whose outputs are made at once."""


class Groups(NamedTuple):
    """The networks that clients train, and what each trains.

    Attributes:
      models: of each group, the run's own first.
      names: of the groups, after their models.
      of: which group each client is in; as ``Tiers.of``.
      population: of the run.
    """

    models: tuple[Model, ...]
    names: tuple[str, ...]
    of: TierOf
    population: Population

    def tiers(self, each: tuple[Tier, ...]) -> Tiers | None:
        """The groups as tiers; None for a single one."""
        if len(self.models) == 1:
            return None
        macs = [float(forward_macs(m, self.population.task)) for m in self.models]
        return Tiers(self.of, each, tuple(m / max(macs) for m in macs))

    @property
    def parameters(self) -> float:
        """Of a client's network, the mean over clients."""
        shapes = [jax.eval_shape(m.init, jax.random.key(0)) for m in self.models]
        counts = np.array([tree.count(shape) for shape in shapes])
        return float(counts[self.of(0, 0, np.arange(self.population.clients))].mean())

    def others(self, params: tuple[Params, ...], first: int) -> dict[str, Any]:
        """(model, parameters) of the groups from ``first`` on, by name."""
        each = zip(self.names, self.models, params, strict=True)
        return {name: (model, p) for name, model, p in list(each)[first:]}


def groups_of(
    setup: Setup,
    name: str,
    others: tuple[str, ...],
    shares: tuple[float, ...],
) -> Groups:
    """The groups of an algorithm.

    Args:
      setup: what it joins; the run's model is that of the first group.
      name: of the algorithm, for messages.
      others: SPECs of the models of further groups.
      shares: of the clients in each group, as ratios; empty for equal ones.

    Raises:
      InputError: a model that does not fit, shares that do not, fewer clients than
        groups, no population.
    """
    first, people = model_of(setup.local, name), population_of(setup, name)
    models = (first, *(network(setup, text) for text in others))
    if others and any(model.frozen is not None for model in models):
        raise InputError(
            "with several groups no network may have parts that are sent once; say "
            "sent=never"
        )
    names = [spec.parse(text).calls[0].name for text in others]
    names = [f"{n}_{i + 2}" if names.count(n) > 1 else n for i, n in enumerate(names)]
    return Groups(
        models,
        ("first", *names),
        dealt(shares, len(models), people.clients),
        people,
    )


def population_of(setup: Setup, name: str) -> Population:
    """What is known of all clients.

    Raises:
      InputError: nothing, or their rows have no single class each.
    """
    people = setup.population
    if people is None:
        raise InputError(
            f"{name} needs to know the number of clients and of their rows; give "
            "Setup(population=Population(task, clients, largest))"
        )
    if people.task.predicts != "class":
        raise InputError(f"{name} needs one class for each row to be predicted")
    return people


def network(setup: Setup, text: str, quantized: bool = True) -> Model:
    """Another network for the run's rows."""
    if setup.network is not None:
        try:
            return setup.network(text, quantized)
        except InputError as error:
            raise InputError(str(error).removeprefix("model: ")) from None
    assert setup.population is not None
    found: Model = registry.build("model", text, setup.population.task)
    return found


def dealt(shares: tuple[float, ...], kinds: int, clients: int) -> TierOf:
    """Each client in one group for good; groups as large as their shares say.

    Args:
      shares: as ratios; empty for equal ones. Sizes are rounded by largest remainder,
        and no group is empty.
      kinds: number of groups.
      clients: number of clients.

    Raises:
      InputError: shares that do not fit the groups, or are not finite and positive; or
        fewer clients than groups.
    """
    if shares and len(shares) != kinds:
        raise InputError(f"shares must be {kinds} numbers, one a group, not {shares}")
    if any(not 0 < share < math.inf for share in shares):
        raise InputError(f"shares must be positive and finite, got {shares}")
    if clients < kinds:
        raise InputError(f"{clients} clients cannot be in {kinds} groups")
    ratios = np.asarray(shares or (1.0,) * kinds, np.float64)
    wanted = ratios / ratios.sum() * clients
    sizes = np.maximum(np.floor(wanted).astype(int), 1)
    while sizes.sum() != clients:
        step = 1 if sizes.sum() < clients else -1
        room = np.where((sizes > 1) | (step > 0), step * (wanted - sizes), -np.inf)
        sizes[np.argmax(room)] += step
    groups = np.repeat(np.arange(kinds, dtype=np.int32), sizes)

    def of(seed: int, number: int, ids: Any) -> Any:
        return np.random.default_rng([seed, _STREAM]).permutation(groups)[ids]

    return of


def check_public(public: Columns, name: str, rows: int) -> int:
    """How many public rows a round takes.

    Raises:
      InputError: there are none, or fewer than ``rows``.
    """
    if not public:
        raise InputError(
            f"{name} needs rows that no client has; give public, as in held_out(0.1), "
            "noise(2000) or source(npz(path='my/public.npz'))"
        )
    found = rows_of(public)
    if not 0 <= rows <= found:
        raise InputError(f"rows must be from 0 (all) to {found}, not {rows}")
    return rows or found


def public_rows(public: Columns, rows: int, key: Array) -> Columns:
    """Some public rows, drawn anew by a key; all of them, in their order, for all."""
    if rows == rows_of(public):
        return public
    some = jax.random.permutation(key, rows_of(public))[:rows]
    return {name: x[some] for name, x in public.items()}


def as_shard(columns: Columns, used: Array | None = None) -> Shard:
    """Rows as a local update takes those of a client; the first ``used`` of them."""
    rows = jnp.asarray(rows_of(columns), jnp.int32) if used is None else used
    return Shard(columns, jnp.zeros((), jnp.int32), rows, rows)


def logits_of(model: Model, params: Params, columns: Columns) -> Array:
    """Outputs of all rows as they are evaluated, a block at a time."""
    rows = rows_of(columns)
    size = min(_BLOCK, rows)
    blocks = -(-rows // size)
    fill = jnp.minimum(jnp.arange(blocks * size), rows - 1).reshape(blocks, size)

    def one(places: Array) -> Array:
        return model.apply(params, {n: x[places] for n, x in columns.items()}, None)

    made = jax.lax.map(one, fill)
    return made.reshape(blocks * size, -1)[:rows]
