"""Deep Gradient Compression: identities, plain numpy, sampled thresholds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.typing import Keys


def rounds(stage, updates):
    """(decoded, u, v, bits) of each round, as numpy."""
    state = stage.init(jax.ShapeDtypeStruct(updates[0].shape, jnp.float32))

    def one(x, state, keys):
        _, side, state = stage.encode(x, state, keys)
        return stage.decode(None, side, keys.shared), state, wire.bits(side)

    one = jax.jit(one)
    for t, x in enumerate(updates):
        keys = Keys(jax.random.key(t), jax.random.key(1000 + t))
        decoded, state, bits = one(x, state, keys)
        u, v = np.asarray(state["momentum"]), np.asarray(state["due"])
        yield np.asarray(decoded), u, v, int(bits)


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("masking", [False, True])
def test_equals_plain_numpy(nesterov, masking):
    """The paper's algorithm with the exact threshold, 12 rounds of 3 in 61 elements."""
    updates, m = gaussian(12, 61), np.float32(0.75)
    u, v = np.zeros((2, 61), np.float32)
    stage = compress.dgc(0.96, 0.75, masking, nesterov=nesterov)
    for x, found in zip(updates, rounds(stage, updates), strict=True):
        if nesterov:
            u = m * (u + x)
            v = v + u + x
        else:
            u = m * u + x
            v = v + u
        top = np.argsort(-np.abs(v), kind="stable")[:3]
        sent = np.zeros_like(v)
        sent[top] = v[top]
        v[top] = 0
        if masking:
            u[top] = 0
        for ours, theirs in zip(found, (sent, u, v), strict=False):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        assert np.count_nonzero(found[0]) == 3
        assert not np.any((found[0] != 0) & (found[2] != 0))


def test_everything_sent_without_masking_is_sgd_with_momentum():
    updates = gaussian(8, 30)
    velocity = np.zeros(30, np.float32)
    for x, (decoded, _, v, _) in zip(
        updates, rounds(compress.dgc(0.0, 0.5, masking=False), updates), strict=True
    ):
        velocity = np.float32(0.5) * velocity + x
        np.testing.assert_allclose(decoded, velocity, rtol=1e-6, atol=1e-7)
        assert not v.any()


def test_everything_sent_with_masking_is_plain_sgd():
    updates = gaussian(8, 30)
    found = rounds(compress.dgc(0.0, 0.5), updates)
    for x, (decoded, u, v, _) in zip(updates, found, strict=True):
        np.testing.assert_array_equal(decoded, x)
        assert not u.any()
        assert not v.any()


def test_what_is_not_sent_waits():
    """Without momentum the sums agree exactly: updates are multiples of 1 / 64."""
    updates = np.round(64 * np.clip(gaussian(50, 61), -3, 3)) / 64
    found = list(rounds(compress.dgc(0.9, 0.0), updates.astype(np.float32)))
    sent = np.sum([f[0] for f in found], axis=0)
    np.testing.assert_array_equal(sent + found[-1][2], updates.sum(axis=0))


def test_bits_of_the_paper():
    """Runs of 16 bits and values of 32; the count in front."""
    [(*_, bits)] = rounds(compress.dgc(0.99, indices="runs"), [gaussian(1000)])
    assert bits == 10 + 10 * 48


@pytest.mark.parametrize("seed", range(3))
def test_a_sampled_threshold_sends_the_largest_and_never_too_many(seed):
    """From 2000 of 20 000: at most 2000 sent, and more than half of it.

    The share above the sample's threshold is beta distributed around 0.1 with deviation
    0.0067; below 0.05 it has a probability under 1e-12.
    """
    x = gaussian(20_000, seed=seed)
    [(decoded, *_)] = rounds(compress.dgc(0.9, sample=0.1), [x])
    sent = decoded != 0
    assert 1000 < sent.sum() <= 2000
    assert np.abs(x[sent]).min() >= np.abs(x[~sent]).max()
    np.testing.assert_array_equal(decoded[sent], x[sent])


def test_the_full_sample_is_the_exact_threshold():
    x = gaussian(20_000)
    [(decoded, *_)] = rounds(compress.dgc(0.9, sample=1.0), [x])
    top = np.argsort(-np.abs(x), kind="stable")[:2000]
    assert set(np.flatnonzero(decoded)) == set(top)


def test_a_sample_that_misses_the_large_elements_does_not_flood():
    """All but every tenth element are large; one of ten starts sees the others."""
    x = np.where(np.arange(20_000) % 10 == 0, 1e-3, 1.0) * (1 + gaussian(20_000) / 10)
    x = x.astype(np.float32)
    stage = compress.dgc(0.9, sample=0.1)
    run = jax.jit(lambda x, s, c: stage.encode(x, s, c)[1])
    state = stage.init(jax.ShapeDtypeStruct(x.shape, x.dtype))
    counts = set()
    for t in range(40):
        keys = Keys(jax.random.key(t), jax.random.key(0))
        counts.add(np.count_nonzero(run(x, state, keys)["values"].symbols))
    assert max(counts) == 2000
    assert len(counts) > 3


def test_clipping_by_hand():
    """A norm of 5 to one of 1; a smaller one stays; 1e30 does not overflow."""
    for x, limit, expected in [
        ([3.0, 4.0], 1.0, [0.6, 0.8]),
        ([3.0, 4.0], 6.0, [3.0, 4.0]),
        ([-3e30, 4e30], 10.0, [-6.0, 8.0]),
        ([0.0, 0.0], 1.0, [0.0, 0.0]),
    ]:
        stage = compress.dgc(0.0, clip=limit)
        [(decoded, *_)] = rounds(stage, [np.array(x, np.float32)])
        np.testing.assert_allclose(decoded, expected, rtol=1e-6)
