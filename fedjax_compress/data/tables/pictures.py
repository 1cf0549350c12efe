"""Pictures that stand in a column as files of PNG or JPEG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from fedjax_compress.data.tables.table import Table
from fedjax_compress.errors import InputError, one_line

_FORMATS = ("PNG", "JPEG")
_MODES = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
_KEPT = ("L", "LA", "RGB", "RGBA")


def decoded(table: Table, name: str, column: Any) -> np.ndarray:
    """Pictures of one shape, uint8 [rows, height, width, channels].

    Palettes and colours for printing become red, green and blue.

    Raises:
      InputError: no bytes, no PNG or JPEG, more than 8 bits a channel, or another shape
        than that of the first.
    """
    found, row = None, 0
    for chunk in column.chunks:
        for data in chunk.field("bytes"):
            where = f"{table.place(row)}: column {name!r}"
            if not data.is_valid:
                raise InputError(
                    f"{where} has a path but no picture; save the data set with its "
                    "pictures"
                )
            picture = _decode(data.as_py(), where)
            if found is None:
                found = np.empty((len(column), *picture.shape), np.uint8)
            if picture.shape != found.shape[1:]:
                raise InputError(
                    f"{where} has shape {picture.shape}, but the first picture "
                    f"{found.shape[1:]}; bring all to one height, width and channels"
                )
            found[row] = picture
            row += 1
    if found is None:
        raise InputError(f"{table.where}: no rows")
    return found


def _decode(data: bytes, where: str) -> np.ndarray:
    """uint8 [height, width, channels]."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            mode = _MODES.get(opened.mode, opened.mode)
            if mode in _KEPT:
                pixels = np.asarray(opened.convert(mode))
    except Exception as error:  # Pillow raises what comes up inside, struct.error too
        reason = one_line(error)[:100]
        if "cannot identify" in reason:
            reason = "PNG and JPEG are read"
        raise InputError(f"{where} holds no picture: {reason}") from None
    if mode not in _KEPT:
        raise InputError(
            f"{where} has pixels of the kind {mode}; save 8 bits a channel"
        )
    return pixels[..., None] if pixels.ndim == 2 else pixels
