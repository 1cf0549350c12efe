"""What an algorithm hands in: what is meant is taken, all else is named."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from systems import setup, updating

from fedjax_compress import algorithms
from fedjax_compress.errors import InputError
from fedjax_compress.simulate import handed_in
from fedjax_compress.typing import Beginning, Report, Tiers

GOOD = Report((), jnp.ones(()), (), {"loss": jnp.ones(()), "examples": 1.0}, True)


def test_numbers_of_python_and_whole_numbers_are_taken():
    metrics = {"loss": 1, "examples": jnp.asarray(3), "own": 4, "steps": 5.0}
    found = handed_in.report(GOOD._replace(weight=2.0, metrics=metrics), ())
    numbers = found.weight, *found.metrics.values()
    assert [float(x) for x in numbers] == [2, 1, 3, 4, 5]
    assert all((x.dtype, x.shape) == (jnp.float32, ()) for x in numbers)
    assert (found.ok.dtype, found.ok.shape, bool(found.ok)) == (jnp.bool_, (), True)
    assert list(handed_in.own_metrics(found.metrics)) == ["own"]
    assert handed_in.observed({"own": 2})["own"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": np.ones(2)}, r"weight of a report must .*, not float64\[2\]"),
        ({"weight": "x"}, "weight of a report must give one number, .*, not str"),
        ({"metrics": {"loss": 1.0}}, "metrics of a report must hold 'loss' and 'ex"),
        (
            {"metrics": {"loss": 1j, "examples": 1}},
            "metric 'loss' of a report must give one number, .*, not complex",
        ),
        ({"ok": 1}, "ok of a report must be one truth value, .*, not int"),
        ({"ok": np.ones(2, bool)}, r"one truth value, .*, not bool\[2\]"),
        ({"state": np.ones(2)}, "client state of a report must"),
    ],
)
def test_what_is_wrong_in_a_report_is_named(changes, words):
    with pytest.raises(InputError, match=words):
        handed_in.report(GOOD._replace(**changes), ())


def test_whose_server_it_is_is_said():
    before, after = {"w": np.ones(2)}, {"w": np.ones(3)}
    for name in ("server", "broadcast"):
        with pytest.raises(InputError, match=f"the algorithm's {name} gives must have"):
            handed_in.server(after, before, name)


def test_a_record_keeps_its_shape():
    words = "the record that the algorithm's reduce gives must have"
    with pytest.raises(InputError, match=words):
        handed_in.record(jnp.ones(3), jnp.ones(2))
    kept = jnp.arange(2)
    assert handed_in.record(kept, jnp.zeros(2, jnp.int32)) is kept


def test_errors_of_tiers_and_of_who_begins_say_whose_they_are():
    """Functions inside another part of an algorithm are named like its own."""

    def broken(*given):
        raise ValueError("of one's own")

    plain = algorithms.fedavg(setup(updating(lambda *given: None)))
    tier = plain.tier._replace(client=broken)
    named = handed_in.named(
        plain._replace(
            tiers=Tiers(broken, (plain.tier, tier), (1.0, 1.0)),
            begin=Beginning(0, broken),
        )
    )
    for function, note in (
        (named.tiers.each[1].client, "raised in the algorithm's client"),
        (named.begin.run, "raised in the algorithm's begin"),
    ):
        with pytest.raises(ValueError, match="of one's own") as caught:
            function()
        assert caught.value.__notes__ == [note]
