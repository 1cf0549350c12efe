"""Quantization-aware training by name: a model in, one that computes quantized out."""

from __future__ import annotations

import math
from typing import Literal

from fedjax_compress import registry, wire
from fedjax_compress.errors import InputError
from fedjax_compress.models.taps import layers_in_order
from fedjax_compress.quantize.layer_quantizers import quantized_layers
from fedjax_compress.quantize.quantized_model import quantized
from fedjax_compress.quantize.weight_quantizers import (
    PLAIN,
    binary_values,
    check_bits,
    dorefa_values,
    learned_step,
    narrow_integers,
)
from fedjax_compress.typing import Model, Task


@registry.register("qat", context=2)
def none(model: Model, task: Task) -> Model:
    """No quantization: clients train in float32."""
    return model


@registry.register("qat", context=2)
def integer(
    model: Model,
    task: Task,
    bits: int = 8,
    scale: Literal["tensor", "channel"] = "tensor",
    scale_gradient: bool = True,
    labels: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    code: wire.SymbolCode = "fixed",
) -> Model:
    """Symmetric integer weights scaled by the largest magnitude, as Brevitas has them.

    Q = 2^(b-1) - 1, s = max(max|w|, 1e-10) / Q, w^ = s round(w / s), halves to even.
    Rounding is straight-through; the gradient also goes through s to the largest
    weight: dL/dw_j = g_j + [j largest] sign(w_j) / Q sum_i g_i (w^_i - w_i) / s. Where
    magnitudes tie, they share it.

    Travels, where an algorithm sends quantized weights: 2^b - 1 symbols in b bits, s as
    float32, and what is not quantized as it is.

    Args:
      model: what clients train.
      task: what it was made for.
      bits: b, 2 to 16; 32 is the model itself.
      scale: one s for each array, or for each output channel (the last axis).
      scale_gradient: false takes s for a constant.
      labels: paths, or parts of them, of the weights to quantize; none: all arrays of
        two or more axes, first and last layer included.
      skip: likewise, of weights that stay in float32.
      code: of the integers.

    Raises:
      InputError: bits out of range (1 bit has no such integers, use binary), a label
        that no parameter has, or nothing left to quantize.

    Reference: Brevitas, Int8WeightPerTensorFloat with another bit width; used by
      Grativol et al. 2023.
    """
    check_bits("bits", bits, 2)
    if bits == PLAIN:
        return model
    quantizer = narrow_integers(bits, scale, scale_gradient)
    return quantized(model, quantizer, labels, skip, code)


@registry.register("qat", context=2)
def binary(
    model: Model,
    task: Task,
    stochastic: bool = False,
    bound: float = 1.0,
    zero: Literal["plus", "zero"] = "plus",
    binary_start: bool = False,
    labels: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    code: wire.SymbolCode = "fixed",
) -> Model:
    """BinaryConnect: weights of one bit, -H or H, without a scale.

    Deterministic: w^ = H sign(w), sign(0) = 1. Stochastic: w^ = H with probability
    clip((w / H + 1) / 2, 0, 1), else -H, drawn anew at each step; evaluation then takes
    w itself, within -H .. H. The gradient of w is that of w^, nowhere zero; after each
    local step the latent w are clipped to -H .. H. The server does not clip.

    Travels, where an algorithm sends quantized weights: one bit a weight, and what is
    not quantized as it is.

    Args:
      model: what clients train.
      task: what it was made for.
      stochastic: drawn, or the sign.
      bound: H, above 0.
      zero: an exact zero becomes H, or stays zero, which is a third symbol (the sign of
        most frameworks; pruned weights stay pruned).
      binary_start: whether the latent weights start as H times their signs.
      labels, skip, code: as in ``integer``.

    Raises:
      InputError: a bound that is not above 0, a label that no parameter has, or nothing
        left to quantize.

    Reference: Courbariaux et al. 2015, algorithm 1; ``zero=zero, binary_start=true`` as
      in the code of Grativol et al. 2023.
    Deviation: no learning rate of its own for each layer.
    """
    if not 0 < bound < math.inf:
        raise InputError(f"bound must be above 0 and finite, not {bound}")
    if stochastic and zero == "zero":
        raise InputError("zero=zero needs stochastic=false: a drawn sign is never 0")
    quantizer = binary_values(stochastic, bound, zero, binary_start)
    return quantized(model, quantizer, labels, skip, code)


