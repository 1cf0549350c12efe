"""The experiment that kills runs, in small."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from processes import environment


@pytest.mark.slow
def test_two_runs_and_some_bytes(repository):
    script = repository / "experiments" / "robustness" / "kills.py"
    found = subprocess.run(
        [sys.executable, str(script), "--runs", "2", "--bytes", "30"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found
    assert "2 runs killed and resumed: 2 equal" in found.stdout
    assert re.search(r"changed: (\d+) of \1 of the manifest, 30 of \d+ ", found.stdout)
    assert found.stdout.endswith(", 0 missed\n")
