"""Several processes, on one host or many, as one run: start, meeting, end.

All that they say to each other goes through JAX: its runtime, in which they meet and
which notices when one is gone, and its collectives.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_compress.errors import InputError, Lost
from fedjax_compress.runtime import host, last_words
from fedjax_compress.runtime.meeting import ALONE, Gather, Link

_FREE = 15.0
"""Seconds in which the port has to become free, if a run on it has just ended."""
_TOGETHER = 5.0
"""Seconds that processes which end early wait for each other."""
_DEFECT = 1
_link = ALONE


class Launch(NamedTuple):
    """How this process finds the others; nothing of it changes a number of the run.

    Attributes:
      coordinator: HOST:PORT at which process 0 can be reached by all.
      processes: how many there are.
      process_id: which one this is, from 0.
      distributed: take all that is not given from the cluster's environment.
      heartbeat: seconds without a sign of life after which a process counts as dead.
    """

    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    distributed: bool = False
    heartbeat: int = 100


def check(launch: Launch) -> bool:
    """Whether other processes are to be met.

    Raises:
      InputError: what is given does not go together.
    """
    address, count, index, cluster, heartbeat = launch
    given = {"--coordinator": address, "--processes": count, "--process-id": index}
    if heartbeat < 1:
        raise InputError(f"--heartbeat must be at least 1 second, not {heartbeat}")
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3:
        return cluster
    if missing and not cluster:
        raise InputError(
            f"{' and '.join(missing)} must be given too: --coordinator HOST:PORT, "
            "--processes N and --process-id I belong together"
        )
    if address is not None:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
            raise InputError(
                f"--coordinator must be HOST:PORT, such as node-0:8476, not {address!r}"
            )
    if count is not None and count < 1:
        raise InputError(f"--processes must be at least 1, not {count}")
    if index is not None and not 0 <= index < (count or index + 1):
        right = "at least 0" if count is None else f"0 to {count - 1}"
        raise InputError(f"--process-id must be {right}, not {index}")
    return cluster or count != 1


def start(launch: Launch) -> None:
    """Meets the other processes; before anything asks jax for its devices.

    Raises:
      InputError: what is given does not go together, there is no cluster to take the
        rest from, or the processes do not find each other.
    """
    if not check(launch) or jax.distributed.is_initialized():
        return
    # It would take SIGTERM away from Python, and wait for all processes to get one.
    jax.config.update("jax_enable_preemption_service", False)
    method = None if launch.distributed else "deactivate"
    try:
        if launch.coordinator and launch.process_id == 0:
            _wait_until_free(int(launch.coordinator.rpartition(":")[2]))
        jax.distributed.initialize(
            launch.coordinator,
            launch.processes,
            launch.process_id,
            cluster_detection_method=method,
            heartbeat_timeout_seconds=launch.heartbeat,
        )
    except Exception as error:
        raise InputError(_why(error, launch)) from error
    last_words.prepare(_last_words, Lost.STATUS)


def _last_words() -> str:
    state = _state()
    mine = Link(state.process_id, state.num_processes)
    mine.hint = _link.hint
    return f"fedjax-compress: {name()}{mine.loss()}"


def _wait_until_free(port: int) -> None:
    """Until a run that has just ended gives it back; jax would share it with another.

    Raises:
      OSError: it is in use.
    """
    end = time.monotonic() + _FREE
    while True:
        try:
            socket.create_server(("", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _why(error: Exception, launch: Launch) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "should be defined" in reason or "must be defined" in reason:
        return (
            "--distributed finds no cluster it knows (SLURM, Open MPI, Cloud TPU, "
            "Kubernetes); give --coordinator HOST:PORT, --processes N and "
            "--process-id I"
        )
    where = f" at {launch.coordinator}" if launch.coordinator else ""
    return f"the processes could not meet{where}: {reason}"


def processes() -> int:
    """Number of processes; asks no device."""
    return _state().num_processes if jax.distributed.is_initialized() else 1


def name() -> str:
    """What this process calls itself in messages; empty for process 0."""
    return f"process {_link.index}: " if _link.index else ""


def link() -> Link:
    """The link to the other processes; starts the devices at the first call."""
    global _link
    if processes() > 1 and _link is ALONE:
        state = _state()
        _link = Link(state.process_id, state.num_processes, _collective())
    return _link


def leave(status: int) -> None:
    """Ends the part of this process; does not return where others go without it.

    Process 0, in which the runtime's service lives, is to be the last one. Where all
    end for the same reason they wait for each other; where one is lost the others have
    a moment to notice it by themselves.
    """
    global _link
    if not status or processes() == 1:
        _link = ALONE
        return
    # jax would wait for all processes at the end of this one.
    if sys.exc_info()[0] is not None:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    last_words.leave(status)
    if status not in (_DEFECT, Lost.STATUS):
        end = threading.Thread(target=_disconnect, daemon=True)
        end.start()
        end.join(_TOGETHER)
    elif _state().process_id == 0:
        time.sleep(_TOGETHER / 2)
    os._exit(status)


def _disconnect() -> None:
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()


def _collective() -> Gather:
    """Gives every process the rows of all, over one device of each."""
    from jax.experimental import multihost_utils
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    first = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh(np.array([first[p] for p in sorted(first)]), ("processes",))
    cut, whole = PartitionSpec("processes"), NamedSharding(mesh, PartitionSpec())
    copy = jax.jit(lambda rows: rows, out_shardings=whole)

    def gather(row: np.ndarray) -> np.ndarray:
        rows = multihost_utils.host_local_array_to_global_array(row[None], mesh, cut)
        return np.asarray(copy(rows).addressable_data(0))

    with host.silent_stdout():
        gather(np.zeros(1, np.uint8))
    return gather


def _state() -> Any:
    from jax._src import distributed  # what is public starts the devices

    return distributed.global_state
