"""The metric that runs are judged by, in words and on axes."""

from __future__ import annotations

import math

import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.report.scores import ACCURACY, Score, common, of_summary

ERROR = Score("squared_error", "lower", "")
LOSS = Score("code_length", "lower", "nats")


def spread(mean: float | None, around: float | None) -> dict[str, float | None]:
    return {"mean": mean, "spread": around}


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (ACCURACY.show(0.9187), "91.9 %"),
        (ACCURACY.show(None), "-"),
        (ERROR.show(0.012553), "0.01255"),
        (ERROR.show(None), "-"),
        (LOSS.show(2.5), "2.500 nats"),
        (ACCURACY.tick(0.925), "92.5 %"),
        (ERROR.tick(0.925), "0.925"),
        (ACCURACY.spread(spread(0.5, 0.01)), "50.0 ± 1.0 %"),
        (ACCURACY.spread(spread(0.5, None)), "50.0 %"),
        (ERROR.spread(spread(0.5, 0.0123)), "0.5000 ± 0.012"),
        (LOSS.spread(spread(0.5, 0.0123)), "0.5000 ± 0.012 nats"),
        (LOSS.spread(spread(None, None)), "-"),
        (ACCURACY.axis, "test accuracy"),
        (ERROR.axis, "test squared error (lower is better)"),
        (LOSS.axis, "test code length, nats (lower is better)"),
        (ACCURACY.worst, "10th percentile"),
        (ERROR.worst, "90th percentile"),
        (ACCURACY.key, "test_accuracy"),
    ],
)
def test_words(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_more_is_worth_more_whatever_is_better() -> None:
    assert ACCURACY.worth(0.9) > ACCURACY.worth(0.8) > ACCURACY.worth(None)
    assert ERROR.worth(0.8) > ERROR.worth(0.9) > ERROR.worth(None) == -math.inf
    assert ACCURACY.client_keys == ("client_accuracy_mean", "client_accuracy_p10")
    assert LOSS.client_keys == ("client_code_length_mean", "client_code_length_p90")


@pytest.mark.parametrize(
    ("score", "low", "high", "wanted"),
    [
        (ACCURACY, 0.9, 0.9, 0.02),
        (ACCURACY, 0.1, 0.9, 0.032),
        (ERROR, 1e-6, 1e-6, 2e-8),
        (ERROR, 100.0, 200.0, 4.0),
        (ERROR, 0.0, 0.0, 0.02),
    ],
)
def test_an_axis_has_room_whatever_the_values(
    score: Score, low: float, high: float, wanted: float
) -> None:
    assert score.margin(low, high) == pytest.approx(wanted)


def test_summaries_without_a_metric_are_those_of_earlier_versions() -> None:
    assert of_summary({"test_accuracy": 0.5}) == ACCURACY
    assert of_summary({"metric": ERROR._asdict()}) == ERROR
    assert common({"a": ERROR, "b": ERROR}) == ERROR
    with pytest.raises(
        InputError, match="'b' is judged by accuracy, but 'a' by squared"
    ):
        common({"a": ERROR, "b": ACCURACY})
