"""Checkpoints that are written while the run goes on, and are checked when read.

Layout of one checkpoint, ``FOLDER/00000040/``::

    arrays/          written by Orbax, asynchronously and atomically
    mapped/0007.bin  raw bytes of leaf 7, if it was a memory-mapped array or ``Rows``
    manifest.json    the seal, written last: see ``manifest``

A folder without a manifest is what a killed save has left; it is ignored, and removed
by the next save. A second checkpoint of the same round is called ``00000040.1`` until
it is sealed and the first one is gone, so that there is always one to go back to.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedjax_compress.errors import CheckpointError, InputError
from fedjax_compress.simulate import arrays, background, manifest
from fedjax_compress.typing import Tree

_NAME = re.compile(r"(\d{8,})(?:\.(\d+))?")


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was skipped; the message names it and says why."""


class Checkpoints:
    """The checkpoints of one run.

    As a context it waits for the save in flight on leaving, as ``wait`` does. The end
    of the program waits as well, but nobody hears then if the save has failed.

    Args:
      folder: where they lie; made by the first save.
      fingerprint: what a run must have in common with this one to continue it bit
        for bit (configuration, chunk, mesh, versions); JSON.
      keep: how many of the newest usable ones are kept, at least 1.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any], keep: int = 2):
        if keep < 1:
            raise InputError(f"keep must be at least 1 checkpoint, not {keep}")
        self.folder = Path(folder).absolute()
        self.fingerprint = manifest.plain(fingerprint)
        self.keep = keep
        self._thread: threading.Thread | None = None
        self._error: CheckpointError | None = None
        self._intact: set[Path] = set()  # sealed or verified by this object

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self.wait()

    def save(self, round: int, tree: Tree, extra: dict[str, Any]) -> None:
        """Writes a checkpoint; returns once the arrays are copied.

        What is left (writing, checksums, removing old ones) is done in a thread. One
        save is in flight at a time: the next one waits for it.

        Args:
          round: number of finished rounds.
          tree: jax or numpy arrays, ``Rows`` and Python numbers. They may change, or
            be donated, as soon as this returns. Memory-mapped ones, and ``Rows`` of
            more than ``arrays.COPIED`` bytes, are copied piece by piece to their
            file, all others in memory.
          extra: JSON, handed back by ``restore``.

        Raises:
          CheckpointError: this save cannot be started, or the one before has failed.
        """
        self.wait()
        extra = manifest.plain(extra)
        with self._explained(round):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()
            target = self._free(round)
            try:
                leaves, written = arrays.write(target, tree)
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
        work = functools.partial(self._finish, round, target, written, extra, leaves)
        self._thread = background.start(work, f"checkpoint {round}")

    def _free(self, round: int) -> Path:
        names = (f"{round:08d}.{i}" if i else f"{round:08d}" for i in itertools.count())
        return next(p for p in (self.folder / n for n in names) if not p.exists())

    def _finish(
        self,
        round: int,
        target: Path,
        written: Callable[[], None],
        extra: dict[str, Any],
        leaves: list[list[Any]],
    ) -> None:
        """The part of a save that runs in a thread."""
        try:
            with self._explained(round):
                written()
                manifest.seal(target, round, self.fingerprint, extra, leaves)
        except CheckpointError as error:
            shutil.rmtree(target, ignore_errors=True)
            self._error = error
            return
        self._intact.add(target)
        with contextlib.suppress(OSError):  # what stays is removed the next time
            self._prune(target)

    def wait(self) -> None:
        """Returns when the save in flight, if any, is on the disk and sealed.

        Raises:
          CheckpointError: it has failed. Earlier checkpoints are untouched.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def rounds(self) -> list[int]:
        """Rounds of which a sealed checkpoint lies here, ascending; unverified."""
        return sorted({_order(p)[0] for p in self._folders() if manifest.is_sealed(p)})

    def restore(self, like: Tree) -> tuple[int, Tree, dict[str, Any]]:
        """The newest usable checkpoint: (round, tree, extra).

        Every file is checked first. Damaged checkpoints are skipped with a
        ``CheckpointWarning``.

        Args:
          like: a tree of the same structure, shapes and dtypes. A leaf comes back
            as what stands here: a jax array on the same devices, a numpy array, or
            a Python number. A memory-mapped leaf is filled in place. ``Rows`` come
            back as many as were saved.

        Raises:
          CheckpointError: there is no usable one, or the newest usable one has
            another fingerprint or holds other arrays; names what differs.
        """
        self.wait()
        sealed = [p for p in self._folders() if manifest.is_sealed(p)]
        damage: list[str] = []
        for folder in sealed:
            try:
                found = manifest.verify(folder)
            except manifest.Damaged as error:
                damage.append(f"{folder.name}: {error}")
                continue
            self._intact.add(folder)
            self._check(folder, found, like)
            for line in damage:
                warnings.warn(
                    f"damaged checkpoint skipped in {self.folder}: {line}; going "
                    f"back to round {found.round}",
                    CheckpointWarning,
                    stacklevel=2,
                )
            return found.round, arrays.read(folder, found.leaves, like), found.extra
        raise CheckpointError(self._none_usable(damage))

    def _check(self, folder: Path, found: manifest.Manifest, like: Tree) -> None:
        was, now = _flat(found.fingerprint), _flat(self.fingerprint)
        lines = [
            f"{key} was {was.get(key, 'absent')!r}, now {now.get(key, 'absent')!r}"
            for key in sorted({*was, *now})
            if key not in was or key not in now or was[key] != now[key]
        ]
        if lines:
            reason = f"checkpoint {folder} is of another run: {'; '.join(lines)}"
            raise CheckpointError(reason)
        stored = [leaf[:3] for leaf in found.leaves]
        for saved, wanted in itertools.zip_longest(stored, arrays.expect(like)):
            if not arrays.fits(saved, wanted):
                reason = f"it holds {_leaf(saved)} where {_leaf(wanted)} is expected"
                raise CheckpointError(f"checkpoint {folder} does not fit: {reason}")

    def _none_usable(self, damage: list[str]) -> str:
        if damage:
            reason = f"all are damaged ({'; '.join(damage)})"
        elif self._folders():
            names = ", ".join(p.name for p in self._folders())
            reason = f"none was written to its end ({names})"
        elif self.folder.is_dir():
            reason = "the folder holds none"
        else:
            reason = "there is no such folder"
        return f"no usable checkpoint in {self.folder}: {reason}"

    def _folders(self) -> list[Path]:
        """All folders named like a checkpoint, newest first."""
        try:
            named = [p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)]
        except OSError:
            return []
        return sorted((p for p in named if p.is_dir()), key=_order, reverse=True)

    def _remove_unfinished(self) -> None:
        for folder in self._folders():
            if not manifest.is_sealed(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _prune(self, newest: Path) -> None:
        """Keeps the ``keep`` newest usable ones up to the one just sealed.

        Later ones, and another one of the same round, are damaged or from a course
        that was given up when an earlier one was restored.
        """
        kept = [newest]
        for folder in self._folders():
            if folder == newest or not manifest.is_sealed(folder):
                continue
            older = _order(folder)[0] < _order(newest)[0]
            if older and len(kept) < self.keep and self._is_intact(folder):
                kept.append(folder)
                continue
            self._intact.discard(folder)
            # Without its seal, a half-removed one is not taken for a damaged one.
            (folder / manifest.NAME).unlink()
            shutil.rmtree(folder)
        plain = self.folder / f"{_order(newest)[0]:08d}"
        if newest != plain and not plain.exists():
            newest.rename(plain)
            self._intact.add(plain)

    def _is_intact(self, folder: Path) -> bool:
        if folder not in self._intact:
            try:
                manifest.verify(folder)
            except manifest.Damaged:
                return False
            self._intact.add(folder)
        return True

    @contextlib.contextmanager
    def _explained(self, round: int) -> Iterator[None]:
        """Whatever goes wrong becomes one line."""
        try:
            yield
        except Exception as error:
            cause = getattr(error, "strerror", None) or str(error) or repr(error)
            left = [r for r in self.rounds() if r != round]
            rest = f"the last one is of round {left[-1]}" if left else "there is none"
            raise CheckpointError(
                f"cannot write the checkpoint of round {round} to {self.folder}: "
                f"{cause.splitlines()[0]}; {rest}"
            ) from error


def _order(folder: Path) -> tuple[int, int]:
    """Round and attempt of a checkpoint's folder."""
    match = _NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def _leaf(described: list[Any] | None) -> str:
    if described is None:
        return "nothing more"
    path, shape, dtype = described
    return f"{path or 'an array'} {dtype}[{', '.join(map(str, shape))}]"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dictionaries inside become names with dots, to compare entry by entry."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
