"""What every selector keeps, and where the units come from.

Statistics compare with a chi-square at a false-alarm rate of 1e-7; seeds are fixed.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.submodel.selector import check_kept

ALPHA = 1e-7
SIZES = {"first": 9, "second": 40}
COUNTS = {"first": 4, "second": 17}
SELECTORS = [
    "random",
    "random_per_round",
    "prefix",
    "rolling(step=5)",
    "adaptive",
    "adaptive(per=round)",
]
OWN = ["random", "adaptive"]


def chooser(text, sizes=SIZES, counts=COUNTS):
    """(key of the round, round, client) -> kept, of a client without past."""
    selector = registry.build("selector", text)

    def choose(key, number, client):
        memory = selector.init(sizes)
        memory = selector.begin(memory, sizes, counts, key, number)
        own = selector.client_init(sizes)
        inner = jax.random.fold_in(key, client)
        return selector.choose(memory, own, sizes, counts, inner)

    return choose


def over_rounds(text, rounds, sizes, counts):
    """Kept units in each of the rounds, int32 [rounds, count] for each group."""
    choose = chooser(text, sizes, counts)

    def one(number):
        return choose(jax.random.fold_in(jax.random.key(3), number), number, 0)

    found = jax.jit(jax.vmap(one))(np.asarray(rounds, np.int32))
    return {name: np.asarray(units) for name, units in found.items()}


@functools.cache
def fifty(text):
    """Kept units of SIZES in 50 rounds."""
    return over_rounds(text, range(50), SIZES, COUNTS)


@functools.cache
def clients(text):
    """Kept units of SIZES of clients 0 .. 2 in round 4, by programs of one client."""
    choose = jax.jit(chooser(text))
    key = jax.random.fold_in(jax.random.key(3), 4)
    found = [choose(key, np.int32(4), np.int32(client)) for client in range(3)]
    return [{name: np.asarray(u) for name, u in kept.items()} for kept in found]


def equal(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_all_registered_selectors_are_here():
    assert {text.split("(")[0] for text in SELECTORS} == set(
        registry.entries("selector")
    )


@pytest.mark.parametrize("text", SELECTORS)
def test_as_many_units_as_asked_for_in_order(text):
    kept = fifty(text)
    assert set(kept) == set(SIZES)
    for name, units in kept.items():
        assert units.dtype == np.int32
        assert units.shape == (50, COUNTS[name])
        assert (np.diff(units, axis=1) > 0).all()
        assert (units >= 0).all()
        assert (units < SIZES[name]).all()


@pytest.mark.parametrize("text", SELECTORS)
def test_keeping_all_keeps_all(text):
    kept = over_rounds(text, range(5), {"g": 7}, {"g": 7})
    assert (kept["g"] == np.arange(7)).all()


@pytest.mark.parametrize("text", SELECTORS)
def test_one_client_alone_keeps_the_same_units(text):
    """By a program of its own, and beside others under vmap."""
    assert equal(clients(text)[0], {name: k[4] for name, k in fifty(text).items()})


@pytest.mark.parametrize("text", SELECTORS)
def test_clients_differ_or_agree(text):
    """17 of 40 units: two clients agree by chance once in 9e10."""
    a, b, c = (kept["second"].tolist() for kept in clients(text))
    assert len({str(a), str(b), str(c)}) == (3 if text in OWN else 1)


@pytest.mark.parametrize("text", [*OWN, "random_per_round", "adaptive(per=round)"])
def test_every_round_draws_anew(text):
    """17 of 40 units in 50 rounds: a repetition has a chance of 2e-8."""
    kept = fifty(text)["second"]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(kept, 2))


@pytest.mark.parametrize("text", ["random", "random_per_round", "adaptive"])
def test_random_choices_are_uniform(text):
    """All 15 pairs of 6 units in one group with all 10 triples of 5 in another.

    22,500 rounds, 150 expected of each of the 150 combinations; chi-square with 149
    degrees of freedom. It sees both uneven units and groups that depend on each other.
    """
    rounds = 22_500
    kept = over_rounds(text, range(rounds), {"a": 6, "b": 5}, {"a": 2, "b": 3})
    codes = [(2 ** kept[name]).sum(axis=1) for name in ("a", "b")]
    seen = np.unique(codes[0] * 32 + codes[1], return_counts=True)[1]
    assert len(seen) <= 150
    missing = (150 - len(seen)) * 150.0
    statistic = ((seen - 150.0) ** 2 / 150).sum() + missing
    assert stats.chi2.ppf(ALPHA, 149) < statistic < stats.chi2.isf(ALPHA, 149)


def test_prefix_is_the_first_units():
    kept = over_rounds("prefix", range(2), SIZES, COUNTS)
    assert (kept["first"] == np.arange(4)).all()
    assert (kept["second"] == np.arange(17)).all()


@pytest.mark.parametrize("text", ["prefix", "random_per_round", "rolling(step=2)"])
def test_smaller_clients_keep_some_of_the_larger_ones_units(text):
    selector = registry.build("selector", text)
    counts = {"first": 2, "second": 9}

    @jax.jit
    def both(key, number):
        memory = selector.begin(selector.init(SIZES), SIZES, COUNTS, key, number)
        return [selector.choose(memory, (), SIZES, n, key) for n in (COUNTS, counts)]

    large, small = both(jax.random.key(5), jnp.array(7))
    for name in SIZES:
        assert set(np.asarray(small[name])) <= set(np.asarray(large[name]))


def test_a_rolling_window_by_hand():
    sizes, counts = {"a": 5, "b": 3}, {"a": 3, "b": 2}
    kept = over_rounds("rolling", range(5), sizes, counts)
    a = [[0, 1, 2], [1, 2, 3], [2, 3, 4], [0, 3, 4], [0, 1, 4]]
    assert kept["a"].tolist() == a
    assert kept["b"].tolist() == [[0, 1], [1, 2], [0, 2], [0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("step", "units", "count"), [(1, 12, 5), (5, 12, 7), (9, 7, 2)]
)
def test_rolling_covers_all_units_equally(step, units, count):
    """Over as many rounds as there are units, each is kept ``count`` times."""
    start = 1_000_003
    rounds = range(start, start + units)
    kept = over_rounds(f"rolling(step={step})", rounds, {"a": units}, {"a": count})
    seen = np.bincount(kept["a"].ravel(), minlength=units)
    assert (seen == count).all()


def test_rolling_does_not_overflow():
    number, step, units = 2**31 - 1, 2**31 - 3, 10_007
    text = f"rolling(step={step})"
    kept = over_rounds(text, [number], {"a": units}, {"a": 1})
    assert kept["a"].tolist() == [[number * step % units]]


@pytest.mark.parametrize("text", SELECTORS)
def test_memories_keep_their_form_and_hold_no_keys(text):
    selector = registry.build("selector", text)

    def steps(key):
        server, own = selector.init(SIZES), selector.client_init(SIZES)
        begun = selector.begin(server, SIZES, COUNTS, key, jnp.array(1))
        kept = selector.choose(begun, own, SIZES, COUNTS, key)
        learned = selector.learn(begun, jnp.float32(1.0))
        return (server, begun, learned), (own, selector.credit(own, kept, 0.5))

    for memories in jax.eval_shape(steps, jax.random.key(0)):
        forms = [
            (jax.tree.structure(m), [(x.shape, x.dtype) for x in jax.tree.leaves(m)])
            for m in memories
        ]
        assert all(form == forms[0] for form in forms)
        for leaf in jax.tree.leaves(memories):
            assert not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("text", SELECTORS)
def test_announced_means_that_losses_do_not_matter(text):
    """After two rounds of falling losses the next choice is the same, or announced."""
    selector = registry.build("selector", text)
    sizes, counts = {"g": 20}, {"g": 8}

    def round_of(carry, now):
        (server, own), (number, loss) = carry, now
        key = jax.random.fold_in(jax.random.key(0), number)
        server = selector.begin(server, sizes, counts, key, number)
        kept = selector.choose(server, own, sizes, counts, key)
        own = selector.credit(own, kept, loss)
        return (selector.learn(server, loss), own), kept

    @jax.jit
    def second(losses):
        start = selector.init(sizes), selector.client_init(sizes)
        kept = jax.lax.scan(round_of, start, (jnp.arange(3), losses))[1]
        return {name: units[-1] for name, units in kept.items()}

    falling, rising = (second(np.array(x, np.float32)) for x in ([3, 2, 1], [1, 2, 3]))
    assert equal(falling, rising) == selector.announced


def test_selectors_are_options_of_algorithms():
    with pytest.raises(InputError, match="step must be at least 1") as caught:
        registry.build("selector", "rolling(step=0)")
    assert "\n" not in caught.value.reason
    with pytest.raises(InputError, match="did you mean 'client'"):
        registry.build("selector", "adaptive(per=clients)")


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"first": jnp.arange(4)}, r"groups \['first', 'second'\], not \['first'\]"),
        (jnp.arange(4), r"groups .*, not int32\[4\]"),
        (
            {"first": jnp.arange(4), "second": jnp.arange(16)},
            r"17 unit numbers of group second, int32\[17\], not int32\[16\]",
        ),
        (
            {"first": jnp.ones(4), "second": jnp.arange(17)},
            r"4 unit numbers of group first, int32\[4\], not float32\[4\]",
        ),
    ],
)
def test_a_choice_of_ones_own_is_checked(kept, words):
    with pytest.raises(InputError, match=words):
        check_kept(kept, COUNTS)
