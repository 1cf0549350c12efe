"""What models cost: by hand, and where two counts must agree."""

from __future__ import annotations

import importlib

import pytest

from fedjax_compress import registry, submodel
from fedjax_compress.models import cost
from fedjax_compress.typing import Task


def of(text, task):
    model = registry.build("model", text, task)
    return model, cost(model, task)


def test_a_dense_network_by_hand():
    _, found = of("mlp(hidden=(6,))", Task((5,), 3))
    assert found.parameters == 5 * 6 + 6 + 6 * 3 + 3
    assert found.macs == 5 * 6 + 6 * 3
    # Gradients of both kernels and of the hidden layer, beside the forward pass.
    least = 2 * found.macs + 2 * found.macs + 2 * 6 * 3
    assert least <= found.flops <= 2 * least


def test_equal_programs_are_compiled_once_and_others_are_not_mistaken(monkeypatch):
    """Two models of one name: what counts is what they compute."""
    module = importlib.import_module("fedjax_compress.models._cost")
    counted = {}
    monkeypatch.setattr(module, "_counted", counted)
    task = Task((5,), 3)
    plain, first = of("mlp(hidden=(6,))", task)
    assert list(counted.values()) == [first.flops]
    counted.update(dict.fromkeys(counted, first.flops + 1))  # not compiled again
    assert of("mlp(hidden=(6,))", task)[1].flops == first.flops + 1
    quantized = registry.build("qat", "lsq", plain, task)
    found = cost(quantized, task)
    assert len(counted) == 2
    assert (first.parameters, found.parameters) == (57, 59)  # a step for each layer
    assert found.flops > 2 * first.flops  # 1,378 and 274 in one version


def test_a_sequence_counts_every_step():
    """Seven symbols: a step costs 2 x 12 + 3 x 12, and 3 x 7 at the output."""
    _, found = of("char_lstm(embedding=2, hidden=3, layers=1)", Task((5,), 7, True))
    assert found.macs == 5 * (2 * 12 + 3 * 12 + 3 * 7)


def test_the_fedavg_cnn_and_three_quarters_of_it():
    """28^2 25 32 + 14^2 25 32 64 + 3136 512 + 5120; and 24, 48, 384 of the units.

    Operations as XLA counts them fall by the same factor, which Caldas et al. 2018
    give as 1.7.
    """
    task = Task((28, 28), 10)
    model, whole = of("cnn", task)
    assert whole.macs == 627_200 + 10_035_200 + 1_605_632 + 5_120
    assert whole.parameters == 1_663_370
    counts = submodel.counts(model.cuts, 0.75)
    assert counts == {"conv_1": 24, "conv_2": 48, "dense": 384}
    part = cost(model.cuts.narrow(counts), task)
    assert part.macs == 470_400 + 5_644_800 + 903_168 + 3_840
    assert whole.macs / part.macs == pytest.approx(1.748, abs=1e-3)
    assert whole.flops / part.flops == pytest.approx(whole.macs / part.macs, rel=0.03)
