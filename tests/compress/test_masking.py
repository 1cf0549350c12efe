"""Pruned trees: only what a mask keeps travels, and the mask itself in its forms."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Claims, Compressor, Keys

KEYS = Keys(jax.random.key(1), jax.random.key(2))
ELEMENTWISE = [
    "identity",
    "cast(bfloat16)",
    "uniform(bits=3)",
    "uniform(bits=3, code=arithmetic)",
    "qsgd(bits=3, bucket=7)",
    "terngrad",
    "dorefa_gradient(bits=2)",
    "sign",
    "z_sign(relative_to=max)",
    "one_bit",
    "stc(0.3)",
    "cast | nonzero",
    "by_label(uniform(bits=3), b=identity)",
]


class Both:
    """A compressor and the same under masks, compiled."""

    def __init__(self, specification):
        plain = compress.parse(specification)
        under = compress.masked(plain)

        def alone(values, keys):
            payload, _ = plain.encode(values, (), keys)
            return payload, plain.decode(payload, values, keys.shared)

        def round_trip(values, mask, keys):
            payload = under.encode(values, mask, keys)
            decoded = under.decode(payload, values, mask, keys.shared)
            return payload, decoded, wire.bits(payload)

        self.plain = jax.jit(alone)
        self.round = jax.jit(round_trip)
        self.batch = jax.jit(jax.vmap(round_trip, (0, {"b": None, "w": 0}, 0)))


@functools.cache
def both(specification):
    return Both(specification)


def values_of(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "b": jnp.asarray(rng.normal(size=5), jnp.float32),
        "w": jnp.asarray(rng.normal(size=(4, 10)), jnp.float32),
    }


def mask_of(density, seed=0):
    drawn = np.random.default_rng(seed + 50).random((4, 10)) < density
    return {"b": None, "w": jnp.asarray(drawn)}


def check_packed(payload, bits):
    packed = wire.pack(payload)
    assert len(packed) == -(-int(bits) // 8) + wire.HEADER_BYTES
    again = wire.unpack(packed, payload)
    for one, other in zip(
        jax.tree.leaves(payload), jax.tree.leaves(again), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def close(one, other):
    """Equal, up to the rounding of two compiled programs."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("specification", ELEMENTWISE)
def test_masked_messages(specification):
    """Zeros outside the mask; what is kept arrives as if it had been sent alone.

    With a mask that is all true, the message is the plain one up to the codes.
    """
    case, values = both(specification), values_of()
    for density in (0.0, 0.4, 1.0):
        mask = mask_of(density)
        kept = np.asarray(mask["w"])
        payload, decoded, bits = case.round(values, mask, KEYS)
        check_packed(payload, bits)
        front = np.zeros(40, np.float32)
        front[: kept.sum()] = np.asarray(values["w"])[kept]
        moved = {"b": values["b"], "w": jnp.asarray(front.reshape(4, 10))}
        plain, expected = case.plain(moved, KEYS)
        close(decoded["b"], expected["b"])
        assert not np.asarray(decoded["w"])[~kept].any()
        arrived = np.asarray(decoded["w"])[kept]
        close(arrived, expected["w"].reshape(-1)[: kept.sum()])
        if density == 1:
            pairs = zip(wire.fields(payload), wire.fields(plain), strict=True)
            for one, other in pairs:
                assert (one.alphabet, one.kind) == (other.alphabet, other.kind)
                close(one.symbols, other.symbols)


