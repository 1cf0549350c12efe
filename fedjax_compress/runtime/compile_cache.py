"""Compiled programs kept on disk, so that the next start need not compile them.

jax has such a cache; here it gets a folder of the user's, a bound on its size, and
entries that can be trusted. jax writes an entry in place, so a killed process leaves a
part of one, which jax then neither reads nor replaces; and where it packs entries with
Zstandard it executes one with a changed byte. So every entry gets a seal, its checksum,
as soon as it is written, and each start removes those that differ from their seal or
have none, before jax sees them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

VARIABLE = "FEDJAX_COMPRESS_CACHE"
LARGEST_BYTES, MOST_ENTRIES = 2**29, 2000
_OFF = ("off", "0")
_SEALS, _DRAFT = "seals", ".draft"
_OLD_DRAFT = 3600.0
"""Seconds after which a draft belongs to a process that was killed."""
_FOLDER = "jax_compilation_cache_dir"
_THRESHOLD, _USUAL_THRESHOLD = "jax_persistent_cache_min_compile_time_secs", 1.0
_WRITES = "/jax/compilation_cache/cache_misses"
_COMPILED = "/jax/core/compile/backend_compile_duration"
_ours: str | None = None
_sealed: dict[str, str] = {}
"""Checksums of the entries of ``_ours``."""


class CompileCacheWarning(UserWarning):
    """Programs are not kept on disk; the message says why."""


def use_compilation_cache(folder: str | Path | None = None) -> Path | None:
    """Lets jax keep compiled programs on disk and take them from there.

    Changes settings of jax for the whole process; the command line calls it, an import
    never does. Results do not depend on it. Without ``folder``: what jax has been told
    by the user (``JAX_COMPILATION_CACHE_DIR``) is left alone; else the base folder is
    ``$FEDJAX_COMPRESS_CACHE``, ``$XDG_CACHE_HOME/fedjax_compress`` or
    ``~/.cache/fedjax_compress``, and ``FEDJAX_COMPRESS_CACHE=off`` means none.

    Entries lie in ``compiled/`` below the base folder, apart for each version of jax
    and kind of processor, since code for one processor may not run on another. The
    oldest are removed beyond 512 MiB or 2,000 entries in all.

    Args:
      folder: the base folder, instead of all the above.

    Returns:
      The folder of the entries; None where programs are not kept. If it cannot be
      written or others may write to it, that is one ``CompileCacheWarning``.
    """
    global _ours
    if not _setting("jax_enable_compilation_cache"):
        return None
    told = _setting(_FOLDER)
    if folder is None and told and told != _ours:
        return Path(told)
    base = base_folder(os.environ) if folder is None else Path(folder).expanduser()
    if base is None:
        _forget()
        return None
    place = base.absolute() / "compiled" / _processor()
    try:
        _make(place)
        _prune(place.parent)
        _sweep(place)
    except OSError as error:
        reason = f"{error.filename or place}: {error.strerror or error}"
        warnings.warn(
            f"compiled programs are not kept: {reason}; set {VARIABLE} to a folder "
            "of your own, or to off",
            CompileCacheWarning,
            stacklevel=2,
        )
        _forget()
        return None
    _tell(str(place))
    return place


def base_folder(environment: Mapping[str, str]) -> Path | None:
    """Where a user's environment wants the cache; None where it wants none."""
    wanted = environment.get(VARIABLE, "").strip()
    if wanted.lower() in _OFF:
        return None
    if wanted:
        return Path(wanted).expanduser()
    home = environment.get("XDG_CACHE_HOME", "")
    # A relative one is to be ignored, says the XDG specification.
    try:
        parent = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without a home, as in some containers
        return None
    return parent / "fedjax_compress"


def _setting(name: str) -> Any:
    return getattr(jax.config, name)


def _tell(place: str) -> None:
    """Points jax to the folder, whatever it has compiled before."""
    global _ours
    if place != _ours:
        from jax.experimental.compilation_cache import compilation_cache

        compilation_cache.reset_cache()
    jax.config.update(_FOLDER, place)
    _listen()
    usual = _setting(_THRESHOLD) == _USUAL_THRESHOLD
    if usual and _THRESHOLD.upper() not in os.environ:
        # Dozens of small programs make up a second of each start.
        jax.config.update(_THRESHOLD, 0.0)
    _ours = place


