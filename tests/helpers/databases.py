"""Databases as FedJAX and TensorFlow Federated write them.

FedJAX 0.0.17, ``fedjax/core/sqlite_federated_data.py``: the table below; ``data`` is
zlib over ``core/serialization.py``, which is flax's msgpack (extension 1: shape, name
of the type, bytes) and, for arrays of bytes, extension 4: shape, list of bytes.

TensorFlow Federated, ``simulation/datasets/sql_client_data_utils.py``: the two tables
below; an example is a serialized ``tf.train.Example``, here of the message classes that
tensorflow-datasets keeps for use without TensorFlow.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from flax import serialization

from fedjax_compress.data import Dataset


def fedjax_database(path: Path, clients: Mapping[bytes, Mapping[str, np.ndarray]]):
    """The path of a database with one row a client."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE federated_data (client_id BLOB NOT NULL PRIMARY KEY, "
            "data BLOB NOT NULL, num_examples INTEGER NOT NULL)"
        )
        for client, columns in clients.items():
            count = len(next(iter(columns.values())))
            database.execute(
                "INSERT INTO federated_data VALUES (?, ?, ?)",
                (client, zlib.compress(packed(columns)), count),
            )
    return path


def packed(columns: Mapping[str, np.ndarray]) -> bytes:
    if not any(column.dtype == object for column in columns.values()):
        return serialization.msgpack_serialize(dict(columns))
    return msgpack.packb(dict(columns), default=_bytes_array, strict_types=True)


def _bytes_array(column: np.ndarray) -> msgpack.ExtType:
    whole = (column.shape, list(column.flatten()))
    return msgpack.ExtType(4, msgpack.packb(whole, use_bin_type=True))


def tff_database(path: Path, rows: Iterable[tuple[str, str, Mapping[str, Any]]]):
    """The path of a database with one row an example: split, client and features."""
    counts: dict[tuple[str, str], int] = {}
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL, "
            "serialized_example_proto BLOB NOT NULL)"
        )
        database.execute(
            "CREATE TABLE client_metadata (client_id TEXT NOT NULL, "
            "split_name TEXT NOT NULL, num_examples INTEGER NOT NULL)"
        )
        for split, client, features in rows:
            counts[client, split] = counts.get((client, split), 0) + 1
            row = split, client, example(features)
            database.execute("INSERT INTO examples VALUES (?, ?, ?)", row)
        for (client, split), count in counts.items():
            row = client, split, count
            database.execute("INSERT INTO client_metadata VALUES (?, ?, ?)", row)
    return path


def example(features: Mapping[str, Any]) -> bytes:
    """A serialized ``tf.train.Example``: texts, floats and whole numbers, flat."""
    from tensorflow_datasets.proto import tf_example_pb2

    message = tf_example_pb2.Example()
    for name, value in features.items():
        feature = message.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif np.asarray(value).dtype.kind == "f":
            feature.float_list.value.extend(np.ravel(value).tolist())
        else:
            feature.int64_list.value.extend(np.ravel(value).tolist())
    return message.SerializeToString()


def assert_same(found: Dataset, wanted: Dataset) -> None:
    """The same task, and the same rows of the same clients in both parts."""
    assert found.task == wanted.task
    for part in ("train", "test"):
        ours, theirs = getattr(found, part), getattr(wanted, part)
        assert set(ours) == set(theirs)
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name], theirs[name])
        ids, other = (getattr(x, f"{part}_clients") for x in (found, wanted))
        assert (ids is None) == (other is None)
        if ids is not None:
            np.testing.assert_array_equal(ids, other)
