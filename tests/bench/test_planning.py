"""From what is asked for to cases, and how results are compared."""

from __future__ import annotations

import pytest

from fedjax_compress.bench import OVERHEAD, Request, measuring, parse_sweep, plan
from fedjax_compress.bench.workloads import with_qat, workload
from fedjax_compress.errors import InputError


def test_without_a_wish_all_workloads_run_small() -> None:
    groups = plan(Request())
    found = [[(c.workload, c.clients, c.contender) for c in group] for group in groups]
    assert found == [
        [("W1", 20, "engine")],
        [("W2", 1000, "engine")],
        [("W3", 4, "engine")],
    ]


def test_compare_adds_two_plain_contenders() -> None:
    (group,) = plan(Request("W2", compare=True, uplink="top_k(0.1)", population=5000))
    assert [c.contender for c in group] == ["engine", "loop", "bound"]
    assert [c.uplink for c in group] == ["top_k(0.1)", "identity", "identity"]
    assert [c.population for c in group] == [5000] * 3


def test_a_sweep_of_clients_is_a_group_each_and_others_one_group() -> None:
    groups = plan(Request("W2", sweep="clients=10,100", compare=True))
    assert [[c.clients for c in g] for g in groups] == [[10] * 3, [100] * 3]
    (group,) = plan(Request("W2", sweep="lanes=1,2,4", clients=8, compare=True))
    assert [c.lanes for c in group] == [1, 2, 4, 0, 0]
    (group,) = plan(Request("W2", sweep="population=1000,1000000"))
    assert [c.registered for c in group] == [1000, 1_000_000]


def test_overhead_begins_with_identity() -> None:
    (group,) = plan(Request("W2", overhead=True))
    assert [(c.uplink, c.downlink) for c in group] == list(OVERHEAD)
    assert OVERHEAD[0] == ("identity", "identity")
    assert len(set(OVERHEAD)) == len(OVERHEAD)


def test_overhead_of_named_compressors() -> None:
    named = Request("W2", overhead=True, uplink="cast; identity;top_k(0.1) | qsgd")
    (group,) = plan(named)
    links = [("identity", "identity"), ("cast", "identity")]
    links.append(("top_k(0.1) | qsgd", "identity"))
    assert [(c.uplink, c.downlink) for c in group] == links


def test_quantized_training_starts_from_the_same_weights() -> None:
    given = workload("W2", 4, 100)
    assert with_qat(given, "none") is given
    (group,) = plan(Request("W2", sweep="qat=none;lsq(bits=4)"))
    assert [case.qat for case in group] == ["none", "lsq(bits=4)"]
    made = with_qat(given, group[1].qat)
    assert set(made.params) == {*given.params, "steps"}
    for name, leaf in given.params.items():
        assert made.params[name] is leaf


