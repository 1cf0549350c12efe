"""Checkpoints: bit for bit, checked, never fewer than one to go back to."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_compress.errors import CheckpointError, InputError
from fedjax_compress.simulate import manifest
from fedjax_compress.simulate.checkpoint import Checkpoints, CheckpointWarning

FINGERPRINT = {"seed": 1, "config": {"model": "mlp", "lanes": 8}, "jax": "0.10"}


class Server(NamedTuple):
    params: Any
    optimizer: Any
    nothing: Any


def rich_tree(value: float = 0.5) -> Any:
    """One leaf of every kind that a run may hold."""
    params = {
        "dense": {"kernel": jnp.linspace(value, 9, 60).reshape(12, 5)},
        "half": jnp.array([value, -0.0, np.nan, np.inf], jnp.bfloat16),
    }
    store = {
        "residual": np.arange(24, dtype=np.float32).reshape(4, 6) * value,
        "count": np.array([1, 2, 3], np.int32),
        "mask": np.array([[0, 255]], np.uint8),
        "none": (),
        "no rows": np.zeros((0, 7), np.float32),
        "zero-dimensional": np.array(value, np.float64),
        "numpy number": np.float32(value),
        "transposed": np.arange(6, dtype=np.int8).reshape(2, 3).T,
    }
    optimizer = optax.chain(optax.clip(1.0), optax.adam(0.1)).init(params)
    return Server(params, optimizer, ()), store, 7, 0.25, True, None


def small_tree(value: float) -> Any:
    return {"a": np.full((3, 4), value, np.float32), "b": jnp.array(int(value))}


def assert_identical(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert isinstance(x, jax.Array) == isinstance(y, jax.Array)
        assert isinstance(x, np.ndarray) == isinstance(y, np.ndarray)
        if not isinstance(x, (jax.Array, np.ndarray)):
            assert type(x) is type(y)
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def write(folder: Path, rounds: list[int], keep: int = 2) -> Checkpoints:
    with Checkpoints(folder, FINGERPRINT, keep) as checkpoints:
        for r in rounds:
            checkpoints.save(r, small_tree(r), {"line": r})
    return checkpoints


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def newest(folder: Path) -> int:
    """The round that a new process would go on from; its arrays are checked."""
    r, tree, extra = Checkpoints(folder, FINGERPRINT).restore(small_tree(0))
    assert_identical(tree, small_tree(r))
    assert extra == {"line": r}
    return r


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path):
    tree = rich_tree()
    extra = {"bytes_up": 2**70, "list": [1, 2.5, None], "text": "é"}
    with Checkpoints(tmp_path / "c", FINGERPRINT) as checkpoints:
        checkpoints.save(12, tree, extra)
    like = rich_tree(-3.0)
    r, back, returned = Checkpoints(tmp_path / "c", FINGERPRINT).restore(like)
    assert (r, returned) == (12, extra)
    assert_identical(back, tree)


@pytest.mark.parametrize("tree", [(), {"a": ()}, np.zeros((2, 0)), 3])
def test_a_tree_without_elements_or_of_one_number_comes_back(tmp_path, tree):
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(1, tree, {})
    assert_identical(checkpoints.restore(tree)[1], tree)


def test_like_may_be_shapes_only(tmp_path):
    checkpoints = write(tmp_path, [3])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), small_tree(0))
    back = checkpoints.restore(like)[1]
    np.testing.assert_array_equal(back["a"], small_tree(3)["a"])
    assert back["a"].dtype == np.float32


def test_sharded_arrays_come_back_on_their_devices(tmp_path):
    mesh = jax.make_mesh((4,), ("clients",))
    spec = jax.sharding.PartitionSpec("clients")
    sharding = jax.sharding.NamedSharding(mesh, spec)
    tree = {"a": jax.device_put(jnp.arange(8.0), sharding)}
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(1, tree, {})
    back = checkpoints.restore(jax.tree.map(jnp.zeros_like, tree))[1]
    assert_identical(back, tree)
    assert back["a"].sharding == sharding


def test_memory_mapped_leaves_are_filled_in_place(tmp_path):
    def mapped(name: str, dtype: Any) -> np.memmap:
        return np.memmap(tmp_path / name, dtype, mode="w+", shape=(5, 3))

    tree = {"x": mapped("x", np.float32), "y": mapped("y", jnp.bfloat16)}
    tree["x"][:] = np.arange(15).reshape(5, 3)
    tree["y"][:] = -1.5
    before = jax.tree.map(np.array, tree)
    checkpoints = Checkpoints(tmp_path / "c", FINGERPRINT)
    checkpoints.save(1, tree, {})
    tree["x"][:] = 0
    tree["y"][:] = 0
    checkpoints.wait()
    raw = [p.read_bytes() for p in files(tmp_path / "c" / "00000001" / "mapped")]
    assert raw == [before["x"].tobytes(), before["y"].tobytes()]
    _, back, _ = checkpoints.restore(tree)
    assert back["x"] is tree["x"]
    assert back["y"] is tree["y"]
    assert_identical(jax.tree.map(np.array, back), before)
    assert_identical(checkpoints.restore(before)[1], before)  # mapped -> in memory
    checkpoints.save(2, before, {})
    tree["x"][:] = 0
    _, back, _ = checkpoints.restore(tree)  # in memory -> mapped
    assert back["x"] is tree["x"]
    assert_identical(jax.tree.map(np.array, back), before)
    checkpoints.wait()


def test_arrays_may_change_as_soon_as_save_returns(tmp_path):
    change = jax.jit(lambda x: x * 0, donate_argnums=0)
    checkpoints = Checkpoints(tmp_path, FINGERPRINT)
    for r in (1, 2, 3):
        host = np.full(200_000, r, np.float32)
        device = jnp.full(200_000, r, jnp.float32)
        checkpoints.save(r, {"host": host, "device": device}, {})
        host[:] = -1
        change(device)
        like = {"host": host, "device": jnp.zeros(200_000)}
        back = checkpoints.restore(like)[1]
        assert (back["host"] == r).all()
        assert (back["device"] == r).all()


def test_only_the_newest_are_kept(tmp_path):
    assert write(tmp_path, [1, 2, 3, 4, 5], keep=3).rounds() == [3, 4, 5]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "00000003",
        "00000004",
        "00000005",
    ]
    with pytest.raises(InputError, match="keep must be at least 1"):
        Checkpoints(tmp_path, {}, keep=0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
def test_damage_to_any_file_goes_back_one_loudly(tmp_path, damage):
    write(tmp_path / "c", [1, 2])
    names = [p.relative_to(tmp_path) for p in files(tmp_path / "c" / "00000002")]
    assert len(names) > 4
    for name in names:
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        shutil.copytree(tmp_path / "c", tmp_path / "d")
        victim = tmp_path / "d" / name.relative_to("c")
        if not victim.stat().st_size and damage is not Path.unlink:
            continue
        damage(victim)
        if victim.name == manifest.NAME and not victim.exists():
            assert newest(tmp_path / "d") == 1  # as if it had never been finished
            continue
        inside = victim.relative_to(tmp_path / "d" / "00000002").as_posix()
        told = rf"00000002: {re.escape(inside)} .*going back to round 1"
        with pytest.warns(CheckpointWarning, match=told):
            assert newest(tmp_path / "d") == 1


def test_any_byte_of_a_manifest_counts(tmp_path):
    write(tmp_path, [1])
    path = tmp_path / "00000001" / manifest.NAME
    data = path.read_bytes()
    for i in range(0, len(data), 3):
        flipped = bytes([data[i] ^ (1 << i % 8)])
        path.write_bytes(data[:i] + flipped + data[i + 1 :])
        with pytest.raises(manifest.Damaged):
            manifest.read(path.parent)
    path.write_bytes(data)
    assert manifest.verify(path.parent).round == 1


def test_after_going_back_the_damaged_round_is_written_anew(tmp_path):
    write(tmp_path, [1, 2])
    flip(files(tmp_path / "00000002" / "arrays")[0])
    with pytest.warns(CheckpointWarning):
        newest(tmp_path)
    assert write(tmp_path, [2]).rounds() == [1, 2]
    assert newest(tmp_path) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000001", "00000002"]


def test_going_back_gives_up_later_rounds(tmp_path):
    write(tmp_path, [10, 20])
    flip(tmp_path / "00000020" / manifest.NAME)
    assert write(tmp_path, [15]).rounds() == [10, 15]
    assert newest(tmp_path) == 15


def test_damaged_ones_do_not_count_as_kept(tmp_path):
    write(tmp_path, [1, 2])
    flip(files(tmp_path / "00000002" / "arrays")[0])
    assert write(tmp_path, [3]).rounds() == [1, 3]


def test_the_only_usable_one_survives_until_the_next_is_sealed(tmp_path, monkeypatch):
    checkpoints = write(tmp_path, [1], keep=1)
    state = []
    seal = manifest.seal

    def watch(folder: Path, *rest: Any) -> None:
        state.append(newest(tmp_path))
        seal(folder, *rest)
        state.append(newest(tmp_path))

    monkeypatch.setattr(manifest, "seal", watch)
    checkpoints.save(1, small_tree(1), {"line": 1})
    checkpoints.save(2, small_tree(2), {"line": 2})
    checkpoints.wait()
    assert state == [1, 1, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["00000002"]


def test_unfinished_saves_are_ignored_then_removed(tmp_path):
    write(tmp_path, [1, 2])
    (tmp_path / "00000002" / manifest.NAME).unlink()
    (tmp_path / "00000003" / "arrays.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    checkpoints = Checkpoints(tmp_path, FINGERPRINT)
    assert checkpoints.rounds() == [1]
    assert newest(tmp_path) == 1
    write(tmp_path, [4])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "00000001",
        "00000004",
        "notes",
    ]


def test_no_usable_checkpoint_says_where_and_why(tmp_path):
    where = re.escape(str(tmp_path / "c"))
    checkpoints = Checkpoints(tmp_path / "c", FINGERPRINT)
    with pytest.raises(CheckpointError, match=f"{where}: there is no such folder"):
        checkpoints.restore(())
    (tmp_path / "c").mkdir()
    with pytest.raises(CheckpointError, match=f"{where}: the folder holds none"):
        checkpoints.restore(())
    (tmp_path / "c" / "00000003").mkdir()
    with pytest.raises(CheckpointError, match="none was written to its end"):
        checkpoints.restore(())
    write(tmp_path / "c", [1, 2])
    flip(tmp_path / "c" / "00000001" / manifest.NAME)
    truncate(tmp_path / "c" / "00000002" / "arrays" / "_METADATA")
    told = r"all are damaged \(00000002: .*_METADATA has .*; 00000001: manifest"
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoints.restore(small_tree(0))
    assert "\n" not in str(caught.value)


def test_another_fingerprint_is_refused_with_what_differs(tmp_path):
    write(tmp_path, [1])
    mine = {"seed": 2, "config": {"model": "mlp", "lanes": 4}, "devices": 1}
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path, mine).restore(small_tree(0))
    for part in (
        "seed was 1, now 2",
        "config.lanes was 8, now 4",
        "devices was 'absent', now 1",
        "jax was '0.10', now 'absent'",
    ):
        assert part in str(caught.value)
    assert "model" not in str(caught.value)


def test_a_tuple_in_a_fingerprint_equals_itself(tmp_path):
    with Checkpoints(tmp_path, {"shape": (8, 8)}) as checkpoints:
        checkpoints.save(1, (), {})
    assert Checkpoints(tmp_path, {"shape": (8, 8)}).restore(())[0] == 1


def test_other_arrays_are_refused_by_name(tmp_path):
    checkpoints = write(tmp_path, [1])
    other = {**small_tree(0), "a": np.zeros((3, 5), np.float32)}
    told = r"a float32\[3, 4\] where a float32\[3, 5\] is expected"
    with pytest.raises(CheckpointError, match=told):
        checkpoints.restore(other)
    with pytest.raises(CheckpointError, match="nothing more where c int64"):
        checkpoints.restore({**small_tree(0), "c": 1})


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file" / "c", FINGERPRINT)
    told = r"cannot write the checkpoint of round 5 .*Not a directory; there is none"
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoints.save(5, small_tree(5), {})
    assert "\n" not in str(caught.value)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing a file beyond ``size`` bytes fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_line_and_harms_nothing(tmp_path, monkeypatch):
    checkpoints = write(tmp_path, [1])
    usage = shutil.disk_usage(tmp_path)._replace(free=2**18 + 51)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    told = "round 2 .*No space left on device: 262196 bytes are needed, 262195 are"
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoints.save(2, small_tree(2), {})
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["00000001"]


# Orbax leaves other writes behind when one fails, and closes their event loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fills_up_while_writing(tmp_path):
    checkpoints = write(tmp_path, [1])
    noise = np.random.default_rng(0).integers(0, 256, 400_000, np.uint8)
    with file_size_limit(100_000):
        checkpoints.save(2, {"a": noise}, {})
        told = "cannot write the checkpoint of round 2 .*the last one is of round 1"
        with pytest.raises(CheckpointError, match=told) as caught:
            checkpoints.wait()
    assert "\n" not in str(caught.value)
    assert checkpoints.rounds() == [1]
    assert newest(tmp_path) == 1
    checkpoints.save(3, small_tree(3), {"line": 3})
    checkpoints.wait()
    assert newest(tmp_path) == 3


def test_a_full_disk_under_a_memory_mapped_leaf(tmp_path):
    leaf = np.memmap(tmp_path / "x", np.uint8, mode="w+", shape=(400_000,))
    checkpoints = Checkpoints(tmp_path / "c", FINGERPRINT)
    with (
        file_size_limit(100_000),
        pytest.raises(CheckpointError, match=r"cannot write .*File too large"),
    ):
        checkpoints.save(1, {"a": leaf}, {})
    assert list((tmp_path / "c").iterdir()) == []


def test_no_thread_outlives_a_save(tmp_path):
    before = set(threading.enumerate())
    write(tmp_path, [1, 2])
    assert set(threading.enumerate()) <= before


def test_the_manifest_is_plain_json(tmp_path):
    write(tmp_path, [1])
    content = json.loads((tmp_path / "00000001" / manifest.NAME).read_text())["content"]
    assert content["round"] == 1
    assert content["fingerprint"] == FINGERPRINT
    assert content["extra"] == {"line": 1}
    assert content["leaves"][0] == ["a", [3, 4], "float32", "arrays"]


CHILD = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np
import fedjax_compress.simulate.checkpoint as checkpoint
assert "orbax" not in sys.modules
checkpoints = checkpoint.Checkpoints(sys.argv[1], {"seed": 1}, keep=2)
for r in range(1, int(sys.argv[2]) + 1):
    tree = {"a": np.full(300_000, r, np.float32), "r": r}
    checkpoints.save(r, tree, {"round": r})
    print(r, flush=True)
"""


def start(folder: Path, rounds: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_survivor(folder: Path, at_least: int) -> None:
    like = {"a": np.zeros(300_000, np.float32), "r": 0}
    checkpoints = Checkpoints(folder, {"seed": 1})
    r, tree, extra = checkpoints.restore(like)
    assert at_least <= r == tree["r"] == extra["round"]
    assert (tree["a"] == r).all()
    with checkpoints:
        checkpoints.save(r + 1, tree, extra)
    assert len(list(folder.iterdir())) <= 2


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.012])
def test_a_killed_process_leaves_a_usable_checkpoint(tmp_path, delay):
    child = start(tmp_path, 100_000)
    assert child.stdout is not None
    for r in range(1, 7):
        assert child.stdout.readline() == f"{r}\n"
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    check_survivor(tmp_path, at_least=5)  # save 6 has waited for save 5


def test_a_program_that_ends_without_waiting_ends_with_the_save(tmp_path):
    child = start(tmp_path, 3)
    try:
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0
    assert errors == ""
    check_survivor(tmp_path, at_least=3)
