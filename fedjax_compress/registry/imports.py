"""Python files of a user's own, imported for the names that they register."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from fedjax_compress import registry
from fedjax_compress.errors import InputError

_PREFIX = "imported_"
_INSTALLED = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)
_brought: dict[Path, str] = {}
_latest: dict[str, Path] = {}
"""Of files of one name, the one whose names are registered."""
_running: set[Path] = set()
_current: tuple[Path, ...] = ()


def bring(paths: Sequence[str]) -> None:
    """Imports files, those that have been imported already only if they have changed.

    A file is a module of its own name, and may import what lies beside it. Whatever it
    registers can be named from then on.

    Raises:
      InputError: a file that cannot be read, or that raises: its own line that does.
    """
    global _current
    places = tuple(Path(path).absolute() for path in paths)
    names = [place.name for place in places]
    for place in places:
        if place.suffix != ".py":
            raise InputError(f"import takes a Python file, like mine.py, not {place}")
        if names.count(place.name) > 1 and places.count(place) == 1:
            raise InputError(
                f"two files to import are called {place.name}; rename one of them"
            )
    for place in places:
        _bring(place)
    _current = places


def digests() -> dict[str, str]:
    """SHA-256 of the files that ``bring`` was called with last, by their names."""
    return {place.name: _brought[place] for place in _current}


def current() -> list[str]:
    """The files that ``bring`` was called with last."""
    return [str(place) for place in _current]


def merged(before: Iterable[str], given: Iterable[str]) -> tuple[str, ...]:
    """Files to import: one that is given takes the place of one of the same name.

    Of those that are given all are kept, also two of one name, which ``bring`` refuses.
    """
    given = tuple(given)
    names = {Path(path).name for path in given}
    return (*(path for path in before if Path(path).name not in names), *given)


def _bring(place: Path) -> None:
    try:
        content = place.read_bytes()
    except OSError as error:
        raise InputError(f"cannot import {place}: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if _brought.get(place) == digest and _latest.get(place.stem) == place:
        return
    if place in _running:
        raise InputError(
            "runs while it is imported; put what runs under if __name__ == '__main__':"
        )
    before = registry.foreign()
    _running.add(place)
    try:
        _execute(place)
    finally:
        _running.discard(place)
    new = registry.foreign() - before
    for entry in new:
        if entry.kind not in registry.KINDS:
            hint = registry.nearest(entry.kind, list(registry.KINDS))
            warnings.warn(
                f"{place} registers {entry.name!r} as {entry.kind!r}, which no option "
                f"takes; {hint}",
                stacklevel=4,
            )
    if not new:
        warnings.warn(
            f"{place} registers nothing; names of your own need @register, as in "
            "@register('stage')",
            stacklevel=4,
        )
    _brought[place], _latest[place.stem] = digest, place


def _execute(place: Path) -> None:
    name = _PREFIX + place.stem
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(place.parent) not in sys.path:
        sys.path.append(str(place.parent))
    kept = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        _put_back(name, kept)
        raise InputError(f"{_where(error, place)}: {_reason(error)}") from error


def _put_back(name: str, kept: ModuleType | None) -> None:
    del sys.modules[name]
    if kept is not None:
        sys.modules[name] = kept


def _where(error: BaseException, place: Path) -> str:
    """The user's own line that has raised, or that is no Python."""
    file, line = str(place), 0
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith(("<", *_INSTALLED)):
            file, line = frame.filename, frame.lineno or 0
    if isinstance(error, SyntaxError) and error.filename:
        file, line = error.filename, error.lineno or 0
    return f"{file}, line {line}" if line else file


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return (
            "ends the program while it is imported; put that under "
            "if __name__ == '__main__':"
        )
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    first = (words.strip() or "no message").splitlines()[0]
    return (
        first if isinstance(error, InputError) else f"{type(error).__name__}: {first}"
    )
