"""Different compressors for different leaves."""

from __future__ import annotations

import zlib
from typing import Any

import jax

from fedjax_compress import tree
from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest, register
from fedjax_compress.typing import Array, Claims, Compressor, Tree


@register("compressor")
def by_label(default: Compressor, **labels: Compressor) -> Compressor:
    """A compressor for each label, one for all other leaves.

    The parts of a leaf's path (``dense_1/kernel``) are compared with the labels from
    the last to the first; the first match decides, so ``kernel`` beats ``dense_1``.
    All leaves of a label form one tree for its compressor.

    What travels: what the compressors send. Each gets the keys folded by the CRC-32 of
    its label, so that adding a label leaves the noise of the others as it is.

    Args:
      default: for leaves whose path has no label in it.
      labels: path part = compressor, as in ``bias=identity``.

    Raises:
      InputError: a label that no leaf has, with the nearest path part.

    Claims: what all compressors promise; the weakest bound of them.
    """
    parts = {"": default, **labels}

    def init(like):
        groups = _groups(like, labels)
        states = {name: parts[name].init(groups[name]) for name in groups}
        return states if jax.tree.leaves(states) else ()

    def encode(values, state, keys):
        payload, after = {}, {}
        for name, group in _groups(values, labels).items():
            before = state[name] if state else ()
            payload[name], after[name] = parts[name].encode(
                group, before, keys.fold(_number(name))
            )
        return payload, after if jax.tree.leaves(after) else ()

    def decode(payload, like, shared):
        leaves: dict[str, Array] = {}
        for name, group in _groups(like, labels).items():
            key = jax.random.fold_in(shared, _number(name))
            leaves |= parts[name].decode(payload[name], group, key)
        order = [leaves[path] for path in tree.paths(like)]
        return jax.tree.unflatten(jax.tree.structure(like), order)

    return Compressor(init, encode, decode, _claims([p.claims for p in parts.values()]))


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def _groups(like: Tree, labels: dict[str, Any]) -> dict[str, dict[str, Array]]:
    """The leaves by label, as {label: {path: leaf}}; "" for leaves without one."""
    groups: dict[str, dict[str, Array]] = {}
    for path, leaf in zip(tree.paths(like), jax.tree.leaves(like), strict=True):
        found = (part for part in reversed(path.split("/")) if part in labels)
        groups.setdefault(next(found, ""), {})[path] = leaf
    for label in labels:
        if label not in groups:
            known = {part for path in tree.paths(like) for part in path.split("/")}
            hint = nearest(label, sorted(known))
            raise InputError(f"no leaf is labelled {label!r}; {hint}")
    return groups


def _claims(claims: list[Claims]) -> Claims:
    omegas = [c.omega for c in claims if c.omega is not None]
    alphas = [c.alpha for c in claims if c.alpha is not None]
    every = len(claims)
    return Claims(
        unbiased=all(c.unbiased for c in claims),
        omega=(lambda n: max(f(n) for f in omegas)) if len(omegas) == every else None,
        alpha=(lambda n: min(f(n) for f in alphas)) if len(alphas) == every else None,
        lossless=all(c.lossless for c in claims),
        linear=all(c.linear for c in claims),
        elementwise=all(c.elementwise for c in claims),
    )
