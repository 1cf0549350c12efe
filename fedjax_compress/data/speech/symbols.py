"""What is said, as symbols: words, or characters with a space between words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fedjax_compress.data.speech.recordings import in_order

Units = Literal["words", "characters"]
Words = tuple[str, ...]


def symbols_of(words: Iterable[Words], units: Units) -> tuple[str, ...]:
    """Names of all symbols of these texts; the first, "", stands for none."""
    spoken = {word for text in words for word in text}
    if units == "characters":
        return ("", *in_order({" ", *"".join(spoken)}))
    return ("", *in_order(spoken))


def as_symbols(words: Words, units: Units) -> list[str]:
    """A text as symbols, in order."""
    return list(" ".join(words)) if units == "characters" else list(words)
