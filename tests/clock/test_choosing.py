"""Whom a round waits for: expected times of published rules, and what changes nothing.

A mean over R rounds is met within 6 standard errors of it and the rounding of the
table: a false alarm below 1e-8 for each of the comparisons. Seeds are fixed.
"""

from __future__ import annotations

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from fedjax_compress import clock

ROUNDS = {10: 10_000, 100: 3000, 1000: 800}
DRAWS = {
    "half-normal": lambda rng, n: np.abs(rng.standard_normal(n)),
    "lognormal": lambda rng, n: rng.lognormal(1, 0.6, n),
    "exponential": lambda rng, n: rng.standard_exponential(n),
}


def seconds_of(name, invited, wanted, rounds):
    """How long each of some rounds takes."""
    rng = np.random.default_rng(invited)
    ids, nobody = np.arange(invited), np.zeros(invited, bool)
    draw = DRAWS[name]
    found = [
        clock.choose(ids, draw(rng, invited), nobody, wanted).seconds
        for _ in range(rounds)
    ]
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "wanted", "barrier", "over", "digits"),
    [
        ("half-normal", 10, 1.8807, 1.1071, 4),
        ("half-normal", 100, 2.7470, 1.1886, 4),
        ("half-normal", 1000, 3.4354, 1.1974, 4),
        ("lognormal", 10, 7.304, 3.998, 3),
        ("lognormal", 100, 12.677, 4.204, 3),
        ("lognormal", 1000, 19.461, 4.226, 3),
        ("exponential", 10, 2.928968, 1.346800, 6),
    ],
)
def test_a_round_takes_as_long_as_its_order_statistic(
    name, wanted, barrier, over, digits
):
    """The slowest of m, and number m of 1.3 m: numeric integration for the normals,
    H_n - H_(n-m) for the exponential. R = 10,000, 3000, 800 for m = 10, 100, 1000."""
    for invited, expected in ((wanted, barrier), (wanted * 13 // 10, over)):
        found = seconds_of(name, invited, wanted, ROUNDS[wanted])
        margin = 6 * found.std() / np.sqrt(len(found)) + 0.5 * 10.0**-digits
        assert abs(found.mean() - expected) < margin


def by_hand(ids, ends, lost, wanted, deadline, least):
    """The rule in the words of ``choose``, one client after the other."""
    reports = sorted((end, i) for i, end, away in zip(ids, ends, lost) if not away)  # noqa: B905
    kept = [(end, i) for end, i in reports if end <= deadline][:wanted]
    if len(kept) == min(wanted, len(ids)):
        seconds = kept[-1][0]
    elif deadline < math.inf:
        seconds = deadline
    else:
        waited = [end for end, away in zip(ends, lost) if away]  # noqa: B905
        seconds = max(waited + [end for end, _ in kept])
    failed = not kept or len(kept) < least * wanted
    return set() if failed else {i for _, i in kept}, seconds, failed


@st.composite
def rounds(draw):
    """Few different times, so that there are ties; some clients are lost."""
    number = draw(st.integers(1, 12))
    ids = draw(st.lists(st.integers(0, 99), min_size=number, max_size=number))
    hypothesis.assume(len(set(ids)) == number)
    times = st.sampled_from([0.0, 0.5, 1.0, 1.25, 7.0])
    ends = draw(st.lists(times, min_size=number, max_size=number))
    lost = draw(st.lists(st.booleans(), min_size=number, max_size=number))
    wanted = draw(st.integers(1, number))
    deadline = draw(st.sampled_from([0.25, 1.0, 3.0, math.inf]))
    least = draw(st.sampled_from([0.0, 0.5, 0.8, 1.0]))
    order = draw(st.permutations(range(number)))
    return tuple(map(np.array, (ids, ends, lost))), (wanted, deadline, least), order


@hypothesis.settings(max_examples=150)
@hypothesis.given(rounds())
def test_a_choice_is_the_rule_by_hand_in_any_order(case):
    clients, rule, order = case
    kept, seconds, failed = by_hand(*clients, *rule)
    for place in (np.arange(len(order)), np.array(order)):
        ids, ends, lost = (x[place] for x in clients)
        found = clock.choose(ids, ends, lost, *rule)
        assert set(ids[found.kept]) == kept
        assert (found.seconds, found.failed) == (seconds, failed)
        np.testing.assert_array_equal(found.lost, lost)


@hypothesis.given(st.integers(0, 9999), st.integers(1, 40))
def test_an_order_changes_nothing(seed, number):
    """Bit for bit, with any times."""
    rng = np.random.default_rng(seed)
    ids, ends = rng.permutation(100)[:number], rng.standard_exponential(number)
    lost, place = rng.random(number) < 0.2, rng.permutation(number)
    one = clock.choose(ids, ends, lost, number // 2 + 1, 2.0, 0.1)
    other = clock.choose(
        ids[place], ends[place], lost[place], number // 2 + 1, 2.0, 0.1
    )
    assert (one.seconds, one.failed) == (other.seconds, other.failed)
    np.testing.assert_array_equal(one.kept[place], other.kept)


def choose(ends, wanted, *rule, lost=()):
    return clock.choose(
        np.arange(len(ends)),
        np.array(ends),
        np.isin(np.arange(len(ends)), lost),
        wanted,
        *rule,
    )


def test_ties_go_to_the_lower_id():
    ids = np.array([9, 3, 7, 5])
    found = clock.choose(ids, np.ones(4), np.zeros(4, bool), 2)
    assert set(ids[found.kept]) == {3, 5}


def test_equal_times_make_over_selection_a_barrier():
    barrier, over = choose([2.5] * 10, 10), choose([2.5] * 13, 10)
    assert barrier.seconds == over.seconds == 2.5
    assert barrier.kept.sum() == over.kept.sum() == 10
    np.testing.assert_array_equal(over.kept, np.arange(13) < 10)


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.3, 2.0])
@pytest.mark.parametrize("wanted", [1, 7, 10, 100])
def test_as_many_are_invited_as_the_factor_says(factor, wanted):
    """Also where a product is not exact: 1.1 * 10 is above 11."""
    when = clock.parse(f"over_selection({factor})")
    invited = when.invited(wanted, 1000)
    assert invited == -(-wanted * round(10 * factor) // 10)
    assert when.chooses == (factor > 1)


def test_a_deadline_that_nobody_meets():
    found = choose([3.0, 4.0, 5.0], 2, 2.5)
    assert (found.kept.sum(), found.seconds, found.failed) == (0, 2.5, True)
    assert not found.lost.any()


def test_who_reports_at_the_deadline_counts():
    found = choose([1.0, 2.5, 3.0], 3, 2.5)
    np.testing.assert_array_equal(found.kept, [True, True, False])
    assert found.seconds == 2.5
    assert not found.failed


@pytest.mark.parametrize(("reports", "failed"), [(7, True), (8, False)])
def test_a_round_fails_below_its_least(reports, failed):
    """0.8 of 10."""
    found = choose([1.0] * reports + [9.0] * (10 - reports), 10, 5.0, 0.8)
    assert found.failed == failed
    assert found.kept.sum() == (0 if failed else reports)
    assert found.seconds == 5.0


@pytest.mark.parametrize(("deadline", "seconds"), [(math.inf, 6.0), (5.0, 5.0)])
def test_fewer_report_than_are_wanted(deadline, seconds):
    """The lost one is waited for until it is gone, or until the deadline."""
    found = choose([1.0, 6.0, 2.0], 3, deadline, lost=[1])
    np.testing.assert_array_equal(found.kept, [True, False, True])
    np.testing.assert_array_equal(found.lost, [False, True, False])
    assert found.seconds == seconds


def test_a_lost_client_is_not_waited_for_where_enough_report():
    assert choose([1.0, 6.0, 2.0], 2, lost=[1]).seconds == 2.0


def test_spans_by_hand():
    """1250 bytes are 10,000 bits: at 10 and 5 kbit/s 1 and 2 s; latency comes once."""
    link = np.array([[10e3, 5e3, 0.25], [np.inf, np.inf, 0.0]])
    found = clock.spans(link, 1250, np.array([1250, 99]), np.array([3.0, 4.0]))
    np.testing.assert_array_equal(found.download, [1.25, 0])
    np.testing.assert_array_equal(found.upload, [2.0, 0])
    np.testing.assert_array_equal(found.total, [6.25, 4])
    doubled = clock.spans(link, 2500, np.array([2500, 198]), np.array([3.0, 4.0]))
    np.testing.assert_array_equal(doubled.total - found.total, [3.0, 0])


@pytest.mark.parametrize(
    "numbers",
    [
        clock.uniform(0, 0, np.arange(200_000), 1),
        clock.uniform(5, 0, np.arange(200_000) * 1000, 1),
        np.concatenate([clock.uniform(0, n, np.arange(100), 1) for n in range(2000)]),
        np.concatenate([clock.uniform(n, 0, np.arange(100), 1) for n in range(2000)]),
    ],
    ids=["clients", "far clients", "rounds", "seeds"],
)
def test_numbers_are_uniform_and_neighbours_independent(numbers):
    """200,000 numbers in 64 bins, and their pairs in 8 by 8: chi-square of 63 degrees
    of freedom below its quantile of false-alarm rate 1e-7."""
    assert numbers.min() >= 0
    assert numbers.max() < 1
    pairs = np.floor(numbers[::2] * 8) * 8 + np.floor(numbers[1::2] * 8)
    for place in (np.floor(numbers * 64), pairs):
        seen = np.bincount(place.astype(int), minlength=64)
        expected = len(place) / 64
        assert ((seen - expected) ** 2 / expected).sum() < stats.chi2.isf(1e-7, 63)


def test_a_number_is_the_clients_own():
    ids = np.array([3, 1, 77, 5], np.int32)
    found = clock.uniform(7, 4, ids, 2)
    place = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(found[place], clock.uniform(7, 4, ids[place], 2))
    np.testing.assert_array_equal(found[1:2], clock.uniform(7, 4, ids[1:2], 2))
    np.testing.assert_array_equal(found, clock.uniform(7, 4, ids.astype(np.int64), 2))
    for seed, number, stream in ((8, 4, 2), (7, 5, 2), (7, 4, 3), (-7, 4, 2)):
        assert (found != clock.uniform(seed, number, ids, stream)).all()


def test_splitmix64_by_its_published_numbers():
    """The first two outputs of seed 1234567, as Vigna's generator gives them."""
    from fedjax_compress.clock.choosing import _mixed

    step = 0x9E3779B97F4A7C15
    state = np.array([1234567, (1234567 + step) % 2**64], np.uint64)
    assert list(_mixed(state)) == [6457827717110365317, 3203168211198807973]
