"""Options that hold the SPEC of a component that is built later, with a context."""

from __future__ import annotations

from typing import Any, NewType

from fedjax_compress import spec
from fedjax_compress.registry._entries import lookup
from fedjax_compress.registry.building import bind
from fedjax_compress.registry.conversion import register_text

DataSpec = NewType("DataSpec", str)
"""Text of a SPEC of ``--data``."""
LocalSpec = NewType("LocalSpec", str)
"""Likewise of ``--local``."""
ModelSpec = NewType("ModelSpec", str)
"""Likewise of ``--model``."""
PartitionSpec = NewType("PartitionSpec", str)
"""Likewise of ``--partition``."""
ServerSpec = NewType("ServerSpec", str)
"""Likewise of ``--server``."""
_KINDS = (
    (DataSpec, "data"), (LocalSpec, "local"), (ModelSpec, "model"),
    (PartitionSpec, "partition"), (ServerSpec, "server"),
)  # fmt: skip


def _register(annotation: Any, kind: str) -> None:
    def builder(pipe: spec.Pipe, text: str) -> str:
        call = pipe.calls[0]
        bind(lookup(call, kind, text=text), call, text)
        return str(pipe)

    register_text(annotation, builder, kind)


for _annotation, _kind in _KINDS:
    _register(_annotation, _kind)
