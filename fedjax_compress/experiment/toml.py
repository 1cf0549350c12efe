"""Configurations as TOML: read with the standard library, written by a few lines."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import FIELDS, Config, from_dict


def load_toml(path: str | Path) -> Config:
    """The configuration in a TOML file; what is absent has its default.

    Raises:
      InputError: the file cannot be read or is not TOML, a setting is unknown (with
        the nearest known one), or a value has the wrong type.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Notepad puts a mark
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"cannot read the configuration {path}: {reason}") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    return from_dict(values, str(path))


def dump_toml(config: Config) -> str:
    """The complete configuration as TOML, a comment before each setting."""
    parts = []
    for name, field in FIELDS.items():
        value = format_toml(getattr(config, name))
        parts.append(f"# {field.metadata['help']}\n{name} = {value}\n")
    return "\n".join(parts)


def format_toml(value: str | int | float | bool) -> str:
    """One value in TOML's notation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
