"""What one client computes on its own data."""

from fedjax_compress.local.optimizers import fedprox, optax, sgd
from fedjax_compress.local.qat import binary, dorefa, integer, lsq
from fedjax_compress.local.quantized_model import quantized
from fedjax_compress.local.steps import Schedule, schedule
from fedjax_compress.local.train import train
from fedjax_compress.local.weight_quantizers import WeightQuantizer

__all__ = [
    "Schedule",
    "WeightQuantizer",
    "binary",
    "dorefa",
    "fedprox",
    "integer",
    "lsq",
    "optax",
    "quantized",
    "schedule",
    "sgd",
    "train",
]
