"""Tables and queries of one's own in SQLite, and what is refused."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing

import msgpack
import numpy as np
import pytest
from databases import assert_same, fedjax_database, tff_database

from fedjax_compress import registry
from fedjax_compress.errors import InputError

ROWS = 40


def build(path, options="", source="sqlite"):
    return registry.build("data", f"{source}('{path}'{options})")


def columns():
    rng = np.random.default_rng(6)
    return {
        "age": rng.integers(20, 80, ROWS),
        "income": rng.normal(size=ROWS),
        "kind": np.arange(ROWS) % 3,
        "owner": np.array(["zoe", "ann", "bob"])[np.arange(ROWS) // 15],
        "held": (np.arange(ROWS) % 5 == 0).astype(int),
        "weight": 0.5 + np.arange(ROWS) % 2,
    }


def save(path, tables):
    """Each table with a primary key besides its columns."""
    with closing(sqlite3.connect(path)) as database, database:
        for table, found in tables.items():
            names = ", ".join(f'"{name}"' for name in found)
            database.execute(
                f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY, {names})'
            )
            marks = ", ".join("?" * len(found))
            rows = zip(*(np.asarray(c).tolist() for c in found.values()), strict=True)
            database.executemany(
                f'INSERT INTO "{table}" ({names}) VALUES ({marks})', rows
            )
    return path


@pytest.fixture
def table(tmp_path):
    return save(tmp_path / "own.db", {"people": columns()})


@pytest.fixture
def wanted(tmp_path):
    """The same rows as arrays."""
    found = columns()
    found["x"] = np.stack([found["age"], found["income"]], axis=1)
    np.savez(tmp_path / "own.npz", **found)
    return tmp_path / "own.npz"


def test_a_table_gives_what_the_arrays_give(table, wanted):
    """All columns of numbers are features but the key and those with a meaning."""
    same = ", client=owner, test_column=held, weights=weight"
    found = build(table, f", label=kind{same}")
    assert found.task.shape == (2,)
    assert_same(found, build(wanted, f", features=x, labels=kind{same}", "npz"))
    found = build(table, ", label=kind, features=(age, income), client=owner")
    same = ", features=x, labels=kind, client=owner"
    assert_same(found, build(wanted, same, "npz"))
    by_class = build(wanted, ", features=x, labels=kind, holdout=0.2", "npz")
    options = ", table=people, label=kind, features='age, income', holdout=0.2"
    assert_same(build(table, options), by_class)


def test_a_query_and_a_second_file(tmp_path, table, wanted):
    half = {name: column[::2] for name, column in columns().items()}
    half["x"] = np.stack([half["age"], half["income"]], axis=1)
    del half["owner"]
    np.savez(tmp_path / "test.npz", **half)
    other = save(tmp_path / "test.db", {"people": half | {"x": half["age"]}})
    same = f", features=x, labels=kind, client=owner, test='{tmp_path}/test.npz'"
    found = build(
        table, f", label=kind, features=(age, income), client=owner, test='{other}'"
    )
    assert_same(found, build(wanted, same, "npz"))
    turned = {name: half[name] for name in ("x", *reversed(half)) if name != "x"}
    turned = {"more": half["age"]} | turned
    other = save(tmp_path / "turned.db", {"people": turned})
    found = build(table, f", label=kind, test='{other}'")
    whole = np.stack([half[n] for n in ("age", "income", "held", "weight")], axis=1)
    np.testing.assert_array_equal(found.test["features"], whole.astype(np.float32))
    query = "SELECT age, income, kind AS y, owner FROM people WHERE age >= 20"
    everything = build(table, f", query='{query}'")
    assert everything.own_clients == 0
    assert everything.task.shape == (2,)
    assert sum(len(p["labels"]) for p in (everything.train, everything.test)) == ROWS


def test_names_of_classes_numbers_and_pictures(tmp_path):
    rng = np.random.default_rng(0)
    pixels = {f"p{i}": rng.integers(0, 256, ROWS) for i in range(6)}
    kinds = np.array(["cat", "ape", "bee"])[np.arange(ROWS) % 3]
    path = save(tmp_path / "a.db", {"rows": pixels | {"kind": kinds}})
    found = build(path, ", label=kind, shape=(2, 3), holdout=0.25")
    assert found.task.shape == (2, 3, 1)
    assert found.task.scale == 255
    assert found.task.classes == 3
    whole = np.stack(list(pixels.values()), axis=1).reshape(ROWS, 2, 3)
    for part in (found.train, found.test):
        for x, y in zip(part["features"][..., 0], part["labels"], strict=True):
            (row,) = np.flatnonzero((whole == x).all((1, 2)))
            assert kinds[row] == ["ape", "bee", "cat"][y]
    number = build(path, ", label=p0, target=number")
    assert number.task.shape == (5,)
    assert number.train["labels"].dtype == np.float32
    one = build(path, ", label=kind, features=p3")
    assert one.task.shape == (1,)
    several = build(path, ", label=(p0, p1), target=number")
    assert several.task.classes == 2


def test_texts_of_a_table(tmp_path):
    found = {"line": ["a b", "c", "d", "e"], "who": [1, 1, 1, 7]}
    path = save(tmp_path / "a.db", {"rows": found})
    data = build(path, ", features=line, client=who, length=4")
    assert data.own_clients == 2
    assert (data.train["labels"] != 0).sum(1).tolist() == [4, 3, 2]
    assert data.test_clients.tolist() == [0]
    marked = save(tmp_path / "b.db", {"rows": found | {"late": [0, 0, 1, 0]}})
    data = build(marked, ", features=line, client=who, length=9, test_column=late")
    assert len(data.train["labels"]) == 2
    nobody = build(path, ", features=line, length=9")
    assert nobody.train_clients is None
    assert nobody.test_clients is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "own: say label=NAME; there are id, age, income, kind"),
        (", table=poeple, label=kind", "no table 'poeple'; did you mean 'people'"),
        (", label=knid", "has no 'knid'; did you mean 'kind'"),
        (", label=kind, client=ownr", "has no 'ownr'; did you mean 'owner'"),
        (", label=kind, features=(age, owner)", "go together only where each has one"),
        (", label=kind, test_column=owner", "must be true"),
        (", label=kind, test=x, test_column=held", "test or test_column, not both"),
        (", label=kind, split=train", "has no splits"),
        (", label=kind, test_split=test", "has no splits"),
        (", label=kind, shape=(3, 1)", "has 4 features, which are not"),
        (", label=kind, shape=(-4, -1)", "has 4 features, which are not"),
        (", query='SELECT agee FROM people'", "says: no such column: agee"),
        (", query='SELECT age, age FROM people'", "gives age twice; rename with AS"),
        (", query='SELECT 1; SELECT 2'", "one statement at a time"),
        (", query='PRAGMA query_only=0'", "must be a SELECT"),
        (", query='DROP TABLE people'", "attempt to write a readonly database"),
        (", query='SELECT * FROM people WHERE age < 0', label=kind", "own: no rows"),
        (
            ", query='SELECT nullif(age, age) AS a, kind FROM people', label=kind, "
            "features=a",
            "'a' is NULL in row 0; leave such rows out",
        ),
        (
            ", query='SELECT iif(id=3, NULL, age) AS a, kind FROM people', label=kind",
            "'a' is NULL in row 2; leave such rows out",
        ),
        (
            ", query='SELECT iif(id=3, char(63), age) AS a, kind FROM people', "
            "label=kind",
            r"'a' holds the text '\?' in row 2, numbers in others",
        ),
        (
            ", query='SELECT zeroblob(3) AS a, kind FROM people', label=kind, "
            "features=a",
            "'a' holds bytes in row 0",
        ),
        (
            ", query='SELECT age, kind, nullif(id, 2) AS who FROM people', label=kind, "
            "client=who",
            "must not be negative, but 1 are, the first in row 1",
        ),
        (
            ", query='SELECT age, kind, iif(id=1, id, owner) AS who FROM people', "
            "label=kind, client=who",
            "client ids in 'who' must be numbers in all rows, or texts",
        ),
    ],
)
def test_what_a_table_cannot_be_is_one_line(table, options, words):
    with pytest.raises(InputError, match=words) as caught:
        build(table, options)
    assert "\n" not in caught.value.reason


def test_several_tables_or_none(tmp_path):
    path = save(tmp_path / "a.db", {"one": columns(), "two": columns()})
    with pytest.raises(InputError, match=r"say table=NAME or query=.* are one, two"):
        build(path, ", label=kind")
    with closing(sqlite3.connect(tmp_path / "b.db")) as database, database:
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(InputError, match="the database has none"):
        build(tmp_path / "b.db")


def test_files_that_are_no_databases(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "cut.lzma").write_bytes(b"]\0\0\x80\0" + bytes(5))
    (tmp_path / "empty.db").write_bytes(b"")
    (tmp_path / "cut.db").write_bytes(b"SQLite format 3\0" + bytes(9))
    for name, words in {
        "a.npz": r"no SQLite database: it looks like .* \(\.npz\); read it with npz",
        "cut.lzma": "compressed by LZMA, but damaged or not whole",
        "empty.db": "no SQLite database: it is empty",
        "cut.db": "file is not a database",
        "none.db": "does not exist",
        ".": "is a folder",
    }.items():
        with pytest.raises(InputError, match=words):
            build(tmp_path / name)


def test_fedjax_databases_that_cannot_be_read(tmp_path):
    x = np.arange(6.0).reshape(3, 2)
    good = {"x": x, "y": np.arange(3)}
    path = fedjax_database(tmp_path / "a.db", {b"a": good, b"b": good})
    for options, words in {
        ", client=who": "says by itself whose a row is",
        ", split=train": "has no splits",
        ", label=z": "has no 'z'; known: x, y",
        ", features=xx": "has no 'xx'; did you mean 'x'",
    }.items():
        with pytest.raises(InputError, match=words):
            build(path, options)

    def spoiled(name, value):
        with closing(sqlite3.connect(path)) as database, database:
            where = "WHERE client_id = ?"
            database.execute(
                f"UPDATE federated_data SET {name} = ? {where}", (value, b"b")
            )

    def array(kind, buffer):
        data = msgpack.packb(((3,), kind, buffer))
        return zlib.compress(msgpack.packb({"x": msgpack.ExtType(1, data), "y": 1}))

    code = b"cos\nsystem\n(S'false'\ntR."
    for value, words in (
        (b"\0" * 9, "client 'b' are not what FedJAX writes.*decompressing"),
        (zlib.compress(b"\xc1"), "client 'b' are not what FedJAX writes"),
        (zlib.compress(msgpack.packb([1, 2])), "no columns by name"),
        (zlib.compress(msgpack.packb({"y": 1})), "client 'b' has no 'x'; others have"),
        (zlib.compress(msgpack.packb({"x": 1})), "'x' of client 'b' is no array"),
        (array("object", code), "an array of object"),
        (array("nothing", code), "data type 'nothing' not understood"),
        (array("float32", code[:5]), "buffer size must be a multiple"),
        (array("uint8", code), "cannot reshape array"),
    ):
        spoiled("data", value)
        with pytest.raises(InputError, match=words) as caught:
            build(path)
        assert "\n" not in caught.value.reason
    wide = fedjax_database(
        tmp_path / "b.db", {b"a": good, b"b": good | {"x": x[:, :1]}}
    )
    with pytest.raises(InputError, match=r"x of client 'b' holds float64 \(1,\)"):
        build(wide)
    path = fedjax_database(tmp_path / "c.db", {b"a": good, b"b": good})
    spoiled("num_examples", 5)
    with pytest.raises(InputError, match="6 rows, but 8 are announced"):
        build(path)


def test_tff_databases_that_cannot_be_read(tmp_path):
    def rows(split, **features):
        return [(split, "a", {"x": 1.0, "label": 1}), (split, "b", features)]

    def made(*found):
        path = tmp_path / "a.db"
        path.unlink(missing_ok=True)
        return tff_database(path, [row for part in found for row in part])

    good = {"x": 2.0, "label": 0}
    for found, options, words in (
        (
            [rows("a_train", **good), rows("b_train", **good)],
            "",
            "say split=NAME; there are a_train, b_train",
        ),
        ([rows("train", **good)], ", split=tain", "no split 'tain'; did you mean 't"),
        ([rows("train", **good)], ", test_split=x", "no split 'x'; known: train"),
        ([rows("train", label=1)], "", "split train: row 1 has no 'x'; others have"),
        (
            [rows("train", **good | {"x": [1.0, 2.0]})],
            "",
            r"of client 'b' holds .*\(2,",
        ),
        ([rows("train", **good | {"x": b"text"})], "", "of client 'b' holds object"),
        ([rows("train", **good | {"x": np.zeros(0)})], "", "'x' is empty in row 1"),
        ([rows("train", x=1)], ", features=label", "'label' in row 1|no 'label'"),
    ):
        with pytest.raises(InputError, match=words):
            build(made(*found), options)
    path = made([("train", "a", {"image": b"\x89PNG\r\n", "label": 1})])
    with pytest.raises(InputError, match="'image' holds pictures as files"):
        build(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE examples SET serialized_example_proto = x'0affff'")
    with pytest.raises(InputError, match="row 0 is no serialized"):
        build(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM examples")
    with pytest.raises(InputError, match="split train: no rows"):
        build(path)
