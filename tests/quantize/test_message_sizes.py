"""Messages of quantized ResNet-12 against the sizes that Grativol et al. 2023 print."""

from __future__ import annotations

import jax
import pytest

from fedjax_compress import compress, registry, wire
from fedjax_compress.typing import Keys, Task

TASK = Task((32, 32, 3), 10)
MIB = 2**20
QUANTIZED, NORMS, BIAS, LAYERS = 777_888, 2_368, 10, 17


def payload(qat):
    model = registry.build("model", "resnet12", TASK)
    model = registry.build("qat", qat, model, TASK)
    quantized = model.quantized
    link = quantized.compressor if quantized else compress.parse("identity")
    keys = Keys(jax.random.key(0), jax.random.key(1))

    def send(key):
        params = model.init(key)
        return link.encode(params, link.init(params), keys)[0]

    return jax.eval_shape(send, jax.random.key(0))


@pytest.mark.parametrize(
    ("qat", "printed"),
    [
        ("none", "2.98"),
        ("integer(bits=8, labels=(kernel, 'output/bias'))", "0.75"),
        ("integer(bits=4, labels=(kernel, 'output/bias'))", "0.38"),
        ("binary(labels=(kernel, 'output/bias'))", "0.10"),
    ],
)
def test_nominal_sizes_are_the_printed_ones(qat, printed):
    """The study counts the biases of the dense layer as quantized, b bits a weight (a
    narrow range has 2^b - 1 values) and no scales; it prints 2.97 for 2.9765."""
    sent = payload(qat)
    scales = [f for f in wire.fields(sent) if f.kind == "scales"]
    size = (int(wire.bits(sent)) - 32 * len(scales)) / 8 / MIB
    assert f"{size:.2f}" == printed


@pytest.mark.parametrize(("qat", "bits", "scales"), [("integer(bits=4)", 4, LAYERS),
                                                     ("integer(bits=8)", 8, LAYERS),
                                                     ("binary", 1, 0)])  # fmt: skip
def test_packed_sizes(qat, bits, scales):
    """All bits of a message: codes, one float32 scale a layer, float32 for the rest."""
    wanted = bits * QUANTIZED + 32 * (scales + NORMS + BIAS)
    assert int(wire.bits(payload(qat))) == wanted
