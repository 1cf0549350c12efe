"""Systems assembled from the rooms below, one file each."""

from fedjax_compress.algorithms.fedavg import FedAvgServer, fedavg

__all__ = ["FedAvgServer", "fedavg"]
