"""The per-client store: what was put in for a client comes out for that client."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress.clients import HostStore
from fedjax_compress.errors import InputError

TEMPLATE = {
    "residual": jnp.zeros((3, 2), jnp.float32),
    "mask": {"half": jnp.ones(4, jnp.bfloat16), "count": jnp.int32(7)},
}


@pytest.fixture(params=["memory", "folder"])
def folder(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "store"


def states(count, start=0):
    return jax.tree.map(
        lambda x: jnp.stack([x + start + i for i in range(count)]), TEMPLATE
    )


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_new_clients_start_from_the_template(folder):
    store = HostStore(TEMPLATE, 10, folder)
    same(
        store.gather(np.array([4, 0])),
        jax.tree.map(lambda x: np.stack([x, x]), TEMPLATE),
    )


def test_round_trip_by_client_id(folder):
    store = HostStore(TEMPLATE, 10, folder)
    put = states(3, start=1)
    store.scatter(np.array([7, 2, 5]), put)
    same(store.gather(np.array([7, 2, 5])), put)
    mixed = store.gather(np.array([5, 3, 7]))
    same(jax.tree.map(lambda x: x[0], mixed), jax.tree.map(lambda x: x[2], put))
    same(jax.tree.map(lambda x: x[1], mixed), TEMPLATE)
    same(jax.tree.map(lambda x: x[2], mixed), jax.tree.map(lambda x: x[0], put))
    store.scatter(np.array([2]), states(1, start=9))
    same(store.gather(np.array([2])), states(1, start=9))
    same(store.gather(np.array([7])), jax.tree.map(lambda x: x[:1], put))
    np.testing.assert_array_equal(np.flatnonzero(store.started), [2, 5, 7])


def test_gathered_states_are_copies(folder):
    store = HostStore(TEMPLATE, 4, folder)
    store.scatter(np.array([1]), states(1))
    store.gather(np.array([1]))["residual"][:] = 99
    same(store.gather(np.array([1])), states(1))


def test_dummies_read_the_template_and_write_nothing(folder):
    store = HostStore(TEMPLATE, 4, folder)
    store.scatter(np.array([4, -1, 2]), states(3, start=1))
    assert store.started.sum() == 1
    got = store.gather(np.array([2, 4, -1]))
    same(jax.tree.map(lambda x: x[0], got), jax.tree.map(lambda x: x[2], states(3, 1)))
    same(jax.tree.map(lambda x: x[1], got), TEMPLATE)


def test_a_saved_tree_restores_another_store(folder, tmp_path):
    store = HostStore(TEMPLATE, 10, folder)
    store.scatter(np.array([7, 2]), states(2, start=3))
    saved = jax.tree.map(np.array, store.tree)
    for leaf in jax.tree.leaves(saved):
        assert leaf.shape[0] == 10
    other = HostStore(TEMPLATE, 10, tmp_path / "other")
    other.scatter(np.array([0]), states(1, start=5))
    other.load(saved)
    everybody = np.arange(10)
    same(other.gather(everybody), store.gather(everybody))


def test_a_tree_of_another_set_up_is_refused():
    store = HostStore(TEMPLATE, 10)
    with pytest.raises(InputError, match="another set-up"):
        store.load(HostStore(TEMPLATE, 11).tree)
    with pytest.raises(InputError, match="another set-up"):
        store.load(HostStore({"residual": TEMPLATE["residual"]}, 10).tree)


def test_stateless_clients_store_nothing(folder):
    store = HostStore((), 10, folder)
    assert store.gather(np.array([1, 2])) == ()
    store.scatter(np.array([1]), ())
    assert jax.tree.leaves(store.rows) == []


def test_files_take_disk_only_for_clients_that_took_part(tmp_path):
    store = HostStore({"mask": np.ones(1000, np.float32)}, 200_000, tmp_path)
    store.scatter(np.array([150_000]), {"mask": np.full((1, 1000), 2, np.float32)})
    for leaf in jax.tree.leaves(store.rows):
        leaf.flush()
    files = [f.stat() for f in tmp_path.iterdir()]
    assert sum(f.st_size for f in files) > 800_000_000
    assert sum(f.st_blocks * 512 for f in files) < 4_000_000
    got = store.gather(np.array([150_000, 3]))["mask"]
    np.testing.assert_array_equal(got[:, 0], [2, 1])
