"""When clients are there, against loops over the intervals of many periods.

Drawn times are quarters of a second, so that every sum is exact.
"""

from __future__ import annotations

import itertools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedjax_compress import clock
from fedjax_compress.errors import InputError


def activity(clients, pauses=False, repeats=True):
    """Of clients, each (intervals, period)."""
    most = max(1, *(len(intervals) for intervals, _ in clients))
    table = np.full((len(clients), most, 2), np.inf)
    for row, (intervals, _) in zip(table, clients, strict=True):
        row[: len(intervals)] = np.reshape(intervals, (-1, 2))
    period = np.array([float(period) for _, period in clients])
    return clock.Activity(table[:, :, 0], table[:, :, 1], period, pauses, repeats)


def ask(client, now, need=None, pauses=False):
    """Whether one client is there, or when it has had what it needs."""
    one, ids = activity([client], pauses), np.zeros(1, int)
    if need is None:
        return bool(one.active(ids, now)[0])
    return float(one.finish(ids, now, np.array([float(need)]))[0])


TWICE = [(2, 4), (6, 9)], 10
ROUND_THE_END = [(0, 2), (7, 10)], 10
WHOLE = [(0, 10)], 10
ALWAYS = [], 10


@pytest.mark.parametrize(
    ("client", "now", "there"),
    [
        (TWICE, 2, True),
        (TWICE, 3.5, True),
        (TWICE, 4, False),
        (TWICE, 0, False),
        (TWICE, 9.5, False),
        (TWICE, 32, True),
        (TWICE, 34, False),
        (ROUND_THE_END, 0, True),
        (ROUND_THE_END, 10, True),
        (ROUND_THE_END, 2, False),
        (ROUND_THE_END, 9.75, True),
        (WHOLE, 9.75, True),
        (WHOLE, 10, True),
        (ALWAYS, 1e9, True),
    ],
)
def test_a_client_is_there_from_the_start_to_before_the_end(client, now, there):
    assert ask(client, now) == there


@pytest.mark.parametrize(
    ("client", "now", "need", "lost", "pauses"),
    [
        (TWICE, 2, 2, 4, 4),
        (TWICE, 2, 2.25, math.inf, 6.25),
        (TWICE, 3, 1, 4, 4),
        (TWICE, 1, 1, math.inf, 3),
        (TWICE, 2, 5, math.inf, 9),
        (TWICE, 2, 5.25, math.inf, 12.25),
        (TWICE, 2, 15, math.inf, 29),
        (TWICE, 8, 4, math.inf, 17),
        (TWICE, 4, 3, math.inf, 9),
        (TWICE, 9.5, 1, math.inf, 13),
        (ROUND_THE_END, 8, 4, 12, 12),
        (ROUND_THE_END, 8, 4.25, math.inf, 17.25),
        (ROUND_THE_END, 7, 5, 12, 12),
        (ROUND_THE_END, 0, 2, 2, 2),
        (ROUND_THE_END, 1, 3, math.inf, 9),
        (WHOLE, 3, 1e6, 1e6 + 3, 1e6 + 3),
        (ALWAYS, 3, 1e6, 1e6 + 3, 1e6 + 3),
        (TWICE, 3, 0, 3, 3),
        (TWICE, 0, 0, math.inf, 0),
        (TWICE, 4, 0, math.inf, 4),
        (TWICE, 3, math.inf, math.inf, math.inf),
        (WHOLE, 3, math.inf, math.inf, math.inf),
        (ALWAYS, 3, math.inf, math.inf, math.inf),
    ],
)
def test_finish_by_hand(client, now, need, lost, pauses):
    assert ask(client, now, need) == lost
    assert ask(client, now, need, pauses=True) == pauses


@pytest.mark.parametrize(
    ("number", "now", "found"),
    [(1, 0, 0), (1, 2, 2), (2, 0, 7), (2, 7.5, 7.5), (2, 9, 17), (3, 0, math.inf)],
)
def test_enough_are_there_by_hand(number, now, found):
    """One is there at 2 to 4 and 6 to 9, the other but from 2 to 7."""
    both = activity([TWICE, ROUND_THE_END])
    assert both.next_with(np.arange(2), number, now) == found


def test_those_who_come_may_find_the_others_gone():
    """0 to 2, 1 to 3 and 2 to 4: never all three; 2 of 5 seconds with those of 3."""
    three = activity([([(0, 2)], 5), ([(1, 3)], 5), ([(2, 4)], 5)])
    assert three.next_with(np.arange(3), 2, 0) == 1
    assert three.next_with(np.arange(3), 2, 3) == 6
    assert three.next_with(np.arange(3), 3, 0) == math.inf
    other = activity([([(0, 2)], 5), ([(2, 3)], 3)])
    assert other.next_with(np.arange(2), 2, 2) == 5
    assert other.next_with(np.arange(2), 2, 6) == 11


def test_clients_begin_again_with_the_first_or_are_refused():
    two = [TWICE, WHOLE]
    np.testing.assert_array_equal(
        activity(two).active(np.array([4, 5, 0, 1]), 0), [False, True, False, True]
    )
    strict = activity(two, repeats=False)
    assert strict.next_with(np.arange(2), 2, 0) == 2
    with pytest.raises(InputError, match="has 2 clients and the run 3; give"):
        strict.check(3)


def of_mask(mask):
    """Intervals and period of a client that is there in some half seconds."""
    intervals, at = [], 0.0
    for there, run in itertools.groupby(mask):
        end = at + 0.5 * len(list(run))
        if there:
            intervals.append((at, end))
        at = end
    return intervals, at


QUARTERS = st.integers(0, 160).map(lambda n: n / 4)
CLIENTS = st.lists(st.booleans(), min_size=1, max_size=12).map(of_mask)


