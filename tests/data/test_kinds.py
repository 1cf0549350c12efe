"""Files that a source does not read: what they are, and what would do."""

from __future__ import annotations

import gzip
import json
import sqlite3
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image

from fedjax_compress import registry
from fedjax_compress.errors import InputError


def table(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table rows (x int)")


def parquet(path: Path) -> None:
    from pyarrow import parquet as library

    library.write_table(pyarrow.table({"x": [1, 2]}), path)


def arrow_file(path: Path) -> None:
    from pyarrow import feather

    feather.write_feather(pyarrow.table({"x": [1, 2]}), str(path))


def arrow_stream(path: Path) -> None:
    table = pyarrow.table({"x": [1, 2]})
    with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


def picture(path: Path) -> None:
    Image.new("L", (2, 2)).save(path, "PNG")


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("archive/data.pkl", "")


IDX = struct.pack(">IIII", 0x803, 2, 2, 2) + bytes(8)
FILES = {
    "csv": (lambda p: p.write_text("x,y\n1,2\n"), "CSV", "it with csv"),
    "semicolons": (lambda p: p.write_text("größe;y\n1;2\n"), "CSV", "it with csv"),
    "hdf5": (
        lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        "HDF5",
        "with hdf5",
    ),
    "sqlite": (table, "an SQLite database", "with sqlite"),
    "json": (
        lambda p: p.write_text(json.dumps({"x": [1]})),
        "JSON",
        "read it with leaf, else with json",
    ),
    "idx": (lambda p: p.write_bytes(IDX), "IDX", "the folder of its files with idx"),
    "png": (picture, "a picture", "a folder of pictures, by class, with images"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(IDX)), "gzip", "unpack it first"),
    "parquet": (parquet, "Parquet", "read it with parquet"),
    "feather": (arrow_file, "Arrow", "read it with parquet"),
    "stream": (arrow_stream, "a stream of Arrow", "read it with parquet"),
    "pickle": (lambda p: p.write_bytes(b"\x80\x04]."), "pickle", "where you trust it"),
    "zip": (archive, "a zip archive without arrays of numpy", "unpack it first"),
    "bytes": (lambda p: p.write_bytes(bytes(range(255))), "nothing that is known", ""),
    "empty": (lambda p: p.write_bytes(b""), "it is empty", ""),
}


@pytest.mark.parametrize("kind", FILES)
def test_npz_npy_and_text_say_what_a_file_looks_like(kind, tmp_path):
    make, looks, cure = FILES[kind]
    make(tmp_path / "labels.npy")
    np.save(tmp_path / "features.npy", np.zeros((4, 2), np.float32))
    for source, path in (("npz", "/labels.npy"), ("npy", ""), ("text", "/labels.npy")):
        with pytest.raises(InputError) as caught:
            registry.build("data", f"{source}(path='{tmp_path}{path}')")
        reason = caught.value.reason
        assert "\n" not in reason
        assert "allow_pickle" not in reason
        if (source, kind) != ("text", "json") and (source, looks) != ("text", "gzip"):
            assert looks in reason
        if source != "text":
            assert cure in reason


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_csv_and_parquet_read_their_own_and_say_what_others_are(kind, source, tmp_path):
    make, looks, cure = FILES[kind]
    make(tmp_path / "rows")
    with pytest.raises(InputError) as caught:
        registry.build("data", f"{source}(path='{tmp_path}/rows')")
    reason = caught.value.reason
    assert "\n" not in reason
    if f"it with {source}" in cure:
        assert "say which column to predict" in reason
    elif kind == "gzip" and source == "csv":  # which reads what is packed
        assert "is no CSV: what is packed in it is none" in reason
    else:
        assert looks in reason
        assert cure in reason


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "'' does not exist"),
        (".", r"\. is a folder, but npz reads"),
        ("/", "/ is a folder, but npz reads"),
    ],
)
def test_a_path_that_has_no_name(path, words):
    with pytest.raises(InputError, match=words):
        registry.build("data", f"npz(path='{path}')")


def test_a_reason_that_the_system_has_no_words_for(tmp_path, monkeypatch):
    (tmp_path / "text.json").write_text("{}")

    def fails(stream):
        raise OSError("the disk is away")

    monkeypatch.setattr(json, "load", fails)
    with pytest.raises(InputError, match="cannot be read: the disk is away"):
        registry.build("data", f"text(path='{tmp_path}/text.json')")


def test_a_npz_or_a_folder_in_the_wrong_place(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.zeros(3))
    with pytest.raises(InputError, match=r"arrays of numpy in one file \(\.npz\)"):
        registry.build("data", f"text(path='{tmp_path}/rows.npz')")
    with pytest.raises(InputError, match="is a folder, but npz reads one file"):
        registry.build("data", f"npz(path='{tmp_path}')")
    whole = (tmp_path / "rows.npz").read_bytes()
    (tmp_path / "rows.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is damaged or not whole"):
        registry.build("data", f"npz(path='{tmp_path}/rows.npz')")