@pytest.mark.parametrize("specification", ["uniform(bits=3)", "cast | nonzero"])
def test_lanes_equal_messages_alone(specification):
    case, lanes = both(specification), []
    for seed, density in enumerate((0.0, 0.2, 0.7)):
        keys = Keys(jax.random.key(seed), jax.random.key(9 + seed))
        lanes.append((values_of(seed), mask_of(density, seed), keys))
    together = case.batch(*jax.tree.map(lambda *x: jnp.stack(x), *lanes))
    for i, lane in enumerate(lanes):
        alone = jax.tree.leaves(case.round(*lane))
        for one, other in zip(alone, jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(one, other[i], rtol=1e-6, atol=1e-6)


def test_bits_by_hand():
    """Of 40: the count takes 6 bits, each symbol of 8 takes 3, lo and hi 64."""
    values, mask = values_of(), mask_of(0.4)
    kept = np.asarray(mask["w"])
    payload, _, bits = both("uniform(bits=3)").round(values, mask, KEYS)
    symbols = np.asarray(payload[1]["side"]["symbols"].symbols).reshape(-1)
    last = int(np.flatnonzero(symbols).max()) + 1
    assert last <= kept.sum()
    assert int(bits) == (64 + 3 * 5) + (64 + 6 + 3 * last)
    # Floats that are not zero: exactly the kept ones.
    _, _, bits = both("identity").round(values, mask, KEYS)
    assert int(bits) == 32 * 5 + 6 + 32 * kept.sum()
    _, _, bits = both("identity").round(values, mask_of(0.0), KEYS)
    assert int(bits) == 32 * 5 + 6


def test_known_positions_are_cheaper_than_sent_ones():
    values, mask = values_of(), mask_of(0.4)
    known = both("identity").round(values, mask, KEYS)[2]
    sent = both("nonzero(bitmask)").round(values, mask_of(1.0), KEYS)[2]
    pruned = {**values, "w": jnp.where(mask["w"], values["w"], 0.0)}
    positions = both("nonzero(bitmask)").round(pruned, mask_of(1.0), KEYS)[2]
    assert int(known) < int(positions) < int(sent)


def test_leaves_that_are_never_pruned_and_empty_ones():
    under = compress.masked(compress.parse("identity"))
    values = {"a": jnp.ones(3), "b": jnp.ones((0, 2)), "c": jnp.float32(2)}
    mask = {"a": True, "b": jnp.ones((0, 2), bool), "c": jnp.array(False)}
    sent = jax.jit(lambda v: under.encode(v, mask, KEYS))(values)
    assert [f.code for f in wire.fields(sent)] == ["fixed", "leading"]
    assert int(jax.jit(wire.bits)(sent)) == 96 + 1
    like = {"a": jnp.zeros(3), "b": jnp.zeros((0, 2)), "c": jnp.zeros(())}
    decoded = jax.jit(lambda p: under.decode(p, like, mask, KEYS.shared))(sent)
    np.testing.assert_array_equal(decoded["a"], 1)
    assert decoded["b"].shape == (0, 2)
    assert decoded["c"] == 0
    nothing = under.encode({}, {}, KEYS)
    assert under.decode(nothing, {}, {}, KEYS.shared) == {}


def test_large_masks_keep_their_order():
    """Across the words of the bitset; identity gives back what is kept."""
    under = compress.masked(compress.parse("identity"))
    rng = np.random.default_rng(3)

    @jax.jit
    def run(x, mask):
        sent = under.encode(x, mask, KEYS)
        return sent, under.decode(sent, x, mask, KEYS.shared)

    x = jnp.asarray(rng.normal(size=3001), jnp.float32)
    for density in (0.01, 0.5, 0.99):
        mask = rng.random(3001) < density
        sent, decoded = run(x, jnp.asarray(mask))
        front = next(wire.fields(sent)).symbols
        np.testing.assert_array_equal(front[: mask.sum()], np.asarray(x)[mask])
        assert not np.asarray(front[mask.sum() :]).any()
        np.testing.assert_array_equal(decoded, np.where(mask, x, 0))


@pytest.mark.parametrize(
    "specification",
    ["hadamard | uniform", "top_k(0.5)", "random_k(0.5)", "error_feedback(uniform)"],
)
def test_what_is_not_elementwise_is_refused(specification):
    with pytest.raises(InputError, match="needs a compressor that is elementwise") as e:
        compress.masked(compress.parse(specification))
    assert len(str(e.value).splitlines()) == 1


def test_states_and_whole_vectors_are_refused():
    plain = compress.parse("identity")
    kept = Compressor(lambda like: like, plain.encode, plain.decode, plain.claims)
    values, mask = values_of(), mask_of(0.5)
    for refused, reason in (
        (kept, "without a state"),
        (compress.parse("on_vector(uniform)"), "'b' has no field to itself"),
    ):
        under = compress.masked(refused)
        with pytest.raises(InputError, match=reason):
            under.init_check(values)
        with pytest.raises(InputError, match=reason):
            under.encode(values, mask, KEYS)
    compress.masked(compress.parse("on_vector(uniform)")).init_check(values["w"])
    with pytest.raises(InputError, match="elementwise"):
        compress.masked(plain._replace(claims=Claims()))


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ({"b": None, "w": jnp.ones((4, 9), bool)}, "leaf 'w' must be bool\\[4, 10\\]"),
        ({"b": None, "w": jnp.ones((4, 10))}, "not float32\\[4, 10\\]"),
        ({"b": False, "w": None}, "leaf 'b' must be bool\\[5\\], True or None"),
        ({"w": None}, "needs the structure of the tree"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, reason):
    under = compress.masked(compress.parse("identity"))
    with pytest.raises(InputError, match=reason):
        under.encode(values_of(), mask, KEYS)


# the mask itself

FORMS = ["bitmap", "indices", "dropped", "gaps", "best"]


@functools.partial(jax.jit)
def mask_sizes(mask):
    return [wire.bits(compress.mask_fields(mask, code)) for code in FORMS]


def test_masks_come_back_from_every_form():
    rng = np.random.default_rng(4)
    for density in (0.0, 0.03, 0.5, 0.97, 1.0):
        mask = {
            "never": None,
            "units": jnp.asarray(rng.random(7) < density),
            "w": jnp.asarray(rng.random((20, 20)) < density),
            "whole": True,
        }
        sizes = dict(
            zip(
                FORMS,
                map(int, mask_sizes({k: mask[k] for k in ("units", "w")})),
                strict=True,
            )
        )
        for code in FORMS:
            payload = compress.mask_fields(mask, code)
            assert [f.kind for f in wire.fields(payload)] == ["mask", "mask"]
            check_packed(payload, sizes[code])
            again = compress.masks_from(wire.unpack(wire.pack(payload), payload), code)
            assert again["never"] is None
            assert again["whole"] is None
            for name in ("units", "w"):
                assert again[name].dtype == bool
                np.testing.assert_array_equal(again[name], mask[name])
        assert sizes["best"] <= min(sizes.values()) + 2 * 3


def test_bits_of_masks_by_hand():
    """Of 100 with 3 kept: a count of 7 bits, positions of 7; 97 dropped."""
    mask = jnp.zeros(100, bool).at[jnp.array([5, 50, 99])].set(True)
    bitmap, indices, dropped, gaps, best = map(int, mask_sizes(mask))
    assert (bitmap, indices, dropped) == (100, 7 + 3 * 7, 7 + 97 * 7)
    # Rice parameter 4 of 3 in 100; zeros in between 5, 44, 48: 5, 5 + 2, 5 + 3 bits.
    assert gaps == 7 + 5 + 7 + 8
    assert best == 3 + 27
    assert int(mask_sizes(~mask)[-1]) == 3 + 27


def test_unknown_forms_and_arrays_that_are_no_masks_are_refused():
    for refused in (compress.mask_fields, compress.masks_from):
        with pytest.raises(InputError, match="bitmap, indices, dropped, gaps, best"):
            refused({}, "bitmask")
    with pytest.raises(InputError, match="bool arrays, not float32"):
        compress.mask_fields({"w": jnp.ones(3)})


# nonzero


def test_nonzero_by_hand():
    """1.5 and -2 of eight, with zeros of both signs: 4 + 2 * 3 + 64 bits."""
    x = jnp.array([0, 1.5, -0.0, 0, -2, 0, -0.0, 0], jnp.float32)
    plain = compress.parse("nonzero(fixed)")
    payload, _ = jax.jit(plain.encode)(x, (), KEYS)
    assert int(jax.jit(wire.bits)(payload)) == 4 + 2 * 3 + 64
    decoded = plain.decode(wire.unpack(wire.pack(payload), payload), x, KEYS.shared)
    np.testing.assert_array_equal(decoded, x)
    assert not np.signbit(np.asarray(decoded))[[2, 6]].any()


def test_nonzero_best_is_at_most_two_bits_above_each_code():
    rng = np.random.default_rng(5)
    codes = ["best", "golomb", "fixed", "words", "bitmask", "runs"]
    run = [
        functools.partial(
            compress.parse(f"nonzero({code})").encode, state=(), keys=KEYS
        )
        for code in codes
    ]
    sizes = jax.jit(lambda x: [wire.bits(r(x)[0]) for r in run])
    for density, dtype in itertools.product((0.0, 0.05, 0.6), ("float32", "bfloat16")):
        x = rng.normal(size=500) * (rng.random(500) < density)
        best, *others = map(int, sizes(jnp.asarray(x, dtype)))
        assert best == min(others) + 2
