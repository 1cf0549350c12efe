"""Submodels: which units a client keeps, cutting to them and putting back."""

from __future__ import annotations

from fedjax_compress.submodel.adaptive_selector import adaptive
from fedjax_compress.submodel.extraction import (
    Kept,
    Sizes,
    counts,
    extract,
    held,
    inverse_scale,
    scatter,
)
from fedjax_compress.submodel.fixed_selectors import (
    prefix,
    random,
    random_per_round,
    rolling,
)
from fedjax_compress.submodel.selector import Selector, without_memory

__all__ = [
    "Kept",
    "Selector",
    "Sizes",
    "adaptive",
    "counts",
    "extract",
    "held",
    "inverse_scale",
    "prefix",
    "random",
    "random_per_round",
    "rolling",
    "scatter",
    "without_memory",
]
