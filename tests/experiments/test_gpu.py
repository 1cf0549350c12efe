"""The command for one accelerator: its plan, its limits and its file; nothing compiles.

What the parts measure is not tested here: ``gpu.py --quick`` runs them all.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

PYTHON = sys.executable


@pytest.fixture
def gpu(repository, monkeypatch):
    """The modules of the command, found as the script finds them."""
    monkeypatch.syspath_prepend(str(repository / "experiments" / "performance"))
    from gpu_parts import book, measuring, plan, running

    return SimpleNamespace(book=book, measuring=measuring, plan=plan, running=running)


def told(lines: list[str], then: str = "") -> list[str]:
    """A command that prints lines at once, then does something."""
    code = f"import sys, time, os\nfor s in {lines!r}: print(s, flush=True)\n{then}"
    return [PYTHON, "-c", code]


def test_all_parts_together_fit_into_eight_minutes(gpu):
    parts = gpu.plan.chosen("")
    assert [part.name for part in parts] == list(gpu.plan.NAMES)
    assert sum(part.seconds for part in parts) <= gpu.plan.TOTAL == 8 * 60


def test_parts_run_in_their_own_order_with_the_limits_given(gpu):
    parts = gpu.plan.chosen("memory, w1", ["w1=7.5"])
    assert [part.name for part in parts] == ["w1", "memory"]
    assert parts[0].seconds == 7.5
    assert parts[1] in gpu.plan.PARTS
    found = gpu.plan.chosen("memory, w1", ["w1=7.5"], quick=True)
    assert [part.seconds for part in found] == [7.5, gpu.plan.QUICK]


@pytest.mark.parametrize(
    ("names", "limits", "said"),
    [
        ("w1,w3", [], "no part 'w3'; known: environment, w1"),
        ("w1,", [], "no part ''"),
        ("w1,w1", [], "names a part twice"),
        ("w1", ["w2=5"], "w2 is not among the parts"),
        ("", ["w2"], "must be a part and seconds, as in w1=60"),
        ("", ["w2=0"], "must be a part and seconds"),
        ("", ["w2=nan"], "must be a part and seconds"),
        ("", ["x=5"], "no part 'x'"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(gpu, names, limits, said):
    with pytest.raises(gpu.plan.PlanError, match=said) as caught:
        gpu.plan.chosen(names, limits)
    assert "\n" not in str(caught.value)


def test_a_part_gets_its_limit_or_what_is_left(gpu):
    part = gpu.plan.Part("w1", 30, "")
    found = [
        gpu.plan.allowed(part, left) for left in (100, 12, gpu.plan.LEAST, 4.9, -1)
    ]
    assert found == [30, 12, gpu.plan.LEAST, 0, 0]


@pytest.mark.slow
def test_what_a_part_said_is_kept_when_it_is_killed_with_its_children(gpu, tmp_path):
    heard: list[dict] = []
    mark = tmp_path / "child"
    child = f"open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    then = f"os.fork() or exec({child!r})\ntime.sleep(60)"
    status = gpu.running.run(told(['{"a": 1}', "noise", "[1]"], then), 9, heard.append)
    assert status == "killed at its limit of 9 s"
    assert heard == [{"a": 1}]
    pid = mark.read_text()
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True)
    assert state.stdout.strip()[:1] in (b"", b"Z")


def test_a_part_that_goes_on_behind_its_closed_stdout_is_killed_too(gpu):
    then = "os.close(1); time.sleep(60)"
    assert "killed" in gpu.running.run(told([], then), 2, lambda line: None)


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("", "finished"),
        ("sys.exit('no\\nGPU')", "ended with status 1; on its stderr: no GPU"),
        ("os.kill(os.getpid(), 11)", "ended with SIGSEGV; on its stderr: nothing"),
        ("os.kill(os.getpid(), 9)", r"ended with SIGKILL (out of memory?); on"),
    ],
)
def test_how_a_part_ends_is_said(gpu, then, said):
    heard: list[dict] = []
    status = gpu.running.run(told(['{"figure": {}}'], then), 60, heard.append)
    assert status.startswith(said)
    assert heard == [{"figure": {}}]


def figure(gpu, name, *values):
    return {"name": name, "seconds_per_round": gpu.measuring.spread(values)}


def test_the_file_has_each_fact_at_once_and_says_what_is_missing(gpu, tmp_path):
    path = tmp_path / "found.json"
    book = gpu.book.Book(path, quick=True)
    part = book.begin("w1", limit_seconds=3)
    lines = [
        {"about": {"jax": "0.11"}},
        {"pieces": ["search", "few", "many", "most"]},
        {"figure": figure(gpu, "one", 9.0)},
        {"figure": figure(gpu, "two", 3.0)},
        {"figure": figure(gpu, "one", 4.0, 1.0, 2.0)},
        {"done": "search"},
        {"failed": "few", "error": "ValueError: no"},
    ]
    for number, line in enumerate(lines):
        book.say(part, line)
        kept = json.loads(path.read_text())["parts"]["w1"]
        assert kept["status"] == "running"
        assert len(kept["figures"]) == (0, 0, 1, 2, 2, 2, 2)[number]
    book.end(part, "killed at its limit of 3 s", 3.04)
    kept = json.loads(path.read_text())["parts"]["w1"]
    assert kept["about"] == {"jax": "0.11"}
    assert (kept["missing"], kept["failed"]) == (
        ["many", "most"],
        {"few": "ValueError: no"},
    )
    assert [f["name"] for f in kept["figures"]] == ["two", "one"]
    assert kept["figures"][1]["seconds_per_round"] == {
        "median": 2.0, "lowest": 1.0, "highest": 4.0, "times": 3,
        "values": [4.0, 1.0, 2.0],
    }  # fmt: skip
    assert (kept["status"], kept["seconds"]) == ("killed at its limit of 3 s", 3.0)
    said = gpu.book.summary(kept)
    assert said == [
        "  two: seconds per round 3",
        "  one: seconds per round 2 (1 to 4)",
        "  few: FAILED, ValueError: no",
        "  not measured: many; most",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["found.json"]


def test_a_part_whose_pieces_failed_has_not_simply_finished(gpu, tmp_path):
    book = gpu.book.Book(tmp_path / "found.json", quick=True)
    part = book.begin("w2")
    book.say(part, {"failed": "few", "error": "no"})
    book.end(part, "finished", 1)
    assert part["status"] == "finished, but 1 of its pieces failed"


def test_a_file_is_gone_on_with_and_only_the_parts_run_again_change(gpu, tmp_path):
    path = tmp_path / "found.json"
    for name, value in (("memory", 1.0), ("w1", 2.0), ("memory", 3.0)):
        book = gpu.book.Book(path, quick=False)
        part = book.begin(name)
        book.say(part, {"figure": figure(gpu, name, value)})
        book.end(part, "finished", 1)
    kept = json.loads(path.read_text())["parts"]
    assert list(kept) == ["w1", "memory"]
    medians = {
        n: p["figures"][0]["seconds_per_round"]["median"] for n, p in kept.items()
    }
    assert medians == {"w1": 2.0, "memory": 3.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"what": "fedjax_compress on one accelerator", "quick": false}',
            "a full run",
        ),
        ('{"parts": {}}', "no file of this command"),
        ("[]", "no file of this command"),
        ("{", "no file of this command"),
    ],
)
def test_a_file_of_something_else_is_left_as_it_is(gpu, tmp_path, text, said):
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(gpu.plan.PlanError, match=said):
        gpu.book.Book(path, quick=True)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--parts", "w9"], "gpu.py: there is no part 'w9'"),
        (["--output", "nowhere/x.json"], "gpu.py: cannot write nowhere/x.json"),
        (["--data", "nowhere"], "--data: there is no folder nowhere"),
        (["--quick", "--data", "."], "--quick makes the few rows that it needs"),
        (["--seconds", "0"], "--seconds must be above 0, not 0"),
    ],
)
def test_the_command_refuses_with_status_2_and_starts_nothing(
    repository, tmp_path, words, said
):
    script = repository / "experiments" / "performance" / "gpu.py"
    command = [PYTHON, str(script), *words]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert said in found.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_parts_for_which_there_is_no_time_are_not_begun(repository, tmp_path):
    script = repository / "experiments" / "performance" / "gpu.py"
    command = [PYTHON, str(script), "--parts", "w1,w2", "--seconds", "1"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 1
    kept = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {part["status"] for part in kept.values()} == {
        "not begun: the time for everything was over"
    }
    assert kept["w2"]["command"] == "python experiments/performance/gpu.py --parts w2"


def test_a_command_that_is_ended_writes_so_and_ends_its_part(repository, tmp_path):
    script = repository / "experiments" / "performance" / "gpu.py"
    command = [PYTHON, str(script), "--parts", "environment", "--quick"]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    path = tmp_path / "gpu.json"
    end = time.monotonic() + 300
    while running.poll() is None and '"running"' not in (
        path.read_text() if path.exists() else ""
    ):
        assert time.monotonic() < end
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    said = running.communicate()[1]
    assert (running.returncode, said) == (130, "stopped; gpu.json has what was found\n")
    kept = json.loads(path.read_text())["parts"]["environment"]
    assert kept["status"] == "stopped from outside"
