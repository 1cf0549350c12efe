"""Values of the transducer loss that others have published or that can be counted."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from transducers import by_lattice, ints, one_by_one, slopes, with_gradient


def test_uniform_chances_cost_what_can_be_counted():
    """G1: (T + U) log V - log C(T + U - 1, U), of 2, 4 and 3 symbols."""
    symbols = jnp.array([2, 4, 3])[:, None] > jnp.arange(4)[None]
    logits = jnp.where(symbols, 3.0, -1e9)[:, None, None]
    logits = jnp.broadcast_to(logits, (3, 5, 5, 4))
    labels = jnp.ones((3, 4), jnp.int32)
    loss, _ = with_gradient(logits, labels, ints(2, 3, 5), ints(1, 2, 4))
    np.testing.assert_allclose(loss, [1.386294361, 5.139712336, 5.639015356], rtol=1e-6)
    assert loss.dtype == jnp.float32


def by_hand(chances) -> tuple:
    """Logits of two symbols, blank and 1, with this chance of the blank at a node."""
    p = np.asarray(chances)
    return jnp.asarray(np.log(np.stack([p, 1 - p], -1))[None], jnp.float32)


def test_alignments_by_hand():
    """G2: .4 x .7 x .8 + .6 x .5 x .8 = .464; and G3, with one label more: three
    alignments, .1344 together."""
    both = by_hand([[0.6, 0.7, 0.9], [0.5, 0.8, 0.6]])
    labels = jnp.array([[1, 1]] * 2)
    loss, grad = with_gradient(
        jnp.concatenate([both, both]), labels, ints(2, 2), ints(1, 2)
    )
    np.testing.assert_allclose(loss, [0.767870727, 2.006934851], rtol=1e-6)
    wanted = np.array([[0.08275862, -0.14482759], [0.25862069, -0.2]])
    np.testing.assert_allclose(grad[0, :, :2, 0], wanted, atol=1e-6)
    np.testing.assert_allclose(grad[0, :, :2, 1], -wanted, atol=1e-6)
    assert not grad[0, :, 2].any()


def g4() -> np.ndarray:
    """Logits of the smallest test of warp-transducer (HawkAaron) and torchaudio."""
    logits = np.full((2, 3, 5), 0.1, np.float32)
    logits[0, 0, 1] = logits[0, 1, 2] = logits[1, 0, 1] = 0.6
    logits[0, 2, 2:4] = 0.2, 0.8
    logits[1, 1, 2] = logits[1, 2, 2] = 0.2
    logits[1, 2, 0] = 0.7
    return logits[None]


def test_what_other_implementations_give_with_the_blank_first_or_last():
    """G4: warp-transducer with blank 0; torchaudio with the last, gradients too."""
    labels, lengths = jnp.array([[1, 2]]), (ints(2), ints(2))
    first, _ = with_gradient(g4(), labels, *lengths)
    np.testing.assert_allclose(first, [4.495666], atol=1e-6)
    loss, grad = with_gradient(g4(), labels, *lengths, 4)
    np.testing.assert_allclose(loss, [5.09566688538], rtol=1e-6)
    wanted = """
    .17703132 -.39992708 .17703132 .17703132 -.13116692 .12247062 .12247062 -.181684
    .12247062 -.1857276 .06269141 .06269141 .06928471 .12624498 -.32091248 .05456069
    -.2182428 .05456069 .05456069 .05456069 .12073967 .12073967 -.48295838 .12073967
    .12073967 .30741188 .16871123 .18645471 .16871123 -.83128875"""
    np.testing.assert_allclose(
        grad.reshape(-1), np.array(wanted.split(), float), atol=1e-6
    )


def test_two_rows_of_torchaudio():
    """G5, from pytorch/audio, test/torchaudio_unittest/rnnt/utils.py."""
    logits = """
    .065357 .787530 .081592 .529716 .750675 .754135 .609764 .868140 .622532 .668522
    .858039 .164539 .989780 .944298 .603168 .946783 .666203 .286882 .094184 .366674
    .736168 .166680 .714154 .399400 .535982 .291821 .612642 .324241 .800764 .524106
    .779195 .183314 .113745 .240222 .339470 .134160 .505562 .051597 .640290 .430733
    .829473 .177467 .320700 .042883 .302803 .675178 .569537 .558474 .083132 .060165
    .107958 .748615 .943918 .486356 .418199 .652408 .024243 .134582 .366342 .295830
    .923670 .689929 .741898 .250005 .603430 .987289 .592606 .884672 .543450 .660770
    .377128 .358021"""
    wanted = """
    -.186844 -.062555 .249399 -.203377 .202399 .000977 -.141016 .079123 .061893 -.011552
    -.081280 .092832 -.154257 .229433 -.075176 -.246593 .146405 .100188 -.012918
    -.061593 .074512 -.055986 .219831 -.163845 -.497627 .209240 .288387 .013605 -.030220
    .016615 .113925 .062781 -.176706 -.667078 .367659 .299419 -.356344 -.055347 .411691
    -.096922 .029459 .067463 -.063518 .027654 .035863 -.154499 -.073942 .228441 -.166790
    -.000088 .166878 -.172370 .105565 .066804 .023875 -.118256 .094381 -.104707 -.108934
    .213642 -.369844 .180118 .189726 .025714 -.079462 .053748 .122328 -.238789 .116460
    -.598687 .302203 .296484"""
    x = jnp.asarray(np.array(logits.split(), np.float32).reshape(2, 4, 3, 3))
    labels, lengths = jnp.array([[1, 2], [1, 1]]), (ints(4, 4), ints(2, 2))
    loss, grad = with_gradient(x, labels, *lengths)
    np.testing.assert_allclose(
        loss, [4.2806528590890736, 3.9384369822503591], rtol=1e-6
    )
    grad = grad / jnp.array([1.0, 2.0])[:, None, None, None]
    np.testing.assert_allclose(
        grad.reshape(-1), np.array(wanted.split(), float), atol=2e-6
    )


SIZES = [(1, 0), (1, 3), (2, 1), (3, 2), (4, 3), (5, 4), (6, 0)]


@pytest.mark.parametrize("blank", [0, 4])
def test_the_sum_over_all_alignments_and_its_slopes(blank):
    """Rows of one frame and of no labels are among them."""
    rng = np.random.default_rng(blank)
    logits = 2 * rng.normal(size=(len(SIZES), 6, 5, 5))
    labels = rng.choice([k for k in range(5) if k != blank], (len(SIZES), 4))
    lengths = [ints(*n) for n in zip(*SIZES, strict=True)]
    x, said = jnp.asarray(logits, jnp.float32), jnp.asarray(labels, jnp.int32)
    loss, grad = with_gradient(x, said, *lengths, blank)
    for i, (t, u) in enumerate(SIZES):
        row, its = logits[i, :t, : u + 1], labels[i, :u]

        def cost(x, its=its):
            return one_by_one(x, its, blank)

        np.testing.assert_allclose(loss[i], cost(row), rtol=1e-6)
        of_row = grad[i, :t, : u + 1] / (i + 1)
        np.testing.assert_allclose(of_row, slopes(cost, row), atol=3e-6)
        total, exact = by_lattice(row, its, blank)  # on which other tests rely
        np.testing.assert_allclose(total, cost(row), rtol=1e-12)
        np.testing.assert_allclose(slopes(cost, row), exact, atol=1e-8)
    np.testing.assert_allclose(np.sum(grad, -1), 0, atol=1e-5)
    moved = x + jnp.asarray(rng.normal(size=x.shape[:3]), jnp.float32)[..., None]
    again = with_gradient(moved, said, *lengths, blank)
    np.testing.assert_allclose(again[0], loss, rtol=1e-5)
    np.testing.assert_allclose(again[1], grad, atol=1e-5)
