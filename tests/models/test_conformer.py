"""The conformer: its parts against plain numpy, its counts, its padding, its words."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sounds import SOUNDS, heard, scored, sounds

from fedjax_compress import registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.models.speech import conformer, word_errors
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.typing import Task

SMALL = (
    "conformer_transducer(width=8, blocks=1, heads=2, kernel=3, joint=6, embedding=5, "
    "hidden=4, stack=2, groups=2"
)
MODELS = [
    f"{SMALL})",
    f"{SMALL}, norm=layer, joint_block=2)",
    f"{SMALL}, prediction=embedding, subsampling=convolution)",
    "conformer_ctc(width=8, blocks=1, heads=2, kernel=4, stack=2, groups=2)",
]


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


def losses(model, params, columns):
    loss = jax.jit(lambda p, c: model.losses(model.apply(p, c, None), c)[0])
    return np.asarray(loss(params, columns))


def said(model, params, columns):
    """Symbols that are decoded of each row, and how many they are."""
    decode = getattr(model.metrics["wer"].count, word_errors._DECODE)
    say = jax.jit(lambda p: decode(p, columns, model.apply(p, columns, None)))
    return jax.device_get(say(params))


# Counts ---------------------------------------------------------------------------


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


# Parts ----------------------------------------------------------------------------


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


# The whole ------------------------------------------------------------------------


@pytest.mark.parametrize("text", MODELS)
def test_padding_changes_nothing(draw, text):
    """Neither more of it, nor what stands in it; of frames and of labels."""
    model, columns = build(text), heard()
    params = draw(model)
    wider = build(text, sounds(frames=17, longest=5))
    behind = np.arange(17)[None] >= columns["lengths"][:, None]
    features = np.pad(columns["features"], ((0, 0), (0, 5), (0, 0)))
    features[behind] = np.nan
    labels = np.pad(columns["labels"], ((0, 0), (0, 2)))
    labels[np.arange(5)[None] >= columns["label_lengths"][:, None]] = 2
    padded = {**columns, "features": features, "labels": labels}

    def both(net, given):
        def total(p):
            value, _ = net.losses(net.apply(p, given, None), given)
            return value.sum(), value

        return jax.jit(jax.grad(total, has_aux=True))(params)

    (grads, value), (other, wanted) = both(wider, padded), both(model, columns)
    np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        grads,
        other,
    )


@pytest.mark.parametrize("text", MODELS[::3])
def test_rows_that_lack_lengths_are_full(draw, text):
    model, columns = build(text), heard()
    params = draw(model)
    columns["lengths"][:] = SOUNDS.shape[0]
    wanted = losses(model, params, columns)
    del columns["lengths"]
    np.testing.assert_allclose(losses(model, params, columns), wanted, rtol=1e-6)


def test_a_row_of_one_frame_and_one_without_words(draw):
    model, columns = build(MODELS[0]), heard()
    columns["lengths"][:] = [1, 12, 1]
    columns["label_lengths"][:] = [2, 0, 0]
    found = losses(model, draw(model), columns)
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_the_joint_in_blocks_gives_the_same(draw):
    columns = heard()
    whole, blocks = build(f"{SMALL})"), build(f"{SMALL}, joint_block=4)")
    params = draw(whole)
    one, other = (
        jax.jit(lambda p, m=m: scored(m.apply(p, columns, None)))(params)
        for m in (whole, blocks)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other
    )


def test_the_loss_is_the_sum_over_all_ways(draw):
    """Of a row of three frames and two words, by enumeration in float64."""
    task = sounds(frames=3, longest=2)
    model = build(SMALL.replace("stack=2", "stack=1") + ")", task)
    columns = heard(task, rows=1)
    params = draw(model)
    outputs = jax.jit(lambda p: model.apply(p, columns, None))(params)
    blank = np.asarray(outputs.blank, np.float64)[0]
    label = np.asarray(outputs.label, np.float64)[0]
    total = 0.0
    for says in itertools.combinations_with_replacement(range(3), 2):
        t, u, chance = 0, 0, 0.0
        while t < 3:
            if u < 2 and says[u] == t:
                chance, u = chance + label[t, u], u + 1
            else:
                chance, t = chance + blank[t, u], t + 1
        total += np.exp(chance)
    np.testing.assert_allclose(losses(model, params, columns), [-np.log(total)], 1e-5)


@pytest.mark.parametrize("text", [MODELS[0], MODELS[2]])
def test_what_is_decoded_is_the_likeliest_at_each_node(draw, text):
    """The network that reads the decoded words as labels scores the next of them above
    the blank where decoding chose it, and the blank above a fair share where that."""
    longest = 3 * (3 if "subsampling=convolution" in text else 6)
    task = sounds(frames=12, longest=longest)
    model, columns = build(text, task), heard(task)
    params = draw(model, seed=2)
    words, number = said(model, params, columns)
    assert number.max() > 2  # or it would show nothing
    given = {**columns, "labels": words, "label_lengths": number}
    outputs = jax.jit(lambda p: model.apply(p, given, None))(params)
    outputs = jax.device_get(outputs)
    for row in range(3):
        t = u = here = 0
        while t < outputs.lengths[row]:
            blank = float(outputs.blank[row, t, u])
            label = float(outputs.label[row, t, u]) if u < number[row] else -np.inf
            if label > blank and here < 3:
                u, here = u + 1, here + 1
            else:
                assert here == 3 or blank > np.log(1 / task.classes)
                t, here = t + 1, 0
        assert u == number[row]


def test_a_transducer_learns_what_is_said():
    """Five utterances by heart: none of their words is wrong in the end."""
    model, columns = build(f"{SMALL})"), heard(rows=5)
    columns["label_lengths"][:] = [3, 2, 1, 0, 2]
    columns["lengths"][:] = [12, 8, 4, 2, 9]
    columns["labels"][:] = [[1, 2, 3], [3, 3, 0], [2, 0, 0], [0, 0, 0], [2, 1, 0]]
    moves = optax.adam(0.02)

    @jax.jit
    def steps(params):
        def loss(p):
            return model.losses(model.apply(p, columns, None), columns)[0].mean()

        def step(_, carry):
            params, state = carry
            updates, state = moves.update(jax.grad(loss)(params), state)
            return optax.apply_updates(params, updates), state

        with as_written():
            params, _ = jax.lax.fori_loop(0, 200, step, (params, moves.init(params)))
        count = model.metrics["wer"].count
        return loss(params), count(params, columns, model.apply(params, columns, None))

    loss, (errors, words) = steps(model.init(jax.random.key(0)))
    assert loss < 0.1
    np.testing.assert_array_equal(errors, np.zeros(5))
    np.testing.assert_array_equal(words, columns["label_lengths"])


def test_a_beam_finds_what_is_likelier_than_what_greed_finds(draw):
    """Of rows on which the two differ, by the loss of what each says."""
    task = sounds(frames=12, longest=12)
    text = SMALL.replace("hidden=4", "hidden=4, most_per_frame=2")
    greedy, wide = (build(f"{text}{beam})", task) for beam in ("", ", beam=8"))
    columns, params = heard(task, rows=12), draw(greedy, seed=2)

    def cost(net):
        found, number = said(net, params, columns)
        given = {**columns, "labels": found, "label_lengths": number}
        return losses(greedy, params, given), found

    (one, words), (other, better) = cost(greedy), cost(wide)
    differ = (words != better).any(axis=1)
    assert differ.sum() >= 3
    assert other[differ].mean() < one[differ].mean()


@pytest.mark.parametrize("text", MODELS)
def test_frames_that_are_masked_have_gradients_like_others(text):
    """As SpecAugment leaves them, before the first step; they were 1e14 times as large
    where a frame of zeros came out of the subsampling as zeros."""
    model, columns = build(text), heard()
    columns["lengths"][:] = 12
    masked = {**columns, "features": columns["features"].copy()}
    masked["features"][:, :8] = 0
    params = model.init(jax.random.key(0))

    @jax.jit
    def size(given):
        def loss(p):
            return model.losses(model.apply(p, given, None), given)[0].mean()

        return jnp.sqrt(tree.squared_norm(jax.grad(loss)(params)))

    assert size(masked) < 30 * size(columns)


def test_dropout_is_on_with_a_key_only(draw):
    model, columns = build(f"{SMALL}, dropout=0.5)"), heard()
    params = draw(model)
    apply = jax.jit(lambda key: scored(model.apply(params, columns, key)))
    one, same, other = (apply(jax.random.key(i)) for i in (0, 0, 1))
    assert np.array_equal(one[0], same[0])
    assert not np.array_equal(one[0], other[0])
    still = scored(model.apply(params, columns, None))
    plain = scored(build(f"{SMALL})").apply(params, columns, None))
    assert np.array_equal(still[0], plain[0])


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        (f"{SMALL[:-10]}, groups=3)", SOUNDS, "groups must divide width 8, not 3"),
        ("conformer_transducer(heads=7)", SOUNDS, "heads must divide width 64, not 7"),
        ("conformer_transducer(blocks=0)", SOUNDS, "blocks must be at least 1, not 0"),
        ("conformer_transducer(dropout=1.0)", SOUNDS, "from 0 to below 1, not 1"),
        ("conformer_transducer(joint_block=-1)", SOUNDS, "at least 1, not -1"),
        ("conformer_transducer", Task((8, 8), 4), "of kind class: see target=sequence"),
        ("conformer_ctc", SOUNDS._replace(shape=(5,)), r"\(frames, bins\)"),
        ("conformer_ctc", SOUNDS._replace(more=()), "needs a column label_lengths"),
        ("conformer_ctc", SOUNDS._replace(classes=1), "beside the blank"),
        ("conformer_ctc(stack=6)", SOUNDS, "2 frames .* cannot say 3 symbols"),
        (
            "conformer_transducer(stack=12, most_per_frame=2)",
            SOUNDS,
            "1 frames .* at most 2 symbols each, cannot say 3",
        ),
    ],
)
def test_refusals_are_one_line(text, task, said):
    with pytest.raises(InputError, match=said) as caught:
        build(text, task)
    assert "\n" not in caught.value.reason
