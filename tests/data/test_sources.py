"""The sources that need no file, and those with a format of their own."""

from __future__ import annotations

import io
import json
import lzma

import numpy as np
import pytest
from PIL import Image

from fedjax_compress import registry
from fedjax_compress.data.characters import CHARACTERS, UNKNOWN, encode
from fedjax_compress.data.split import hold_out
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task


def build(text):
    return registry.build("data", text)


def test_hold_out_takes_the_same_share_of_every_group():
    groups = np.repeat([5, 2, 9], [10, 25, 100])
    held = hold_out(groups, 0.2)
    assert [held[groups == g].sum() for g in (5, 2, 9)] == [2, 5, 20]
    np.testing.assert_array_equal(held, hold_out(groups, 0.2))
    scattered = np.flatnonzero(held[35:])
    assert scattered.max() > 50 > scattered.min()


def test_hold_out_never_takes_the_last_row_and_rounds_up_in_all():
    assert not hold_out(np.arange(30), 0.5).any()
    assert hold_out(np.repeat(np.arange(10), 3), 0.1).sum() == 3
    assert hold_out(np.repeat(np.arange(10), 3), 0.1, least=1).sum() == 10
    for share in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            hold_out(np.arange(30), share)


def test_digits_hold_a_fifth_of_each_class_for_testing():
    data = build("digits")
    assert data.task == Task((8, 8, 1), 10)
    assert data.train["features"].shape == (1437, 8, 8, 1)
    assert data.test["features"].shape == (360, 8, 8, 1)
    assert data.train["features"].dtype == np.float32
    assert data.train["features"].min() == 0
    assert data.train["features"].max() == 1
    total = np.bincount(np.concatenate([data.train["labels"], data.test["labels"]]))
    # class counts of the UCI test part
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (abs(np.bincount(data.test["labels"]) - total / 5) < 1).all()
    assert data.train_clients is None


def test_digits_train_and_test_are_the_whole_set_once():
    from sklearn.datasets import load_digits

    data = build("digits")
    both = np.concatenate([data.train["features"], data.test["features"]]).reshape(
        -1, 64
    )
    whole = (load_digits().data / 16).astype(np.float32)
    np.testing.assert_array_equal(both[np.lexsort(both.T)], whole[np.lexsort(whole.T)])


def test_digits_are_the_same_in_every_run():
    np.random.seed(1)
    first = build("digits").test["features"]
    np.random.seed(2)
    np.testing.assert_array_equal(first, build("digits").test["features"])


def test_synthetic_sizes_and_parts():
    data = build("synthetic(clients=50)")
    train = np.bincount(data.train_clients, minlength=50)
    test = np.bincount(data.test_clients, minlength=50)
    assert data.own_clients == 50
    assert data.task == Task((60,), 10)
    assert (train + test).min() >= 50  # 50 + floor(lognormal)
    assert test.min() >= 5
    assert abs(test.sum() / (train + test).sum() - 0.1) < 0.01
    fixed = build("synthetic(clients=7, rows=20, dimension=3, classes=4)")
    assert (np.bincount(fixed.train_clients) == 18).all()
    assert (np.bincount(fixed.test_clients) == 2).all()
    assert fixed.train["features"].shape == (126, 3)


def test_synthetic_sizes_are_lognormal():
    """Median of floor(lognormal(4, 2)) + 50 is 50 + 54: of 1,000 clients the number
    below it is binomial(1000, 1/2), sd 15.8, plus the 1 % that sit on the median."""
    data = build("synthetic(clients=1000, dimension=1)")
    sizes = np.bincount(data.train_clients) + np.bincount(data.test_clients)
    assert abs((sizes < 104).sum() - 500) < 6 * 15.8 + 10
    assert sizes.max() > 2000


def test_synthetic_features_have_the_law_of_the_paper():
    """500 clients of 200 rows, beta = 2. Within a client feature i has variance
    i^-1.2; the centre of a client's features has variance 1 + beta^2 over clients."""
    data = build("synthetic(1, 2, clients=500, rows=200, dimension=8)")
    x = np.concatenate([data.train["features"], data.test["features"]])
    owner = np.concatenate([data.train_clients, data.test_clients])
    x = x[np.argsort(owner, kind="stable")].reshape(500, 200, 8).astype(np.float64)
    centre = x.mean(1)
    within = x.var(1, ddof=1).mean(0)
    theory = np.arange(1, 9) ** -1.2
    # relative standard error of a pooled variance with 99,500 degrees: 0.0045
    assert (abs(within / theory - 1) < 6 * 0.0045).all()
    # relative standard error of a variance over 500 clients: 0.063
    assert (abs(centre.var(0, ddof=1) / (5 + theory / 200) - 1) < 6 * 0.064).all()
    # features of one client share B_k: covariance beta^2 = 4, standard error 0.29
    assert abs(np.cov(centre[:, 6], centre[:, 7])[0, 1] - 4) < 6 * 0.3


def test_synthetic_alpha_and_beta_make_clients_differ():
    """With alpha = beta = 0 clients share nothing but the law; the spread over
    clients of the mean feature grows with beta. And labels follow a linear teacher:
    a least-squares fit within one client beats the most frequent label."""
    calm, wild = build("synthetic(0, 0)"), build("synthetic(0, 5)")
    spread = []
    for data in (calm, wild):
        means = [
            data.train["features"][data.train_clients == k].mean() for k in range(30)
        ]
        spread.append(np.std(means))
    assert spread[1] > 10 * spread[0]
    data = build("synthetic(0, 0, clients=1, rows=2000)")
    x = np.c_[data.train["features"], np.ones(len(data.train["labels"]))]
    fit = np.linalg.lstsq(x, np.eye(10)[data.train["labels"]], rcond=None)[0]
    right = (np.argmax(x @ fit, 1) == data.train["labels"]).mean()
    assert right > np.bincount(data.train["labels"]).max() / len(x) + 0.1


