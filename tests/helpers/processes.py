"""What a test gives the processes that it starts."""

from __future__ import annotations

import os
import re
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """Variables for a program as a user starts it, but that it compiles quickly.

    It sees the CPU as one device, compiles with little effort, and keeps what it has
    compiled in a folder of the session, where the next one finds it.
    """
    flags = re.sub(
        r"--xla_force_host_platform_device_count=\d+",
        "",
        os.environ.get("XLA_FLAGS", ""),
    )
    kept = Path(os.environ["FEDJAX_COMPRESS_TESTS_CACHE"], "programs")
    changed = {"XLA_FLAGS": flags.strip(), "FEDJAX_COMPRESS_CACHE": str(kept)}
    return dict(os.environ) | changed | more
