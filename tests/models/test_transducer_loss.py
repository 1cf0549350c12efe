"""The transducer loss: what changes nothing, what is exact, what is refused."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transducers import by_lattice, ints, lattice, log_softmax, with_gradient

from fedjax_compress.errors import InputError
from fedjax_compress.models.speech.transducer_loss import (
    rnnt_loss,
    scored_nodes,
    transducer_loss,
)


def rows(seed: int, lengths, labels, frames: int, longest: int, symbols: int) -> tuple:
    """Logits and labels of a batch, and its lengths."""
    rng = np.random.default_rng(seed)
    batch = len(lengths)
    logits = rng.normal(size=(batch, frames, longest + 1, symbols)).astype(np.float32)
    said = rng.integers(1, symbols, (batch, longest)).astype(np.int32)
    return jnp.asarray(logits), jnp.asarray(said), ints(*lengths), ints(*labels)


@pytest.mark.parametrize("garbage", [0.0, 1e6, -3e38])
def test_what_stands_behind_a_row_changes_nothing(garbage):
    """Each row alone, cut to its size, against a batch with room; labels that are no
    symbols stand there too. Of any numbers that are finite."""
    x, said, *lengths = rows(0, (4, 2, 1, 3), (3, 1, 0, 2), 6, 5, 4)
    t, u = np.asarray(lengths[0]), np.asarray(lengths[1])
    inside = np.arange(6)[None, :, None] < t[:, None, None]
    inside = inside & (np.arange(6)[None, None] <= u[:, None, None])
    full = np.where(inside[..., None], x, np.float32(garbage))
    full[..., 1] = np.where(inside, full[..., 1], -full[..., 1])
    labels = np.where(np.arange(5)[None] < u[:, None], said, 77 if garbage else 0)
    labels[0, 3:] = -2
    loss, grad = map(np.asarray, with_gradient(full, labels, *lengths))
    assert not grad[~inside].any()
    for i in range(4):
        alone, of_alone = by_lattice(x[i, : t[i], : u[i] + 1], said[i, : u[i]])
        np.testing.assert_allclose(loss[i], alone, rtol=1e-6)
        np.testing.assert_allclose(
            grad[i, : t[i], : u[i] + 1], (i + 1) * of_alone, atol=3e-6
        )


def of_scores(frames: int, labels: int):
    """The loss of one row's scores and its gradients, of so many."""

    def cost(blank, label):
        return transducer_loss(blank, label, ints(frames), ints(labels))[0]

    return jax.jit(jax.value_and_grad(cost, (0, 1)))


def test_scores_that_are_no_numbers_behind_a_row_are_not_read():
    blank, label = np.full((1, 4, 4), np.nan), np.full((1, 4, 3), np.nan)
    rng = np.random.default_rng(0)
    blank[0, :3, :3], label[0, :3, :2] = -rng.random((3, 3)), -rng.random((3, 2))
    wanted = lattice(blank[0, :3, :3], label[0, :3, :2])
    loss, (of_blank, of_label) = of_scores(3, 2)(
        *(jnp.asarray(x, jnp.float32) for x in (blank, label))
    )
    np.testing.assert_allclose(loss, wanted[0], rtol=1e-6)
    np.testing.assert_allclose(of_blank[0, :3, :3], wanted[1], atol=1e-6)
    np.testing.assert_allclose(of_label[0, :3, :2], wanted[2], atol=1e-6)
    for found, real in ((of_blank, (3, 3)), (of_label, (3, 2))):
        rest = np.asarray(found[0]).copy()
        rest[: real[0], : real[1]] = 0
        assert not rest.any()


