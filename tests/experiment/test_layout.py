"""The layout of a run: given, ruled, searched for when it pays, and remembered."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.clients import group
from fedjax_compress.experiment import layout
from fedjax_compress.experiment.config import Config
from fedjax_compress.simulate.tuning import Choice, Tuned

PARAMS = {"w": np.zeros((100, 100), np.float32)}
UNIFORM = registry.build("sampling", "uniform")


@pytest.fixture
def searches(monkeypatch, tmp_path):
    """Every search made, with a made-up result; the cache lies in a fresh folder."""
    made: list[Choice] = []

    def tune(algorithm, data, params, ids, cohort, start):
        assert len(ids) == cohort
        made.append(start)
        best = Choice(8, 2, "patches")
        return Tuned(best, [(start, 10.0), (best, 25.0)])

    monkeypatch.setattr(layout, "tune", tune)
    monkeypatch.setenv("FEDJAX_COMPRESS_CACHE", str(tmp_path / "cache"))
    return made


def find(said=None, **changes):
    config = dataclasses.replace(Config(cohort=3), **changes)
    owner = np.repeat(np.arange(6), 10)
    columns = {"features": np.zeros((60, 4), np.float32)}
    data = group(columns | {"labels": np.zeros(60, np.int32)}, owner, 6)
    said = [] if said is None else said
    return layout.find(config, None, data, PARAMS, UNIFORM, said.append)


def test_short_runs_and_given_layouts_are_not_searched(searches):
    assert find().choice == Choice(0, 0, "auto")
    assert find(tune="never", rounds=10**6).choice == Choice(0, 0, "auto")
    given = find(tune="always", lanes=4)
    assert given.choice == Choice(4, 0, "auto")
    assert not searches


def test_long_runs_are_searched(searches):
    rounds = int(6e11 / (6 * 10_000 * 3 * 10)) + 1
    said: list[str] = []
    found = find(said, rounds=rounds)
    assert found.choice == Choice(8, 2, "patches")
    assert "2.5 times as fast as the first guess" in found.note
    assert said == ["trying layouts (lanes, devices, convolutions) ..."]
    assert find(rounds=rounds - 2).choice == Choice(0, 0, "auto")


def test_what_was_found_is_found_again(searches, tmp_path):
    first = find(tune="always")
    again = find(tune="always")
    assert len(searches) == 1
    assert again.choice == first.choice
    assert "measured before" in again.note
    find(tune="always", uplink="identity")
    assert len(searches) == 2
    cache = tmp_path / "cache" / layout.FILE
    assert len(json.loads(cache.read_text())) == 2
    cache.write_text("{broken")
    assert find(tune="always").choice == first.choice
    assert len(searches) == 3


def test_without_a_cache_each_run_searches(searches, monkeypatch):
    monkeypatch.setenv("FEDJAX_COMPRESS_CACHE", "off")
    find(tune="always")
    find(tune="always")
    assert len(searches) == 2
