"""Configurations as TOML: read with the standard library, written by a few lines."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import FIELDS, Config, from_dict, is_object


def load_toml(path: str | Path) -> Config:
    """The configuration in a TOML file; what is absent has its default.

    Raises:
      InputError: the file cannot be read or is not TOML, a setting is unknown (with
        the nearest known one), or a value has the wrong type.
    """
    return from_dict(read_toml(path), str(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The names and values in a TOML file.

    Raises:
      InputError: the file cannot be read or is not TOML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Notepad puts a mark
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"cannot read the configuration {path}: {reason}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from None


def dump_toml(config: Config, leave_out: tuple[str, ...] = ()) -> str:
    """The complete configuration as TOML, a comment before each setting."""
    parts = []
    for name, field in FIELDS.items():
        if name in leave_out:
            continue
        value = format_toml(getattr(config, name))
        note = f"# {field.metadata['help']}\n"
        if is_object(getattr(config, name)):
            note += (
                "# an object, to be given again: experiment.resume(..., parts={...})\n"
            )
        parts.append(f"{note}{name} = {value}\n")
    return "\n".join(parts)


def format_toml(value: str | int | float | bool | tuple[str, ...]) -> str:
    """One value in TOML's notation."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(format_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
