"""What is shown during a run: live, plain, or nothing."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from fedjax_compress.report.progress import Progress, fitting


def record(number: int, **more: Any) -> dict[str, Any]:
    return {
        "round": number,
        "train_loss": 0.5,
        "clients": 4,
        "dropped": 0,
        "bytes_up": 1_000_000,
        "bytes_down": 2_000_000,
        "seconds": 2.0,
        "clients_per_second": 1234.0,
        **more,
    }


def shown(rounds: int, brief: bool = False, **options: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, **options)
    with Progress(console, rounds, [], brief) as progress:
        for number in range(1, rounds + 1):
            progress.update(record(number))
    return out.getvalue()


@pytest.mark.parametrize(
    ("rounds", "brief", "lines"),
    [(1, False, 1), (7, False, 7), (60, False, 20), (1000, False, 20), (60, True, 4)],
)
def test_plain_lines(rounds: int, brief: bool, lines: int) -> None:
    found = shown(rounds, brief).splitlines()
    assert len(found) == lines
    assert found[-1].startswith(f"round {rounds}/{rounds}")
    assert "left" not in found[-1]


def test_quiet_shows_nothing() -> None:
    assert shown(10, quiet=True) == ""
    assert shown(10, quiet=True, force_terminal=True) == ""


def test_live_line_on_a_terminal() -> None:
    text = shown(10, force_terminal=True)
    assert "compiling" in text
    assert "round 10/10" in text


def test_figures_are_sums_since_the_first_round() -> None:
    before = [record(1, test_accuracy=0.5), record(2, dropped=3)]
    progress = Progress(Console(file=io.StringIO()), 100, before)
    progress.update(record(3, train_loss=None))
    line = progress.line(record(3, train_loss=None))
    assert "round   3/100" in line
    assert "accuracy 50.0 %" in line
    assert "loss not finite" in line
    assert "up 3.00 MB  down 6.00 MB" in line
    assert "1,234 clients/s" in line
    assert "3 dropped" in line
    assert "3 min 14 s left" in line  # 97 rounds of the 2 s that the record tells


def test_virtual_time_adds_up_where_there_is_a_clock() -> None:
    before = [record(1, virtual_seconds=3600.0)]
    progress = Progress(Console(file=io.StringIO()), 9, before)
    progress.update(record(2, virtual_seconds=7200.0))
    line = progress.line(record(2))
    assert "  virtual 3 h 0 min  1,234 clients/s" in line
    plain = Progress(Console(file=io.StringIO()), 9, [])
    assert "virtual" not in plain.line(record(1))


def test_narrow_terminals_get_a_shorter_line() -> None:
    line = (
        "round 141/400  accuracy 91.9 %  loss 0.110  up 5.22 MB  down 10.3 MB  "
        "4,597 clients/s  3 s left"
    )
    assert fitting(line, 120) == line
    assert len(fitting(line, 80)) < 80
    assert "91.9 %" in fitting(line, 80)
    assert "3 s left" in fitting(line, 80)
