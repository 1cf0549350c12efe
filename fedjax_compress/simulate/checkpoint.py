"""Checkpoints that are written while the run goes on, and are checked when read.

Layout of one checkpoint, ``FOLDER/00000040/``::

    arrays/          written by Orbax, asynchronously and atomically
    mapped/0007.bin  raw bytes of leaf 7, if it was a memory-mapped array or ``Rows``
    manifest.json    the seal, written last: see ``manifest``

A folder without a manifest is what a killed save has left; it is ignored, and removed
by the next save. A second checkpoint of the same round is called ``00000040.1`` until
it is sealed and the first one is gone, so that there is always one to go back to.

Several processes write one checkpoint together, on a file system that they share.
What all have in common is written by process 0. Of ``Rows``, which are different in
each process, process 0 writes its own there as well, process 7 into ``part-0007/``,
laid out and sealed in the same way. Process 0 seals the whole when all parts are
sealed, with their checksums in its manifest.
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

import jax

from fedjax_compress.clients.rows import Rows
from fedjax_compress.errors import CheckpointError, InputError, Lost
from fedjax_compress.simulate import arrays, background, manifest
from fedjax_compress.simulate.link import ALONE, Link
from fedjax_compress.typing import Tree

_NAME = re.compile(r"(\d{8,})(?:\.(\d+))?")
_PART = "part-"


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was skipped; the message names it and says why."""


class Checkpoints:
    """The checkpoints of one run.

    As a context it waits for the save in flight on leaving, as ``wait`` does. The end
    of the program waits as well, but nobody hears then if the save has failed.

    Of several processes, all call ``save``, ``wait`` and ``restore`` in the same
    order; what fails in one of them fails in all.

    Args:
      folder: where they lie; made by the first save.
      fingerprint: what a run must have in common with this one to continue it bit
        for bit (configuration, chunk, mesh, versions); JSON.
      keep: how many of the newest usable ones are kept, at least 1.
      link: to the other processes.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: dict[str, Any],
        keep: int = 2,
        link: Link = ALONE,
    ):
        if keep < 1:
            raise InputError(f"keep must be at least 1 checkpoint, not {keep}")
        self.folder = Path(folder).absolute()
        self.fingerprint = manifest.plain(fingerprint)
        self.keep = keep
        self.link = link
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
        target = self.folder / self.link.lead(lambda: self._begin(round))
        own, part = target, tree
        if not self.link.leads:
            own = target / _part(self.link.index)
            part = [x for x in jax.tree.leaves(tree) if isinstance(x, Rows)]
        error = ""
        try:
            with self._explained(round):
                leaves, written = arrays.write(own, part)
        except CheckpointError as failure:
            error = str(failure)
        if failed := next((e for e in self.link.agree(error) if e), ""):
            if not error:
                with contextlib.suppress(Exception):
                    written()
            if self.link.leads:
                shutil.rmtree(target, ignore_errors=True)
            raise CheckpointError(failed)
        finish = self._finish if self.link.leads else self._finish_part
        work = functools.partial(finish, round, own, written, extra, leaves)
        self._thread = background.start(work, f"checkpoint {round}")

    def _begin(self, round: int) -> str:
        """The name of the folder of a save; others are tidied up before."""
        with self._explained(round):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()
            return self._free(round).name

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
                parts = self._parts(target)
                manifest.seal(target, round, self.fingerprint, extra, leaves, parts)
        except CheckpointError as error:
            shutil.rmtree(target, ignore_errors=True)
            self._error = error
            return
        self._intact.add(target)
        with contextlib.suppress(OSError):  # what stays is removed the next time
            self._prune(target)

    def _parts(self, target: Path) -> list[str]:
        """The parts of the other processes, once all are sealed."""
        missing = {_part(p) for p in range(1, self.link.count)}
        parts = sorted(missing)
        while missing:
            process, (part, error) = self.link.noted()
            if error:
                raise OSError(f"process {process}: {error}")
            if part.startswith(f"{target.name}/"):
                missing.discard(part.removeprefix(f"{target.name}/"))
        return parts

    def _finish_part(
        self,
        round: int,
        own: Path,
        written: Callable[[], None],
        extra: dict[str, Any],
        leaves: list[list[Any]],
    ) -> None:
        """As ``_finish``, of a process other than 0: tells it when the part is done."""
        error = ""
        try:
            written()
            manifest.seal(own, round, self.fingerprint, extra, leaves)
        except Exception as failure:
            error = _cause(failure)
        with contextlib.suppress(Lost):  # the main thread will hear of it, too
            self.link.note([f"{own.parent.name}/{own.name}", error])

    def wait(self) -> None:
        """Returns when the save in flight, if any, is on the disk and sealed.

        Raises:
          CheckpointError: it has failed. Earlier checkpoints are untouched.
        """
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        found = self.link.agree(str(error or ""))[0]
        if found:
            raise error or CheckpointError(found)

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
        name = self.link.lead(lambda: self._newest(like))
        try:
            found = manifest.read(self.folder / name)
        except manifest.Damaged as error:  # process 0 has just found it intact
            raise CheckpointError(
                f"checkpoint {self.folder / name} is not there for process "
                f"{self.link.index}: {error}; the folder must be on a file system "
                "that all processes share"
            ) from None
        return found.round, self._read(self.folder / name, found, like), found.extra

    def _newest(self, like: Tree) -> str:
        """The name of the newest checkpoint that is intact, if it fits."""
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
                    stacklevel=5,
                )
            return folder.name
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

    def _read(self, folder: Path, found: manifest.Manifest, like: Tree) -> Tree:
        """The arrays, with the ``Rows`` of all parts one after the other."""
        leaves, structure = jax.tree.flatten(arrays.read(folder, found.leaves, like))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Rows)]
        rows = [[leaves[i]] for i in places]
        for part in sorted(p for p in folder.iterdir() if p.name.startswith(_PART)):
            saved = manifest.read(part).leaves
            wanted = [leaves[i] for i in places]
            for all, more in zip(rows, arrays.read(part, saved, wanted), strict=True):
                all.append(more)
        for i, all in zip(places, rows, strict=True):
            leaves[i] = arrays.joined(all) if len(all) > 1 else all[0]
        return jax.tree.unflatten(structure, leaves)

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
            left = [r for r in self.rounds() if r != round]
            rest = f"the last one is of round {left[-1]}" if left else "there is none"
            raise CheckpointError(
                f"cannot write the checkpoint of round {round} to {self.folder}: "
                f"{_cause(error)}; {rest}"
            ) from error


def _cause(error: Exception) -> str:
    cause = getattr(error, "strerror", None) or str(error) or repr(error)
    return cause.splitlines()[0]


def _part(process: int) -> str:
    return f"{_PART}{process:04d}"


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
