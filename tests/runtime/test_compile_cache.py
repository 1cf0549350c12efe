"""Programs kept on disk: where, how many, and that a damaged one never runs."""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fedjax_compress.experiment import Config, run
from fedjax_compress.report import files, records
from fedjax_compress.runtime import (
    CompileCacheWarning,
    compile_cache,
    compiling,
    use_compilation_cache,
)

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)
EVENT = "/jax/compilation_cache/cache_"
TINY = Config(
    clients=6,
    cohort=3,
    rounds=3,
    lanes=2,
    model="logistic",
    local="sgd(lr=0.1, steps=2, batch=5)",
    uplink="uniform(bits=4)",
    downlink="identity",
    evaluate_every=2,
)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """jax with its usual settings, a home of its own, and all put back afterwards."""
    from jax.experimental.compilation_cache import compilation_cache

    before = {name: getattr(jax.config, name) for name in SETTINGS}
    for name in (compile_cache.VARIABLE, *(s.upper() for s in SETTINGS)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compile_cache, "_ours", None)
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def events() -> Iterator[Counter[str]]:
    """How often jax found and missed a program on disk."""
    found: Counter[str] = Counter()

    def listen(name: str, **more: Any) -> None:
        if name.startswith(EVENT):
            found[name.removeprefix(EVENT)] += 1

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)


def compute() -> float:
    """A result of a program that is compiled, or found on disk, each time."""
    return float(jax.jit(lambda x: jnp.sum(jnp.sin(x) * 3))(jnp.arange(7.0)))


def filled(folder: Path) -> Path:
    """The folder of the entries, with those of ``compute``."""
    place = use_compilation_cache(folder)
    assert place is not None
    compute()
    return place


def entries(place: Path) -> list[Path]:
    return sorted(place.glob("*-cache"))


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


DAMAGE: list[Callable[[bytes], bytes]] = [truncate, flip, lambda data: b""]


def test_second_time_is_found_on_disk(tmp_path: Path, events: Counter[str]) -> None:
    place = filled(tmp_path / "c")
    assert entries(place)
    assert not events["hits"]
    misses = events["misses"]
    assert compute() == pytest.approx(sum(3 * math.sin(i) for i in range(7)), rel=1e-5)
    assert events["hits"] >= 1
    assert events["misses"] == misses


def test_only_the_user_may_write(tmp_path: Path) -> None:
    place = use_compilation_cache(tmp_path / "c")
    assert place is not None
    assert place.parent == tmp_path / "c" / "compiled"
    assert place.name.startswith(f"jax-{jax.__version__}-")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    place.chmod(0o777)
    with pytest.warns(CompileCacheWarning, match="others may write to it"):
        assert use_compilation_cache(tmp_path / "c") is None
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Path.home() / ".cache/fedjax_compress"),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/fedjax_compress")),
        ({"XDG_CACHE_HOME": "x"}, Path.home() / ".cache/fedjax_compress"),
        ({"FEDJAX_COMPRESS_CACHE": "/y", "XDG_CACHE_HOME": "/x"}, Path("/y")),
        ({"FEDJAX_COMPRESS_CACHE": "~/y"}, Path.home() / "y"),
        ({"FEDJAX_COMPRESS_CACHE": ""}, Path.home() / ".cache/fedjax_compress"),
        ({"FEDJAX_COMPRESS_CACHE": "off"}, None),
        ({"FEDJAX_COMPRESS_CACHE": "OFF"}, None),
        ({"FEDJAX_COMPRESS_CACHE": "0"}, None),
    ],
)
def test_base_folder(environment: dict[str, str], expected: Path | None) -> None:
    assert compile_cache.base_folder(environment) == expected


def test_the_default_is_the_users_cache_folder(tmp_path: Path) -> None:
    place = use_compilation_cache()
    assert place is not None
    assert place.parent == tmp_path / "home" / "fedjax_compress" / "compiled"
    assert jax.config.jax_compilation_cache_dir == str(place)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0


def test_what_jax_was_told_wins(tmp_path: Path) -> None:
    own = str(tmp_path / "own")
    jax.config.update("jax_compilation_cache_dir", own)
    assert use_compilation_cache() == Path(own)
    assert jax.config.jax_compilation_cache_dir == own
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 1
    assert not (tmp_path / "home").exists()
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    assert use_compilation_cache(tmp_path / "c") is None
    assert not (tmp_path / "c").exists()


def test_a_threshold_of_the_user_wins(tmp_path: Path) -> None:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    use_compilation_cache(tmp_path / "c")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.5


def test_off_takes_back_what_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = filled(tmp_path / "a")
    second = filled(tmp_path / "b")
    assert first != second
    assert entries(second)
    monkeypatch.setenv(compile_cache.VARIABLE, "off")
    assert use_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert use_compilation_cache(tmp_path / "file" / "c") is None
    (warning,) = caught
    assert warning.category is CompileCacheWarning
    text = str(warning.message)
    assert re.match(r"compiled programs are not kept: .*: Not a directory; set", text)
    assert "\n" not in text
    assert compute()