def test_filling_rows_cost_nothing_and_no_labels_cost_the_blanks():
    x, said, *_ = rows(1, (0, 0, 3, 3), (0, 2, 0, 2), 3, 2, 4)
    lengths = ints(0, 0, 3, 3), ints(0, 2, 0, 2)
    loss, grad = map(np.asarray, with_gradient(x, said, *lengths))
    assert loss[:2].tolist() == [0, 0]
    assert not grad[:2].any()
    blanks = log_softmax(np.asarray(x[2], np.float64))[:, 0, 0]
    np.testing.assert_allclose(loss[2], -blanks.sum(), rtol=1e-6)
    assert not grad[2, :, 1:].any()
    assert np.isfinite(grad).all()
    np.testing.assert_allclose(
        with_gradient(x[2:3, :, :1], said[:1, :0], ints(3), ints(0))[0], loss[2:3]
    )


def test_labels_that_cannot_be_said_have_a_finite_loss():
    """Their only way has no chance at all; with another way it is as if it were not
    there. A network whose numbers are none shows in the loss."""
    label = jnp.full((1, 2, 1), -jnp.inf)
    blank = jnp.full((1, 2, 2), -1.0)
    cost = of_scores(2, 1)
    loss, grads = cost(blank, label)
    assert np.isfinite(loss)
    assert loss > 1e29
    assert not any(np.asarray(g).any() for g in grads)
    loss, grads = cost(blank, label.at[0, 1].set(-2.0))
    np.testing.assert_allclose(loss, 4.0, rtol=1e-6)
    np.testing.assert_allclose(grads[1][0, :, 0], [0, -1], atol=1e-6)
    assert np.isnan(cost(blank.at[0, 0, 0].set(jnp.nan), label)[0])


def test_lengths_without_room_show_in_the_loss():
    x, said, *_ = rows(2, (1, 1, 1), (0, 0, 0), 3, 2, 4)
    loss, grad = with_gradient(x, said, ints(4, 3, 3), ints(1, 3, 2))
    assert np.isnan(loss).tolist() == [True, True, False]
    assert np.isfinite(grad).all()


def test_chances_of_frames_and_of_labels_alone_can_be_counted():
    """If the blank depends on t and the label on u: log C(T + U - 1, U) + all of it."""
    rng = np.random.default_rng(3)
    b, e = -rng.random((2, 5)), -rng.random((2, 3))
    blank = np.broadcast_to(b[:, :, None], (2, 5, 4)).astype(np.float32)
    label = np.broadcast_to(e[:, None], (2, 5, 3)).astype(np.float32)
    loss = transducer_loss(
        jnp.asarray(blank), jnp.asarray(label), ints(5, 5), ints(3, 3)
    )
    wanted = -(math.log(math.comb(7, 3)) + b.sum(1) + e.sum(1))
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)


def test_each_alignment_is_once_on_each_diagonal():
    """What the nodes of a diagonal get of the gradient adds up to -1: blanks from it
    and labels from it, for every n < T + U."""
    rng = np.random.default_rng(4)
    blank, label = -3 * rng.random((1, 7, 4)), -3 * rng.random((1, 7, 3))
    grads = jax.grad(lambda b, e: transducer_loss(b, e, ints(7), ints(3))[0], (0, 1))(
        jnp.asarray(blank, jnp.float32), jnp.asarray(label, jnp.float32)
    )
    total = np.zeros(10)
    for grad in grads:
        for _, t, u in np.ndindex(*grad.shape):
            total[t + u] += grad[0, t, u]
    np.testing.assert_allclose(total, -1, rtol=1e-5)


def test_large_lattices_are_as_exact_as_small_ones():
    """200 frames and 50 labels, a loss of hundreds, one row of less of it."""
    rng = np.random.default_rng(5)
    scores = log_softmax(3 * rng.normal(size=(2, 200, 51, 3)))
    blank, label = scores[..., 0], scores[:, :, :-1, 1]
    sizes = (200, 50), (150, 20)
    lengths = ints(200, 150), ints(50, 20)
    b, e = (jnp.asarray(x, jnp.float32) for x in (blank, label))

    @jax.jit
    def both(b, e):
        loss, pull = jax.vjp(lambda b, e: transducer_loss(b, e, *lengths), b, e)
        return loss, pull(jnp.ones(2))

    loss, grads = both(b, e)
    for i, (t, u) in enumerate(sizes):
        wanted = lattice(blank[i, :t, : u + 1], label[i, :t, :u])
        np.testing.assert_allclose(loss[i], wanted[0], rtol=1e-6)
        np.testing.assert_allclose(grads[0][i, :t, : u + 1], wanted[1], atol=2e-5)
        np.testing.assert_allclose(grads[1][i, :t, :u], wanted[2], atol=2e-5)
    assert all(np.isfinite(g).all() for g in grads)