def spells(client, now, until):
    """Explicit intervals of a client that end after a time, joined where they touch."""
    intervals, period = client
    if not intervals:
        return [[0.0, math.inf]]
    found = []
    for number in range(int(now // period) - 1, int(until // period) + 2):
        for start, end in intervals:
            start, end = number * period + start, number * period + end
            if found and found[-1][1] == start:
                found[-1][1] = end
            else:
                found.append([start, end])
    return [spell for spell in found if spell[1] > now]


def lost_by_hand(client, now, need):
    for start, end in spells(client, now, now + need + client[1]):
        if start <= now < end and now + need <= end:
            return now + need
    return math.inf


def paused_by_hand(client, now, need):
    if need == 0:
        return now
    share = 0.5 / client[1]  # at least so much of a period
    for start, end in spells(client, now, now + need / share + 2 * client[1]):
        begin = max(start, now)
        if need <= end - begin:
            return begin + need
        need -= end - begin
    raise AssertionError


@hypothesis.settings(max_examples=200)
@hypothesis.given(st.lists(CLIENTS, min_size=1, max_size=4), QUARTERS, QUARTERS)
def test_finish_is_what_loops_find(clients, now, need):
    ids, needs = np.arange(len(clients)), np.full(len(clients), need)
    for pauses, rule in ((False, lost_by_hand), (True, paused_by_hand)):
        found = activity(clients, pauses).finish(ids, now, needs)
        assert list(found) == [rule(client, now, need) for client in clients]


@hypothesis.given(st.lists(CLIENTS, min_size=1, max_size=4), QUARTERS)
def test_clients_stay_as_long_as_loops_find(clients, now):
    one, ids = activity(clients), np.arange(len(clients))
    stays = []
    for client in clients:
        now_in = [s for s in spells(client, now, now + 99) if s[0] <= now]
        end = now_in[0][1] if now_in else now
        whole = client[0] == [(0, client[1])]
        stays.append(math.inf if whole else end - now)
    np.testing.assert_array_equal(one.stays(ids, now), stays)
    np.testing.assert_array_equal(one.active(ids, now), np.array(stays) > 0)


def next_by_hand(clients, number, now):
    """Looks at ``now`` and at every later start until all periods have come round."""
    horizon = now + math.lcm(*(int(2 * period) for _, period in clients)) / 2
    each = [spells(client, now, horizon) for client in clients]
    starts = {start for one in each for start, _ in one if now < start <= horizon}
    for at in [now, *sorted(starts)]:
        there = [any(start <= at < end for start, end in one) for one in each]
        if sum(there) >= number:
            return at
    return math.inf


FEW = st.sampled_from([1, 2, 3, 4, 6, 8, 12]).flatmap(
    lambda n: st.lists(st.booleans(), min_size=n, max_size=n).map(of_mask)
)


@hypothesis.settings(max_examples=100)
@hypothesis.given(st.lists(FEW, min_size=1, max_size=6), QUARTERS, st.data())
def test_enough_are_there_when_loops_find_them(clients, now, data):
    number = data.draw(st.integers(0, len(clients)))
    found = activity(clients).next_with(np.arange(len(clients)), number, now)
    assert found == next_by_hand(clients, number, now)


@st.composite
def real_clients(draw):
    """Intervals at any numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = []
    for _ in range(rng.integers(1, 6)):
        period = 10.0 ** rng.uniform(-1, 5)
        cuts = np.sort(rng.random(2 * rng.integers(1, 5))) * period
        found.append((list(zip(cuts[::2], cuts[1::2], strict=True)), period))
    return found, 10.0 ** rng.uniform(-2, 8), 10.0 ** rng.uniform(-2, 6)


def had(client, begin, end):
    """Seconds for which a client is there, by the length that has gone by at each."""
    intervals, period = client

    def until(t):
        whole, rest = divmod(t, period)
        length = sum(e - s for s, e in intervals)
        return whole * length + sum(min(max(rest - s, 0), e - s) for s, e in intervals)

    return until(end) - until(begin)


@hypothesis.settings(max_examples=200)
@hypothesis.given(real_clients())
def test_any_numbers_add_up(case):
    """A client has had what it needs when it finishes, and not long before."""
    clients, now, need = case
    one, ids = activity(clients, pauses=True), np.arange(len(clients))
    found = one.finish(ids, now, np.full(len(clients), need))
    for client, end in zip(clients, found, strict=True):
        margin = 1e-9 * max(end, 1)
        assert had(client, now, end) == pytest.approx(need, abs=margin)
        assert had(client, now, end - 10 * margin) < need or need < 20 * margin


@hypothesis.settings(max_examples=200)
@hypothesis.given(real_clients())
def test_the_instant_found_is_a_start_at_any_numbers(case):
    """Of one of those who were away, and never before it."""
    clients, now, _ = case
    one, ids = activity(clients), np.arange(len(clients))
    found = one.next_with(ids, 1, now)
    assert one.active(ids, found).any()
    waits = [
        (start - now) % period
        for intervals, period in clients
        for start, _ in intervals
    ]
    first = now if one.active(ids, now).any() else now + min(waits)
    assert found == pytest.approx(first, rel=1e-14)


def test_clients_who_never_meet_are_given_up_after_their_period():
    """2000 of them, one after the other, a second each."""
    clients = [([(n, n + 1)], 2000) for n in range(2000)]
    assert activity(clients).next_with(np.arange(2000), 2, 12.5) == math.inf


@hypothesis.given(CLIENTS, QUARTERS, QUARTERS)
def test_the_time_that_a_client_was_there_is_what_finish_adds_up(client, now, need):
    """``had`` and ``finish`` are inverse, and had is the sum over half seconds."""
    one = activity([client], pauses=True)
    ids = np.zeros(1, int)
    for seconds in (0.0, need, 7 * need):
        found = one.had(ids, now, np.array([seconds]))[0]
        ticks = now + 0.25 * (np.arange(round(seconds / 0.25)) + 0.5)
        there = [bool(one.active(ids, t)[0]) for t in ticks]
        assert found == pytest.approx(0.25 * sum(there), abs=1e-9)
    if client[0] and need > 0:
        end = one.finish(ids, now, np.array([need]))[0]
        assert one.had(ids, now, np.array([end - now]))[0] == pytest.approx(need)
