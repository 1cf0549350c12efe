"""Saying along which axes a network can be cut."""

from __future__ import annotations

from collections.abc import Callable

import jax

from fedjax_compress import tree
from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest
from fedjax_compress.typing import Cuts, Model, Params, Tie

Ends = tuple[Tie | None, Tie | None]
"""What a layer reads from, and the units that it makes; None for what is never cut."""


def layers(
    groups: dict[str, int],
    ends: dict[str, Ends],
    narrow: Callable[[dict[str, int]], Model],
    spatial: int = 0,
    more: dict[str, tuple[Tie | None, ...]] | None = None,
) -> Cuts:
    """Cuts of layers that each have a ``kernel`` [..., inputs, outputs] and a ``bias``.

    Args:
      groups: units of each group.
      ends: for each layer, by its name, what its inputs and outputs follow.
      narrow: units of each group -> the network of that size.
      spatial: of the layers named ``conv...``, axes of the kernel before the inputs.
      more: ties of further parameters, by path.
    """
    ties: dict[str, tuple[Tie | None, ...]] = {}
    for name, (reads, makes) in ends.items():
        before = (None,) * (spatial if name.startswith("conv") else 0)
        ties[f"{name}/kernel"] = (*before, reads, makes)
        ties[f"{name}/bias"] = (makes,)
    return Cuts(groups, ties | (more or {}), checked(groups, narrow))


def chain(
    widths: tuple[int, ...],
    dense: tuple[int, ...],
    places: int,
    make: Callable[[tuple[int, ...], tuple[int, ...]], Model],
) -> Cuts:
    """Cuts of layers in a row: ``conv_1``, ..., ``dense_1``, ..., ``output``.

    Args:
      widths: channels of the convolutions.
      dense: widths of the dense layers.
      places: of the last maps, each of which a dense layer reads.
      make: (widths, dense) -> the network of that size.
    """
    sizes = {f"conv_{i + 1}": w for i, w in enumerate(widths)}
    sizes |= {f"dense_{i + 1}": w for i, w in enumerate(dense)}
    ends: dict[str, Ends] = {}
    reads: Tie | None = None
    for name in sizes:
        if name == "dense_1" and reads is not None:
            reads = reads._replace(outer=places)
        ends[name] = (reads, Tie(name))
        reads = Tie(name)
    ends["output"] = (reads, None)

    def narrow(counts: dict[str, int]) -> Model:
        kept = [counts[name] for name in sizes]
        return make(tuple(kept[: len(widths)]), tuple(kept[len(widths) :]))

    return layers(sizes, ends, narrow, spatial=2)


def checked(
    groups: dict[str, int], narrow: Callable[[dict[str, int]], Model]
) -> Callable[[dict[str, int]], Model]:
    """``narrow`` for numbers of units that there can be."""

    def narrowed(counts: dict[str, int]) -> Model:
        for name in counts:
            if name not in groups:
                hint = nearest(name, list(groups))
                raise InputError(f"the model has no group of units {name!r}; {hint}")
        for name, units in groups.items():
            count = counts.get(name)
            if count is None or not 1 <= count <= units:
                raise InputError(
                    f"group {name} can keep 1 to {units} units, not {count}"
                )
        return narrow(counts)

    return narrowed


def check_cuts(cuts: Cuts, params: Params) -> None:
    """Checks that ties and parameters belong together.

    Args:
      cuts: along which axes the model can be cut.
      params: of the model; only shapes are read.

    Raises:
      InputError: a path without parameter or ties, a group that is not there, or an
        axis of another length than its tie says.
    """
    shapes = dict(zip(tree.paths(params), jax.tree.leaves(params), strict=True))
    for path in [*cuts.ties, *cuts.outputs]:
        if path not in shapes:
            hint = nearest(path, list(shapes))
            raise InputError(f"cuts name {path!r}, which is no parameter; {hint}")
    for path, leaf in shapes.items():
        ties = cuts.ties.get(path)
        if ties is None or len(ties) != len(leaf.shape):
            raise InputError(
                f"cuts must say for each of the {len(leaf.shape)} axes of parameter "
                f"{path} what it follows, or None; they say {ties}"
            )
        for axis, tie in enumerate(ties):
            if tie is None:
                continue
            if tie.group not in cuts.groups:
                hint = nearest(tie.group, list(cuts.groups))
                raise InputError(f"cuts of {path}: no group {tie.group!r}; {hint}")
            length = tie.outer * cuts.groups[tie.group] * tie.inner
            if length != leaf.shape[axis]:
                raise InputError(
                    f"axis {axis} of parameter {path} has {leaf.shape[axis]} elements, "
                    f"but its tie to {tie.group} makes {length}"
                )
