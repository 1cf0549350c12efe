"""Text by speaking role, as sequences of characters."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

from fedjax_compress import registry
from fedjax_compress.data.characters import (
    check_sequences,
    last_held_out,
    next_characters,
)
from fedjax_compress.data.columns import find
from fedjax_compress.data.dataset import Dataset
from fedjax_compress.data.kinds import describe_kind
from fedjax_compress.errors import InputError


@registry.register("data")
def text(path: str, length: int = 80, holdout: float = 0.1) -> Dataset:
    """Next-character prediction on text by speaking role; 90 symbols, 80 a sequence.

    Symbols: 0 padding, 1 begin and 2 end of a speech, 3 .. 88 the 86 characters of
    the usual vocabulary, 89 any other character. The speeches of a role are joined,
    ``begin speech end begin speech end ...``, and cut into sequences; the label of a
    symbol is the one that follows it. The last sequence is filled with padding, which
    no model scores. Each role is a client of its own.

    Args:
      path: JSON, possibly .xz, with ``users`` (list of names) and ``speeches`` (for
        each user the list of speeches in order).
      length: symbols in a sequence.
      holdout: the last speeches of each role are kept for testing: this share of
        them, at least one, but never the only one.

    Reference: sequences of 80 and 90 symbols as for Shakespeare in Reddi et al.,
    "Adaptive Federated Optimization" (2021); joining and cutting as in FedJAX.

    Deviations: symbols are numbered by code point.
    """
    check_sequences(length, holdout)
    parts = [last_held_out(spoken, holdout) for spoken in _read(path)]
    return next_characters(
        Path(path).name.split(".")[0],
        [kept for kept, _ in parts],
        list(enumerate(held for _, held in parts)),
        length,
    )


def _read(path: str) -> list[list[str]]:
    """The speeches of each role that says something."""
    file = find(path, "file")
    opener = lzma.open if file.suffix == ".xz" else open
    try:
        with opener(file, "rt", encoding="utf-8") as stream:
            data = json.load(stream)
        pairs = zip(data["users"], data["speeches"], strict=True)
        speeches = [[str(speech) for speech in said] for _, said in pairs if said]
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be read: {reason}") from None
    except (ValueError, KeyError, TypeError, EOFError, lzma.LZMAError):
        kind = describe_kind(file)
        other = "" if "JSON" in kind or "xz" in kind else f"; it {kind.split(';')[0]}"
        raise InputError(
            f"{path} is not JSON with 'users' and, for each, a list in "
            f"'speeches'{other}"
        ) from None
    if not speeches:
        raise InputError(f"{path}: nobody says anything")
    return speeches
