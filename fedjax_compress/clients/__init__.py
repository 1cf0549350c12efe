"""Who takes part: data sources, partitions, sampling, resident data, client state."""

from fedjax_compress.clients.client_data import ClientData, group
from fedjax_compress.clients.data import Dataset, check
from fedjax_compress.clients.described import describe_features, describe_target
from fedjax_compress.clients.evaluation import share_test_rows
from fedjax_compress.clients.label_skew import dirichlet
from fedjax_compress.clients.partition import (
    Partition,
    blocks,
    describe,
    iid,
    natural,
    quantity,
    shards,
)
from fedjax_compress.clients.rows import Rows
from fedjax_compress.clients.sampling import Sampling, uniform, weighted
from fedjax_compress.clients.scaling import scaled
from fedjax_compress.clients.sources.cifar10 import cifar10
from fedjax_compress.clients.sources.digits import digits
from fedjax_compress.clients.sources.npy import npy
from fedjax_compress.clients.sources.npz import npz
from fedjax_compress.clients.sources.synthetic import synthetic
from fedjax_compress.clients.sources.text import text
from fedjax_compress.clients.sources.tfds import tfds
from fedjax_compress.clients.store import HostStore

__all__ = [
    "ClientData",
    "Dataset",
    "HostStore",
    "Partition",
    "Rows",
    "Sampling",
    "blocks",
    "check",
    "cifar10",
    "describe",
    "describe_features",
    "describe_target",
    "digits",
    "dirichlet",
    "group",
    "iid",
    "natural",
    "npy",
    "npz",
    "quantity",
    "scaled",
    "shards",
    "share_test_rows",
    "synthetic",
    "text",
    "tfds",
    "uniform",
    "weighted",
]