def test_synthetic_follows_its_own_seed_only():
    a, b = build("synthetic(clients=5)"), build("synthetic(clients=5)")
    np.testing.assert_array_equal(a.train["features"], b.train["features"])
    c = build("synthetic(clients=5, seed=1)")
    assert c.train["features"].shape != a.train["features"].shape


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("synthetic(alpha=-1)", "alpha and beta must be 0 or more"),
        ("synthetic(rows=1)", "rows must be 0 or at least 2"),
        ("synthetic(clients=0)", "needs clients >= 1"),
        ("synthetic(holdout=1.5)", "between 0 and 1"),
        ("digitz", "did you mean 'digits'"),
        ("text('no/such/file.json')", "does not exist"),
        ("cifar10('no/such/folder')", "does not exist"),
        ("cifar10('.', batches=6)", "batches must be 1 to 5"),
        ("cifar10('.')", "train_1.npz' does not exist"),
    ],
)
def test_what_cannot_be_built_is_refused(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        build(text)
    assert "\n" not in error.value.reason


# Text by role


@pytest.fixture
def roles(tmp_path):
    def write(speeches, name="roles.json.xz"):
        path = tmp_path / name
        users = [f"play/ROLE {i}" for i in range(len(speeches))]
        opener = lzma.open if name.endswith("xz") else open
        with opener(path, "wt", encoding="utf-8") as stream:
            json.dump({"users": users, "speeches": speeches}, stream)
        return path

    return write


def test_the_vocabulary_has_86_characters_and_90_symbols():
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 86
    assert UNKNOWN == 89
    np.testing.assert_array_equal(encode(CHARACTERS), np.arange(3, 89))
    np.testing.assert_array_equal(encode("\té~😀"), [89] * 4)


def test_speeches_are_joined_and_cut_with_the_next_symbol_as_label(roles):
    """By hand: begin A B C D end begin E end, cut to 3; the third speech is kept."""
    path = roles([["ABCD", "E", "FF"]])
    data = build(f"text('{path}', length=3, holdout=0.34)")
    a, b, c, d, e, f = encode("ABCDEF")
    assert data.train["features"].tolist() == [[1, a, b], [c, d, 2], [1, e, 0]]
    assert data.train["labels"].tolist() == [[a, b, c], [d, 2, 1], [e, 2, 0]]
    assert data.test["features"].tolist() == [[1, f, f]]
    assert data.test["labels"].tolist() == [[f, f, 2]]
    assert data.task == Task((3,), 90, tokens=True)


def test_roles_are_clients_and_the_last_speeches_are_held_out(roles):
    path = roles([["one"], [], ["x" * 200, "y"], ["s"] * 20], name="roles.json")
    data = build(f"text('{path}', holdout=0.2)")
    assert data.own_clients == 3  # the silent one is none
    assert np.bincount(data.train_clients).tolist() == [1, 3, 1]
    assert data.test_clients.tolist() == [1, 2]  # a single speech is for training
    assert (data.test["labels"][0] != 0).sum() == 2  # y, end
    assert (data.test["labels"][1] != 0).sum() == 4 * 3 - 1  # a fifth of 20 speeches


def test_text_of_another_form_is_refused(tmp_path):
    for name, content in {"a.json": "{", "b.json": "[]", "c.json.xz": "{}"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="is not JSON with 'users'"):
            build(f"text('{tmp_path / name}')")
    (tmp_path / "d.json").write_text('{"users": [], "speeches": []}')
    with pytest.raises(InputError, match="nobody says anything"):
        build(f"text('{tmp_path / 'd.json'}')")


# CIFAR-10 strips


def write_strips(path, images, labels, per_strip):
    blobs = []
    for start in range(0, len(images), per_strip):
        strip = images[start : start + per_strip].reshape(-1, 32, 3)
        buffer = io.BytesIO()
        Image.fromarray(strip).save(buffer, "WEBP", lossless=True)
        blobs.append(np.frombuffer(buffer.getvalue(), np.uint8))
    np.savez(
        path,
        webp=np.concatenate(blobs),
        ends=np.cumsum([len(b) for b in blobs]),
        labels=labels,
    )


def test_cifar_strips_decode_to_the_pixels_that_went_in(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (14, 32, 32, 3), np.uint8)
    labels = np.arange(14, dtype=np.uint8) % 10
    for i, part in enumerate(np.split(np.arange(10), 5)):
        write_strips(tmp_path / f"train_{i + 1}.npz", images[part], labels[part], 1)
    write_strips(tmp_path / "test.npz", images[10:], labels[10:], 3)
    data = build(f"cifar10('{tmp_path}')")
    np.testing.assert_array_equal(data.train["features"], images[:10])
    np.testing.assert_array_equal(data.test["features"], images[10:])
    np.testing.assert_array_equal(data.train["labels"], labels[:10])
    assert data.task == Task((32, 32, 3), 10)
    two = build(f"cifar10('{tmp_path}', batches=2)")
    np.testing.assert_array_equal(two.train["features"], images[:4])


def test_a_strip_that_is_no_image_is_named(tmp_path):
    np.savez(
        tmp_path / "train_1.npz",
        webp=np.zeros(8, np.uint8),
        ends=np.array([8]),
        labels=np.zeros(1, np.uint8),
    )
    with pytest.raises(InputError, match=r"train_1\.npz: strip 0 is no image"):
        build(f"cifar10('{tmp_path}', batches=1)")
