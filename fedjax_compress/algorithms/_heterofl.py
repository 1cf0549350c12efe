"""HeteroFL: clients of unequal strength train the first units of each layer."""

from __future__ import annotations

import itertools

from fedjax_compress import registry
from fedjax_compress.algorithms.shared.assignment import Assign, assignment
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.algorithms.shared.submodel_training import cut_training
from fedjax_compress.algorithms.shared.widths import cuts_for, widths_of
from fedjax_compress.errors import InputError
from fedjax_compress.submodel import Selector, prefix
from fedjax_compress.typing import (
    Algorithm,
    Setup,
)


@registry.register("algorithm", context=1)
@of_checked_parts
def heterofl(
    setup: Setup,
    rates: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125, 0.0625),
    assign: Assign = "fixed",
    shares: tuple[float, ...] = (),
    select: Selector | None = None,
    scaler: bool = True,
    mask_classes: bool = True,
) -> Algorithm:
    """HeteroFL: each client trains the first units of every hidden layer, as it can.

    A client of rate r holds the first max(1, round(r units)) units of each group;
    inputs and outputs are whole. Each parameter is averaged over those that hold it,

      w_j <- w_j + sum_k n_k u_kj / sum of n_k over those that held j,

    and one that nobody held stays. The Scaler multiplies what cut units give by units /
    kept units, 1 / r but for rounding, while training. Outputs of classes that a client
    has no rows of are set to 0 in its loss, and the parameters that lead to them are
    not averaged from it.

    Travels: down, the downlink's fields for the parameters that the client holds; up,
    the uplink's fields for their update and, with mask_classes, one bit for each class.

    Args:
      setup: what is joined; ``mean(weight=uniform)`` as aggregator and ``fedavg`` as
        the server's step are the paper's; the model has ``cuts``, both links are
        stateless.
      rates: of the levels, from the largest, each above 0 and at most 1; a program
        compiles all of them.
      assign: a level for each client for good (fixed), or one each round (dynamic).
      shares: of the clients in each level, as ratios; none for equal ones.
      select: which units; prefix is the paper's, and what none means.
      scaler: whether to use the Scaler.
      mask_classes: whether to mask classes that a client does not have.

    Raises:
      InputError: an option out of its range; a model without cuts; and before the
        first round, a link that keeps a state.

    Reference: Diao et al. 2021, algorithm 1 and section 3.
    Deviations: the Scaler stands where the next layer reads, which is the same for
      layers with ReLU; counts are rounded to the nearest, not up; no static batch
      normalisation, as the models here have no running statistics.
    """
    falling(rates)
    widths = widths_of(cuts_for(setup.local, "heterofl"), rates)
    return cut_training(
        setup, name="heterofl", selector=select or prefix(), widths=widths,
        tier_of=assignment(assign, shares, len(rates)), average="holders",
        rescale=scaler, mask_absent=mask_classes,
    )  # fmt: skip


def falling(rates: tuple[float, ...]) -> None:
    """Checks that there are rates, that they fall, and lie above 0 and not above 1.

    Raises:
      InputError: they do not.
    """
    if any(not 0 < rate <= 1 for rate in rates):
        raise InputError(f"rates must be above 0 and at most 1, got {rates}")
    if not rates or any(b >= a for a, b in itertools.pairwise(rates)):
        raise InputError(f"rates must fall, as in (1.0, 0.5, 0.25), got {rates}")
