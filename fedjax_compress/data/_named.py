"""Well-known sets by their bare names, where tensorflow-datasets has prepared them."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from fedjax_compress import registry
from fedjax_compress.data._tfds import NotPrepared, tfds
from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.errors import InputError

_FEMNIST = "./preprocess.sh -s niid --sf 1.0 -k 0 -t sample"


@registry.register("data")
def mnist(data_dir: str = "") -> Dataset:
    """MNIST as tfds(mnist) reads it; of a folder of its files, idx(path=...).

    Args:
      data_dir: folder of prepared sets; empty for the library's own default.

    Raises:
      InputError: it is not prepared; gives the command that prepares it.
    """
    return prepared("mnist", "idx", data_dir)


@registry.register("data")
def fashion_mnist(data_dir: str = "") -> Dataset:
    """Fashion-MNIST as tfds(fashion_mnist) reads it; of its files, idx(path=...).

    Args and errors as for ``mnist``.
    """
    return prepared("fashion_mnist", "idx", data_dir)


@registry.register("data")
def emnist(
    part: Literal[
        "byclass", "bymerge", "balanced", "letters", "digits", "mnist"
    ] = "byclass",
    data_dir: str = "",
) -> Dataset:
    """EMNIST as tfds('emnist/byclass') reads it, upright; of its files, idx(path=...).

    tensorflow-datasets keeps it as it is published, on its side; here, as by ``idx``,
    rows and columns of each picture change places. No writers: for those, ``femnist``.

    Args:
      part: which of the sets that EMNIST is published as.
      data_dir: folder of prepared sets; empty for the library's own default.

    Raises:
      InputError: it is not prepared; gives the command that prepares it.
    """
    found = prepared(f"emnist/{part}", "idx", data_dir)
    train, test = (
        columns | {"features": np.ascontiguousarray(columns["features"].swapaxes(1, 2))}
        for columns in (found.train, found.test)
    )
    task = found.task._replace(shape=train["features"].shape[1:])
    return check(dataclasses.replace(found, task=task, train=train, test=test))


@registry.register("data")
def cifar100(data_dir: str = "") -> Dataset:
    """CIFAR-100 as tfds(cifar100) reads it; of its binary version, cifar(path=...).

    Args and errors as for ``mnist``.
    """
    return prepared("cifar100", "cifar", data_dir)


@registry.register("data")
def femnist(data_dir: str = "") -> Dataset:
    """FEMNIST, which LEAF's scripts make: leaf(path=...); else a prepared set so named.

    tensorflow-datasets itself has no set of this name, but you may have made one.

    Args:
      data_dir: folder of prepared sets; empty for the library's own default.

    Raises:
      InputError: there is none; says how LEAF makes it.
    """
    try:
        return tfds("femnist", data_dir=data_dir)
    except NotPrepared:
        raise InputError(
            "femnist is made by LEAF (github.com/TalwalkarLab/leaf): in its folder "
            f"data/femnist run {_FEMNIST}, then take leaf(path='leaf/data/femnist')"
        ) from None


def prepared(name: str, source: str, data_dir: str = "") -> Dataset:
    """The set of this name that tensorflow-datasets has prepared.

    Args:
      name: as for ``tfds``.
      source: of ours, which reads the files as they are published.
      data_dir: folder of prepared sets; empty for the library's own default.

    Raises:
      InputError: it is not prepared; says how it is, and names the source.
    """
    try:
        return tfds(name, data_dir=data_dir)
    except NotPrepared as error:
        raise InputError(
            f"{error}; or give the folder of its published files, {source}(path=...)"
        ) from None
