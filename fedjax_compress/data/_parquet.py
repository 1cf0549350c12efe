"""A user's own table in Parquet or Arrow, and what Hugging Face's library saves."""

from __future__ import annotations

from fedjax_compress import registry
from fedjax_compress.data.building import Names, Said, further
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.scaling import Scale
from fedjax_compress.data.tables.arrow_files import arrow_files_of, read_arrow
from fedjax_compress.data.tables.building import as_names, dataset_of
from fedjax_compress.data.tables.folders import test_files
from fedjax_compress.data.tables.roles import Asked, TableTarget
from fedjax_compress.errors import InputError


@registry.register("data")
def parquet(
    path: str | Names,
    label: str | Names = "",
    features: Names = (),
    client: str = "",
    test: str | Names = "",
    test_column: str = "",
    holdout: float = 0.1,
    text: str = "",
    length: int = 256,
    categories: int = 64,
    weights: str = "",
    target: TableTarget = "auto",
    classes: int = 0,
    scale: Scale = "auto",
    inputs: Names = (),
) -> Dataset:
    """Your own table in Parquet or Arrow files, or a saved Hugging Face data set.

    Columns are read as by ``csv``, and there may be more in them: lists of numbers of
    equal length, within each other or not, are arrays; pictures, as Hugging Face's
    library stores them (PNG or JPEG, all of one shape), are uint8 [height, width,
    channels]; fields of structures have dotted names, ``client="meta.user"``. Arrays of
    several axes and pictures are the only feature; lists stand beside numbers. Columns
    of numbers are uint8 if all of them are, else float32.

    Args:
      path: a file of Parquet, or of Arrow (a stream, or a file as Feather is); several
        files with the same columns; a folder of *.parquet, in which train and test in
        the names of all files say the parts; or the folder of ``save_to_disk``, of a
        Dataset or of a DatasetDict, whose splits train and test are the parts.
      label: the column to predict, as for csv; or several. Empty without ``text``: the
        only one that is described as a ClassLabel, whose names give the number of
        classes.
      features: columns to learn from; empty for all that have no other part.
      client: column of client ids: whole numbers, text or dates, in any order. Needed
        for the partition ``natural``.
      test: file, files or folder with the test rows; they may lack the ids. For another
        split of a DatasetDict, the folder of that split.
      test_column: column that is 1, true or test for test rows, and 0, false or train
        for the others.
      holdout: share held out where nothing says which rows are for tests.
      text: column whose bytes are the features, as for csv; or lists of whole numbers,
        of any lengths, which are tokens as they are, 0 being the padding.
      length: most tokens of a row of text; what comes after them is left out.
      categories: most values of a column of text among the features.
      weights: column that says what each row counts for.
      target: what labels hold: class, positions (one for each pixel), several, number,
        or auto for how they look, as for npz.
      classes: number of classes, or of numbers that are predicted; 0 takes the names of
        a ClassLabel, or one more than the largest label, or what there is.
      scale: what divides the features before a network reads them: a number, none, or
        auto: 255 for pictures of whole numbers up to 255, which are pixels, else none.
      inputs: further columns of numbers or arrays that a model of your own reads.

    Raises:
      InputError: a file that is neither, no such column, an empty cell, lists or
        pictures that differ in shape, text with too many values, a class that no
        training row has, or rows that cannot be used; see ``check``.

    Deviations: sounds, videos and columns of pickled objects are not read.
    """
    if test and test_column:
        raise InputError("give test or test_column, not both")
    asked = Asked(
        as_names(label),
        as_names(features),
        client,
        test_column,
        text,
        length,
        categories,
        further("", "", weights, inputs),
        Said(target, classes, False, scale),
    )
    found = arrow_files_of(path)
    held = test_files(arrow_files_of(test)) if test else found.test
    needed = _needed(asked)
    tables = [read_arrow(found.name, found.train, needed)]
    if held and not test_column:
        tables.append(read_arrow(f"{found.name}, test part", held, needed))
    return dataset_of(found.name, tables, asked, holdout)


def _needed(asked: Asked) -> Names:
    """The columns that are read; none for all."""
    if not (asked.labels or asked.text) or not (asked.features or asked.text):
        return ()
    others = filter(None, (asked.text, asked.client, asked.test_column))
    return (*asked.labels, *asked.features, *others, *asked.more.values())
