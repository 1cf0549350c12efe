"""FedPAQ: QSGD of the whole update with its 2-norm."""

from __future__ import annotations

from fedjax_compress import wire
from fedjax_compress.compress._qsgd import qsgd
from fedjax_compress.registry import register
from fedjax_compress.typing import Stage

_WHOLE = 2**31 - 1


@register("stage")
def fedpaq(bits: int = 4, code: wire.SymbolCode = "fixed") -> Stage:
    """FedPAQ's quantizer: QSGD with the 2-norm of the whole array.

    ``qsgd(bits, bucket=n, norm=l2, code)``, see there. Local steps, the draw of clients
    and the mean of quantized differences, which are the rest of FedPAQ, are what fedavg
    does anyway. ``on_vector(fedpaq)`` takes one norm for the whole model, as the paper
    writes it; alone, fedpaq takes one for each array, which has less variance.

    What travels: n symbols of 2 s + 1 with s = 2**(bits - 1) - 1, and one float32 norm.

    Args:
      bits: a symbol's width, 2 to 16, the sign included.
      code: of the symbols; most are zero, which elias and stream make short.

    Raises:
      InputError: bits out of range.

    Claims: elementwise, unbiased, omega(n) = min(n / s**2, sqrt(n) / s).

    Reference: Reisizadeh et al. 2020, algorithm 1.
    """
    return qsgd(bits, _WHOLE, "l2", code)
