"""Several processes, on one host or many, as one run: start, meeting, end."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from fedjax_compress.errors import InputError
from fedjax_compress.simulate import coordinator
from fedjax_compress.simulate.link import ALONE, Link

_KEY = "fedjax_compress/link"
_MEET = 300.0
"""Seconds in which all processes have to be there; jax waits as long."""

_link = ALONE


class Launch(NamedTuple):
    """How this process finds the others; nothing of it changes a number of the run.

    Attributes:
      coordinator: HOST:PORT at which process 0 can be reached by all.
      processes: how many there are.
      process_id: which one this is, from 0.
      distributed: take all that is not given from the cluster's environment.
    """

    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    distributed: bool = False


def check(launch: Launch) -> bool:
    """Whether other processes are to be met.

    Raises:
      InputError: what is given does not go together.
    """
    address, count, index, cluster = launch
    given = {"--coordinator": address, "--processes": count, "--process-id": index}
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
        with coordinator.apart():
            jax.distributed.initialize(
                launch.coordinator,
                launch.processes,
                launch.process_id,
                cluster_detection_method=method,
                initialization_timeout=int(_MEET),
            )
    except Exception as error:
        raise InputError(_why(error, launch)) from error


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
    """The link to the other processes, made at the first call; all must call it."""
    global _link
    if processes() > 1 and _link is ALONE:
        try:
            _link = _connect()
        except (OSError, ValueError, jax.errors.JaxRuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"the processes cannot talk: {reason}") from error
    return _link


def leave(status: int) -> None:
    """Ends the part of this process; does not return where others go without it."""
    global _link
    mine, _link = _link, ALONE
    mine.leave(status)
    if status and mine.count > 1:
        # jax would wait for all processes at the end of this one.
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        if isinstance(service := _state().service, coordinator.Service):
            service.end_with_me()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status)


def _state() -> Any:
    from jax._src import distributed  # jax has no public way to its key-value store

    return distributed.global_state


def _connect() -> Link:
    state = _state()
    index, count = state.process_id, state.num_processes
    if index == 0:
        ends = dict(_accept(count - 1, state.client))
    else:
        words = state.client.blocking_key_value_get(_KEY, int(1000 * _MEET))
        port, token = json.loads(words)
        host = state.coordinator_address.rpartition(":")[0].strip("[]")
        end = socket.create_connection((host, port), _MEET)
        end.sendall(json.dumps([token, index]).encode() + b"\n")
        ends = {0: end}
    for end in ends.values():
        _keep_alive(end)
    return Link(index, count, ends)


def _accept(others: int, client: Any) -> Iterator[tuple[int, socket.socket]]:
    """Connections of all other processes; strangers are turned away."""
    token = secrets.token_hex(16)
    with socket.create_server(("", 0), backlog=others) as server:
        server.settimeout(_MEET)
        words = json.dumps([server.getsockname()[1], token])
        client.key_value_set(_KEY, words)
        met: set[int] = set()
        while len(met) < others:
            end, _ = server.accept()
            end.settimeout(_MEET)
            try:
                with end.makefile("rb", buffering=0) as stream:
                    shown, index = json.loads(stream.readline(200))
            except (OSError, ValueError, TypeError):
                end.close()
                continue
            if not secrets.compare_digest(str(shown), token):
                end.close()
                continue
            met.add(index)
            yield index, end


def _keep_alive(end: socket.socket) -> None:
    """No limit of time; but a host that is cut off is noticed after two minutes."""
    end.settimeout(None)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("KEEPIDLE", 60), ("KEEPINTVL", 15), ("KEEPCNT", 4)):
        if option := getattr(socket, f"TCP_{name}", None):
            end.setsockopt(socket.IPPROTO_TCP, option, value)
