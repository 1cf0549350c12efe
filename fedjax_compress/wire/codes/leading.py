"""Leading: the symbols up to the last that is not 0; all after it are 0, unsent."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fedjax_compress.errors import WireError
from fedjax_compress.typing import Array
from fedjax_compress.wire.code import BitReader, Code, register_code
from fedjax_compress.wire.codes.fixed import from_bits, to_bits, width
from fedjax_compress.wire.field import Field, count, numbers
from fedjax_compress.wire.sparse import (
    check_size,
    join,
    read_count,
    spread,
    times,
    write_count,
)


@register_code("leading")
def leading() -> Code:
    """The number k of symbols up to the last that is not 0, then those symbols.

    k in ceil(log2(n + 1)) bits, each of the k symbols in ceil(log2 alphabet) bits; the
    n - k behind them are 0. For arrays that end in zeros, such as the elements kept
    under a mask that both ends know. Of words (floats) the bit pattern decides, so
    -0.0 is not 0. No symbols cost nothing.
    """

    def lengths(field: Field) -> int | Array:
        n = check_size(count(field))
        if n == 0:
            return 0
        end = jnp.arange(1, n + 1, dtype=jnp.int32)
        k = jnp.max(jnp.where(numbers(field) != 0, end, 0))
        head = jnp.full(1, width(n + 1), jnp.int32)
        return join(head, times(k, width(field.alphabet)))

    def encode(symbols: np.ndarray, alphabet: int) -> np.ndarray:
        n = check_size(symbols.size)
        some = np.flatnonzero(symbols)
        k = int(some[-1]) + 1 if some.size else 0
        return np.concatenate(
            [write_count(k, n), to_bits(symbols[:k], width(alphabet))]
        )

    def decode(reader: BitReader, n: int, alphabet: int) -> np.ndarray:
        k = read_count(reader, check_size(n))
        bits = width(alphabet)
        sent = from_bits(reader.take(k * bits), bits) if bits else np.zeros(k, np.uint8)
        if k and sent[-1] == 0:
            raise WireError(f"the last of {k} leading symbols is 0")
        if k and int(sent.max()) >= alphabet:
            raise WireError(f"symbol {sent.max()} in a field of {alphabet} symbols")
        return spread(np.arange(k), sent, n, alphabet)

    return Code(lengths, encode, decode)