def test_sweeps_are_read() -> None:
    assert parse_sweep("devices=1, 2") == ("devices", [1, 2])
    text = "uplink=identity; hadamard | uniform(bits=4)"
    assert parse_sweep(text) == ("uplink", ["identity", "hadamard | uniform(bits=4)"])
    (group,) = plan(Request("W2", sweep="clock=none; network(up=2) | devices(phone)"))
    assert [case.clock for case in group] == ["none", "network(up=2) | devices(phone)"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("W4"), "there is no workload 'W4'; did you mean 'W"),
        (Request("W2", clients=0), "clients must be at least 1"),
        (Request("W2", rounds=0), "rounds must be at least 1"),
        (Request("W2", lanes=-1), "lanes must not be negative"),
        (Request("W2", devices=-1), "devices must be between 0"),
        (Request("W2", population=-5), "population must be at least 1000"),
        (Request("W2", population=999), "population must be at least 1000"),
        (Request("W2", uplink="unifrom"), "uplink: unknown stage 'unifrom'; did you"),
        (Request("W2", sweep="lane=1"), "sweep cannot vary 'lane'; did you mean 'lane"),
        (Request("W2", sweep="convolution=winograt"), "did you mean 'winograd'"),
        (Request("W2", sweep="lanes"), "needs values joined by ','"),
        (Request("W2", sweep="lanes=1,,2"), "needs values joined by ','"),
        (Request("W2", sweep="lanes=1,b"), "needs whole numbers, as in lanes=1,2,4"),
        (Request("W2", sweep="lanes=1,1"), "has a value twice"),
        (Request("W2", sweep="clients=10,0"), "clients must be at least 1"),
        (Request("W2", sweep="uplink=identity;topk(1)"), "did you mean 'top_k'?"),
        (Request("W2", sweep="qat=none;intger"), "did you mean 'integer'?"),
        (Request("W2", clock="network | device"), "did you mean 'devices'?"),
        (Request(sweep="lanes=1"), "a sweep needs a workload"),
        (Request("W2", sweep="lanes=1", overhead=True), "leave one out"),
        (Request("W2", downlink="cast", overhead=True), "leave downlink out"),
        (Request("W2", uplink="cast;", overhead=True), "different specifications"),
        (Request("W2", uplink="cast; cast", overhead=True), "different specification"),
        (Request("W2", uplink="cast; topk(1)", overhead=True), "did you mean 'top_k'?"),
        (
            Request("W2", uplink="top_k(steps((1, 0.1), after=3))"),
            "uplink: top_k: fraction changes over rounds",
        ),
    ],
)
def test_what_cannot_be_measured(request_: Request, words: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(request_)
    assert words in str(caught.value).splitlines()[0]


def result(
    contender: str, seconds: list[float], uplink: str = "identity"
) -> measuring.Result:
    """A result of rounds of 10, 20, 30, ... samples that took these seconds."""
    samples = [10.0 * (i + 1) for i in range(len(seconds))]
    rates = sorted(n / t for n, t in zip(samples, seconds, strict=True))
    return {
        "contender": contender,
        "uplink": uplink,
        "downlink": "identity",
        "samples_per_second": rates[len(rates) // 2],
        "round_seconds": seconds,
        "round_samples": samples,
    }


def test_ratios_by_hand() -> None:
    """Rates: engine 10, 20, 30; loop 20, 20, 20; bound 5, 40, 15."""
    engine, twice, loop, bound = measuring.relate(
        [
            result("engine", [1, 1, 1]),
            result("engine", [2, 2, 2]),
            result("loop", [0.5, 1, 1.5]),
            result("bound", [2, 0.5, 2]),
        ]
    )
    assert engine["share_of_bound"] == 20 / 15
    assert engine["paired_share_of_bound"] == 2.0  # of 10/5, 20/40, 30/15
    assert engine["ratio_to_loop"] == 1.0
    assert engine["paired_ratio_to_loop"] == 1.0
    assert (engine["time_to_first"], twice["time_to_first"]) == (1.0, 2.0)
    assert loop["share_of_bound"] == 20 / 15
    assert loop["time_to_first"] is None
    assert bound["share_of_bound"] == 1.0


def test_share_of_coding_by_hand() -> None:
    """Rounds of 4 s beside rounds of 3 s without coding: a quarter is coding."""
    bare, again, coded, loop = measuring.relate(
        [
            result("engine", [3, 3, 3]),
            result("engine", [4, 4, 4]),
            result("engine", [4, 40, 4], "cast"),
            result("loop", [9, 9, 9]),
        ]
    )
    assert coded["coding_share"] == pytest.approx(0.25)
    assert bare["coding_share"] is again["coding_share"] is loop["coding_share"] is None
    first, second = measuring.relate(
        [result("engine", [3.0], "cast"), result("engine", [4.0], "qsgd")]
    )
    assert first["coding_share"] is second["coding_share"] is None


def test_without_baselines_there_is_no_ratio() -> None:
    (alone,) = measuring.relate([result("engine", [1.0])])
    assert alone["share_of_bound"] is None
    assert alone["paired_ratio_to_loop"] is None
