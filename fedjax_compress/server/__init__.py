"""How the server moves its parameters by an aggregated update."""

from fedjax_compress.server.adaptive import fedadagrad, fedadam, fedyogi
from fedjax_compress.server.optimizers import (
    fedavg,
    fedavgm,
    from_optax,
    optax,
)

__all__ = [
    "fedadagrad",
    "fedadam",
    "fedavg",
    "fedavgm",
    "fedyogi",
    "from_optax",
    "optax",
]
