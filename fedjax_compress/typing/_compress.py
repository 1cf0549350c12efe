"""How a tree is compressed, and what is promised of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from fedjax_compress.typing._rounds import Array, Key, Keys, Payload, Side, State, Tree


class Claims(NamedTuple):
    """What a stage or compressor promises; each promise is tested for what registers.

    Attributes:
      unbiased: E[C(x)] = x over the keys.
      omega: n -> bound on E||C(x) - x||^2 / ||x||^2 for a vector of n elements,
        or None. Only meaningful where ``unbiased``.
      alpha: n -> contraction, E||C(x) - x||^2 <= (1 - alpha(n)) ||x||^2, or None.
      lossless: C(x) = x, bit for bit.
      linear: decode(sum of payloads) = sum of decodes, under one shared key.
      elementwise: element i of C(x) depends on symbol i and on scales only, so that
        symbols may be left out where nobody reads them.
    """

    unbiased: bool = False
    omega: Callable[[int], float] | None = None
    alpha: Callable[[int], float] | None = None
    lossless: bool = False
    linear: bool = False
    elementwise: bool = False


class Stage(NamedTuple):
    """Works on ONE float array; chainable.

    ``encode`` turns an array into a carrier for the next stage (an array, or None
    when everything has been put into the side information) and side information
    that is sent. ``decode`` restores an array of the shape that ``encode`` was given.

    Attributes:
      init: ShapeDtypeStruct -> state, ``()`` when stateless.
      encode: (array, state, keys) -> (carrier or None, side, state).
      decode: (carrier or None, side, shared key) -> array. Has no other channel:
        static facts (shape, number of levels) are static metadata of the side.
      claims: what the stage promises.
    """

    init: Callable[[jax.ShapeDtypeStruct], State]
    encode: Callable[[Array, State, Keys], tuple[Array | None, Side, State]]
    decode: Callable[[Array | None, Side, Key], Array]
    claims: Claims = Claims()


class Compressor(NamedTuple):
    """Works on ONE client's pytree; what algorithms see.

    Attributes:
      init: tree -> state, ``()`` when stateless. Only shapes and dtypes are read.
      encode: (tree, state, keys) -> (payload, state).
      decode: (payload, a tree of the right shapes, shared key) -> tree.
      claims: what the compressor promises.
    """

    init: Callable[[Tree], State]
    encode: Callable[[Tree, State, Keys], tuple[Payload, State]]
    decode: Callable[[Payload, Tree, Key], Tree]
    claims: Claims = Claims()
