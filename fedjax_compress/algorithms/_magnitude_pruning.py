"""Magnitude pruning of what travels: small weights are zeros in both directions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress import prune, registry, tree
from fedjax_compress.algorithms._fedavg import WHOLE_WEIGHTS, Weights, link_for
from fedjax_compress.algorithms.shared.averaging import (
    FedAvgServer,
    Sent,
    averaging,
)
from fedjax_compress.algorithms.shared.needs import check_zeros
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.errors import InputError
from fedjax_compress.quantize.quantized_model import STEPS
from fedjax_compress.typing import Algorithm, Metrics, Params, Setup


@registry.register("algorithm", context=1)
@of_checked_parts
def magnitude_pruning(
    setup: Setup,
    rate: float = 0.5,
    server_prunes: bool = True,
    send: Weights = "weights",
    receive: Weights = "weights",
) -> Algorithm:
    """FedAvg of weights of which the smallest are set to zero before they travel.

    With P(w) = w where |w| >= the floor(rate n)-th smallest of all |w|, counted from 0,
    else 0, over all n parameters as one vector:

      a client gets P(w), trains all parameters from there, and sends P(w_k);
      w <- w + optimizer(sum_k n_k P(w_k) / sum_k n_k - w).

    Zeros take part in the mean like any other number, so w is denser than 1 - rate, and
    what was zero may grow again. The model that is evaluated is w, which nobody pruned.

    Travels: both ways the link's fields for the pruned parameters; a link as
    ``nonzero`` sends values and positions of the others only, and ``identity`` saves
    nothing. Where they are quantized: codes and scales of the pruned weights, as the
    model computes with them; integers keep zeros, and a code as ``best`` makes many
    equal ones short. Steps that ``lsq`` learns are not pruned.

    Args:
      setup: what is joined; ``fedavg`` as the server's step makes w the mean. The links
        compress pruned weights.
      rate: share of the parameters that are set to zero, from 0 to below 1.
      server_prunes: whether the model that clients get is pruned, too.
      send: weights, or quantized, see ``fedavg``.
      receive: likewise, down.

    Raises:
      InputError: a rate outside [0, 1); quantized without a model that quantizes, or
        besides a lossy link; quantized training whose zero is another number; and
        before the first round, an uplink that keeps a state, where weights add up.

    Reference: Grativol et al. 2023, section on pruning, and its code.
    """
    if not 0 <= rate < 1:
        raise InputError(f"rate must be from 0 to below 1, not {rate}")
    local = setup.local
    check_zeros(local, "magnitude_pruning")
    quantizes = local.model is not None and local.model.quantized is not None

    def pruned(params: Params) -> Params:
        steps = {STEPS: params[STEPS]} if quantizes and STEPS in params else {}
        weights = {k: v for k, v in params.items() if k != STEPS} if steps else params
        mask = prune.make_global_mask(weights, rate)
        kept = jax.tree.map(lambda m, w: jnp.where(m, w, 0), mask, weights)
        return {**kept, **steps} if steps else kept

    up = link_for(local, setup.uplink, send, "send", "uplink")
    down = link_for(local, setup.downlink, receive, "receive", "downlink")
    algorithm = averaging(
        setup._replace(uplink=up, downlink=down),
        Sent(
            make=lambda update, received: pruned(tree.add(received, update)),
            stateless=WHOLE_WEIGHTS,
        ),
        of_weights=True,
        before_down=pruned if server_prunes else lambda params: params,
    )

    def observe(server: FedAvgServer) -> Metrics:
        kept = [jnp.sum(w != 0) for w in jax.tree.leaves(server.params)]
        density = sum(k.astype(jnp.float32) for k in kept) / tree.count(server.params)
        return {"density": jnp.asarray(density)}

    return algorithm._replace(observe=observe)
