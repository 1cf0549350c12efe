"""The sizes of a model that clients train."""

from __future__ import annotations

from typing import NamedTuple

from fedjax_compress import submodel
from fedjax_compress.algorithms.shared.needs import model_of
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Cuts, LocalUpdate, Model


class Width(NamedTuple):
    """One of the sizes that clients train.

    Attributes:
      rate: share of the units of each group.
      counts: units of each group.
      model: the network of that size.
    """

    rate: float
    counts: dict[str, int]
    model: Model


def cuts_for(local: LocalUpdate, name: str) -> Cuts:
    """How the model of a local update can be cut.

    Raises:
      InputError: it cannot, or the update names no model.
    """
    cuts = model_of(local, name).cuts
    if cuts is None or not cuts.groups:
        raise InputError(
            f"{name} needs a model that says along which axes it can be cut; this one "
            "has no units to leave out: take mlp, cnn or char_lstm, or give your own "
            "model its cuts"
        )
    return cuts


def widths_of(cuts: Cuts, rates: tuple[float, ...]) -> tuple[Width, ...]:
    """The sizes of a model for some keep rates.

    Raises:
      InputError: a rate outside (0, 1].
    """
    found = []
    for rate in rates:
        counts = submodel.counts(cuts, rate)
        found.append(Width(rate, counts, cuts.narrow(counts)))
    return tuple(found)
