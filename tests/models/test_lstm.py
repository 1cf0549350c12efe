"""The LSTM and the character model against plain numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import rows

from fedjax_compress import registry
from fedjax_compress.models.lstm import LSTM, LayerNormLSTM, recur, step
from fedjax_compress.typing import Task


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, layer):
    """One step and one gate at a time, in float64: [batch, time, inputs] -> h."""
    kernel = np.split(layer["kernel"].astype(np.float64), 4, axis=1)
    recurrent = np.split(layer["recurrent"].astype(np.float64), 4, axis=1)
    bias = np.split(layer["bias"].astype(np.float64), 4)
    h = c = np.zeros((x.shape[0], recurrent[0].shape[0]))
    hidden = []
    for t in range(x.shape[1]):
        z = [x[:, t] @ kernel[k] + h @ recurrent[k] + bias[k] for k in range(4)]
        c = sigmoid(z[1]) * c + sigmoid(z[0]) * np.tanh(z[2])
        h = sigmoid(z[3]) * np.tanh(c)
        hidden.append(h)
    return np.stack(hidden, axis=1)


def norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def layer_norm_lstm(x, layer):
    """The same with normalisation: the four gates of a product together."""
    p = {name: value.astype(np.float64) for name, value in layer.items()}
    h = c = np.zeros((x.shape[0], p["recurrent"].shape[0]))
    hidden = []
    for t in range(x.shape[1]):
        z = p["kernel_scale"] * norm(x[:, t] @ p["kernel"]) + p["bias"]
        z = z + p["recurrent_scale"] * norm(h @ p["recurrent"])
        i, f, g, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(p["cell_scale"] * norm(c) + p["cell_bias"])
        hidden.append(h)
    return np.stack(hidden, axis=1)


def test_with_layer_norm_it_is_the_one_described(draw):
    task = Task((7,), 11, tokens=True)
    text = "char_lstm(embedding=3, hidden=5, layers=2, layer_norm=true)"
    model = registry.build("model", text, task)
    assert model.cuts is None
    p = draw(model)
    symbols = np.random.default_rng(1).integers(0, 11, (4, 7)).astype(np.uint8)
    x = p["embedding"]["embedding"][symbols]
    x = layer_norm_lstm(layer_norm_lstm(x, p["lstm_1"]), p["lstm_2"])
    wanted = x @ p["output"]["kernel"] + p["output"]["bias"]
    got = model.apply(p, rows(symbols), None)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["kernel", "recurrent"])
def test_layer_norm_makes_the_scale_of_a_kernel_irrelevant(name):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 6, 4)).astype(np.float32)
    layer = LayerNormLSTM(5)
    p = jax.tree.map(
        lambda s: (3 * rng.normal(size=s.shape)).astype(np.float32),
        jax.eval_shape(layer.init, jax.random.key(0), x),
    )["params"]
    plain = layer.apply({"params": p}, x)
    larger = layer.apply({"params": p | {name: 1000 * p[name]}}, x)
    np.testing.assert_allclose(larger, plain, rtol=1e-3, atol=1e-3)
    other = layer.apply({"params": p | {name: -p[name]}}, x)
    assert np.abs(other - plain).max() > 0.1


def test_first_values_with_layer_norm():
    """Those of the plain layer, scales one, biases zero."""
    x = jnp.zeros((1, 2, 3))
    plain, normed = (
        layer.init(jax.random.key(0), x)["params"]
        for layer in (LSTM(4), LayerNormLSTM(4))
    )
    for name, value in normed.items():
        if name in plain:
            assert value.shape == plain[name].shape
    assert np.array_equal(normed["bias"], plain["bias"])
    assert normed["kernel_scale"].tolist() == [1] * 16
    assert normed["recurrent_scale"].tolist() == [1] * 16
    assert normed["cell_scale"].tolist() == [1] * 4
    assert normed["cell_bias"].tolist() == [0] * 4
    for gate in np.split(np.asarray(normed["recurrent"]), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(4), atol=1e-5)


def test_char_lstm_is_the_one_described(draw):
    task = Task((7,), 11, tokens=True)
    text = "char_lstm(embedding=3, hidden=5, layers=2)"
    model = registry.build("model", text, task)
    p = draw(model)
    symbols = np.random.default_rng(1).integers(0, 11, (4, 7)).astype(np.uint8)
    x = p["embedding"]["embedding"][symbols]
    x = lstm(lstm(x, p["lstm_1"]), p["lstm_2"])
    wanted = x @ p["output"]["kernel"] + p["output"]["bias"]
    got = model.apply(p, rows(symbols), None)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_one_step_by_hand():
    # W = U = 0, so c_1 = sigmoid(b_i) tanh(b_g) and h_1 = sigmoid(b_o) tanh(c_1).
    bias = jnp.array([0.0, 5.0, np.arctanh(0.5), 0.0])
    params = {"kernel": jnp.zeros((2, 4)), "recurrent": jnp.zeros((1, 4)), "bias": bias}
    h = LSTM(1).apply({"params": params}, jnp.ones((1, 1, 2)))
    assert float(h[0, 0, 0]) == pytest.approx(0.5 * np.tanh(0.25), rel=1e-6)


def test_gradient_equals_automatic_differentiation():
    def plain(drive, recurrent):
        h = c = jnp.zeros(drive.shape[1:-1] + recurrent.shape[:1])
        hidden = []
        for z in drive:
            i, f, g, o = jnp.split(z + h @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            hidden.append(h)
        return jnp.stack(hidden)

    rng = np.random.default_rng(2)
    drive = rng.normal(size=(4, 3, 20)).astype(np.float32)
    recurrent = rng.normal(size=(5, 20)).astype(np.float32)
    weight = rng.normal(size=(4, 3, 5)).astype(np.float32)
    made, wanted = (
        jax.jit(jax.grad(lambda d, u, f=f: jnp.sum(weight * f(d, u)), (0, 1)))(
            drive, recurrent
        )
        for f in (recur, plain)
    )
    for a, b in zip(made, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_padding_is_scored_neither_in_loss_nor_in_accuracy(draw):
    task = Task((6,), 9, tokens=True)
    model = registry.build("model", "char_lstm(embedding=2, hidden=3, layers=1)", task)
    labels = np.array([[3, 1, 4, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    outputs = model.apply(draw(model), rows(labels), None)
    changed = outputs.at[0, 3:].add(100 * np.arange(9.0, dtype=np.float32)[None])

    def right(outputs, columns):
        return model.metrics["accuracy"].count({}, columns, outputs)

    for score in (model.losses, right):
        a = np.asarray(score(outputs, {"labels": labels}))
        assert np.array_equal(a, score(changed, {"labels": labels}))
        assert a[:, 1].tolist() == [0, 0]
        assert a[1].tolist() == [3, 0, 6]
        alone = score(outputs[:1, :3], {"labels": labels[:1, :3]})
        np.testing.assert_allclose(a[:, :1], alone)


def test_pad_can_be_another_symbol_or_none():
    task = Task((4,), 5, tokens=True)
    zeros = jnp.zeros((1, 4, 5)).at[0, :2, 3].set(50)
    labels = jnp.array([[3, 3, 0, 2]])
    right = {"char_lstm": 2 / 3, "char_lstm(pad=3)": 1 / 2, "char_lstm(pad=-1)": 3 / 4}
    for text, share in right.items():
        model = registry.build("model", text, task)
        metric = model.metrics["accuracy"]
        sums = jax.tree.map(jnp.sum, metric.count({}, {"labels": labels}, zeros))
        assert float(metric.finish(sums)) == pytest.approx(share)


def test_one_step_after_another_is_the_layer():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    params = jax.tree.map(
        lambda s: rng.normal(size=s.shape).astype(np.float32),
        jax.eval_shape(LSTM(4).init, jax.random.key(0), x)["params"],
    )
    wanted = np.asarray(LSTM(4).apply({"params": params}, x))
    h = c = np.zeros((2, 4), np.float32)
    for t in range(5):
        h, c = step(params, x[:, t], h, c)
        np.testing.assert_allclose(h, wanted[:, t], rtol=1e-5, atol=1e-6)
