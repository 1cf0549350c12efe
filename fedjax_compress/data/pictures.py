"""Files of pictures, decoded to one array of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.errors import InputError, one_line

Size = int | tuple[int, ...]
"""Height and width in pixels, or one number for both; 0 leaves pictures as they are."""
Channels = Literal["auto", 1, 3]
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV")


def as_size(size: Size) -> tuple[int, int] | None:
    """(height, width); None where pictures keep theirs.

    Raises:
      InputError: no size.
    """
    given = (size,) if isinstance(size, int) else tuple(size)
    if given == (0,):
        return None
    if len(given) not in (1, 2) or min(given) < 1:
        raise InputError(
            f"size must be one number or (height, width), each above 0, not {size}"
        )
    return given[0], given[-1]


def endings() -> frozenset[str]:
    """Endings of the files that pillow reads: ``.png``, ``.jpg``, ..."""
    from PIL import Image

    found = Image.registered_extensions().items()  # also loads all that it reads
    return frozenset(ending for ending, kind in found if kind in Image.OPEN)


def read_pictures(
    files: Sequence[Path], size: Size = 0, channels: Channels = "auto"
) -> np.ndarray:
    """Pixels of pictures, uint8 [files, height, width, channels].

    Each is decoded once, straight into its place. Of moving pictures the first one is
    taken; what is transparent keeps its colour.

    Args:
      files: at least one.
      size: to which all are resized by pillow's bicubic filter, whatever their shape.
      channels: 1 for grey, 3 for red, green, blue; auto: 1 if all are grey, else 3.

    Raises:
      InputError: a file that is no picture or damaged, pictures of more than 8 bits a
        colour, or of different shapes where no size is given, of which it names two.
    """
    wanted = as_size(size)
    if wanted is None or channels == "auto":
        heads = [_head(file) for file in files]
        if wanted is None:
            wanted = _shared_size(files, [shape for shape, _ in heads])
        if channels == "auto":
            channels = 1 if all(mode in _GREY for _, mode in heads) else 3
    pixels = np.empty((len(files), *wanted, channels), np.uint8)
    for row, file in enumerate(files):
        pixels[row] = _decoded(file, wanted, channels)
    return pixels


def _shared_size(
    files: Sequence[Path], sizes: list[tuple[int, int]]
) -> tuple[int, int]:
    for file, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            one, other = ("{} x {}".format(*shape) for shape in (sizes[0], size))
            raise InputError(
                f"{files[0]} is {one} pixels high and wide, {file} {other}; say to "
                f"what all are resized, as in size=({sizes[0][0]}, {sizes[0][1]})"
            )
    return sizes[0]


def _head(file: Path) -> tuple[tuple[int, int], str]:
    """(height, width) and the mode of a picture, of which little more is read."""
    with _opened(file) as picture:
        return (picture.height, picture.width), picture.mode


def _decoded(file: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    from PIL import Image

    with _opened(file) as picture:
        try:
            if picture.mode == "P" and "transparency" in picture.info:
                picture = picture.convert("RGBA")
            picture = picture.convert("L" if channels == 1 else "RGB")
            if (picture.height, picture.width) != size:
                picture = picture.resize(size[::-1], Image.Resampling.BICUBIC)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise InputError(f"{file} cannot be decoded: {one_line(error)}") from None
        return np.asarray(picture).reshape(*size, channels)


def _opened(file: Path) -> Any:
    from PIL import Image

    try:
        picture = Image.open(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(_not_read(file, error)) from None
    if picture.mode not in _GREY + _COLOUR:
        picture.close()
        raise InputError(
            f"{file} is neither grey nor red, green and blue, of 8 bits each (pillow's "
            f"mode is {picture.mode}); save it so, or arrays of numbers and take npz"
        )
    return picture


def _not_read(file: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{file} cannot be read: {error.strerror}"
    if type(error).__name__ != "UnidentifiedImageError":
        return f"{file} is no picture that pillow reads: {one_line(error)}"
    return f"{file} is no picture that pillow reads: it {describe_kind(file)}"
