"""The JSON file: what each part has found, written down as soon as it is known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gpu_parts.plan import NAMES, PlanError

WHAT = "fedjax_compress on one accelerator"
READ = "experiments/performance/README.md says how"
NOT_BEGUN = "not begun: the time for everything was over"
_ABOUT, _PIECES, _FIGURE = "about", "pieces", "figure"
_DONE, _FAILED = "done", "failed"
_SHOWN = (
    "compile_seconds", "teraflops", "lanes", "convolution", "gain_over_the_rule",
    "device_peak_mb", "process_peak_mb", "rounds", "of_rounds",
)  # fmt: skip
"""What people see of a figure beside its medians."""


class Book:
    """A file of parts; each change is written at once, whole or not at all.

    Args:
      path: the file. One that is there already is gone on with.
      quick: whether the sizes are those of ``--quick``.

    Raises:
      PlanError: the file is none of these, or of the other sizes, or cannot be written.
    """

    def __init__(self, path: Path, quick: bool):
        self.path = path
        self.content: dict[str, Any] = {"what": WHAT, "read": READ, "quick": quick}
        self.content["parts"] = {}
        if path.exists():
            self.content = _read(path)
            if self.content["quick"] != quick:
                words = "quick" if self.content["quick"] else "full"
                raise PlanError(f"{path} holds a {words} run; give another --output")
        self.write()

    def has(self, name: str) -> bool:
        """Whether the file knows the part, from this run or an earlier one."""
        return name in self.content["parts"]

    def begin(self, name: str, **facts: Any) -> dict[str, Any]:
        """A part that begins, in place of an earlier one of this name."""
        part: dict[str, Any] = {"status": "running", **facts, _ABOUT: {}}
        part |= {"figures": [], _FAILED: {}, "missing": []}
        kept = self.content["parts"]
        self.content["parts"] = {
            each: part if each == name else kept[each]
            for each in NAMES
            if each == name or each in kept
        }
        self.write()
        return part

    def say(self, part: dict[str, Any], line: dict[str, Any]) -> None:
        """A line that a part's process has said. A figure takes the place of an earlier
        one of its name."""
        if _ABOUT in line:
            part[_ABOUT] |= line[_ABOUT]
        if _PIECES in line:
            part["missing"] = list(line[_PIECES])
        if _FIGURE in line:
            newest = line[_FIGURE]
            others = [f for f in part["figures"] if f["name"] != newest["name"]]
            part["figures"] = [*others, newest]
        if _FAILED in line:
            part[_FAILED][line[_FAILED]] = line.get("error", "")
        for name in (line.get(_DONE), line.get(_FAILED)):
            if name in part["missing"]:
                part["missing"].remove(name)
        self.write()

    def end(self, part: dict[str, Any], status: str, seconds: float) -> None:
        """A part that has ended, in words."""
        if status == "finished" and part[_FAILED]:
            status = f"finished, but {len(part[_FAILED])} of its pieces failed"
        part["status"], part["seconds"] = status, round(seconds, 1)
        self.write()

    def write(self) -> None:
        """Writes the file."""
        text = json.dumps(self.content, indent=1) + "\n"
        fresh = self.path.with_name(self.path.name + ".part")
        try:
            fresh.write_text(text, encoding="utf-8")
            os.replace(fresh, self.path)
        except OSError as error:
            raise PlanError(f"cannot write {self.path}: {error.strerror}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("what") != WHAT:
        raise PlanError(f"{path} is no file of this command; give another --output")
    return found


def summary(part: dict[str, Any]) -> list[str]:
    """Lines for people: each figure with its median and spread."""
    lines = [f"  {figure['name']}: {_words(figure)}" for figure in part["figures"]]
    lines += [f"  {name}: FAILED, {why}" for name, why in part[_FAILED].items()]
    if part["missing"]:
        lines.append(f"  not measured: {'; '.join(part['missing'])}")
    return lines


def _words(figure: dict[str, Any]) -> str:
    found = []
    for name, value in figure.items():
        label = name.replace("_", " ")
        if isinstance(value, dict) and "median" in value:
            low, high = value["lowest"], value["highest"]
            spread = f" ({low:.3g} to {high:.3g})" if value["times"] > 1 else ""
            found.append(f"{label} {value['median']:.4g}{spread}")
        elif name in _SHOWN and value is not None:
            found.append(f"{label} {value}")
    return ", ".join(found)
