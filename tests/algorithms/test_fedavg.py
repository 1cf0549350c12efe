"""FedAvg's client and server step, one call at a time, against hand computation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_compress import algorithms, compress, registry, tree, wire
from fedjax_compress.clients import group
from fedjax_compress.errors import InputError
from fedjax_compress.randomness import root_key
from fedjax_compress.simulate.round import broadcast_coin, client_coin
from fedjax_compress.typing import Compressor, Keys, LocalUpdate, Stage, Task

OWNER = np.array([0, 0, 0, 1, 2, 2], np.int32)
ROWS = np.array([[1, 4], [2, 0], [6, 2], [-1, 3], [0, 0], [8, 8]], np.float32)
DATA = group(ROWS, np.zeros(6, np.int32), OWNER, 3)
PARAMS = {"w": jnp.array([1.001, -2.0])}


def towards_the_mean(rate=0.5):
    """A local update that a reader can check: towards the mean of the own rows."""

    def run(params, state, shard, key):
        mine = shard.take(jnp.arange(3), jnp.arange(3) < shard.size)
        mean = (mine.features * mine.mask[:, None]).sum(0) / mine.mask.sum()
        metrics = {"loss": jnp.zeros(()), "examples": mine.mask.sum()}
        return {"w": rate * (mean - params["w"])}, state, metrics

    return LocalUpdate(lambda params: (), run)


def build(local, uplink="identity", downlink="identity", weight="examples"):
    def parsed(part):
        return compress.parse(part) if isinstance(part, str) else part

    return algorithms.fedavg(
        local,
        registry.build("aggregate", f"mean({weight})"),
        registry.build("server", "fedavg"),
        parsed(uplink),
        parsed(downlink),
    )


def shard(client):
    return DATA.shard(jnp.asarray(client), jnp.asarray(3))


def one_round(algorithm, server, number=0, seed=0):
    """A round without the engine: server after it, view, reports."""
    root = root_key(seed)
    view, _, server = algorithm.broadcast(server, broadcast_coin(root, number))
    acc, reports = None, []
    for client in range(3):
        coin = client_coin(root, number, client)
        state = algorithm.client_init(PARAMS)
        report = algorithm.client(view, state, shard(client), coin)
        part = algorithm.reduce(view, report, coin.shared)
        acc = part if acc is None else tree.add(acc, part)
        reports.append(report)
    return algorithm.server(server, acc), view, reports


@pytest.mark.parametrize(("weight", "share"), [("examples", [3, 1, 2]), ("uniform", 1)])
def test_uncompressed_it_is_the_average_by_hand(weight, share):
    algorithm = build(towards_the_mean(), weight=weight)
    server = algorithm.init(jax.random.key(0), PARAMS)
    after, view, reports = one_round(algorithm, server)
    start = np.asarray(PARAMS["w"])
    means = np.stack([ROWS[c == OWNER].mean(0) for c in range(3)])
    updates = 0.5 * (means - start)
    expected = start + np.average(updates, axis=0, weights=np.ones(3) * share)
    np.testing.assert_allclose(algorithm.params(after)["w"], expected, rtol=1e-6)
    np.testing.assert_array_equal(view["w"], start)
    assert [float(r.weight) for r in reports] == [3, 1, 2]
    assert all(bool(r.ok) for r in reports)


def test_clients_start_from_what_arrived_and_the_server_from_what_it_has():
    algorithm = build(towards_the_mean(), downlink="cast(bfloat16)")
    server = algorithm.init(jax.random.key(0), PARAMS)
    after, view, _ = one_round(algorithm, server)
    own = np.asarray(PARAMS["w"])
    arrived = np.asarray(PARAMS["w"].astype(jnp.bfloat16), np.float32)
    assert (arrived != own).any()
    np.testing.assert_array_equal(view["w"], arrived)
    means = np.stack([ROWS[c == OWNER].mean(0) for c in range(3)])
    mean = np.average(0.5 * (means - arrived), axis=0, weights=[3, 1, 2])
    np.testing.assert_allclose(algorithm.params(after)["w"], own + mean, rtol=1e-6)


def test_the_state_of_the_downlink_advances():
    """Top-1 of 2 under error feedback: what was not sent is sent with the next."""
    algorithm = build(towards_the_mean(0.0), downlink="error_feedback(top_k(0.5))")
    server = algorithm.init(jax.random.key(0), PARAMS)
    server, view, _ = one_round(algorithm, server)
    np.testing.assert_allclose(view["w"], [0, -2.0])
    np.testing.assert_allclose(server.downlink["residual"]["w"], [1.001, 0])
    server, view, _ = one_round(algorithm, server, number=1)
    np.testing.assert_allclose(view["w"], [2.002, 0])
    np.testing.assert_allclose(server.downlink["residual"]["w"], [0, -2.0])
    np.testing.assert_array_equal(server.params["w"], PARAMS["w"])


def test_a_broken_update_is_seen_before_a_compressor_hides_it():
    def run(params, state, shard, key):
        ones = jnp.ones(())
        return {"w": jnp.array([jnp.nan, 1.0])}, state, {"loss": ones, "examples": ones}

    hide = Compressor(
        lambda like: (),
        lambda values, state, coin: (wire.raw(jnp.nan_to_num(values["w"])), state),
        lambda payload, like, key: {"w": payload.symbols},
    )
    algorithm = build(LocalUpdate(lambda params: (), run), uplink=hide)
    report = algorithm.client(
        PARAMS, ((), ()), shard(0), client_coin(root_key(0), 0, 0)
    )
    assert tree.all_finite(report.payload)
    assert not bool(report.ok)


def words(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_no_two_purposes_share_a_key():
    """Training, uplink and downlink; private and shared; clients, rounds and seeds."""
    seen: list[tuple[str, tuple]] = []

    def probe(name):
        def encode(values, state, coin):
            seen.append((f"{name} private", words(coin.private)))
            seen.append((f"{name} shared", words(coin.shared)))
            return wire.raw(values["w"]), state

        def decode(payload, like, shared):
            seen.append((f"{name} decode", words(shared)))
            return {"w": payload.symbols}

        return Compressor(lambda like: (), encode, decode)

    def run(params, state, shard, key):
        seen.append(("training", words(key)))
        ones = jnp.ones(())
        return params, state, {"loss": ones, "examples": ones}

    algorithm = build(LocalUpdate(lambda p: (), run), probe("up"), probe("down"))
    server = algorithm.init(jax.random.key(0), PARAMS)
    for seed in (0, 1):
        for number in (0, 1):
            one_round(algorithm, server, number, seed)
    for name in ("up", "down"):
        ends = [
            [k for n, k in seen if n == f"{name} {e}"] for e in ("shared", "decode")
        ]
        assert ends[0] == ends[1]
        assert len(ends[0]) == 4 * (3 if name == "up" else 1)
    fresh = [k for n, k in seen if not n.endswith("decode")]
    assert len(fresh) == 4 * (2 + 3 * 3)
    assert len(set(fresh)) == len(fresh)


def test_leaves_and_stages_have_keys_of_their_own():
    """Each leaf, stage and end of the coin; never the keys that they come from."""
    seen = []

    def encode(array, state, coin):
        seen.extend([words(coin.private), words(coin.shared)])
        return array, (), state

    probe = Stage(lambda s: (), encode, lambda carrier, side, key: carrier)
    compressor = compress.on_leaves(compress.chain(probe, probe))
    coin = Keys(*jax.random.split(root_key(0)))
    compressor.encode({"a": jnp.ones(2), "b": jnp.ones(3)}, (), coin)
    seen += [words(coin.private), words(coin.shared)]
    assert len(set(seen)) == len(seen) == 2 * 2 * 2 + 2


INTEGERS = {"dense": {"kernel": jnp.array([[1.001, -2.0]]), "bias": jnp.array([0.3])}}


def integers(kernel):
    """3 bits: the largest magnitude is three steps."""
    scale = np.max(np.abs(kernel)) / np.float32(3)
    return np.rint(kernel / scale) * scale


def quantizing(rate=0.5):
    """Moves kernel and bias by a rate times the number of the client's rows."""

    def run(params, state, shard, key):
        size = shard.size.astype(jnp.float32)
        update = jax.tree.map(lambda w: rate * size * jnp.sign(w) * (w + 0.1), params)
        return update, state, {"loss": jnp.zeros(()), "examples": size}

    model = registry.build("model", "mlp(hidden=())", Task((1,), 2))
    model = model._replace(init=lambda key: INTEGERS)
    model = registry.build("qat", "integer(bits=3)", model, Task((1,), 2))
    return LocalUpdate(lambda params: (), run, model)


