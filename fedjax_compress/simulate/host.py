"""What this machine lets a process use, told to JAX before it starts."""

from __future__ import annotations

import math
import os
from pathlib import Path

_DEVICES = "--xla_force_host_platform_device_count"
_PATIENCE = {
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds": 3600,
    "--xla_cpu_collective_call_terminate_timeout_seconds": 30 * 86400,
}
"""XLA ends the process if a device of the CPU waits longer than this for the others.
Its own limits are seconds, but one client may have a thousand times another's rows."""


def cores() -> int:
    """Cores that this process may use: by its affinity, and by its share of time."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, _quota()))


def _quota() -> int:
    """Cores that a container's limit comes to; many where there is none."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.ceil(int(limit) / int(period))
    except (OSError, ValueError):
        return 2**31


def request_devices(number: int) -> None:
    """Lets the CPU appear as ``number`` devices of this process.

    Read when JAX starts a backend; has no effect afterwards, nor on accelerators. What
    the user has put into ``XLA_FLAGS`` stays.
    """
    if number < 2:
        return
    flags = os.environ.get("XLA_FLAGS", "")
    for name, value in {_DEVICES: number, **_PATIENCE}.items():
        if name not in flags:
            flags = f"{flags} {name}={value}".strip()
    os.environ["XLA_FLAGS"] = flags
