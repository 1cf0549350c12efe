"""Who takes part: data sources, partitions, sampling, resident data, client state."""

from fedjax_compress.clients.client_data import ClientData, group
from fedjax_compress.clients.data import Dataset, check
from fedjax_compress.clients.digits import digits
from fedjax_compress.clients.dirichlet import dirichlet
from fedjax_compress.clients.partition import (
    Partition,
    iid,
    natural,
    quantity,
    shards,
)
from fedjax_compress.clients.sampling import Sampling, uniform, weighted
from fedjax_compress.clients.store import HostStore

__all__ = [
    "ClientData",
    "Dataset",
    "HostStore",
    "Partition",
    "Sampling",
    "check",
    "digits",
    "dirichlet",
    "group",
    "iid",
    "natural",
    "quantity",
    "shards",
    "uniform",
    "weighted",
]
