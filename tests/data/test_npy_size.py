"""Data of several gigabytes on the disk take hardly any memory."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fedjax_compress import registry
from fedjax_compress.clients import group
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.plan import Planner
from fedjax_compress.simulate.supply import Stream

ROWS, CLIENTS, COHORT = 1_000_000, 10_000, 20
SHAPE = (64, 64, 1)
LIMIT = 100 * 2**20


def resident_bytes():
    """Memory of this process that is in use, mapped pages of files included."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(x for x in status if x.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


@pytest.fixture
def folder(tmp_path):
    """A million pictures of 4 kB, labels and a test part, all zero: gaps in files."""

    def column(name, dtype, shape):
        path = tmp_path / f"{name}.npy"
        return np.lib.format.open_memmap(path, "w+", dtype, shape)

    column("features", np.uint8, (ROWS, *SHAPE))
    taken = sum(x.stat().st_blocks for x in tmp_path.iterdir()) * 512
    if taken > 2**20:
        pytest.skip(f"{tmp_path} cannot hold files with gaps")
    for name, rows in (("labels", ROWS), ("test_labels", 1)):
        column(name, np.int32, (rows,))
    column("test_features", np.uint8, (1, *SHAPE))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_four_gigabytes_are_opened_grouped_and_streamed_in_little(folder, order):
    clients = np.repeat(np.arange(CLIENTS, dtype=np.int32), ROWS // CLIENTS)
    if order == "shuffled":
        clients = np.arange(ROWS, dtype=np.int32) % CLIENTS
    np.save(folder / "clients.npy", clients)
    marks = np.arange(1, ROWS // CLIENTS + 1)
    pictures = np.lib.format.open_memmap(folder / "features.npy", "r+")
    pictures[clients == 0, 0, 0, 0] = marks
    del pictures
    placement = Placement(1)  # starts the device
    before = resident_bytes()
    tracemalloc.start()
    try:
        dataset = registry.build("data", f"npy('{folder}', classes=2)")
        natural = registry.build("partition", "natural")
        owner = natural(dataset, 0, np.random.default_rng(0))
        features = dataset.train["features"]
        assert features.nbytes > 4e9
        data = group(dataset.train, owner, CLIENTS)
        uniform = registry.build("sampling", "uniform")
        planner = Planner(uniform, 0, data.sizes, COHORT, 4, 1)
        ids = planner(1)[None]
        ids.flat[0] = 0
        _, cohort = Stream(data, placement, ids.size)(ids)
        peak = tracemalloc.get_traced_memory()[1]
        grown = resident_bytes() - before
    finally:
        tracemalloc.stop()
    assert (data.rows is None) == (order == "sorted")
    need = COHORT * ROWS // CLIENTS
    assert (
        need <= len(cohort.columns["features"]) < need + 64
    )  # filled up to whole lines
    assert cohort.columns["features"].shape[1:] == SHAPE
    pictures = np.asarray(cohort.columns["features"])
    np.testing.assert_array_equal(pictures[: len(marks), 0, 0, 0], marks)
    assert not pictures[len(marks) :].any()
    assert peak < LIMIT
    assert grown < LIMIT
