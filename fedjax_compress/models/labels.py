"""Parameters by labels: whole paths, or parts of them."""

from __future__ import annotations

from collections.abc import Iterable

from fedjax_compress.errors import InputError
from fedjax_compress.registry import nearest


def labelled(paths: Iterable[str], labels: tuple[str, ...]) -> list[str]:
    """The paths that a label names, as a whole or by a part.

    Raises:
      InputError: a label that names none.
    """
    paths = list(paths)
    known = {part for path in paths for part in (path, *path.split("/"))}
    for label in labels:
        if label not in known:
            hint = nearest(label, sorted(known))
            raise InputError(f"no parameter is labelled {label!r}; {hint}")
    return [p for p in paths if any(x in labels for x in (p, *p.split("/")))]
