"""Federated Dropout: each client trains a random part of the units."""

from __future__ import annotations

from fedjax_compress import registry
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.algorithms.shared.submodel_training import Average, cut_training
from fedjax_compress.algorithms.shared.widths import cuts_for, widths_of
from fedjax_compress.submodel import Selector, random
from fedjax_compress.typing import (
    Algorithm,
    Setup,
)


@registry.register("algorithm", context=1)
@of_checked_parts
def federated_dropout(
    setup: Setup,
    keep_rate: float = 0.75,
    select: Selector | None = None,
    average: Average = "cohort",
    rescale: bool = False,
) -> Algorithm:
    """Federated Dropout: clients get, train and send a model of fewer units.

    Of each group of units (neurons, channels) a client keeps max(1, round(keep_rate
    units)); inputs and classes are never cut. The dense small tensors M_k(w) travel
    through the downlink, are trained as a network of that size, and their update
    travels back through the uplink. With S_k putting it in its place, 0 elsewhere:

      cohort   w <- w + sum_k n_k S_k(u_k) / sum_k n_k
      holders  w_j <- w_j + sum_k n_k S_k(u_k)_j / sum of n_k over those that held j

    The server's optimizer applies either mean. With keep_rate = 1 this is ``fedavg``.

    Travels: down, the downlink's fields for the kept parameters, to each client its
    own; up, the uplink's fields for their update. Which units are kept follows from
    the shared key and costs nothing; where the selector is ``adaptive``, sorted index
    lists go down, one for each group, and the client's mean loss goes up, 32 bits.

    Args:
      setup: what is joined; the model has ``cuts``, both links are stateless. Where
        ``holders`` are averaged over, a parameter that nobody held is not moved, not
        even by the momentum of the server's step.
      keep_rate: share of the units that a client keeps, above 0, at most 1.
      select: how units are chosen: random (by client and round, the paper's and what
        none means), random_per_round, prefix, rolling or adaptive.
      average: over the cohort (the paper's) or over holders.
      rescale: multiply what a layer reads from cut units by units / kept units while
        training.

    Raises:
      InputError: an option out of its range; a model without cuts; and before the
        first round, a link that keeps a state.

    Reference: Caldas et al. 2018, section 3 (Federated Dropout) and figure 1; with
      ``adaptive``, Bouacida et al. 2020; with ``rolling``, Alam et al. 2022.
    """
    widths = widths_of(cuts_for(setup.local, "federated_dropout"), (keep_rate,))
    return cut_training(
        setup, name="federated_dropout", selector=select or random(), widths=widths,
        average=average, rescale=rescale,
    )  # fmt: skip
