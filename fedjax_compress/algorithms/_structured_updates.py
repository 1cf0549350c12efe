"""Structured updates: clients train, and send, a part of the model's freedom only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.algorithms.shared.averaging import Sent, averaging, folded
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.compress._random_k import positions
from fedjax_compress.compress.stages import check_fraction, kept
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Algorithm,
    Array,
    Context,
    Key,
    Params,
    Problem,
    Setup,
    Tree,
)

_FORM = 2
_EXACT = jax.lax.Precision.HIGHEST
Form = Literal["mask", "low_rank"]


class _Part(NamedTuple):
    """How one leaf is moved.

    Attributes:
      shape: of its free parameters.
      basis: key -> what the free parameters are multiplied or placed by.
      expand: (basis, free parameters) -> the leaf's update, flat.
    """

    shape: tuple[int, ...]
    basis: Callable[[Key], Array | None]
    expand: Callable[[Array | None, Array], Array]


@registry.register("algorithm", context=1)
@of_checked_parts
def structured_updates(
    setup: Setup,
    form: Form = "mask",
    fraction: float = 0.1,
    rank: int = 4,
) -> Algorithm:
    """Structured updates: a client trains and sends some free parameters z of its own.

    Client k of a round learns w + U_k(z), z from zero, and sends z; the server adds the
    weighted mean of U_k(z_k). U_k follows from the shared key, anew for each client and
    round:

      mask      U(z)_i = z_j at the j-th of max(1, ceil(fraction n)) random positions of
                a leaf of n elements, else 0: those elements alone are trained.
      low_rank  U(B) = A B for a leaf seen as d1 x d2, d2 its last axis; A is d1 x rank,
                random and fixed, independent normal numbers of variance 1 / d1; B is
                trained. Vectors, and matrices that B would not shrink, are trained
                whole.

    Travels: up, the uplink's fields for z: of each leaf max(1, ceil(fraction n)) or
    rank d2 float32 numbers with ``identity``, all n of a leaf that is trained whole;
    masks and A cost nothing. Down, the downlink's fields for all parameters.

    Args:
      setup: what is joined. Momentum and weight decay of ``local`` act on z, so that
        weight decay pulls towards the model received; the uplink, stateless, compresses
        z, the downlink, whose state the server keeps, the parameters.
      form: mask or low_rank.
      fraction: of a mask, above 0, at most 1.
      rank: of low_rank, at least 1.

    Raises:
      InputError: an option out of its range; and from
        ``client_init``, before the first round, an uplink that keeps a state between
        rounds, in which z means something else.

    Reference: Konecny et al. 2016, "Structured update".
    Deviation: the paper leaves the distribution of A open; with variance 1 / d1 a step
    along B is about a projection of the gradient, as it is with a mask.
    """
    if form not in ("mask", "low_rank"):
        raise InputError(f"form must be mask or low_rank, not {form!r}")
    check_fraction(fraction)
    if rank < 1:
        raise InputError(f"rank must be at least 1, not {rank}")
    local = setup.local
    if local.model is not None and local.model.constrain is not None:
        raise InputError(
            "structured_updates trains other parameters than the model's, which cannot "
            "be clipped as its quantized training asks; take qat=integer or lsq"
        )

    def parts(params: Tree) -> list[_Part]:
        leaves = jax.tree.leaves(params)
        if form == "mask":
            return [_masked(math.prod(x.shape), fraction) for x in leaves]
        return [_thin(x.shape, rank) for x in leaves]

    def free(params: Params) -> Tree:
        zeros = [jnp.zeros(part.shape, jnp.float32) for part in parts(params)]
        return jax.tree.unflatten(jax.tree.structure(params), zeros)

    def bases(params: Params, shared: Key) -> list[Array | None]:
        keys = [jax.random.fold_in(shared, i) for i in range(len(parts(params)))]
        return [p.basis(key) for p, key in zip(parts(params), keys, strict=True)]

    def expand(params: Params, basis: list[Array | None], z: Tree) -> Tree:
        """U(z), float32."""
        updates = [
            part.expand(b, x).reshape(leaf.shape)
            for part, b, x, leaf in zip(
                parts(params), basis, jax.tree.leaves(z), jax.tree.leaves(params),
                strict=True,
            )
        ]  # fmt: skip
        return jax.tree.unflatten(jax.tree.structure(params), updates)

    def basis_of(params: Params, context: Context) -> list[Array | None]:
        return bases(params, folded(context, _FORM))

    def problem(received: Params, context: Context) -> Problem:
        basis = basis_of(received, context)

        def lift(z: Tree) -> Params:
            moved = expand(received, basis, z)
            return jax.tree.map(lambda w, u: w + u.astype(w.dtype), received, moved)

        return Problem(free(received), lift)

    return averaging(
        setup,
        Sent(
            problem,
            like=free,
            take=lambda z, params, context: expand(
                params, basis_of(params, context), z
            ),
            stateless="structured_updates draws other free parameters each round, so "
            "its uplink cannot keep a state between rounds",
        ),
    )


def _masked(n: int, fraction: float) -> _Part:
    """Some elements of a leaf of n elements."""

    def expand(places: Array | None, z: Array) -> Array:
        return jnp.zeros(n, z.dtype).at[places].set(z, unique_indices=True)

    return _Part((kept(fraction, n),), lambda key: positions(key, n, fraction), expand)


def _thin(shape: tuple[int, ...], rank: int) -> _Part:
    """A leaf as the product of a fixed and a trained factor, where that is smaller."""
    rows = math.prod(shape[:-1])
    if len(shape) < 2 or rank >= rows:
        return _Part(shape, lambda key: None, lambda basis, z: z)

    def factor(key: Key) -> Array:
        return jax.random.normal(key, (rows, rank)) / math.sqrt(rows)

    def expand(basis: Array | None, z: Array) -> Array:
        assert basis is not None
        return jnp.matmul(basis, z, precision=_EXACT)

    return _Part((rank, shape[-1]), factor, expand)
