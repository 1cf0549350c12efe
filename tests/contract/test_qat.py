"""What every form of quantization-aware training must do.

A test that takes ``form`` runs over each registered name; one that takes ``any_form``
over variants as well, whose values alone are tested.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import labelled, setup, train

from fedjax_compress import compress, registry, tree, wire
from fedjax_compress.simulate import Simulator
from fedjax_compress.typing import Keys, Task

TASK = Task((5,), 3)
KEY = jax.random.key(0)
KEYS = Keys(jax.random.key(1), jax.random.key(2))
CLIENTS, COHORT, ROUNDS = 13, 9, 4
EXAMPLES = {
    "none": "none",
    "integer": "integer(bits=4)",
    "binary": "binary(bound=0.5)",
    "lsq": "lsq(bits=3)",
    "dorefa": "dorefa(weights=2, activations=4, gradients=6, ends=true)",
}
VARIANTS = [
    "binary",
    "integer(bits=2, scale=channel, code=radix)",
    "integer(bits=8, scale_gradient=false, skip=(output,))",
    "integer(bits=4, code=best)",
    "binary(stochastic=true)",
    "binary(zero=zero, binary_start=true, bound=0.5)",
    "dorefa",
    "dorefa(weights=4, ends=true)",
    "dorefa(weights=8, activations=8, ends=true)",
    "dorefa(weights=32, gradients=4)",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    forms = [EXAMPLES.get(name, name) for name in registry.entries("qat")]
    for name, values in (("form", forms), ("any_form", forms + VARIANTS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


@functools.cache
def plain():
    return registry.build("model", "mlp(hidden=(6, 4))", TASK)


@functools.cache
def model_of(form):
    return registry.build("qat", form, plain(), TASK)


@functools.cache
def data():
    """Thirteen clients whose labels can be learned from two features."""
    rng = np.random.default_rng(2)
    sizes = 1 + rng.integers(0, 12, CLIENTS)
    owner = np.repeat(np.arange(CLIENTS), sizes).astype(np.int32)
    features = rng.normal(size=(len(owner), 5)).astype(np.float32)
    labels = (features[:, 0] > 0) + (features[:, 1] > 0.5)
    return labelled(features, labels.astype(np.int32), owner, CLIENTS)


@functools.cache
def simulator_of(form):
    """Clients send and receive what they compute with, where that is quantized."""
    model = model_of(form)
    coded = "(send=quantized, receive=quantized)" if model.quantized else ""
    local = registry.build("local", "sgd(lr=0.5, batch=4, epochs=2)", model)
    parts = setup(local, server="fedavg(lr=1.0)")
    algorithm = registry.build("algorithm", f"fedavg{coded}", parts)
    sampling = registry.build("sampling", "uniform")
    options = {"cohort": COHORT, "seed": 3, "sampling": sampling, "lanes": 4}
    made = Simulator(algorithm, data(), **options)
    made.params = model.init(KEY)
    return made


def run(simulator, rounds=ROUNDS, state=None):
    state = state or simulator.start(simulator.params)
    state, records = simulator.advance(state, rounds)
    clean = [{k: v for k, v in r.items() if "second" not in k} for r in records]
    return jax.device_get(state), clean


@functools.cache
def base(form):
    return run(simulator_of(form))


def test_what_travels_is_what_the_model_computes_with(any_form):
    """And its size is that of its bytes: packed, unpacked, decoded, applied."""
    form, model = any_form, model_of(any_form)
    if model.quantized is None:
        assert form == "none" or "weights=32" in form
        return
    params, link = model.init(KEY), model.quantized.compressor
    payload, _ = jax.jit(lambda p: link.encode(p, (), KEYS))(params)
    packed = wire.pack(payload)
    assert len(packed) == int(wire.size(payload))
    if "best" in form:
        # The shortest code of each array, and a byte to say which it is.
        fixed = model_of(form.replace(", code=best", "")).quantized.compressor
        longest = len(wire.pack(fixed.encode(params, (), KEYS)[0]))
        assert len(packed) <= longest + len(jax.tree.leaves(params))
    arrived = wire.unpack(packed, payload)
    found = link.decode(arrived, params, KEYS.shared)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    if "stochastic" in form:
        weights = found["dense_1"]["kernel"]
        assert set(np.unique(weights)) <= {-1.0, 1.0}
        return
    features = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5)), jnp.float32)
    columns = {"features": features}
    wanted = model.apply(params, columns, None)
    again = model.apply(found, columns, None)
    np.testing.assert_allclose(again, wanted, rtol=1e-5, atol=1e-6)
    if "dorefa" in form:
        return  # codes are read as latent weights, and activations are others
    own = {k: v for k, v in found.items() if k != "steps"}
    np.testing.assert_allclose(
        plain().apply(own, columns, None), wanted, rtol=1e-5, atol=1e-6
    )


def test_a_local_update_trains_the_latent_weights(form):
    """Every form learns, keeps latent weights apart from what it computes with, and
    binary ones inside their bound."""
    model = model_of(form)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 12).astype(np.int32)
    alone = labelled(features, labels, np.zeros(12, np.int32))
    local = registry.build("local", "sgd(lr=0.3, steps=30, batch=12)", model)
    params = model.init(KEY)
    shard = alone.shard(jnp.asarray(0), jnp.asarray(12))
    update, _, metrics = jax.jit(lambda p: train(local, p, shard, KEY))(params)
    moved = tree.add(params, update)

    def loss(params):
        outputs = model.apply(params, shard.columns, None)
        return jnp.mean(model.losses(outputs, shard.columns)[0])

    assert np.isfinite(float(metrics["loss"]))
    assert float(loss(moved)) < float(loss(params))
    latent = moved["dense_2"]["kernel"]
    if model.quantized is not None:
        link = model.quantized.compressor
        payload, _ = link.encode(moved, (), KEYS)
        seen = link.decode(payload, moved, KEYS.shared)["dense_2"]["kernel"]
        assert np.mean(np.asarray(latent != seen)) > 0.5
    if form.startswith("binary"):
        bound = 0.5 if "bound" in form else 1.0
        assert np.max(np.abs(latent)) <= bound
    if form.startswith("lsq"):
        assert all(float(jnp.max(jnp.abs(s))) > 0 for s in update["steps"].values())


def test_clients_side_by_side_are_clients_one_by_one(form):
    """Under vmap as the engine trains them, with keys of their own."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(12, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 12).astype(np.int32)
    pair = labelled(features, labels, np.repeat(np.arange(2), 6).astype(np.int32))
    model = model_of(form)
    local = registry.build("local", "sgd(lr=0.1, steps=2, batch=4)", model)
    params = model.init(KEY)
    keys = jax.random.split(KEY, 2)

    def one(number, key):
        shard = pair.shard(number, jnp.asarray(6))
        return train(local, params, shard, key).update

    both = jax.jit(jax.vmap(one))(jnp.arange(2), keys)
    alone = jax.jit(one)
    for number in range(2):
        jax.tree.map(
            lambda a, b, i=number: np.testing.assert_allclose(
                a[i], b, rtol=1e-4, atol=1e-5
            ),
            both,
            alone(jnp.asarray(number), keys[number]),
        )


