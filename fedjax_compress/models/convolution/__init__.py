"""Convolutions: the layer, the forms it is computed in, and which is taken where."""

from fedjax_compress.models.convolution.forms import Form, convolution_form
from fedjax_compress.models.convolution.layer import Convolution, max_pool
from fedjax_compress.models.convolution.rewrite import rewrite_convolutions

__all__ = [
    "Convolution",
    "Form",
    "convolution_form",
    "max_pool",
    "rewrite_convolutions",
]
