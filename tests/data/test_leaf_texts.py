"""LEAF's texts: windows and what follows them (Shakespeare), posts (Sent140)."""

from __future__ import annotations

import numpy as np
import pytest
from alike import assert_alike
from leaf_json import dump_parts

from fedjax_compress import data as datasets
from fedjax_compress import models, registry
from fedjax_compress.data.characters import CHARACTERS, SYMBOLS, UNKNOWN
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, run

LINES = {
    "HAMLET_HAMLET": "To be, or not to be: that is the question.",
    "HAMLET_OPHELIA": "Good my lord, how does your honour?",
    "MACBETH_BANQUO": "This guest of summer > }",
}


def build(path, options=""):
    return registry.build("data", f"leaf('{path}'{options})")


def windows(line, length=12):
    """As LEAF's script: spaces before a line, and a window moved by one character."""
    line = " " * length + line
    spots = range(len(line) - length)
    return [line[i : i + length] for i in spots], [line[i + length] for i in spots]


@pytest.fixture
def shakespeare(tmp_path):
    users = {name: windows(line) for name, line in LINES.items()}
    return dump_parts(users, users, tmp_path / "shakespeare" / "data")


def read(symbols):
    """The text that symbols stand for."""
    return "".join("?" if s == UNKNOWN else CHARACTERS[s - 3] for s in symbols)


def test_a_window_and_what_follows(shakespeare, tmp_path):
    data = build(shakespeare)
    assert data.name == "shakespeare"
    assert data.task.shape == (12,)
    assert data.task.classes == SYMBOLS == 90
    assert data.task.predicts == "positions"
    features, labels = data.train["features"], data.train["labels"]
    assert not labels[:, :-1].any()
    for owner, line in enumerate(LINES.values()):
        rows = data.train_clients == owner
        said = line.replace(">", "?").replace("}", "?")
        assert read(labels[rows, -1]) == said
        assert read(features[rows][0]) == " " * 12
        assert read(features[rows][-1]) == said[-13:-1]
    np.savez(
        tmp_path / "rows.npz", images=features, labels=labels,
        owner=np.array(list(LINES))[data.train_clients],
    )  # fmt: skip
    path = f"{tmp_path}/rows.npz"
    other = f"npz('{path}', test='{path}', client=owner, tokens=true, classes=90)"
    assert_alike(data, registry.build("data", other))


@pytest.mark.parametrize(
    "model",
    ["char_lstm(hidden=4, layers=1)", "transformer_lm(width=4, layers=1, heads=1)"],
)
def test_only_what_follows_is_scored(shakespeare, model):
    """Each row counts once; the loss is that of its last outputs."""
    import jax

    data = build(shakespeare)
    made = registry.build("model", model, data.task)
    params = made.init(jax.random.key(0))
    columns = {name: x[:7] for name, x in data.train.items()}
    outputs = np.asarray(made.apply(params, columns, None))
    losses, weights = made.losses(outputs, columns)
    last = outputs[:, -1].astype(np.float64)
    right = last[np.arange(7), columns["labels"][:, -1]]
    wanted = np.log(np.exp(last).sum(1)) - right
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    assert weights.tolist() == [1.0] * 7


def test_windows_are_not_held_out(shakespeare):
    (shakespeare / "train").rename(shakespeare / "all_data")
    for file in (shakespeare / "test").iterdir():
        file.unlink()
    with pytest.raises(
        InputError, match=r"windows of text overlap.*-t sample"
    ) as caught:
        build(shakespeare)
    assert "\n" not in caught.value.reason


def test_a_classifier_is_refused(shakespeare):
    with pytest.raises(InputError, match="but the target is positions"):
        models.text_classifier(build(shakespeare).task, 90)


POSTS = {
    "anna": ["so happy today :-)", "meh"],
    "bert": ["", "caf\u00e9 \U0001f600!"],
    "carl": ["x" * 200],
}


