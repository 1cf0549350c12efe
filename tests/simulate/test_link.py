"""What processes say to each other, here between threads over pairs of sockets."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedjax_compress.errors import CheckpointError, InputError, Lost
from fedjax_compress.simulate.distributed import Launch, check
from fedjax_compress.simulate.link import ALONE, Link


@pytest.fixture
def links():
    """Three processes that have met."""
    pairs = [socket.socketpair() for _ in range(2)]
    made = [Link(0, 3, {p + 1: near for p, (near, _) in enumerate(pairs)})]
    made += [Link(p + 1, 3, {0: far}) for p, (_, far) in enumerate(pairs)]
    yield made
    everywhere(made, lambda link: link.leave(0))
    for near, far in pairs:
        near.close(), far.close()


def hang_up(link):
    """What the system does when a process ends, however it ends.

    Its threads end first: none of them may tell the others what it still sees.
    """
    with link._lock:
        link._leaving = True
    for end in link._sockets.values():
        end.shutdown(socket.SHUT_RDWR)


def everywhere(links, work):
    """What ``work(link)`` returns or raises in each process, all at the same time."""

    def safe(link):
        try:
            return work(link)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(links)) as pool:
        return list(pool.map(safe, links))


def test_all_hear_what_all_say(links):
    for i in range(50):
        said = everywhere(links, lambda link, i=i: link.agree([link.index, i]))
        assert said == [[[0, i], [1, i], [2, i]]] * 3


def test_process_0_leads(links):
    done = []

    def work():
        done.append(1)
        return {"folder": "runs/a"}

    assert everywhere(links, lambda link: link.lead(work)) == [{"folder": "runs/a"}] * 3
    assert done == [1]


@pytest.mark.parametrize("kind", [InputError, CheckpointError])
def test_an_error_of_process_0_is_raised_by_all(links, kind):
    def work():
        raise kind("no room")

    for error in everywhere(links, lambda link: link.lead(work)):
        assert type(error) is kind
        assert str(error) == "no room"
    assert everywhere(links, lambda link: link.agree(1)) == [[1, 1, 1]] * 3


def test_other_settings_are_named(links):
    def compare(link):
        link.same({"seed": 3, "rounds": 5 + link.index // 2}, "settings")

    for error in everywhere(links, compare):
        assert isinstance(error, InputError)
        text = "different settings: rounds is 5 in process 0 and 6 in process 2"
        assert text in str(error)
    assert everywhere(links, lambda link: link.same({"a": [1]}, "data")) == [None] * 3


def test_notes_reach_process_0(links):
    links[1].note("one")
    links[2].note("two")
    assert sorted(links[0].noted() for _ in range(2)) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("gone", [0, 2])
def test_who_is_gone_is_known_to_all(links, gone):
    """Also to those that have no connection to it."""
    left = [link for link in links if link.index != gone]
    for link in left:
        link.hint = "go on with: X"
    hang_up(links[gone])
    for error in everywhere(left, lambda link: link.agree(1)):
        assert isinstance(error, Lost)
        text = f"process {gone} of 3 has ended unexpectedly; go on with: X"
        assert str(error) == text
    for error in everywhere(left, lambda link: link.blame()):
        assert isinstance(error, Lost)
    if gone:
        with pytest.raises(Lost):
            links[0].noted()


def test_a_process_that_fails_says_so(links):
    links[2].leave(2)
    for error in everywhere(links[:2], lambda link: link.agree(1)):
        assert isinstance(error, Lost)
        assert str(error) == "process 2 of 3 has ended with status 2"


def test_process_0_ends_last(links):
    """It waits for the ends of all connections, by which the others are gone."""
    with ThreadPoolExecutor(1) as pool:
        links[1].leave(143)
        links[2].leave(143)
        first = pool.submit(links[0].leave, 143)
        hang_up(links[1])
        assert not first.done()
        hang_up(links[2])
        first.result()


def test_a_process_that_is_done_is_not_missed(links):
    everywhere(links, lambda link: link.agree(1))
    everywhere(links, lambda link: link.leave(0))
    assert [link.lost for link in links] == [None] * 3


def test_alone_nobody_is_asked():
    assert ALONE.agree("x") == ["x"]
    assert ALONE.lead(lambda: 3) == 3
    ALONE.same({"a": 1}, "data")
    ALONE.blame()


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        (Launch(coordinator="a:1"), "--processes and --process-id must be given too"),
        (Launch(processes=2, process_id=0), "--coordinator must be given too"),
        (Launch("a", 2, 0), "must be HOST:PORT, such as node-0:8476, not 'a'"),
        (Launch("a:x", 2, 0), "must be HOST:PORT"),
        (Launch(":1", 2, 0), "must be HOST:PORT"),
        (Launch("a:99999", 2, 0), "must be HOST:PORT"),
        (Launch("a:1", 0, 0), "--processes must be at least 1, not 0"),
        (Launch("a:1", 2, 2), "--process-id must be 0 to 1, not 2"),
        (Launch("a:1", 2, -1), "--process-id must be 0 to 1, not -1"),
        (
            Launch(process_id=-1, distributed=True),
            "--process-id must be at least 0, not -1",
        ),
    ],
)
def test_launches_that_do_not_go_together(launch, words):
    with pytest.raises(InputError) as caught:
        check(launch)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_when_others_are_to_be_met():
    assert not check(Launch())
    assert not check(Launch("a:1", 1, 0))
    assert check(Launch("a:1", 2, 1))
    assert check(Launch("[::1]:80", 2, 1))
    assert check(Launch(distributed=True))
    assert check(Launch("a:1", distributed=True))
