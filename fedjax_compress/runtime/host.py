"""What this machine lets a process use, told to JAX before it starts."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedjax_compress.errors import InputError

_DEVICES = "--xla_force_host_platform_device_count"
_PATIENCE = {
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds": 3600,
    "--xla_cpu_collective_call_terminate_timeout_seconds": 30 * 86400,
    "--xla_cpu_collective_timeout_seconds": 30 * 86400,
}
"""XLA ends the process if a device of the CPU waits longer than this for the others.
Its own limits are seconds, but one client may have a thousand times another's rows;
half an hour between processes, but one may evaluate for longer."""


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


def memory(device: Any) -> int:
    """Bytes that a device can hold; where it does not tell, those of this machine."""
    told = device.memory_stats() or {}
    found = told.get("bytes_limit")
    return int(found or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def give_back() -> None:
    """Gives memory that is no longer used back to the system, where the C library keeps
    it; a run after another would take as much again."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def check_settings() -> None:
    """Refuses settings of jax with which no round can run.

    Raises:
      InputError: names the variable and what to do.
    """
    import jax

    config: Any = jax.config
    if config.jax_enable_x64:
        raise InputError(
            "JAX_ENABLE_X64 is on, but everything here is float32 and int32; unset it"
        )
    if config.jax_disable_jit:
        raise InputError(
            "JAX_DISABLE_JIT is on, but a round is one compiled program; unset it"
        )
    if "disallow" in str(config.jax_transfer_guard):
        raise InputError(
            "JAX_TRANSFER_GUARD forbids what goes to the device before a round and "
            "comes back after it; unset it"
        )


def start_devices() -> None:
    """Has jax start its devices, which it does once.

    Raises:
      InputError: jax finds none where it was told to look.
    """
    import jax

    config: Any = jax.config
    default = config.jax_default_device
    try:
        jax.devices()
        if isinstance(default, str):
            jax.devices(default)
    except Exception as error:
        reason = (str(error).strip() or "there is none").splitlines()[0]
        told = _told(config)
        them = "them" if "," in told else "it"
        needs = "install what it needs, as in pip install 'fedjax_compress[cuda13]'"
        raise InputError(
            f"jax cannot start {told}: {reason}; unset {them}, or {needs}"
        ) from error


def _told(config: Any) -> str:
    """What jax was told of its devices, and else all variables that it reads."""
    told = {
        "JAX_PLATFORMS": config.jax_platforms,
        "JAX_DEFAULT_DEVICE": config.jax_default_device,
        "JAX_NUM_CPU_DEVICES": os.environ.get("JAX_NUM_CPU_DEVICES"),
    }
    said = [f"{name}={value}" for name, value in told.items() if value]
    said = said or sorted(name for name in os.environ if name.startswith("JAX_"))
    return ", ".join(said) or "any device"


def request_devices(number: int, processes: int = 1) -> None:
    """Lets the CPU appear as ``number`` devices of each of so many processes.

    Read when JAX starts a backend; has no effect afterwards, nor on accelerators. What
    the user has put into ``XLA_FLAGS`` stays.
    """
    if number < 2 and processes < 2:
        return
    flags = os.environ.get("XLA_FLAGS", "")
    for name, value in {_DEVICES: max(1, number), **_PATIENCE}.items():
        if name not in flags:
            flags = f"{flags} {name}={value}".strip()
    os.environ["XLA_FLAGS"] = flags


@contextlib.contextmanager
def silent_stdout() -> Iterator[None]:
    """Lets pass nothing; the CPU's collectives write there, past Python."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
