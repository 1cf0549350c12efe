"""Checkpoints that are written while the run goes on, and are checked when read.

Orbax writes them, gives a folder its name when it is whole, and removes old ones; see
``orbax_files``. Layout of one, ``FOLDER/00000040/``::

    arrays/            written by Orbax
    mapped/000007.bin  raw bytes of leaf 7, if it was memory-mapped or ``Rows``
    manifest.json      the seal: see ``manifest``

Several processes write one checkpoint together, on a file system that they share.
What all have in common is written by process 0. Of ``Rows``, which are different in
each process, process 0 writes its own there as well, process 7 into
``FOLDER/part-0007/00000040/``, laid out and sealed in the same way. Process 0 seals its
own when all parts have got their names, with their checksums in its manifest.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from fedjax_compress.clients.rows import Rows
from fedjax_compress.errors import CheckpointError, InputError
from fedjax_compress.runtime import arrays, background, manifest
from fedjax_compress.runtime import checkpoint_folders as folders
from fedjax_compress.runtime.meeting import ALONE, Link
from fedjax_compress.typing import Tree


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
        self._own = (
            self.folder if link.leads else self.folder / folders.part(link.index)
        )
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

        A round that has an intact one already keeps it: there is but one state of a
        run after a round.

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
        if not self.link.lead(lambda: self._is_free(round)):
            return
        what = manifest.Manifest(round, self.fingerprint, manifest.plain(extra), [], {})
        error = ""
        try:
            with self._explained(round):
                written = self._begin(what, tree)
        except CheckpointError as failure:
            error = str(failure)
        if failed := next((e for e in self.link.agree(error) if e), ""):
            if not error:
                with contextlib.suppress(Exception):
                    written()
            raise CheckpointError(failed)
        work = functools.partial(self._finish, round, written)
        self._thread = background.start(work, f"checkpoint {round}")

    def _is_free(self, round: int) -> bool:
        """Whether there is no intact one of the round; one that is not is removed."""
        with self._explained(round):
            target = self.folder / folders.name(round)
            intact = target.exists() and self._is_intact(target)
            if intact and manifest.read(target).fingerprint == self.fingerprint:
                return False
            folders.remove_round(self.folder, round)
            return True

    def _begin(self, what: manifest.Manifest, tree: Tree) -> Callable[[], None]:
        """Begins to write what this process has of a tree; returns what ends it."""
        from fedjax_compress.runtime import orbax_files

        if not self.link.leads:
            tree = [x for x in jax.tree.leaves(tree) if isinstance(x, Rows)]
        self._own.mkdir(parents=True, exist_ok=True)
        arrays.check_space(self._own, tree)
        what = what._replace(leaves=arrays.describe(tree))

        def seal(folder: Path) -> None:
            parts = self._parts(what.round)
            manifest.seal(folder, what._replace(files=parts), orbax_files.NOTES)

        return orbax_files.begin(
            self._own,
            what.round,
            arrays.flat_arrays(tree),
            functools.partial(arrays.write_mapped, tree),
            seal,
            functools.partial(self._kept, what.round),
        )

    def _finish(self, round: int, written: Callable[[], None]) -> None:
        """The part of a save that runs in a thread."""
        try:
            with self._explained(round):
                written()
        except CheckpointError as error:
            self._error = error
            for draft in self._own.glob(f"{folders.name(round)}.*"):
                folders.remove_draft(draft)
            if not self.link.leads:
                folders.tell_failure(self._own, round, _cause(error.__cause__))
            return
        self._intact.add(self._own / folders.name(round))
        if self.link.leads:
            with contextlib.suppress(OSError):  # what stays is removed the next time
                folders.remove_parts(self.folder, self.link.count)

    def _parts(self, round: int) -> dict[str, list[Any]]:
        """The files of the other processes, once all are sealed."""
        if not self.link.leads:
            return {}
        files: dict[str, list[Any]] = {}
        for process in range(1, self.link.count):
            part = f"{folders.part(process)}/{folders.name(round)}"
            folders.wait_for(self.folder / part)
            files |= manifest.entries(self.folder / part, f"../{part}")
        return files

    def _kept(self, round: int, found: list[int]) -> set[int]:
        """Of the rounds that are there, those to be kept once this one is.

        The ``keep`` newest usable ones up to it. Later ones are damaged or from a
        course that was given up when an earlier one was restored.
        """
        if not self.link.leads:  # process 0 decides
            return {
                round,
                *(r for r in found if (self.folder / folders.name(r)).exists()),
            }
        older = sorted((r for r in found if r < round), reverse=True)
        usable = (r for r in older if self._is_intact(self.folder / folders.name(r)))
        return {round, *itertools.islice(usable, self.keep - 1)}

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
        return sorted(
            int(p.name) for p in folders.named(self.folder) if manifest.is_sealed(p)
        )

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
        sealed = [p for p in folders.named(self.folder) if manifest.is_sealed(p)]
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
        raise CheckpointError(folders.none_usable(self.folder, damage))

    def _check(self, folder: Path, found: manifest.Manifest, like: Tree) -> None:
        if other := manifest.differences(found.fingerprint, self.fingerprint):
            reason = f"checkpoint {folder} is of another run: {'; '.join(other)}"
            raise CheckpointError(reason)
        if misfit := arrays.misfit(found.leaves, like):
            raise CheckpointError(f"checkpoint {folder} does not fit: {misfit}")

    def _read(self, folder: Path, found: manifest.Manifest, like: Tree) -> Tree:
        """The arrays, with the ``Rows`` of all parts one after the other."""
        leaves, structure = jax.tree.flatten(arrays.read(folder, found.leaves, like))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Rows)]
        rows = [[leaves[i]] for i in places]
        for name in folders.parts(list(found.files)):
            part = folder / name
            wanted = [leaves[i] for i in places]
            more = arrays.read(part, manifest.read(part).leaves, wanted)
            for all, of_part in zip(rows, more, strict=True):
                all.append(of_part)
        for i, all in zip(places, rows, strict=True):
            leaves[i] = arrays.joined(all) if len(all) > 1 else all[0]
        return jax.tree.unflatten(structure, leaves)

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


def _cause(error: BaseException | None) -> str:
    cause = getattr(error, "strerror", None) or str(error) or repr(error)
    return cause.splitlines()[0]
