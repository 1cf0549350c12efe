"""The encoder that models of speech share: subsampling and conformer blocks."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen

from fedjax_compress.errors import InputError
from fedjax_compress.models.inputs import (
    check_positive,
    lengths_of,
    numbers,
    within,
)
from fedjax_compress.models.speech.conformer import Block, Norm, Sizes, distances
from fedjax_compress.models.speech.subsampling import (
    Halving,
    Stack,
    Subsampling,
)
from fedjax_compress.typing import Array, Columns, Task, Tie

Ties = dict[str, tuple[Tie | None, ...]]


class Shape(NamedTuple):
    """Of an encoder.

    Attributes:
      width: of what flows through the blocks.
      blocks: sizes of each.
      subsampling: ``stack`` or ``convolution``.
      stack: frames put side by side, of ``stack``.
      norm: of the convolution modules.
      dropout: in training.
    """

    width: int
    blocks: tuple[Sizes, ...]
    subsampling: Subsampling
    stack: int
    norm: Norm
    dropout: float


class Encoder(linen.Module):
    """Subsampling, a dense layer, blocks.

    Parameters ``subsampling`` (see ``Stack``, ``Halving``), ``block_1``, ``block_2``...
    """

    shape: Shape

    @linen.compact
    def __call__(self, x: Array, lengths: Array, train: bool) -> tuple[Array, Array]:
        """[batch, frames, bins], int32 [batch] -> [batch, fewer, width], int32 [batch].

        What stands in frames beyond ``lengths`` changes nothing in those before.
        """
        shape = self.shape
        x = jnp.where(within(lengths, x.shape[1])[..., None], x, 0.0)
        if shape.subsampling == "stack":
            first: linen.Module = Stack(shape.width, shape.stack, name="subsampling")
        else:
            first = Halving(shape.width, name="subsampling")
        x, lengths = first(x, lengths)
        x = linen.Dropout(shape.dropout, deterministic=not train)(x)
        real = within(lengths, x.shape[1])
        positions = jnp.asarray(distances(x.shape[1], shape.width))
        for i, sizes in enumerate(shape.blocks):
            block = Block(sizes, shape.norm, shape.dropout, name=f"block_{i + 1}")
            x = block(x, real, positions, train)
        return x, lengths


def encoder_shape(
    width: int,
    blocks: int,
    heads: int,
    kernel: int,
    groups: int,
    feed_forward: int,
    subsampling: Subsampling,
    stack: int,
    norm: Norm,
    dropout: float,
) -> Shape:
    """The shape of a whole encoder.

    Raises:
      InputError: a size below 1, heads or groups that do not divide the width, dropout
        out of its range.
    """
    check_positive("width", width)
    check_positive("blocks", blocks)
    check_positive("kernel", kernel)
    check_positive("stack", stack)
    check_positive("feed_forward", feed_forward)
    parts = {"heads": heads} | ({"groups": groups} if norm == "group" else {})
    for name, number in parts.items():
        check_positive(name, number)
        if width % number:
            raise InputError(f"{name} must divide width {width}, not {number}")
    if norm == "layer":
        groups = 1
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must be from 0 to below 1, not {dropout}")
    hidden = feed_forward * width
    one = Sizes(
        width, hidden, hidden, heads, width // heads, groups, width // groups, kernel
    )
    return Shape(width, (one,) * blocks, subsampling, stack, norm, dropout)


def read_sounds(columns: Columns, task: Task) -> tuple[Array, Array]:
    """Features float32 [batch, frames, bins] and lengths int32 [batch]; all frames
    where there are no ``lengths``."""
    x = numbers(columns["features"], task)
    x = x.reshape(*x.shape[:2], -1)
    return x, lengths_of(columns, x.shape[1])


def check_sounds(task: Task) -> None:
    """Refuses a task that is not one of frames of which a sequence is predicted.

    Raises:
      InputError: another target, tokens, features without an axis of frames, or no
        column of the labels' lengths.
    """
    if task.predicts != "sequence":
        raise InputError(
            "reads frames and predicts a sequence of symbols; the labels of these data "
            f"are of kind {task.predicts}: see target=sequence, or audio"
        )
    if task.tokens or len(task.shape) < 2:
        raise InputError(f"needs features (frames, bins), not shape {task.shape}")
    if "label_lengths" not in [name for name, *_ in task.more]:
        raise InputError("needs a column label_lengths, symbols in each row of labels")
    if task.classes < 2:
        raise InputError("needs at least one symbol beside the blank")


def check_room(task: Task, shape: Shape, most_per_frame: int) -> None:
    """Refuses an encoder whose frames are too few for the longest labels.

    Raises:
      InputError: says how many frames there are.
    """
    stride = shape.stack if shape.subsampling == "stack" else 4
    frames = -(-task.shape[0] // stride)
    if frames * most_per_frame < task.longest:
        raise InputError(
            f"{frames} frames after the subsampling, of at most {most_per_frame} "
            f"symbols each, cannot say {task.longest} symbols; subsample less"
        )


def encoder_groups(shape: Shape) -> dict[str, int]:
    """Units that can be cut, by group."""
    found: dict[str, int] = {}
    for i, sizes in enumerate(shape.blocks):
        found |= {
            f"block_{i + 1}_first": sizes.first,
            f"block_{i + 1}_heads": sizes.heads,
            f"block_{i + 1}_second": sizes.second,
        }
        if shape.norm == "group":
            found[f"block_{i + 1}_groups"] = sizes.groups
    return found


def narrowed(shape: Shape, counts: dict[str, int]) -> Shape:
    """The encoder with so many units in each group."""
    blocks = [
        sizes._replace(
            first=counts[f"block_{i + 1}_first"],
            second=counts[f"block_{i + 1}_second"],
            heads=counts[f"block_{i + 1}_heads"],
            groups=counts.get(f"block_{i + 1}_groups", sizes.groups),
        )
        for i, sizes in enumerate(shape.blocks)
    ]
    return shape._replace(blocks=tuple(blocks))


def encoder_ties(shape: Shape, before: str = "encoder/") -> Ties:
    """What the axes of the encoder's parameters follow, by path."""
    ties: Ties = {}

    def layer(path: str, reads: Tie | None, makes: Tie | None) -> None:
        ties[f"{path}/kernel"] = (reads, makes)
        ties[f"{path}/bias"] = (makes,)

    def norm(path: str, of: Tie | None = None) -> None:
        ties[f"{path}/scale"] = ties[f"{path}/bias"] = (of,)

    layer(f"{before}subsampling/dense", None, None)
    if shape.subsampling == "convolution":
        for i in (1, 2):
            ties[f"{before}subsampling/conv_{i}_kernel"] = (None,) * 4
            ties[f"{before}subsampling/conv_{i}_bias"] = (None,)
    for i, sizes in enumerate(shape.blocks):
        group, path = f"block_{i + 1}_", f"{before}block_{i + 1}"
        norm(f"{path}/norm")
        for name, which in (("first", "1"), ("second", "2")):
            hidden = Tie(group + name)
            norm(f"{path}/feed_forward_{which}/norm")
            layer(f"{path}/feed_forward_{which}/in", None, hidden)
            layer(f"{path}/feed_forward_{which}/out", hidden, None)
        heads = Tie(group + "heads", inner=sizes.head)
        norm(f"{path}/attention/norm")
        for name in ("query", "key", "value"):
            layer(f"{path}/attention/{name}", None, heads)
        layer(f"{path}/attention/out", heads, None)
        ties[f"{path}/attention/position/kernel"] = (None, heads)
        for name in ("content_bias", "position_bias"):
            ties[f"{path}/attention/{name}"] = (heads,)
        grouped = shape.norm == "group"
        one = Tie(group + "groups", inner=sizes.channels) if grouped else None
        two = one._replace(outer=2) if one else None
        norm(f"{path}/convolution/norm")
        layer(f"{path}/convolution/pointwise_1", None, two)
        ties[f"{path}/convolution/depthwise"] = (None, one)
        ties[f"{path}/convolution/depthwise_bias"] = (one,)
        norm(f"{path}/convolution/depthwise_norm", one)
        layer(f"{path}/convolution/pointwise_2", one, None)
    return ties
