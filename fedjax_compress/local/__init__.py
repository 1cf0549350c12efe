"""What one client computes on its own data."""

from fedjax_compress.local.optimizers import fedprox, optax, sgd
from fedjax_compress.local.steps import Schedule, schedule
from fedjax_compress.local.train import train

__all__ = [
    "Schedule",
    "fedprox",
    "optax",
    "schedule",
    "sgd",
    "train",
]
