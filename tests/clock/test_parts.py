"""The parts of a clock as they are written: units, draws, and what is refused.

Of 100,000 drawn clients a mean, a standard deviation and a correlation r of logarithms
are met within 6 of their standard errors, s / sqrt(n), s / sqrt(2 n) and (1 - r^2) /
sqrt(n): a false alarm below 1e-8 for each. Seeds are fixed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedjax_compress import clock, registry
from fedjax_compress.errors import InputError

MANY = 100_000


def test_every_part_is_registered():
    names = "deadline device_classes devices dropout energy network none over_selection"
    assert {*names.split(), "prunefl", "trace"} <= set(registry.entries("clock"))
    assert registry.build("clock", "none") == clock.Clock() == clock.parse("none")
    assert not clock.Clock().chooses


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("network()", (35.96e6, 11.22e6, 0.04)),
        ("network(lte_2012)", (13e6, 6e6, 0.07)),
        ("network(fixed_2020)", (85.73e6, 45.74e6, 0.021)),
        ("network(mobile_5g_2021)", (166.13e6, 21.08e6, 0.028)),
        ("network(prunefl_testbed)", (11.5e6, 11.5e6, 0)),
        ("network(weak_3g)", (1.5e6, 0.5e6, 0.15)),
        ("network(unlimited)", (np.inf, np.inf, 0)),
        ("network(up=2)", (35.96e6, 2e6, 0.04)),
        ("network(down=0.5, latency=0)", (0.5e6, 11.22e6, 0)),
        ("network(lte_2012, latency=1500)", (13e6, 6e6, 1.5)),
    ],
)
def test_links_in_bits_and_seconds(text, row):
    found = clock.parse(text).network(0, 3)
    np.testing.assert_allclose(found, [row] * 3, rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("devices()", 10e9),
        ("devices(phone_high)", 40e9),
        ("devices(raspberry_pi_3)", 1.5e9),
        ("devices(raspberry_pi_4)", 4.5e9),
        ("devices(jetson_nano)", 150e9),
        ("devices(gflops=0.58)", 0.58e9),
        ("device_classes(7)", 7e9),
    ],
)
def test_speeds_in_operations_a_second(text, speed):
    found = clock.parse(text)
    np.testing.assert_allclose(found.devices(0, 3), [speed] * 3, rtol=1e-15)
    assert found.coding == 0
    assert (
        clock.parse(text.replace(")", ", coding=20)").replace("(, ", "(")).coding == 20
    )


@pytest.mark.parametrize(
    ("text", "power"),
    [
        ("energy()", (0.43839, 0.05197, 1.28804, 3, 0, 12.296)),
        ("energy(umts)", (0.86898, 0.12212, 0.81788, 3, 0, 0)),
        ("energy(wifi, compute=2, idle=0.5)", (0.28317, 0.13701, 0.13286, 2, 0.5, 0)),
        ("energy(lte, tail=false)", (0.43839, 0.05197, 1.28804, 3, 0, 0)),
    ],
)
def test_energy_in_watts_and_joules(text, power):
    np.testing.assert_allclose(clock.parse(text).power, power, rtol=1e-12)


def test_energy_of_a_published_example():
    """3 MiB each way at 13 and 6 Mbit/s: 3.8 J down, 16.4 J up, 12.3 J of the tail."""
    lte = clock.parse("energy(lte)").power
    bits = 3 * 2**20 * 8
    down = (lte.per_down * 13 + lte.radio) * bits / 13e6
    up = (lte.per_up * 6 + lte.radio) * bits / 6e6
    assert [round(x, 1) for x in (down, up, lte.tail)] == [3.8, 16.4, 12.3]


def test_rules_say_what_is_written():
    text = "over_selection(1.5) | deadline(270, least=0.8, stop=true) | dropout(0.1)"
    found = clock.parse(text)
    assert (found.over, found.deadline, found.least) == (1.5, 270, 0.8)
    assert (found.ends, found.dropout, found.keeps) == (True, 0.1, False)
    assert found.chooses
    assert clock.parse("deadline(9, state=reached) | dropout(state=reached)").keeps
    assert clock.parse("over_selection()").over == 1.3
    assert clock.parse("dropout()").dropout == 0.06
    assert clock.parse("deadline(inf)").deadline == math.inf


def test_an_order_of_parts_is_no_matter():
    parts = ["network(sigma=1)", "devices(sigma=1)", "energy(wifi)", "deadline(3)"]
    one, other = clock.parse("|".join(parts)), clock.parse("|".join(parts[::-1]))
    np.testing.assert_array_equal(one.network(3, 9), other.network(3, 9))
    np.testing.assert_array_equal(one.devices(3, 9), other.devices(3, 9))
    plain = [found._replace(network=None, devices=None) for found in (one, other)]
    assert plain[0] == plain[1]


def test_prunefl_by_its_constants():
    """Without parameters a round is the constant; one more of a layer adds its time."""
    layers = clock.parse("prunefl()").layers
    assert (layers.name, layers.layers) == ("prunefl(conv2)", 4)
    none = layers.seconds(np.zeros(4, int))
    each = [layers.seconds(np.eye(4, dtype=int)[i] * 10**6) - none for i in range(4)]
    both = layers.seconds(np.full(4, 10**6)) - none
    assert none > 0
    assert min(each) > 0
    assert both == pytest.approx(sum(each))
    assert clock.parse("prunefl(vgg11)").layers.layers == 11


def near(found, expected, error):
    assert abs(found - expected) < 6 * error


@pytest.mark.parametrize("correlation", [-1.0, 0.0, 0.7, 1.0])
def test_rates_are_lognormal_and_correlated(correlation):
    text = f"network(lte_2012, sigma=0.8, correlation={correlation})"
    found = clock.parse(text).network(1, MANY)
    logs = np.log(found[:, :2] / [13e6, 6e6])
    for column in logs.T:
        near(column.mean(), 0, 0.8 / math.sqrt(MANY))
        near(column.std(), 0.8, 0.8 / math.sqrt(2 * MANY))
    error = (1 - correlation**2) / math.sqrt(MANY) + 1e-12
    near(np.corrcoef(logs.T)[0, 1], correlation, error)
    np.testing.assert_array_equal(found[:, 2], 0.07)


def test_speeds_are_lognormal_and_apart_from_rates():
    found = clock.parse("network(sigma=1) | devices(phone, sigma=0.6)")
    logs = np.log(found.devices(1, MANY) / 10e9)
    near(logs.mean(), 0, 0.6 / math.sqrt(MANY))
    near(logs.std(), 0.6, 0.6 / math.sqrt(2 * MANY))
    rates = np.log(found.network(1, MANY)[:, 0])
    near(np.corrcoef(logs, rates)[0, 1], 0, 1 / math.sqrt(MANY))


@pytest.mark.parametrize(
    ("shares", "chances"),
    [("", (1 / 3, 1 / 3, 1 / 3)), (", shares=(0.3, 0.5, 0.2)", (0.3, 0.5, 0.2))],
)
def test_classes_have_their_shares(shares, chances):
    found = clock.parse(f"device_classes((2, 10, 40){shares})").devices(1, MANY)
    for speed, chance in zip((2e9, 10e9, 40e9), chances, strict=True):
        near((found == speed).mean(), chance, math.sqrt(chance * (1 - chance) / MANY))


def test_speeds_in_a_class_are_lognormal():
    found = clock.parse("device_classes((1, 1e9), sigma=0.5)").devices(1, MANY)
    low = np.log(found[found < 1e13] / 1e9)
    near(low.mean(), 0, 0.5 / math.sqrt(len(low)))
    near(low.std(), 0.5, 0.5 / math.sqrt(2 * len(low)))


@pytest.mark.parametrize(
    "text",
    [
        "network(sigma=1)",
        "devices(sigma=1)",
        "device_classes((2, 10, 40), sigma=1)",
        "device_classes((2, 10, 40))",
    ],
)
def test_what_a_client_has_follows_from_its_id_and_the_seed(text):
    found = clock.parse(text)
    draw = found.network or found.devices
    many = draw(5, 1000)
    for clients in (1, 7, 999):
        np.testing.assert_array_equal(draw(5, clients), many[:clients])
    np.testing.assert_array_equal(draw(5, 1000), many)
    assert (draw(6, 1000) != many).any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("network(down=-1)", "rates must be above 0 Mbit/s, not down -1, up 0"),
        ("network(up=-2)", "rates must be above 0 Mbit/s, not down 0, up -2"),
        (
            "network(sigma=-1)",
            "sigma must be from 0 to 20 and correlation from -1 to 1",
        ),
        ("network(sigma=1000)", "sigma must be from 0 to 20"),
        ("network(up=1e-320)", "rates must be from 1e-6 to 1e12 Mbit/s"),
        ("network(latency=inf)", "latency at most 1e12 milliseconds, not down 0, up 0"),
        ("network(correlation=1.5)", "correlation from -1 to 1, not 0 and 1.5"),
        ("network(lte)", "profile cannot be 'lte'; did you mean 'lte_2012'?"),
        ("network(lte_2012, speed=3)", "network has no option 'speed'"),
        ("devices(gflops=-1)", "gflops must be at least 1e-9"),
        ("devices(sigma=-1)", "sigma from 0 to 20, coding at least 0"),
        ("devices(coding=-1)", "sigma from 0 to 20, coding at least 0"),
        ("device_classes(())", "gflops must be at least 1e-9, one for each class"),
        ("device_classes((1, 0))", "gflops must be at least 1e-9, one for each class"),
        ("device_classes(1, sigma=-1)", "sigma from 0 to 20, coding at least 0"),
        ("device_classes((1, 2), shares=(0.5, 0.6))", "2 numbers, one for each class"),
        ("device_classes((1, 2), shares=1)", "2 numbers, one for each class"),
        ("device_classes((1, 2), shares=(1.5, -0.5))", "that sum to 1"),
        ("energy(compute=-1)", "watts must be at least 0, not -1 and 0"),
        ("energy(idle=-1)", "watts must be at least 0, not 3 and -1"),
        ("energy(bluetooth)", "radio cannot be 'bluetooth'; known: lte, umts, wifi"),
        ("over_selection(0.9)", "factor must be at least 1, not 0.9"),
        ("over_selection(inf)", "factor must be at least 1, not inf"),
        ("deadline()", "deadline needs seconds: float"),
        (
            "deadline(0)",
            "seconds must be above 0 (and at most 1e15) and least from 0 to",
        ),
        ("deadline(9, least=1.5)", "least from 0 to 1, not 9, 1.5"),
        ("deadline(9, state=after)", "state cannot be 'after'"),
        ("dropout(1)", "rate must be from 0 to below 1, not 1"),
        ("dropout(-0.1)", "rate must be from 0 to below 1, not -0.1"),
        ("prunefl(conv3)", "model cannot be 'conv3'; did you mean 'conv2'?"),
        ("netwrk()", "unknown clock 'netwrk'; did you mean 'network'?"),
        ("network() | network()", "network and network say the same (network); leave"),
        ("devices() | device_classes(1)", "devices and device_classes say the same"),
        ("deadline(1) | deadline(2)", "deadline and deadline say the same (deadline)"),
        (
            "over_selection(2, state=reached) | deadline(1)",
            "over_selection and deadline differ in state; give both the same",
        ),
        ("prunefl() | dropout()", "prunefl(conv2) is a whole round's time; leave the"),
    ],
)
def test_bad_input_gives_one_line_and_its_place(text, reason):
    with pytest.raises(InputError) as caught:
        clock.parse(text)
    first, *place = str(caught.value).split("\n")
    assert reason in first
    assert len(place) == 2


NAN = float("nan")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: clock.network(down=NAN), "rates must be above 0"),
        (lambda: clock.network(latency=NAN), "latency at most 1e12"),
        (lambda: clock.network("lte"), "no profile 'lte'; did you mean 'lte_2012'"),
        (lambda: clock.devices(gflops=NAN), "gflops must be at least 1e-9"),
        (lambda: clock.devices("phones"), "no profile 'phones'; did you mean 'phone'"),
        (lambda: clock.device_classes((1.0, NAN)), "gflops must be at least 1e-9"),
        (lambda: clock.device_classes((1.0, 2.0), (1.0, NAN)), "that sum to 1"),
        (lambda: clock.energy("5g"), "no radio '5g'"),
        (lambda: clock.trace("a.csv", away="x"), "away must be lost, pauses or"),
    ],
)
def test_what_no_spec_can_say_is_refused_from_python(made, reason):
    with pytest.raises(InputError, match=reason):
        made()


def test_more_are_not_invited_than_there_are():
    with pytest.raises(InputError, match="invites 13 clients for a cohort of 10, and"):
        clock.parse("over_selection(1.3)").invited(10, 12)
