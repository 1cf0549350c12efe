"""Stages one after another."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Claims, Keys, Stage

_PROBE = 1000
"""Elements for which stages are asked whether they are exact."""


def chain(*stages: Stage) -> Stage:
    """The stages in order, each compressing what the one before leaves to it.

    Encoding hands the carrier on and collects the side information of all; decoding
    runs backwards. Stage i gets the keys folded by i. One stage alone is itself.

    What travels: the side information of every stage, and the last carrier.

    Claims: unbiased, lossless, linear and elementwise if all are;
    omega = prod(1 + omega_i) - 1 for unbiased stages, each at the size of the array it
    gets (the decoders of unbiased stages must be linear given their side information,
    as all of ours are); alpha of the last stage where those before it are linear with
    omega = 0, otherwise none: what stands before may have made the array larger.

    Raises:
      InputError: no stage, or a stage that leaves nothing stands before another.
    """
    if not stages:
        raise InputError("a chain needs at least one stage")
    if len(stages) == 1:
        return stages[0]
    _sizes(stages, 8)

    def init(shape):
        states = []
        for stage in stages:
            states.append(stage.init(shape))
            if stage is not stages[-1]:
                shape = _carrier(stage, shape)
        return tuple(states) if jax.tree.leaves(states) else ()

    def encode(array, state, keys):
        states = state or ((),) * len(stages)
        carrier, sides, after = array, [], []
        for i, stage in enumerate(stages):
            carrier, side, new = stage.encode(carrier, states[i], keys.fold(i))
            sides.append(side)
            after.append(new)
        return carrier, tuple(sides), tuple(after) if jax.tree.leaves(after) else ()

    def decode(carrier, side, shared):
        for i in reversed(range(len(stages))):
            key = jax.random.fold_in(shared, i)
            carrier = stages[i].decode(carrier, side[i], key)
        return carrier

    return Stage(init, encode, decode, _claims(stages))


def _carrier(stage: Stage, shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct | None:
    """Shape and dtype of the carrier that a stage leaves, without computing it."""

    def run(array: Array) -> Array | None:
        keys = Keys(jax.random.key(0), jax.random.key(0))
        return stage.encode(array, stage.init(shape), keys)[0]

    return jax.eval_shape(run, shape)


def _sizes(stages: Sequence[Stage], n: int) -> list[int]:
    """Elements that each stage gets when the first gets ``n``."""
    shape: jax.ShapeDtypeStruct | None = jax.ShapeDtypeStruct((n,), jnp.float32)
    sizes = []
    for i, stage in enumerate(stages):
        if shape is None:
            raise InputError(
                f"stage {i} of the chain leaves no array, so none can follow it"
            )
        sizes.append(shape.size)
        if stage is not stages[-1]:
            shape = _carrier(stage, shape)
    return sizes


def _claims(stages: Sequence[Stage]) -> Claims:
    claims = [s.claims for s in stages]
    omegas = [c.omega for c in claims if c.omega is not None]
    last = claims[-1].alpha

    def omega(n: int) -> float:
        product = 1.0
        for bound, size in zip(omegas, _sizes(stages, n), strict=True):
            product *= 1 + bound(size)
        return product - 1

    def alpha(n: int) -> float:
        assert last is not None
        return last(_sizes(stages, n)[-1])

    isometries = all(
        c.linear and c.omega is not None and c.omega(_PROBE) == 0 for c in claims[:-1]
    )
    unbiased = all(c.unbiased for c in claims)
    return Claims(
        unbiased=unbiased,
        omega=omega if unbiased and len(omegas) == len(claims) else None,
        alpha=alpha if last is not None and isometries else None,
        lossless=all(c.lossless for c in claims),
        linear=all(c.linear for c in claims),
        elementwise=all(c.elementwise for c in claims),
    )
