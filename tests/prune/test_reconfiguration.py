"""PruneFL's reconfiguration against its pseudo-code: a heap over sorted layers.

Numbers are small whole ones and times are powers of two, so that every sum, and every
ratio of a candidate, is exact. The quotient of the sums is compared in Python as a
fraction; no two fractions of these sizes are close enough for float32 to mistake them.
"""

from __future__ import annotations

import functools
import heapq
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_compress import prune
from fedjax_compress.errors import InputError
from fedjax_compress.prune import TimeModel

SIZES = (6, 11, 8)
TIMES = TimeModel(4.0, 0.25, (0.0, 0.75, 0.25))
NAMES = ("a", "b", "c")
RUN = jax.jit(functools.partial(prune.reconfigure, times=TIMES))


def with_heap(weights, masks, squares, free, share, most=None):
    """The pseudo-code, layer by layer and candidate by candidate."""
    times = [Fraction(t) for t in TIMES.times]
    num, den = Fraction(free), Fraction(TIMES.constant)
    new, candidates = [], []
    for w, m, g, t in zip(weights, masks, squares, times, strict=True):
        used = np.flatnonzero(m)
        # Sorted, at index int(share n), counted from 0; beyond the end all may go.
        threshold = np.append(np.sort(np.abs(w[used])), np.inf)[int(share * len(used))]
        keep = [j for j in used if abs(w[j]) >= threshold]
        num += sum(int(g[j]) for j in keep)
        den += t * len(keep)
        rest = sorted(set(range(len(w))) - set(keep), key=lambda j: -g[j])
        candidates.append(rest)
        new.append(np.isin(np.arange(len(w)), keep))
    heap = []

    def push(layer):
        if candidates[layer]:
            j = candidates[layer].pop(0)
            entry = (-int(squares[layer][j]) / times[layer], layer, j)
            heapq.heappush(heap, entry)

    for layer in range(len(weights)):
        push(layer)
    total = sum(n.sum() for n in new)
    while heap and -heap[0][0] > num / den and (most is None or total < most):
        _, layer, j = heapq.heappop(heap)
        num += int(squares[layer][j])
        den += times[layer]
        new[layer][j] = True
        total += 1
        push(layer)
    return new


def drawn(seed, largest):
    """Weights with ties, masks, squared gradients and their sum over the biases."""
    rng = np.random.default_rng(seed)
    weights = [rng.integers(-4, 5, n) for n in SIZES]
    masks = [rng.random(n) < rng.random() for n in SIZES]
    squares = [rng.integers(0, largest, n) for n in SIZES]
    return weights, masks, squares, rng.integers(0, 3 * largest)


def run(weights, masks, squares, free, share, **options):
    def tree(leaves, bias):
        layers = {
            n: {"kernel": x.reshape(1, -1), "bias": b}
            for n, x, b in zip(NAMES, leaves, bias, strict=True)
        }
        return layers

    none = np.zeros(2, np.float32)
    biases = [none, np.float32([free // 2, free - free // 2]), none]
    found = RUN(
        tree([w.astype(np.float32) for w in weights], [none] * 3),
        tree(masks, [None] * 3),
        tree([g.astype(np.float32) for g in squares], biases),
        removable_share=np.float32(share),
        **options,
    )
    assert found["b"]["bias"] is None
    return [np.asarray(found[n]["kernel"])[0] for n in NAMES]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 5, 40, 300]),
    st.sampled_from([0, 0.25, 0.5, 0.75, 1]),
)
def test_equals_the_heap(seed, largest, share):
    given = drawn(seed, largest)
    expected = with_heap(*given, share)
    for one, other in zip(run(*given, share), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 0.5, 1]),
    st.integers(0, sum(SIZES)),
)
def test_the_limit_stops_the_heap(seed, share, most):
    """Squares are odd and distinct, over times 1/4, 1, 1/2: no ratios are equal."""
    weights, masks, squares, free = drawn(seed, 40)
    order = np.random.default_rng(seed).permutation(sum(SIZES)) * 2 + 1
    squares = np.split(order, np.cumsum(SIZES)[:-1])
    expected = with_heap(weights, masks, squares, free, share, most)
    density = np.float32((most + 0.5) / sum(SIZES))
    found = run(weights, masks, squares, free, share, max_density=density)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def by_hand(w, mask, squares, free, share, **options):
    """One layer with c = t = 1, and a free leaf with its squared gradient."""
    found = ONE_LAYER(
        {"w": np.float32([w]), "z": np.float32([0])},
        {"w": np.array([mask], bool), "z": None},
        {"w": np.float32([squares]), "z": np.float32([free])},
        removable_share=share,
        **options,
    )
    return found["w"][0].astype(int).tolist()


