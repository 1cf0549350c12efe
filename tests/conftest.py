"""What all tests share: four CPU devices, strictness, and what keeps the suite short.

Most of a test's time goes into compiling. So programs are compiled with little effort,
but for those that a test compiles with ``full_effort``, and what one process has
compiled the others read from a folder that lasts as long as the session.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from groups import group_of, is_smoke, rank_of

DEVICES = "--xla_force_host_platform_device_count"
LITTLE_EFFORT: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
"""Compiles in half the time, and in a quarter where the next holds."""
FULL_EFFORT: dict[str, Any] = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}
if metadata.version("jax").startswith("0.10."):  # later ones know no others
    LITTLE_EFFORT["xla_cpu_use_fusion_emitters"] = False
    FULL_EFFORT["xla_cpu_use_fusion_emitters"] = True
MOST_MEMORY = 3 * 2**29
"""Bytes above which a process forgets its compiled programs between groups."""
FOLDER = "FEDJAX_COMPRESS_TESTS_CACHE"
"""Where the processes of a session keep what they have compiled. Give a folder to keep
it for the next session."""

# Read by jax when it starts a backend, which no import does.
if DEVICES not in os.environ.get("XLA_FLAGS", ""):
    quick = " ".join(f"--{k}={str(v).lower()}" for k, v in LITTLE_EFFORT.items())
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{given} {DEVICES}=4 {quick}".strip()

# Nothing of ours promotes a rank or a dtype silently. Read when jax is imported, by the
# processes that tests start as well.
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

# The command line would keep programs in the user's own folder.
os.environ["FEDJAX_COMPRESS_CACHE"] = "off"

# The first process makes it; those that it starts inherit the name.
if FOLDER not in os.environ:
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="fedjax-compress-tests-")
    atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)

hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, max_examples=30, database=None
)
hypothesis.settings.load_profile("repeatable")


def share_programs(folder: str) -> None:
    """Lets jax in this process read and write compiled programs in the folder.

    jax writes an entry in place, so that another process may read half of one; here an
    entry is written beside and then renamed.
    """
    import jax
    from jax._src import lru_cache

    def put(self: Any, key: str, value: bytes) -> None:
        place = Path(os.fspath(self.path)) / f"{key}-cache"
        handle, draft = tempfile.mkstemp(dir=place.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(value)
        os.replace(draft, place)

    lru_cache.LRUCache.put = put  # type: ignore[method-assign]
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


with contextlib.suppress(ImportError, AttributeError):  # a jax that is made otherwise
    share_programs(os.environ[FOLDER])

# A twentieth of the time went into looking for garbage among jax's many small objects.
gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(tryfirst=True)  # before tests are left out by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a group follow each other; long groups come first."""
    places: dict[str, tuple[int, int]] = {}
    for number, item in enumerate(items):
        places.setdefault(group_of(item.nodeid), (rank_of(item.nodeid), number))
        if is_smoke(item.nodeid):
            item.add_marker(pytest.mark.smoke)
    items.sort(key=lambda item: places[group_of(item.nodeid)])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each group goes to one process."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # by rank, not by their number of tests
    return ByGroup(config, log)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Compiled programs are forgotten where they begin to fill the memory."""
    apart = nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid)
    if apart and memory() > MOST_MEMORY:
        import jax

        from fedjax_compress.runtime import compiling

        compiling.forget()
        jax.clear_caches()
        gc.collect()


def memory() -> int:
    """Bytes that this process holds; 0 where the system does not say."""
    place = Path("/proc/self/statm")
    return int(place.read_text().split()[1]) * 4096 if place.exists() else 0


@pytest.fixture
def nothing_shared() -> Iterator[None]:
    """jax keeps no programs, as where nobody has told it to."""
    import jax

    jax.config.update("jax_compilation_cache_dir", None)
    yield
    share_programs(os.environ[FOLDER])


@pytest.fixture(scope="session")
def full_effort() -> dict[str, Any]:
    """Options of a program that is to be compiled as users compile it."""
    return FULL_EFFORT


@pytest.fixture(scope="module")
def as_for_users() -> Iterator[None]:
    """Rounds are compiled with full effort."""
    import jax

    from fedjax_compress.runtime import compiling

    compile_ = jax.stages.Lowered.compile

    def fully(self: Any, compiler_options: Any = None) -> Any:
        return compile_(self, {**(compiler_options or {}), **FULL_EFFORT})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.stages.Lowered, "compile", fully)
        compiling.forget()
        yield
        compiling.forget()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parents[1]
