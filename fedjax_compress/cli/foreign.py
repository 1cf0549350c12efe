"""Errors of the system and of other libraries, in one line of ours."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import PurePath

_NO_DEFECT = (
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EIO, errno.EISDIR,
    errno.ELOOP, errno.EMFILE, errno.ENAMETOOLONG, errno.ENFILE, errno.ENOENT,
    errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS, errno.ESTALE,
)  # fmt: skip
"""What the system may refuse without a fault of the program."""
_OF_JAX = "jax", "_src", "config.py"
_SHOWN = 100


def explain(error: Exception) -> str | None:
    """What a user can do about an error that is none of ours; None: it is a defect."""
    if isinstance(error, OSError):
        return _of_the_system(error)
    if _out_of_memory(error):
        return (
            "there is not enough memory: take fewer lanes, fewer rounds per call, a "
            f"smaller batch, model or data set ({first_line(error)})"
        )
    if isinstance(error, FloatingPointError) and "jit" in str(error):
        return (
            f"JAX_DEBUG_NANS or JAX_DEBUG_INFS stops at {first_line(error)}; without "
            "them such updates are left out and counted"
        )
    if isinstance(error, ValueError) and _in_jax_settings(error):
        names = ", ".join(n for n in os.environ if n.startswith("JAX_"))
        if not names:
            return None
        return f"jax does not take a variable of the environment ({names}): {error}"
    return None


def first_line(error: Exception) -> str:
    """The first line of an error, or else its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _of_the_system(error: OSError) -> str | None:
    if error.errno not in _NO_DEFECT:
        return None
    name = str(error.filename or "cannot write")
    if len(name) > _SHOWN:
        name = f"{name[:_SHOWN]}..."
    return f"{name}: {error.strerror}"


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _in_jax_settings(error: Exception) -> bool:
    """Whether the error was raised where jax reads its settings."""
    name = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
    return PurePath(name).parts[-len(_OF_JAX) :] == _OF_JAX
