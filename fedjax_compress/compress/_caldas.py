"""The lossy coder of Caldas et al. 2018, for both directions."""

from __future__ import annotations

from typing import Literal

from fedjax_compress.compress._chain import chain
from fedjax_compress.compress._hadamard import hadamard
from fedjax_compress.compress._kashin import kashin
from fedjax_compress.compress._subsample import subsample
from fedjax_compress.compress._uniform import uniform
from fedjax_compress.compress.stages import check_fraction
from fedjax_compress.registry import register
from fedjax_compress.typing import Stage


@register("stage")
def caldas(
    transform: Literal["kashin", "hadamard", "identity"] = "kashin",
    fraction: float = 1.0,
    bits: int = 8,
) -> Stage:
    """Basis transform, subsampling, stochastic quantization: Caldas's lossy coder.

    ``kashin | subsample(fraction) | uniform(bits)``, with the transform that is named
    and all its other options as they are by default; for either direction.

    What travels: what the chain sends: the quantized coefficients that are kept, and
    two scales. With kashin there are more coefficients than elements.

    Args:
      transform: kashin; hadamard, a randomized rotation; or identity.
      fraction: share of coefficients kept; 1 keeps all. The paper finds that it does
        not pay for what the server sends.
      bits: 2**bits levels.

    Raises:
      InputError: fraction or bits out of range.

    Claims: those of the chain: unbiased, with its omega.

    Reference: Caldas et al. 2018, section 2.
    Deviation: every leaf is coded; to send biases as they are, write
    ``by_label(caldas(bits=4), bias=identity)``.
    """
    check_fraction(fraction)
    stages = {"kashin": [kashin()], "hadamard": [hadamard()], "identity": []}[transform]
    if fraction < 1:
        stages.append(subsample(fraction))
    return chain(*stages, uniform(bits))
