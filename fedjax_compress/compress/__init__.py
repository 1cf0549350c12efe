"""How an update is compressed: stages, chains of them, and compressors of trees."""

from fedjax_compress.compress.adaptive_bins import adacomp
from fedjax_compress.compress.caldas_coder import caldas
from fedjax_compress.compress.chaining import chain
from fedjax_compress.compress.count_sketching import count_sketch
from fedjax_compress.compress.deep_gradient_compression import dgc
from fedjax_compress.compress.difference import fedpaq
from fedjax_compress.compress.dithered_grid import dorefa_gradient
from fedjax_compress.compress.dropping import gradient_dropping
from fedjax_compress.compress.feedback import error_feedback
from fedjax_compress.compress.fixed_proportion import dryden
from fedjax_compress.compress.fixed_threshold import strom
from fedjax_compress.compress.k_level import uniform
from fedjax_compress.compress.kashin_frame import kashin
from fedjax_compress.compress.labels import by_label
from fedjax_compress.compress.lifts import on_leaves, on_vector
from fedjax_compress.compress.low_rank import power_sgd
from fedjax_compress.compress.mask_forms import MaskCode, mask_fields, masks_from
from fedjax_compress.compress.masking import Masked, masked
from fedjax_compress.compress.nonzero_values import nonzero
from fedjax_compress.compress.one_bit_columns import one_bit
from fedjax_compress.compress.pass_through import identity
from fedjax_compress.compress.quantized_sgd import qsgd
from fedjax_compress.compress.quic import quic_fl
from fedjax_compress.compress.random_k_selection import random_k
from fedjax_compress.compress.rotated_levels import drive, eden
from fedjax_compress.compress.rotation import hadamard
from fedjax_compress.compress.signs import sign, z_sign
from fedjax_compress.compress.sizes import LayerSize, SizeReport, size_report
from fedjax_compress.compress.sparse_ternary import stc
from fedjax_compress.compress.specification import (
    Phase,
    canonical,
    parse,
    phases,
)
from fedjax_compress.compress.stages import stateless
from fedjax_compress.compress.subsampling import subsample
from fedjax_compress.compress.ternary import terngrad
from fedjax_compress.compress.top_k_selection import top_k
from fedjax_compress.compress.type_cast import cast

__all__ = [
    "LayerSize",
    "MaskCode",
    "Masked",
    "Phase",
    "SizeReport",
    "adacomp",
    "by_label",
    "caldas",
    "canonical",
    "cast",
    "chain",
    "count_sketch",
    "dgc",
    "dorefa_gradient",
    "drive",
    "dryden",
    "eden",
    "error_feedback",
    "fedpaq",
    "gradient_dropping",
    "hadamard",
    "identity",
    "kashin",
    "mask_fields",
    "masked",
    "masks_from",
    "nonzero",
    "on_leaves",
    "on_vector",
    "one_bit",
    "parse",
    "phases",
    "power_sgd",
    "qsgd",
    "quic_fl",
    "random_k",
    "sign",
    "size_report",
    "stateless",
    "stc",
    "strom",
    "subsample",
    "terngrad",
    "top_k",
    "uniform",
    "z_sign",
]
