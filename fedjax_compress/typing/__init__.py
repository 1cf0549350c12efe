"""The central types: small NamedTuples of pure functions, and what passes between them.

Two rules carry the design. An algorithm describes ONE client and ONE server step;
only the engine knows that there are many clients. A payload describes itself: its
size is measured by one generic function, never by a formula of the compressor's own.
"""

from fedjax_compress.typing._algorithm import (
    Algorithm,
    Beginning,
    Report,
    Stacked,
    Tier,
    Tiers,
)
from fedjax_compress.typing._compress import Claims, Compressor, Stage
from fedjax_compress.typing._data import (
    PIXEL,
    Batch,
    Shard,
    Target,
    Task,
    has_pictures,
    rows_of,
)
from fedjax_compress.typing._models import Cuts, Metric, Model, Quantized, Tie
from fedjax_compress.typing._parts import (
    Aggregator,
    LocalUpdate,
    Problem,
    ServerOptimizer,
    Setup,
    Trained,
)
from fedjax_compress.typing._rounds import (
    Acc,
    Array,
    ClientState,
    Columns,
    Context,
    Key,
    Keys,
    Metrics,
    Outputs,
    Params,
    Payload,
    Record,
    Server,
    Side,
    State,
    Tree,
    View,
)

__all__ = [
    "PIXEL",
    "Acc",
    "Aggregator",
    "Algorithm",
    "Array",
    "Batch",
    "Beginning",
    "Claims",
    "ClientState",
    "Columns",
    "Compressor",
    "Context",
    "Cuts",
    "Key",
    "Keys",
    "LocalUpdate",
    "Metric",
    "Metrics",
    "Model",
    "Outputs",
    "Params",
    "Payload",
    "Problem",
    "Quantized",
    "Record",
    "Report",
    "Server",
    "ServerOptimizer",
    "Setup",
    "Shard",
    "Side",
    "Stacked",
    "Stage",
    "State",
    "Target",
    "Task",
    "Tie",
    "Tier",
    "Tiers",
    "Trained",
    "Tree",
    "View",
    "has_pictures",
    "rows_of",
]