def test_one_program_for_many_clients():
    batches = [rows(i, (4, 2), (i, 2), 4, 3, 5) for i in range(3)]
    each = [with_gradient(*batch) for batch in batches]
    stacked = [jnp.stack(x) for x in zip(*batches, strict=True)]
    found = jax.jit(jax.vmap(with_gradient))(*stacked)
    for a, b in zip(found, zip(*each, strict=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_widened(kind):
    """The loss is that of the rounded logits to the last digit, and the gradient is
    rounded once."""
    x, *rest = rows(6, (9, 5), (4, 2), 9, 4, 6)
    rounded = x.astype(kind)
    loss, grad = with_gradient(rounded, *rest)
    wide, of_wide = with_gradient(rounded.astype(jnp.float32), *rest)
    assert loss.dtype == jnp.float32
    np.testing.assert_array_equal(loss, wide)
    assert grad.dtype == kind
    np.testing.assert_array_equal(grad, of_wide.astype(kind))
    b, e = jnp.full((1, 3, 2), -1.0, kind), jnp.full((1, 3, 1), -2.0, kind)
    assert transducer_loss(b, e, ints(3), ints(1)).dtype == jnp.float32


def joint_of(params, predicted):
    """tanh(encoded + predicted) W, as a network has it."""

    def joint(encoded):
        both = encoded[:, :, None] + predicted[:, None]
        return jnp.tanh(both) @ params["w"] + params["b"][None, None, None]

    return joint


def test_blocks_of_frames_give_what_all_at_once_do():
    """Of seven frames; the parameters' gradients too."""
    rng = np.random.default_rng(7)

    def drawn(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = {"w": drawn(6, 5), "b": drawn(5)}
    encoded, predicted = drawn(3, 7, 6), drawn(3, 4, 6)
    labels = jnp.array([[1, 2, 3], [4, 4, 0], [1, 0, 0]])
    lengths = ints(7, 5, 2), ints(3, 2, 1)

    def cost(params, encoded, predicted, block):
        joint = joint_of(params, predicted)
        scores = scored_nodes(joint, encoded, labels, block=block)
        assert [x.shape for x in scores] == [(3, 7, 4), (3, 7, 3)]
        return jnp.sum(transducer_loss(*scores, *lengths))

    made = jax.jit(jax.value_and_grad(cost, (0, 1, 2)), static_argnums=3)
    whole = made(params, encoded, predicted, 0)
    loss = rnnt_loss(joint_of(params, predicted)(encoded), labels, *lengths)
    np.testing.assert_allclose(whole[0], np.sum(loss), rtol=1e-6)
    for block in (1, 3, 7, 50):
        found = made(params, encoded, predicted, block)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_shapes_that_do_not_belong_together():
    logits, labels = jnp.zeros((2, 4, 3, 5)), jnp.zeros((2, 2), jnp.int32)
    two = ints(4, 4), ints(2, 2)
    for x, y in ((logits, labels[:, :1]), (logits[0], labels), (logits[:1], labels)):
        with pytest.raises(InputError, match=r"logits .* do not have shapes"):
            rnnt_loss(x, y, *two)
    with pytest.raises(InputError, match="blank must be one of 5 symbols, not 5"):
        rnnt_loss(logits, labels, *two, blank=5)
    with pytest.raises(InputError, match="two lengths"):
        rnnt_loss(logits, labels, ints(4), ints(2, 2))
    with pytest.raises(InputError, match="do not have shapes"):
        transducer_loss(logits[..., 0], logits[..., 0], *two)
    with pytest.raises(InputError, match="block must be at least 0"):
        scored_nodes(lambda x: logits, logits[:, :, 0], labels, block=-1)
