"""Count sketches: tables by hand, sums of tables, heavy elements, medians."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import compress, wire
from fedjax_compress.compress._count_sketch import cells, sketch, unsketch
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Keys

KEY = jax.random.key(2)
KEYS = Keys(jax.random.key(1), KEY)


def gaussian(n, seed=0):
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def plain(vector, places, signs, columns):
    """The table, element by element."""
    table = np.zeros((len(places), columns))
    for j in range(len(places)):
        for i, x in enumerate(vector):
            table[j, places[j, i]] += signs[j, i] * x
    return table


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (5, 20), (15, 3)])
def test_table_and_estimates_equal_plain_loops(rows, columns):
    x = gaussian(60)
    places, signs = map(np.asarray, cells(KEY, 60, rows, columns))
    expected = plain(x, places, signs, columns)
    table = sketch(jnp.asarray(x), KEY, rows, columns)
    np.testing.assert_allclose(table, expected, atol=1e-5)
    found = [
        np.median([signs[j, i] * expected[j, places[j, i]] for j in range(rows)])
        for i in range(60)
    ]
    np.testing.assert_allclose(unsketch(table, KEY, 60), found, atol=1e-5)


def test_cells_and_signs_are_uniform_and_independent():
    """30 000 elements, 3 rows of 5 cells: each count within 7 standard errors.

    Cell and sign of one row together, 10 outcomes; cells of two rows together, 25.
    35 counts of which each is off by chance with probability below 3e-12.
    """
    places, signs = map(np.asarray, cells(KEY, 30_000, 3, 5))
    assert set(signs.ravel()) == {-1.0, 1.0}
    both = 2 * places[0] + (signs[0] > 0)
    pair = 5 * places[1] + places[2]
    for outcome, number in ((both, 10), (pair, 25)):
        share = 1 / number
        spread = np.sqrt(30_000 * share * (1 - share))
        counts = np.bincount(outcome, minlength=number)
        assert (np.abs(counts - 30_000 * share) < 7 * spread).all()


def test_the_sum_of_sketches_is_the_sketch_of_the_sum():
    vectors = [gaussian(400, seed) for seed in range(6)]
    tables = [sketch(jnp.asarray(x), KEY, 5, 30) for x in vectors]
    together = sketch(jnp.asarray(sum(vectors)), KEY, 5, 30)
    np.testing.assert_allclose(sum(tables), together, atol=1e-5)


def test_heavy_elements_are_found_with_their_values():
    """8 of 4000 elements of 50 among noise of 0.05, in 5 rows of 200 cells.

    Noise in a cell: 20 elements, 0.05 sqrt(20) = 0.22. Wrong by more than 2 takes three
    rows in which another heavy one is in the cell: below 10 (7 / 200)**3 for each.
    """
    x = 0.05 * gaussian(4000)
    heavy = np.arange(8) * 470 + 11
    x[heavy] = 50 * np.where(np.arange(8) % 2, -1, 1)
    stage = compress.count_sketch(rows=5, columns=200)
    carrier, side, _ = stage.encode(jnp.asarray(x), (), KEYS)
    assert carrier.shape == (5, 200)
    arrived = np.asarray(stage.decode(carrier, side, KEY))
    np.testing.assert_array_equal(np.sort(np.argsort(-np.abs(arrived))[:8]), heavy)
    np.testing.assert_allclose(arrived[heavy], x[heavy], atol=2)


@pytest.mark.parametrize("rows", [1, 3, 5, 15])
def test_medians_equal_numpy(rows):
    """Many columns and few elements: estimates are the cells, in no order."""
    table = jnp.asarray(gaussian(rows * 50).reshape(rows, 50))
    places, signs = map(np.asarray, cells(KEY, 100, rows, 50))
    found = signs * np.take_along_axis(np.asarray(table), places, 1)
    np.testing.assert_array_equal(unsketch(table, KEY, 100), np.median(found, axis=0))


def test_one_row_has_the_exact_variance():
    """(||x||**2 - x_i**2) / columns for element i; 4000 keys, 7 standard errors."""
    x = gaussian(12)
    keys = jax.random.split(jax.random.key(5), 4000)

    def draw(key):
        return unsketch(sketch(jnp.asarray(x), key, 1, 6), key, 12)

    errors = np.asarray(jax.jit(jax.vmap(draw))(keys), np.float64) - x
    expected = (np.sum(x.astype(np.float64) ** 2) - x**2) / 6
    squares = errors**2
    margin = 7 * squares.std(axis=0) / np.sqrt(4000)
    assert (np.abs(squares.mean(axis=0) - expected) < margin).all()


def test_what_would_not_shrink_travels_as_it_is():
    stage = compress.on_leaves(compress.count_sketch(rows=3, columns=10))
    for n, bits in ((30, 32 * 30), (31, 32 * 30), (1, 32), (500, 32 * 30)):
        x = jnp.asarray(gaussian(n))
        payload, _ = stage.encode(x, (), KEYS)
        assert int(wire.bits(payload)) == bits
        if n <= 30:
            np.testing.assert_array_equal(stage.decode(payload, x, KEY), x)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spoils_what_shares_a_cell(bad):
    x = gaussian(300)
    x[7] = bad
    table = sketch(jnp.asarray(x), KEY, 5, 20)
    arrived = np.asarray(unsketch(table, KEY, 300))
    places = np.asarray(cells(KEY, 300, 5, 20)[0])
    shares = (places == places[:, 7:8]).any(axis=0)
    np.testing.assert_array_equal(np.isnan(arrived), shares)


def test_a_following_stage_gets_the_table():
    """Cells in 16 bits; leaf 0 and stage 0 fold the key twice."""
    x = jnp.asarray(gaussian(2000))
    compressor = compress.parse("count_sketch(5, 100) | cast(bfloat16)")
    payload, _ = compressor.encode(x, compressor.init(x), KEYS)
    assert int(wire.bits(payload)) == 16 * 500
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), 0)
    plain_one = unsketch(sketch(x, key, 5, 100), key, 2000)
    arrived = compressor.decode(payload, x, KEY)
    margin = 2.0**-8 * np.abs(plain_one).max()
    assert 0 < np.abs(arrived - plain_one).max() < margin


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 4}, "rows must be odd"),
        ({"rows": 0}, "rows must be odd"),
        ({"rows": 17}, "rows must be odd"),
        ({"columns": 0}, "columns must be"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        compress.count_sketch(**options)
