"""Checkpoints: what was saved comes back bit for bit, or is refused by name."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_compress.errors import CheckpointError
from fedjax_compress.runtime import manifest
from fedjax_compress.runtime.checkpoint import Checkpoints


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


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path, saves):
    tree = rich_tree()
    extra = {"bytes_up": 2**70, "list": [1, 2.5, None], "text": "é"}
    with Checkpoints(tmp_path / "c", saves.fingerprint) as checkpoints:
        checkpoints.save(12, tree, extra)
    like = rich_tree(-3.0)
    r, back, returned = Checkpoints(tmp_path / "c", saves.fingerprint).restore(like)
    assert (r, returned) == (12, extra)
    saves.assert_identical(back, tree)


@pytest.mark.parametrize("tree", [(), {"a": ()}, np.zeros((2, 0)), 3])
def test_a_tree_without_elements_or_of_one_number_comes_back(tmp_path, tree, saves):
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(1, tree, {})
    saves.assert_identical(checkpoints.restore(tree)[1], tree)


def test_like_may_be_shapes_only(tmp_path, saves):
    checkpoints = saves.write(tmp_path, [3])
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), saves.small_tree(0)
    )
    back = checkpoints.restore(like)[1]
    np.testing.assert_array_equal(back["a"], saves.small_tree(3)["a"])
    assert back["a"].dtype == np.float32


def test_sharded_arrays_come_back_on_their_devices(tmp_path, saves):
    mesh = jax.make_mesh((4,), ("clients",))
    spec = jax.sharding.PartitionSpec("clients")
    sharding = jax.sharding.NamedSharding(mesh, spec)
    tree = {"a": jax.device_put(jnp.arange(8.0), sharding)}
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(1, tree, {})
    back = checkpoints.restore(jax.tree.map(jnp.zeros_like, tree))[1]
    saves.assert_identical(back, tree)
    assert back["a"].sharding == sharding


def test_memory_mapped_leaves_are_filled_in_place(tmp_path, saves):
    def mapped(name: str, dtype: Any) -> np.memmap:
        return np.memmap(tmp_path / name, dtype, mode="w+", shape=(5, 3))

    tree = {"x": mapped("x", np.float32), "y": mapped("y", jnp.bfloat16)}
    tree["x"][:] = np.arange(15).reshape(5, 3)
    tree["y"][:] = -1.5
    before = jax.tree.map(np.array, tree)
    checkpoints = Checkpoints(tmp_path / "c", saves.fingerprint)
    checkpoints.save(1, tree, {})
    tree["x"][:] = 0
    tree["y"][:] = 0
    checkpoints.wait()
    folder = tmp_path / "c" / "00000001" / "mapped"
    raw = [p.read_bytes() for p in sorted(folder.glob("*.bin"))]
    assert raw == [before["x"].tobytes(), before["y"].tobytes()]
    _, back, _ = checkpoints.restore(tree)
    assert back["x"] is tree["x"]
    assert back["y"] is tree["y"]
    saves.assert_identical(jax.tree.map(np.array, back), before)
    saves.assert_identical(
        checkpoints.restore(before)[1], before
    )  # mapped -> in memory
    checkpoints.save(2, before, {})
    tree["x"][:] = 0
    _, back, _ = checkpoints.restore(tree)  # in memory -> mapped
    assert back["x"] is tree["x"]
    saves.assert_identical(jax.tree.map(np.array, back), before)
    checkpoints.wait()


def test_arrays_may_change_as_soon_as_save_returns(tmp_path, saves):
    change = jax.jit(lambda x: x * 0, donate_argnums=0)
    checkpoints = Checkpoints(tmp_path, saves.fingerprint)
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


def test_another_fingerprint_is_refused_with_what_differs(tmp_path, saves):
    saves.write(tmp_path, [1])
    mine = {"seed": 2, "config": {"model": "mlp", "lanes": 4}, "devices": 1}
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(tmp_path, mine).restore(saves.small_tree(0))
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


def test_other_arrays_are_refused_by_name(tmp_path, saves):
    checkpoints = saves.write(tmp_path, [1])
    other = {**saves.small_tree(0), "a": np.zeros((3, 5), np.float32)}
    told = r"a float32\[3, 4\] where a float32\[3, 5\] is expected"
    with pytest.raises(CheckpointError, match=told):
        checkpoints.restore(other)
    with pytest.raises(CheckpointError, match="nothing more where c int64"):
        checkpoints.restore({**saves.small_tree(0), "c": 1})


def test_the_manifest_is_plain_json(tmp_path, saves):
    saves.write(tmp_path, [1])
    content = json.loads((tmp_path / "00000001" / manifest.NAME).read_text())["content"]
    assert content["round"] == 1
    assert content["fingerprint"] == saves.fingerprint
    assert content["extra"] == {"line": 1}
    assert content["leaves"][0] == ["a", [3, 4], "float32", "arrays"]