@pytest.mark.parametrize("send", ["update", "weights", "quantized"])
@pytest.mark.parametrize("receive", ["weights", "quantized"])
def test_the_server_averages_what_is_sent(send, receive):
    """Three clients of 3, 1 and 2 rows, by hand, for each of the six ways."""
    algorithm = algorithms.fedavg(
        quantizing(),
        registry.build("aggregate", "mean"),
        registry.build("server", "fedavg"),
        compress.parse("identity"),
        compress.parse("identity"),
        send=send,
        receive=receive,
    )
    server = algorithm.init(jax.random.key(0), INTEGERS)
    root = root_key(0)
    view, _, server = algorithm.broadcast(server, broadcast_coin(root, 0))
    w = np.asarray(INTEGERS["dense"]["kernel"])
    seen = integers(w) if receive == "quantized" else w
    np.testing.assert_allclose(view["dense"]["kernel"], seen, rtol=1e-6)
    total, moved = None, []
    for client in range(3):
        coin = client_coin(root, 0, client)
        report = algorithm.client(
            view, algorithm.client_init(INTEGERS), shard(client), coin
        )
        part = algorithm.reduce(view, report, coin.shared)
        total = part if total is None else tree.add(total, part)
        size = [3, 1, 2][client]
        update = 0.5 * size * np.sign(seen) * (seen + 0.1)
        sent = {
            "update": update,
            "weights": seen + update,
            "quantized": integers(seen + update),
        }[send]
        moved.append(size / 6 * sent)
    wanted = sum(moved) + (w if send == "update" else 0)
    after = algorithm.server(server, total).params["dense"]["kernel"]
    np.testing.assert_allclose(after, wanted, rtol=1e-5)


def test_weights_do_not_add_up_in_a_residual():
    algorithm = algorithms.fedavg(
        towards_the_mean(),
        registry.build("aggregate", "mean"),
        registry.build("server", "fedavg"),
        compress.parse("error_feedback(top_k(0.5))"),
        compress.parse("identity"),
        send="weights",
    )
    with pytest.raises(InputError, match="leave error_feedback out, or send updates"):
        algorithm.client_init(PARAMS)


def test_quantized_messages_need_a_model_that_quantizes():
    mean, server = (
        registry.build("aggregate", "mean"),
        registry.build("server", "fedavg"),
    )
    exact, lossy = compress.parse("identity"), compress.parse("uniform(bits=4)")
    with pytest.raises(InputError, match="send=quantized needs clients that train"):
        algorithms.fedavg(
            towards_the_mean(), mean, server, exact, exact, send="quantized"
        )
    with pytest.raises(InputError, match="give downlink=identity"):
        algorithms.fedavg(quantizing(), mean, server, exact, lossy, receive="quantized")
