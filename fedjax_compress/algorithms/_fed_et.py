"""Fed-ET: small networks of clients teach a larger one of the server."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_compress import registry
from fedjax_compress.algorithms.shared.ensemble import (
    EnsembleServer,
    Learner,
    Lesson,
    ensemble,
)
from fedjax_compress.algorithms.shared.groups import check_public, groups_of, network
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.algorithms.shared.students import (
    student_of,
    studied,
    taught,
)
from fedjax_compress.checks.returned import leaves
from fedjax_compress.errors import InputError
from fedjax_compress.models.distilling import distillation
from fedjax_compress.models.labels import labelled
from fedjax_compress.registry import LocalSpec, ModelSpec
from fedjax_compress.typing import (
    Algorithm,
    Array,
    Columns,
    Key,
    Model,
    Outputs,
    Params,
    Setup,
)

STUDENT = LocalSpec("sgd(lr=0.005, momentum=0.9, steps=128, batch=64)")
Weights = Literal["variance", "uniform"]
_LABEL, _OTHER, _DIFFERS = "consensus", "dissent", "differs"
_LOSS, _DISSENT = "distillation_loss", "dissent"


class Consensus(NamedTuple):
    """What the clients' networks say of public rows together.

    Attributes:
      label: int32 [rows], y.
      dissent: float32 [rows, classes], s_div.
      differs: bool [rows], whether any network says another class.
    """

    label: Array
    dissent: Array
    differs: Array


@registry.register("algorithm", context=1)
@of_checked_parts
def fed_et(
    setup: Setup,
    server: ModelSpec,
    others: tuple[ModelSpec, ...] = (),
    shares: tuple[float, ...] = (),
    shared: tuple[str, ...] = (),
    weights: Weights = "variance",
    diversity: float = 0.05,
    student: LocalSpec | None = STUDENT,
    rows: int = 0,
) -> Algorithm:
    """Fed-ET: a larger network of the server learns from the consensus of small ones.

    Clients of group u train w_u, which the server averages as FedAvg does. Layers h
    that all networks share are averaged over groups, by the examples of their clients,
    and put into the server's w.
    For each row x that no client has, and logits z_k of what client k has sent,

        a_k(x) = Var_c z_k(x) / sum_j Var_c z_j(x),   s(x) = sum_k a_k(x) z_k(x),
        y(x) = argmax s(x),   D(x) = those whose argmax z_k(x) is not y(x),
        s_div(x) = sum over D of Var_c z_k(x) z_k(x) / sum over D of Var_c z_k(x)

    and w takes steps on CE(w(x), y(x)) + diversity KL(softmax s_div || softmax w(x)),
    without the second term where D(x) is empty. Then h of w goes into every w_u.

    Travels: down, the downlink's fields for the parameters of the client's group; up,
    the uplink's fields for their update. Nothing of the server's network, nor of
    public rows.

    Evaluated: the server's network; the run's model as test_NAME_first, those of
    further groups as test_NAME_MODEL.

    Args:
      setup: what is joined, with public rows; as of ``fed_df``.
      server: model of the server.
      others: models of further groups.
      shares: of the clients in each group, as ratios; none for equal ones.
      shared: labels of the layers h: paths of parameters or parts of them, such as
        output, which have the same shapes in all networks; none for no such layers.
      weights: a_k by variance, or all equal.
      diversity: weight of the second term, not negative; the paper's lambda.
      student: what the server does with the public rows, as ``local`` says it; its
        optimizer starts anew each round. None: nothing, FedAvg by groups.
      rows: public rows that a round takes, drawn anew; 0 for all.

    Raises:
      InputError: no public rows or fewer than ``rows``, shares that do not fit, labels
        that name nothing or layers of unequal shapes, a negative diversity.

    Reference: Cho et al. 2022; details as in two independent re-implementations, since
      the authors published none.
    Deviations: averages by the clients' weights; weights sum to 1, and rows that all
      agree on have no second term, on which those two differ. With ``augment`` the
      student sees changed rows, and the consensus is of the rows as they are.
    """
    if not diversity >= 0:
        raise InputError(f"diversity must not be negative, got {diversity:g}")
    groups = groups_of(setup, "fed_et", others, shares)
    large = network(setup, server, quantized=False)
    common = _shared_paths((large, *groups.models), shared)
    found = check_public(setup.public, "fed_et", rows)
    learns = student_of(student, large, found)

    def loss(outputs: Outputs, columns: Columns) -> Array:
        agreed = optax.softmax_cross_entropy_with_integer_labels(
            outputs, columns[_LABEL]
        )
        other = distillation(columns[_OTHER], outputs, 1.0, epsilon=0.0)
        return agreed + diversity * jnp.where(columns[_DIFFERS], other, 0.0)

    taught_large = taught(large, loss)

    def learn(state: EnsembleServer, lesson: Lesson) -> EnsembleServer:
        own, told = state.own, state.told
        if common:
            mean = _mean_of(state.groups, lesson.weights, common)
            own = _with(own, mean)
        found = consensus(lesson.logits, lesson.ok, weights)
        told = {**told, _DISSENT: jnp.mean(found.differs.astype(jnp.float32))}
        if learns is not None:
            rows = {
                **lesson.rows,
                _LABEL: found.label,
                _OTHER: found.dissent,
                _DIFFERS: found.differs,
            }
            own, told[_LOSS] = studied(learns, taught_large, own, rows, lesson.context)
        taken = {path: x for path, x in leaves(own).items() if path in common}
        params = tuple(_with(p, taken) for p in state.groups)
        return state._replace(own=own, groups=params, told=told)

    def init(key: Key) -> Params:
        return large.init(key)

    names = (_DISSENT,) if learns is None else (_DISSENT, _LOSS)
    learner = Learner(learn, init, names, large)
    return ensemble(setup, groups, learner, rows, "fed_et")


def consensus(logits: Array, ok: Array, weights: Weights = "variance") -> Consensus:
    """The consensus of networks, and the other opinion.

    Args:
      logits: float32 [networks, rows, classes].
      ok: bool [networks], which count.
      weights: by variance over classes, or uniform. Where no network of a row prefers
        any class, all are equal.

    Reference: Cho et al. 2022.
    """
    confident = jnp.var(logits, axis=-1)
    if weights == "uniform":
        confident = jnp.ones_like(confident)
    confident = jnp.where(ok[:, None], confident, 0.0)
    agreed = _weighted(logits, confident, ok[:, None])
    label = jnp.argmax(agreed, axis=-1).astype(jnp.int32)
    differs = (jnp.argmax(logits, axis=-1) != label[None]) & ok[:, None]
    dissent = _weighted(logits, jnp.where(differs, confident, 0.0), differs)
    return Consensus(label, dissent, differs.any(0))


def _weighted(logits: Array, weight: Array, among: Array) -> Array:
    """Weighted mean over networks; the plain one of those among where no weight is."""
    total = weight.sum(0, keepdims=True)
    weight = jnp.where(total > 0, weight, among.astype(weight.dtype))
    total = weight.sum(0, keepdims=True)
    share = weight / jnp.maximum(total, jnp.finfo(weight.dtype).tiny)
    return jnp.einsum("kr,krc->rc", share, logits)


def _with(params: Params, taken: dict[str, Array]) -> Params:
    """The parameters with some of them replaced, by path."""
    found = [taken.get(path, x) for path, x in leaves(params).items()]
    return jax.tree.unflatten(jax.tree.structure(params), found)


def _mean_of(
    groups: tuple[Params, ...], weights: Array, common: tuple[str, ...]
) -> dict[str, Array]:
    """The shared layers, over all clients."""
    share = weights / jnp.maximum(weights.sum(), jnp.finfo(weights.dtype).tiny)
    flat = [leaves(params) for params in groups]
    return {
        path: sum((share[i] * one[path] for i, one in enumerate(flat)), jnp.zeros(()))
        for path in common
    }


def _shared_paths(
    models: tuple[Model, ...], labels: tuple[str, ...]
) -> tuple[str, ...]:
    """Paths of the shared layers.

    Raises:
      InputError: a label that names nothing, or shapes that differ.
    """
    shapes = [leaves(jax.eval_shape(m.init, jax.random.key(0))) for m in models]
    try:
        found = labelled(shapes[0], labels)
    except InputError as error:
        raise InputError(f"shared: in the server's network {error}") from None
    for path in found:
        each = [list(s[path].shape) if path in s else None for s in shapes]
        if any(shape != each[0] for shape in each):
            shown = ", ".join("none" if s is None else str(s) for s in each)
            raise InputError(
                f"shared: {path} must have one shape in all networks, not {shown} "
                "(the server's first); choose models whose last layers are equally wide"
            )
    return tuple(found)
