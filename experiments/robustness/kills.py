"""Runs killed at random moments, and bytes of a checkpoint changed one by one.

Command::

    python experiments/robustness/kills.py

- A tiny run (logistic regression on the digits, clients with a residual, a checkpoint
  every other round) is started, killed with SIGKILL at a random moment, and resumed; 50
  times. Each time its records, without times, and the checksum of its parameters are
  compared with those of a run that nobody disturbed. Every fifth moment is drawn from
  the start of the run, before the first round; the others follow a round drawn at
  random, within 50 ms. A run that was killed before its folder held one is started
  again.
- Each byte of its last checkpoint is changed, one at a time, and the checkpoint is
  restored: either that is refused, or what comes back is bit for bit what was saved.

Expected: 50 of 50 runs equal, and no change that is missed. Exit status 1 otherwise.
A quarter of an hour on two CPU cores that had other work.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_compress.errors import CheckpointError
from fedjax_compress.experiment import load_toml
from fedjax_compress.experiment.build import build
from fedjax_compress.experiment.saving import checkpoints_of
from fedjax_compress.report import files, records

ROUNDS = 40
RUN = [
    *["--rounds", str(ROUNDS), "--clients", "6", "--cohort", "3", "--lanes", "3"],
    *["--devices", "1", "--model", "logistic", "--quiet"],
    *["--local", "sgd(lr=0.1, steps=2, batch=5)", "--downlink", "identity"],
    *["--uplink", "error_feedback(top_k(0.1))"],
    *["--evaluate-every", "5", "--checkpoint-every", "2"],
]


def command(arguments: list[str], log: Path) -> None:
    """What the command line does; in a process of its own."""
    from fedjax_compress.__main__ import main

    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        sys.exit(main(arguments))


class Commands:
    """Starts commands in processes that have loaded everything, but no device.

    Args:
      place: for their output and their compiled programs.
    """

    def __init__(self, place: Path):
        os.environ["FEDJAX_COMPRESS_CACHE"] = str(place / "cache")
        self.log = place / "log"
        self._context = multiprocessing.get_context("forkserver")
        heavy = ["fedjax_compress.experiment.runner", "optax", "orbax.checkpoint"]
        self._context.set_forkserver_preload([*heavy, "tyro", "sklearn.datasets"])

    def start(self, arguments: list[str]) -> Any:
        process = self._context.Process(target=command, args=(arguments, self.log))
        process.start()
        return process

    def finish(self, arguments: list[str]) -> bool:
        """Whether a command ends well."""
        process = self.start(arguments)
        process.join()
        return bool(process.exitcode == 0)


def outcome(folder: Path) -> tuple[list[dict[str, Any]], str]:
    """The records without times, and the checksum of the parameters."""
    lines = records.read(folder / files.METRICS)
    told = [{k: v for k, v in r.items() if k not in records.CLOCK} for r in lines]
    return told, files.read_json(folder / files.SUMMARY)["parameters_sha256"]


def rows(folder: Path) -> int:
    """Rounds on record."""
    path = folder / files.METRICS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def seconds_until(process: Any, folder: Path, rounds: int) -> float:
    """Waits for so many rounds, or the end of the process."""
    begin = time.monotonic()
    while rows(folder) < rounds and process.is_alive():
        time.sleep(0.002)
    return time.monotonic() - begin


def killed_runs(commands: Commands, place: Path, runs: int, seed: int) -> bool:
    """Kills and resumes; whether all runs are equal to the undisturbed one."""
    whole, start = place / "whole", 0.0
    for folder in (place / "warm", whole):  # the first one compiles
        process = commands.start(["run", *RUN, "--output", str(folder)])
        start = seconds_until(process, folder, 1)
        process.join()
        assert process.exitcode == 0, commands.log.read_text()
    expected, rng, found = outcome(whole), random.Random(seed), Counter[str]()
    for number in range(runs):
        folder = place / f"run-{number}"
        process = commands.start(["run", *RUN, "--output", str(folder)])
        if number % 5:
            seconds_until(process, folder, rng.randint(1, ROUNDS))
            process.join(rng.uniform(0, 0.05))
        else:
            process.join(rng.uniform(0, start))
        process.kill()
        process.join()
        again = ["resume", str(folder), "--quiet"]
        if not (folder / files.CONFIG).exists():
            again = ["run", *RUN, "--output", str(folder)]
            found["killed before the folder held a run"] += 1
        elif (folder / files.SUMMARY).exists():
            found["killed after the last round"] += 1
        else:
            when = "between rounds" if rows(folder) else "before the first round"
            found[f"killed {when}"] += 1
        if not commands.finish(again):
            print(f"run {number} does not go on: {commands.log.read_text()}")
            continue
        found["equal"] += outcome(folder) == expected
        shutil.rmtree(folder)
    print(f"{runs} runs killed and resumed: {found['equal']} equal")
    for name, times in sorted(found.items()):
        if name.startswith("killed"):
            print(f"  {times} {name}")
    return found["equal"] == runs


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal bit for bit."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    arrays = [(np.asarray(a), np.asarray(b)) for a, b in pairs]
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in arrays)


def changed_bytes(folder: Path, most: int, seed: int) -> bool:
    """Changes bytes of the last checkpoint; whether none is missed.

    Of files other than the manifest ``most`` bytes at random, if they have more.
    """
    config = load_toml(folder / files.CONFIG)
    parts = build(config)
    like = parts.simulator.expected(parts.simulator.start(parts.params))
    checkpoints = checkpoints_of(config, parts, folder)
    first, *older = sorted((folder / files.CHECKPOINTS).iterdir(), reverse=True)
    for other in older:  # else it would be restored instead
        shutil.rmtree(other)
    saved, rng, found = checkpoints.restore(like), random.Random(seed), Counter[str]()
    paths = sorted(p for p in first.rglob("*") if p.is_file())
    manifest = first / "manifest.json"
    places = [(p, i) for p in paths for i in range(p.stat().st_size) if p != manifest]
    total = len(places)
    places = places if total <= most else rng.sample(places, most)
    sealed = [(manifest, i) for i in range(manifest.stat().st_size)]
    for path, at in (*sealed, *places):
        data = path.read_bytes()
        other_byte = bytes([data[at] ^ rng.randrange(1, 256)])
        path.write_bytes(data[:at] + other_byte + data[at + 1 :])
        try:
            back = checkpoints.restore(like)
            kind = "without effect" if same(back, saved) else "missed"
        except CheckpointError:
            kind = "refused"
        found[kind] += 1
        if kind == "missed":
            print(f"missed: byte {at} of {path.relative_to(first)}")
        path.write_bytes(data)
    print(
        f"one byte changed: {len(sealed)} of {len(sealed)} of the manifest, "
        f"{len(places)} of {total} of the other files; {found['refused']} refused, "
        f"{found['without effect']} without effect, {found['missed']} missed"
    )
    return not found["missed"] and found["refused"] >= len(sealed)


def main() -> int:
    """Both experiments; 0 if all went as expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50, help="runs to be killed")
    parser.add_argument("--bytes", type=int, default=20_000, help="bytes to be changed")
    parser.add_argument("--seed", type=int, default=0, help="of moments and bytes")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        equal = killed_runs(Commands(place), place, given.runs, given.seed)
        noticed = changed_bytes(place / "whole", given.bytes, given.seed)
    return 0 if equal and noticed else 1


if __name__ == "__main__":
    sys.exit(main())
