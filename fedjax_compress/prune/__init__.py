"""What is pruned: patterns, scores, sparsities, masks, and PruneFL's own way."""

from fedjax_compress.prune.allocation import (
    adaptive,
    counts_of_threshold,
    kept_counts,
    kept_total,
    mean_magnitude,
    uniform,
)
from fedjax_compress.prune.masks import (
    Density,
    all_kept,
    any_kept,
    apply,
    density,
    kept_elements,
    make_global_mask,
    make_mask,
    regrow,
    spread,
    union,
)
from fedjax_compress.prune.patterns import (
    Pattern,
    block,
    channel,
    column,
    half_column,
    half_row,
    n_of_m,
    part,
    prunable,
    row,
    unstructured,
)
from fedjax_compress.prune.ramps import (
    Ramp,
    cubic,
    iterative,
    one_shot,
)
from fedjax_compress.prune.reconfiguration import (
    reconfigure,
)
from fedjax_compress.prune.scores import (
    Score,
    accumulated_gradient,
    gradient,
    unit_scores,
    weight,
    weight_gradient,
)
from fedjax_compress.prune.shares import (
    ceiled,
)
from fedjax_compress.prune.time_model import (
    TimeModel,
    conv2_femnist,
    vgg11_cifar10,
)

__all__ = [
    "Density",
    "Pattern",
    "Ramp",
    "Score",
    "TimeModel",
    "accumulated_gradient",
    "adaptive",
    "all_kept",
    "any_kept",
    "apply",
    "block",
    "ceiled",
    "channel",
    "column",
    "conv2_femnist",
    "counts_of_threshold",
    "cubic",
    "density",
    "gradient",
    "half_column",
    "half_row",
    "iterative",
    "kept_counts",
    "kept_elements",
    "kept_total",
    "make_global_mask",
    "make_mask",
    "mean_magnitude",
    "n_of_m",
    "one_shot",
    "part",
    "prunable",
    "reconfigure",
    "regrow",
    "row",
    "spread",
    "uniform",
    "union",
    "unit_scores",
    "unstructured",
    "vgg11_cifar10",
    "weight",
    "weight_gradient",
]
