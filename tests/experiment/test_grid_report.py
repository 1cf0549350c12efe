"""What is made of the results of a grid: the Pareto front, of points by hand."""

from __future__ import annotations

import pytest

from fedjax_compress.experiment.grid_folder import front


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([(1, 0.5)], [True]),
        ([(1, 0.5), (2, 0.6)], [True, True]),
        ([(1, 0.5), (2, 0.5)], [True, False]),  # costs more, is worth no more
        ([(1, 0.5), (1, 0.6)], [False, True]),  # costs as much, is worth more
        ([(1, 0.5), (1, 0.5)], [True, True]),
        ([(3, 0.9), (2, 0.95), (1, 0.2), (2.5, 0.94)], [False, True, True, False]),
        ([(4, 0.4), (3, 0.3), (2, 0.2), (1, 0.1)], [True] * 4),
        ([(1, 0.4), (2, 0.3), (3, 0.2), (4, 0.1)], [True, False, False, False]),
        ([], []),
    ],
)
def test_front(points: list[tuple[float, float]], best: list[bool]) -> None:
    assert front(points) == best
