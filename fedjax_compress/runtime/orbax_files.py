"""All that is asked of Orbax: it writes checkpoints, names them last, keeps the newest.

A module of its own, for Orbax takes a second to load.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

DIGITS = 8
"""Of the number by which a checkpoint's folder is named."""
NOTES = ("_CHECKPOINT_METADATA", "commit_success.txt")
"""Files that Orbax writes into it last; nobody here reads them."""
_ARRAYS, _MAPPED = "arrays", "mapped"

Copied = Callable[[Path], Callable[[], None]]
"""Writes files into a folder: some at once, the others when its result is called."""


class _Files(ocp.handlers.AsyncCheckpointHandler):
    """Raw files beside the arrays of a checkpoint. What fails, fails at its end."""

    async def async_save(self, directory: Any, args: Any) -> list[Any]:
        self._rest, self._error = lambda: None, None
        try:
            self._rest = args.write(Path(directory))
        except Exception as error:
            self._error = error
        return []

    def finalize(self, directory: Any) -> None:
        if self._error is not None:
            raise self._error
        self._rest()

    def save(self, directory: Any, args: Any) -> None:
        raise NotImplementedError

    def restore(self, directory: Any, args: Any) -> None:
        raise NotImplementedError


@ocp.args.register_with_handler(_Files, for_save=True, for_restore=True)
@dataclasses.dataclass
class _Save(ocp.args.CheckpointArgs):
    write: Copied


@dataclasses.dataclass
class _Keep:
    """What is preserved when a checkpoint has got its name."""

    choose: Callable[[list[int]], set[int]]

    def should_preserve(self, found: Sequence[Any], *, context: Any) -> list[bool]:
        rounds = [checkpoint.step for checkpoint in found]
        kept = self.choose(rounds)
        return [r in kept for r in rounds]


def begin(
    folder: Path,
    round: int,
    flat: dict[str, np.ndarray],
    write: Copied,
    seal: Callable[[Path], None],
    choose: Callable[[list[int]], set[int]],
) -> Callable[[], None]:
    """Begins to write a checkpoint; returns once the arrays are copied.

    Parts of checkpoints that a killed process has left are removed before.

    Args:
      folder: where all lie; it exists, and holds none of this round.
      round: by which it is named.
      flat: arrays by name.
      write: writes further files.
      seal: called with the folder when all is written, before it gets its name.
      choose: of the rounds that are there, this one included, those to be kept.

    Returns:
      A function that waits for the end, and raises what went wrong.
    """
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    how = _by_this_process()
    arrays = ocp.PyTreeCheckpointHandler(multiprocessing_options=how)
    registry.add(_ARRAYS, ocp.args.PyTreeSave, arrays)
    registry.add(_MAPPED, _Save, _Files())
    draft = folder / f"{round:0{DIGITS}d}.orbax-checkpoint-tmp"
    options = ocp.CheckpointManagerOptions(
        create=False,
        step_format_fixed_length=DIGITS,
        cleanup_tmp_directories=True,
        lightweight_initialize=True,
        save_root_metadata=False,
        preservation_policy=_Keep(choose),
        multiprocessing_options=how,
        # A folder that cannot be made is an error here, not a long wait later.
        async_options=ocp.AsyncOptions(
            create_directories_asynchronously=False,
            post_finalization_callback=lambda: seal(draft),
        ),
    )
    items: dict[str, Any] = {_MAPPED: _Save(write)}
    if flat:
        items[_ARRAYS] = ocp.args.PyTreeSave(flat)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silence())
        manager = ocp.CheckpointManager(
            folder, options=options, handler_registry=registry
        )
        stack.callback(manager.close)
        manager.save(round, args=ocp.args.Composite(**items), force=True)
        return stack.pop_all().close


def read(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint that ``begin`` has written."""
    how = _by_this_process()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=how)
    wanted = dict.fromkeys(names, ocp.RestoreArgs(restore_type=np.ndarray))
    with (
        _silence(),
        ocp.Checkpointer(handler, multiprocessing_options=how) as checkpointer,
    ):
        args = ocp.args.PyTreeRestore(restore_args=wanted)
        found: dict[str, np.ndarray] = checkpointer.restore(folder / _ARRAYS, args=args)
        return found


def _by_this_process() -> Any:
    """Orbax is to wait for no other process: each reads and writes for itself."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"own_{own}"
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drops what Orbax logs: its failures are raised, and shown as one line."""
    logger, silence = logging.getLogger("absl"), _Silence()
    logger.addFilter(silence)
    try:
        yield
    finally:
        logger.removeFilter(silence)


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname
