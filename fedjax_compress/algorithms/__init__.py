"""Systems assembled from the rooms below, one file each."""

from fedjax_compress.algorithms.fedavg import FedAvgServer, fedavg
from fedjax_compress.algorithms.federated_dropout import federated_dropout
from fedjax_compress.algorithms.fetch_sgd import FetchSgdServer, fetch_sgd
from fedjax_compress.algorithms.fjord import fjord
from fedjax_compress.algorithms.heterofl import heterofl
from fedjax_compress.algorithms.structured import structured_updates
from fedjax_compress.algorithms.submodel_training import SubmodelServer

__all__ = [
    "FedAvgServer",
    "FetchSgdServer",
    "SubmodelServer",
    "fedavg",
    "federated_dropout",
    "fetch_sgd",
    "fjord",
    "heterofl",
    "structured_updates",
]
