"""Systems assembled from the rooms below, one file each."""

from fedjax_compress.algorithms.fedavg import FedAvgServer, fedavg
from fedjax_compress.algorithms.fetch_sgd import FetchSgdServer, fetch_sgd
from fedjax_compress.algorithms.structured import structured_updates

__all__ = [
    "FedAvgServer",
    "FetchSgdServer",
    "fedavg",
    "fetch_sgd",
    "structured_updates",
]
