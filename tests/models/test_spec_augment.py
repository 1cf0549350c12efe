"""SpecAugment: what is masked, how wide, where, and never in evaluation.

Keys are fixed, so the statistics either hold or not; n and the rate of false alarms are
those for new keys.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sounds import SOUNDS, heard, sounds

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models import augmented
from fedjax_compress.models._spec_augment import covered
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.typing import Task

ALPHA = 1e-9
FRAMES, BINS = 40, 20
WIDE = sounds(frames=FRAMES, bins=BINS)


def build(text, task=WIDE):
    return registry.build("augment", text, task)


def masked(text, lengths, seed=0, task=WIDE):
    """bool [rows, frames, bins]: what is masked of rows of ones."""
    columns = {
        "features": np.ones((len(lengths), *task.shape), np.float32),
        "lengths": np.asarray(lengths, np.int32),
    }
    made = jax.jit(lambda key: build(text, task).change(columns, key))
    return np.asarray(made(root_key(seed))) == 0


def test_bands_and_stretches_are_whole():
    found = masked("spec_augment(frequency_width=6, time_masks=2)", [FRAMES] * 50)
    bands, stretches = found.all(axis=1), found.all(axis=2)
    np.testing.assert_array_equal(found, bands[:, None] | stretches[:, :, None])


def test_widths_and_starts_of_one_mask_are_uniform():
    """n = 20,000 rows: width f uniform in 0 .. 5, start uniform in 0 .. bins - f."""
    rows = 20_000
    text = "spec_augment(frequency_masks=1, frequency_width=6, time_masks=0)"
    band = masked(text, [FRAMES] * rows)[:, 0]
    width = band.sum(axis=1)
    seen = np.bincount(width, minlength=6)
    assert len(seen) == 6
    assert stats.chisquare(seen).pvalue > ALPHA
    start = band.argmax(axis=1)
    for f in range(1, 6):
        places = np.bincount(start[width == f], minlength=BINS - f + 1)
        assert len(places) == BINS - f + 1
        assert stats.chisquare(places).pvalue > ALPHA
    ends = np.diff(np.pad(band, ((0, 0), (1, 1))).astype(int), axis=1)
    assert ((ends == 1).sum(axis=1) == (width > 0)).all()  # in one piece


def test_stretches_follow_the_length_of_the_row_not_of_its_padding():
    """A share of 0.2: rows of 40 frames lose up to 7, of 10 up to 1, of 5 none."""
    lengths = np.repeat([40, 10, 5], 3000)
    text = "spec_augment(frequency_masks=0, time_masks=1, time_share=0.2)"
    found = masked(text, lengths)[:, :, 0]
    width = found.sum(axis=1).reshape(3, -1)
    assert width.max(axis=1).tolist() == [7, 1, 0]
    behind = np.arange(FRAMES)[None] >= lengths[:, None]
    assert not (found & behind).any()
    # The mean width is that of a uniform whole number; n = 3000, ALPHA two-sided.
    for seen, most in zip(width, (8, 2, 1), strict=True):
        spread = np.sqrt((most**2 - 1) / 12 / len(seen))
        assert abs(seen.mean() - (most - 1) / 2) <= spread * stats.norm.isf(ALPHA / 2)


def test_rows_draw_for_themselves_and_by_the_key():
    text = "spec_augment(frequency_width=6)"
    one, same, other = (masked(text, [FRAMES] * 30, seed) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len({row.tobytes() for row in one}) > 25


def test_no_mask_covers_nothing():
    none = covered(root_key(0), jnp.full(3, 9), jnp.zeros(3, jnp.int32), 9, 4)
    assert not none.any()


def test_evaluation_and_other_columns_are_left_alone():
    text = "conformer_ctc(width=8, blocks=1, heads=2, kernel=3, stack=2, groups=2)"
    model = registry.build("model", text, SOUNDS)
    changed = augmented(model, build("spec_augment(frequency_width=3)", SOUNDS))
    columns, params = heard(), model.init(root_key(0))
    plain = model.apply(params, columns, None)
    found = changed.apply(params, columns, None)
    jax.tree.map(np.testing.assert_array_equal, plain, found)
    hidden = changed.apply(params, columns, root_key(1))
    assert not np.allclose(hidden[0], plain[0])
    np.testing.assert_array_equal(hidden[1], plain[1])


def test_integer_features_are_scaled_first():
    task = Task((4, 3), 2, scale=2.0, target="sequence", longest=1)
    columns = {"features": np.full((2, 4, 3), 6, np.uint8)}
    change = build("spec_augment(frequency_width=1)", task).change
    assert (np.asarray(change(columns, None)) == 3).all()


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        ("spec_augment(frequency_width=21)", WIDE, "from 1 to the 20 bins"),
        ("spec_augment(time_share=1.5)", WIDE, "from 0 to 1, not 1.5"),
        ("spec_augment(time_masks=-1)", WIDE, "must not be negative"),
        ("spec_augment", Task((5,), 3), r"features \(frames, bins\)"),
        ("spec_augment", Task((5,), 3, tokens=True), r"features \(frames, bins\)"),
    ],
)
def test_refusals_are_one_line(text, task, said):
    with pytest.raises(InputError, match=said) as caught:
        build(text, task)
    assert "\n" not in caught.value.reason
