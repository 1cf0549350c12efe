"""How an update is compressed: stages, chains of them, and compressors of trees."""

from fedjax_compress.compress._adacomp import adacomp
from fedjax_compress.compress._by_label import by_label
from fedjax_compress.compress._caldas import caldas
from fedjax_compress.compress._cast import cast
from fedjax_compress.compress._chain import chain
from fedjax_compress.compress._count_sketch import count_sketch
from fedjax_compress.compress._dgc import dgc
from fedjax_compress.compress._dorefa_gradient import dorefa_gradient
from fedjax_compress.compress._drive_eden import drive, eden
from fedjax_compress.compress._dryden import dryden
from fedjax_compress.compress._error_feedback import error_feedback
from fedjax_compress.compress._fedpaq import fedpaq
from fedjax_compress.compress._gradient_dropping import gradient_dropping
from fedjax_compress.compress._hadamard import hadamard
from fedjax_compress.compress._identity import identity
from fedjax_compress.compress._kashin import kashin
from fedjax_compress.compress._masked import Masked, masked
from fedjax_compress.compress._nonzero import nonzero
from fedjax_compress.compress._one_bit import one_bit
from fedjax_compress.compress._power_sgd import power_sgd
from fedjax_compress.compress._qsgd import qsgd
from fedjax_compress.compress._quic_fl import quic_fl
from fedjax_compress.compress._random_k import random_k
from fedjax_compress.compress._stc import stc
from fedjax_compress.compress._strom import strom
from fedjax_compress.compress._subsample import subsample
from fedjax_compress.compress._terngrad import terngrad
from fedjax_compress.compress._top_k import top_k
from fedjax_compress.compress._uniform import uniform
from fedjax_compress.compress.lifts import on_leaves, on_vector
from fedjax_compress.compress.mask_forms import MaskCode, mask_fields, masks_from
from fedjax_compress.compress.signs import sign, z_sign
from fedjax_compress.compress.sizes import LayerSize, SizeReport, size_report
from fedjax_compress.compress.specification import (
    Phase,
    canonical,
    parse,
    phases,
)
from fedjax_compress.compress.stages import stateless

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
