"""A run whose server's model is lost: its end, its files, and the runs beside it."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from fedjax_compress import registry, tree
from fedjax_compress.cli.commands import main
from fedjax_compress.errors import Diverged
from fedjax_compress.experiment import (
    Config,
    Grid,
    Scheme,
    dump_toml,
    gridding,
    resume,
    run,
    trained,
)
from fedjax_compress.experiment.grid import jobs
from fedjax_compress.experiment.judging import Judge
from fedjax_compress.experiment.saving import ProgramWarning, Saver
from fedjax_compress.report import files, records, report
from fedjax_compress.report.reporting import read_finished
from fedjax_compress.report.tables import table
from fedjax_compress.typing import ServerOptimizer, Stage

BASE = Config(
    clients=8,
    cohort=4,
    rounds=3,
    model="logistic",
    # Steps of more than 1 leave the range of float32, whose end is 3.4e38, at once.
    local="sgd(lr=100.0, steps=2, batch=5)",
    server="fedavg(lr=3e38)",
    uplink="identity",
    downlink="identity",
    lanes=4,
    tune="never",
    evaluate_every=1,
)


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that diverges in its first round."""
    folder = tmp_path_factory.mktemp("lost") / "run"
    with pytest.raises(Diverged) as caught:
        run(BASE, folder, quiet=True)
    assert caught.value.round == 1
    line = str(caught.value)
    assert "\n" not in line
    assert "not usable after round 1, its numbers are not finite" in line
    assert f"{folder} has the records, and the model after round 0" in line
    return folder


def test_records_and_summary_say_what_has_happened(lost: Path):
    (record,) = records.read(lost / files.METRICS)
    assert record["diverged"] is True
    assert record["train_loss"] > 0
    assert "test_loss" not in record
    summary = read_finished(lost).summary
    assert summary["diverged"] == summary["rounds"] == 1
    assert summary["test_accuracy"] is None
    assert summary["test_loss"] is None


def test_the_model_before_is_kept(lost: Path):
    _, params = trained(lost)
    summary = read_finished(lost).summary
    assert tree.sha256(params) == summary["parameters_sha256"]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