def test_intact_entries_stay(tmp_path: Path, events: Counter[str]) -> None:
    place = filled(tmp_path / "c")
    before = {p: p.read_bytes() for p in entries(place)}
    for _ in range(2):
        assert use_compilation_cache(tmp_path / "c") == place
        assert {p: p.read_bytes() for p in entries(place)} == before
    compute()
    assert events["hits"] >= 1


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_gone_at_the_next_start(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    place = filled(tmp_path / "c")
    expected = compute()
    count = len(entries(place))
    victim, *others = sorted(entries(place), key=lambda p: -p.stat().st_size)
    victim.write_bytes(damage(victim.read_bytes()))
    use_compilation_cache(tmp_path / "c")
    assert entries(place) == sorted(others)
    assert compute() == expected  # without a warning: those are errors here
    assert len(entries(place)) == count


def test_what_others_have_left_is_removed(tmp_path: Path) -> None:
    """Drafts of killed processes, after an hour, and entries of earlier versions."""
    place = filled(tmp_path / "c")
    kept = entries(place)
    old, fresh, before = place / ".draft-old", place / ".draft-new", place / "a-round"
    for left in (old, fresh, before):
        left.write_bytes(b"...")
    os.utime(old, (0, 0))
    use_compilation_cache(tmp_path / "c")
    assert [p.exists() for p in (old, fresh, before)] == [False, True, False]
    assert entries(place) == kept


def test_each_changed_byte_of_an_entry_is_noticed(tmp_path: Path) -> None:
    place = filled(tmp_path / "c")
    victim = max(entries(place), key=lambda p: p.stat().st_size)
    data = victim.read_bytes()
    for at in range(0, len(data), len(data) // 40):
        victim.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert use_compilation_cache(tmp_path / "c") == place
        assert not victim.exists()
        with (place / "seals").open("a") as stream:
            stream.write(f"{hashlib.sha256(data).hexdigest()}  {victim.name}\n")
    victim.write_bytes(data)
    assert use_compilation_cache(tmp_path / "c") == place
    assert victim.exists()


@pytest.mark.parametrize("text", ["", "\n", "a  b", "a", "\x00\xff  ", "a  b  c\n\n"])
def test_what_has_no_seal_is_removed(text: str, tmp_path: Path) -> None:
    place = filled(tmp_path / "c")
    expected = compute()
    (place / "seals").write_bytes(text.encode("latin-1"))
    use_compilation_cache(tmp_path / "c")
    assert not entries(place)
    assert (place / "seals").read_bytes() == b""
    assert compute() == expected
    use_compilation_cache(tmp_path / "c")
    assert entries(place)
    assert {p.name for p in place.iterdir()} == {
        "seals",
        *(p.name for p in entries(place)),
    }


def test_a_part_of_an_entry_is_compiled_again(tmp_path: Path) -> None:
    """Where it became one after the start; jax warns, and the result is right."""
    place = filled(tmp_path / "c")
    expected = compute()
    for entry in entries(place):
        entry.write_bytes(truncate(entry.read_bytes()))
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        assert compute() == expected


@pytest.mark.parametrize(("size", "number"), [(250, 100), (10_000, 2)])
def test_the_oldest_go_first(
    size: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five entries of 100 bytes of two versions; there is room for two."""
    monkeypatch.setattr(compile_cache, "LARGEST_BYTES", size)
    monkeypatch.setattr(compile_cache, "MOST_ENTRIES", number)
    place = use_compilation_cache(tmp_path / "c")
    assert place is not None
    other = place.with_name("jax-0.0.1-aa")
    other.mkdir()
    digest = hashlib.sha256(bytes(100)).hexdigest()
    for age, folder in enumerate([other, place, place, other, place]):
        path = folder / f"{age}-cache"
        path.write_bytes(bytes(100))
        with (folder / "seals").open("a") as stream:
            stream.write(f"{digest}  {path.name}\n")
        os.utime(path, (1e9 - age, 1e9 - age))
    use_compilation_cache(tmp_path / "c")
    assert [p.name for p in entries(place)] == ["1-cache"]
    assert [p.name for p in entries(other)] == ["0-cache"]


def test_results_do_not_depend_on_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Counter[str]
) -> None:
    """A run without, with an empty, with a full, and with a damaged cache."""

    def result(name: str) -> Any:
        compiling.forget()
        summary = run(TINY, tmp_path / name, quiet=True)
        rows = records.read(tmp_path / name / files.METRICS)
        clean = [{k: r[k] for k in r if k not in records.CLOCK} for r in rows]
        return summary["parameters_sha256"], clean

    monkeypatch.setenv(compile_cache.VARIABLE, "off")
    assert use_compilation_cache() is None
    none = result("none")
    assert not events
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "c"))
    place = use_compilation_cache()
    assert place is not None
    assert result("cold") == none
    stored = [p for p in entries(place) if "_rounds" in p.name]
    assert len(stored) == 1
    assert use_compilation_cache() == place
    hits = events["hits"]
    assert result("warm") == none
    assert events["hits"] >= hits + 2  # the rounds, the evaluation
    stored[0].write_bytes(flip(stored[0].read_bytes()))
    assert use_compilation_cache() == place
    assert not stored[0].exists()
    assert result("mended") == none
    assert stored[0].exists()
