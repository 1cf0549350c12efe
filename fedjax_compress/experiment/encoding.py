"""What the encoding of a shell takes and gives."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from fedjax_compress.errors import InputError


def print_all_characters() -> None:
    """Shows what the terminal's encoding lacks as escapes, instead of failing there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def check_text(arguments: Sequence[str]) -> None:
    """Refuses arguments with bytes that the shell's encoding does not know.

    Raises:
      InputError: names the argument and the encoding.
    """
    for text in arguments:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"{text!a} is no text in {sys.getfilesystemencoding()}, the "
                "encoding of this shell; set LC_ALL=C.UTF-8"
            )
