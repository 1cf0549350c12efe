"""What a file looks like that is not what a source reads, and what would do."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

_HEAD = 4096
_SAVE = "and save features and labels with numpy.savez"
_UNPACK = "unpack it first"
_PICTURES = "read a folder of pictures, by class, with images"


class _Kind(NamedTuple):
    """A kind of file: its first bytes, what people call it, and what would do."""

    begin: bytes
    name: str
    cure: str
    at: int = 0


_KINDS = (
    _Kind(b"\x93NUMPY", "one array of numpy (.npy)", _SAVE[4:]),
    _Kind(b"\x89HDF\r\n\x1a\n", "HDF5", "read it with hdf5"),
    _Kind(b"SQLite format 3\0", "an SQLite database", "read it with sqlite"),
    _Kind(b"PAR1", "Parquet", "read it with parquet"),
    _Kind(b"ARROW1", "Arrow", "read it with parquet"),
    _Kind(b"\xff\xff\xff\xff", "a stream of Arrow", "read it with parquet"),
    _Kind(b"MATLAB 5.0", "a MATLAB file", f"read it with scipy.io.loadmat {_SAVE}"),
    _Kind(b"\x1f\x8b", "a file compressed by gzip", _UNPACK),
    _Kind(b"\xfd7zXZ", "a file compressed by xz", _UNPACK),
    _Kind(b"]\0\0", "a file compressed by LZMA", _UNPACK),
    _Kind(b"BZh", "a file compressed by bzip2", _UNPACK),
    _Kind(b"(\xb5/\xfd", "a file compressed by zstandard", _UNPACK),
    _Kind(b"ustar", "a tar archive", _UNPACK, 257),
    _Kind(b"\x89PNG", "a picture", _PICTURES),
    _Kind(b"\xff\xd8\xff", "a picture", _PICTURES),
    _Kind(b"GIF8", "a picture", _PICTURES),
    *(
        _Kind(
            bytes([0x80, n]),
            "a pickle, which is never read because it can run any code",
            f"load it where you trust it {_SAVE}",
        )
        for n in range(2, 6)
    ),
    *(
        _Kind(
            bytes([0, 0, kind]),
            "IDX, as MNIST comes",
            "read the folder of its files with idx",
        )
        for kind in (8, 9, 11, 12, 13, 14)
    ),
    _Kind(b"PK", "a zip archive without arrays of numpy", _UNPACK),
)


def describe_kind(path: str | Path) -> str:
    """What a file looks like and what would do: ``looks like CSV; read it with ...``.

    Raises:
      OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "is empty"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(".npy") for name in archive.namelist()):
                return "looks like arrays of numpy in one file (.npz); read it with npz"
    if kind := _known(head):
        return f"looks like {kind.name}; {kind.cure}"
    return _describe_text(head)


def is_table(head: bytes) -> bool:
    """Whether what begins like this may be a table of text."""
    other = _known(head) or b"\0" in head or head.lstrip()[:1] in (b"{", b"[")
    return bool(head) and not other


def _known(head: bytes) -> _Kind | None:
    """The kind of file that begins like this."""
    found = (k for k in _KINDS if head[k.at :].startswith(k.begin))
    return next(found, None)


def _describe_text(head: bytes) -> str:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # no character that is cut off
            return f"looks like nothing that is known; read it yourself {_SAVE}"
        text = head[: error.start].decode("utf-8-sig")
    if text.lstrip()[:1] in ("{", "["):
        return (
            "looks like JSON; if LEAF wrote it, read it with leaf, else with json.load "
            f"{_SAVE}"
        )
    if any(mark in text.split("\n")[0] for mark in ",;\t"):
        return "looks like CSV; read it with csv"
    return f"looks like text; read its numbers with numpy.loadtxt {_SAVE}"
