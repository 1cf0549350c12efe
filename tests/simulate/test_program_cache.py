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

from fedjax_compress.experiment import files
from fedjax_compress.simulate import compile_cache, program_cache

TINY = ["--rounds", "2", "--clients", "6", "--cohort", "3", "--lanes", "3", "--quiet"]
TINY += ["--model", "logistic", "--uplink", "error_feedback(top_k(0.1))"]
TINY += ["--downlink", "identity", "--local", "sgd(lr=0.1, steps=1, batch=5)"]


def command(cache: Path, output: Path, *more: str, program: list[str] | None = None):
    """Runs the command line in a process of its own; the digest of the last model."""
    start = program or ["-m", "fedjax_compress"]
    subprocess.run(
        [sys.executable, *start, "run", *TINY, "--output", str(output), *more],
        env=os.environ | {compile_cache.VARIABLE: str(cache), "XLA_FLAGS": ""},
        check=True,
        timeout=300,
    )
    return json.loads((output / files.SUMMARY).read_text())["parameters_sha256"]


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("compiled/*/round-*-cache"))


def test_the_next_start_takes_the_round_as_it_was(tmp_path: Path) -> None:
    """The first run keeps it; runs that differ have another; a damaged one is none."""
    cache = tmp_path / "cache"
    first = command(cache, tmp_path / "a")
    (entry,) = kept(cache)
    before = entry.stat().st_mtime_ns
    assert command(cache, tmp_path / "b") == first
    assert [x.stat().st_mtime_ns for x in kept(cache)] == [before]
    # Another seed is the same program, another learning rate is not.
    assert command(cache, tmp_path / "c", "--seed", "1") != first
    assert len(kept(cache)) == 1
    command(cache, tmp_path / "d", "--local", "sgd(lr=0.2, steps=1, batch=5)")
    assert len(kept(cache)) == 2
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
    lowered.compile()
    jax.clear_caches()
    again = jax.jit(lambda x: jnp.cumsum(jnp.sin(x))).lower(x)
    program_cache.compile_and_keep("round-a-cache", again)
    assert program_cache.load("round-a-cache", (x,), jax.devices()[:1]) is None
    other = jax.jit(lambda x: (jnp.cumsum(x), {"b": x + 1})).lower(x)
    program_cache.compile_and_keep("round-b-cache", other)
    program = program_cache.load("round-b-cache", (x,), jax.devices()[:1])
    sums, rest = program(x)
    np.testing.assert_array_equal(sums, [0, 1, 3, 6])
    np.testing.assert_array_equal(rest["b"], x + 1)


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
    with jax.numpy_dtype_promotion("strict"):
        others.append(program_cache.name_of({"uplink": "identity"}, (x,)))
    assert len({one, *others}) == 6
