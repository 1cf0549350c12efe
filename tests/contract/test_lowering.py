"""Nothing in a round is bound to a CPU: all of it lowers for GPUs and TPUs.

Everything registered is traced once and lowered for both; nothing compiles or runs, so
no accelerator is needed. That it would also compile and fit there is not shown.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sounds import SOUNDS
from systems import client_told, server_told, setup

from fedjax_compress import compress, registry, wire
from fedjax_compress.clients import ClientData
from fedjax_compress.errors import InputError
from fedjax_compress.numerics.randomness import GENERATORS, root_key
from fedjax_compress.simulate.chunk import Fixed, Seats, kept_init
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.placement import Placement
from fedjax_compress.simulate.programs import Programs, Residence
from fedjax_compress.typing import Keys, Population, Problem, Task

ACCELERATORS = ("cuda", "tpu")
KNOWN = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
"""What XLA itself makes of these, on any platform; other custom calls need a library
of one platform, or call Python."""
CLIENTS, ROWS, LANES, CHUNKS = 13, 40, 4, 2
TASK = Task((5,), 3)
IMAGES, LARGE = Task((16, 16), 4), Task((32, 32), 4)
TEXT = Task((5,), 7, tokens=True)
KINDS = TEXT._replace(target="class")
LINKS = {
    "dense": ("uniform(bits=4)",),
    "sparse": ("on_vector(top_k(0.3))", "nonzero(code=fixed)"),
    "rotated": ("on_vector(hadamard | uniform(bits=4))",),
}
"""The first that an algorithm takes is lowered; all take elementwise ones."""
ALGORITHMS = {
    "fetch_sgd": "fetch_sgd(rows=3, columns=5)",
    "fedgkt": "fedgkt(mlp(hidden=(4,)))",
    "fed_df": "fed_df(others=(mlp(hidden=(4,)),))",
    "fed_et": "fed_et(mlp(hidden=(4,)), others=(mlp(hidden=(4,)),))",
    "fed_md": "fed_md(others=(mlp(hidden=(4,)),), rows=4)",
    "heterofl": "heterofl(rates=(1.0, 0.5))",
    "fjord": "fjord(rates=(1.0, 0.5))",
    "prunefl": "prunefl(times=own, computation=(1e-6, 2e-6))",
}
"""For those whose defaults suit no model of two small layers, or many tiers."""
MODELS = {
    "cnn": "cnn(widths=(2, 3), dense=5)",
    "resnet12": "resnet12(maps=4, conv=direct)",
    "resnet18": "resnet18(width=2, conv=direct)",
    "resnet8": "resnet8(width=2, blocks=1, conv=direct)",
    "resnet20": "resnet20(width=2, blocks=1, conv=direct)",
    "resnet55": "resnet55(width=2, blocks=1, conv=direct)",
    "resnet56": "resnet56(width=2, blocks=1, conv=direct)",
    "resnet109": "resnet109(width=2, blocks=1, conv=direct)",
    "resnet110": "resnet110(width=2, blocks=1, conv=direct)",
    "lenet": "lenet(width=3)",
    "vgg11": "vgg11(width=1)",
    "char_lstm": "char_lstm(embedding=2, hidden=3)",
    "transformer_lm": "transformer_lm(width=4, layers=1, dropout=0.1)",
    "text_classifier": "text_classifier(symbols=7, width=4, dropout=0.1)",
    "conformer_transducer": "conformer_transducer(width=4, blocks=1, joint_block=2)",
    "conformer_ctc": "conformer_ctc(width=4, blocks=1, subsampling=convolution)",
    "partial": "partial('mlp(hidden=(6, 5))', train=output)",
    "lora": "lora('mlp(hidden=(6, 5))', rank=2, train=bias)",
}
TASKS = {
    "vgg11": LARGE,
    "char_lstm": TEXT,
    "transformer_lm": TEXT,
    "text_classifier": KINDS,
    "conformer_transducer": SOUNDS,
    "conformer_ctc": SOUNDS,
}
"""Of models that do not read small pictures."""
PARTS = {"optax": "optax(lion, lr=0.1)", "dorefa": "dorefa(gradients=6, ends=true)"}
_CALL = re.compile(r'custom_call\s*@"?([\w.]+)|call_target_name = "([\w.]+)"')


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for kind in ("algorithm", "model", "qat", "local", "aggregate", "server"):
        if f"{kind}_name" in metafunc.fixturenames:
            metafunc.parametrize(f"{kind}_name", list(registry.entries(kind)))


def assert_lowers(traced):
    """For both accelerators, from one trace, and without calls of foreign code."""
    text = traced.lower(lowering_platforms=ACCELERATORS).as_text()
    called = {a or b for a, b in _CALL.findall(text)}
    assert called <= KNOWN, f"bound to one platform: {called - KNOWN}"


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def rows_of(task, clients=CLIENTS, rows=ROWS):
    """The shapes of a population's rows."""
    kind = jnp.int32 if task.tokens else jnp.float32
    along = {"positions": task.shape, "sequence": (task.longest,)}
    labels = shape(rows, *along.get(task.predicts, ()), dtype=jnp.int32)
    offsets = shape(clients + 1, dtype=jnp.int32)
    features = shape(rows, *task.shape, dtype=kind)
    more = {n: shape(rows, *of, dtype=jnp.dtype(d)) for n, of, d in task.more}
    return ClientData({"features": features, "labels": labels, **more}, offsets)


