"""A cut model is the whole model with the other units' parameters zeroed.

For every registered model that can be cut and every registered selector.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sounds import SOUNDS, scored

from fedjax_compress import registry, submodel, tree
from fedjax_compress.typing import Task

IMAGES = Task((8, 9), 4)
LARGE = Task((32, 32), 4)
TEXT = Task((5,), 7, tokens=True)
KINDS = TEXT._replace(target="class")
MODELS = [
    ("mlp(hidden=(4, 6, 5))", IMAGES),
    ("cnn(widths=(4, 6), dense=5)", Task((9, 6, 2), 4)),
    ("emnist_cnn(dropout=false, conv=direct)", Task((7, 8), 4)),
    ("lenet(width=2)", Task((28, 28), 4)),
    ("vgg11(width=2)", Task((32, 32), 4)),
    ("char_lstm(embedding=3, hidden=6)", TEXT),
    ("transformer_lm(width=8, heads=4, feed_forward=1)", TEXT),
    ("text_classifier(symbols=7, width=12, feed_forward=1)", KINDS),
    ("text_classifier(symbols=7, width=6, layers=0)", KINDS),
    (
        "conformer_transducer(width=8, blocks=1, heads=2, kernel=3, joint=4, "
        "embedding=4, hidden=4, feed_forward=1, stack=2, groups=2)",
        SOUNDS,
    ),
    (
        "conformer_ctc(width=8, blocks=1, heads=2, kernel=3, feed_forward=1, "
        "subsampling=convolution, groups=4)",
        SOUNDS,
    ),
]
TASKS = {
    "char_lstm": ("char_lstm", TEXT),
    "transformer_lm": ("transformer_lm", TEXT),
    "text_classifier": ("text_classifier(symbols=4)", KINDS),
    "conformer_transducer": ("conformer_transducer", SOUNDS),
    "conformer_ctc": ("conformer_ctc", SOUNDS),
}
"""Of models that read no pictures."""
SELECTORS = [
    "random",
    "random_per_round",
    "prefix",
    "rolling(step=3)",
    "adaptive",
    "adaptive(per=round)",
]
CLIENTS = 2


def names(texts):
    return {text.split("(")[0] for text in texts}


def test_every_model_and_selector_is_here():
    can = {
        name
        for name in registry.entries("model")
        if name not in ("partial", "lora")  # which have no cuts, see models/test_cuts
        and registry.build("model", *TASKS.get(name, (name, LARGE))).cuts
    }
    assert names(text for text, _ in MODELS) == can
    assert names(SELECTORS) == set(registry.entries("selector"))


@functools.cache
def choices(sizes, counts):
    """What two clients keep in round 4 by each selector, stacked over clients.

    Groups are numbered, so that models of the same sizes share the program.
    """
    sizes, counts = dict(enumerate(sizes)), dict(enumerate(counts))

    @jax.jit
    def by_all(key):
        return [of_clients(registry.build("selector", text), key) for text in SELECTORS]

    def of_clients(selector, key):
        memory = selector.init(sizes)
        memory = selector.begin(memory, sizes, counts, key, jnp.array(4))
        own = selector.client_init(sizes)

        def one(client):
            inner = jax.random.fold_in(key, client)
            return selector.choose(memory, own, sizes, counts, inner)

        return jax.vmap(one)(jnp.arange(CLIENTS))

    return jax.device_get(by_all(jax.random.key(7)))


def chosen(cuts, counts):
    kept = choices(tuple(cuts.groups.values()), tuple(counts.values()))
    return [dict(zip(cuts.groups, units.values(), strict=True)) for units in kept]


def close(a, b):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b
    )


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(("text", "task"), MODELS)
def test_cut_equals_zeroed(case, text, task):
    """Outputs, loss and gradient; two clients with units of their own, under vmap.

    Cutting and putting back gives what is kept, exactly, and 0 elsewhere; ``held``
    says where that is.
    """
    model, cuts, params, columns = case(text, task)
    counts = submodel.counts(cuts, 0.5)
    assert all(n < cuts.groups[name] for name, n in counts.items())
    small_model = cuts.narrow(counts)

    def step(net, weights):
        def loss(p):
            outputs = net.apply(p, columns, None)
            return net.losses(outputs, columns)[0].mean(), scored(outputs)

        return jax.value_and_grad(loss, has_aux=True)(weights)

    @jax.jit
    @jax.vmap
    def both(kept):
        part = submodel.extract(params, cuts, kept)
        held = submodel.held(cuts, kept, params)
        zeroed = jax.tree.map(jnp.multiply, params, held)
        small, small_grad = step(small_model, part)
        whole, whole_grad = step(model, zeroed)
        trees = [part, small_grad, jax.tree.map(jnp.ones_like, part)]
        trees = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
        back = jax.vmap(lambda t: submodel.scatter(t, cuts, kept, params))(trees)
        return part, held, back, whole_grad, small, whole

    for kept in chosen(cuts, counts):
        part, held, back, grad, small, whole = jax.device_get(both(kept))
        close(small, whole)
        placed, small_grad, marks = (
            jax.tree.map(lambda x, i=i: x[:, i], back) for i in range(3)
        )
        wanted = jax.tree.map(np.multiply, grad, held)
        close(small_grad, wanted)
        assert max(np.abs(g).max() for g in jax.tree.leaves(wanted)) > 1e-3
        equal(placed, jax.tree.map(np.multiply, params, held))
        equal(marks, held)
        assert all(h.dtype == np.float32 for h in jax.tree.leaves(held))
        for x, h in zip(jax.tree.leaves(part), jax.tree.leaves(held), strict=True):
            assert x.size == h.sum()


@pytest.mark.parametrize(("text", "task"), MODELS)
def test_a_narrow_model_has_the_extracted_shapes(case, text, task):
    _, cuts, params, _ = case(text, task)
    for rate in (0.01, 0.4, 1.0):
        counts = submodel.counts(cuts, rate)
        narrow = cuts.narrow(counts)
        kept = {name: np.arange(n, dtype=np.int32) for name, n in counts.items()}
        part = jax.eval_shape(lambda p, k=kept: submodel.extract(p, cuts, k), params)
        made = jax.eval_shape(narrow.init, jax.random.key(0))
        assert tree.paths(made) == tree.paths(params)
        assert jax.tree.map(lambda s: s.shape, made) == jax.tree.map(
            lambda s: s.shape, part
        )
        assert narrow.cuts.groups == counts


def test_a_keep_rate_of_one_is_the_identity(case):
    _, cuts, params, _ = case(*MODELS[1])
    counts = submodel.counts(cuts, 1.0)
    assert counts == cuts.groups
    kept = {name: np.arange(n, dtype=np.int32) for name, n in counts.items()}

    @jax.jit
    def all_of(kept):
        part = submodel.extract(params, cuts, kept)
        return (
            part,
            submodel.scatter(part, cuts, kept, params),
            submodel.inverse_scale(cuts, counts)(part),
            submodel.held(cuts, kept, params),
        )

    *same, held = jax.device_get(all_of(kept))
    for found in same:
        equal(found, params)
    assert all(np.all(h == 1) for h in jax.tree.leaves(held))