def posts(happy=1):
    return {
        name: (
            [["17", "Mon May 11", "NO_QUERY", name, text] for text in texts],
            [happy * (len(text) % 2) for text in texts],
        )
        for name, texts in POSTS.items()
    }


@pytest.fixture
def sent140(tmp_path):
    return dump_parts(posts(), posts(), tmp_path / "sent140")


def test_characters_of_posts(sent140, tmp_path):
    data = build(sent140, ", length=20")
    assert data.task.shape == (20,)
    assert data.task.predicts == "class"
    assert data.task.classes == 2
    rows = data.train["features"]
    assert read(rows[0][:18]) == POSTS["anna"][0]
    assert rows[0][18:].tolist() == [0, 0]
    assert not rows[2].any()
    assert read(rows[3][:7]) == "caf? ?!"
    assert rows[3][7] == 0
    assert read(rows[4]) == "x" * 20
    assert data.train["labels"].tolist() == [0, 1, 0, 1, 0]
    owner = np.repeat(list(POSTS), [2, 2, 1])
    np.savez(
        tmp_path / "rows.npz", images=rows, labels=data.train["labels"], owner=owner
    )
    path = f"{tmp_path}/rows.npz"
    other = f"npz('{path}', test='{path}', client=owner, tokens=true, target=class)"
    assert_alike(data, registry.build("data", other))
    assert build(sent140).task.shape == (140,)


def test_moods_of_the_original_file(sent140, tmp_path):
    """There a happy post is a 4."""
    other = dump_parts(posts(happy=4), posts(happy=4), tmp_path / "raw")
    assert_alike(build(other), build(sent140))


def test_half_a_pair_of_a_character_is_unknown(tmp_path):
    users = {"a": ([["1", "2", "3", "a", "\ud83d!"]], [1])}
    data = build(dump_parts(users | posts(), posts(), tmp_path))
    assert read(data.train["features"][0][:2]) == "?!"
    assert not data.train["features"][0][2:].any()


@pytest.mark.parametrize(
    ("users", "words"),
    [
        (
            {"a": (["ab", "abc"], ["c", "d"])},
            "one length, but 'abc' has 3 .*first one 2",
        ),
        ({"a": (["ab", "bc"], ["c", "de"])}, "must be the next character, not 'de'"),
        ({"a": (["ab", "bc"], ["c", 1])}, "must be the next character, not 1"),
        ({"a": (["ab", 3], ["c", "d"])}, "x of user 'a' must be texts, all of them"),
        ({"a": ([""], ["c"])}, "must be of one length"),
        (
            {"a": ([["1", "2", "3", "a", "b"], ["1"]], [0, 1])},
            "a post of user 'a' is no",
        ),
        (
            {"a": ([["1", "2", "3", "a", "b"]], ["sad"])},
            "y of user 'a' must be numbers",
        ),
        ({"a": ([["1", "2", "3"]], [1])}, "x of user 'a' is not what leaf reads"),
    ],
)
def test_texts_that_cannot_be_used_are_one_line(tmp_path, users, words):
    dump_parts(users, users, tmp_path)
    for part in ("train", "test"):  # the other shard is empty
        (tmp_path / part / f"all_data_0_niid_1_keep_0_{part}_9.json").unlink()
    with pytest.raises(InputError, match=words) as caught:
        build(tmp_path)
    assert "\n" not in caught.value.reason


def test_no_length(sent140):
    with pytest.raises(InputError, match="length must be at least 1, not 0"):
        datasets.leaf(str(sent140), length=0)


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("shakespeare", "char_lstm(hidden=4, layers=1)"),
        ("sent140", "text_classifier(symbols=90, width=4, layers=0)"),
    ],
)
def test_a_run_by_user(request, tmp_path, source, model):
    config = Config(
        data=f"leaf(path='{request.getfixturevalue(source)}')",
        partition="natural",
        cohort=2,
        rounds=2,
        model=model,
        local="sgd(lr=0.1, steps=1, batch=2)",
        uplink="identity",
        downlink="identity",
    )
    assert run(config, tmp_path / "run", quiet=True)["clients"] == 3
