"""Virtual time and energy: links, devices, availability, and whom a round waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedjax_compress.clock._devices import device_classes, devices
from fedjax_compress.clock._energy import energy
from fedjax_compress.clock._network import network
from fedjax_compress.clock._trace import trace
from fedjax_compress.clock.activity import Activity
from fedjax_compress.clock.choosing import Choice, Spans, choose, length, spans, uniform
from fedjax_compress.clock.clock import Clock, Layers, Part, Power, parse
from fedjax_compress.clock.published import prunefl
from fedjax_compress.clock.waiting import deadline, dropout, over_selection

if TYPE_CHECKING:
    from fedjax_compress.clock.fedscale import convert_fedscale

__all__ = [
    "Activity",
    "Choice",
    "Clock",
    "Layers",
    "Part",
    "Power",
    "Spans",
    "choose",
    "convert_fedscale",
    "deadline",
    "device_classes",
    "devices",
    "dropout",
    "energy",
    "length",
    "network",
    "over_selection",
    "parse",
    "prunefl",
    "spans",
    "trace",
    "uniform",
]


def __getattr__(name: str) -> Any:
    """Imports what is a program as well when it is first used."""
    if name == "convert_fedscale":
        from fedjax_compress.clock.fedscale import convert_fedscale

        globals()[name] = convert_fedscale
        return convert_fedscale
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