ONE_LAYER = jax.jit(
    functools.partial(prune.reconfigure, times=TimeModel(1.0, 0.5, (0.5,))),
    static_argnames=("removable_share", "max_density"),
)


def test_half_of_four_may_go():
    """|w| sorted at index 2, counted from 0, is 3: two are protected, two may go."""
    assert by_hand([1, 2, 3, 4], [1] * 4, [0] * 4, 0, 0.5) == [0, 0, 1, 1]


def test_a_share_written_in_decimals_is_not_one_short():
    """0.7 of ten are seven, though float32's 0.7 is a little less."""
    w = np.arange(1, 11)
    assert sum(by_hand(w, [1] * 10, [0] * 10, 0, 0.7)) == 3
    # All pay, 8 k / (1 + k) < 8, and the first are taken.
    limited = by_hand(w, [1] * 10, [8] * 10, 0, 1.0, max_density=0.7)
    assert limited == [1] * 7 + [0] * 3


def test_by_hand():
    """Of the kept |w| = 1, 2, 3, 4 half may go: 1 and 2. Squares 8 and 2, then 7, 4."""
    given = ([1, -2, 3, -4, 9, 9], [1] * 4 + [0] * 2, [8, 2, 0, 0, 7, 4])
    # Protected: two of gain 0, so 6 / 3; 8 enters: 14 / 4; 7: 21 / 5; 4 and 2 do not.
    assert by_hand(*given, 6, 0.5) == [1, 0, 1, 1, 1, 0]
    # With less for the free, 0 / 3; 8: 8 / 4; 7: 15 / 5; 4: 19 / 6; 2 does not.
    assert by_hand(*given, 0, 0.5) == [1, 0, 1, 1, 1, 1]
    limited = by_hand(*given, 0, 0.5, max_density=0.7)
    assert limited == [1, 0, 1, 1, 1, 0]
    # With 30 for the free, 30 / 3, which nothing exceeds.
    assert by_hand(*given, 30, 0.5) == [0, 0, 1, 1, 0, 0]
    # Of one, floor(1 / 2) may go, none.
    assert by_hand([1, 9], [1, 0], [0, 0], 30, 0.5) == [1, 0]


def test_maps_over_shares():
    weights, masks, squares, free = drawn(3, 40)
    params = {"w": np.float32(np.concatenate(weights))[None], "z": np.float32([0])}
    gains = {"w": np.float32(np.concatenate(squares))[None], "z": np.float32([free])}
    mask = {"w": np.concatenate(masks)[None], "z": None}
    model = TimeModel(4.0, 0.25, (0.25,))

    def new(share):
        return prune.reconfigure(params, mask, gains, model, share)["w"]

    shares = np.float32([0, 0.5, 1])
    together = jax.jit(jax.vmap(new))(shares)
    one = jax.jit(new)
    np.testing.assert_array_equal(together, [one(s) for s in shares])


def test_needs_a_time_for_each_masked_leaf():
    leaf = np.ones((1, 2), np.float32)
    with pytest.raises(InputError, match="1 leaves have a mask"):
        prune.reconfigure({"w": leaf}, {"w": leaf > 0}, {"w": leaf}, TIMES, 0.5)
