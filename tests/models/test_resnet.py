"""The residual networks: sizes, first values, and against plain numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_layers import convolution, dense, images, leaky, norm, pool
from scipy import stats
from systems import rows

from fedjax_compress import registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.models._cost import _macs
from fedjax_compress.models.convolution.forms import convolution_form
from fedjax_compress.models.convolution.layer import Convolution, convolve
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.typing import Task

CIFAR = Task((32, 32, 3), 10)
FORMS = ["direct", "patches", "winograd"]


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0))


@pytest.fixture(scope="module")
def twelve():
    return registry.build("model", "resnet12", CIFAR)


def test_resnet12_has_the_published_number_of_parameters(twelve):
    """2.97 MiB, as published; sums of blocks counted by hand."""
    shapes = shapes_of(twelve)
    counts = {name: tree.count(part) for name, part in shapes.items()}
    assert counts == {
        "block_1": 432 + 2_304 + 2_304 + 48 + 128,
        "block_2": 35_520,
        "block_3": 147_840,
        "block_4": 590_080,
        "output": 1_610,
    }
    assert counts["block_1"] == 5_216
    assert tree.count(shapes) == 780_266
    assert int(4 * 780_266 / 2**20 * 100) / 100 == 2.97


def test_names_and_layouts_of_resnet12(twelve):
    shapes = shapes_of(twelve)
    block = {path: leaf.shape for path, leaf in flat(shapes["block_2"]).items()}
    norms = ["norm_1", "norm_2", "norm_3", "shortcut_norm"]
    assert block == {
        "conv_1/kernel": (3, 3, 16, 40),
        "conv_2/kernel": (3, 3, 40, 40),
        "conv_3/kernel": (3, 3, 40, 40),
        "shortcut/kernel": (1, 1, 16, 40),
        **{f"{norm}/{part}": (40,) for norm in norms for part in ("scale", "bias")},
    }
    assert shapes["output"]["kernel"].shape == (160, 10)
    assert twelve.cuts is None


def flat(params):
    return dict(zip(tree.paths(params), jax.tree.leaves(params), strict=True))


def test_resnet12_has_the_published_number_of_products(twelve):
    """Sums of each block, on maps of 32, 16, 8 and 4, and the dense layer."""
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    with convolution_form("direct"):
        run = jax.make_jaxpr(lambda p, x: twelve.apply(p, rows(x), None))
        program = run(shapes_of(twelve), x)
    blocks = 5_088 * 1024, 35_200 * 256, 147_200 * 64, 588_800 * 16
    assert [round(n / 1e6, 2) for n in blocks] == [5.21, 9.01, 9.42, 9.42]
    assert _macs(program.jaxpr) == sum(blocks) + 1_600
    assert round(_macs(program.jaxpr) / 1e6, 2) == 33.06


def test_resnet18_has_as_many_parameters_as_with_batch_normalisation():
    """Stem, stages of 64, 128, 256 and 512 channels, two numbers a channel, output."""
    model = registry.build("model", "resnet18", CIFAR)
    stages, before = 0, 64
    for wide in (64, 128, 256, 512):
        stages += 9 * wide * (before + 3 * wide) + 8 * wide
        stages += (before * wide + 2 * wide) * (before != wide)
        before = wide
    total = 27 * 64 + 128 + stages + 513 * 10
    assert tree.count(shapes_of(model)) == total == 11_173_962
    assert model.cuts is None
    small = registry.build("model", "resnet18(width=6, groups=3)", CIFAR)
    names = set(shapes_of(small))
    assert names == {"stem", "stem_norm", "output"} | {
        f"block_{i}" for i in range(1, 9)
    }


def test_first_values_are_as_documented(twelve):
    # Kernels: sums of n squares are chi-square with n degrees of freedom, n from 48 to
    # 230,400; 16 kernels with false alarm 2e-9 each. Shares beyond two deviations: n =
    # 230,400, 6 standard errors, 2e-9. Dense: mean square of 1,600 uniforms has a
    # relative standard error of sqrt(9 * 4 / 45 / 1600) = 0.0224, 6 of them.
    params = jax.device_get(twelve.init(root_key(3)))
    kernels = 0
    for path, leaf in flat(params).items():
        if path.startswith("output"):
            continue
        if path.endswith("kernel"):
            total = np.sum(leaf.astype(np.float64) ** 2) / variance_of(leaf)
            tails = stats.chi2.cdf(total, leaf.size), stats.chi2.sf(total, leaf.size)
            assert min(tails) > 1e-9, path
            kernels += 1
        else:
            assert np.array_equal(leaf, np.full(leaf.shape, path.endswith("scale")))
    assert kernels == 16
    wide = params["block_4"]["conv_2"]["kernel"]
    beyond, share = np.mean(np.abs(wide) > 2 * np.sqrt(variance_of(wide))), 0.0455
    assert abs(beyond - share) < 6 * np.sqrt(share * (1 - share) / wide.size)
    dense, bound = params["output"], 160**-0.5
    for leaf in dense.values():
        assert np.abs(leaf).max() <= bound
        assert len(np.unique(leaf)) > 0.9 * leaf.size
    mean_square = np.mean(dense["kernel"] ** 2) / (bound**2 / 3)
    assert mean_square == pytest.approx(1, abs=6 * 0.0224)


def variance_of(kernel):
    size, _, _, outputs = kernel.shape
    return 2 / (1 + 0.01**2) / (size * size * outputs)


def block_of_twelve(x, p):
    y = leaky(norm(convolution(x, p["conv_1"]), p["norm_1"]))
    y = leaky(norm(convolution(y, p["conv_2"]), p["norm_2"]))
    y = norm(convolution(y, p["conv_3"]), p["norm_3"])
    return pool(leaky(y + norm(convolution(x, p["shortcut"]), p["shortcut_norm"])))


def block_of_eighteen(x, p, stride, groups):
    y = norm(convolution(x, p["conv_1"], stride), p["norm_1"], groups)
    y = norm(convolution(leaky(y, 0), p["conv_2"]), p["norm_2"], groups)
    assert ("shortcut" in p) == (stride == 2)
    if "shortcut" in p:
        x = convolution(x, p["shortcut"], stride)
        x = norm(x, p["shortcut_norm"], groups)
    return leaky(y + x, 0)


def outputs(text, features, params):
    model = registry.build("model", text, Task(features.shape[1:], 5))
    apply = jax.jit(model.apply)
    return np.asarray(apply(params, rows(features), None))


def test_resnet12_in_all_forms_is_the_one_described(draw):
    """On 16 x 18, where the third block is wide enough for winograd to be taken."""
    x = images(16, 18)
    p = draw(registry.build("model", "resnet12(maps=8)", Task(x.shape[1:], 5)))
    y = x / 255
    for i in range(4):
        y = block_of_twelve(y, p[f"block_{i + 1}"])
    assert y.shape == (2, 1, 1, 80)
    wanted = dense(y, p["output"])
    got = [outputs(f"resnet12(maps=8, conv={form})", x, p) for form in FORMS]
    for made in got:
        np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)
    assert not np.array_equal(got[1], got[2])


def test_resnet18_is_the_one_described(draw):
    """Sides of 9 and 8, so that a stride meets odd and even lengths."""
    x, text = images(9, 8), "resnet18(width=6, groups=3)"
    p = draw(registry.build("model", text, Task(x.shape[1:], 5)))
    y = leaky(norm(convolution(x / 255, p["stem"]), p["stem_norm"], 3), 0)
    for i in range(8):
        stride = 2 if i in (2, 4, 6) else 1
        y = block_of_eighteen(y, p[f"block_{i + 1}"], stride, 3)
    assert y.shape == (2, 2, 1, 48)
    wanted = dense(y, p["output"])
    for form in ("direct", "patches"):
        made = outputs(f"{text[:-1]}, conv={form})", x, p)
        np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_a_stride_leaves_out_rows_and_columns(size):
    """In all forms, whatever the sides: every second output of stride one."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(size, size, 4, 128)).astype(np.float32)
    x = rng.normal(size=(2, 8, 7, 4)).astype(np.float32)
    whole = convolution(x, {"kernel": kernel})[:, ::2, ::2]
    for form in FORMS:
        y = convolve(x, kernel, "SAME", form, 2)
        np.testing.assert_allclose(y, whole, rtol=1e-4, atol=1e-4)
    layer = Convolution(128, size, stride=2, bias=False)
    assert np.array_equal(
        layer.apply({"params": {"kernel": jnp.asarray(kernel)}}, x),
        convolve(x, kernel, "SAME", "auto", 2),
    )


def test_a_convolution_without_bias_has_a_kernel_only():
    layer = Convolution(2, 3, bias=False)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 4, 4, 2)))
    assert list(shapes["params"]) == ["kernel"]


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("resnet12", Task((15, 16, 3), 10), "at least 16 x 16, not 15 x 16"),
        ("resnet12", Task((64,), 10), "height, width"),
        ("resnet12", Task((9,), 10, tokens=True), "not tokens"),
        ("resnet12(maps=6)", CIFAR, "maps must be a multiple of 4, not 6"),
        ("resnet12(maps=0)", CIFAR, "maps must be at least 1, not 0"),
        ("resnet18", Task((8, 7), 10), "at least 8 x 8, not 8 x 7"),
        ("resnet18(width=0)", CIFAR, "width must be at least 1, not 0"),
        ("resnet18(groups=0)", CIFAR, "groups must be at least 1, not 0"),
        ("resnet18(groups=3)", CIFAR, "width must be a multiple of groups 3, not 64"),
    ],
)
def test_refusals_are_one_line(text, task, said):
    with pytest.raises(InputError, match=said) as caught:
        registry.build("model", text, task)
    assert "\n" not in caught.value.reason
