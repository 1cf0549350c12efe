"""Chains, lifts, labels and error feedback."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, tree, wire
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys, Stage

KEYS = Keys(jax.random.key(1), jax.random.key(2))


def fast(function):
    """Compiled in little time."""
    return jax.jit(function)


def through(compressor, values, keys=KEYS):
    """The decoded tree."""

    def run(values, keys):
        payload, _ = compressor.encode(values, compressor.init(values), keys)
        return compressor.decode(payload, values, keys.shared)

    return fast(run)(values, keys)


def params(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "dense_0": {"bias": rng.normal(size=4), "kernel": rng.normal(size=(6, 4))},
        "dense_1": {"bias": rng.normal(size=3), "kernel": rng.normal(size=(4, 3))},
    }


def arrays(seed=0):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params(seed))


# chain


def test_chain_of_one_is_the_stage():
    stage = compress.uniform(bits=4)
    assert compress.chain(stage) is stage


def test_text_and_python_describe_the_same_compressor():
    text = compress.parse("top_k(0.5) | qsgd(bits=4)")
    python = compress.on_leaves(
        compress.chain(compress.top_k(0.5), compress.qsgd(bits=4))
    )
    one, two = (fast(c.encode)(arrays(), (), KEYS)[0] for c in (text, python))
    assert wire.pack(one) == wire.pack(two)


def test_chain_quantises_the_values_and_pays_for_the_indices():
    x = jnp.arange(1.0, 21.0)
    compressor = compress.parse("top_k(0.25, indices=fixed) | uniform(bits=2)")
    payload, _ = fast(compressor.encode)(x, (), KEYS)
    kinds = sorted((f.kind, f.symbols.size) for f in wire.fields(payload))
    assert kinds == [("indices", 5), ("scales", 2), ("values", 5)]


def test_stages_of_a_chain_draw_different_noise():
    """The same stage twice would pick the same elements if the keys were not folded."""
    stage = compress.chain(compress.random_k(0.5), compress.random_k(0.5))
    encode, kept = fast(stage.encode), set()
    for seed in range(8):
        keys = KEYS.fold(seed)
        carrier, _, _ = encode(jnp.arange(1.0, 9.0), (), keys)
        kept.add(tuple(np.sort(np.asarray(carrier)).tolist()))
    assert len(kept) > 1


def test_a_stage_that_leaves_nothing_must_be_last():
    with pytest.raises(InputError, match="leaves no array"):
        compress.chain(compress.uniform(), compress.qsgd())
    with pytest.raises(InputError, match="at least one stage"):
        compress.chain()


def test_states_of_a_chain_stay_apart():
    """Two stages that count their rounds, and one without a state between them."""

    def counter():
        def encode(array, state, keys):
            return array + state, (), state + 1

        return Stage(
            lambda shape: jnp.zeros(()), encode, lambda carrier, side, shared: carrier
        )

    stage = compress.chain(counter(), compress.identity(), counter())
    compressor = compress.on_leaves(stage)
    state = compressor.init({"a": jnp.zeros(3), "b": jnp.zeros(2)})
    for expected in range(3):
        payload, state = compressor.encode(
            {"a": jnp.zeros(3), "b": jnp.zeros(2)}, state, KEYS
        )
        decoded = compressor.decode(
            payload, {"a": jnp.zeros(3), "b": jnp.zeros(2)}, KEYS.shared
        )
        assert decoded["b"].tolist() == [2 * expected] * 2


def test_claims_of_a_chain():
    chain = compress.chain(compress.random_k(0.5), compress.uniform(bits=2))
    claims = chain.claims
    assert claims.unbiased
    assert not claims.linear
    # 10 of 20 kept: omega 1; then uniform on 10 elements: 10 / (2 * 9).
    assert claims.omega(20) == pytest.approx(2 * (1 + 10 / 18) - 1)
    assert compress.chain(compress.hadamard(), compress.random_k(0.5)).claims.linear
    rotated = compress.chain(compress.hadamard(), compress.top_k(0.1)).claims
    assert not rotated.unbiased
    assert rotated.alpha(50) == 0.1
    # Elements doubled in place of others: the largest of them may be farther off.
    doubled = compress.chain(compress.random_k(0.5), compress.top_k(0.5)).claims
    assert doubled.alpha is None
    assert compress.chain(compress.top_k(0.1), compress.qsgd()).claims.omega is None


# lifts


def test_leaves_draw_different_noise():
    same = {"a": jnp.linspace(0, 1, 50), "b": jnp.linspace(0, 1, 50)}
    arrived = through(compress.parse("uniform(bits=1)"), same)
    assert (arrived["a"] != arrived["b"]).any()
    arrived = through(compress.parse("random_k(0.5)"), same)
    assert (arrived["a"] != arrived["b"]).any()


def test_on_vector_is_the_stage_on_the_concatenation():
    values = arrays()
    stage = compress.uniform(bits=3)
    vector = jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(values)])
    carrier, side, _ = fast(stage.encode)(vector, (), KEYS)
    expected = stage.decode(carrier, side, KEYS.shared)
    arrived = through(compress.on_vector(stage), values)
    got = jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(arrived)])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_on_vector_of_mixed_dtypes():
    values = {"a": jnp.asarray([1.5, 2.25], jnp.bfloat16), "b": jnp.asarray([0.1])}
    arrived = through(compress.on_vector(compress.identity()), values)
    for name in values:
        assert arrived[name].dtype == values[name].dtype
        np.testing.assert_array_equal(arrived[name], values[name])


@pytest.mark.parametrize("text", ["uniform", "on_vector(uniform)", "top_k(0.5)"])
def test_empty_leaves_and_trees(text):
    compressor = compress.parse(text)
    for values in ({}, {"a": jnp.zeros((0, 3))}):
        payload, _ = compressor.encode(values, compressor.init(values), KEYS)
        assert int(wire.bits(payload)) == 0
        arrived = compressor.decode(payload, values, KEYS.shared)
        assert tree.shapes(arrived) == tree.shapes(values)


@pytest.mark.parametrize("text", ["uniform", "on_vector(uniform)"])
def test_integers_are_refused_by_name(text):
    values = {"step": jnp.zeros(3, jnp.int32)}
    with pytest.raises(InputError, match="leaf 'step' is int32; only floating"):
        compress.parse(text).init(values)


# labels


def test_the_last_matching_part_of_the_path_decides():
    values = arrays()
    compressor = compress.parse(
        "by_label(top_k(0.01), bias=identity, dense_1=uniform(bits=1))"
    )
    arrived = through(compressor, values)
    for layer in values:
        np.testing.assert_array_equal(arrived[layer]["bias"], values[layer]["bias"])
    assert np.count_nonzero(arrived["dense_0"]["kernel"]) == 1
    assert len(np.unique(arrived["dense_1"]["kernel"])) == 2


def test_a_new_label_leaves_the_noise_of_others_alone():
    few = compress.parse("by_label(uniform(bits=1), dense_0=random_k(0.5))")
    more = compress.parse(
        "by_label(uniform(bits=1), dense_0=random_k(0.5), dense_1=identity)"
    )
    one, two = through(few, arrays()), through(more, arrays())
    for name in one["dense_0"]:
        np.testing.assert_array_equal(one["dense_0"][name], two["dense_0"][name])


def test_a_label_that_no_leaf_has():
    compressor = compress.parse("by_label(uniform, kernal=identity)")
    with pytest.raises(InputError, match="did you mean 'kernel'"):
        compressor.init(arrays())


# error feedback


@pytest.mark.parametrize(
    "text",
    [
        "top_k(0.1)",
        "top_k(0.1) | qsgd(bits=4)",
        "random_k(0.2, rescale=false)",
        "uniform(bits=4)",
        "cast",
    ],
)
def test_error_feedback_telescopes(text):
    """sum of decoded + last residual = sum of inputs, over 50 rounds."""
    compressor = compress.parse(f"error_feedback({text})")
    values = arrays()
    steps = [arrays(s) for s in range(50)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *steps)
    many = jax.vmap(KEYS.fold)(jnp.arange(50))

    def step(state, given):
        x, keys = given
        payload, state = compressor.encode(x, state, keys)
        return state, compressor.decode(payload, x, keys.shared)

    run = fast(lambda s: jax.lax.scan(step, s, (stacked, many)))
    state, arrived = run(compressor.init(values))
    residual = state["residual"]
    for got, left, sent in zip(
        *map(jax.tree.leaves, (arrived, residual, stacked)), strict=True
    ):
        got, sent = (np.asarray(x, np.float64).sum(axis=0) for x in (got, sent))
        np.testing.assert_allclose(got + left, sent, atol=1e-4)


def test_error_feedback_of_a_selection_is_exact():
    """decoded + residual == residual before + input, bit for bit."""
    compressor = compress.parse("error_feedback(top_k(0.2))")
    state = compressor.init(arrays())
    for seed in range(5):
        due = tree.add(state["residual"], arrays(seed))
        payload, state = compressor.encode(arrays(seed), state, KEYS)
        arrived = compressor.decode(payload, arrays(), KEYS.shared)
        total = tree.add(arrived, state["residual"])
        jax.tree.map(np.testing.assert_array_equal, total, due)


def test_error_feedback_of_the_identity_is_the_identity():
    compressor = compress.parse("error_feedback(identity)")
    plain = compress.parse("identity")
    state = compressor.init(arrays())
    for seed in range(3):
        payload, state = compressor.encode(arrays(seed), state, KEYS)
        assert wire.pack(payload) == wire.pack(plain.encode(arrays(seed), (), KEYS)[0])
        assert not any(x.any() for x in jax.tree.leaves(state["residual"]))


def test_decay_ages_the_residual():
    compressor = compress.parse("error_feedback(top_k(0.5), decay=0.5)")
    state = compressor.init(jnp.zeros(2))
    _, state = compressor.encode(jnp.asarray([4.0, 1.0]), state, KEYS)
    assert state["residual"].tolist() == [0, 1]
    _, state = compressor.encode(jnp.asarray([4.0, 1.0]), state, KEYS)
    assert state["residual"].tolist() == [0, 1.5]
    forgetful = compress.parse("error_feedback(top_k(0.5), decay=0)")
    state = forgetful.init(jnp.zeros(2))
    for _ in range(3):
        _, state = forgetful.encode(jnp.asarray([4.0, 1.0]), state, KEYS)
    assert state["residual"].tolist() == [0, 1]


def test_residuals_of_short_floats_are_kept_in_full():
    """What bfloat16 cannot hold waits in float32 until it counts."""
    compressor = compress.parse("error_feedback(identity)")
    x = jnp.ones(3, jnp.bfloat16)
    state = compressor.init(x)
    assert state["residual"].dtype == jnp.float32
    payload, _ = compressor.encode(x, state, KEYS)
    assert int(wire.bits(payload)) == 48


@pytest.mark.parametrize("decay", [-0.1, 1.5])
def test_decay_out_of_range(decay):
    with pytest.raises(InputError, match="decay must be 0 to 1"):
        compress.error_feedback(compress.parse("identity"), decay)
