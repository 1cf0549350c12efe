"""FjORD: ordered dropout at every local step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_compress import registry, submodel
from fedjax_compress.algorithms._heterofl import falling
from fedjax_compress.algorithms.shared.assignment import Assign, assignment
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.algorithms.shared.submodel_training import cut_training
from fedjax_compress.algorithms.shared.widths import Width, cuts_for, widths_of
from fedjax_compress.errors import InputError
from fedjax_compress.typing import (
    Algorithm,
    Array,
    Columns,
    Key,
    Model,
    Params,
    Setup,
)


@registry.register("algorithm", context=1)
@of_checked_parts
def fjord(
    setup: Setup,
    rates: tuple[float, ...] = (1.0, 0.8, 0.6, 0.4, 0.2),
    assign: Assign = "fixed",
    shares: tuple[float, ...] = (),
    distillation: float = 0.0,
) -> Algorithm:
    """FjORD: each local step trains the first units of every layer, as many as drawn.

    A client of largest rate p_max holds the first units of each layer. At each local
    step a rate p is drawn uniformly from those of ``rates`` up to p_max; the network of
    the first max(1, round(p units)) units learns from the batch by the loss CE(z_p, y).
    With a, the ``distillation``, above 0 it learns from the client's largest one, which
    is trained at every step, too, by the loss

      CE(z_pmax, y) + (1 - a) CE(z_p, y) + a KL(softmax(z_pmax) || softmax(z_p)),

    in whose last term z_pmax is not differentiated. Each parameter is averaged over
    those that hold it; one that nobody held stays.

    Travels: down, the downlink's fields for the parameters that the client holds; up,
    the uplink's fields for their update.

    Args:
      setup: what is joined. ``local``: SGD without momentum or weight decay as a rule,
        which would move parameters outside the width of a step; ``fedavg`` as the
        server's step is the paper's; the model has ``cuts``, both links are stateless.
      rates: from the largest, each above 0 and at most 1; a program compiles all.
      assign: a largest rate for each client for good (fixed) or each round (dynamic).
      shares: of the clients with each largest rate, as ratios; none for equal ones.
      distillation: a, from 0 to 1; 0 leaves the larger network out, 1 is the authors'.
        A step then computes two networks.

    Raises:
      InputError: an option out of its range; a model without cuts; and before the
        first round, a link that keeps a state.

    Reference: Horvath et al. 2021, section 3 (ordered dropout, knowledge distillation
    with temperature 1) and algorithm 1; the first author's code for what is trained.
    Deviations: all clients of a round with the same largest rate draw the same rates,
      so that those side by side train networks of one size at a step; counts are
      rounded to the nearest, not up.
    """
    if not 0 <= distillation <= 1:
        raise InputError(f"distillation must be from 0 to 1, not {distillation}")
    falling(rates)
    widths = widths_of(cuts_for(setup.local, "fjord"), rates)

    def network(number: int, key: Key) -> Callable[[Array], Model]:
        inner = widths[number:]
        applies = [_prefix(widths[number], width) for width in inner]

        def at(t: Array) -> Model:
            drawn = jax.random.randint(jax.random.fold_in(key, t), (), 0, len(inner))

            def apply(params: Params, columns: Columns, key: Key | None) -> Array:
                return jax.lax.switch(drawn, applies, params, columns, key)

            narrow = widths[number].model._replace(apply=apply)
            return _distilled(narrow, widths[number].model, distillation)

        return at

    return cut_training(
        setup, name="fjord", selector=submodel.prefix(), widths=widths,
        tier_of=assignment(assign, shares, len(rates)), average="holders",
        network=network,
    )  # fmt: skip


def _prefix(whole: Width, part: Width) -> Callable[..., Array]:
    """The network of the first units of a wider one, on the wider one's parameters."""
    cuts = whole.model.cuts
    assert cuts is not None

    def apply(params: Params, columns: Columns, key: Key | None) -> Array:
        kept = {g: jnp.arange(n, dtype=jnp.int32) for g, n in part.counts.items()}
        small = submodel.extract(params, cuts, kept)
        return part.model.apply(small, columns, key)

    return apply


def _distilled(narrow: Model, wide: Model, weight: float) -> Model:
    """Both models: the wide one learns from the labels, the narrow one from it."""
    if not weight:
        return narrow

    def apply(params: Params, columns: Columns, key: Key | None) -> Any:
        return narrow.apply(params, columns, key), wide.apply(params, columns, key)

    def losses(outputs: Any, columns: Columns) -> tuple[Array, Array]:
        mine, teacher = outputs
        taught = jax.lax.stop_gradient(teacher)
        gap = jax.nn.log_softmax(taught) - jax.nn.log_softmax(mine)
        distance = jnp.sum(jax.nn.softmax(taught) * gap, axis=-1)
        distance = distance.reshape(distance.shape[0], -1).mean(axis=1)
        value, counts = wide.losses(teacher, columns)
        narrower = (1 - weight) * wide.losses(mine, columns)[0] if weight < 1 else 0
        return value + narrower + weight * distance, counts

    return narrow._replace(apply=apply, losses=losses)
