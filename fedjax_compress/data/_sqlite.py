"""Databases: of FedJAX, of TensorFlow Federated, and tables of one's own."""

from __future__ import annotations

import sqlite3
from typing import Literal, NamedTuple

from fedjax_compress import registry
from fedjax_compress.data.building import Names, Said, TargetOption, further
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.parts import name_of
from fedjax_compress.data.scaling import Scale
from fedjax_compress.data.stores import fedjax, tff
from fedjax_compress.data.stores.database import opened, tables_of
from fedjax_compress.data.stores.found import Found, How, like, of_store
from fedjax_compress.data.stores.made import made
from fedjax_compress.data.stores.table import table_rows
from fedjax_compress.errors import InputError


@registry.register("data")
def sqlite(
    path: str,
    features: Names = (),
    label: Names = (),
    client: str = "",
    table: str = "",
    query: str = "",
    split: str = "",
    test_split: str = "",
    test: str = "",
    test_column: str = "",
    same_clients: bool = True,
    holdout: float = 0.1,
    shape: tuple[int, ...] = (),
    length: int = 80,
    classes: int = 0,
    tokens: bool = False,
    invert: bool = False,
    scale: Scale = "auto",
    target: TargetOption = "auto",
    lengths: str = "",
    label_lengths: str = "",
    weights: str = "",
    inputs: Names = (),
) -> Dataset:
    """SQLite databases: FedJAX's, TensorFlow Federated's, and tables of your own.

    FedJAX's have a table ``federated_data`` with one row a client, TensorFlow
    Federated's the tables ``examples``, with one row an example, and
    ``client_metadata``; both know whose a row is. From any other database one table or
    query is read, its columns as features. The file is opened to be read only. One that
    is compressed by LZMA, as TensorFlow Federated's are published, is unpacked into a
    temporary folder each time; unpack it once to start faster.

    Texts without a label, as Shakespeare's ``snippets``, are sequences of characters
    whose label is the next one, as ``text`` makes them; texts with a label are rows of
    their first characters. Labels that are texts are classes, in sorted order, or,
    where all are whole numbers, those numbers.

    Args:
      path: the database.
      features: columns to learn from. Empty takes pixels, image, images, x, features or
        snippets, whichever there is; of a table of your own all columns of numbers that
        have no other meaning and are not its primary key. Several columns of one number
        a row go together.
      label: column, or columns, to predict; empty takes label, labels, y or
        coarse_label.
      client: of a table of your own, the column of client ids (numbers or names, in any
        order); empty if there is none.
      table: a table of your own, or a view; empty for the only one there is.
      query: a SELECT instead of a table.
      split: of TensorFlow Federated, the split to train on; empty for the only one
        whose name ends in ``train``, or the only one.
      test_split: likewise, the split to test on; empty for the one that is called like
        that to train on, but ``test``, or else a held-out share.
      test: a second database with the test rows, as FedJAX has one for each split.
      test_column: of a table of your own, a column that is 1 for test rows and 0 for
        the others.
      same_clients: whether an id is that of the same client in both parts; false for
        TensorFlow Federated's CIFAR-100, whose test clients are others.
      holdout: share held out where there is no test part: of every client, or else of
        every class; of texts the last ones of every client.
      shape: of one example's features, as in (32, 32, 3); empty for how they are
        stored. The lists of TensorFlow Federated have no shape: those called pixels,
        image or images are square, grey or RGB, where that is possible.
      length: characters in a sequence, where features are texts.
      classes: number of classes, or of numbers that are predicted; 0 takes one more
        than the largest label, or what labels have in a row.
      tokens: whether features are integer tokens, 0 being the padding.
      invert: 255 - x for uint8 pixels, 1 - x for floats in 0..1, as for the black ink
        on white paper of federated EMNIST.
      scale: what divides the features before a network reads them: a number, none, or
        auto: 255 for pictures of whole numbers up to 255, which are pixels, else none.
      target: what labels hold: class, positions, several, number, sequence or auto, as
        for npz.
      lengths: column that says how many positions, or frames, of a row are real.
      label_lengths: column that says how many symbols of a sequence are real.
      weights: column that says what each row counts for.
      inputs: further columns that a model of your own reads.

    Raises:
      InputError: missing file, table, split or column, or rows that cannot be used; see
        ``check``.

    Reference: FedJAX 0.0.17, ``SQLiteFederatedData`` and ``core.serialization``;
    TensorFlow Federated, ``tff.simulation.datasets.SqlClientData`` and
    ``save_to_sql_client_data``; protobuf's encoding of ``tf.train.Example``.

    Deviations: whole numbers in TensorFlow Federated's pictures are uint8 where all
    fit; pictures are not inverted unless it is said, as FedJAX's ``load_data`` does.
    """
    if test and test_column:
        raise InputError("give test or test_column, not both")
    said = Said(target, classes, tokens, scale)
    more = further(lengths, label_lengths, weights, inputs)
    how = How(features, label, more, said, holdout, shape, length, invert, same_clients)
    own = _Own(client, table, query, test_column)
    with opened(path) as connection:
        first = _part(connection, path, own, split, "train", how)
        name = "" if test else _test_split(connection, own, split, test_split)
        second = None
        if name:
            second = _part(connection, path, own, name, "test", like(how, first))
    if test:
        with opened(test) as connection:
            second = _part(connection, test, own, test_split, "test", like(how, first))
    return made(name_of(path), first, second, how)


class _Own(NamedTuple):
    """What is said of a table of one's own."""

    client: str
    table: str
    query: str
    marks: str


def _part(
    connection: sqlite3.Connection,
    path: str,
    own: _Own,
    split: str,
    part: Literal["train", "test"],
    how: How,
) -> Found:
    """The rows of one part.

    Raises:
      InputError: options that this kind of database does not have, or rows that cannot
        be used.
    """
    where, kind = name_of(path), _kind(connection, own)
    if kind != "tff" and split:
        raise InputError(
            f"{path} has no splits; split and test_split are for databases of "
            "TensorFlow Federated"
        )
    if kind == "own":
        is_test = part == "test"
        marks = "" if is_test else own.marks
        ask = own.table, own.query, own.client, marks
        return table_rows(connection, where, *ask, how, needed=not is_test)
    if own.client or own.marks:
        raise InputError(
            f"{path} says by itself whose a row is; client and test_column are for a "
            "table of your own, named by table or query"
        )
    if kind == "fedjax":
        return of_store(fedjax.clients(connection, where), how)
    name = tff.one_split(tff.splits(connection), split, part, where)
    return of_store(tff.examples(connection, where, name), how)


def _test_split(
    connection: sqlite3.Connection, own: _Own, split: str, test_split: str
) -> str:
    """The split to test on, if there is one."""
    if test_split or _kind(connection, own) != "tff":
        return test_split
    names = tff.splits(connection)
    return tff.paired(names, tff.one_split(names, split, "train", ""))


def _kind(connection: sqlite3.Connection, own: _Own) -> Literal["own", "fedjax", "tff"]:
    """Who has written the database; a table or query that is named is one's own."""
    if own.table or own.query:
        return "own"
    there = tables_of(connection)

    def has(tables: dict[str, set[str]]) -> bool:
        return all(columns <= set(there.get(t, ())) for t, columns in tables.items())

    if has(tff.TABLES):
        return "tff"
    return "fedjax" if has(fedjax.TABLES) else "own"
