"""Who takes part: partitions, sampling, resident data, rows read when needed."""

from fedjax_compress.clients._dirichlet import dirichlet
from fedjax_compress.clients._label_count import label_count
from fedjax_compress.clients._pathological import pathological
from fedjax_compress.clients.client_data import ClientData, group
from fedjax_compress.clients.evaluation import share_test_rows
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
from fedjax_compress.clients.store import HostStore

__all__ = [
    "ClientData",
    "HostStore",
    "Partition",
    "Rows",
    "Sampling",
    "blocks",
    "describe",
    "dirichlet",
    "group",
    "iid",
    "label_count",
    "natural",
    "pathological",
    "quantity",
    "shards",
    "share_test_rows",
    "uniform",
    "weighted",
]
