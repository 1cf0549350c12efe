"""What travels: fields of symbols, exact bits inside jit, bytes on the host."""

from fedjax_compress.wire import (
    arithmetic,
    best,
    bitmask,
    elias,
    fixed,
    gamma,
    golomb,
    huffman,
    radix,
    sparse,
    sparse_gaps,
    sparse_indices,
    stream,
    words,
    zero_runs,
)
from fedjax_compress.wire.codes import (
    BitReader,
    Code,
    IndexCode,
    SymbolCode,
    check_code,
    codes,
    register,
)
from fedjax_compress.wire.field import Field, Shape, fields, raw, shape_of, smallest
from fedjax_compress.wire.host_sizes import FieldSize, entropy, field_sizes
from fedjax_compress.wire.ledger import Ledger
from fedjax_compress.wire.measure import (
    HEADER_BYTES,
    bits,
    nominal_size,
    size,
)
from fedjax_compress.wire.message import pack, unpack
from fedjax_compress.wire.whole import squeeze, unsqueeze, whole_sizes

__all__ = [
    "HEADER_BYTES",
    "BitReader",
    "Code",
    "Field",
    "FieldSize",
    "IndexCode",
    "Ledger",
    "Shape",
    "SymbolCode",
    "arithmetic",
    "best",
    "bitmask",
    "bits",
    "check_code",
    "codes",
    "elias",
    "entropy",
    "field_sizes",
    "fields",
    "fixed",
    "gamma",
    "golomb",
    "huffman",
    "nominal_size",
    "pack",
    "radix",
    "raw",
    "register",
    "shape_of",
    "size",
    "smallest",
    "sparse",
    "sparse_gaps",
    "sparse_indices",
    "squeeze",
    "stream",
    "unpack",
    "unsqueeze",
    "whole_sizes",
    "words",
    "zero_runs",
]
