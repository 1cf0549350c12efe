"""Serialized ``tf.train.Example`` messages, written by protobuf, read without it."""

from __future__ import annotations

import numpy as np
import pytest
from databases import example
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from fedjax_compress.data.stores.example import features_of

NUMBERS = [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)]


def test_what_protobuf_writes_is_read():
    floats = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    found = features_of(
        example({"whole": NUMBERS, "floats": floats, "text": b"\xff\0hello", "one": 7})
    )
    assert set(found) == {"whole", "floats", "text", "one"}
    assert found["whole"].dtype == np.int64
    assert found["whole"].tolist() == NUMBERS
    assert found["floats"].dtype == np.float32
    np.testing.assert_array_equal(found["floats"], floats.ravel())
    assert found["text"].tolist() == [b"\xff\0hello"]
    assert found["one"].tolist() == [7]


def test_pixels_of_two_bytes_and_of_one():
    pixels = np.arange(32 * 32 * 3) % 256
    assert features_of(example({"x": pixels}))["x"].tolist() == pixels.tolist()
    assert features_of(example({"x": pixels % 128}))["x"].max() == 127


def test_only_what_is_wanted_and_nothing_of_nothing():
    data = example({"a": 1, "b": 2.0})
    assert set(features_of(data, ["b"])) == {"b"}
    assert features_of(data, ["c"]) == {}
    assert features_of(b"") == {}
    assert features_of(example({"a": np.zeros(0, int)}))["a"].tolist() == []


def other_schema(packed: bool):
    """The message classes, by protobuf, with lists packed or value by value."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"example_{packed}.proto", package=f"packed_{packed}", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto

    def field(owner, name, number, kind, of="", many=False):
        made = owner.field.add(name=name, number=number, type=kind)
        made.label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
        if of:
            made.type_name = f".{file.package}.{of}"
        return made

    lists = {"BytesList": "BYTES", "FloatList": "FLOAT", "Int64List": "INT64"}
    for name, kind in lists.items():
        owner = file.message_type.add(name=name)
        value = field(owner, "value", 1, getattr(kinds, f"TYPE_{kind}"), many=True)
        if kind != "BYTES":
            value.options.packed = packed
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(lists, start=1):
        made = field(feature, name.lower(), number, kinds.TYPE_MESSAGE, name)
        made.oneof_index = 0
    field(feature, "later", 9, kinds.TYPE_FIXED64)  # a field that nobody knows
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    field(entry, "key", 1, kinds.TYPE_STRING)
    field(entry, "value", 2, kinds.TYPE_MESSAGE, "Feature")
    field(features, "feature", 1, kinds.TYPE_MESSAGE, "Features.FeatureEntry", True)
    whole = file.message_type.add(name="Example")
    field(whole, "features", 1, kinds.TYPE_MESSAGE, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{file.package}.Example")
    return message_factory.GetMessageClass(found)


@pytest.mark.parametrize("packed", [True, False])
def test_lists_value_by_value_and_fields_that_nobody_knows(packed):
    message = other_schema(packed)()
    message.features.feature["x"].int64list.value.extend(NUMBERS)
    message.features.feature["x"].later = 5
    message.features.feature["y"].floatlist.value.extend([0.5, -2.0])
    message.features.feature["ö"].byteslist.value.extend([b"a", b""])
    found = features_of(message.SerializeToString())
    assert found["x"].tolist() == NUMBERS
    assert found["y"].tolist() == [0.5, -2.0]
    assert found["ö"].tolist() == [b"a", b""]


def test_every_message_that_is_cut_off_is_refused():
    data = example({"whole": NUMBERS, "floats": [0.5, 1.5], "text": b"hello"})
    for end in range(1, len(data)):
        with pytest.raises(ValueError, match="is cut off"):
            features_of(data[:end])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0b", "has type 3"),  # a group, which protobuf no longer writes
        (b"\xff" * 11, "more than 10 bytes"),
        (b"\x0a\x05\x0a\x03\x0a\x01\xff", "utf-8"),  # a name that is no text
    ],
)
def test_what_is_no_message_is_refused(data, words):
    with pytest.raises(ValueError, match=words):
        features_of(data)
