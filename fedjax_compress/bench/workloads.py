"""Three workloads that every contender runs on the same clients, rows and parameters.

===  ==========================================  ==========  ======  =====  =========
\\    model                                       parameters  rows    batch  MFLOP/row
===  ==========================================  ==========  ======  =====  =========
W1   CNN on 28 x 28 pixels, 62 classes           1,206,590   10-350  20     71.6
W2   one dense layer on the same data            48,670      10-350  20     0.194
W3   character LSTM, 2 x 256, 80 of 90 symbols   820,522     4-70    4      392.5
===  ==========================================  ==========  ======  =====  =========

One local epoch in the stored order, the last batch short; client lr 0.1 (W3: 1.0);
the mean weighted by rows; server lr 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from fedjax_compress import clients as rooms
from fedjax_compress import models, registry
from fedjax_compress.bench import pools
from fedjax_compress.bench.case import POPULATION
from fedjax_compress.clients import ClientData, Sampling
from fedjax_compress.errors import InputError
from fedjax_compress.models._cost import cost
from fedjax_compress.models.convolution.layer import Form
from fedjax_compress.registry import nearest
from fedjax_compress.typing import Columns, Model, Params, Task

_HIDDEN, _EMBEDDING, _DENSE, _WIDTHS = 256, 8, 128, (32, 64)


class Workload(NamedTuple):
    """Everything that a contender needs.

    Attributes:
      name: W1, W2 or W3.
      model: the network.
      params: what training starts from, numpy arrays.
      data: all registered clients; ``rows`` name rows of a pool that they share.
      sizes: int64 [population], rows of each client.
      clients: clients a round.
      batch: rows a batch.
      lr: of the clients.
      flops_per_sample: of one row, forward and backward: two for each multiply-add of
        matrix products and convolutions; the backward pass makes the gradient of the
        weights and, except in the first layer, of the inputs.
      evaluation: rows that no client has.
      sampling: (seed, round, sizes, cohort) -> ids of the round's clients.
    """

    name: str
    model: Model
    params: Params
    data: ClientData
    sizes: np.ndarray
    clients: int
    batch: int
    lr: float
    flops_per_sample: int
    evaluation: Columns
    sampling: Sampling

    def cohort(self, number: int) -> np.ndarray:
        """Ids of the clients of round ``number``, counted from 0."""
        return self.sampling(pools.SEED, number, self.sizes, self.clients)

    def samples(self, number: int) -> int:
        """Rows of all clients of round ``number``."""
        return int(self.sizes[self.cohort(number)].sum())

    def rows(self, client: int) -> np.ndarray:
        """int32, the pool's rows that a client owns, in the order of training."""
        offsets = self.data.offsets
        return np.asarray(self.data.rows)[offsets[client] : offsets[client + 1]]


class _Kind(NamedTuple):
    pool: Callable[[], pools.Pool]
    sizes: Callable[[int], np.ndarray]
    rows: Callable[[int, int], np.ndarray]
    model: Callable[[Form], Model]
    params: Callable[[], Params]
    batch: int
    lr: float
    flops: int


def workload(
    name: str, clients: int, population: int = 0, conv: Form = "auto"
) -> Workload:
    """Builds a workload; a pure function of its arguments.

    Above 20,000 registered clients, sizes and rows are those of the first 10,000
    again and again, and a cohort is drawn in O(cohort).

    Args:
      name: W1, W2 or W3.
      clients: clients a round.
      population: registered clients; 0: 3,400, or ``clients`` if more.
      conv: form of W1's convolutions; nothing to the others.

    Raises:
      InputError: an unknown name, or numbers that do not go together.
    """
    check(name, clients, population)
    kind = KINDS[name]
    population = population or max(POPULATION, clients)
    pool, sizes = kind.pool(), kind.sizes(population)
    distinct = pools.REPEATED if population > pools.DISTINCT else population
    owned = np.concatenate([kind.rows(c, int(sizes[c])) for c in range(distinct)])
    ends = np.cumsum(sizes)
    if ends[-1] >= 2**31:
        raise InputError(f"{population} clients have more than {2**31 - 1} rows")
    if distinct < population:
        owned = np.resize(owned, ends[-1])  # repeats whole: so do the sizes
    data = ClientData(
        {"features": pool.features, "labels": pool.labels},
        np.concatenate([[0], ends]).astype(np.int32),  # type: ignore[arg-type]
        owned,  # type: ignore[arg-type]
    )
    few = population <= pools.DISTINCT
    return Workload(
        name=name,
        model=kind.model(conv),
        params=kind.params(),
        data=data,
        sizes=sizes,
        clients=clients,
        batch=kind.batch,
        lr=kind.lr,
        flops_per_sample=kind.flops,
        evaluation={
            "features": pool.features[pool.test],
            "labels": pool.labels[pool.test],
        },
        sampling=_draw if few else rooms.uniform(),
    )


def with_model(given: Workload, text: str) -> Workload:
    """The workload with the model of a specification, drawn by JAX.

    Operations a row are six for each multiply-accumulate of its forward pass.
    """
    task = task_of(given)
    model = registry.build("model", text, task)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(pools.SEED)))
    flops = 6 * cost(model, task).macs
    return given._replace(model=model, params=params, flops_per_sample=flops)


