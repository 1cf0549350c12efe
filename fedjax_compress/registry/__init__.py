"""Names to factories, with their options, types and one-line descriptions."""

from fedjax_compress.registry._entries import (
    Entry,
    Option,
    entries,
    foreign,
    kinds,
    lookup,
    register,
)
from fedjax_compress.registry.building import (
    bind,
    build,
    build_by,
    build_call,
    canonical,
    check_spec,
    only_call,
    register_component,
)
from fedjax_compress.registry.conversion import (
    convert,
    inner_kinds,
    nearest,
    register_type,
    type_name,
)
from fedjax_compress.registry.listing import KINDS, describe
from fedjax_compress.registry.texts import (
    DataSpec,
    LocalSpec,
    ModelSpec,
    PartitionSpec,
    ServerSpec,
)

__all__ = [
    "KINDS",
    "DataSpec",
    "Entry",
    "LocalSpec",
    "ModelSpec",
    "Option",
    "PartitionSpec",
    "ServerSpec",
    "bind",
    "build",
    "build_by",
    "build_call",
    "canonical",
    "check_spec",
    "convert",
    "describe",
    "entries",
    "foreign",
    "inner_kinds",
    "kinds",
    "lookup",
    "nearest",
    "only_call",
    "register",
    "register_component",
    "register_type",
    "type_name",
]
