"""What runs are judged by: the first metric of their model, in records and words."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fedjax_compress.errors import InputError
from fedjax_compress.report import words
from fedjax_compress.simulate.evaluate import client_scores
from fedjax_compress.typing import Model


class Score(NamedTuple):
    """The metric that runs are judged by; those of earlier versions by accuracy.

    Attributes:
      name: of the metric.
      better: ``higher`` or ``lower``.
      unit: ``%`` for a share of 1, another word, or empty.
    """

    name: str = "accuracy"
    better: str = "higher"
    unit: str = "%"

    @property
    def key(self) -> str:
        """Its name in records and summaries."""
        return f"test_{self.name}"

    @property
    def client_keys(self) -> tuple[str, str]:
        """Names of the mean over clients, and of that of the worst ones."""
        return client_scores(self.name, self.better)

    @property
    def personal_keys(self) -> tuple[str, str]:
        """The same of clients' own parameters."""
        return client_scores(self.name, self.better, "personal")

    @property
    def worst(self) -> str:
        """What the worst clients are called."""
        return f"{self.client_keys[1].rpartition('_p')[2]}th percentile"

    @property
    def words(self) -> str:
        """Its name as people read it."""
        return self.name.replace("_", " ")

    @property
    def axis(self) -> str:
        """Its name on an axis, with the unit and the direction that are not usual."""
        unit = f", {self.unit}" if self.unit not in ("", "%") else ""
        lower = " (lower is better)" if self.better == "lower" else ""
        return f"test {self.words}{unit}{lower}"

    def show(self, value: float | None) -> str:
        """A value in words; a dash where there is none."""
        if self.unit == "%" or value is None:
            return words.percent(value)
        return f"{words.number(value)} {self.unit}".rstrip()

    def tick(self, value: float) -> str:
        """A round value on an axis."""
        return f"{100 * value:g} %" if self.unit == "%" else f"{value:g}"

    def spread(self, found: dict[str, Any]) -> str:
        """A mean and its spread in words."""
        mean, around = found["mean"], found["spread"]
        if mean is None or around is None:
            return self.show(mean)
        if self.unit == "%":
            return f"{100 * mean:.1f} ± {100 * around:.1f} %"
        return f"{words.number(mean)} ± {words.number(around, 2)} {self.unit}".rstrip()

    def worth(self, value: float | None) -> float:
        """A number of which more is better, whatever is better of the metric."""
        if value is None:
            return -math.inf
        return value if self.better == "higher" else -value

    def margin(self, low: float, high: float) -> float:
        """What an axis leaves beside the lowest and the highest value."""
        least = 0.02 if self.unit == "%" else 0.02 * max(abs(low), abs(high)) or 0.02
        return max(least, 0.04 * (high - low))


ACCURACY = Score()


def of_model(model: Model) -> Score:
    """By which runs of a model are judged."""
    name, metric = next(iter(model.metrics.items()))
    return Score(name, metric.better, metric.unit)


def of_summary(summary: dict[str, Any]) -> Score:
    """By which a run is judged that has left this summary."""
    return Score(**summary["metric"]) if "metric" in summary else ACCURACY


def common(found: dict[str, Score]) -> Score:
    """The score of all runs.

    Args:
      found: the score of each run by its name.

    Raises:
      InputError: they have not the same.
    """
    first = next(iter(found.values()))
    for name, score in found.items():
        if score != first:
            raise InputError(
                f"{name!r} is judged by {score.words}, but {next(iter(found))!r} by "
                f"{first.words}: they cannot be compared; let the first metric of "
                "their models be the same"
            )
    return first
