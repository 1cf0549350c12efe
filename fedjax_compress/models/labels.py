"""Parameters by labels: whole paths, or parts of them."""

from __future__ import annotations

from typing import Any

from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest


def labelled(paths: dict[str, Any], labels: tuple[str, ...]) -> list[str]:
    """The paths that a label names, as a whole or by a part.

    Raises:
      InputError: a label that names none.
    """
    known = {part for path in paths for part in (path, *path.split("/"))}
    for label in labels:
        if label not in known:
            hint = nearest(label, sorted(known))
            raise InputError(f"no parameter is labelled {label!r}; {hint}")
    return [p for p in paths if any(x in labels for x in (p, *p.split("/")))]
