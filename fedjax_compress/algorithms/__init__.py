"""Systems assembled from the rooms below, one file each."""

from fedjax_compress.algorithms._fed_df import fed_df
from fedjax_compress.algorithms._fed_et import fed_et
from fedjax_compress.algorithms._fed_md import fed_md
from fedjax_compress.algorithms._fedavg import fedavg
from fedjax_compress.algorithms._fedbuff import fedasync, fedbuff
from fedjax_compress.algorithms._federated_dropout import federated_dropout
from fedjax_compress.algorithms._federated_pruning import federated_pruning
from fedjax_compress.algorithms._fedgkt import fedgkt
from fedjax_compress.algorithms._fetch_sgd import FetchSgdServer, fetch_sgd
from fedjax_compress.algorithms._fjord import fjord
from fedjax_compress.algorithms._heterofl import heterofl
from fedjax_compress.algorithms._lotteryfl import LotteryServer, lotteryfl
from fedjax_compress.algorithms._magnitude_pruning import magnitude_pruning
from fedjax_compress.algorithms._prunefl import prunefl
from fedjax_compress.algorithms._structured_updates import structured_updates
from fedjax_compress.algorithms.shared.averaging import FedAvgServer
from fedjax_compress.algorithms.shared.mask_training import MaskServer
from fedjax_compress.algorithms.shared.submodel_training import SubmodelServer

__all__ = [
    "FedAvgServer",
    "FetchSgdServer",
    "LotteryServer",
    "MaskServer",
    "SubmodelServer",
    "fed_df",
    "fed_et",
    "fed_md",
    "fedasync",
    "fedavg",
    "fedbuff",
    "federated_dropout",
    "federated_pruning",
    "fedgkt",
    "fetch_sgd",
    "fjord",
    "heterofl",
    "lotteryfl",
    "magnitude_pruning",
    "prunefl",
    "structured_updates",
]
