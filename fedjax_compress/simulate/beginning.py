"""What one client does before the first round, as a program of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.clients import ClientData, group
from fedjax_compress.errors import InputError
from fedjax_compress.runtime.compiling import compile_program
from fedjax_compress.simulate.chunk import Fixed, client_context, server_context
from fedjax_compress.typing import Beginning, Key, Server

_NUMBER = 2**31 - 1
"""The number of the round to which its randomness belongs, which never comes."""


def compiled(
    begin: Beginning, server: Server, fixed: Fixed, data: ClientData, root: Key
) -> Callable[[Server], Server]:
    """The program: server -> server.

    Args:
      begin: who does what.
      server: whose shapes are read.
      fixed: what every step is told.
      data: rows of all clients, on the host or one device.
      root: the run's key.

    Raises:
      InputError: there is no such client.
    """
    clients = len(np.asarray(data.sizes))
    if not 0 <= begin.client < clients:
        raise InputError(
            f"client {begin.client}, which begins, is none of {clients}, which are "
            "counted from 0"
        )
    rows, number = rows_of(data, begin.client), jnp.asarray(_NUMBER)

    def work(server: Server, data: ClientData) -> Server:
        place = jnp.zeros((), jnp.int32)
        size = data.size_of(place)
        context = client_context(
            server_context(root, number, *fixed),
            root,
            jnp.asarray(begin.client),
            {"examples": size},
        )
        return begin.run(server, data.shard(place, size), context)

    program = compile_program(jax.jit(work).lower(server, rows))
    return functools.partial(_run, program, rows)


def _run(program: Any, rows: ClientData, server: Server) -> Server:
    return program(server, rows)


def rows_of(data: ClientData, client: int) -> ClientData:
    """The rows of one client alone, as client 0."""
    first, end = np.asarray(data.offsets[client : client + 2])
    return group(data.taken(slice(first, end)), np.zeros(end - first, np.int32), 1)
