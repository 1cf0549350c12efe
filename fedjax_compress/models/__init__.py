"""Models of pure functions over nested dicts of parameters."""

from __future__ import annotations

from fedjax_compress.models.dense import logistic, mlp
from fedjax_compress.models.linen_model import from_linen

__all__ = ["from_linen", "logistic", "mlp"]