def test_rounds_of_messages_of_codes_stay_finite_and_move(form):
    """Whether they learn is another matter: the server of a binary network holds means
    of signs, and four rounds are few.

    The way is measured from the end of the first round, since the first message of
    codes moves weights without any training.
    """
    state, records = base(form)
    assert all(r["clients"] == COHORT and r["dropped"] == 0 for r in records)
    assert all(np.isfinite(r["train_loss"]) for r in records)
    network = simulator_of(form).algorithm.network
    (_, last), (_, first) = map(
        network, (state.server, run(simulator_of(form), 1)[0].server)
    )
    assert tree.all_finite(last)
    moved = jax.tree.map(lambda a, b: float(np.max(np.abs(a - b))), last, first)
    assert min(jax.tree.leaves(moved)) > 1e-4, moved  # far above rounding


def test_a_round_is_billed_the_bytes_of_its_messages(form):
    model, simulator = model_of(form), simulator_of(form)
    link = model.quantized.compressor if model.quantized else compress.parse("identity")
    payload, _ = link.encode(simulator.params, link.init(simulator.params), KEYS)
    size = len(wire.pack(payload))
    assert size < 4 * tree.count(simulator.params) or model.quantized is None
    for record in base(form)[1]:
        assert record["bytes_up"] == record["bytes_down"] == COHORT * size


def test_going_on_is_going_on(form):
    """Two rounds and two more, bit for bit."""
    half, first = run(simulator_of(form), 2)
    half = jax.tree.map(np.array, half)
    found, rest = run(simulator_of(form), ROUNDS - 2, half)
    jax.tree.map(np.testing.assert_array_equal, found, base(form)[0])
    assert first + rest == base(form)[1]


def test_every_entry_has_an_example():
    assert set(registry.entries("qat")) == set(EXAMPLES)
