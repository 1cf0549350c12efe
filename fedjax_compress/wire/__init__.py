"""What travels: fields of symbols, exact bits inside jit, bytes on the host."""

from fedjax_compress.wire import bitmask, elias, fixed, golomb, radix, stream
from fedjax_compress.wire.codes import BitReader, Code, codes, register
from fedjax_compress.wire.field import Field, Shape, fields, raw, shape_of, smallest
from fedjax_compress.wire.ledger import Ledger
from fedjax_compress.wire.measure import HEADER_BYTES, bits, nominal_size, size
from fedjax_compress.wire.message import pack, unpack

__all__ = [
    "HEADER_BYTES",
    "BitReader",
    "Code",
    "Field",
    "Ledger",
    "Shape",
    "bitmask",
    "bits",
    "codes",
    "elias",
    "fields",
    "fixed",
    "golomb",
    "nominal_size",
    "pack",
    "radix",
    "raw",
    "register",
    "shape_of",
    "size",
    "smallest",
    "stream",
    "unpack",
]
