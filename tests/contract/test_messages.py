"""Nothing but payloads passes between server and clients, of any registered algorithm.

Two rounds are played client by client, once with payloads as they are, once with what
is unpacked from their bytes; all that is left must be the same bit for bit. The second
time the server's end is built anew, unpacks by what it knows itself, and takes up
reports when all clients of the round are done: what one end computed, and a value that
belongs to another client, are out of reach. Weights travel uncounted, so they must
follow from the number of examples alone.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import End, play
from every_algorithm import algorithm_of, data, names, new_algorithm, params_of
from jax.experimental import io_callback

from fedjax_compress import wire
from fedjax_compress.clients import ClientData
from fedjax_compress.errors import InputError

ROUNDS = 2


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "algorithm_name" in metafunc.fixturenames:
        metafunc.parametrize("algorithm_name", names())


def as_it_is(kind, payload, like):
    return payload


def by_bytes(kind, payload, like):
    return wire.unpack(wire.pack(jax.device_get(payload)), like)


def same_bits(one, other):
    """Raises AssertionError unless both have the same structure, dtypes and bits."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert x.tobytes() == y.tobytes()


def other_rows(rows):
    """As many rows of each client, with other features."""
    features = -rows.columns["features"][::-1]
    return ClientData(rows.columns | {"features": features}, rows.offsets)


def check_boundary(name, make):
    """Raises AssertionError where more than payloads passes from end to end.

    Args:
      name: of a registered algorithm, whose model is trained.
      make: builds the algorithm anew.
    """
    clients, server, params = End(make()), End(make()), params_of(name)
    run = functools.partial(play, params=params, rounds=ROUNDS)
    try:
        whole = list(run(clients, clients, data=data(), passes=as_it_is))
        found = list(run(server, clients, data=data(), passes=by_bytes, at_once=False))
        others = list(run(clients, clients, data=other_rows(data()), passes=as_it_is))
    except jax.errors.UnexpectedTracerError as error:
        raise AssertionError("one end uses what the other computed") from error
    for one, two, three in zip(whole, found, others, strict=True):
        same_bits(one, two)
        same_bits(one.weights, three.weights)


def test_what_arrives_as_bytes_is_all_that_matters(algorithm_name):
    check_boundary(algorithm_name, lambda: new_algorithm(algorithm_name))


def test_there_are_messages_of_each_kind_and_records_that_change():
    """Lest the test above compares nothing."""
    seen, changed = set(), 0

    def noted(kind, payload, like):
        if jax.tree.leaves(payload):
            seen.add(kind)
        return payload

    for name in ("fedavg", "lotteryfl"):
        end, params = End(algorithm_of(name)), params_of(name)
        (played,) = play(end, end, params, data(), 1, noted)
        new = jax.tree.leaves(algorithm_of(name).record_init(params))
        for kept in played.kept.values():
            pairs = zip(jax.tree.leaves(kept.record), new, strict=True)
            changed += any(np.any(a != b) for a, b in pairs)
    assert seen == {"broadcast", "unicast", "report"}
    assert changed > 0


def through_a_tracer(algorithm):
    """``reduce`` has the client's state from a list that both functions close over."""
    held = []

    def client(*given):
        report = algorithm.client(*given)
        held.append(report.state)
        return report

    def reduce(server, payload, weight, record, context):
        acc, record = algorithm.reduce(server, payload, weight, record, context)
        memory = jax.tree.leaves(held[-1])[0]
        return jax.tree.map(lambda x: x + memory.astype(x.dtype), acc), record

    return algorithm._replace(client=client, reduce=reduce)


def through_python(algorithm):
    """``reduce`` asks Python for the loss of the client that has trained last."""
    number = jax.ShapeDtypeStruct((), jnp.float32)

    def note(loss):
        last[:] = [loss]
        return loss

    def client(*given):
        report = algorithm.client(*given)
        loss = io_callback(note, number, report.metrics["loss"])
        return report._replace(metrics=report.metrics | {"loss": loss})

    def reduce(*given):
        acc, record = algorithm.reduce(*given)
        loss = io_callback(lambda: last[0], number)
        return jax.tree.map(lambda x: x + loss, acc), record

    return algorithm._replace(client=client, reduce=reduce)


last: list = []
"""Outlives whatever is built anew."""


def through_the_weight(algorithm):
    """The weight says more than how many examples there are."""

    def client(*given):
        report = algorithm.client(*given)
        return report._replace(weight=report.weight + report.metrics["loss"])

    return algorithm._replace(client=client)


def at_the_server(algorithm):
    """The client trains from the server's parameters, not from what it was sent."""
    held = []

    def broadcast(server, context):
        held.append(server.params)
        return algorithm.broadcast(server, context)

    def client(view, *rest):
        return algorithm.client(held[-1], *rest)

    return algorithm._replace(broadcast=broadcast, client=client)


PEEKS = [through_a_tracer, through_python, through_the_weight, at_the_server]


@pytest.mark.parametrize("peeks", PEEKS)
def test_an_end_that_peeks_is_found(peeks):
    with pytest.raises(AssertionError):
        check_boundary("fedavg", lambda: peeks(algorithm_of("fedavg")))


def test_what_is_no_field_and_what_its_alphabet_cannot_hold_is_refused():
    """A payload that hides what is not counted cannot be packed."""

    def bare(report):
        return {"sent": report.payload, "more": report.state[0]}

    def narrow(report):
        steps = report.metrics["steps"].astype(jnp.int32)
        return {"sent": report.payload, "more": wire.Field(steps, 1)}

    for hide, reason in ((bare, "only in a Field"), (narrow, "symbol")):

        def client(*given, hide=hide):
            report = algorithm_of("fedavg").client(*given)
            return report._replace(payload=hide(report))

        def reduce(server, payload, *rest):
            return algorithm_of("fedavg").reduce(server, payload["sent"], *rest)

        changed = algorithm_of("fedavg")._replace(client=client, reduce=reduce)
        with pytest.raises(InputError, match=reason):
            check_boundary("fedavg", lambda changed=changed: changed)
