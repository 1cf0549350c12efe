"""``python -m fedjax_compress``, the same as ``fedjax-compress``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    from fedjax_compress.cli import commands

    return commands.main(argv)


if __name__ == "__main__":
    sys.exit(main())
