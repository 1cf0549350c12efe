"""The consensus of Fed-ET: by hand, and what must not matter to it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.algorithms._fed_et import consensus

HAND = ((2.0, 0.0, 0.0), (0.0, 3.0, 0.0))


def of(*networks, ok=None, **options):
    """The consensus on one row, as numpy."""
    logits = jnp.asarray(networks, jnp.float32)[:, None]
    ok = jnp.asarray([True] * len(networks) if ok is None else ok)
    found = consensus(logits, ok, **options)
    return int(found.label[0]), np.asarray(found.dissent[0]), bool(found.differs[0])


def test_two_networks_by_hand():
    """Variances 8/9 and 2, so a = (4/13, 9/13) and s = (8/13, 27/13, 0)."""
    label, dissent, differs = of(*HAND)
    assert label == 1
    assert differs
    np.testing.assert_allclose(dissent, HAND[0])


def test_weights_decide():
    """(4, 0, 0) twice against (0, 7, 0): 2 · 32/9 · 4 = 28.4 lose against 98/9 · 7."""
    networks = (4.0, 0.0, 0.0), (4.0, 0.0, 0.0), (0.0, 7.0, 0.0)
    assert of(*networks)[0] == 1
    assert of(*networks, weights="uniform")[0] == 0


def test_the_other_opinion_is_weighted_among_those_who_have_it():
    """Weights c² for c (1, 0, 0): 1 and 4 give (1 · 1 + 4 · 2) / 5."""
    label, dissent, _ = of((1.0, 0.0, 0.0), (2.0, 0.0, 0.0), (0.0, 9.0, 0.0))
    assert label == 1
    np.testing.assert_allclose(dissent, (9 / 5, 0, 0), rtol=1e-6)


def test_one_network_agrees_with_itself():
    label, dissent, differs = of((0.0, 1.0, 5.0))
    assert label == 2
    assert not differs
    assert not dissent.any()


def test_who_agrees_does_not_count_among_the_others():
    alone = of(*HAND)
    agreeing = of(*HAND, (0.0, 50.0, 0.0))
    np.testing.assert_allclose(agreeing[1], alone[1])


def test_a_constant_added_to_logits_moves_no_weight():
    """s moves by a constant, so the label stays."""
    moved = (HAND[0][0] + 7, 7.0, 7.0), HAND[1]
    assert of(*moved)[0] == of(*HAND)[0]


@pytest.mark.parametrize("factor", [1.5, 4.0])
def test_weights_rise_by_the_square(factor):
    """z and -c z: a = (1, c²) / (1 + c²), so s = z (1 - c³) / (1 + c²): c z wins."""
    z = np.array((1.0, 0.2, -1.2))
    label, dissent, _ = of(z, -factor * z)
    assert label == 2
    np.testing.assert_allclose(dissent, z, rtol=1e-6)


def test_networks_that_prefer_nothing_have_no_weight():
    label, _, differs = of((3.0, 3.0, 3.0), (0.0, 0.0, 0.1))
    assert label == 2
    assert differs  # the first says class 0


def test_nobody_prefers_anything():
    label, dissent, _ = of((3.0, 3.0, 3.0), (5.0, 5.0, 5.0))
    assert label == 0
    assert np.isfinite(dissent).all()


def test_who_does_not_count_is_as_if_absent():
    absent = of(*HAND, (0.0, 0.0, 99.0), ok=(True, True, False))
    for found, wanted in zip(absent, of(*HAND), strict=True):
        np.testing.assert_allclose(found, wanted)


def test_the_order_does_not_matter():
    networks = (*HAND, (0.0, 0.3, 0.9), (1.0, 1.1, 0.0))
    for found, wanted in zip(of(*networks[::-1]), of(*networks), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
