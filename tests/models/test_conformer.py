"""Conformers as wholes: what changes nothing, what they learn, what is said."""

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
from fedjax_compress.models.speech import word_errors
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


def losses(model, params, columns):
    loss = jax.jit(lambda p, c: model.losses(model.apply(p, c, None), c)[0])
    return np.asarray(loss(params, columns))


def said(model, params, columns):
    """Symbols that are decoded of each row, and how many they are."""
    decode = getattr(model.metrics["wer"].count, word_errors._DECODE)
    say = jax.jit(lambda p: decode(p, columns, model.apply(p, columns, None)))
    return jax.device_get(say(params))


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


@pytest.mark.parametrize(("text", "seed"), [(MODELS[0], 2), (MODELS[2], 16)])
def test_what_is_decoded_is_the_likeliest_at_each_node(draw, text, seed):
    """The network that reads the decoded words as labels scores the next of them above
    the blank where decoding chose it, and the blank above a fair share where that."""
    longest = 3 * (3 if "subsampling=convolution" in text else 6)
    task = sounds(frames=12, longest=longest)
    model, columns = build(text, task), heard(task)
    params = draw(model, seed=seed)
    for part in ("prediction", "joint_prediction"):  # so that what was said matters
        params[part] = jax.tree.map(lambda x: 8 * x, params[part])
    words, number = said(model, params, columns)
    assert number.max() > 2  # or it would show nothing
    assert len(np.unique(words)) > 2
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
