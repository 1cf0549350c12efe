"""How an update is compressed: stages, chains of them, and compressors of trees."""

from fedjax_compress.compress.chaining import chain
from fedjax_compress.compress.feedback import error_feedback
from fedjax_compress.compress.k_level import uniform
from fedjax_compress.compress.labels import by_label
from fedjax_compress.compress.lifts import on_leaves, on_vector
from fedjax_compress.compress.pass_through import identity
from fedjax_compress.compress.quantized_sgd import qsgd
from fedjax_compress.compress.random_k_selection import random_k
from fedjax_compress.compress.rotation import hadamard
from fedjax_compress.compress.specification import (
    Phase,
    canonical,
    parse,
    phases,
)
from fedjax_compress.compress.stages import stateless
from fedjax_compress.compress.top_k_selection import top_k
from fedjax_compress.compress.type_cast import cast

__all__ = [
    "Phase",
    "by_label",
    "canonical",
    "cast",
    "chain",
    "error_feedback",
    "hadamard",
    "identity",
    "on_leaves",
    "on_vector",
    "parse",
    "phases",
    "qsgd",
    "random_k",
    "stateless",
    "top_k",
    "uniform",
]
