"""Strom, Dryden, Gradient Dropping, AdaComp, STC: by hand and against plain numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sent import gaussian, rounds

from fedjax_compress import compress
from fedjax_compress.compress.sparse_fields import strided
from fedjax_compress.errors import InputError


def on_grid(*shape, seed=0):
    """Multiples of 1 / 64 below 4 in magnitude: their sums are exact."""
    whole = np.random.default_rng(seed).integers(-255, 256, shape)
    return (whole / 64).astype(np.float32)


STATEFUL = [
    "strom(0.5)",
    "dryden(0.1)",
    "gradient_dropping(0.8, sample=1)",
    "adacomp(bin=7)",
]


@pytest.mark.parametrize("text", STATEFUL)
def test_what_is_not_sent_waits(text):
    """C_t + e_t = x_t + e_(t-1) in each of 50 rounds, and the sums over all of them."""
    updates = gaussian(50, 61)
    before, sent = np.zeros(61), np.zeros(61)
    for x, (decoded, residual, _) in zip(updates, rounds(text, updates), strict=True):
        total = decoded.astype(np.float64) + residual
        np.testing.assert_allclose(total, x + before, rtol=1e-6, atol=1e-5)
        before, sent = residual.astype(np.float64), sent + decoded
    np.testing.assert_allclose(sent + before, updates.sum(axis=0), atol=1e-4)
    assert np.any(sent != 0)
    assert np.any(before != 0)


@pytest.mark.parametrize("text", ["strom(0.5)", "gradient_dropping(0.8, sample=1)"])
def test_sums_are_exact_where_additions_are(text):
    updates = on_grid(50, 61)
    found = list(rounds(text, updates))
    sent = np.sum([f[0] for f in found], axis=0)
    np.testing.assert_array_equal(sent + found[-1][1], updates.sum(axis=0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("text", ["strom(3e-5)", *STATEFUL[1:]])
def test_residuals_know_what_rounding_to_16_bits_loses(text, dtype):
    """Also below 6e-5, where float16 has no normal numbers."""
    updates = [jnp.asarray(x, dtype) for x in 3e-5 * gaussian(4, 61)]
    before = np.zeros(61, np.float32)
    for x, (decoded, residual, _) in zip(updates, rounds(text, updates), strict=True):
        assert decoded.dtype == dtype
        due = before + np.asarray(x, np.float32)
        np.testing.assert_array_equal(residual, due - np.asarray(decoded, np.float32))
        assert np.any(decoded != 0)
        before = residual


@pytest.mark.parametrize(
    "text", [*STATEFUL, "dgc(0.9)", "dgc(0.0)", "stc(0.5)", "strom(0.5, indices=fixed)"]
)
def test_zeros_are_never_sent(text):
    """Also -0.0; the message holds a count of 61 elements, 6 bits, and scales."""
    scales = {"strom": 32, "dryden": 64, "adacomp": 32, "stc": 32}
    for zero in (0.0, -0.0):
        [(decoded, _, bits)] = rounds(text, [np.full(61, zero, np.float32)])
        np.testing.assert_array_equal(decoded, 0)
        assert bits == 6 + scales.get(text.split("(")[0], 0)


# strom


def test_strom_by_hand():
    """One threshold a round, and what is left is kept."""
    updates = np.array([[0.5, 1.0, 1.5, -3.0], [0] * 4, [0] * 4], np.float32)
    first, second, third = rounds("strom(1.0)", updates)
    np.testing.assert_array_equal(first[0], [0, 0, 1, -1])
    np.testing.assert_array_equal(first[1], [0.5, 1, 0.5, -2])
    np.testing.assert_array_equal(second[0], [0, 0, 0, -1])
    np.testing.assert_array_equal(third[0], [0, 0, 0, 0])
    np.testing.assert_array_equal(third[1], [0.5, 1, 0.5, -1])
    # A count below 5 in 3 bits, the threshold, a word for each element sent.
    assert [r[2] for r in (first, second, third)] == [
        3 + 32 + 32 * k for k in (2, 1, 0)
    ]


def test_strom_keeps_residuals_below_the_threshold_if_updates_are():
    updates = np.clip(gaussian(50, 200), -0.7, 0.7)
    for decoded, residual, _ in rounds("strom(0.7)", updates):
        assert set(np.unique(decoded)) <= {np.float32(-0.7), 0, np.float32(0.7)}
        assert np.abs(residual).max() <= np.float32(0.7) * (1 + 1e-6)


def test_strom_sends_no_more_at_a_larger_threshold():
    x = gaussian(500)
    sent = [
        np.count_nonzero(next(rounds(f"strom({tau})", [x]))[0])
        for tau in (0.01, 0.3, 1.0, 2.0, 9.0)
    ]
    assert sent == [int((np.abs(x) > t).sum()) for t in (0.01, 0.3, 1.0, 2.0, 9.0)]
    assert sent == sorted(sent, reverse=True)
    assert sent[-1] == 0


# dryden


def dryden_in_numpy(updates, fraction):
    e = np.zeros(updates.shape[1], np.float32)
    for x in updates:
        p = e + x
        out = np.zeros_like(p)
        for sign in (1, -1):
            own = np.flatnonzero(sign * p > 0)
            k = int(np.ceil(fraction * own.size - 1e-6))
            top = own[np.argsort(-np.abs(p[own]), kind="stable")[:k]]
            if k:
                out[top] = p[top].astype(np.float64).mean()
        e = p - out
        yield out, e


def test_dryden_by_hand():
    """Two of four positive elements, two of three negative ones."""
    x = np.array([4, 1, 2, -1, -8, 0, -3, 3], np.float32)
    [(decoded, residual, bits)] = rounds("dryden(0.5)", [x])
    np.testing.assert_array_equal(decoded, [3.5, 0, 0, 0, -5.5, 0, -5.5, 3.5])
    np.testing.assert_array_equal(residual, x - decoded)
    assert bits == 4 + 4 * (3 + 1) + 64  # the formula sheet's k (1 + log2 n) + 2 F + k


@pytest.mark.parametrize("fraction", [0.04, 0.5, 1.0])
def test_dryden_equals_plain_numpy(fraction):
    updates = gaussian(10, 101)
    found = rounds(f"dryden({fraction})", updates)
    for ours, theirs in zip(found, dryden_in_numpy(updates, fraction), strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5, atol=1e-5)


def test_dryden_keeps_the_sum_of_what_is_sent():
    x = gaussian(1000)
    [(decoded, residual, _)] = rounds("dryden(0.1)", [x])
    for sign in (1, -1):
        sent = sign * decoded > 0
        assert sent.sum() == np.ceil(0.1 * (sign * x > 0).sum())
        assert (sign * x[sent]).min() >= (sign * x[~sent]).max()
        assert abs(residual[sent].sum()) < 1e-4


def test_dryden_counts_without_float_error():
    """0.15 of 100 is 15, though it is 15.000001 in float32."""
    x = np.abs(gaussian(100)) + 1
    [(decoded, _, _)] = rounds("dryden(0.15)", [x])
    assert np.count_nonzero(decoded) == 15


def test_dryden_of_everything_is_one_bit():
    x = gaussian(300)
    [(decoded, _, _)] = rounds("dryden(1.0)", [x])
    expected = np.where(x > 0, x[x > 0].mean(), x[x < 0].mean())
    np.testing.assert_allclose(decoded, expected, rtol=1e-5)


def test_dryden_of_one_sign():
    [(decoded, _, _)] = rounds("dryden(0.5)", [-np.array([1, 3, 2, 5], np.float32)])
    np.testing.assert_array_equal(decoded, [0, -4, 0, -4])


def test_samples_are_every_sth_element():
    x = jnp.arange(1003)
    some = np.asarray(strided(x, 0.1, 5, jax.random.key(3)))
    assert some.size == 100
    assert set(np.diff(some)) == {10}
    starts = {int(strided(x, 0.1, 5, jax.random.key(s))[0]) for s in range(60)}
    assert starts <= set(range(10))
    assert len(starts) > 5
    assert strided(x, 0.1, 500, jax.random.key(3)).size == 501
    for share, least in ((1.0, 1), (0.1, 600), (0.7, 1)):
        assert strided(x, share, least, jax.random.key(3)).size == 1003


# adacomp


def adacomp_in_numpy(updates, length):
    r = np.zeros(updates.shape[1], np.float32)
    for x in updates:
        g = r + x
        h = r + 2 * x
        bins = [slice(s, s + length) for s in range(0, g.size, length)]
        maxima = [np.abs(g[b]).max() for b in bins]
        scale = np.mean(maxima, dtype=np.float64)
        out = np.zeros_like(g)
        for b, top in zip(bins, maxima, strict=True):
            if top > 0:
                out[b] = np.where(np.abs(h[b]) >= top, np.sign(g[b]) * scale, 0)
        r = g - out
        yield out, r


def test_adacomp_by_hand():
    """Bins of three, one without anything, the last of one; from no residual on."""
    x = np.array([1, -4, 2, 0.5, 0.1, 0, 0, 0, 0, 3], np.float32)
    [(decoded, residual, _)] = rounds("adacomp(bin=3)", [x])
    s = (4 + 0.5 + 0 + 3) / 4
    np.testing.assert_array_equal(decoded, [0, -s, s, s, 0, 0, 0, 0, 0, s])
    np.testing.assert_array_equal(residual, x - decoded)


@pytest.mark.parametrize("length", [1, 7, 50, 1000])
def test_adacomp_equals_plain_numpy(length):
    updates = on_grid(12, 103)
    found = rounds(f"adacomp(bin={length})", updates)
    for ours, theirs in zip(found, adacomp_in_numpy(updates, length), strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5, atol=1e-4)


def test_adacomp_sends_all_in_bins_of_one():
    x = gaussian(40)
    [(decoded, _, _)] = rounds("adacomp(bin=1)", [x])
    np.testing.assert_allclose(decoded, np.sign(x) * np.abs(x).mean(), rtol=1e-5)


# stc


def test_stc_by_hand():
    """Three of seven, the first of equals; then fewer than three that are not zero."""
    x = np.array([1, -4, 2, 0, 6, -2, 1], np.float32)
    [(decoded, _, bits)] = rounds("stc(0.4, indices=fixed)", [x])
    np.testing.assert_array_equal(decoded, [0, -4, 4, 0, 4, 0, 0])
    assert bits == 3 + 3 * (3 + 1) + 32
    [(decoded, _, _)] = rounds("stc(0.4)", [np.array([0, 0, -3, 0, 5, 0, 0], "f4")])
    np.testing.assert_array_equal(decoded, [0, 0, -4, 0, 4, 0, 0])


def test_stc_claims_what_the_worst_vectors_keep():
    """One element A, all others 1: the family that the bound is derived from."""
    n = 10
    for fraction in (0.1, 0.3, 1.0):
        stage = compress.stc(fraction)
        k = round(fraction * n)
        assert stage.claims.alpha(n) == min(k / n, 1 / k)
        kept = []
        for large in (1.0, 2.0, 1e4):
            x = np.ones(n, np.float32)
            x[3] = -large
            [(decoded, _, _)] = rounds(f"stc({fraction})", [x])
            kept.append(1 - np.sum((decoded - x) ** 2) / np.sum(x**2))
        assert min(kept) >= stage.claims.alpha(n) - 1e-5
        assert abs(kept[0] - k / n) < 1e-6
        assert abs(kept[-1] - 1 / k) < 2e-3


def test_stc_with_error_feedback_is_the_papers_client():
    updates = gaussian(20, 50)
    e = np.zeros(50, np.float32)
    text = "error_feedback(stc(0.1))"
    for x, (decoded, residual, _) in zip(updates, rounds(text, updates), strict=True):
        p = e + x
        top = np.argsort(-np.abs(p), kind="stable")[:5]
        out = np.zeros_like(p)
        out[top] = np.sign(p[top]) * np.abs(p[top]).mean()
        np.testing.assert_allclose(decoded, out, rtol=1e-5)
        np.testing.assert_allclose(residual, p - out, rtol=1e-5, atol=1e-6)
        e = residual


# options


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("strom", {"threshold": 0.0}, "threshold must be above 0"),
        ("strom", {"threshold": float("nan")}, "threshold must be above 0"),
        ("strom", {"threshold": float("inf")}, "threshold must be above 0"),
        ("dryden", {"fraction": 0.0}, "fraction must be above 0"),
        ("stc", {"fraction": 1.5}, "fraction must be above 0"),
        ("gradient_dropping", {"rate": 1.0}, "rate must be 0 to below 1"),
        ("gradient_dropping", {"sample": 0.0}, "sample must be above 0"),
        ("adacomp", {"bin": 0}, "bin must be at least 1"),
        ("adacomp", {"factor": 0.5}, "factor must be at least 1"),
        ("dgc", {"sparsity": 1.0}, "sparsity must be 0 to below 1"),
        ("dgc", {"momentum": 1.0}, "momentum must be 0 to below 1"),
        ("dgc", {"clip": -1.0}, "clip must be at least 0"),
        ("dgc", {"sample": 2.0}, "sample must be above 0"),
    ],
)
def test_options_out_of_range(name, options, reason):
    with pytest.raises(InputError, match=reason):
        getattr(compress, name)(**options)
