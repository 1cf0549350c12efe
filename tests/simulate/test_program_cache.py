"""Rounds kept whole on disk: found by the same command line only, and the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import environment

from fedjax_compress import started
from fedjax_compress.experiment import files
from fedjax_compress.simulate import compile_cache, program_cache
from fedjax_compress.simulate.compiling import compile_program

TINY = ["--rounds", "2", "--clients", "6", "--cohort", "3", "--lanes", "3", "--quiet"]
TINY += ["--model", "logistic", "--uplink", "error_feedback(top_k(0.1))"]
TINY += ["--downlink", "identity", "--local", "sgd(lr=0.1, steps=1, batch=5)"]
_JAX_CACHE = "JAX_COMPILATION_CACHE_DIR"


def command(cache: Path, output: Path, *more: str, program: list[str] | None = None):
    """Runs the command line in a process of its own; the digest of the last model."""
    start = program or ["-m", "fedjax_compress"]
    # A cache of JAX's own, chosen by whoever runs the tests, would be used instead.
    given = {k: v for k, v in environment().items() if k != _JAX_CACHE}
    subprocess.run(
        [sys.executable, *start, "run", *TINY, "--output", str(output), *more],
        env=given | {compile_cache.VARIABLE: str(cache)},
        check=True,
        timeout=300,
    )
    return json.loads((output / files.SUMMARY).read_text())["parameters_sha256"]


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("compiled/*/*-round"))


def test_the_next_start_takes_the_round_as_it_was(tmp_path: Path) -> None:
    """The first run keeps it; a damaged one is none."""
    cache = tmp_path / "cache"
    first = command(cache, tmp_path / "a")
    (entry,) = kept(cache)
    before = entry.stat().st_mtime_ns
    assert command(cache, tmp_path / "b") == first
    assert [x.stat().st_mtime_ns for x in kept(cache)] == [before]
    for path in kept(cache):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    assert command(cache, tmp_path / "e") == first
    assert len(kept(cache)) == 1


def test_code_of_ones_own_never_takes_or_keeps_a_round(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from fedjax_compress.__main__ import main\nraise SystemExit(main())\n"
    )
    command(tmp_path / "cache", tmp_path / "a", program=[str(mine)])
    assert not kept(tmp_path / "cache")
    assert not program_cache.trusted()  # the tests are no command line of ours


@pytest.fixture
def cache(tmp_path: Path):
    """A cache in use by this process."""
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", compile_cache._THRESHOLD)
    }
    yield compile_cache.use_compilation_cache(tmp_path / "cache")
    compile_cache._forget()
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_program_that_jax_has_read_is_not_kept(cache: Path) -> None:
    """XLA writes such a program down without its code."""
    x = jnp.arange(4.0)
    lowered = jax.jit(lambda x: jnp.cumsum(jnp.sin(x))).lower(x)
    compile_program(lowered)
    jax.clear_caches()
    again = jax.jit(lambda x: jnp.cumsum(jnp.sin(x))).lower(x)
    program_cache.compile_and_keep("a-round", again)
    assert program_cache.load("a-round", (x,), jax.devices()[:1]) is None
    other = jax.jit(lambda x: (jnp.cumsum(x), {"b": x + 1})).lower(x)
    program_cache.compile_and_keep("b-round", other)
    program, _ = program_cache.load("b-round", (x,), jax.devices()[:1])
    sums, rest = program(x)
    np.testing.assert_array_equal(sums, [0, 1, 3, 6])
    np.testing.assert_array_equal(rest["b"], x + 1)


def test_nothing_is_kept_of_a_package_that_has_changed_meanwhile(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files younger than the process are not what it has traced."""
    x = jnp.arange(3.0)

    def kept(what: str) -> int:
        lowered = jax.jit(lambda x: jnp.cos(x) + len(what)).lower(x)
        program_cache.find({"what": what}, (x,), jax.devices()[:1], lambda: lowered)
        return len(list(cache.glob("*-round")))

    assert kept("a") == 1
    monkeypatch.setattr(started, "STARTED", 0.0)
    assert kept("bc") == 1


def test_an_entry_that_cannot_be_read_is_replaced_for_good(cache: Path) -> None:
    x = jnp.arange(3.0)
    compile_cache.put("a-round", b"no program")
    assert program_cache.load("a-round", (x,), jax.devices()[:1]) is None
    lowered = jax.jit(lambda x: jnp.tan(x)).lower(x)
    program_cache.compile_and_keep("a-round", lowered)
    compile_cache._sweep(cache)
    program, text = program_cache.load("a-round", (x,), jax.devices()[:1])
    assert text == program_cache.digest(lowered)
    np.testing.assert_allclose(program(x), np.tan(x), rtol=1e-6)


def test_drafts_of_killed_processes_are_removed(cache: Path) -> None:
    old, fresh = cache / ".draft-old", cache / ".draft-fresh"
    for draft in (old, fresh):
        draft.write_bytes(b"...")
    os.utime(old, (0, 0))
    compile_cache._sweep(cache)
    assert not old.exists()
    assert fresh.exists()


def test_a_name_says_all_that_a_round_was_made_from() -> None:
    x, y = jnp.zeros((2, 3)), jnp.zeros((3, 2))
    one = program_cache.name_of({"uplink": "identity"}, (x,))
    assert one == program_cache.name_of({"uplink": "identity"}, (x + 1,))
    others = [
        program_cache.name_of({"uplink": "cast"}, (x,)),
        program_cache.name_of({"uplink": "identity"}, (y,)),
        program_cache.name_of({"uplink": "identity"}, (x.astype(jnp.int32),)),
        program_cache.name_of({"uplink": "identity"}, ([x],)),
    ]
    with jax.numpy_dtype_promotion("standard"):  # the tests have strict
        others.append(program_cache.name_of({"uplink": "identity"}, (x,)))
    assert len({one, *others}) == 6
