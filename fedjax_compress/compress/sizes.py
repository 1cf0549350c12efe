"""The bytes of a message by layer and by kind, without training."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
from jax.extend import core

from fedjax_compress import tree, wire
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.typing import Compressor, Keys, Payload, Tree

Sources = frozenset[int]


class LayerSize(NamedTuple):
    """What travels for one leaf, or for several that travel together.

    Attributes:
      paths: of the leaves, their parts joined by ``/``.
      shapes: of the leaves.
      bits: exact bits by kind (values, indices, scales, mask), as Python ints.
    """

    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    bits: dict[str, int]


class SizeReport(NamedTuple):
    """What one message costs.

    Attributes:
      layers: in the order of the leaves; what depends on no leaf comes last, without
        paths.
      total_bytes: of the packed message, header and last, partly filled byte included.
      nominal_bytes: as papers count them; not what is sent.
      ideal_bytes: of an ideal coder, from the entropy; not what is sent.
      deflate_bytes: the message squeezed as a whole; not what is counted.
      zstd_bytes: likewise.
      fp32_bytes: four for each element.
    """

    layers: tuple[LayerSize, ...]
    total_bytes: int
    nominal_bytes: int
    ideal_bytes: float
    deflate_bytes: int
    zstd_bytes: int
    fp32_bytes: int


def size_report(compressor: Compressor, values: Tree, seed: int = 0) -> SizeReport:
    """Encodes a tree once, from a new state, and measures the message on the host.

    A field belongs to the leaves that its symbols depend on, which is read off the
    traced program. So the leaves of ``on_vector`` make one row, and so do leaves whose
    symbols follow from a threshold that they share.

    Args:
      compressor: any.
      values: arrays; the lengths of several codes depend on them.
      seed: of the keys.

    Raises:
      InputError: what the compressor refuses.
    """
    key = root_key(seed)
    keys = Keys(jax.random.fold_in(key, 0), jax.random.fold_in(key, 1))
    state = compressor.init(values)

    def encode(values: Tree) -> Payload:
        return compressor.encode(values, state, keys)[0]

    traced = jax.jit(encode).trace(values)
    count = len(jax.tree.leaves(values))
    origins = _origins(traced.jaxpr.jaxpr, [frozenset([i]) for i in range(count)])
    payload = jax.device_get(traced.lower().compile()(values))
    whole = wire.whole_sizes(payload)
    sizes = wire.field_sizes(payload)
    return SizeReport(
        _layers(values, sizes, origins),
        whole["packed"],
        math.ceil(sum(size.nominal for size in sizes) / 8 - 1e-6),
        sum(size.ideal for size in sizes) / 8,
        whole["deflate"],
        whole["zstd"],
        4 * tree.count(values),
    )


def _layers(
    values: Tree, sizes: list[wire.FieldSize], origins: list[Sources]
) -> tuple[LayerSize, ...]:
    paths = tree.paths(values)
    shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(values)]
    found: dict[Sources, dict[str, int]] = {}
    for size, sources in zip(sizes, origins, strict=True):
        bits = found.setdefault(sources, {})
        bits[size.kind] = bits.get(size.kind, 0) + size.bits
    last = frozenset([len(paths)])
    return tuple(
        LayerSize(
            tuple(paths[i] for i in sorted(sources)),
            tuple(shapes[i] for i in sorted(sources)),
            found[sources],
        )
        for sources in sorted(found, key=lambda s: sorted(s or last))
    )


def _origins(jaxpr: Any, given: list[Sources]) -> list[Sources]:
    """The inputs that each output depends on, at most.

    Args:
      jaxpr: a program.
      given: for each of its inputs, what that depends on.
    """
    nothing: Sources = frozenset()
    known = dict(zip(jaxpr.invars, given, strict=True))

    def of(variable: Any) -> Sources:
        literal = isinstance(variable, core.Literal)
        return nothing if literal else known.get(variable, nothing)

    for step in jaxpr.eqns:
        sources = [of(v) for v in step.invars]
        inner = getattr(step.params.get("jaxpr"), "jaxpr", None)
        if step.primitive.name in ("jit", "pjit") and inner is not None:
            results = _origins(inner, sources)
        else:
            results = [nothing.union(*sources)] * len(step.outvars)
        known |= dict(zip(step.outvars, results, strict=True))
    return [of(v) for v in jaxpr.outvars]
