"""Random changes of images: what is drawn, how often, and what stays as it is.

Keys are fixed, so the statistics below either hold or not; n and the rate of false
alarms of each are those for new keys.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from systems import rows

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models import augmented, crop_flip
from fedjax_compress.models.augment import CIFAR10_MEAN, CIFAR10_STD
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.typing import Model, Task

ALPHA = 1e-9
HEIGHT, WIDTH, PADDING = 8, 9, 2
PLACES = (2 * PADDING + 1) ** 2
RGB = Task((HEIGHT, WIDTH, 3), 4)
ROWS = 20_000
PLAIN = "padding=2, mean=0.0, std=1.0"


def build(text, task=RGB):
    return registry.build("augment", text, task)


def numbered():
    """uint8 [height, width, 3]: no two pixels alike, and none black."""
    pixels = 1 + np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH, 1)
    return pixels + np.array([0, 80, 160], np.uint8)


def pictures(rows=5, shape=RGB.shape):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (rows, *shape), dtype=np.uint8)


def found(made):
    """(top, left, mirrored) of each row, read off the middle of the numbered image."""
    numbers = np.rint(np.asarray(made)[..., 0] * 255).astype(int) - 1
    middle, right = numbers[:, 4, 4], numbers[:, 4, 5]
    mirrored = right < middle
    row, column = np.divmod(middle, WIDTH)
    before = np.where(mirrored, WIDTH - 1 - 4, 4)
    return row + PADDING - 4, column + PADDING - before, mirrored


def cropped(image, top, left, mirrored):
    """uint8 image, by plain numpy."""
    sides = (PADDING, PADDING)
    padded = np.pad(image, (sides, sides, (0, 0)))
    part = padded[top : top + HEIGHT, left : left + WIDTH]
    return part[:, ::-1] if mirrored else part


@pytest.fixture(scope="module")
def drawn():
    """float32 [ROWS, height, width, 3], the numbered image changed ROWS times."""
    many = np.broadcast_to(numbered(), (ROWS, *RGB.shape))
    return np.asarray(jax.jit(build(f"crop_flip({PLAIN})"))(many, root_key(1)))


def test_every_row_is_a_crop_of_the_image_in_black(drawn):
    image, pixels = numbered(), np.rint(drawn * 255).astype(np.uint8)
    np.testing.assert_allclose(drawn, pixels / 255, rtol=1e-6)
    for made, *how in zip(pixels, *found(drawn), strict=True):
        assert np.array_equal(made, cropped(image, *how))


def test_places_and_sides_are_uniform(drawn):
    """Chi-square over 25 places and 2 sides, n = 20,000; false alarm 1e-9."""
    top, left, mirrored = found(drawn)
    cells = (top * 5 + left) * 2 + mirrored
    counts = np.bincount(cells, minlength=2 * PLACES)
    assert len(counts) == 2 * PLACES
    assert stats.chisquare(counts).pvalue > ALPHA


def test_half_of_the_rows_are_mirrored(drawn):
    """n = 20,000, 6 standard errors; false alarm 2e-9."""
    _, _, mirrored = found(drawn)
    assert abs(mirrored.mean() - 0.5) < 6 * 0.5 / np.sqrt(ROWS)


def test_neighbouring_rows_are_independent(drawn):
    """Chi-square over pairs of places, 625 cells, n = 10,000 pairs; and of sides."""
    top, left, mirrored = found(drawn)
    place = top * 5 + left
    pairs = np.bincount(place[::2] * PLACES + place[1::2], minlength=PLACES**2)
    assert stats.chisquare(pairs).pvalue > ALPHA
    sides = np.bincount(mirrored[::2] * 2 + mirrored[1::2], minlength=4)
    assert stats.chisquare(sides).pvalue > ALPHA


def test_padding_is_black_before_normalising():
    """What stands outside the image becomes (0 - mean) / std."""
    change = build("crop_flip(padding=8, flip=false, mean=0.5, std=0.25)")
    white = np.full((64, *RGB.shape), 255, np.uint8)
    made = np.asarray(change(white, root_key(2)))
    assert set(np.unique(made)) == {-2.0, 2.0}


def test_without_a_key_it_only_normalises():
    x = pictures()
    wanted = (x / 255 - np.array(CIFAR10_MEAN)) / np.array(CIFAR10_STD)
    for text in ("crop_flip", "crop_flip(flip=false, padding=0)"):
        made = build(text)(x, None)
        assert made.dtype == jnp.float32
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)
    alone = build(f"normalise(mean={CIFAR10_MEAN}, std={CIFAR10_STD})")
    for key in (None, root_key(0)):
        assert np.array_equal(alone(x, key), made)


def test_nothing_to_draw_changes_nothing():
    x = pictures()
    change = build("crop_flip(padding=0, flip=false, mean=0, std=1)")
    assert np.array_equal(change(x, root_key(0)), x / np.float32(255))


def test_none_is_no_change_of_anything():
    assert build("none") is None
    assert build("none", Task((5,), 7, tokens=True)) is None


def test_one_number_stands_for_all_channels_and_floats_are_not_scaled():
    x = pictures()
    change = build("normalise(mean=0.5, std=0.25)")
    wanted = (x / np.float32(255) - np.float32(0.5)) * 4
    np.testing.assert_allclose(change(x, None), wanted, rtol=1e-6)
    assert np.array_equal(change(x / np.float32(255), None), change(x, None))


def test_images_without_a_channel_axis():
    x = pictures(shape=(HEIGHT, WIDTH))
    grey = build(f"crop_flip({PLAIN})", Task((HEIGHT, WIDTH), 4))
    with_axis = build(f"crop_flip({PLAIN})", Task((HEIGHT, WIDTH, 1), 4))
    made = grey(x, root_key(3))
    assert made.shape == x.shape
    assert np.array_equal(made[..., None], with_axis(x[..., None], root_key(3)))


def test_the_key_decides():
    x, change = pictures(), build("crop_flip")
    a, b, c = (np.asarray(change(x, root_key(seed))) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_rows_beyond_a_batch_change_nothing():
    """A row has the same crop whatever follows it."""
    x, change = pictures(), build("crop_flip")
    longer = np.concatenate([x, x])
    whole = np.asarray(change(longer, root_key(1)))
    assert np.array_equal(whole[:5], change(x, root_key(1)))
    assert not np.array_equal(whole[5:], whole[:5])


def test_many_clients_equal_clients_one_by_one():
    x, change = pictures(6).reshape(3, 2, *RGB.shape), build("crop_flip")
    keys = jax.vmap(jax.random.fold_in, (None, 0))(root_key(4), jnp.arange(3))
    together = jax.jit(jax.vmap(change))(x, keys)
    for i in range(3):
        np.testing.assert_allclose(
            together[i], change(x[i], keys[i]), rtol=1e-5, atol=1e-6
        )


def looking():
    """A model that gives back what it is given."""

    def apply(params, columns, key):
        assert columns["labels"].tolist() == [7]  # all other columns pass
        return columns["features"], None if key is None else jax.random.key_data(key)

    return Model(dict, apply, lambda outputs, columns: outputs, {})


def test_a_model_sees_what_is_changed_and_keeps_its_key():
    x, key, change = pictures(), root_key(5), crop_flip(RGB)
    seen, model = rows(x, np.array([7])), augmented(looking(), change)
    features, passed = model.apply({}, seen, key)
    assert np.array_equal(passed, jax.random.key_data(key))
    assert not np.array_equal(features, change(x, key))
    keys = []
    augmented(looking(), lambda x, key: keys.append(key) or x).apply({}, seen, key)
    assert np.array_equal(features, change(x, keys[0]))
    assert not np.array_equal(jax.random.key_data(keys[0]), passed)
    features, passed = model.apply({}, seen, None)
    assert passed is None
    assert np.array_equal(features, change(x, None))


def test_a_cut_model_is_changed_as_well(draw):
    whole = registry.build("model", "mlp(hidden=(4, 3))", RGB)
    change = build("normalise(mean=0.5, std=0.25)")
    model = augmented(whole, change)
    counts = {"dense_1": 2, "dense_2": 3}
    again = model.cuts.narrow(counts)
    plain = whole.cuts.narrow(counts)
    assert again.cuts.groups == plain.cuts.groups == counts
    params, x = draw(plain), pictures()
    wanted = plain.apply(params, rows(change(x, None)), None)
    for cut in (again, again.cuts.narrow(counts)):
        assert np.array_equal(cut.apply(params, rows(x), None), wanted)
    assert model.init is whole.init
    assert augmented(registry.build("model", "logistic", RGB), change).cuts is None


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("crop_flip(padding=-1)", RGB, "padding must be from 0 to 8, .*, not -1"),
        ("crop_flip(padding=2147483648)", RGB, "padding must be from 0 to 8"),
        ("crop_flip", Task((8, 9), 4), "mean needs 1 number for images of 1 channel,"),
        ("crop_flip(std=(1, 1))", RGB, "std needs 1 or 3 numbers .* 3 channels, not 2"),
        ("crop_flip(std=0.0)", RGB, "std must be above 0, not 0.0"),
        ("normalise(mean=0, std=(1, -1, 1))", RGB, "std must be above 0, not -1.0"),
        ("normalise(mean=0)", RGB, "normalise needs std"),
        ("crop_flip", Task((64,), 4), "height, width"),
        ("crop_flip", Task((5,), 7, tokens=True), "not tokens"),
        (
            "crop_flip",
            RGB._replace(target="positions"),
            "not their labels of each pixel",
        ),
        ("crop_flop", RGB, "did you mean 'crop_flip'"),
    ],
)
def test_refusals_are_one_line(text, task, said):
    with pytest.raises(InputError, match=said) as caught:
        build(text, task)
    assert "\n" not in caught.value.reason


def test_numbers_that_are_not_finite():
    for number in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="mean must be finite"):
            crop_flip(RGB, mean=(number,))
        with pytest.raises(InputError, match="std must be finite"):
            crop_flip(RGB, std=(number,))