def test_the_command_line_has_a_status_for_it(
    lost: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A resume goes on from the last checkpoint, and comes to the same end."""
    again = tmp_path / "again"
    shutil.copytree(lost, again)
    assert main(["resume", str(again), "--quiet"]) == Diverged.STATUS == 4
    said = capsys.readouterr().err
    assert said.startswith(
        "fedjax-compress: diverged: the server's model is not usable"
    )
    assert said.count("\n") == 1
    before, after = (records.read(f / files.METRICS) for f in (lost, again))
    clean = [{k: v for k, v in r.items() if k not in records.CLOCK} for r in before]
    assert [{k: v for k, v in r.items() if k not in records.CLOCK} for r in after] == (
        clean
    )


def stands_in(lost: Path, place: Path, config: Config, diverged: bool) -> None:
    """A run of this configuration that has, or has not, diverged."""
    shutil.copytree(lost, place)
    (place / files.CONFIG).write_text(dump_toml(config))
    if diverged:
        return
    summary: Any = files.read_json(place / files.SUMMARY)
    history = records.read(place / files.METRICS)
    del summary["diverged"], history[0]["diverged"]
    scores = {"test_accuracy": 0.5, "test_loss": 1.0}
    rounds = [history[0] | scores | {"round": i + 1} for i in range(config.rounds)]
    lines = "".join(records.to_line(r) for r in rounds)
    (place / files.METRICS).write_text(lines)
    files.write_json(place / files.SUMMARY, summary | scores | {"rounds": len(rounds)})


def never(*arguments: Any, **options: Any) -> None:
    raise AssertionError("a run that has ended was tried again")


def shown(found: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(found)
    return console.export_text()


def test_a_grid_marks_it_goes_on_and_does_not_try_again(
    lost: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    grid = Grid(
        BASE,
        (
            Scheme("lost", {"uplink": "identity"}),
            Scheme("fine", {"uplink": "cast"}),
        ),
        (0, 1),
    )

    def fake(config: Config, place: Path, **options: Any) -> None:
        diverged = config.uplink == "identity" and config.seed == 0
        stands_in(lost, place, config, diverged)
        if diverged:
            raise Diverged("diverged", 1)

    monkeypatch.setattr(gridding, "run", fake)
    monkeypatch.setattr(gridding, "_rehearse", lambda todo: {BASE.data: None})
    found = gridding.run_grid(grid, tmp_path / "grid", quiet=True)
    assert [s["diverged"] for s in found["schemes"]] == [1, 0]
    assert [s["pareto"] for s in found["schemes"]] == [False, True]
    assert found["schemes"][0]["test_accuracy"]["mean"] is None
    rows = shown(table(found["schemes"], Console(width=200))).splitlines()
    assert "1 of 2 diverged" in rows[1]
    monkeypatch.setattr(gridding, "run", never)
    monkeypatch.setattr(gridding, "resume", never)
    assert gridding.run_grid(grid, tmp_path / "grid", quiet=True) == found
    assert len(jobs(grid)) == 4
    listed = report([tmp_path / "grid"], tmp_path / "report", quiet=True)["schemes"]
    assert [s.get("diverged") for s in listed] == [1, None, None, None]
    text = capsys.readouterr().out
    report([tmp_path / "grid"], tmp_path / "again")
    rows = capsys.readouterr().out.splitlines()
    assert text == ""
    assert ["diverged" in row for row in rows[1:5]] == [True, False, False, False]
    assert "50.0 %" in rows[2]


def judge_of(config: Config, evaluate: Any) -> Judge:
    placement = SimpleNamespace(local=lambda server: server)
    parts: Any = SimpleNamespace(
        simulator=SimpleNamespace(placement=placement),
        personal=None,
        algorithm=SimpleNamespace(
            network=lambda server: (None, server),
            personal=None,
            judged=None,
            others=None,
        ),
        evaluate=evaluate,
    )
    return Judge(config, parts)


def after(number: int, server: float = 1.0) -> Any:
    return SimpleNamespace(server=server, round=number)


@pytest.mark.parametrize(
    ("dropped", "loss", "lost_in"),
    [(4, np.nan, 7), (4, np.inf, 7), (4, 2.0, 0), (3, np.nan, 0)],
)
def test_a_model_with_which_nothing_can_be_computed(dropped, loss, lost_in):
    """Finite, but nobody can learn from it, and its loss is not finite."""
    config = dataclasses.replace(BASE, rounds=100, evaluate_every=10)
    judge = judge_of(config, lambda params: {"test_loss": loss})
    record = {"round": 7, "dropped": dropped, "clients": 4}
    assert judge(after(7), record) == lost_in
    assert record.get("diverged", False) == bool(lost_in)
    assert "test_loss" not in record


def test_a_model_that_nobody_changes_is_scored_once():
    """Whoever takes part is dropped in 4 rounds; in round 5 another model comes."""
    config = dataclasses.replace(BASE, rounds=100, evaluate_every=2)
    scored: list[float] = []

    def evaluate(params: float) -> dict[str, float]:
        scored.append(params)
        return {"test_loss": params}

    judge, records = judge_of(config, evaluate), []
    for number, server in ((1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0)):
        records.append({"round": number, "dropped": 4, "clients": 4})
        assert judge(after(number, server), records[-1]) == 0
    assert scored == [1.0, 2.0]
    assert [r.get("test_loss") for r in records] == [None, 1.0, None, 1.0, None, 2.0]
    fine = {"round": 8, "dropped": 0, "clients": 4}
    assert judge(after(8, 2.0), fine) == 0
    assert fine["test_loss"] == 2.0


def saver_of(before: dict[str, Any]) -> Saver:
    saver = object.__new__(Saver)
    saver.folder, saver._before = Path("there"), before
    saver._known = dict(before.get("programs", {}))
    return saver


def test_another_program_is_said_once_and_the_same_one_is_not():
    before = {"programs": {"sampling": "a", "[0]": "b"}, "versions": {"jax": "old"}}
    saver = saver_of(before)
    with pytest.warns(ProgramWarning, match="jax was old, now "):
        saver.compare({"sampling": "a", "[0]": "other"})
    saver.compare({"sampling": "a", "[0]": "other"})  # warnings are errors here
    before["versions"] = {}
    with pytest.warns(ProgramWarning, match="^the sampling is not .* has changed;"):
        saver_of(before).compare({"sampling": "other", "[0]": "b"})
    saver_of(before).compare({"sampling": "a", "[0]": "b", "[1]": "new"})
    saver_of({}).compare({"sampling": "a"})


@pytest.mark.parametrize(
    ("round", "resident", "store", "whole"),
    [
        (6, True, (), True),
        (7, True, (), False),
        (6, True, {"residual": np.zeros(2)}, False),
        (6, False, (), False),
    ],
)
def test_a_state_is_whole_by_what_all_processes_know(round, resident, store, whole):
    """The model was lost in round 7; of a resumed run only one process has records."""
    saver = saver_of({})
    saver.parts = SimpleNamespace(simulator=SimpleNamespace(resident=resident))
    state: Any = SimpleNamespace(round=round, store=store)
    assert saver.is_whole(state, 7) is whole


def fails_in_round_2() -> ServerOptimizer:
    """The model after round 1 is fine, and after round 2 it is infinite."""

    def apply(mean: Any, state: Any, params: Any, context: Any) -> tuple[Any, Any]:
        factor = jnp.where(state > 0, jnp.inf, 1e-6)
        return jax.tree.map(lambda p, m: p + factor * m, params, mean), state + 1

    return ServerOptimizer(lambda params: jnp.zeros((), jnp.int32), apply)


@pytest.mark.parametrize(
    ("changes", "dropped"),
    [
        # Client states are those after the round, so that they are not saved.
        (
            {"server": "fails_in_round_2", "uplink": "error_feedback(identity)"},
            [0, 0],
        ),
        # Finite after round 1, but too large for anybody to compute with in round 2.
        ({"server": "fedavg(lr=1e20)", "model": "mlp(hidden=(4,))"}, [0, 4]),
    ],
)
def test_what_is_kept_where_the_state_before_is_not_whole(
    changes: dict[str, str],
    dropped: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    table = dict(registry.entries("server"))
    monkeypatch.setitem(registry._entries._tables, "server", table)
    registry.register("server")(fails_in_round_2)
    config = dataclasses.replace(BASE, evaluate_every=3, **changes)
    with pytest.raises(Diverged) as caught:
        run(config, tmp_path / "run", quiet=True)
    assert caught.value.round == 2
    assert "the model after round 0;" in str(caught.value)
    history = records.read(tmp_path / "run" / files.METRICS)
    assert [r.get("diverged", False) for r in history] == [False, True]
    assert [r["dropped"] for r in history] == dropped
    assert read_finished(tmp_path / "run").summary["diverged"] == 2
    _, params = trained(tmp_path / "run")
    assert all(np.abs(x).max() < 9 for x in jax.tree.leaves(params))


def mine(scale: float) -> None:
    """Registers a stage that sends everything as it is and scales what arrives."""
    usual = registry.build("stage", "identity")

    def halved() -> Stage:
        def decode(carrier: Any, side: Any, key: Any) -> Any:
            return scale * usual.decode(carrier, side, key)

        return usual._replace(decode=decode)

    registry.register("stage")(halved)


def test_a_resume_warns_where_a_stage_of_ones_own_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Warnings are errors here: the resume of the same code gives none."""
    table = dict(registry.entries("stage"))
    monkeypatch.setitem(registry._entries._tables, "stage", table)
    fine = dataclasses.replace(
        BASE, rounds=1, uplink="halved", local="sgd(steps=1, batch=5)", server="fedavg"
    )
    mine(0.5)
    run(fine, tmp_path / "run", quiet=True)
    resume(tmp_path / "run", {"rounds": 2}, quiet=True)
    mine(0.25)
    with pytest.warns(ProgramWarning, match="^the program of a round is not the one"):
        resume(tmp_path / "run", {"rounds": 3}, quiet=True)
