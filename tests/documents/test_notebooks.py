"""The notebooks run from top to bottom, in a folder and a process of their own."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest
from processes import environment

NOTEBOOKS = sorted(Path(__file__).resolve().parents[2].glob("notebooks/*.ipynb"))
MOST_SECONDS = 300
"""For one cell, on a machine that does other things as well."""


def test_there_are_notebooks() -> None:
    assert {p.stem for p in NOTEBOOKS} >= {"quickstart", "your_own_compressor"}


@pytest.mark.filterwarnings("default")  # those of the kernel's client
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem != "quickstart"))
        for p in NOTEBOOKS
    ],
)
def test_notebook_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", environment()["XLA_FLAGS"])
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        notebook, timeout=MOST_SECONDS, kernel_name="python3", resources=place
    )
    client.execute()
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert outputs
    errors = [o for o in outputs if o.get("name") == "stderr"]
    assert errors == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
def test_what_is_kept_in_a_notebook(path: Path) -> None:
    """Outputs are there to be read, small, and say nothing of time or machine."""
    assert path.stat().st_size < 100_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    assert any(c.outputs for c in cells)
    assert [c.metadata for c in cells if c.metadata] == []
    names = [o.output_type for c in cells for o in c.outputs]
    assert "error" not in names
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