def part(kind, name, *context):
    return registry.build(kind, PARTS.get(name, name), *context)


def algorithm_of(name, link, model, local="sgd(batch=4, shuffle=false)"):
    update = registry.build("local", local, model)
    public = {"features": np.zeros((ROWS, *TASK.shape), np.float32)}
    people = Population(TASK, CLIENTS, ROWS)
    parts = setup(
        update, server="fedavgm(momentum=0.5)", uplink=link, population=people,
        public=public,
    )  # fmt: skip
    return registry.build("algorithm", ALGORITHMS.get(name, name), parts)


def traced_round(
    algorithm, task, params, *, generator="mix", form="auto", devices=1, resident=True
):
    """One round of ``algorithm`` as the engine builds it, traced on shapes alone."""
    key = root_key(0, generator)
    server = jax.eval_shape(algorithm.init, key, params)
    kept = jax.eval_shape(lambda params: kept_init(algorithm, params), params)
    chunks = CHUNKS * devices
    lead = (CLIENTS,) if resident else (chunks, LANES)
    store = jax.tree.map(lambda x: shape(*lead, *x.shape, dtype=x.dtype), kept)
    seat, number = shape(1, chunks, LANES, dtype=jnp.int32), shape(dtype=jnp.int32)
    seats = Seats(seat, seat, seat, None if algorithm.tiers is None else seat)
    root = jax.eval_shape(lambda: jax.random.key_data(key))
    fixed = Fixed(params, algorithm.public)
    inputs = (rows_of(task), root, fixed, server, store, seats, number, number)
    programs = Programs(Phases(algorithm), Placement(devices), key, form)
    return programs.trace(0, inputs, Residence(LANES, resident, True))


@pytest.fixture(scope="module")
def network():
    """A small network and the shapes of its parameters."""
    model = registry.build("model", "mlp(hidden=(6,))", TASK)
    return model, jax.eval_shape(model.init, jax.random.key(0))


def taken(name, model, kind):
    """The algorithm with the first link that it takes of a kind, and the refusals."""
    refusals = {}
    for link in LINKS[kind]:
        try:
            return algorithm_of(name, link, model), refusals
        except InputError as refusal:
            refusals[link] = refusal.reason
    return None, refusals


@pytest.mark.parametrize(
    "kind",
    [k if k == "dense" else pytest.param(k, marks=pytest.mark.slow) for k in LINKS],
)
def test_rounds_of_every_algorithm_with_every_link_it_takes(
    network, algorithm_name, kind
):
    """One may refuse a link only for not being elementwise, in words that say so."""
    model, params = network
    algorithm, refusals = taken(algorithm_name, model, kind)
    for link, reason in refusals.items():
        assert "elementwise" in reason
        assert not compress.parse(link).claims.elementwise
    if algorithm is not None:
        assert_lowers(traced_round(algorithm, TASK, params))


def test_dense_and_sparse_links_may_not_be_refused():
    """The last of each kind, lest the test above accepts that everything is refused."""
    for kind in ("dense", "sparse"):
        assert compress.parse(LINKS[kind][-1]).claims.elementwise


@pytest.mark.parametrize(
    "options",
    [
        *({"generator": generator} for generator in GENERATORS if generator != "mix"),
        {"devices": 2, "resident": False},
    ],
)
def test_rounds_in_every_layout(network, options):
    model, params = network
    link = "error_feedback(uniform(bits=4))"
    algorithm = algorithm_of("fedavg", link, model)
    assert_lowers(traced_round(algorithm, TASK, params, **options))


