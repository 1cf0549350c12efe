"""Folders as LEAF's scripts write them: users, num_samples and user_data, by part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Examples = tuple[list[Any], list[Any]]
"""x and y of one user."""


def dump(users: Mapping[str, Examples], file: Path, **more: Any) -> None:
    """Writes one file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "users": list(users),
        "num_samples": [len(y) for _, y in users.values()],
        "user_data": {name: {"x": x, "y": y} for name, (x, y) in users.items()},
        **more,
    }
    with open(file, "w") as stream:
        json.dump(content, stream)


def dump_parts(
    train: Mapping[str, Examples], test: Mapping[str, Examples], folder: Path
) -> Path:
    """Writes both parts, each in two shards, as of ``-t sample``; gives the folder."""
    for part, users in (("train", train), ("test", test)):
        names = list(users)
        half = len(names) // 2
        for i, some in enumerate((names[:half], names[half:])):
            file = folder / part / f"all_data_{i}_niid_1_keep_0_{part}_9.json"
            dump({name: users[name] for name in some}, file)
    return folder