def _forget() -> None:
    """Takes back what ``_tell`` has said."""
    global _ours
    if _ours is not None and _setting(_FOLDER) == _ours:
        from jax.experimental.compilation_cache import compilation_cache

        jax.config.update(_FOLDER, None)
        compilation_cache.reset_cache()
    _ours = None


def _processor() -> str:
    """A name for the version and the processor that machine code is made for."""
    facts = [jax.__version__, platform.machine()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = ("model name", "flags", "Features", "CPU part")
        facts += sorted({line for line in lines if line.startswith(names)})
    except OSError:
        facts += [platform.system(), platform.processor()]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    return f"jax-{jax.__version__}-{digest[:12]}"


def _make(place: Path) -> None:
    """Makes a folder that only the user may write: what lies there is executed.

    Raises:
      OSError: it cannot be made, or someone else may write to it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(mode=0o700, exist_ok=True)
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
    if os.name != "posix":
        return
    found = place.stat()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if others or found.st_uid not in (os.geteuid(), 0):
        raise OSError(None, "others may write to it", str(place))


def _sweep(place: Path) -> None:
    """Removes every entry that is not what was sealed."""
    lines = _read_seals(place / _SEALS)
    sealed = dict(lines)
    _sealed.clear()
    for left in place.glob("*-round"):  # by versions that kept them beside jax's
        left.unlink(missing_ok=True)
    for draft in place.glob(f"{_DRAFT}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > _OLD_DRAFT:
                draft.unlink()
    for entry in _all(place):
        with contextlib.suppress(FileNotFoundError):  # another start was faster
            if _digest(entry) == sealed.get(entry.name):
                _sealed[entry.name] = sealed[entry.name]
            else:
                entry.unlink()
    if lines != list(_sealed.items()):
        _write_seals(place / _SEALS)


def _seal(place: Path) -> None:
    """Seals the entries that are new since the last time."""
    text = ""
    for entry in _all(place):
        if entry.name not in _sealed:
            _sealed[entry.name] = _digest(entry)
            text += f"{_sealed[entry.name]}  {entry.name}\n"
    if text:
        with (place / _SEALS).open("a") as stream:
            stream.write(text)  # at once: whole, whoever else does


def _all(place: Path) -> list[Path]:
    return list(place.glob("*-cache"))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_seals(path: Path) -> list[tuple[str, str]]:
    """Name and checksum of each entry, in the form of ``sha256sum``."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [(name, digest) for digest, _, name in (x.partition("  ") for x in lines)]


def _write_seals(path: Path) -> None:
    lines = [f"{digest}  {name}\n" for name, digest in _sealed.items()]
    _replace(path, "".join(lines).encode())


def _replace(path: Path, data: bytes) -> None:
    """Writes a file as a whole or not at all."""
    handle, draft = tempfile.mkstemp(prefix=_DRAFT, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


@functools.cache
def _listen() -> None:
    """Has entries sealed as soon as jax has written them."""
    written = threading.Event()

    def on_event(event: str, **more: Any) -> None:
        if event == _WRITES:
            written.set()

    def on_duration(event: str, duration_secs: float, **more: Any) -> None:
        if event == _COMPILED and written.is_set():
            written.clear()
            if _ours is not None:
                with contextlib.suppress(OSError):  # then the entry is not kept
                    _seal(Path(_ours))

    jax.monitoring.register_event_listener(on_event)
    jax.monitoring.register_event_duration_secs_listener(on_duration)


def _prune(compiled: Path) -> None:
    """Removes the oldest entries, of whatever version, beyond size and number."""
    entries = []
    for entry in (e for place in compiled.glob("*") for e in _all(place)):
        with contextlib.suppress(OSError):
            found = entry.stat()
            entries.append((found.st_mtime, found.st_size, entry))
    total, number = sum(size for _, size, _ in entries), len(entries)
    for _, size, entry in sorted(entries):
        if total <= LARGEST_BYTES and number <= MOST_ENTRIES:
            return
        with contextlib.suppress(OSError):
            entry.unlink()
        total, number = total - size, number - 1
