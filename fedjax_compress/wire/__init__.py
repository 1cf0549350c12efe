"""What travels: fields of symbols, exact bits inside jit, bytes on the host."""

from fedjax_compress.wire import codes, sparse
from fedjax_compress.wire.code import (
    CODES,
    BitReader,
    Code,
    IndexCode,
    SymbolCode,
    check_code,
    register_code,
)
from fedjax_compress.wire.field import Field, Shape, fields, raw, shape_of, smallest
from fedjax_compress.wire.host_sizes import FieldSize, entropy, field_sizes
from fedjax_compress.wire.ledger import Ledger
from fedjax_compress.wire.measure import (
    HEADER_BYTES,
    bits,
    foreseen,
    foreseen_rows,
    nominal_size,
    size,
)
from fedjax_compress.wire.message import pack, unpack
from fedjax_compress.wire.ragged import Ragged, ragged
from fedjax_compress.wire.whole import squeeze, unsqueeze, whole_sizes

__all__ = [
    "CODES",
    "HEADER_BYTES",
    "BitReader",
    "Code",
    "Field",
    "FieldSize",
    "IndexCode",
    "Ledger",
    "Ragged",
    "Shape",
    "SymbolCode",
    "bits",
    "check_code",
    "codes",
    "entropy",
    "field_sizes",
    "fields",
    "foreseen",
    "foreseen_rows",
    "nominal_size",
    "pack",
    "ragged",
    "raw",
    "register_code",
    "shape_of",
    "size",
    "smallest",
    "sparse",
    "squeeze",
    "unpack",
    "unsqueeze",
    "whole_sizes",
]
