"""Models of pure functions over nested dicts of parameters."""

from __future__ import annotations

from fedjax_compress.models.cnn import cnn, emnist_cnn
from fedjax_compress.models.convolution import Convolution, max_pool
from fedjax_compress.models.cost import Cost, cost
from fedjax_compress.models.dense import logistic, mlp
from fedjax_compress.models.forms import Form, convolution_form
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.models.lstm import LSTM
from fedjax_compress.models.nnx_model import from_nnx
from fedjax_compress.models.rewrite import rewrite_convolutions
from fedjax_compress.models.text import char_lstm

__all__ = [
    "LSTM",
    "Convolution",
    "Cost",
    "Form",
    "char_lstm",
    "cnn",
    "convolution_form",
    "cost",
    "emnist_cnn",
    "from_linen",
    "from_nnx",
    "logistic",
    "max_pool",
    "mlp",
    "rewrite_convolutions",
]
