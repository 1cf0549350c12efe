"""The search for a layout climbs to the best, and never changes a result."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from systems import labelled, setup

from fedjax_compress import algorithms, registry
from fedjax_compress.simulate import Simulator
from fedjax_compress.simulate.tuning import Choice, asks_for_form, measure, search
from fedjax_compress.typing import Task


def landscape(lanes, devices, form):
    """Rows a second of a made-up machine with one summit."""

    def rate(choice):
        seen.append(choice)
        return (
            1000.0
            / (1 + abs(np.log2(choice.lanes / lanes)))
            / (1 + abs(choice.devices - devices))
            / (1 if choice.convolution == form else 2)
        )

    seen: list[Choice] = []
    return rate, seen


@pytest.mark.parametrize(
    "summit", [(1, 1, "direct"), (8, 2, "patches"), (64, 2, "auto")]
)
def test_the_search_reaches_the_summit(summit):
    rate, seen = landscape(*summit)
    found = search(
        Choice(8, 2, "auto"),
        rate,
        forms=("patches", "direct"),
        devices=(1, 2),
        most_lanes=1000,
    )
    assert found.choice == Choice(*summit)
    assert len(set(seen)) == len(seen)
    assert len(seen) < 12
    assert found.gain == pytest.approx(rate(found.choice) / rate(Choice(8, 2, "auto")))


def test_the_search_keeps_to_the_cohort_and_to_its_time():
    rate, seen = landscape(1024, 2, "auto")
    search(Choice(4, 2), rate, forms=(), devices=(1, 2), most_lanes=20)
    assert max(c.lanes * c.devices for c in seen) <= 20
    rate, seen = landscape(1024, 2, "auto")
    found = search(
        Choice(4, 2), rate, forms=(), devices=(1,), most_lanes=2000, seconds=-1
    )
    assert seen == [Choice(4, 2)]
    assert found.choice == Choice(4, 2)


def test_what_is_barely_faster_is_not_taken():
    found = search(
        Choice(2, 1),
        lambda c: 100.0 + c.devices,
        forms=(),
        devices=(1, 2),
        most_lanes=8,
    )
    assert found.choice == Choice(2, 1)


def parts(model, shape):
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(12), 5)
    data = labelled(
        rng.normal(size=(60, *shape)).astype(np.float32),
        rng.integers(0, 3, 60).astype(np.int32),
        owner,
        12,
    )
    model = registry.build("model", model, Task(shape, 3))
    local = registry.build("local", "sgd(batch=5)", model)
    return algorithms.fedavg(setup(local)), data, model.init(jax.random.key(0))


def test_only_open_convolutions_ask_for_a_form():
    assert asks_for_form(*parts("cnn(widths=(4,), dense=8)", (8, 8)))
    assert not asks_for_form(*parts("cnn(widths=(4,), dense=8, conv=patches)", (8, 8)))
    assert not asks_for_form(*parts("logistic", (4,)))


def test_real_rounds_are_measured():
    algorithm, data, params = parts("logistic", (4,))
    for choice in (Choice(2, 1), Choice(4, 2)):
        assert measure(algorithm, data, params, np.arange(12), choice) > 0


@pytest.mark.slow
def test_every_form_gives_the_same_round_to_rounding():
    algorithm, data, params = parts("cnn(widths=(4, 20), dense=8)", (8, 8))

    def one_round(**layout):
        simulator = Simulator(
            algorithm,
            data,
            cohort=6,
            sampling=registry.build("sampling", "uniform"),
            **layout,
        )
        state, _ = simulator.advance(simulator.start(params), 1)
        return state.server.params

    plain = one_round(lanes=1, convolution="direct")
    for layout in (
        {"lanes": 1, "convolution": "patches"},
        {"lanes": 3, "convolution": "winograd"},
        {"lanes": 2, "devices": 2, "convolution": "winograd"},
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            one_round(**layout),
            plain,
        )
