"""Runs with quantized training, and what can be read from their folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fedjax_compress import tree
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, resume, run, trained
from fedjax_compress.report import files

CONFIG = Config(
    clients=8,
    cohort=4,
    rounds=2,
    model="mlp(hidden=(8,))",
    qat="integer(bits=4)",
    local="sgd(lr=0.1, steps=2, batch=5)",
    server="fedavg",
    algorithm="fedavg(send=quantized, receive=quantized)",
    uplink="identity",
    downlink="identity",
    evaluate_every=2,
    checkpoint_every=1,
)
MESSAGE = 16 + (4 * (64 * 8 + 8 * 10) + 32 * (2 + 8 + 10)) // 8
"""Header, 4 bits a weight, two scales, the biases."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "quantized"
    run(CONFIG, folder, quiet=True)
    return folder


def test_a_run_sends_codes_both_ways(ran: Path) -> None:
    summary = files.read_json(ran / files.SUMMARY)
    for way in ("bytes_up", "bytes_down"):
        assert summary[way] == 2 * 4 * MESSAGE


def test_a_run_goes_on_bit_for_bit(ran: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    run(dataclasses.replace(CONFIG, rounds=1), folder, quiet=True)
    summary = resume(folder, {"rounds": 2}, quiet=True)
    whole = files.read_json(ran / files.SUMMARY)
    for name in ("parameters_sha256", "test_accuracy", "test_loss", "bytes_up"):
        assert summary[name] == whole[name]


def test_what_a_run_has_learned(ran: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in ran.rglob("*")}
    model, params = trained(ran)
    summary = files.read_json(ran / files.SUMMARY)
    assert tree.sha256(params) == summary["parameters_sha256"]
    outputs = model.apply(params, {"features": np.zeros((2, 64), np.float32)}, None)
    assert outputs.shape == (2, 10)
    assert {p: p.stat().st_mtime_ns for p in ran.rglob("*")} == before
    with pytest.raises(InputError, match="holds no run"):
        trained(tmp_path)
