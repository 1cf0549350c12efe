"""The conformer's parts: their counts by formula, and each against plain numpy."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sounds import SOUNDS, sounds

from fedjax_compress import registry, tree
from fedjax_compress.models.speech import conformer


def build(text, task=SOUNDS):
    return registry.build("model", text, task)


def shapes(text, task):
    return jax.eval_shape(build(text, task).init, jax.random.key(0))


def counts(text, task):
    """Parameters by module, those of all blocks together."""
    found = {}
    params = shapes(text, task)
    for path, leaf in zip(tree.paths(params), jax.tree.leaves(params), strict=True):
        parts = path.split("/")
        name = parts[1] if parts[0] == "encoder" else parts[0]
        name = "blocks" if name.startswith("block_") else name
        found[name] = found.get(name, 0) + leaf.size
    return found


def test_the_published_encoder_of_17_blocks():
    """107.5 M (Federated Dropout for speech); 120 M with the joint of 640 and 1,024
    symbols, as the sum by module gives for the large configuration of NeMo."""
    large = (
        "conformer_transducer(width=512, blocks=17, heads=8, kernel=32, joint=640, "
        "embedding=640, hidden=640, subsampling=convolution)"
    )
    found = counts(large, sounds(200, 80, 1024, 5))
    assert found == {
        "blocks": 107_511_808,
        "subsampling": 9 * 512 + 512 + 9 * 512**2 + 512 + 20 * 512**2 + 512,
        "prediction": 1024 * 640 + 4 * 640 * (2 * 640 + 1),
        "joint_encoder": 512 * 640 + 640,
        "joint_prediction": 640 * 640,
        "output": 640 * 1024 + 1024,
    }
    assert round(sum(found.values()) / 1e6, 1) == 120.4


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (
            "width=32, blocks=2, heads=2, kernel=7, joint=32, embedding=32, "
            "prediction=embedding",
            59_595,
        ),
        ("", 356_939),
        ("width=96, blocks=4, joint=96, embedding=96, hidden=96", 1_013_003),
    ],
)
def test_small_configurations(options, number):
    task = sounds(100, 40, 11, 5)
    assert sum(counts(f"conformer_transducer({options})", task).values()) == number


@pytest.mark.parametrize(("width", "kernel"), [(8, 3), (16, 32)])
def test_a_block_by_its_formula(width, kernel):
    text = f"conformer_ctc(width={width}, blocks=3, kernel={kernel}, heads=2)"
    found = counts(text, SOUNDS)
    assert found["blocks"] == 3 * (24 * width**2 + (kernel + 32) * width)


def test_each_module_of_a_block_by_its_formula():
    d, k = 16, 5
    params = shapes(f"conformer_ctc(width={d}, blocks=1, kernel={k})", SOUNDS)
    block = {
        name: tree.count(part) for name, part in params["encoder"]["block_1"].items()
    }
    assert block == {
        "feed_forward_1": 8 * d**2 + 7 * d,
        "attention": 5 * d**2 + 8 * d,
        "convolution": 3 * d**2 + (k + 8) * d,
        "feed_forward_2": 8 * d**2 + 7 * d,
        "norm": 2 * d,
    }


def test_relative_positions_are_those_of_query_and_key():
    frames = 5
    scores = np.random.default_rng(0).normal(size=(2, frames, 2 * frames - 1))
    found = np.asarray(conformer.shifted(scores.astype(np.float32)))
    for i, j in itertools.product(range(frames), repeat=2):
        wanted = scores[:, i, frames - 1 - (i - j)]
        np.testing.assert_allclose(found[:, i, j], wanted, rtol=1e-6)
    table = conformer.distances(frames, 4)
    np.testing.assert_allclose(table[frames - 1], [0, 0, 1, 1])  # of distance 0
    np.testing.assert_allclose(table[0][0], np.sin(frames - 1), rtol=1e-6)


def test_attention_by_hand(draw):
    """Scores ((q_i + u) k_j + (q_i + v) P r_{i-j}) / sqrt(head), in float64."""
    model = build(
        "conformer_ctc(width=6, blocks=1, heads=2, stack=1, norm=layer)", sounds(5, 6)
    )
    p = draw(model)["encoder"]["block_1"]["attention"]
    x = np.random.default_rng(1).normal(size=(1, 5, 6))
    real = np.array([[True, True, True, True, False]])
    module = conformer._Attention(6, 2, 3)
    found = module.apply(
        {"params": p}, jnp.asarray(x, jnp.float32), real, conformer.distances(5, 6)
    )
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), p)
    centred = x[0] - x[0].mean(1, keepdims=True)
    y = centred / np.sqrt(x[0].var(1, keepdims=True) + 1e-6)
    y = y * p["norm"]["scale"] + p["norm"]["bias"]
    q, k, v = (y @ p[n]["kernel"] + p[n]["bias"] for n in ("query", "key", "value"))
    made = np.zeros((5, 6))
    for h in (slice(0, 3), slice(3, 6)):
        for i in range(5):
            row = []
            for j in range(4):
                angles = (i - j) * 10000.0 ** (-np.arange(0, 6, 2) / 6)
                r = np.concatenate([np.sin(angles), np.cos(angles)])
                place = (r @ p["position"]["kernel"])[h]
                one = (q[i, h] + p["content_bias"][h]) @ k[j, h]
                row.append((one + (q[i, h] + p["position_bias"][h]) @ place) / 3**0.5)
            weights = np.exp(row - np.max(row))
            made[i, h] = (weights / weights.sum()) @ v[:4, h]
    wanted = made @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 2, 5])
def test_depthwise_is_a_correlation_of_each_channel(kernel):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 7, 3)), rng.normal(size=(kernel, 3))
    found = conformer.depthwise(x.astype(np.float32), w.astype(np.float32))
    before = (kernel - 1) // 2
    padded = np.pad(x, ((0, 0), (before, kernel - 1 - before), (0, 0)))
    wanted = np.stack(
        [
            [np.correlate(row[:, c], w[:, c], "valid") for c in range(3)]
            for row in padded
        ]
    ).swapaxes(1, 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_group_norm_takes_real_frames_only():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 4)).astype(np.float32)
    real = np.arange(6)[None] < np.array([6, 4])[:, None]
    norm = conformer.GroupNorm(2)
    params = norm.init(jax.random.key(0), x, real)
    found = np.asarray(norm.apply(params, x, real))
    for row, length in ((0, 6), (1, 4)):
        for channels in (slice(0, 2), slice(2, 4)):
            part = x[row, :length, channels].astype(np.float64)
            wanted = (part - part.mean()) / np.sqrt(part.var() + 1e-6)
            np.testing.assert_allclose(
                found[row, :length, channels], wanted, rtol=1e-4, atol=1e-5
            )
    nothing = norm.apply(params, x, np.zeros_like(real))
    assert np.isfinite(nothing).all()
