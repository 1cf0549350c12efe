"""Compiled rounds kept whole, so that the next start need not trace them either.

Where jax finds a compiled program on disk it has traced and lowered the Python code
before, to know which one: more than half of a start. Here a program is known by all
that it was made from: settings, shapes, the files of this package, versions, devices.
Only the command line of this package asks for it, since nothing else of a user's can
have changed the program then. Entries lie among those of ``compile_cache``, sealed and
bounded with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from fedjax_compress import started
from fedjax_compress.simulate import compile_cache
from fedjax_compress.simulate.compiling import compile_program
from fedjax_compress.typing import Tree

PACKAGE = Path(__file__).parents[1]
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
_TICK = 0.1
"""Seconds by which the clock of files may be behind."""
_VARIABLES = ("XLA_FLAGS", "JAX_PLATFORMS", "LIBTPU_INIT_ARGS")


def trusted() -> bool:
    """Whether this process runs the command line of this package and nothing else."""
    main = sys.modules["__main__"]
    module = getattr(main, "__spec__", None)
    if module is not None:
        return bool(module.name == f"{PACKAGE.name}.__main__")
    return Path(getattr(main, "__file__", "")).stem == "fedjax-compress"


def find(
    what: dict[str, Any] | None,
    inputs: Tree,
    devices: Iterable[Any],
    lower: Callable[[], Any],
) -> tuple[Any, str]:
    """The compiled program and its digest: the one kept, or else compiled and kept.

    Args:
      what: settings that it follows from; None neither looks for it nor keeps it.
      inputs: its arguments.
      devices: on which it runs.
      lower: makes what is to be compiled.
    """
    if what is None or not compile_cache.in_use() or not _unchanged():
        lowered = lower()
        return compile_program(lowered), digest(lowered)
    name = name_of(what, inputs)
    return load(name, inputs, devices) or compile_and_keep(name, lower())


def digest(lowered: Any) -> str:
    """SHA-256 over the text of a lowered program, without places in source files.

    The same in each process that traces the same code with the same versions.
    """
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()


def name_of(what: dict[str, Any], inputs: Tree) -> str:
    """The name of a program's entry.

    Args:
      what: settings that the program follows from, JSON.
      inputs: its arguments.
    """
    leaves, structure = jax.tree.flatten(inputs)
    about = {
        "what": what,
        "structure": str(structure),
        "inputs": [
            [list(x.shape), str(x.dtype), bool(getattr(x, "weak_type", False))]
            for x in leaves
        ],
        "files": _files(),
        "versions": [_version(name) for name in _LIBRARIES],
        "platform": jax.devices()[0].client.platform_version,
        "settings": {k: str(v) for k, v in jax.config.values.items()},
        "variables": [os.environ.get(name) for name in _VARIABLES],
        "devices": [[d.id, d.device_kind] for d in jax.devices()],
    }
    text = json.dumps(about, sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()}-round"


def load(name: str, inputs: Tree, devices: Iterable[Any]) -> tuple[Any, str] | None:
    """The program kept under ``name``, ready for ``devices``, and its digest.

    None if there is none.
    """
    found = compile_cache.fetch(name)
    if found is None:
        return None
    from jax.experimental.serialize_executable import deserialize_and_load

    try:
        program, outputs, text = pickle.loads(found)
        given, left = jax.tree.structure((inputs, {})), jax.tree.structure(outputs)
        return deserialize_and_load(
            program, given, left, execution_devices=list(devices)
        ), str(text)
    except Exception:  # whatever it is: what was compiled once can be compiled again
        return None


def compile_and_keep(name: str, lowered: Any) -> tuple[Any, str]:
    """The program compiled, and kept where the platform can write it down."""
    from jax.experimental.serialize_executable import serialize

    with compile_cache.afresh() as is_fresh:
        program, text = compile_program(lowered), digest(lowered)
    try:
        if is_fresh():
            written, _, left = serialize(program)
            outputs = jax.tree.unflatten(left, range(left.num_leaves))
            compile_cache.put(name, pickle.dumps((written, outputs, text)))
    except Exception:  # then the next start compiles
        pass
    return program, text


def _version(name: str) -> str:
    """Of the library as loaded, not as it lies on the disk by now."""
    loaded = getattr(sys.modules.get(name), "__version__", None)
    return str(loaded or metadata.version(name))


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _unchanged() -> bool:
    """Whether the files of the package are those that this process has loaded."""
    changed = [path.stat().st_ctime for path in _sources()]
    return bool(changed) and max(changed) < started.STARTED - _TICK


def _files() -> str:
    """A digest of all files of the package."""
    found = hashlib.sha256()
    for path in _sources():
        data = path.read_bytes()
        found.update(f"{path.relative_to(PACKAGE)} {len(data)}\n".encode() + data)
    return found.hexdigest()
