"""FedDF: averages by architecture, each then taught by all networks together."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.algorithms.shared.ensemble import (
    EnsembleServer,
    Learner,
    Lesson,
    ensemble,
)
from fedjax_compress.algorithms.shared.groups import check_public, groups_of
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.algorithms.shared.students import (
    student_of,
    studied,
    taught,
)
from fedjax_compress.models.distilling import distillation
from fedjax_compress.registry import LocalSpec, ModelSpec
from fedjax_compress.typing import Algorithm, Array, Columns, Outputs, Setup

STUDENT = LocalSpec("optax(adam, lr=0.001, steps=500, batch=128)")
_TARGET, _LOSS = "mean_logits", "distillation_loss"


@registry.register("algorithm", context=1)
@of_checked_parts
def fed_df(
    setup: Setup,
    others: tuple[ModelSpec, ...] = (),
    shares: tuple[float, ...] = (),
    student: LocalSpec | None = STUDENT,
    rows: int = 0,
) -> Algorithm:
    """FedDF: group averages, distilled from the mean logits of all received networks.

    Clients of group u train w_u, which the server averages as FedAvg does. Then each
    w_u takes steps on rows x that no client has, by

        KL( softmax(1/K sum_k z_k(x)) || softmax(z(x; w_u)) )

    where z_k are the logits of the network that client k has sent, of any group.

    Travels: down, the downlink's fields for the parameters of the client's group; up,
    the uplink's fields for their update. Public rows do not travel, nor do logits.

    Evaluated: the run's model, of the first group; the others as test_NAME_MODEL.

    Args:
      setup: what is joined, with public rows. The run's model is that of the first
        group; the aggregator and the server's step are each group's: ``fedavg(lr=1)``
        makes w_u the mean.
      others: models of further groups.
      shares: of the clients in each group, as ratios; none for equal ones. Who is in
        which group is drawn once.
      student: what the server does with the public rows, as ``local`` says it; its
        optimizer starts anew each round. None: no distillation, FedAvg by groups.
      rows: public rows that a round takes, drawn anew; 0 for all.

    Raises:
      InputError: no public rows or fewer than ``rows``, shares that do not fit.

    Reference: Lin et al. 2020, algorithms 1 and 3.
    Deviations: the student takes all of its steps at the rate that ``student`` says,
      where the paper's falls by a cosine and stops early by a validation set that the
      server has; gradients are not clipped, no teacher is left out. With ``augment``
      the student sees changed rows, and the mean is of the rows as they are.
    """
    groups = groups_of(setup, "fed_df", others, shares)
    found = check_public(setup.public, "fed_df", rows)
    learns = student_of(student, groups.models[0], found)

    def loss(outputs: Outputs, columns: Columns) -> Array:
        return distillation(columns[_TARGET], outputs, 1.0, epsilon=0.0)

    students = [taught(model, loss) for model in groups.models]

    def learn(server: EnsembleServer, lesson: Lesson) -> EnsembleServer:
        if learns is None:
            return server
        rows = {**lesson.rows, _TARGET: mean_logits(lesson.logits, lesson.ok)}
        made = [
            studied(learns, model, params, rows, lesson.context.fold(i))
            for i, (model, params) in enumerate(
                zip(students, server.groups, strict=True)
            )
        ]
        told = {_LOSS: jnp.mean(jnp.stack([found for _, found in made]))}
        return server._replace(groups=tuple(p for p, _ in made), told=told)

    told = () if learns is None else (_LOSS,)
    learner = Learner(learn, lambda key: (), told)
    made = ensemble(setup, groups, learner, rows, "fed_df")
    return made._replace(averaged=groups.parameters)


def mean_logits(logits: Array, ok: Array) -> Array:
    """Mean over those that count, float32 [rows, classes].

    Args:
      logits: float32 [seats, rows, classes].
      ok: bool [seats].
    """
    counted = ok.astype(logits.dtype)
    total = jnp.tensordot(counted, logits, axes=1)
    found: jax.Array = total / jnp.maximum(counted.sum(), 1.0)
    return found
