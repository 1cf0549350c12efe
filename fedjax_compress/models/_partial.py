"""Models of which a part is trained, and the rest stays as it was."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.models.labels import labelled
from fedjax_compress.typing import Array, Columns, Key, Model, Outputs, Params, Task

Sent = Literal["never", "once"]
_PRECISION = jax.lax.Precision.HIGHEST


@registry.register("model", context=1)
def partial(
    task: Task,
    model: str,
    train: tuple[str, ...],
    base: str = "",
    seed: int = 0,
    sent: Sent = "never",
) -> Model:
    """A model of which only some layers are trained and travel: partial(cnn, output).

    Args:
      task: of the data.
      model: the SPEC of the whole model, in quotes where it has options.
      train: labels of what is trained: paths, or parts of them, such as output.
      base: an .npz file that holds the frozen parameters by their paths, as in
        ``conv_1/kernel``; without one they are drawn.
      seed: of that draw.
      sent: how frozen parameters reach a client: never (both ends have them), or once,
        with its first round, which is counted.

    Raises:
      InputError: a label that no parameter has, nothing or everything frozen, a file
        that lacks a parameter or has one of another shape.
    """
    whole = registry.build("model", model, task)
    return partly(whole, train, _read(base) if base else None, seed=seed, sent=sent)


@registry.register("model", context=1)
def lora(
    task: Task,
    model: str,
    rank: int = 4,
    alpha: float = 8.0,
    labels: tuple[str, ...] = (),
    train: tuple[str, ...] = (),
    base: str = "",
    seed: int = 0,
    sent: Sent = "never",
) -> Model:
    """Low-rank additions to frozen weights: W + (alpha / rank) A B; A and B train.

    W is seen as d1 x d2, d2 its last axis; A [d1, rank] begins as normal numbers of
    variance 1 / d1, B [rank, d2] as zeros. What travels is A and B, and what ``train``
    names.

    Args:
      task, model, base, seed, sent: as in ``partial``.
      rank: of the additions, at least 1.
      alpha: their strength, above 0.
      labels: of the weights that get one; none: all arrays of two or more axes.
      train: labels of what is trained as it is, such as bias.

    Raises:
      InputError: as ``partial``; or a number out of its range.

    Reference: Hu et al. 2022, section 4.1.
    Deviation: A of variance 1 / d1; the paper says Gaussian, its code Kaiming uniform.
    """
    if rank < 1 or not alpha > 0:
        raise InputError(f"rank must be at least 1, alpha above 0; not {rank}, {alpha}")
    whole = registry.build("model", model, task)
    held = _read(base) if base else None
    return with_additions(whole, rank, alpha, labels, train, held, seed, sent)


def partly(
    model: Model,
    train: tuple[str, ...],
    base: Params | None = None,
    *,
    seed: int = 0,
    sent: Sent = "never",
) -> Model:
    """A model whose parameters are only those labelled, see ``partial``.

    Args:
      model: the whole model.
      train: labels of what is trained.
      base: parameters by path, or nested as the model's, with at least the frozen ones;
        None draws them.
      seed: of that draw.
      sent: never or once.
    """
    paths = _paths(model)
    chosen = labelled(paths, train)
    if not chosen or len(chosen) == len(paths):
        raise InputError(
            f"{len(chosen)} of {len(paths)} parameters are trained; name some of them, "
            f"such as {sorted(paths)[-1].split('/')[0]}"
        )
    frozen = _frozen(model, [p for p in paths if p not in chosen], base, seed)

    def lift(params: Params) -> Params:
        return _nested({**frozen(), **_flat(params)})

    def init(key: Key) -> Params:
        return _nested({p: x for p, x in _flat(model.init(key)).items() if p in chosen})

    return _changed(model, init, lift, frozen, sent)


def with_additions(
    model: Model,
    rank: int,
    alpha: float,
    labels: tuple[str, ...] = (),
    train: tuple[str, ...] = (),
    base: Params | None = None,
    seed: int = 0,
    sent: Sent = "never",
) -> Model:
    """A model that trains low-rank additions to its weights, see ``lora``."""
    paths = _paths(model)
    own = labelled(paths, train) if train else []
    wanted = labelled(paths, labels) if labels else list(paths)
    added = [p for p in wanted if len(paths[p]) >= 2 and p not in own]
    if not added:
        raise InputError("no weight of two or more axes is left for an addition")
    frozen = _frozen(model, [p for p in paths if p not in own], base, seed)

    def init(key: Key) -> Params:
        drawn = _flat(model.init(key))
        found = {p: drawn[p] for p in own}
        for i, path in enumerate(added):
            rows, width = math.prod(paths[path][:-1]), paths[path][-1]
            noise = jax.random.normal(jax.random.fold_in(key, i), (rows, rank))
            found[f"{path}/a"] = noise / math.sqrt(rows)
            found[f"{path}/b"] = jnp.zeros((rank, width))
        return _nested(found)

    def lift(params: Params) -> Params:
        given, whole = _flat(params), dict(frozen())
        for path in added:
            a, b = given.pop(f"{path}/a"), given.pop(f"{path}/b")
            move = (alpha / rank) * jnp.matmul(a, b, precision=_PRECISION)
            whole[path] = whole[path] + move.reshape(paths[path])
        return _nested({**whole, **given})

    return _changed(model, init, lift, frozen, sent)


def _changed(
    model: Model,
    init: Callable[[Key], Params],
    lift: Callable[[Params], Params],
    frozen: Callable[[], dict[str, Any]],
    sent: Sent,
) -> Model:
    """The model on the parameters that ``lift`` takes.

    Raises:
      InputError: one whose weights are constrained or quantized.
    """
    if model.constrain is not None or model.quantized is not None:
        raise InputError(
            "a part of a model can be frozen before it is quantized, not after"
        )

    def apply(params: Params, columns: Columns, key: Key | None) -> Outputs:
        return model.apply(lift(params), columns, key)

    return model._replace(
        init=jax.jit(init),
        apply=apply,
        cuts=None,
        halves=None,
        frozen=frozen if sent == "once" else None,
    )


def _frozen(
    model: Model, paths: list[str], base: Params | None, seed: int
) -> Callable[[], dict[str, Any]]:
    """What is frozen, by path, made when it is first asked for."""
    if base is not None:
        held, shapes = _flat(base), _paths(model)
        for path in paths:
            found = getattr(held.get(path), "shape", None)
            if found != shapes[path]:
                shown = "missing" if found is None else f"of shape {found}"
                raise InputError(
                    f"the frozen parameter {path} is {shown}, not of shape "
                    f"{shapes[path]}"
                )
        kept = {p: np.asarray(held[p], np.float32) for p in paths}
        return lambda: kept

    @functools.cache
    def draw() -> dict[str, Any]:
        with jax.ensure_compile_time_eval():
            drawn = _flat(jax.device_get(model.init(jax.random.key(seed))))
        return {p: drawn[p] for p in paths}

    return draw


def _paths(model: Model) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's parameters by path."""
    shapes = _flat(jax.eval_shape(model.init, jax.random.key(0)))
    return {path: leaf.shape for path, leaf in shapes.items()}


def _flat(params: Params) -> dict[str, Any]:
    if isinstance(params, dict) and all(hasattr(x, "shape") for x in params.values()):
        return dict(params)
    return dict(zip(tree.paths(params), jax.tree.leaves(params), strict=True))


def _nested(flat: dict[str, Any]) -> Params:
    made: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        inner = made
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = leaf
    return made


def _read(path: str) -> dict[str, Array]:
    """Arrays by name from an .npz file.

    Raises:
      InputError: there is none, or it holds something else.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "no arrays of numpy in an .npz"
        raise InputError(f"base {path} cannot be read: {reason}") from None
