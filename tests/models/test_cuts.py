"""Along which axes models can be cut: the ties of each, and refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx
from sounds import SOUNDS
from systems import rows

from fedjax_compress import models, registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.models.cutting import check_cuts, layers
from fedjax_compress.typing import Cuts, Task, Tie

IMAGES = Task((8, 9), 4)
TEXT = Task((5,), 7, tokens=True)
KINDS = TEXT._replace(target="class")
WHOLE = [
    ("logistic", IMAGES),
    ("resnet12", Task((16, 16), 4)),
    ("resnet18", IMAGES),
    ("resnet8", IMAGES),
    ("resnet20", IMAGES),
    ("resnet55", IMAGES),
    ("resnet56", IMAGES),
    ("resnet109", IMAGES),
    ("resnet110", IMAGES),
    ("partial('mlp(hidden=(6, 5))', train=output)", IMAGES),
    ("lora('mlp(hidden=(6, 5))', rank=2, train=bias)", IMAGES),
    ("char_lstm(layer_norm=true)", TEXT),
]
"""Models that cannot be cut."""
GROUPS = [
    ("mlp(hidden=(7, 5))", IMAGES, {"dense_1": 7, "dense_2": 5}),
    ("mlp(hidden=())", IMAGES, {}),
    (
        "cnn(widths=(4, 6), dense=5)",
        IMAGES,
        {"conv_1": 4, "conv_2": 6, "dense": 5},
    ),
    ("cnn(widths=(), dense=5)", IMAGES, {"dense": 5}),
    ("cnn(widths=(2, 3, 2), dense=5)", Task((11, 13, 3), 4), None),
    ("emnist_cnn", Task((7, 8), 4), {"conv_1": 32, "conv_2": 64, "dense": 128}),
    ("emnist_cnn", Task((9, 10, 3), 4), None),
    ("lenet(width=3)", Task((13, 35), 4), None),
    ("lenet", Task((32, 33, 3), 4), None),
    ("vgg11(width=2)", Task((64, 33), 4), None),
    (
        "char_lstm(embedding=3, hidden=6)",
        TEXT,
        {"embedding": 3, "lstm_1": 6, "lstm_2": 6},
    ),
    ("char_lstm(embedding=3, hidden=6, layers=1)", TEXT, None),
    (
        "transformer_lm(width=8, heads=2)",
        TEXT,
        {
            "block_1_heads": 2,
            "block_1_feed_forward": 32,
            "block_2_heads": 2,
            "block_2_feed_forward": 32,
        },
    ),
    (
        "text_classifier(symbols=9)",
        KINDS,
        {"block_1_heads": 4, "block_1_feed_forward": 256},
    ),
    ("text_classifier(symbols=9, width=6, layers=0)", KINDS, {"embedding": 6}),
    (
        "conformer_transducer(width=8, blocks=1, heads=2, groups=4, hidden=6)",
        SOUNDS,
        {
            "block_1_first": 32,
            "block_1_heads": 2,
            "block_1_second": 32,
            "block_1_groups": 4,
            "embedding": 64,
            "lstm": 6,
            "joint": 64,
        },
    ),
    (
        "conformer_transducer(width=8, blocks=1, prediction=embedding)",
        SOUNDS,
        None,
    ),
    (
        "conformer_ctc(width=8, blocks=1, norm=layer)",
        SOUNDS,
        {"block_1_first": 32, "block_1_heads": 4, "block_1_second": 32},
    ),
]


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0))


def test_all_registered_models_are_here():
    named = {text.split("(")[0] for text, *_ in [*WHOLE, *GROUPS]}
    assert named == set(registry.entries("model"))


@pytest.mark.parametrize(("text", "task"), WHOLE)
def test_models_without_groups(text, task):
    assert registry.build("model", text, task).cuts is None


@pytest.mark.parametrize(("text", "task", "groups"), GROUPS)
def test_groups_in_the_order_of_the_layers(text, task, groups):
    cuts = registry.build("model", text, task).cuts
    if groups is not None:
        assert list(cuts.groups.items()) == list(groups.items())


@pytest.mark.parametrize(("text", "task", "groups"), GROUPS)
def test_ties_fit_the_parameters(text, task, groups):
    model = registry.build("model", text, task)
    cuts, params = model.cuts, shapes_of(model)
    check_cuts(cuts, params)
    assert set(cuts.ties) == set(tree.paths(params))
    made = {ties[-1].group for ties in cuts.ties.values() if ties[-1]}
    read = {tie.group for ties in cuts.ties.values() for tie in ties[:-1] if tie}
    assert made == read == set(cuts.groups)


@pytest.mark.parametrize(("text", "task", "groups"), GROUPS)
def test_classes_and_features_are_never_cut(text, task, groups):
    model = registry.build("model", text, task)
    leaves = dict(
        zip(
            tree.paths(shapes_of(model)), jax.tree.leaves(shapes_of(model)), strict=True
        )
    )
    for path in model.cuts.outputs:
        assert leaves[path].shape[-1] == task.classes
        assert model.cuts.ties[path][-1] is None
    first = next(iter(model.cuts.groups), None)
    if first:
        made = [t for t in model.cuts.ties.values() if t[-1] and t[-1].group == first]
        assert made
        assert not any(tie for ties in made for tie in ties[:-1])


def test_a_dense_layer_after_flattening_follows_the_channels():
    cuts = registry.build("model", "cnn(widths=(4, 6), dense=5)", IMAGES).cuts
    assert cuts.ties["dense/kernel"] == (Tie("conv_2", outer=4), Tie("dense"))
    cuts = registry.build("model", "char_lstm(hidden=6)", TEXT).cuts
    gates = Tie("lstm_1", outer=4)
    assert cuts.ties["lstm_1/recurrent"] == (Tie("lstm_1"), gates)


def test_a_narrow_model_can_be_cut_again():
    cuts = registry.build("model", "char_lstm(embedding=3, hidden=6)", TEXT).cuts
    narrow = cuts.narrow({"embedding": 2, "lstm_1": 4, "lstm_2": 5})
    again = narrow.cuts.narrow({"embedding": 1, "lstm_1": 3, "lstm_2": 5})
    assert again.cuts.groups == {"embedding": 1, "lstm_1": 3, "lstm_2": 5}
    assert tree.paths(shapes_of(again)) == sorted(cuts.ties)


def test_narrowing_keeps_the_other_options():
    """The symbol that is not scored, and dropout."""
    model = registry.build("model", "char_lstm(hidden=4, layers=1, pad=3)", TEXT)
    narrow = model.cuts.narrow({"embedding": 2, "lstm_1": 3})
    outputs = jnp.zeros((1, 2, 7))
    value, weight = narrow.losses(outputs, {"labels": jnp.array([[3, 3]])})
    assert (value.tolist(), weight.tolist()) == ([0.0], [0.0])
    for text, differs in (("emnist_cnn", True), ("emnist_cnn(dropout=false)", False)):
        model = registry.build("model", text, Task((6, 6), 4))
        narrow = model.cuts.narrow({"conv_1": 1, "conv_2": 2, "dense": 30})
        params = jax.tree.map(lambda s: jnp.ones(s.shape), shapes_of(narrow))
        apply = jax.jit(narrow.apply)
        x = rows(jnp.ones((2, 6, 6)))
        trained, tested = apply(params, x, jax.random.key(0)), apply(params, x, None)
        assert bool((trained != tested).any()) == differs


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"dense_1": 3}, "group dense_2 can keep 1 to 5 units, not None"),
        ({"dense_1": 0, "dense_2": 2}, "group dense_1 can keep 1 to 7 units, not 0"),
        ({"dense_1": 8, "dense_2": 2}, "group dense_1 can keep 1 to 7 units, not 8"),
        ({"dense_1": 1, "dense_3": 2}, "no group of units 'dense_3'; did you mean"),
    ],
)
def test_counts_that_there_cannot_be(counts, said):
    cuts = registry.build("model", "mlp(hidden=(7, 5))", IMAGES).cuts
    with pytest.raises(InputError, match=said) as caught:
        cuts.narrow(counts)
    assert "\n" not in str(caught.value)


PARAMS = {
    "hidden": {"kernel": jnp.zeros((3, 6)), "bias": jnp.zeros(6)},
    "output": {"kernel": jnp.zeros((12, 2)), "bias": jnp.zeros(2)},
}
GOOD = {
    "hidden/kernel": (None, Tie("h")),
    "hidden/bias": (Tie("h"),),
    "output/kernel": (Tie("h", outer=2), None),
    "output/bias": (None,),
}


def never(counts):
    raise AssertionError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hiden/bias": (None,)}, "'hiden/bias', which is no parameter; did you mean"),
        ({"hidden/bias": None}, "each of the 1 axes of parameter hidden/bias"),
        ({"hidden/bias": (None, None)}, "each of the 1 axes of parameter hidden/bias"),
        ({"hidden/bias": (Tie("x"),)}, "cuts of hidden/bias: no group 'x'"),
        (
            {"output/kernel": (Tie("h"), None)},
            "axis 0 of parameter output/kernel has 12 elements, but its tie to h "
            "makes 6",
        ),
    ],
)
def test_cuts_that_do_not_fit(change, said):
    check_cuts(Cuts({"h": 6}, GOOD, never), PARAMS)
    with pytest.raises(InputError, match=said) as caught:
        check_cuts(Cuts({"h": 6}, GOOD | change, never), PARAMS)
    assert "\n" not in str(caught.value)


def test_outputs_have_to_be_parameters():
    with pytest.raises(InputError, match="'head/bias', which is no parameter"):
        check_cuts(Cuts({"h": 6}, GOOD, never, ("head/bias",)), PARAMS)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3, name="output")(linen.relu(linen.Dense(6, name="one")(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.one = nnx.Linear(5, 6, rngs=rngs)
        self.output = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.relu(self.one(x)))


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_own_models_may_have_cuts(kind):
    def make(cuts):
        task = Task((5,), 3)
        if kind == "linen":
            return models.from_linen(Linen(), task, cuts=cuts)
        return models.from_nnx(lambda rngs: Nnx(rngs), task, cuts=cuts)

    ends = {"one": (None, Tie("one")), "output": (Tie("one"), None)}
    cuts = layers({"one": 6}, ends, never)
    assert make(None).cuts is None
    assert make(cuts).cuts is cuts
    with pytest.raises(InputError, match="axis 0 of parameter one/bias has 6"):
        make(layers({"one": 7}, ends, never))
