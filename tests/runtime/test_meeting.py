"""What processes say to each other, here between threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedjax_compress.errors import CheckpointError, InputError, Lost
from fedjax_compress.runtime.distributed import Launch, check
from fedjax_compress.runtime.meeting import ALONE, Link


class Meeting:
    """The collective of three threads; with one gone it fails as Gloo's does."""

    def __init__(self) -> None:
        self.rows, self.barrier, self.sizes = [None] * 3, threading.Barrier(3), []

    def of(self, index: int):
        def gather(row: np.ndarray) -> np.ndarray:
            self.rows[index] = row
            try:
                self.barrier.wait(30)
                found = np.stack(self.rows)
                self.barrier.wait(30)
            except threading.BrokenBarrierError:
                raise ValueError(
                    "UNKNOWN: Gloo AllGather failed: pair.cc: Connection closed by peer"
                ) from None
            self.sizes.append(len(row))
            return found

        return gather


@pytest.fixture
def meeting():
    return Meeting()


@pytest.fixture
def links(meeting):
    """Three processes that have met."""
    return [Link(i, 3, meeting.of(i)) for i in range(3)]


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


@pytest.mark.parametrize("size", [0, 490, 504, 505, 506, 5000, 100_000])
def test_words_of_any_length(links, meeting, size):
    """Beyond the first row there is one more, of few different sizes."""
    said = everywhere(links, lambda link: link.agree("ä" * (link.index * size // 4)))
    assert said == [["ä" * (i * size // 4) for i in range(3)]] * 3
    assert set(meeting.sizes) <= {512, *(2**i for i in range(9, 20))}


def test_a_lost_process_is_one_line(links, meeting):
    for link in links:
        link.hint = "go on with: X"
    meeting.barrier.abort()
    for error in everywhere(links, lambda link: link.agree(1)):
        assert isinstance(error, Lost)
        text = "another process of 3 has ended unexpectedly; go on with: X"
        assert str(error) == text
    of_two = Link(0, 2, meeting.of(0))
    with pytest.raises(Lost, match=r"process 1 of 2 has ended unexpectedly$"):
        of_two.agree(1)


def test_other_failures_of_a_collective_are_not_blamed(links):
    links[0].blame(RuntimeError("RESOURCE_EXHAUSTED: out of memory"))
    with pytest.raises(Lost):
        links[0].blame(RuntimeError("UNAVAILABLE: task died"))

    def broken(row: np.ndarray) -> np.ndarray:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        Link(0, 3, broken).agree(1)


def test_an_abort_has_last_words():
    """Whoever aborts, from whatever thread; and none where the process is leaving."""
    code = (
        "import ctypes, sys, threading, time\n"
        "from fedjax_compress.runtime import last_words\n"
        "last_words.prepare(lambda: 'go on with: X', 3)\n"
        "if sys.argv[1] == 'leave': last_words.leave(5)\n"
        "threading.Thread(target=ctypes.CDLL(None).abort).start()\n"
        "time.sleep(60)\n"
    )
    for how, status, said in (("stay", 3, "go on with: X\n"), ("leave", 5, "")):
        found = subprocess.run(
            [sys.executable, "-c", code, how], capture_output=True, text=True
        )
        assert (found.returncode, found.stderr) == (status, said)


def test_alone_nobody_is_asked():
    assert ALONE.agree("x") == ["x"]
    assert ALONE.lead(lambda: 3) == 3
    ALONE.same({"a": 1}, "data")
    ALONE.blame(RuntimeError("Gloo"))


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
        (Launch("a:1", 2, 1, heartbeat=0), "--heartbeat must be at least 1 second"),
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
