"""Quantization-aware training: a change of a model."""

from fedjax_compress.quantize.qat import binary, dorefa, integer, lsq
from fedjax_compress.quantize.quantized_model import quantized
from fedjax_compress.quantize.weight_quantizers import WeightQuantizer

__all__ = ["WeightQuantizer", "binary", "dorefa", "integer", "lsq", "quantized"]