@registry.register("qat", context=2)
def lsq(
    model: Model,
    task: Task,
    bits: int = 4,
    labels: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    code: wire.SymbolCode = "fixed",
) -> Model:
    """LSQ: integer weights whose step is a parameter, trained like the others.

    w^ = s round(clip(w / s, -Q_n, Q_p)), Q_n = 2^(b-1), Q_p = 2^(b-1) - 1; the gradient
    of w is 1 inside the range, else 0; that of s is round(w / s) - w / s inside, -Q_n
    below, Q_p above, times 1 / sqrt(n Q_p). At the start s = 2 mean|w| / sqrt(Q_p).
    The steps are parameters under ``steps``: they are averaged like weights. After each
    local step they are held above 1e-6; |s| is what counts.

    Travels, where an algorithm sends quantized weights: 2^b symbols in b bits, and all
    else as it is, the steps among them.

    Args:
      model: what clients train; its parameters are a dict.
      task: what it was made for.
      bits: b, 2 to 16; 32 is the model itself.
      labels, skip, code: as in ``integer``; the paper has 8 bits in first and last
        layer, here they are as the others, or skipped.

    Raises:
      InputError: bits out of range, a label that no parameter has, or nothing left to
        quantize.

    Reference: Esser et al. 2020 (Learned Step Size Quantization), equations 1 to 3.
    Deviation: weights only.
    """
    check_bits("bits", bits, 2)
    if bits == PLAIN:
        return model
    return quantized(model, learned_step(bits), labels, skip, code)


@registry.register("qat", context=2)
def dorefa(
    model: Model,
    task: Task,
    weights: int = 1,
    activations: int = 32,
    gradients: int = 32,
    ends: bool = False,
    code: wire.SymbolCode = "fixed",
) -> Model:
    """DoReFa-Net: weights, activations and gradients of W, A and G bits.

    Weights: sign(w) mean|w| for W = 1, else an even grid of tanh(w) from -1 to 1.
    Activations: what a layer reads is clipped to 0 .. 1 and rounded to A bits.
    Gradients: what flows back into a layer's output is rounded at random to G bits,
    without bias, with one scale for each example. First and last layer keep float32
    weights and gradients, first is every layer that reads the examples; what the last
    layer reads is clipped and not rounded. All rounding is straight-through.

    Travels, where an algorithm sends quantized weights: W bits a weight, for W = 1 and
    a float32 for each layer, and what is not quantized as it is. The other end reads
    codes as latent weights of which the same quantized ones are made. G is no matter of
    messages: the gradient of the weights is a float32.

    Args:
      model: what clients train, made of flax.linen modules.
      task: what it was made for.
      weights: W, 1 to 16, or 32.
      activations: A, 1 to 16, or 32, which clips nothing.
      gradients: G, 1 to 16, or 32.
      ends: whether first and last layer are quantized, too.
      code: of the weights' symbols.

    Raises:
      InputError: bits out of range, a network without layers of flax.linen, or nothing
        left to quantize.

    Reference: Zhou et al. 2016, equations 5 to 12.
    Deviation: dense layers and convolutions of flax.linen are looked at, and nothing
      else: neither recurrent cells nor products of one's own.
    """
    for name, bits in (
        ("weights", weights), ("activations", activations), ("gradients", gradients),
    ):  # fmt: skip
        check_bits(name, bits, 1)
    layers = layers_in_order(model, task)
    if not layers:
        raise InputError(
            "dorefa needs dense layers or convolutions of flax.linen, which this model "
            "does not show; use integer, binary or lsq"
        )
    last = None if ends else layers[-1][0]
    inner = [path for path, first in layers if ends or not (first or path == last)]
    if not inner:
        raise InputError(
            f"dorefa leaves first and last layer as they are, and the model has only "
            f"{len(layers)}; give ends=true"
        )
    made = model
    if weights != PLAIN:
        paths = tuple(f"{path}/kernel".lstrip("/") for path in inner)
        made = quantized(model, dorefa_values(weights), paths, (), code)
    if (activations, gradients) == (PLAIN, PLAIN):
        return made
    return quantized_layers(made, inner, last, activations, gradients)
