"""What LEAF's scripts write: users with their examples, in files of JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data import leaf_columns
from fedjax_compress.data.building import Rows, Said, TargetOption, built, target_of
from fedjax_compress.data.characters import SYMBOLS
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.leaf_files import find_places, read_users
from fedjax_compress.data.parts import in_two, inverted
from fedjax_compress.data.pictures import Size
from fedjax_compress.data.scaling import Scale
from fedjax_compress.errors import InputError
from fedjax_compress.typing import PIXEL

_FACES = "raw/img_align_celeba"


@registry.register("data")
def leaf(
    path: str,
    shape: tuple[int, ...] = (),
    images: str = "",
    size: Size = 84,
    length: int = 140,
    holdout: float = 0.1,
    classes: int = 0,
    invert: bool = False,
    scale: Scale = "auto",
    target: TargetOption = "auto",
) -> Dataset:
    """LEAF's data sets as its scripts write them, each user a client of its own.

    Read are train/*.json and test/*.json, or, where LEAF has not cut them, all files of
    rem_user_data, sampled_data or all_data, of which a share of each user's rows is
    held out, the same in every run. Rows stand in the order of the files' names and of
    the users in a file. What ``x`` and ``y`` hold says what they are:

    - Lists of numbers, y a number: pictures (FEMNIST) where ``shape`` says so or where
      rows are a square number of 0..1, else numbers (Synthetic). Pixels in 255ths are
      kept as uint8, which takes a fourth of the memory and gives the same floats.
    - Names of files, y a number: pictures (CelebA), which lie in ``images``.
    - Texts, y the next character: windows of 80 characters (Shakespeare) for
      ``char_lstm`` and ``transformer_lm``, in the 90 symbols of ``text``. As in LEAF,
      only what follows the window is scored: labels are 0, the padding, elsewhere.
    - Posts (Sent140), y the mood, 0 or 1: characters of what is said, in the same
      symbols, for ``text_classifier(symbols=90)``; shorter ones are filled with 0.

    Words (Reddit) are not read.

    Args:
      path: LEAF's folder of a data set, its folder ``data``, any folder with ``train``
        and ``test`` in it, or one file.
      shape: of one example, as in (28, 28, 1); empty: as above.
      images: folder of pictures; empty for raw/img_align_celeba in the folder ``data``.
      size: height and width to which they are resized, or one number; 0 for as it is.
      length: characters of a post that are kept.
      holdout: the share held out where there is no test part; between 0 and 1.
      classes: number of classes; 0 takes one more than the largest label.
      invert: 255 - x for pixels: FEMNIST's ink is black, on white paper.
      scale: what divides features before a network reads them: a number, none, or auto:
        255 for pixels; FEMNIST's are then in 0..1 as in its files.
      target: what labels of numbers and pictures hold, as for npz.

    Raises:
      InputError: a missing folder or file, one that is no JSON of LEAF, rows that
        differ in kind or shape, windows that LEAF has not cut into train and test.

    Reference: Caldas et al., "LEAF: A Benchmark for Federated Settings" (2018), and the
      scripts in its repository.

    Deviations: LEAF's Shakespeare has 80 symbols, of which two (> and }) are unknown
      here; its models of Sent140 read words.
    """
    places = find_places(path)
    users = [[u for file in part for u in read_users(file)] for part in places.parts]
    for names, part in zip(places.parts, users, strict=True):
        if not part:
            raise InputError(f"{names[0].parent}: no user has any rows")
    said = Said(target, classes, False, scale)
    kind = leaf_columns.kind_of(users, path)
    for given, option, needs in (
        (shape, "shape", "numbers"),
        (images, "images", "files"),
    ):
        if given and kind != needs:
            raise InputError(f"{path} holds {kind}, but {option} is for {needs}")
    if kind == "windows":
        if len(users) == 1:
            raise InputError(
                f"{path}: windows of text overlap, so that rows held out were known "
                "from the others; let LEAF cut them: ./preprocess.sh -t sample"
            )
        x, y = leaf_columns.windows(users, path)
        said = Said("positions", SYMBOLS, True)
    else:
        y = leaf_columns.labels_of(users, path)
    if kind == "numbers":
        x, pixels = leaf_columns.numbers(users, shape, scale == "auto", path)
        said = said._replace(scale=PIXEL) if pixels else said
    elif kind == "files":
        folder = Path(images) if images else places.folder / _FACES
        x = leaf_columns.pictures(users, folder, size, path)
    elif kind == "posts":
        x, y = leaf_columns.posts(users, length, path), leaf_columns.moods(y)
        said = Said("class", classes or 2, True)
    ids = [np.repeat([u.name for u in p], [len(u.y) for u in p]) for p in users]
    rows = [Rows(path, *part, {}) for part in zip(x, y, ids, strict=True)]
    rows = [inverted(part) for part in rows] if invert else rows
    found = target_of(said, path, *y)
    two = rows if len(rows) == 2 else in_two(rows[0], None, found, holdout)
    return built(places.name, found, said, *two)
