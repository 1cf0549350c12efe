"""What holds for all models: inputs, many clients at once, and refusals."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from sounds import SOUNDS, heard
from systems import rows

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

IMAGES = Task((8, 8), 4)
TEXT = Task((5,), 7, tokens=True)
KINDS = TEXT._replace(target="class")
SMALL = [
    ("logistic", IMAGES),
    ("mlp(hidden=(6, 5))", IMAGES),
    ("cnn(widths=(2, 3), dense=5)", IMAGES),
    ("emnist_cnn(dropout=false)", IMAGES),
    ("resnet12(maps=4, conv=direct)", Task((16, 16), 4)),
    ("resnet18(width=2, conv=direct)", IMAGES),
    ("resnet8(width=2, blocks=1, conv=direct)", IMAGES),
    ("resnet20(width=2, blocks=1, conv=direct)", IMAGES),
    ("resnet55(width=2, blocks=1, conv=direct)", IMAGES),
    ("resnet56(width=2, blocks=1, conv=direct)", IMAGES),
    ("resnet109(width=2, blocks=1, conv=direct)", IMAGES),
    ("resnet110(width=2, blocks=1, conv=direct)", IMAGES),
    ("lenet(width=3, conv=direct)", Task((12, 12), 4)),
    ("vgg11(width=1, conv=direct)", Task((32, 32), 4)),
    ("partial('mlp(hidden=(6, 5))', train=output)", IMAGES),
    ("lora('mlp(hidden=(6, 5))', rank=2, train=bias)", IMAGES),
    ("char_lstm(embedding=2, hidden=3)", TEXT),
    ("char_lstm(embedding=2, hidden=3, layers=1, layer_norm=true)", TEXT),
    ("transformer_lm(width=4, layers=1, heads=2)", TEXT),
    ("text_classifier(symbols=7, width=4, heads=2)", KINDS),
    (
        "conformer_transducer(width=4, blocks=1, heads=2, kernel=3, joint=3, "
        "embedding=3, hidden=3, stack=2, groups=2)",
        SOUNDS,
    ),
    ("conformer_ctc(width=4, blocks=1, heads=2, kernel=3, groups=2)", SOUNDS),
]
NUMBERS = [each for each in SMALL if each[1].predicts == "class" and not each[1].tokens]


def examples(task, batch=3):
    high = task.classes if task.tokens else 256
    rng = np.random.default_rng(0)
    return rng.integers(0, high, (batch, *task.shape), dtype=np.uint8)


def labelled(x, task):
    return x.shape if task.predicts == "positions" else len(x)


def given(task):
    """Columns of a few rows."""
    if task.predicts == "sequence":
        return heard(task)
    x = examples(task)
    return rows(x, np.ones(labelled(x, task), np.int32))


def test_all_registered_models_are_here():
    assert {text.split("(")[0] for text, _ in SMALL} == set(registry.entries("model"))


TOGETHER = [
    pytest.param(*each, marks=pytest.mark.slow)
    if each[0].startswith("resnet")
    else each
    for each in SMALL
]
"""Residual networks compile for long, and are of the layers of the others."""


@pytest.mark.parametrize(("text", "task"), TOGETHER)
def test_clients_together_equal_clients_one_by_one(draw, text, task):
    model = registry.build("model", text, task)
    clients = [draw(model, seed) for seed in range(3)]
    seen = given(task)

    def run(params):
        return jax.value_and_grad(
            lambda p: model.losses(model.apply(p, seen, None), seen)[0].mean()
        )(params)

    stacked = jax.tree.map(lambda *a: np.stack(a), *clients)
    together = jax.jit(jax.vmap(run))(stacked)
    one = jax.jit(run)
    for i, params in enumerate(clients):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-4),
            together,
            one(params),
        )


@pytest.mark.parametrize(("text", "task"), NUMBERS)
def test_pixels_are_scaled_and_a_channel_axis_is_free(draw, text, task):
    model = registry.build("model", text, task)
    params, x = draw(model), examples(task)
    outputs = np.asarray(model.apply(params, rows(x), None))
    scaled = (x / np.float32(255)).astype(np.float32)
    assert np.array_equal(outputs, model.apply(params, rows(scaled), None))
    with_channel = registry.build("model", text, task._replace(shape=(*task.shape, 1)))
    found = with_channel.apply(params, rows(x[..., None]), None)
    assert np.array_equal(outputs, found)


def test_logistic_and_mlp_by_hand(draw):
    x = examples(IMAGES)
    flat = x.reshape(3, 64) / 255
    model = registry.build("model", "logistic", IMAGES)
    p = draw(model)["output"]
    outputs = model.apply({"output": p}, rows(x), None)
    np.testing.assert_allclose(outputs, flat @ p["kernel"] + p["bias"], rtol=1e-4)
    model = registry.build("model", "mlp(hidden=(6,))", IMAGES)
    p = draw(model)
    hidden = np.maximum(flat @ p["dense_1"]["kernel"] + p["dense_1"]["bias"], 0)
    wanted = hidden @ p["output"]["kernel"] + p["output"]["bias"]
    outputs = model.apply(p, rows(x), None)
    np.testing.assert_allclose(outputs, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("mpl", IMAGES, "did you mean 'mlp'"),
        ("mlp(widths=(3,))", IMAGES, "mlp has no option 'widths'"),
        ("mlp(hidden=(6, 0))", IMAGES, "must be at least 1, not 0"),
        ("mlp", TEXT, "not tokens; try char_lstm"),
        ("logistic", Task((), 0), "number of classes must be at least 1, not 0"),
        ("cnn", TEXT, "not tokens; try char_lstm"),
        ("cnn", Task((64,), 4), "height, width"),
        ("cnn", Task((3, 9), 4), "at least 4 x 4, not 3 x 9"),
        ("cnn(widths=(2, 2, 2))", Task((7, 7), 4), "at least 8 x 8, not 7 x 7"),
        ("cnn(dense=0)", IMAGES, "dense must be at least 1, not 0"),
        ("cnn(conv=patch)", IMAGES, "did you mean 'patches'"),
        ("emnist_cnn", Task((4, 4), 62), "at least 6 x 6, not 4 x 4"),
        ("char_lstm", IMAGES, "reads tokens, not numbers; try mlp or cnn"),
        ("char_lstm", Task((2, 3), 5, tokens=True), r"needs sequences \(time,\)"),
        ("char_lstm(layers=0)", TEXT, "layers must be at least 1, not 0"),
        ("char_lstm(pad=7)", TEXT, r"pad must be in -1 \.\. 6, not 7"),
    ],
)
def test_refusals_are_one_line(text, task, said):
    with pytest.raises(InputError, match=said) as caught:
        registry.build("model", text, task)
    assert "\n" not in caught.value.reason
