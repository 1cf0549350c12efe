"""Callbacks: what they are told, how they end a run, and whose fault an error is."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from fedjax_compress import tree
from fedjax_compress.errors import Diverged, InputError
from fedjax_compress.experiment import (
    Callback,
    Config,
    Run,
    Stopped,
    StopRun,
    load_toml,
    resume,
    run,
)
from fedjax_compress.report import files, records


class Diary(Callback):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.digests: list[str] = []

    def start(self, run: Run) -> None:
        self.run = run
        self.calls.append(("start", len(run.records)))

    def round(self, record: Any, state: Any) -> None:
        self.calls.append(("round", record["round"], state.round))
        record["round"] = "spoiled"  # a copy: nobody else sees it

    def evaluation(self, record: Any, state: Any) -> None:
        self.calls.append(("evaluation", record["round"], record["test_accuracy"] > 0))
        self.digests.append(tree.sha256(self.run.params(state)))

    def end(self, summary: Any) -> None:
        self.calls.append(("end", summary["rounds"]))
        self.summary = summary


class Until:
    """No subclass: stops in a round, for a reason."""

    def __init__(self, number: int):
        self.number = number

    def round(self, record: Any, state: Any) -> None:
        if record["round"] == self.number:
            raise StopRun(f"{self.number} are enough")


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in record.items() if k not in records.CLOCK}
        for record in records.read(folder / files.METRICS)
    ]


def test_all_is_told_in_order_and_changes_nothing(
    tiny: Config, finished: Path, tmp_path: Path
) -> None:
    diary = Diary()
    summary = run(tiny, tmp_path / "a", quiet=True, callbacks=[diary])
    wanted: list[Any] = [("start", 0)]
    for number in range(1, 7):
        wanted.append(("round", number, number))
        wanted += [("evaluation", number, True)] if number % 2 == 0 else []
    assert diary.calls == [*wanted, ("end", 6)]
    assert diary.run.folder == tmp_path / "a"
    assert diary.run.config == load_toml(tmp_path / "a" / files.CONFIG)
    assert diary.summary == summary
    assert diary.digests[-1] == summary["parameters_sha256"]
    assert len(set(diary.digests)) == 3
    assert numbers(tmp_path / "a") == numbers(finished)
    assert "stopped_by" not in summary


def test_several_rounds_in_a_call_are_told_one_by_one(
    tiny: Config, tmp_path: Path
) -> None:
    diary = Diary()
    config = dataclasses.replace(tiny, rounds=4, rounds_per_call=2)
    run(config, tmp_path / "a", quiet=True, callbacks=[diary])
    told = [call for call in diary.calls if call[0] == "round"]
    assert told == [("round", i, 2 * -(-i // 2)) for i in (1, 2, 3, 4)]


def test_a_callback_ends_a_run_in_good_order(
    tiny: Config, finished: Path, tmp_path: Path, capsys: Any
) -> None:
    """After round 3, which is not scored by itself; more rounds go on bit for bit."""
    folder, diary = tmp_path / "a", Diary()
    summary = run(tiny, folder, callbacks=[Until(3), diary])
    assert "stopped        by Until: 3 are enough" in capsys.readouterr().out
    assert (summary["stopped_by"], summary["stop_reason"]) == ("Until", "3 are enough")
    assert files.read_json(folder / files.SUMMARY) == summary
    assert summary["rounds"] == 3
    assert summary["test_accuracy"] > 0
    assert diary.calls[-2:] == [("evaluation", 3, True), ("end", 3)]
    assert diary.digests[-1] == summary["parameters_sha256"]
    assert (folder / files.CHECKPOINTS / "00000003").is_dir()
    assert (folder / files.PLOT).is_file()
    again = Diary()
    assert resume(folder, callbacks=[again]) == summary
    text = capsys.readouterr().out
    assert f"{folder} is finished: 3 rounds, stopped by Until: 3 are enough" in text
    assert again.calls == []
    with pytest.raises(InputError, match="run of 3 rounds; rounds can only be raised"):
        resume(folder, {"rounds": 2}, quiet=True)
    shorter = shutil.copytree(folder, tmp_path / "b")
    assert resume(shorter, {"rounds": 4}, quiet=True)["rounds"] == 4
    assert load_toml(shorter / files.CONFIG).rounds == 4
    more = resume(folder, {"rounds": 6}, quiet=True, callbacks=[again])
    assert again.calls[:2] == [("start", 3), ("round", 4, 4)]
    assert "stopped_by" not in more
    ours, theirs = numbers(folder), numbers(finished)
    assert {"test_accuracy", "test_loss"} <= ours[2].keys() - theirs[2].keys()
    assert [ours[2].get(k) for k in theirs[2]] == list(theirs[2].values())
    assert ours[:2] + ours[3:] == theirs[:2] + theirs[3:]
    whole = files.read_json(finished / files.SUMMARY)["parameters_sha256"]
    assert more["parameters_sha256"] == whole


def test_a_stop_after_an_evaluation(tiny: Config, tmp_path: Path) -> None:
    class Target(Callback):
        def evaluation(self, record: Any, state: Any) -> None:
            raise StopRun

    summary = run(tiny, tmp_path / "a", quiet=True, callbacks=[Target()])
    assert summary["rounds"] == 2
    assert summary["stop_reason"] == "no reason given"


def test_a_stop_in_the_last_round_cuts_nothing_short(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    shutil.copytree(finished, folder)
    (folder / files.SUMMARY).unlink()
    shutil.rmtree(folder / files.CHECKPOINTS / "00000006")
    summary = resume(folder, quiet=True, callbacks=[Until(6)])
    assert summary["rounds"] == 6
    assert "stopped_by" not in summary


def test_an_error_names_the_callback(tiny: Config, tmp_path: Path) -> None:
    class Broken(Callback):
        def round(self, record: Any, state: Any) -> None:
            raise KeyError("accuracy")

    class Refusing(Callback):
        def end(self, summary: Any) -> None:
            raise InputError("no room")

    class Early(Callback):
        def start(self, run: Run) -> None:
            raise StopRun("at once")

    with pytest.raises(KeyError) as caught:
        run(tiny, tmp_path / "a", quiet=True, callbacks=[Diary(), Broken()])
    assert caught.value.__notes__ == ["raised in round of the callback Broken"]
    short = dataclasses.replace(tiny, rounds=1)
    with pytest.raises(InputError, match="callback Refusing: no room"):
        run(short, tmp_path / "b", quiet=True, callbacks=[Refusing()])
    assert (tmp_path / "b" / files.SUMMARY).is_file()
    with pytest.raises(InputError, match="Early: only round and evaluation can stop"):
        run(short, tmp_path / "c", quiet=True, callbacks=[Early()])


class Short:
    def round(self, record: Any) -> None:
        pass


class Long:
    def end(self, summary: Any, state: Any, *, loud: bool = False) -> None:
        pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Short(), r"round of the callback Short is called as round\(record, state\); "),
        (Long(), r"called as end\(summary\); it takes end\(summary, state, loud\)"),
        (Diary, r"callbacks are objects: give Diary\(\), not the class"),
        (print, "start, round, evaluation, end; builtin_function_or_method has none"),
    ],
)
def test_what_is_no_callback(
    tiny: Config, tmp_path: Path, given: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        run(tiny, tmp_path / "a", quiet=True, callbacks=[given])
    assert not (tmp_path / "a").exists()


def test_a_signal_is_no_end(tiny: Config, tmp_path: Path) -> None:
    class Hasty(Diary):
        def round(self, record: Any, state: Any) -> None:
            super().round(record, state)
            os.kill(os.getpid(), signal.SIGTERM)

    hasty = Hasty()
    with pytest.raises(Stopped):
        run(tiny, tmp_path / "a", quiet=True, callbacks=[hasty])
    assert hasty.calls == [("start", 0), ("round", 1, 1)]


def test_a_run_that_diverges_is_told_to_the_end(tiny: Config, tmp_path: Path) -> None:
    diary = Diary()
    local = "sgd(lr=100.0, steps=2, batch=5)"
    config = dataclasses.replace(
        tiny, uplink="identity", local=local, server="fedavg(lr=3e38)"
    )
    with pytest.raises(Diverged):
        run(config, tmp_path / "a", quiet=True, callbacks=[diary])
    assert diary.calls == [("start", 0), ("round", 1, 0), ("end", 1)]
    assert diary.summary["diverged"] == 1
