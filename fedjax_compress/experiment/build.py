"""From a configuration to the parts of a run, everything checked on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import clients
from fedjax_compress import data as datasets
from fedjax_compress.checks.returned import within
from fedjax_compress.clients import ClientData
from fedjax_compress.clock import Clock
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import layout
from fedjax_compress.experiment.components import (
    Course,
    build_course,
    build_model,
    check_links,
    check_specs,
    made,
)
from fedjax_compress.experiment.config import (
    Config,
    Role,
    named,
    recorded,
    with_field,
)
from fedjax_compress.numerics.randomness import root_key
from fedjax_compress.runtime import distributed, host
from fedjax_compress.simulate import (
    ClientEvaluator,
    Evaluator,
    PersonalEvaluator,
    RunState,
    Simulator,
)
from fedjax_compress.simulate.phases import Phases
from fedjax_compress.simulate.work import Work, work_of
from fedjax_compress.typing import (
    Algorithm,
    Columns,
    Key,
    Model,
    Params,
    Population,
    Task,
)

_PARTITION_STREAM = 0x50415254
_TEST_STREAM = 0x54455354
_PUBLIC_STREAM = 0x5055424C
_MODEL_KEY = 2**31 - 2


class Parts(NamedTuple):
    """The parts of one run.

    Attributes:
      dataset: rows to learn from and to test on.
      data: training rows by client, on the host.
      model: the network.
      algorithm: one client and one server step, those of the first phase.
      simulator: steps the algorithm.
      evaluate: parameters -> test loss and metrics, and clients' where asked for.
      params: the parameters before the first round.
      note: what is worth telling of the layout.
      personal: scores each client's own parameters; None where nobody asks for that,
        clients have none, or there are several processes.
      others: score the further networks of the algorithm, by name.
    """

    dataset: Dataset
    data: ClientData
    model: Model
    algorithm: Algorithm
    simulator: Simulator
    evaluate: Callable[[Params], dict[str, float]]
    params: Params
    note: str = ""
    personal: PersonalEvaluator | None = None
    others: dict[str, Evaluator] = {}  # noqa: RUF012  (nobody writes to it)


def current_params(parts: Parts, state: RunState) -> Params:
    """The parameters that are evaluated in a state."""
    server = parts.simulator.placement.local(state.server)
    found: Params = parts.algorithm.network(server)[1]
    return found


def request_devices(number: int) -> None:
    """Lets the CPU appear as ``number`` devices, of all processes together.

    Args:
      number: how many; 0 for one for each core that this process may use.

    Raises:
      InputError: a setting of jax with which no round can run.
    """
    host.check_settings()
    processes = distributed.processes()
    each = number // processes if number else host.cores()
    host.request_devices(each, processes)


def load_data(config: Config) -> Dataset:
    """The data set that the configuration names."""
    with within(f"the source of data {recorded(config).data}"):
        found = made(config, "data")
    return with_field("data", datasets.scaled, datasets.check(found))


def share(config: Config, dataset: Dataset) -> tuple[Dataset, Columns]:
    """What is left of the data for clients, and the rows that no client has."""
    rng = np.random.default_rng([config.seed, _PUBLIC_STREAM])
    with within(f"the public rows {recorded(config).public}"):
        found = with_field("public", made(config, "public"), dataset, rng)
        left, public = with_field("public", datasets.check_public, found, dataset)
    return datasets.scaled(datasets.check(left)), public


def deal(config: Config, dataset: Dataset) -> tuple[ClientData, np.ndarray]:
    """The training rows dealt to clients, and the client of each row.

    Raises:
      InputError: a client without rows, or a cohort larger than the population.
    """
    partition = made(config, "partition")
    rng = np.random.default_rng([config.seed, _PARTITION_STREAM])
    with within("the partition"):
        owner = with_field("partition", partition, dataset, config.clients, rng)
    data = clients.group(dataset.train, owner, what="partition: it")
    if not data.clients:
        raise InputError("partition: it must give some row to a client, and gives none")
    if config.clients and data.clients != config.clients:
        raise InputError(
            f"partition: only {data.clients} of {config.clients} clients have rows; "
            "lower clients or choose another partition"
        )
    empty = np.flatnonzero(data.sizes == 0)
    if len(empty):
        raise InputError(
            f"partition: {len(empty)} clients are empty, the first is client "
            f"{empty[0]}; lower clients or choose another partition"
        )
    if config.cohort > data.clients:
        raise InputError(
            f"cohort is {config.cohort}, but there are only {data.clients} clients; "
            f"cohort can be at most {data.clients}"
        )
    return data, np.asarray(owner)


def test_rows(
    config: Config, dataset: Dataset, owner: np.ndarray, data: ClientData
) -> ClientData:
    """The test rows by client, for evaluation on each client's own data.

    Raises:
      InputError: no test row belongs to a client that trains.
    """
    rng = np.random.default_rng([config.seed, _TEST_STREAM])
    found = clients.share_test_rows(dataset, owner, data.clients, rng)
    if not (found >= 0).any():
        raise InputError(
            "evaluate_clients: no test row belongs to a client that trains; "
            "leave evaluate_clients out, or hold out rows of each client"
        )
    # Scored as a whole on the device: memory-mapped rows are sorted in memory, too.
    columns = {name: np.asarray(x) for name, x in dataset.test.items()}
    return clients.group(columns, found, data.clients)


def check_data(config: Config, dataset: Dataset) -> None:
    """Deals the rows as a run would.

    Raises:
      InputError: they cannot be dealt as the configuration says.
    """
    dataset, _ = share(config, dataset)
    data, owner = deal(config, dataset)
    if config.evaluate_clients:
        test_rows(config, dataset, owner, data)


def rehearse(config: Config, dataset: Dataset) -> Model:
    """Traces what a run is made of, without training or compiling anything.

    Returns:
      The model.

    Raises:
      InputError: model, links or their schedules do not fit the data or each other.
    """
    model = build_model(config, dataset)
    left, public = share(config, dataset)
    people = population_of(left, deal(config, left)[0])
    course = build_course(config, model, people, public)
    params = jax.eval_shape(model.init, _model_key(config))
    check_links(config, params, course.first)
    Phases(course.first, course.later).check(root_key(config.seed), params)
    return model


def population_of(dataset: Dataset, data: ClientData) -> Population:
    """What is known of all clients before a run."""
    sizes = np.asarray(data.sizes)
    return Population(dataset.task, len(sizes), int(sizes.max()))


def _model_key(config: Config) -> Key:
    return jax.random.fold_in(root_key(config.seed), _MODEL_KEY)


def build(
    config: Config,
    dataset: Dataset | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Parts:
    """All parts of a run; nothing is trained yet, nor compiled but by a search.

    Args:
      config: the configuration.
      dataset: the data, if they have been loaded already.
      say: is told what takes long.

    Raises:
      InputError: anything in the configuration or the data that cannot work.
    """
    request_devices(config.devices)
    check_specs(config)
    if dataset is None:
        dataset = load_data(config)
    else:
        dataset = datasets.scaled(datasets.check(dataset))
    dataset, public = share(config, dataset)
    data, owner = deal(config, dataset)
    model = build_model(config, dataset)
    course = build_course(config, model, population_of(dataset, data), public)
    params = jax.tree.map(jnp.asarray, model.init(_model_key(config)))
    check_links(config, params, course.first)
    sampling = made(config, "sampling")
    clock = made(config, "clock")
    clock = None if clock == Clock() else clock
    if clock is None and getattr(course.first, "asynchronous", None):
        raise InputError(
            f"algorithm: {recorded(config).algorithm} waits for nobody, so it needs a "
            "clock; give one, as in network(mobile_2020) | devices(phone, sigma=0.6)"
        )
    found = layout.find(config, course.first, data, params, sampling, say)
    simulator = Simulator(
        course.first,
        data,
        cohort=config.cohort,
        seed=config.seed,
        sampling=sampling,
        lanes=found.choice.lanes,
        devices=found.choice.devices,
        convolution=found.choice.convolution,
        later=course.later,
        clock=clock,
        work=works_of(course, model, dataset.task) if clock else (),
        # The runner stops for these, so a longer program would stay partly empty.
        rounds_per_call=min(
            config.rounds_per_call, config.evaluate_every, config.checkpoint_every
        ),
    )
    network, others = networks_of(course.first, params)
    judged = course.first.judged or network or model
    if course.first.judged is not None and distributed.processes() > 1:
        raise InputError(
            f"algorithm: {recorded(config).algorithm} is judged by what its clients "
            "keep, so it needs a run of one process"
        )
    scores: list[Callable[[Params], dict[str, float]]] = [
        Evaluator(judged, dataset.test)
    ]
    personal = None
    if config.evaluate_clients:
        rows = test_rows(config, dataset, owner, data)
        if course.first.judged is None:
            scores.append(ClientEvaluator(judged, rows))
        # Each process has the states of some clients only.
        if course.first.personal is not None and distributed.processes() == 1:
            personal = PersonalEvaluator(judged, rows, course.first.personal)

    def evaluate(params: Params) -> dict[str, float]:
        return {k: v for score in scores for k, v in score(params).items()}

    return Parts(
        dataset, data, model, course.first, simulator, evaluate, params, found.note,
        personal,
        {name: Evaluator(other, dataset.test) for name, other in others.items()},
    )  # fmt: skip


def networks_of(
    algorithm: Algorithm, params: Params
) -> tuple[Model | None, dict[str, Model]]:
    """The models of what is evaluated, and of the algorithm's further networks."""
    found: list[tuple[Model | None, dict[str, Model]]] = []

    def look(key: Key) -> tuple[()]:
        server = algorithm.init(key, params)
        others = {} if algorithm.others is None else algorithm.others(server)
        models = {name: model for name, (model, _) in others.items()}
        found.append((algorithm.network(server)[0], models))
        return ()

    jax.eval_shape(look, root_key(0))
    return found[0]


def works_of(course: Course, model: Model, task: Task) -> list[Work]:
    """What clients compute, in each phase of a run."""
    algorithms = [course.first, *(algorithm for _, algorithm in course.later)]
    each = zip(algorithms, course.locals, strict=True)
    return [work_of(algorithm, local, model, task) for algorithm, local in each]


def left_open(config: Config) -> list[str]:
    """Settings in which a run of this configuration may differ from it."""
    engine = [n for n in named(Role.LAYOUT) if getattr(config, n) in (0, "auto")]
    return named(Role.ASIDE) + engine


def laid_out(config: Config, parts: Parts) -> Config:
    """The configuration with the layout that the engine has taken."""
    taken = {name: getattr(parts.simulator, name) for name in named(Role.LAYOUT)}
    return dataclasses.replace(config, **taken)
