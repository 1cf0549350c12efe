"""FedAvg's client and server step, one call at a time, against hand computation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounds import begun, player
from systems import client_told, setup, updating

from fedjax_compress import algorithms, compress, registry, tree, wire
from fedjax_compress.clients import group
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.typing import Compressor, Keys, Stage, Task

OWNER = np.array([0, 0, 0, 1, 2, 2], np.int32)
ROWS = np.array([[1, 4], [2, 0], [6, 2], [-1, 3], [0, 0], [8, 8]], np.float32)
DATA = group({"features": ROWS, "labels": np.zeros(6, np.int32)}, OWNER, 3)
PARAMS = {"w": jnp.array([1.001, -2.0])}


def towards_the_mean(rate=0.5):
    """A local update that a reader can check: towards the mean of the own rows."""

    def run(params, shard, key):
        mine = shard.take(jnp.arange(3), jnp.arange(3) < shard.size)
        mean = (mine.columns["features"] * mine.mask[:, None]).sum(0) / mine.mask.sum()
        metrics = {"loss": jnp.zeros(()), "examples": mine.mask.sum()}
        return {"w": rate * (mean - params["w"])}, metrics

    return updating(run)


def build(local, uplink="identity", downlink="identity", weight="examples", **options):
    parts = setup(local, f"mean({weight})", uplink=uplink, downlink=downlink)
    return algorithms.fedavg(parts, **options)


def shard(client):
    return DATA.shard(jnp.asarray(client), jnp.asarray(3))


def one_round(algorithm, server=None, number=0, seed=0, params=PARAMS):
    """A round without the engine."""
    server = begun(algorithm, params) if server is None else server
    return player(algorithm, params, DATA, root_key(seed))(server, number=number)


@pytest.mark.parametrize(("weight", "share"), [("examples", [3, 1, 2]), ("uniform", 1)])
def test_uncompressed_it_is_the_average_by_hand(weight, share):
    algorithm = build(towards_the_mean(), weight=weight)
    done = one_round(algorithm)
    start = np.asarray(PARAMS["w"])
    means = np.stack([ROWS[c == OWNER].mean(0) for c in range(3)])
    updates = 0.5 * (means - start)
    expected = start + np.average(updates, axis=0, weights=np.ones(3) * share)
    _, after = algorithm.network(done.server)
    np.testing.assert_allclose(after["w"], expected, rtol=1e-6)
    np.testing.assert_array_equal(done.view["w"], start)
    assert [float(r.weight) for r in done.reports] == [3, 1, 2]
    assert all(bool(r.ok) for r in done.reports)
    assert done.alone == [()] * 3


def test_clients_start_from_what_arrived_and_the_server_from_what_it_has():
    algorithm = build(towards_the_mean(), downlink="cast(bfloat16)")
    done = one_round(algorithm)
    own = np.asarray(PARAMS["w"])
    arrived = np.asarray(PARAMS["w"].astype(jnp.bfloat16), np.float32)
    assert (arrived != own).any()
    np.testing.assert_array_equal(done.view["w"], arrived)
    means = np.stack([ROWS[c == OWNER].mean(0) for c in range(3)])
    mean = np.average(0.5 * (means - arrived), axis=0, weights=[3, 1, 2])
    _, after = algorithm.network(done.server)
    np.testing.assert_allclose(after["w"], own + mean, rtol=1e-6)


def test_the_state_of_the_downlink_advances():
    """Top-1 of 2 under error feedback: what was not sent is sent with the next."""
    algorithm = build(towards_the_mean(0.0), downlink="error_feedback(top_k(0.5))")
    server, _, view, *_ = one_round(algorithm)
    np.testing.assert_allclose(view["w"], [0, -2.0])
    np.testing.assert_allclose(server.downlink["residual"]["w"], [1.001, 0])
    server, _, view, *_ = one_round(algorithm, server, number=1)
    np.testing.assert_allclose(view["w"], [2.002, 0])
    np.testing.assert_allclose(server.downlink["residual"]["w"], [0, -2.0])
    np.testing.assert_array_equal(server.params["w"], PARAMS["w"])


def test_a_broken_update_is_seen_before_a_compressor_hides_it():
    def run(params, shard, key):
        ones = jnp.ones(())
        return {"w": jnp.array([jnp.nan, 1.0])}, {"loss": ones, "examples": ones}

    hide = Compressor(
        lambda like: (),
        lambda values, state, coin: (wire.raw(jnp.nan_to_num(values["w"])), state),
        lambda payload, like, key: {"w": payload.symbols},
    )
    algorithm = build(updating(run), uplink=hide)
    report = algorithm.client(PARAMS, (), ((), ()), shard(0), client_told(PARAMS))
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

    def run(params, shard, key):
        seen.append(("training", words(key)))
        ones = jnp.ones(())
        return params, {"loss": ones, "examples": ones}

    algorithm = build(updating(run), probe("up"), probe("down"))
    for seed in (0, 1):
        for number in (0, 1):
            one_round(algorithm, None, number, seed)
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

    def run(params, shard, key):
        size = shard.size.astype(jnp.float32)
        update = jax.tree.map(lambda w: rate * size * jnp.sign(w) * (w + 0.1), params)
        return update, {"loss": jnp.zeros(()), "examples": size}

    model = registry.build("model", "mlp(hidden=())", Task((1,), 2))
    model = model._replace(init=lambda key: INTEGERS)
    return updating(run, registry.build("qat", "integer(bits=3)", model, Task((1,), 2)))


@pytest.mark.parametrize("send", ["update", "weights", "quantized"])
@pytest.mark.parametrize("receive", ["weights", "quantized"])
def test_the_server_averages_what_is_sent(send, receive):
    """Three clients of 3, 1 and 2 rows, by hand, for each of the six ways."""
    algorithm = build(quantizing(), send=send, receive=receive)
    done = one_round(algorithm, params=INTEGERS)
    w = np.asarray(INTEGERS["dense"]["kernel"])
    seen = integers(w) if receive == "quantized" else w
    np.testing.assert_allclose(done.view["dense"]["kernel"], seen, rtol=1e-6)
    moved = []
    for size in (3, 1, 2):
        update = 0.5 * size * np.sign(seen) * (seen + 0.1)
        sent = {
            "update": update,
            "weights": seen + update,
            "quantized": integers(seen + update),
        }[send]
        moved.append(size / 6 * sent)
    wanted = sum(moved) + (w if send == "update" else 0)
    after = done.server.params["dense"]["kernel"]
    np.testing.assert_allclose(after, wanted, rtol=1e-5)


def test_weights_do_not_add_up_in_a_residual():
    algorithm = build(towards_the_mean(), "error_feedback(top_k(0.5))", send="weights")
    with pytest.raises(InputError, match="would add up; leave error_feedback out"):
        algorithm.client_init(PARAMS)


def test_quantized_messages_need_a_model_that_quantizes():
    with pytest.raises(InputError, match="send=quantized needs clients that train"):
        build(towards_the_mean(), send="quantized")
    with pytest.raises(InputError, match="give downlink=identity"):
        build(quantizing(), downlink="uniform(bits=4)", receive="quantized")