def with_qat(given: Workload, text: str) -> Workload:
    """The workload whose clients train with quantized weights, from the same ones."""
    model = registry.build("qat", text, given.model, task_of(given))
    if model is given.model:
        return given
    drawn = jax.tree.map(np.asarray, model.init(jax.random.key(pools.SEED)))
    # What is learned besides the weights is drawn; the weights are the workload's.
    return given._replace(model=model, params={**drawn, **given.params})


def task_of(given: Workload) -> Task:
    """What its model is for."""
    columns = given.data.columns
    classes = int(columns["labels"].max()) + 1
    return Task(tuple(columns["features"].shape[1:]), classes, given.name == "W3")


def check(name: str, clients: int, population: int) -> None:
    """Raises InputError where ``workload`` cannot work, with what would."""
    if name not in KINDS:
        hint = nearest(name, list(KINDS))
        raise InputError(f"there is no workload {name!r}; {hint}")
    if clients < 1:
        raise InputError(f"clients must be at least 1, not {clients}")
    if population and population < clients:
        raise InputError(
            f"population must be at least {clients}, the clients of a round "
            f"(0: {POPULATION}, or as many if more), not {population}"
        )


def _draw(seed: int, round: int, sizes: np.ndarray, cohort: int) -> np.ndarray:
    random = np.random.default_rng([seed, pools.COHORT, round])
    return random.choice(len(sizes), size=cohort, replace=False).astype(np.int32)


def _cnn(conv: Form) -> Model:
    task = Task((pools.SIDE, pools.SIDE, 1), pools.CLASSES)
    return models.emnist_cnn(task, dropout=False, conv=conv)


def _dense(conv: Form) -> Model:
    return models.logistic(Task((pools.SIDE, pools.SIDE, 1), pools.CLASSES))


def _lstm(conv: Form) -> Model:
    task = Task((pools.LENGTH,), pools.SYMBOLS, tokens=True)
    return models.char_lstm(task, _EMBEDDING, _HIDDEN, pad=-1)


class _Layers:
    """Kernels by Glorot's uniform law, one after another of one stream; zero biases."""

    def __init__(self) -> None:
        self.random = pools.stream(pools.PARAMETERS)

    def kernel(self, *shape: int, fans: tuple[int, int] | None = None) -> np.ndarray:
        """U(-a, a) with a^2 = 6 / (inputs + outputs)."""
        limit = np.sqrt(6.0 / sum(fans or shape))
        return self.random.uniform(-limit, limit, shape).astype(np.float32)

    def layer(self, *shape: int, fans: tuple[int, int] | None = None) -> Params:
        """A kernel and its bias."""
        bias = np.zeros(shape[-1], np.float32)
        return {"kernel": self.kernel(*shape, fans=fans), "bias": bias}

    def recurrent(self, inputs: int, units: int) -> Params:
        """An LSTM layer; the limit is that of one gate."""
        return {
            "kernel": self.kernel(inputs, 4 * units, fans=(inputs, units)),
            "recurrent": self.kernel(units, 4 * units, fans=(units, units)),
            "bias": np.zeros(4 * units, np.float32),
        }


def _flat() -> int:
    return ((pools.SIDE - 4) // 2) ** 2 * _WIDTHS[1]


def _cnn_params() -> Params:
    new, (first, second) = _Layers(), _WIDTHS
    return {
        "conv_1": new.layer(3, 3, 1, first, fans=(9, 9 * first)),
        "conv_2": new.layer(3, 3, first, second, fans=(9 * first, 9 * second)),
        "dense": new.layer(_flat(), _DENSE),
        "output": new.layer(_DENSE, pools.CLASSES),
    }


def _dense_params() -> Params:
    return {"output": _Layers().layer(pools.SIDE**2, pools.CLASSES)}


def _lstm_params() -> Params:
    new = _Layers()
    table = new.random.standard_normal((pools.SYMBOLS, _EMBEDDING)) * 0.3
    return {
        "embedding": {"embedding": table.astype(np.float32)},
        "lstm_1": new.recurrent(_EMBEDDING, _HIDDEN),
        "lstm_2": new.recurrent(_HIDDEN, _HIDDEN),
        "output": new.layer(_HIDDEN, pools.SYMBOLS),
    }


def _cnn_flops() -> int:
    sides, (first, second) = (pools.SIDE - 2, pools.SIDE - 4), _WIDTHS
    start = sides[0] ** 2 * first * 9
    rest = sides[1] ** 2 * second * 9 * first
    rest += _flat() * _DENSE + _DENSE * pools.CLASSES
    return 2 * (2 * start + 3 * rest)


def _lstm_flops() -> int:
    widths = (_EMBEDDING, _HIDDEN, _HIDDEN)
    gates = sum(4 * b * (a + b) for a, b in itertools.pairwise(widths))
    return 2 * 3 * (gates + _HIDDEN * pools.SYMBOLS) * pools.LENGTH


_PIXELS = (pools.images, pools.sizes, pools.image_rows)
_CHARACTERS = (pools.text, pools.text_sizes, pools.text_rows)
_DENSE_FLOPS = 2 * 2 * pools.SIDE**2 * pools.CLASSES
KINDS = {
    "W1": _Kind(*_PIXELS, _cnn, _cnn_params, 20, 0.1, _cnn_flops()),
    "W2": _Kind(*_PIXELS, _dense, _dense_params, 20, 0.1, _DENSE_FLOPS),
    "W3": _Kind(*_CHARACTERS, _lstm, _lstm_params, 4, 1.0, _lstm_flops()),
}
