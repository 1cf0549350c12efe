"""What transformers are made of: positions, attention, blocks, and how they are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from fedjax_compress.errors import InputError
from fedjax_compress.models.cutting import checked
from fedjax_compress.models.inputs import check_positive
from fedjax_compress.typing import Array, Cuts, Model, Tie

EPSILON = 1e-5
"""Added to the variance in a normalisation."""
_PERIOD = 10_000.0


class Shape(NamedTuple):
    """The sizes of a transformer.

    Invariants: ``heads`` and ``units`` have a number for each block; as long as nothing
    is cut, heads * head = width.

    Attributes:
      symbols: rows of the embedding.
      width: numbers at each position, between blocks.
      head: numbers of one head.
      heads: how many of them each block has.
      units: width of each block's hidden dense layer.
      dropout: share of numbers that are dropped while training.
    """

    symbols: int
    width: int
    head: int
    heads: tuple[int, ...]
    units: tuple[int, ...]
    dropout: float


def shape_of(
    symbols: int, width: int, layers: int, heads: int, feed_forward: int, dropout: float
) -> Shape:
    """The sizes of a whole transformer.

    Raises:
      InputError: a size below 1 (layers may be 0), heads that do not divide the width,
        or dropout outside [0, 1).
    """
    check_positive("width", width)
    check_positive("heads", heads)
    check_positive("feed_forward", feed_forward)
    if layers < 0:
        raise InputError(f"layers must not be negative, not {layers}")
    if layers and width % heads:
        raise InputError(f"width must be a multiple of heads {heads}, not {width}")
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must be in [0, 1), not {dropout}")
    each = (heads,) * layers, (feed_forward * width,) * layers
    return Shape(symbols, width, width // heads, *each, dropout)


def positions(time: int, width: int) -> np.ndarray:
    """Sines and cosines that tell a position, float32 [time, width].

    sin(t / 10000^(2 i / width)) in column 2 i, the cosine of the same in 2 i + 1.
    """
    columns = np.arange(width)
    rates = _PERIOD ** -((columns - columns % 2) / width)
    angles = np.arange(time)[:, None] * rates[None]
    waves = np.where(columns[None] % 2 == 0, np.sin(angles), np.cos(angles))
    return waves.astype(np.float32)


def causal(time: int) -> Array:
    """Each position sees itself and those before: bool [1, time, time]."""
    return jnp.tril(jnp.ones((time, time), bool))[None]


class Attention(linen.Module):
    """Multi-head attention of positions to each other.

    With q = x Q, k = x K, v = x V, each head a neighbouring block of ``head`` columns:
    softmax over all seen s of (q_t . k_s / sqrt(head)) times v_s; heads side by side,
    times O. A position that sees nothing gets the mean of all v: finite, for nobody to
    read.

    Reads [batch, time, width], returns the same shape. Parameters: ``query``, ``key``,
    ``value`` (``kernel`` [width, heads * head]) and ``out`` (``kernel`` [heads * head,
    width]), normal of variance 1 / inputs, truncated; no bias, as in the paper.

    Attributes:
      heads: number of heads.
      head: numbers of one of them.
    """

    heads: int
    head: int

    @linen.compact
    def __call__(self, x: Array, seen: Array) -> Array:
        """``seen``: bool [batch or 1, time, time], what each position (axis 1) sees."""

        def parted(name: str) -> Array:
            made = self._product(self.heads * self.head, name)(x)
            return made.reshape(*x.shape[:2], self.heads, self.head)

        query = parted("query") * self.head**-0.5
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, parted("key"))
        lowest = jnp.finfo(scores.dtype).min
        shares = jax.nn.softmax(jnp.where(seen[:, None], scores, lowest), axis=-1)
        made = jnp.einsum("bhqk,bkhd->bqhd", shares, parted("value"))
        return self._product(x.shape[-1], "out")(made.reshape(*x.shape[:2], -1))

    def _product(self, features: int, name: str) -> linen.Dense:
        return linen.Dense(features, use_bias=False, name=name)


class Block(linen.Module):
    """y = x + drop(attention(norm(x)));  y + drop(gelu(norm(y) W + b) W' + b').

    Normalisations before what they feed, over the width of one position, with a scale
    and a bias; gelu by its tanh approximation.

    Parameters: ``norm_1``, ``attention`` (see ``Attention``), ``norm_2``, ``dense_1``
    (W, b) and ``dense_2`` (W', b').

    Attributes:
      heads: number of heads.
      head: numbers of one of them.
      units: width of the hidden dense layer.
      dropout: share of numbers dropped while training.
    """

    heads: int
    head: int
    units: int
    dropout: float

    @linen.compact
    def __call__(self, x: Array, seen: Array, train: bool) -> Array:
        """``seen``: as for ``Attention``."""
        drop = linen.Dropout(self.dropout, deterministic=not train)
        attention = Attention(self.heads, self.head, name="attention")
        x = x + drop(attention(norm("norm_1")(x), seen))
        y = linen.Dense(self.units, name="dense_1")(norm("norm_2")(x))
        return x + drop(linen.Dense(x.shape[-1], name="dense_2")(linen.gelu(y)))


def norm(name: str) -> linen.LayerNorm:
    """A normalisation over the numbers of one position."""
    return linen.LayerNorm(epsilon=EPSILON, name=name)


def embedded(x: Array, shape: Shape) -> Array:
    """The embedding of tokens [batch, time]; called inside a module."""
    return linen.Embed(shape.symbols, shape.width, name="embedding")(x)


def transformed(x: Array, seen: Array, shape: Shape, train: bool) -> Array:
    """Tokens [batch, time] through all blocks: [batch, time, width].

    sqrt(width) times the embedding plus positions, dropout, blocks, a normalisation.
    Called inside a module, which gets the parameters ``embedding``, ``block_1``,
    ``block_2``, ... and ``norm``.
    """
    places = jnp.asarray(positions(x.shape[1], shape.width))
    x = embedded(x, shape) * shape.width**0.5 + places[None]
    x = linen.Dropout(shape.dropout, deterministic=not train)(x)
    for i, (heads, units) in enumerate(zip(shape.heads, shape.units, strict=True)):
        block = Block(heads, shape.head, units, shape.dropout, name=f"block_{i + 1}")
        x = block(x, seen, train)
    return norm("norm")(x)


def cuts_of(shape: Shape, make: Callable[[Shape], Model]) -> Cuts:
    """Cuts of heads and hidden units, or of the embedding where there are no blocks.

    Groups: ``block_1_heads``, ``block_1_feed_forward``, ``block_2_heads``, ...; without
    blocks ``embedding``. The width between blocks is never cut: normalisations mix it.

    Args:
      shape: sizes of the whole.
      make: sizes -> the network.
    """
    if not shape.heads:
        return _cuts_of_embedding(shape, make)
    groups: dict[str, int] = {}
    ties: dict[str, tuple[Tie | None, ...]] = {"embedding/embedding": (None, None)}
    names = [f"block_{i + 1}" for i in range(len(shape.heads))]
    norms = ["norm"]
    for name, heads, units in zip(names, shape.heads, shape.units, strict=True):
        groups |= {f"{name}_heads": heads, f"{name}_feed_forward": units}
        inside = Tie(f"{name}_heads", inner=shape.head)
        hidden = Tie(f"{name}_feed_forward")
        for part in ("query", "key", "value"):
            ties[f"{name}/attention/{part}/kernel"] = (None, inside)
        ties[f"{name}/attention/out/kernel"] = (inside, None)
        ties[f"{name}/dense_1/kernel"] = (None, hidden)
        ties[f"{name}/dense_1/bias"] = (hidden,)
        ties[f"{name}/dense_2/kernel"] = (hidden, None)
        ties[f"{name}/dense_2/bias"] = (None,)
        norms += [f"{name}/norm_1", f"{name}/norm_2"]
    ties |= {f"{name}/{part}": (None,) for name in norms for part in ("scale", "bias")}
    ties |= {"output/kernel": (None, None), "output/bias": (None,)}

    def narrow(counts: dict[str, int]) -> Model:
        heads = tuple(counts[f"{name}_heads"] for name in names)
        units = tuple(counts[f"{name}_feed_forward"] for name in names)
        return make(shape._replace(heads=heads, units=units))

    return Cuts(groups, ties, checked(groups, narrow))


def _cuts_of_embedding(shape: Shape, make: Callable[[Shape], Model]) -> Cuts:
    groups, units = {"embedding": shape.width}, Tie("embedding")
    ties: dict[str, tuple[Tie | None, ...]] = {
        "embedding/embedding": (None, units),
        "output/kernel": (units, None),
        "output/bias": (None,),
    }

    def narrow(counts: dict[str, int]) -> Model:
        return make(shape._replace(width=counts["embedding"]))

    return Cuts(groups, ties, checked(groups, narrow))
