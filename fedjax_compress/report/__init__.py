"""Records of runs, and what is made of them: figures, tables, plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_compress.report.reporting import report

__all__ = ["report"]


def __getattr__(name: str) -> Any:
    """Imports what draws when it is first used: the command line starts fast."""
    if name == "report":
        from fedjax_compress.report.reporting import report

        globals()[name] = report
        return report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
