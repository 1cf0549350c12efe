"""Sizes by layer: sums are exact, and every field is with its leaf."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from fedjax_compress import compress, wire

TREE = {
    "conv": {"bias": jnp.arange(5.0), "kernel": jnp.sin(jnp.arange(60.0)) + 1},
    "head": jnp.cos(jnp.arange(8.0)).reshape(2, 4),
}
PATHS = [("conv/bias",), ("conv/kernel",), ("head",)]


def report(text):
    return compress.size_report(compress.parse(text), TREE)


def test_layers_by_hand():
    found = report("uniform(bits=4)")
    assert [row.paths for row in found.layers] == PATHS
    assert [row.shapes for row in found.layers] == [((5,),), ((60,),), ((2, 4),)]
    assert [row.bits for row in found.layers] == [
        {"scales": 64, "values": 4 * n} for n in (5, 60, 8)
    ]
    # 484 bits are 61 bytes, begun bytes counted.
    assert found.total_bytes == 61 + wire.HEADER_BYTES
    assert found.nominal_bytes == -(-4 * 73 // 8)
    assert found.fp32_bytes == 4 * 73
    assert found.ideal_bytes <= 61


@pytest.mark.parametrize(
    "text",
    [
        "top_k(0.2) | qsgd(bits=3, code=best)",
        "top_k(0.5) | top_k(0.5)",  # two lists of indices for each leaf
        "error_feedback(top_k(0.1))",
    ],
)
def test_sums_are_the_total(text):
    found = report(text)
    assert [row.paths for row in found.layers] == PATHS
    bits = sum(sum(row.bits.values()) for row in found.layers)
    assert found.total_bytes == -(-bits // 8) + wire.HEADER_BYTES
    assert all({"indices", "values"} <= set(row.bits) for row in found.layers)


def test_what_travels_together_is_one_row():
    found = report("on_vector(hadamard | uniform(bits=4))")
    assert [row.paths for row in found.layers] == [tuple(p for (p,) in PATHS)]
    assert found.layers[0].bits == {"scales": 64, "values": 4 * 73}
    found = report("by_label(on_vector(uniform(bits=2)), head=identity)")
    assert [row.paths for row in found.layers] == [
        ("conv/bias", "conv/kernel"),
        *PATHS[2:],
    ]
    assert found.layers[1].bits == {"values": 256}


def test_squeezed_sizes_are_those_of_the_message():
    found = compress.size_report(compress.parse("identity"), TREE)
    payload = tuple(
        wire.raw(x)
        for x in (TREE["conv"]["bias"], TREE["conv"]["kernel"], TREE["head"])
    )
    sizes = wire.whole_sizes(payload)
    assert (found.total_bytes, found.deflate_bytes, found.zstd_bytes) == (
        sizes["packed"],
        sizes["deflate"],
        sizes["zstd"],
    )
    assert found.ideal_bytes == found.nominal_bytes == found.fp32_bytes == 292


def test_a_model_without_elements_has_only_a_header():
    nothing = {"a": jnp.zeros((0, 3))}
    found = compress.size_report(compress.parse("top_k(0.5)"), nothing)
    assert found.layers == ()
    assert found.total_bytes == wire.HEADER_BYTES
