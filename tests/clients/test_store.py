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
    assert store.started == 3
    assert sorted(store.ids) == [2, 5, 7]


def test_gathered_states_are_copies(folder):
    store = HostStore(TEMPLATE, 4, folder)
    store.scatter(np.array([1]), states(1))
    store.gather(np.array([1]))["residual"][:] = 99
    same(store.gather(np.array([1])), states(1))


def test_dummies_read_the_template_and_write_nothing(folder):
    store = HostStore(TEMPLATE, 4, folder)
    store.scatter(np.array([4, -1, 2]), states(3, start=1))
    assert store.started == 1
    got = store.gather(np.array([2, 4, -1]))
    same(jax.tree.map(lambda x: x[0], got), jax.tree.map(lambda x: x[2], states(3, 1)))
    same(jax.tree.map(lambda x: x[1], got), TEMPLATE)


@pytest.mark.parametrize("elements", [1, 7, 300])  # 300 float32: copied one by one
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_any_course_of_rounds_is_that_of_a_dictionary(folder, elements, rows):
    """Forty rounds over 60 clients with dummies, in blocks of 1, 3 and all rows."""
    template = {"a": np.full(elements, 5, np.float32), "b": np.zeros((), np.int64)}
    row = 4 * elements + 8
    store = HostStore(template, 60, folder, block=rows * row)
    kept, rng = {}, np.random.default_rng(elements)
    for number in range(40):
        ids = np.where(rng.random(9) < 0.2, -1, rng.choice(60, 9, replace=False))
        out = store.empty(9) if number % 2 else None
        got = store.gather(ids, out)
        for k, i in enumerate(ids.tolist()):
            a, b = kept.get(i, (template["a"], 0))
            np.testing.assert_array_equal(got["a"][k], a)
            assert got["b"][k] == b
        new = rng.standard_normal((9, elements)).astype(np.float32)
        store.scatter(ids, {"a": new, "b": np.full(9, number)})
        kept.update({i: (new[k], number) for k, i in enumerate(ids) if i >= 0})
    assert store.started == len(kept) > 40
    assert sorted(store.ids) == sorted(kept)
    saved = jax.tree.map(np.asarray, store.tree)
    for i, a, b in zip(saved["ids"], *saved["rows"].values(), strict=True):
        np.testing.assert_array_equal(a, kept[i][0])
        assert b == kept[i][1]


def test_buffers_are_filled_in_place_and_must_fit():
    store = HostStore(TEMPLATE, 4)
    store.scatter(np.array([1]), states(1, 3))
    out = store.empty(2)
    got = store.gather(np.array([1, -1]), out)
    for x, y in zip(jax.tree.leaves(out), jax.tree.leaves(got), strict=True):
        assert x is y
        assert x.ctypes.data % 64 == 0
    same(got, store.gather(np.array([1, -1])))
    for wrong in (store.empty(3), {"residual": out["residual"]}):
        with pytest.raises(InputError, match=r"as made by empty\(2\)"):
            store.gather(np.array([1, -1]), wrong)


@pytest.mark.parametrize("own", [False, True])
def test_a_saved_tree_restores_another_store(folder, tmp_path, own):
    """From arrays, and from the leaves of the other store itself."""
    store = HostStore(TEMPLATE, 10, folder, block=80)
    store.scatter(np.array([7, 2, 1]), states(3, start=3))
    saved = store.tree if own else jax.tree.map(np.array, store.tree)
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(saved))
    other = HostStore(TEMPLATE, 10, tmp_path / "other")
    other.scatter(np.array([0, 7]), states(2, start=5))
    other.load(saved)
    everybody = np.arange(10)
    same(other.gather(everybody), store.gather(everybody))
    other.scatter(np.array([0]), states(1, start=6))
    same(other.gather(np.array([0])), states(1, start=6))
    same(other.gather(everybody[1:]), store.gather(everybody[1:]))


def test_a_tree_keeps_its_clients_while_the_store_grows(folder):
    store = HostStore(TEMPLATE, 10, folder, block=80)
    empty = store.tree
    store.scatter(np.array([7, 2]), states(2, start=3))
    two = store.tree
    before = jax.tree.map(np.array, two)
    store.scatter(np.array([4, 0, 9]), states(3, start=6))
    same(jax.tree.map(np.array, two), before)
    assert [leaf.shape[0] for leaf in jax.tree.leaves(empty)] == [0] * 4
    assert np.asarray(empty["rows"]["residual"]).shape == (0, 3, 2)
    same(store.gather(store.ids), jax.tree.map(np.array, store.tree)["rows"])


def test_a_tree_of_another_set_up_is_refused():
    store = HostStore(TEMPLATE, 10)
    larger = HostStore(TEMPLATE, 11)
    larger.scatter(np.array([10]), states(1))
    tree = jax.tree.map(np.array, larger.tree)
    other = HostStore({"residual": TEMPLATE["residual"]}, 10).tree
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), tree)
    shorter = {**twice, "ids": np.array([3], np.int32)}
    whole = {"started": np.zeros(10, bool), "rows": states(10)}  # of version 0.1.0
    for wrong in (tree, other, twice, shorter, whole):
        with pytest.raises(InputError, match=r"another set-up.* clients below 10"):
            store.load(wrong)
    assert store.started == 0
    HostStore(TEMPLATE, 11).load(tree)


def test_stateless_clients_store_nothing(folder):
    store = HostStore((), 10, folder)
    assert store.gather(np.array([1, 2])) == ()
    store.scatter(np.array([1]), ())
    assert jax.tree.leaves(store.tree["rows"]) == []
    assert store.nbytes == 0


def test_leaves_without_elements_are_kept(folder):
    store = HostStore({"a": np.zeros((0, 3)), "b": np.zeros(2)}, 5, folder)
    store.scatter(np.array([3]), {"a": np.zeros((1, 0, 3)), "b": np.ones((1, 2))})
    got = store.gather(np.array([3, 1]))
    assert got["a"].shape == (2, 0, 3)
    np.testing.assert_array_equal(got["b"], [[1, 1], [0, 0]])
    assert np.asarray(store.tree["rows"]["a"]).shape == (1, 0, 3)
