"""A model that computes with quantized weights, and how such weights travel."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress import tree, wire
from fedjax_compress.errors import InputError
from fedjax_compress.quantize.weight_quantizers import Codes, WeightQuantizer
from fedjax_compress.registry import nearest
from fedjax_compress.typing import (
    Array,
    Claims,
    Columns,
    Compressor,
    Key,
    Keys,
    Model,
    Outputs,
    Params,
    Payload,
    Quantized,
    State,
)

STEPS = "steps"
"""Where the parameters hold what is learned besides the weights."""
_NOISE = 0x51415401


def quantized(
    model: Model,
    quantizer: WeightQuantizer,
    labels: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    code: str = "fixed",
) -> Model:
    """The model whose chosen weights are quantized wherever it computes with them.

    Training moves the latent weights, which are the parameters; outputs, losses and
    evaluation are those of the quantized ones. ``quantized`` of the result sends these:
    integer codes and scales of the chosen weights, all else as it is.

    Args:
      model: the model.
      quantizer: of each chosen array.
      labels: paths, or parts of them, of the weights to quantize; none: all arrays of
        two or more axes.
      skip: likewise, of weights that stay as they are.
      code: of the integers, a name in ``wire.code``.

    Raises:
      InputError: a label that no parameter has, nothing left to quantize, or a code
        that does not take so many levels.
    """
    wire.check_code(code, quantizer.levels)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    chosen = _choose(shapes, labels, skip)
    if quantizer.extend and (not isinstance(shapes, dict) or STEPS in shapes):
        raise InputError(f"learned steps need a dict of parameters without {STEPS!r}")

    def own(params: Params) -> tuple[Params, dict[str, Array]]:
        """The model's own parameters, and what is learned besides, by path."""
        if not quantizer.extend:
            return params, {}
        rest = {name: value for name, value in params.items() if name != STEPS}
        names = {_dotted(path): path for path in chosen}
        return rest, {names[name]: step for name, step in params[STEPS].items()}

    def init(key: Key) -> Params:
        params = model.init(key)
        if (begin := quantizer.begin) is not None:
            params = _change(params, chosen, lambda path, w: begin(w))
        if (extend := quantizer.extend) is None:
            return params
        found = _leaves(params)
        return {
            **params,
            STEPS: {_dotted(path): extend(found[path]) for path in chosen},
        }

    def view(params: Params, key: Key | None) -> Params:
        weights, learned = own(params)

        def seen(path: str, w: Array) -> Array:
            own_key = None if key is None else _fold(key, path)
            return quantizer.view(w, learned.get(path), own_key)

        return _change(weights, chosen, seen)

    def apply(params: Params, columns: Columns, key: Key | None) -> Outputs:
        return model.apply(view(params, key), columns, key)

    def constrain(params: Params) -> Params:
        if model.constrain is not None:
            params = model.constrain(params)
        if (bounded := quantizer.constrain) is not None:
            params = _change(params, chosen, lambda path, w: bounded(w))
        if (held := quantizer.constrain_learned) is not None:
            params = {**params, STEPS: jax.tree.map(held, params[STEPS])}
        return params

    cuts = model.cuts
    if cuts is not None:
        inner = cuts

        def narrow(counts: dict[str, int]) -> Model:
            return quantized(inner.narrow(counts), quantizer, labels, skip, code)

        extra = {f"{STEPS}/{_dotted(path)}": (None,) for path in chosen}
        ties = {**inner.ties, **(extra if quantizer.extend else {})}
        cuts = inner._replace(narrow=narrow, ties=ties)

    before = model.quantized
    return model._replace(
        init=jax.jit(init),
        apply=apply,
        cuts=cuts,
        halves=None,
        constrain=constrain
        if quantizer.constrain or quantizer.constrain_learned
        else model.constrain,
        quantized=Quantized(
            _compressor(chosen, quantizer, code, own),
            quantizer.keeps_zeros and (not before or before.keeps_zeros),
            quantizer.keeps_scale and (not before or before.keeps_scale),
        ),
    )


def _compressor(
    chosen: list[str],
    quantizer: WeightQuantizer,
    code: str,
    own: Callable[[Params], tuple[Params, dict[str, Array]]],
) -> Compressor:
    """Sends codes and scales of the chosen weights, the other leaves as they are."""

    def init(like: Params) -> State:
        return ()

    def encode(params: Params, state: State, keys: Keys) -> tuple[Payload, State]:
        _, learned = own(params)
        sent: dict[str, Payload] = {}
        for path, leaf in _leaves(params).items():
            if path not in chosen:
                sent[path] = {"values": wire.raw(leaf)}
                continue
            key = _fold(keys.private, path)
            found = quantizer.codes(leaf, learned.get(path), key)
            # What is not finite must not arrive as something that is.
            sound = jnp.sum(leaf - leaf) == 0
            symbols = jnp.clip(found.symbols, 0, quantizer.levels - 1)
            symbols = symbols.astype(wire.smallest(quantizer.levels))
            sent[path] = {"codes": wire.Field(symbols, quantizer.levels, code)}
            if found.scale is not None:
                scale = jnp.where(sound, found.scale, jnp.nan)
                sent[path]["scales"] = wire.raw(scale, "scales")
        return sent, state

    def decode(payload: Payload, like: Params, shared: Key) -> Params:
        raws = {
            p: part["values"].symbols for p, part in payload.items() if "values" in part
        }
        found = jax.tree.unflatten(
            jax.tree.structure(like),
            [raws.get(path, leaf) for path, leaf in _leaves(like).items()],
        )
        _, learned = own(found)

        def value(path: str, like: Array) -> Array:
            part = payload[path]
            scale = part["scales"].symbols if "scales" in part else None
            symbols = part["codes"].symbols.astype(jnp.int32)
            return quantizer.values(Codes(symbols, scale), learned.get(path))

        return _change(found, chosen, value)

    return Compressor(init, encode, decode, Claims(elementwise=True))


def _choose(
    shapes: Params, labels: tuple[str, ...], skip: tuple[str, ...]
) -> list[str]:
    """Paths of the weights to quantize.

    Raises:
      InputError: a label that no parameter has, or nothing is left.
    """
    leaves = _leaves(shapes)
    known = {part for path in leaves for part in (path, *path.split("/"))}
    for label in (*labels, *skip):
        if label not in known:
            hint = nearest(label, sorted(known))
            raise InputError(f"no parameter is labelled {label!r}; {hint}")

    def wanted(path: str, leaf: Any) -> bool:
        parts = (path, *path.split("/"))
        named = any(part in labels for part in parts) if labels else leaf.ndim >= 2
        return named and not any(part in skip for part in parts)

    chosen = [path for path, leaf in leaves.items() if wanted(path, leaf)]
    if not chosen:
        raise InputError("no weights are left to quantize; shorten skip")
    return chosen


def _leaves(params: Params) -> dict[str, Any]:
    return dict(zip(tree.paths(params), jax.tree.leaves(params), strict=True))


def _change(
    params: Params, chosen: list[str], change: Callable[[str, Array], Array]
) -> Params:
    """The parameters with the chosen leaves changed."""
    leaves = [
        change(path, leaf) if path in chosen else leaf
        for path, leaf in _leaves(params).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _fold(key: Key, path: str) -> Key:
    return jax.random.fold_in(
        jax.random.fold_in(key, _NOISE), zlib.crc32(path.encode())
    )


def _dotted(path: str) -> str:
    return path.replace("/", ".")
