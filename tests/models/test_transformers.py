"""Transformers against plain numpy, and what padding and the future may not change."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import rows

from fedjax_compress import registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.models.transformer import Attention, positions
from fedjax_compress.typing import Task

TEXT = Task((6,), 11, tokens=True)
KINDS = Task((6,), 3, tokens=True, target="class")
TAGS = KINDS._replace(target="several")
LM = "transformer_lm(width=8, heads=2, feed_forward=3)"
CLASSIFIER = "text_classifier(symbols=11, width=8, heads=2, layers=2, feed_forward=3)"
BAG = "text_classifier(symbols=11, width=5, layers=0)"


def build(text, task):
    return registry.build("model", text, task)


def symbols(batch=3, time=6, low=1):
    return np.random.default_rng(1).integers(low, 11, (batch, time)).astype(np.int32)


def attention(x, p, heads, seen):
    """Head by head and position by position, from softmax(q k' / sqrt(d)) v."""
    q, k, v = (
        x @ p[name]["kernel"].astype(np.float64) for name in ("query", "key", "value")
    )
    made = np.zeros_like(q)
    size = q.shape[-1] // heads
    for b, t, h in np.ndindex(*x.shape[:2], heads):
        part = slice(h * size, (h + 1) * size)
        who = np.flatnonzero(seen[b, t])
        scores = np.exp(k[b, who, part] @ q[b, t, part] / np.sqrt(size))
        made[b, t, part] = scores / scores.sum() @ v[b, who, part]
    return made @ p["out"]["kernel"]


def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def waves(time, width):
    made = np.zeros((time, width))
    for t, i in np.ndindex(time, width):
        angle = t / 10_000 ** ((i // 2 * 2) / width)
        made[t, i] = np.cos(angle) if i % 2 else np.sin(angle)
    return made


def transformer(x, p, heads, seen):
    """Of tokens, in float64."""
    table = p["embedding"]["embedding"].astype(np.float64)
    width = table.shape[1]
    x = table[x] * np.sqrt(width) + waves(x.shape[1], width)
    for name in sorted(n for n in p if n.startswith("block")):
        b = p[name]
        x = x + attention(norm(x, b["norm_1"]), b["attention"], heads, seen)
        hidden = gelu(dense(norm(x, b["norm_2"]), b["dense_1"]))
        x = x + dense(hidden, b["dense_2"])
    return norm(x, p["norm"])


@pytest.mark.parametrize(("heads", "head"), [(1, 4), (3, 2)])
def test_attention_is_the_formula(heads, head):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 7))
    seen = rng.random((2, 5, 5)) < 0.5
    seen |= np.eye(5, dtype=bool)[None]
    module = Attention(heads, head)
    p = jax.tree.map(
        lambda s: rng.normal(size=s.shape).astype(np.float32),
        jax.eval_shape(module.init, jax.random.key(0), x.astype(np.float32), seen),
    )["params"]
    got = module.apply({"params": p}, jnp.asarray(x, jnp.float32), jnp.asarray(seen))
    np.testing.assert_allclose(got, attention(x, p, heads, seen), rtol=1e-4, atol=1e-4)


def test_positions_are_sines_and_cosines():
    for width in (8, 7, 1):
        made = positions(50, width)
        np.testing.assert_allclose(made, waves(50, width), rtol=1e-6, atol=1e-6)
        assert made.dtype == np.float32


@pytest.mark.parametrize("heads", [1, 2])
def test_the_language_model_is_the_one_described(draw, heads):
    model = build(f"transformer_lm(width=8, heads={heads}, feed_forward=3)", TEXT)
    p, x = draw(model), symbols()
    seen = np.broadcast_to(np.tri(6, dtype=bool), (3, 6, 6))
    wanted = dense(transformer(x, p, heads, seen), p["output"])
    np.testing.assert_allclose(
        model.apply(p, rows(x), None), wanted, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("task", [KINDS, TAGS])
def test_the_classifier_is_the_one_described(draw, task):
    model = build(CLASSIFIER, task)
    p, x = draw(model), symbols()
    lengths = np.array([6, 2, 4])
    real = np.arange(6) < lengths[:, None]
    x[~real] = 0
    x[2, 1] = 0  # padding may stand anywhere
    real[2, 1] = False
    made = transformer(x, p, 2, np.broadcast_to(real[:, None], (3, 6, 6)))
    mean = (made * real[..., None]).sum(1) / real.sum(1)[:, None]
    got = model.apply(p, rows(x), None)
    np.testing.assert_allclose(got, dense(mean, p["output"]), rtol=1e-3, atol=1e-4)


def test_without_blocks_it_is_a_bag_of_embeddings(draw):
    model = build(BAG, KINDS)
    p, x = draw(model), symbols()
    x[0, 4:] = 0
    assert set(p) == {"embedding", "output"}
    table = p["embedding"]["embedding"]
    mean = np.stack([table[row[row != 0]].mean(0) for row in x])
    got = np.asarray(model.apply(p, rows(x), None))
    np.testing.assert_allclose(got, dense(mean, p["output"]), rtol=1e-4, atol=1e-5)
    turned = model.apply(p, rows(x[:, ::-1]), None)
    np.testing.assert_allclose(got, turned, rtol=1e-5, atol=1e-6)


def test_the_future_changes_nothing(draw):
    model = build(LM, TEXT)
    p, x = draw(model), symbols()
    apply = jax.jit(lambda x: model.apply(p, rows(x), None))
    outputs = np.asarray(apply(x))
    for t in range(1, 6):
        other = x.copy()
        other[:, t:] = (x[:, t:] + 3) % 11
        changed = np.asarray(apply(other))
        assert np.array_equal(outputs[:, :t], changed[:, :t])
        assert (np.abs(outputs[:, t] - changed[:, t]) > 1e-3).any(-1).all()


@pytest.mark.parametrize("text", [CLASSIFIER, BAG])
def test_padding_changes_nothing(draw, text):
    """Its symbols where there are lengths, its number, and a row without a token."""
    model = build(text, KINDS)
    p, x = draw(model), symbols()
    lengths = np.array([6, 3, 0], np.int32)
    known = rows(x) | {"lengths": lengths}
    outputs = np.asarray(model.apply(p, known, None))
    other = np.where(np.arange(6)[None] < lengths[:, None], x, 7)
    assert np.array_equal(outputs, model.apply(p, known | rows(other), None))
    padded = np.where(np.arange(6)[None] < lengths[:, None], x, 0)
    assert np.array_equal(outputs, model.apply(p, rows(padded), None))
    longer = build(text, KINDS._replace(shape=(9,)))
    wide = np.pad(padded, ((0, 0), (0, 3)))
    np.testing.assert_allclose(
        longer.apply(p, rows(wide), None), outputs, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(outputs[2], p["output"]["bias"], rtol=1e-6)

    def loss(p):
        seen = rows(padded, np.array([0, 1, 2]))
        return model.losses(model.apply(p, seen, None), seen)[0].mean()

    grads = jax.jit(jax.grad(loss))(p)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert not grads["embedding"]["embedding"][0].any()


def test_lengths_tell_more_than_symbols(draw):
    """The symbol of padding counts where it stands before a row's length."""
    model = build(BAG, KINDS)
    p = draw(model)
    x = np.array([[4, 0, 0, 0, 0, 0]], np.int32)
    table, two = p["embedding"]["embedding"], {"lengths": np.array([2], np.int32)}
    for seen, mean in (
        (rows(x), table[4]),
        (rows(x) | two, (table[4] + table[0]) / 2),
    ):
        wanted = dense(mean[None], p["output"])
        np.testing.assert_allclose(
            model.apply(p, seen, None), wanted, rtol=1e-4, atol=1e-6
        )
    everything = build(BAG.replace("layers", "pad=-1, layers"), KINDS)
    mean = (table[4] + 5 * table[0]) / 6
    np.testing.assert_allclose(
        everything.apply(p, rows(x), None),
        dense(mean[None], p["output"]),
        rtol=1e-4,
        atol=1e-6,
    )


def test_tokens_beyond_the_vocabulary_are_the_unknown(draw):
    model = build(CLASSIFIER, KINDS)
    p, x = draw(model), symbols()
    x[:, 2] = 10
    outputs = model.apply(p, rows(x), None)
    for beyond in (11, 2**31 - 1):
        x[:, 2] = beyond
        assert np.array_equal(outputs, model.apply(p, rows(x), None))


@pytest.mark.parametrize(
    ("text", "task"), [(LM, TEXT), (CLASSIFIER, KINDS), (BAG, KINDS)]
)
def test_dropout_is_on_with_a_key_only(draw, text, task):
    dropping = build(text.replace("(", "(dropout=0.3, "), task)
    plain = build(text, task)
    p, x = draw(plain), symbols()
    still = np.asarray(plain.apply(p, rows(x), None))
    assert np.array_equal(still, plain.apply(p, rows(x), jax.random.key(0)))
    assert np.array_equal(still, dropping.apply(p, rows(x), None))
    a, b, c = (
        np.asarray(dropping.apply(p, rows(x), jax.random.key(seed)))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(a, b)
    assert (a != c).any()
    assert (a != still).any()


def dense_count(inputs, outputs):
    return inputs * outputs + outputs


@pytest.mark.parametrize(
    ("text", "task", "ends", "sizes"),
    [
        ("transformer_lm", Task((80,), 90, True), (90, 90), (2, 128, 512)),
        ("transformer_lm(width=6, heads=3, layers=1)", TEXT, (11, 11), (1, 6, 24)),
        (CLASSIFIER, KINDS, (11, 3), (2, 8, 24)),
        ("text_classifier(symbols=5000)", TAGS, (5000, 3), (1, 64, 256)),
    ],
)
def test_number_of_parameters_by_hand(text, task, ends, sizes):
    layers, width, hidden = sizes
    attention = 4 * width * width
    forward = dense_count(width, hidden) + dense_count(hidden, width)
    blocks = layers * (2 * width + attention + 2 * width + forward)
    wanted = ends[0] * width + blocks + 2 * width + dense_count(width, ends[1])
    shapes = jax.eval_shape(build(text, task).init, jax.random.key(0))
    assert tree.count(shapes) == wanted
    if text == "transformer_lm":
        assert wanted == 418_906
    f, d, (v, c) = hidden // width, width, ends
    said = v * d + layers * ((4 + 2 * f) * d**2 + (5 + f) * d) + 2 * d + d * c + c
    assert said == wanted


def test_first_values():
    """90,000 draws or more: their deviation errs by 0.24 %; 3 % is 12 of those."""
    model = build("transformer_lm(width=300, heads=3, layers=1)", Task((2,), 600, True))
    p = jax.jit(model.init)(jax.random.key(0))
    for kernel in (
        p["embedding"]["embedding"],
        p["block_1"]["attention"]["query"]["kernel"],
        p["block_1"]["dense_1"]["kernel"],
    ):
        assert np.std(kernel) == pytest.approx(300**-0.5, rel=0.03)
    assert not np.any(p["output"]["bias"])
    assert np.all(p["block_1"]["norm_2"]["scale"] == 1)


@pytest.mark.parametrize(
    ("text", "task"), [(LM, TEXT), (CLASSIFIER, KINDS), (BAG, KINDS), (BAG, TAGS)]
)
def test_a_few_rows_are_learned_by_heart(text, task):
    model = build(text, task)
    x = symbols(batch=6, time=7)
    labels = {
        "positions": x[:, 1:],
        "class": np.arange(6) % 3,
        "several": np.random.default_rng(2).integers(0, 2, (6, 3)),
    }[task.predicts]
    seen = rows(x[:, :-1], labels.astype(np.int32))
    if task.predicts == "positions":  # else the first symbol leaves no single answer
        seen["features"][:, 0] = np.arange(6)

    def loss(p):
        value, weight = model.losses(model.apply(p, seen, None), seen)
        return (value * weight).sum() / weight.sum()

    @jax.jit
    def learn(p):
        def step(_, carry):  # Adam, whose steps need no tuning
            p, m, v, t = carry
            g = jax.grad(loss)(p)
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, v, g)
            a, b = 1 - 0.9**t, 1 - 0.99**t
            p = jax.tree.map(
                lambda p, m, v: p - 0.02 * (m / a) / (jnp.sqrt(v / b) + 1e-8), p, m, v
            )
            return p, m, v, t + 1

        zeros = jax.tree.map(jnp.zeros_like, p)
        return jax.lax.fori_loop(0, 200, step, (p, zeros, zeros, jnp.float32(1)))[0]

    p = learn(model.init(jax.random.key(0)))
    assert float(loss(p)) < 0.1
    best = np.asarray(model.apply(p, seen, None))
    found = (best > 0) if task.predicts == "several" else best.argmax(-1)
    assert np.array_equal(found, seen["labels"])


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("transformer_lm(width=10)", TEXT, "a multiple of heads 4, not 10"),
        ("transformer_lm(heads=0)", TEXT, "heads must be at least 1, not 0"),
        ("transformer_lm(layers=0)", TEXT, "layers must be at least 1, not 0"),
        ("transformer_lm(feed_forward=0)", TEXT, "feed_forward must be at least 1"),
        ("transformer_lm(dropout=1.0)", TEXT, r"dropout must be in \[0, 1\), not 1"),
        ("transformer_lm(pad=11)", TEXT, r"pad must be in -1 \.\. 10, not 11"),
        ("transformer_lm", KINDS, "target is class; try text_classifier"),
        ("transformer_lm", Task((8, 8), 3), "reads tokens, not numbers"),
        ("text_classifier", KINDS, "symbols"),
        ("text_classifier(symbols=1)", KINDS, "symbols must be at least 2, not 1"),
        ("text_classifier(symbols=9)", TEXT, "target is positions; say target=class"),
        ("text_classifier(symbols=9)", Task((8, 8), 3), "reads tokens, not numbers"),
        (
            "text_classifier(symbols=9)",
            Task((6,), 1, True, target="number"),
            "the target is number",
        ),
        ("text_classifier(symbols=9, pad=9)", KINDS, r"pad must be in -1 \.\. 8"),
        ("text_classifier(symbols=9, layers=-1)", KINDS, "must not be negative"),
        ("text_classifier(symbols=9, width=6)", KINDS, "multiple of heads 4, not 6"),
        ("text_classifier(symbols=9, width=0)", KINDS, "width must be at least 1"),
    ],
)
def test_refusals_are_one_line(text, task, said):
    with pytest.raises(InputError, match=said) as caught:
        build(text, task)
    assert "\n" not in caught.value.reason
