"""What every registered stage and compressor must do, whatever it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, registry, tree, wire
from fedjax_compress.typing import Keys

ROWS = 34
"""Of every batch of vectors, so that it compiles once."""


def same(a, b):
    """Equal structure, dtypes and elements, NaN equal to NaN."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def close(a, b, tolerance):
    """Equal structure and dtypes, elements within a tolerance, relative to 1."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def stack(parts):
    """One tree with a leading axis, from a list of trees."""
    return jax.tree.map(lambda *x: jnp.stack(x), *parts)


def test_every_entry_has_an_example(entry_name, examples):
    kind = "stage" if entry_name in registry.entries("stage") else "compressor"
    needed = [
        o.name
        for o in registry.entries(kind)[entry_name].options()
        if "=" not in str(o)
    ]
    assert not needed or entry_name in examples, f"give an example of {entry_name}"
    example = examples.get(entry_name, entry_name)
    assert example.startswith(entry_name)
    assert isinstance(compress.parse(example), type(compress.parse("identity")))
    assert len(registry.entries(kind)[entry_name].summary) > 10


def test_specification_prints_back(specification):
    text = compress.canonical(specification)
    assert compress.canonical(text) == text


def test_round_trip_keeps_shape_and_dtype(case, make_tree, make_keys):
    values = make_tree(0)
    state = case.compressor.init(values)
    decoded = case.round(values, state, make_keys(0))[2]
    assert jax.tree.structure(decoded) == jax.tree.structure(values)
    for x, y in zip(jax.tree.leaves(decoded), jax.tree.leaves(values), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert np.isfinite(np.asarray(x, np.float32)).all()


def test_init_needs_only_shapes(case, make_tree):
    values = make_tree(0)
    same(case.compressor.init(values), case.compressor.init(tree.shapes(values)))


def lanes_and_alone(case, alone, make_keys, run):
    """Each lane of a compiled batch beside the message of ``run`` for that lane."""
    vectors = [jnp.sin(s + jnp.arange(33, dtype=jnp.float32)) for s in range(ROWS)]
    many = [make_keys(s) for s in range(ROWS)]
    state = case.compressor.init(alone(vectors[0]))
    lanes = case.batch(alone(jnp.stack(vectors)), state, stack(many))
    for i in (0, ROWS - 1):
        payload, after, decoded, bits = run(alone(vectors[i]), state, many[i])[:4]
        lane = jax.tree.map(lambda x, i=i: x[i], lanes)
        close((after, decoded), lane[1:3], 1e-5)
        assert int(bits) == int(lane[3])
        assert tree.shapes(payload) == tree.shapes(lane[0])


def test_lanes_of_a_batch_equal_messages_alone(case, alone, make_keys):
    lanes_and_alone(case, alone, make_keys, case.round)


@pytest.mark.slow
def test_compiled_and_mapped_equal_eager(case, alone, make_keys):
    """Eagerly, every operation is compiled by itself: ten seconds for some."""
    lanes_and_alone(case, alone, make_keys, case.eager_round)


def test_rounds_trace_once(case, make_tree, make_keys):
    state = case.compressor.init(make_tree(0))
    before = case.traces
    for seed in range(3):
        state = case.round(make_tree(seed), state, make_keys(seed))[1]
    assert case.traces - before <= 1


def test_state_keeps_structure_under_scan_and_cond(case, make_tree, make_keys):
    trees = stack([make_tree(s) for s in range(4)])
    many = stack([make_keys(s) for s in range(4)])
    skip = jnp.array([False, True, False, False])
    start = case.compressor.init(make_tree(0))

    def step(state, given):
        values, keys, leave_out = given
        after = jax.lax.cond(
            leave_out,
            lambda: state,
            lambda: case.compressor.encode(values, state, keys)[1],
        )
        return after, None

    end = jax.jit(lambda: jax.lax.scan(step, start, (trees, many, skip))[0])()
    assert jax.tree.structure(end) == jax.tree.structure(start)
    state = start
    for seed in (0, 2, 3):
        state = case.round(make_tree(seed), state, make_keys(seed))[1]
    close(end, state, 1e-4)


def test_counted_sizes_are_the_packed_ones(case, make_tree, make_keys):
    for seed in range(3):
        values = jax.tree.map(
            lambda x, s=seed: x * 10.0 ** (3 * s - 3), make_tree(seed)
        )
        state = case.compressor.init(values)
        payload, _, _, bits, size, nominal = case.round(values, state, make_keys(seed))
        packed = wire.pack(payload)
        assert len(packed) == int(size) == -(-int(bits) // 8) + wire.HEADER_BYTES
        assert int(nominal) <= int(size)
        assert all(
            x.dtype == jnp.int32 and x.shape == () for x in (bits, size, nominal)
        )


def test_bytes_shapes_and_shared_key_are_all_that_decoding_needs(
    case, make_tree, make_keys
):
    values, keys = make_tree(2), make_keys(2)
    payload, _, decoded, *_ = case.round(values, case.compressor.init(values), keys)
    like = tree.shapes(payload)
    arrived = wire.unpack(wire.pack(payload), like)
    same(arrived, payload)
    close(case.decode(arrived, tree.zeros_like(values), keys.shared), decoded, 1e-6)


def test_messages_of_the_same_tree_have_the_same_structure(case, make_tree, make_keys):
    values = make_tree(3)
    state = case.compressor.init(values)
    one = case.round(values, state, make_keys(3))[0]
    two = case.round(make_tree(4), state, make_keys(4))[0]
    assert jax.tree.structure(one) == jax.tree.structure(two)
    assert tree.shapes(one) == tree.shapes(two)


def edge_inputs(n):
    """Float32 [cases, n]: extremes of magnitude and of shape."""
    one_hot = np.zeros(n)
    one_hot[n // 2] = -3.0
    signs = np.where(np.arange(n) % 3 == 0, -1.0, 1.0)
    ramp = np.linspace(-1, 1, n)
    cases = {
        "zero": np.zeros(n),
        "constant": np.full(n, 0.7),
        "one hot": one_hot,
        "huge": 1e30 * signs,
        "tiny": 1e-30 * signs,
        "subnormal": 1e-41 * signs,
        "mixed": np.where(np.arange(n) == 0, 1e30, 1e-30 * ramp),
        "ramp": ramp,
        "signs": signs,
    }
    return {name: jnp.asarray(x, jnp.float32) for name, x in cases.items()}


def test_edge_inputs_stay_finite(case, alone, make_keys):
    n = 33
    cases = edge_inputs(n)
    rows = list(cases.values())
    rows += [rows[0]] * (ROWS - len(rows))
    state = case.compressor.init(alone(rows[0]))
    many = stack([make_keys(n)] * ROWS)
    _, after, decoded, bits, *_ = case.batch(alone(jnp.stack(rows)), state, many)
    for leaf in jax.tree.leaves((decoded, after)):
        leaf = np.asarray(leaf)
        for i, name in enumerate(cases):
            assert np.isfinite(leaf[i]).all(), name
        assert not leaf[list(cases).index("zero")].any()
    assert (np.asarray(bits) >= 0).all()


def test_edge_inputs_of_a_single_element_stay_finite(case, make_tree, make_keys):
    """In a leaf of one element, beside others."""
    values = make_tree(0)
    for name, edge in edge_inputs(1).items():
        given = {**values, "scale": edge[0]}
        if name == "zero":
            given = tree.zeros_like(given)
        state = case.compressor.init(given)
        _, after, decoded, bits, *_ = case.round(given, state, make_keys(1))
        for leaf in jax.tree.leaves((decoded, after)):
            assert np.isfinite(np.asarray(leaf, np.float32)).all(), name
            assert name != "zero" or not np.asarray(leaf, np.float32).any()
        assert int(bits) >= 0


@pytest.mark.parametrize(
    "text",
    [
        "on_vector(hadamard | uniform(bits=4))",
        "on_vector(random_k(0.5) | qsgd(bits=3, code=elias))",
        "count_sketch(rows=3, columns=4)",
        "error_feedback(on_vector(top_k(0.3)))",
        "kashin",
        "eden",
    ],
)
def test_a_message_of_a_single_element_stays_finite(text, alone, make_keys):
    """Of those that flatten, pad or rotate: nothing else is in the message."""
    compressor = compress.parse(text)
    rows = jnp.stack(list(edge_inputs(1).values()))
    state = compressor.init(alone(rows[0]))

    def message(values):
        payload, after = compressor.encode(values, state, make_keys(1))
        return compressor.decode(payload, values, make_keys(1).shared), after

    decoded, after = jax.jit(jax.vmap(message))(alone(rows))
    for leaf in jax.tree.leaves((decoded, after)):
        assert np.isfinite(leaf).all()
    zero = list(edge_inputs(1)).index("zero")
    assert not np.asarray(decoded["body"])[zero].any()


def test_what_is_not_finite_never_becomes_finite(case, alone, make_keys):
    """An element that is not finite spoils the decoded tree, unless it is not sent.

    Not sent means decoded as exactly zero while all others arrive finite; which cannot
    be so for all elements at once.
    """
    n = ROWS - 1
    many = stack([make_keys(5)] * ROWS)
    base = jnp.sin(jnp.arange(n, dtype=jnp.float32)) + 2
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        single = jnp.where(jnp.eye(n, dtype=bool), bad, base)
        batch = alone(jnp.concatenate([single, jnp.full((1, n), bad)]))
        state = case.compressor.init(alone(base))
        body = np.asarray(case.batch(batch, state, many)[2]["body"])
        spoilt = ~np.isfinite(body).all(axis=1)
        assert all(spoilt[i] or body[i, i] == 0 for i in range(n))
        sent = [i for i in range(n) if spoilt[i]]
        assert sent, bad
        assert spoilt[n]


def test_different_clients_draw_different_noise(case, make_tree, make_keys):
    """A compressor that is unbiased without being exact must be random.

    Coins differ as those of two clients do; the tree is the same.
    """
    values = make_tree(5)
    state = case.compressor.init(values)
    claims = case.compressor.claims
    draws = [case.round(values, state, make_keys(s))[2] for s in (0, 0, 1, 2, 3)]
    kernels = [np.asarray(d["body"]["kernel"]).tobytes() for d in draws]
    assert kernels[0] == kernels[1]
    if claims.unbiased and claims.omega(60) > 0:
        assert len(set(kernels)) == 4


def test_private_key_stays_with_the_encoder(case, make_tree, make_keys):
    """Decoding a message never needs the private key, only the shared one."""
    values, keys = make_tree(6), make_keys(6)
    state = case.compressor.init(values)
    other = Keys(make_keys(7).private, keys.shared)
    payload, _, decoded, *_ = case.round(values, state, other)
    close(case.decode(payload, tree.zeros_like(values), keys.shared), decoded, 1e-6)
