"""FetchSGD: clients send count sketches, momentum and error feedback at the server."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import registry, tree
from fedjax_compress.algorithms.shared.averaging import (
    FedAvgServer,
    Sent,
    Sums,
    averaging,
)
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.compress._count_sketch import cells, check_table, sketch, unsketch
from fedjax_compress.compress.stages import check_fraction, kept
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.typing import (
    Algorithm,
    Array,
    Context,
    Key,
    Params,
    Setup,
    State,
    Tree,
)


class FetchSgdServer(NamedTuple):
    """What the server keeps.

    Invariants: ``momentum`` and ``error`` are tables [rows, columns] under the hashes
    that all clients share.
    """

    params: Params
    optimizer: State
    downlink: State
    momentum: Array
    error: Array


@registry.register("algorithm", context=1)
@of_checked_parts
def fetch_sgd(
    setup: Setup,
    rows: int = 5,
    columns: int = 0,
    fraction: float = 0.01,
    momentum: float = 0.9,
    removal: Literal["zero", "subtract"] = "zero",
    seed: int = 0,
) -> Algorithm:
    """FetchSGD: clients send count sketches; the server keeps momentum and residual.

    Each client sends S(u), the sketch of its update as one vector; no client keeps a
    residual. With M the aggregated table, the server takes

      S_u = momentum S_u + M;  S_e = S_e + S_u;  D = top-k(unsketch(S_e)),

    moves the parameters by its optimizer with D as the update, and removes D: the cells
    that D touches become zero in S_e and S_u, or S(D) is subtracted from S_e.

    Travels: up, what the uplink makes of the table, one leaf of rows x columns: with
    ``identity``, which is the paper's, 32 rows columns bits. Down, the downlink's
    fields for all parameters. Cells and signs follow from ``seed``, which belongs to
    the configuration.

    Args:
      setup: what is joined: sketches are averaged as they arrive, and momentum is in
        S_u, so ``fedavg(lr)`` as the server's step as a rule. The uplink compresses the
        table, the downlink, whose state the server keeps, the parameters.
      rows: of the table, an odd number, 1 to 15.
      columns: of the table; 0 for as many as make a fifth of the parameters' number.
      fraction: k = max(1, ceil(fraction n)) elements change in a round.
      momentum: from 0 to below 1.
      removal: zero, as the authors' code has it; or subtract, as the paper writes it,
        of which that code says that it diverges.
      seed: of cells and signs, the same for all clients and rounds.

    Raises:
      InputError: an option out of its range; a table no smaller than the parameters.

    Reference: Rothchild et al. 2020, algorithm 1.
    Deviation: the model is broadcast, not the k elements of D, so that clients may take
    part at any time; the update is that of local training, a single step in the paper;
    the server's learning rate multiplies D, as in the authors' code.
    """
    check_table(rows, columns or 1)
    check_fraction(fraction)
    if not 0 <= momentum < 1:
        raise InputError(f"momentum must be from 0 to below 1, not {momentum}")
    hashes = root_key(seed)

    def table(params: Params) -> jax.ShapeDtypeStruct:
        n = tree.count(params)
        wide = columns or max(1, n // (5 * rows))
        if rows * wide >= n:
            most = (n - 1) // rows
            raise InputError(
                f"a sketch of {rows} x {wide} cells is no smaller than the model of "
                f"{n} parameters; columns can be at most {most}"
            )
        return jax.ShapeDtypeStruct((rows, wide), jnp.float32)

    algorithm = averaging(
        setup,
        Sent(
            make=lambda update, params: sketch(
                _flat(update), hashes, *table(params).shape
            ),
            like=table,
        ),
    )

    def init(key: Key, params: Params) -> FetchSgdServer:
        zeros = tree.zeros_like(table(params))
        plain: FedAvgServer = algorithm.init(key, params)
        return FetchSgdServer(
            plain.params, plain.optimizer, plain.downlink, zeros, zeros
        )

    def server(server: FetchSgdServer, sums: Sums, context: Context) -> FetchSgdServer:
        moving = momentum * server.momentum + setup.aggregator.finish(sums.sent)
        due = server.error + moving
        n = tree.count(server.params)
        heavy, found = _heavy(unsketch(due, hashes, n), kept(fraction, n))
        places, signs = (x[:, found] for x in cells(hashes, n, *due.shape))
        row = jnp.arange(rows)[:, None]
        if removal == "zero":
            due, moving = (t.at[row, places].set(0) for t in (due, moving))
        else:
            due = due.at[row, places].add(-signs * heavy[found][None])
        update = _unflat(heavy, server.params)
        params, state = setup.optimizer.apply(
            update, server.optimizer, server.params, context
        )
        return FetchSgdServer(params, state, server.downlink, moving, due)

    return algorithm._replace(init=init, server=server)


def _heavy(estimates: Array, k: int) -> tuple[Array, Array]:
    """The k largest by magnitude, zeros elsewhere [n]; and their positions [k]."""
    found = jax.lax.top_k(jnp.abs(estimates), k)[1]
    return jnp.zeros_like(estimates).at[found].set(estimates[found]), found


def _flat(values: Tree) -> Array:
    """The leaves end to end, float32 [n]."""
    leaves = jax.tree.leaves(values)
    return jnp.concatenate([x.reshape(-1).astype(jnp.float32) for x in leaves])


def _unflat(vector: Array, like: Tree) -> Tree:
    """A float32 tree of the shapes of ``like`` from its elements end to end."""
    leaves, start = [], 0
    for x in jax.tree.leaves(like):
        leaves.append(vector[start : start + x.size].reshape(x.shape))
        start += x.size
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
