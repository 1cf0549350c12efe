"""The account of a run's traffic, in Python integers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from fedjax_compress.errors import InputError


@dataclasses.dataclass
class Ledger:
    """Bytes sent in both directions since the start.

    Invariant: every entry is an exact Python int; nothing is ever rounded.

    Attributes:
      bytes_up: from clients to the server, true bytes.
      bytes_down: from the server to clients, true bytes; a broadcast counts once for
        every client that receives it.
      nominal_bytes_up: the same messages as papers count them.
      nominal_bytes_down: likewise.
      messages_up: number of messages.
      messages_down: likewise.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    nominal_bytes_up: int = 0
    nominal_bytes_down: int = 0
    messages_up: int = 0
    messages_down: int = 0

    def up(self, sizes: Iterable[int], nominal: Iterable[int]) -> None:
        """Enters messages from clients: their sizes in bytes, one by one."""
        true, ideal, number = _sums(sizes, nominal)
        self.bytes_up += true
        self.nominal_bytes_up += ideal
        self.messages_up += number

    def down(self, sizes: Iterable[int], nominal: Iterable[int]) -> None:
        """Enters messages to clients: their sizes in bytes, one by one."""
        true, ideal, number = _sums(sizes, nominal)
        self.bytes_down += true
        self.nominal_bytes_down += ideal
        self.messages_down += number


def _sums(sizes: Iterable[int], nominal: Iterable[int]) -> tuple[int, int, int]:
    true, ideal = [_whole(s) for s in sizes], [_whole(s) for s in nominal]
    if len(true) != len(ideal):
        raise InputError(f"{len(true)} sizes, but {len(ideal)} nominal sizes")
    return sum(true), sum(ideal), len(true)


def _whole(size) -> int:
    number = int(size)
    if number != size or number < 0:
        raise InputError(f"a size is a whole number of bytes, not {size}")
    return number
