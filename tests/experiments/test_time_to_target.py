"""Time to 95 %: what is run, and what is read of finished runs. Nothing is trained."""

from __future__ import annotations

import importlib.util
import json

import pytest

from fedjax_compress.experiment import grid as grids
from fedjax_compress.experiment.build import check_specs


@pytest.fixture(scope="module")
def timing(repository):
    path = repository / "experiments" / "time" / "time_to_target.py"
    spec = importlib.util.spec_from_file_location("time_to_target", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sixteen_ways_on_each_network_can_be_built(timing):
    for network in timing.NETWORKS:
        found = timing.grid(network, (0,))
        assert len({scheme.name for scheme in found.schemes}) == 16
        for job in grids.jobs(found):
            check_specs(job.config)


def line(number, score=None):
    record = {"round": number, "bytes_up": 2e6, "bytes_down": 3e6}
    record |= {"virtual_seconds": 10.0 * number, "energy_joules": 500.0}
    return json.dumps(record | ({} if score is None else {"test_accuracy": score}))


def test_a_run_counts_up_to_its_first_round_at_the_target(timing, tmp_path):
    lines = [line(1), line(2, 0.9499), line(3), line(4, 0.95), line(5, 0.9)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert timing.reached(tmp_path) == {
        "rounds": 4,
        "megabytes_up": 8.0,
        "megabytes_down": 12.0,
        "seconds": 100.0,
        "kilojoules": 2.0,
    }
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines[:3]) + "\n")
    assert set(timing.reached(tmp_path).values()) == {None}


def test_the_table_has_medians_and_ranges(timing):
    row = {"network": "4G", "scheme": "FP32", "way": "sync", "rounds": [20, 22, 24]}
    row |= {"seconds": [10.0, 30.0, 20.0], "kilojoules": [1.0, 2.0, 3.0]}
    row |= {"megabytes_up": [1.0] * 3, "megabytes_down": [2.0] * 3}
    late = row | {"way": "FedBuff", "seconds": [1.0, None, 2.0]}
    shown = timing.table([row, late]).splitlines()
    (found,) = [s for s in shown if s.startswith("| 4G | FP32 |")]
    cells = [cell.strip() for cell in found.split("|")[3:-1]]
    assert cells == ["20 (10 to 30)", "", "not in 80 rounds", "22", "1", "2", "2"]
