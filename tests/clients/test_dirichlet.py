"""The three Dirichlet forms against their theory.

For shares p ~ Dir(a_1 .. a_K) with sum A and a quota of n rows, the count of class k
is Dirichlet-multinomial: mean n q and variance n q (1 - q) (n + A) / (1 + A) with
q = a_k / A. The statistic of a client is the sum over classes of (count - n q)^2.
Its mean over independent clients is compared with theory by a t statistic;
|t| < 6 has a false-alarm rate below 1e-7 at 400 clients.
"""

from __future__ import annotations

import numpy as np
import pytest
from rows import changed

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

CLASSES = 10


def assign(text, data, clients, seed=0):
    return registry.build("partition", text)(data, clients, np.random.default_rng(seed))


def counts_by_client(assignment, labels, clients, classes=CLASSES):
    table = np.zeros((clients, classes), int)
    np.add.at(table, (assignment, labels), 1)
    return table


def t_statistic(counts, share, total):
    """How many standard errors the mean squared deviation is from theory."""
    n = counts.sum(1)[0]
    squares = ((counts - n * share) ** 2).sum(1)
    expected = (n * share * (1 - share)).sum() * (n + total) / (1 + total)
    return (squares.mean() - expected) / (squares.std() / np.sqrt(len(squares)))


@pytest.mark.parametrize("alpha", [0.1, 0.5, 5.0])
def test_flower_draws_alpha_for_every_class(make, alpha):
    """400 of 4,000 clients of 25 rows: they take a tenth of the stock, as much as one
    class holds, so no class can run out and their draws are independent."""
    data = make(100_000)
    got = assign(f"dirichlet(alpha={alpha})", data, 4000)
    counts = counts_by_client(got, data.train["labels"], 4000)[:400]
    share = np.full(CLASSES, 0.1)
    assert abs(t_statistic(counts, share, CLASSES * alpha)) < 6
    # and the statistic does tell the forms apart
    if alpha < 1:
        assert abs(t_statistic(counts, share, alpha)) > 6


@pytest.mark.parametrize("alpha", [0.1, 0.5, 5.0])
def test_prior_draws_alpha_times_the_class_frequencies(make, alpha):
    """Class frequencies 1 : 2 : 3 : 4; 400 of 4,000 clients, as above."""
    data = make(labels=np.repeat([0, 1, 2, 3], np.arange(1, 5) * 10_000), classes=4)
    got = assign(f"dirichlet(alpha={alpha}, form=prior)", data, 4000)
    counts = counts_by_client(got, data.train["labels"], 4000, 4)[:400]
    share = np.arange(1, 5) / 10
    assert abs(t_statistic(counts, share, alpha)) < 6
    assert abs(t_statistic(counts, share, 4 * alpha)) > 6
    # Mean of each class: standard error from the same draws, six of them.
    error = counts.std(0) / np.sqrt(400)
    assert (abs(counts.mean(0) - 25 * share) < 6 * error).all()


def test_rejection_cuts_each_class_over_the_clients(make):
    """The first class is cut before anybody is full: its shares over C = 10 clients
    are Dir(alpha 1). Sum of squared deviations from 1/C has mean (1 - 1/C) / (C alpha
    + 1); 400 draws, |t| < 6; cutting whole rows out of 20,000 moves a share by 5e-5."""
    alpha, clients = 1.0, 10
    data = make(labels=np.repeat([0, 1], 20_000), classes=2)
    sums = np.empty(400)
    for i in range(400):
        text = f"dirichlet(alpha={alpha}, form=rejection, min_size=1)"
        got = assign(text, data, clients, seed=i)
        share = np.bincount(got[:20_000], minlength=clients) / 20_000
        sums[i] = ((share - 1 / clients) ** 2).sum()
    expected = (1 - 1 / clients) / (clients * alpha + 1)
    assert abs(sums.mean() - expected) < 6 * sums.std() / np.sqrt(400) + 1e-4


def test_rejection_gives_nothing_more_to_a_client_that_is_full(make):
    """A client with rows / clients or more after some classes gets none of the later
    ones, so before its last class every client had less than that."""
    data = make(2000)
    got = assign("dirichlet(alpha=0.3, form=rejection, min_size=5)", data, 10)
    table = counts_by_client(got, data.train["labels"], 10)
    assert table.sum(1).min() >= 5
    assert len(set(table.sum(1))) > 1  # unequal sizes, unlike the other forms
    for row in table:
        last = np.flatnonzero(row)[-1]
        assert row[:last].sum() < 200


def test_rejection_gives_up_in_one_line(make):
    text = "dirichlet(alpha=0.1, form=rejection, attempts=3)"
    with pytest.raises(InputError, match=r"none of 3 draws .* 10 rows") as error:
        assign(text, make(1437), 100)
    assert "\n" not in str(error.value)
    assert "lower min_size (10) or clients" in str(error.value)
    with pytest.raises(InputError, match="100 clients of 10 rows need 1000"):
        assign("dirichlet(form=rejection)", make(999), 100)


