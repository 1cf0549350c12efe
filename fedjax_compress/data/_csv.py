"""A user's own table of text: CSV."""

from __future__ import annotations

from fedjax_compress import registry
from fedjax_compress.data.building import Names, Said, further
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.scaling import Scale
from fedjax_compress.data.tables.building import as_names, dataset_of
from fedjax_compress.data.tables.csv_files import ENDINGS, read_csv
from fedjax_compress.data.tables.folders import files_of, test_files
from fedjax_compress.data.tables.roles import Asked, TableTarget
from fedjax_compress.errors import InputError


@registry.register("data")
def csv(
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
    delimiter: str = "auto",
) -> Dataset:
    """Your own table in CSV files, with or without a column of client ids.

    Features are float32 [rows, numbers], in the order of the columns: numbers as they
    are, 0 or 1 for false and true, and for a column of text one number for each of its
    values in all rows, in sorted order: 1 for the row's value, 0 for the others. The
    first line holds the names of the columns; a column without name, as pandas writes
    it for the index, is left out. A column may not have an empty cell where it is read.

    With ``text``, features are int32 tokens [rows, longest] instead, longest being at
    most ``length``: 1 + byte of the UTF-8, then 0, a vocabulary of 257, as for
    ``text_classifier(symbols=257)``. Without ``label``, the label of each token is the
    next one, as ``transformer_lm`` wants it.

    The test part is that of ``test`` or ``test_column``, or else a held-out share: the
    same share of every client where ids are given, of every class otherwise, the same
    rows in every run.

    Args:
      path: the file, as it is or compressed (gzip, bzip2, zstandard); several files
        with the same columns; or a folder of *.csv, in which train and test in the
        names of all files say the parts.
      label: the column to predict: whole numbers are classes, text is classes in sorted
        order, decimals are numbers; or several columns of numbers, [rows, columns].
      features: columns to learn from; empty for all that have no other part.
      client: column of client ids: whole numbers, text or dates, in any order. Needed
        for the partition ``natural``.
      test: file, files or folder with the test rows; they may lack the ids.
      test_column: column that is 1, true or test for test rows, and 0, false or train
        for the others.
      holdout: share held out where neither is given; between 0 and 1.
      text: column whose bytes are the features.
      length: most tokens of a row of text; what comes after them is left out.
      categories: most values of a column of text among the features.
      weights: column that says what each row counts for.
      target: what labels hold: class, positions, several (0 or 1 in each of several
        columns), number, or auto for how they look, as for npz.
      classes: number of classes, or of numbers that are predicted; 0 takes one more
        than the largest label, or what there is.
      scale: what divides the features before a network reads them: a number, or none or
        auto for numbers as they are.
      inputs: further columns of numbers that a model of your own reads.
      delimiter: what stands between columns: a character, tab, or auto for the comma,
        semicolon or tab of the first line. Where it is no comma, decimals may have one.

    Raises:
      InputError: a file that is no CSV, no such column, an empty cell, text with too
        many values, a class that no training row has, or rows that cannot be used; see
        ``check``.
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
    found = files_of(path, ENDINGS, "csv")
    held = test_files(files_of(test, ENDINGS, "csv")) if test else found.test
    parts = [(found.name, found.train)]
    if held and not test_column:
        parts.append((f"{found.name}, test part", held))
    return dataset_of(found.name, read_csv(parts, delimiter, client), asked, holdout)
