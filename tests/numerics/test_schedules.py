"""Schedules: what is read, the phases they make, and what is refused."""

from __future__ import annotations

import pytest

from fedjax_compress import compress, registry
from fedjax_compress.errors import SpecError
from fedjax_compress.numerics import schedules


def phases(text):
    return [(phase.after, phase.text) for phase in compress.phases(text)]


def test_without_a_schedule_there_is_one_phase():
    assert phases("hadamard|uniform( 4 )") == [(0, "hadamard | uniform(4)")]


def test_steps():
    text = "top_k(steps((0.25, 0.063, 0.016), after=(10, 20)))"
    assert phases(text) == [
        (0, "top_k(0.25)"), (10, "top_k(0.063)"), (20, "top_k(0.016)")
    ]  # fmt: skip


def test_the_warm_up_of_deep_gradient_compression():
    """Lin et al. 2018, section 3.3: sparsity 75, 93.75, 98.4375, 99.6, 99.9 %."""
    dropped = [0.75, 0.9375, 0.984375, 0.996, 0.999]
    kept = [round(1 - share, 6) for share in dropped]
    text = f"top_k(steps({tuple(kept)}, after=(1, 2, 3, 4)))"
    assert phases(text) == [(i, f"top_k({share})") for i, share in enumerate(kept)]


def test_ramps_by_hand():
    assert phases("top_k(ramp(0.5, 0.1, rounds=8))") == [
        (0, "top_k(0.5)"), (2, "top_k(0.4)"), (4, "top_k(0.3)"), (6, "top_k(0.2)"),
        (8, "top_k(0.1)"),
    ]  # fmt: skip
    assert phases("top_k(ramp(1, 0.001, 10, steps=4, kind=geometric))") == [
        (0, "top_k(1)"), (3, "top_k(0.1)"), (6, "top_k(0.01)"), (10, "top_k(0.001)")
    ]  # fmt: skip


def test_a_ramp_of_whole_numbers_is_rounded_and_equal_neighbours_are_one_phase():
    assert phases("qsgd(bits=ramp(8, 2, rounds=30, steps=4))") == [
        (0, "qsgd(bits=8)"), (10, "qsgd(bits=6)"), (20, "qsgd(bits=4)"),
        (30, "qsgd(bits=2)"),
    ]  # fmt: skip
    found = phases("qsgd(bits=ramp(3, 2, rounds=40, steps=5))")  # 2.75, 2.5, 2.25
    assert found == [(0, "qsgd(bits=3)"), (20, "qsgd(bits=2)")]


@pytest.mark.parametrize("text", ["constant(0.1)", "steps((0.1, 0.1), after=5)"])
def test_what_does_not_change_is_one_phase(text):
    assert phases(f"top_k({text})") == [(0, "top_k(0.1)")]


def test_schedules_of_several_options_and_inside_others():
    text = (
        "by_label(error_feedback(top_k(steps((0.5, 0.1), after=4)), "
        "decay=ramp(1, 0.5, rounds=4, steps=2)), "
        "bias=hadamard | uniform(steps((8, 4), after=9)))"
    )
    assert phases(text) == [
        (after, f"by_label(error_feedback({inner}), bias=hadamard | uniform({bits}))")
        for after, inner, bits in (
            (0, "top_k(0.5), decay=1", 8),
            (4, "top_k(0.1), decay=0.5", 8),
            (9, "top_k(0.1), decay=0.5", 4),
        )
    ]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (
            "top_k( steps((.25,.1),7) )|qsgd(ramp(8,2,9))",
            "top_k(fraction=steps(values=(0.25, 0.1), after=7)) | "
            "qsgd(bits=ramp(start=8, end=2, rounds=9))",
        ),
        (
            "error_feedback(top_k(constant(0.1)))",
            "error_feedback(compressor=top_k(fraction=constant(value=0.1)))",
        ),
    ],
)
def test_normal_form(text, normal):
    assert compress.canonical(text) == normal
    assert compress.canonical(normal) == normal
    plain = [p.text for p in compress.phases(normal)]
    written = [compress.canonical(p.text) for p in compress.phases(text)]
    assert plain == written


@pytest.mark.parametrize(
    ("text", "reason", "caret"),
    [
        ("top_k(stpes((0.2, 0.1), after=3))", "did you mean 'steps'?", 6),
        ("top_k(steps((0.2, 0.1), after=(3, 4)))", "2 values need 1 numbers in ", 6),
        ("top_k(steps((0.2, 0.1), after=0))", "after must rise, from 1 on", 6),
        ("top_k(steps((1, 0.2, 0.1), (5, 5)))", "after must rise, from 1 on", 6),
        ("top_k(steps((), ()))", "values must be 1 to 32, not 0", 6),
        ("top_k(steps((0.2, 0.1), at=3))", "steps has no option 'at'", 6),
        ("top_k(ramp(1, 0.1, rounds=3))", "rounds must be at least 4 for 5 steps", 6),
        ("top_k(ramp(1, 0.1, 90, steps=33))", "steps must be 2 to 32, not 33", 6),
        ("top_k(ramp(1, 0, 9, kind=geometric))", "needs start and end of one sign", 6),
        ("top_k(ramp(1, inf, 9))", "start and end must be at most 1e+12", 6),
        ("hadamard | top_k(steps((1, 2), 3))", "must be above 0 and at most 1", 11),
        ("qsgd(bits=steps((4, 2.5), 3))", "qsgd: bits must be int, not 2.5", 0),
        ("qsgd(bits=ramp(8.5, 2, 9))", "qsgd: bits must be int, not 8.5", 0),
        ("top_k(0.1, indices=steps((1, 2), 3))", "indices must be fixed or", 19),
        ("error_feedback(steps((1, 2), 3))", "unknown stage 'steps'", 15),
        ("steps((1, 2), 3)", "unknown stage 'steps'", 0),
        ("top_k(0.1, fixed, steps((1, 2), 3))", "takes at most 2 options", 0),
        ("top_k(fractoin=steps((1, 2), 3))", "did you mean 'fraction'?", 0),
    ],
)
def test_refused_with_a_caret(text, reason, caret):
    with pytest.raises(SpecError) as error:
        compress.phases(text)
    first, shown, mark = str(error.value).split("\n")
    assert reason in first
    assert shown.strip() == text
    assert mark.index("^") - 2 == caret


def test_where_nothing_can_change_a_schedule_is_refused():
    with pytest.raises(SpecError, match="uniform: bits changes over rounds") as error:
        compress.parse("hadamard | uniform(bits=steps((8, 4), after=3))")
    assert error.value.position == 24


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (0.5, "it must give a Schedule, not a float"),
        (schedules.Schedule((), ()), "values must be numbers, at least one"),
        (schedules.Schedule((0.1, "x"), (0, 5)), "values must be numbers"),
        (schedules.Schedule((0.1, 0.2), (0,)), "after must be 2 rising numbers"),
        (schedules.Schedule((0.1, 0.2), (1, 5)), "the first 0"),
        (schedules.Schedule((0.1, 0.2), (0, 0)), "after must be 2 rising"),
    ],
)
def test_a_schedule_of_ones_own_is_checked(monkeypatch, made, words):
    entry = registry.Entry("schedule", "mine", lambda: made, 0)
    table = registry.entries("schedule") | {"mine": entry}
    monkeypatch.setitem(registry._entries._tables, "schedule", table)
    with pytest.raises(SpecError, match=f"mine: .*{words}"):
        phases("top_k(mine())")