@pytest.mark.parametrize("form", ["flower", "prior"])
@pytest.mark.parametrize(("rows", "clients"), [(5000, 10), (1437, 100), (613, 50)])
def test_every_client_gets_exactly_its_quota(make, form, rows, clients):
    for alpha in (0.001, 0.5, 100.0):
        got = assign(f"dirichlet(alpha={alpha}, form={form})", make(rows), clients)
        quota = [len(range(j, rows, clients)) for j in range(clients)]
        np.testing.assert_array_equal(np.bincount(got), quota)


def test_a_small_alpha_gives_the_first_clients_one_class(make):
    """alpha = 1e-4: the largest share is 1 - O(1e-3) with overwhelming probability,
    and the first ten of a hundred clients cannot exhaust a class twice over."""
    data = make(10_000)
    table = counts_by_client(
        assign("dirichlet(alpha=0.0001)", data, 100), data.train["labels"], 100
    )
    assert (table[:10].max(1) >= 98).all()


def test_an_exhausted_class_drops_out_and_the_rest_goes_on(make):
    """Two classes, 10 and 90 rows, equal shares: the rare class is gone after about
    two clients of ten; that any is left after eight has probability below 1e-15."""
    data = make(labels=np.repeat([0, 1], [10, 90]), classes=2)
    table = counts_by_client(
        assign("dirichlet(alpha=inf)", data, 10), data.train["labels"], 10, 2
    )
    assert table.sum() == 100
    np.testing.assert_array_equal(table[8:], [[0, 10], [0, 10]])
    assert table[0, 0] > 0


def test_flower_spreads_what_its_favourite_lacks_evenly(make):
    """Every class in stock has 1e-5 on top of its share. With alpha = 1e-6 a client
    wants one class alone. Where the first client wants the class of 5 rows, its other
    45 rows are a fair draw from the two other classes, whatever their stock (60 and
    435): binomial over the pooled draws, six standard deviations, 2e-9."""
    data = make(labels=np.repeat([0, 1, 2], [5, 60, 435]), classes=3)
    small, draws = 0, 0
    for seed in range(90):
        got = assign("dirichlet(alpha=0.000001)", data, 10, seed)
        first = counts_by_client(got, data.train["labels"], 10, 3)[0]
        if first[0] == 5:
            small, draws = small + first[1], draws + 45
    assert draws >= 10 * 45
    assert abs(small - draws / 2) < 6 * np.sqrt(draws) / 2


def test_infinite_alpha_is_the_overall_mix_for_prior(make):
    """Multinomial with q = 0.1 and 0.9, n = 100: sd 3, six of them, 100 clients;
    false alarm below 1e-6 (the binomial tail is 4e-8 a client at most)."""
    data = make(labels=np.repeat([0, 1], [4000, 36_000]), classes=2)
    table = counts_by_client(
        assign("dirichlet(alpha=inf, form=prior)", data, 400),
        data.train["labels"],
        400,
        2,
    )
    assert (abs(table[:100, 0] - 10) <= 20).all()


def test_a_class_without_rows_is_no_obstacle(make):
    labels = np.where(np.arange(600) % 2, 3, 7)
    for form in ("flower", "prior", "rejection"):
        got = assign(f"dirichlet(form={form}, min_size=1)", make(labels=labels), 6)
        assert len(np.unique(got)) == 6


def test_text_has_no_single_label(make):
    data = make(60)
    labels = np.zeros((60, 4), np.int32)
    task = Task((4,), 10, target="positions")
    data = changed(data, task=task, train_labels=labels)
    with pytest.raises(InputError, match="dirichlet needs one label a row"):
        assign("dirichlet", data, 5)


@pytest.mark.parametrize("form", ["flower", "prior"])
@pytest.mark.parametrize("sizes", ["quantity(sigma=1.5)", "quantity(alpha=0.4)", "iid"])
def test_sizes_are_those_of_another_partition(make, form, sizes):
    """The other partition draws first, so with the same seed it gives these sizes."""
    data = make(1437)
    got = assign(f"dirichlet(alpha=0.1, form={form}, sizes={sizes})", data, 50)
    wanted = np.bincount(assign(sizes, data, 50))
    np.testing.assert_array_equal(np.bincount(got), wanted)
    quoted = assign(f"dirichlet(alpha=0.1, form={form}, sizes='{sizes}')", data, 50)
    np.testing.assert_array_equal(got, quoted)


def test_unequal_sizes_leave_the_skew_of_labels(make):
    """alpha = 1e-4, as above: the first clients have one class, whatever their size."""
    data = make(10_000)
    got = assign("dirichlet(alpha=0.0001, sizes=quantity(sigma=1.0))", data, 100)
    table = counts_by_client(got, data.train["labels"], 100)
    assert table.sum(1).max() > 3 * table.sum(1).min()
    assert (table[:5].max(1) >= 0.98 * table[:5].sum(1)).all()


def test_sizes_that_leave_rows_are_refused(make):
    data = make(600, clients=(np.arange(600) // 50).astype(np.int32))
    got = assign("dirichlet(sizes=natural)", data, 12)
    assert (np.bincount(got) == 50).all()
    with pytest.raises(InputError) as error:
        assign("dirichlet(sizes=natural)", data, 5)
    assert str(error.value) == (
        "sizes=natural leaves 350 of 600 rows to nobody; take a partition that deals "
        "them all, such as quantity"
    )
