"""Where examples come from: sources of columns by name, one file each."""

from fedjax_compress.data._audio import audio
from fedjax_compress.data._cifar import cifar
from fedjax_compress.data._cifar10 import cifar10
from fedjax_compress.data._csv import csv
from fedjax_compress.data._digits import digits
from fedjax_compress.data._hdf5 import hdf5
from fedjax_compress.data._idx import idx
from fedjax_compress.data._images import images
from fedjax_compress.data._leaf import leaf
from fedjax_compress.data._named import cifar100, emnist, fashion_mnist, femnist, mnist
from fedjax_compress.data._npy import npy
from fedjax_compress.data._npz import npz
from fedjax_compress.data._parquet import parquet
from fedjax_compress.data._sqlite import sqlite
from fedjax_compress.data._synthetic import synthetic
from fedjax_compress.data._text import text
from fedjax_compress.data._tfds import tfds
from fedjax_compress.data.dataset import Dataset, check
from fedjax_compress.data.described import describe_features, describe_target
from fedjax_compress.data.public import Public, check_public, held_out, noise, source
from fedjax_compress.data.scaling import scaled

__all__ = [
    "Dataset",
    "Public",
    "audio",
    "check",
    "check_public",
    "cifar",
    "cifar10",
    "cifar100",
    "csv",
    "describe_features",
    "describe_target",
    "digits",
    "emnist",
    "fashion_mnist",
    "femnist",
    "hdf5",
    "held_out",
    "idx",
    "images",
    "leaf",
    "mnist",
    "noise",
    "npy",
    "npz",
    "parquet",
    "scaled",
    "source",
    "sqlite",
    "synthetic",
    "text",
    "tfds",
]
