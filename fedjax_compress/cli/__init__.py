"""The command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_compress.cli.commands import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    """Imports the commands when they are first used: the package stays light."""
    if name == "main":
        from fedjax_compress.cli.commands import main

        return main
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
