"""Signals become a flag; a second Ctrl-C still interrupts; handlers come back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from fedjax_compress.runtime.signals import Stop


def handlers() -> list:
    return [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_sets_the_flag(number):
    before = handlers()
    with Stop() as stop:
        assert not stop
        assert handlers() != before
        os.kill(os.getpid(), number)
        assert stop
        assert stop.name == number.name
    assert handlers() == before
    assert stop


def test_a_second_interrupt_raises_and_handlers_come_back():
    before = handlers()
    with Stop() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.name == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert handlers() == before


def test_contexts_nest():
    with Stop() as outer:
        with Stop() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert inner
        assert not outer
        signal.raise_signal(signal.SIGTERM)
        assert outer


def test_other_threads_change_nothing():
    before = handlers()
    seen = []

    def work() -> None:
        with Stop() as stop:
            seen.append((handlers() == before, bool(stop)))
            stop.request("full")
            seen.append((stop.name, bool(stop)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, False), ("full", True)]
    assert handlers() == before