@pytest.mark.parametrize("form", ["patches", "winograd", "direct"])
def test_rounds_in_every_form_of_a_convolution(form):
    model = registry.build("model", "cnn(widths=(2,), dense=3)", IMAGES)
    params = jax.eval_shape(model.init, jax.random.key(0))
    algorithm = algorithm_of("fedavg", "identity", model)
    assert_lowers(traced_round(algorithm, IMAGES, params, form=form))


def test_what_one_client_does_before_the_first_round(network):
    model, params = network
    algorithm = algorithm_of("prunefl", "identity", model)

    def work(server, params, data):
        place = jnp.zeros((), jnp.int32)
        size = data.size_of(place)
        told = client_told(params, root=root_key(0), examples=size)
        return algorithm.begin.run(server, data.shard(place, size), told)

    server = jax.eval_shape(algorithm.init, root_key(0), params)
    assert_lowers(jax.jit(work).trace(server, params, rows_of(TASK)))


def test_messages_of_every_compressor(entry_name, examples):
    """Encoded, measured and decoded, for clients side by side."""
    compressor = compress.parse(examples.get(entry_name, entry_name))
    some = {"body": {"kernel": shape(3, 4, 5)}, "head": shape(7), "scale": shape()}

    def message(tree, keys):
        coin = Keys(keys[0], keys[1])
        payload, state = compressor.encode(tree, compressor.init(tree), coin)
        decoded = compressor.decode(payload, tree, coin.shared)
        return decoded, state, wire.size(payload), wire.nominal_size(payload)

    lanes = jax.tree.map(lambda x: shape(2, *x.shape), some)
    keys = jax.eval_shape(lambda: jax.random.split(root_key(0), (2, 2)))
    assert_lowers(jax.jit(jax.vmap(message)).trace(lanes, keys))


def assert_gradients_lower(model, task):
    """Of the loss, for clients side by side, with what an evaluation counts."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    data = rows_of(task, rows=4)

    def lane(params, columns, key):
        def loss(params):
            outputs = model.apply(params, columns, key)
            value, weight = model.losses(outputs, columns)
            counts = {
                name: metric.count(params, columns, outputs)
                for name, metric in model.metrics.items()
            }
            return (value * weight).mean(), counts

        return jax.grad(loss, has_aux=True)(params)

    each = (params, data.columns)
    lanes = jax.tree.map(lambda x: shape(2, *x.shape, dtype=x.dtype), each)
    keys = jax.eval_shape(lambda: jax.random.split(root_key(0), 2))
    assert_lowers(jax.jit(jax.vmap(lane)).trace(*lanes, keys))


def test_gradients_of_every_model(model_name):
    task = TASKS.get(model_name, IMAGES)
    text = MODELS.get(model_name, model_name)
    assert_gradients_lower(registry.build("model", text, task), task)


def test_gradients_of_every_quantized_model(network, qat_name):
    text = PARTS.get(qat_name, qat_name)
    assert_gradients_lower(registry.build("qat", text, network[0], TASK), TASK)


def test_every_local_update(network, local_name):
    model, params = network
    local = registry.build("local", PARTS.get(local_name, local_name), model)

    def client(params, data):
        place = jnp.zeros((), jnp.int32)
        shard = data.shard(place, data.size_of(place))
        problem = Problem(params, memory=local.init(params))
        return local.run(problem, shard, client_told(params, root=root_key(0)))

    assert_lowers(jax.jit(client).trace(params, rows_of(TASK)))


def test_every_server_optimizer(network, server_name):
    params = network[1]
    server = registry.build("server", PARTS.get(server_name, server_name))
    state = jax.eval_shape(server.init, params)
    step = jax.jit(lambda *given: server.apply(*given, server_told(params)))
    assert_lowers(step.trace(params, state, params))


def test_every_aggregator(network, aggregate_name):
    made = registry.build("aggregate", aggregate_name)
    mean = jax.jit(lambda update, weight: made.finish(made.lift(update, weight)))
    assert_lowers(mean.trace(network[1], shape()))


def no_rule(x):
    return jax.lax.linalg.schur(x)[0]


def calls_python(x):
    return jax.pure_callback(np.sort, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def calls_a_library(x):
    return jax.ffi.ffi_call("of_the_cpu", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)


@pytest.mark.parametrize("bound", [no_rule, calls_python, calls_a_library])
def test_what_is_bound_to_a_cpu_is_found(bound):
    """In the midst of a round: the tests above can fail."""
    aggregator = registry.build("aggregate", "mean")
    work = lambda x: aggregator.finish(aggregator.lift(bound(x), 1.0))  # noqa: E731
    with pytest.raises((AssertionError, NotImplementedError)):
        assert_lowers(jax.jit(work).trace(shape(3, 3)))
