"""What needs no simulator: a Python loop over clients, and SGD without clients.

Both keep the columns on the device and send row numbers. Where a program has several
forms, each is compiled and tried for a short time, and the fastest is kept.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress.bench.case import Case
from fedjax_compress.bench.contender import Contender
from fedjax_compress.bench.workloads import KINDS, Workload
from fedjax_compress.models.convolution.layer import Form
from fedjax_compress.runtime.compiling import compile_program
from fedjax_compress.typing import Array, Columns, Model, Params

_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}
"""Convolutions and products by Eigen alone, which is faster for direct ones."""
TRIAL_SECONDS = 0.3
_SHUFFLE = 7


class _Program(NamedTuple):
    """One form of a program: runs the steps of an index table [steps, batch]."""

    name: str
    run: Callable[[Params, np.ndarray], Params]
    compile_seconds: float


def columns(given: Workload) -> Columns:
    """The pool of a workload, put on the device."""
    return jax.tree.map(jnp.asarray, given.data.columns)


def sgd_step(
    model: Model, lr: float, params: Params, pool: Columns, index: Array
) -> Params:
    """One step on the rows ``index`` [batch]; -1 is no row."""
    mask = (index >= 0).astype(jnp.float32)

    def objective(params: Params) -> Array:
        rows = {name: column[index] for name, column in pool.items()}
        losses, weights = model.losses(model.apply(params, rows, None), rows)
        weights = weights * mask
        total = jnp.sum(weights)
        return jnp.sum(losses * weights) / jnp.where(total > 0, total, 1.0)

    grads = jax.grad(objective)(params)
    return jax.tree.map(lambda p, g: p - lr * g, params, grads)


def _models(given: Workload, forms: tuple[Form, ...]) -> dict[str, Model]:
    """The workload's model in each form of its convolutions, if it has any."""
    if given.name != "W1":
        return {"": given.model}
    return {form: KINDS["W1"].model(form) for form in forms}


def _compile(
    function: Callable, donate: int, *shapes: Any, options: Any = None
) -> tuple[Any, float]:
    begin = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=donate).lower(*shapes)
    program = compile_program(lowered, options)
    return program, time.perf_counter() - begin


def _by_step(
    name: str, model: Model, given: Workload, pool: Columns, options: Any = None
) -> _Program:
    """One compiled call a step, the parameters given up to it."""
    index = jax.ShapeDtypeStruct((given.batch,), jnp.int32)
    step = functools.partial(sgd_step, model, given.lr)
    shapes = given.params, pool, index
    program, seconds = _compile(step, 0, *shapes, options=options)

    def run(params: Params, table: np.ndarray) -> Params:
        for rows in table:
            params = program(params, pool, rows)
        return params

    return _Program(f"step {name}".strip(), run, seconds)


def _by_loop(
    name: str, model: Model, given: Workload, pool: Columns, most: int
) -> _Program:
    """All steps of a round, at most ``most``, in one compiled loop."""

    def steps(params: Params, pool: Columns, table: Array, count: Array) -> Params:
        def body(i: Array, params: Params) -> Params:
            return sgd_step(model, given.lr, params, pool, table[i])

        return jax.lax.fori_loop(0, count, body, params)

    shape = (most, given.batch)
    table = jax.ShapeDtypeStruct(shape, jnp.int32)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    program, seconds = _compile(steps, 0, given.params, pool, table, count)

    def run(params: Params, table: np.ndarray) -> Params:
        filled = np.zeros(shape, np.int32)
        filled[: len(table)] = table
        return program(params, pool, filled, np.int32(len(table)))

    return _Program(f"loop {name}".strip(), run, seconds)


def _rate(program: _Program, params: Params, table: np.ndarray) -> float:
    """Steps a second, from as many steps as take ``TRIAL_SECONDS``."""

    def seconds(steps: int) -> float:
        own = jax.tree.map(jnp.array, params)
        jax.block_until_ready(own)
        begin = time.perf_counter()
        jax.block_until_ready(program.run(own, table[:steps]))
        return time.perf_counter() - begin

    seconds(1)
    steps = min(4, len(table))
    while (taken := seconds(steps)) < TRIAL_SECONDS and steps < len(table):
        steps = min(4 * steps, len(table))
    return steps / taken


def _fastest(
    programs: list[_Program], params: Params, table: np.ndarray
) -> tuple[_Program, dict[str, Any]]:
    """The program to keep, and what there is to say about the choice."""
    rates = {p.name: _rate(p, params, table) for p in programs}
    best = max(programs, key=lambda p: rates[p.name])
    tried = {name: rate * table.shape[1] for name, rate in rates.items()}
    return best, {
        "compile_seconds": best.compile_seconds,
        "form": best.name,
        "tried_samples_per_second": tried,
    }


def bound(case: Case, given: Workload) -> Contender:
    """Plain SGD on a round's rows, shuffled, without clients: the upper bound.

    A round has as many full batches as its clients' rows fill.
    """
    pool = columns(given)
    largest = np.sort(given.sizes)[-given.clients :].sum()
    most = max(1, int(largest) // given.batch)
    forms = _models(given, ("patches", "winograd", "direct"))
    programs = [_by_step(form, model, given, pool) for form, model in forms.items()]
    if "direct" in forms and jax.devices()[0].platform == "cpu":
        programs.append(_by_step("direct, Eigen", forms["direct"], given, pool, _EIGEN))
    for form, model in forms.items():
        # On the CPU a loop slows the direct form down twentyfold.
        if form != "direct" or jax.devices()[0].platform != "cpu":
            programs.append(_by_loop(form, model, given, pool, most))

    def table(number: int) -> np.ndarray:
        rows = np.concatenate([given.rows(c) for c in given.cohort(number)])
        np.random.default_rng([_SHUFFLE, number]).shuffle(rows)
        steps = max(1, len(rows) // given.batch)
        return np.resize(rows, (steps, given.batch))

    best, facts = _fastest(programs, given.params, table(0))
    params = jax.tree.map(jnp.array, given.params)

    def run(first: int, rounds: int) -> float:
        nonlocal params
        begin = time.perf_counter()
        for number in range(first, first + rounds):
            params = best.run(params, table(number))
        jax.block_until_ready(params)
        return time.perf_counter() - begin

    def samples(number: int) -> int:
        return max(1, given.samples(number) // given.batch) * given.batch

    return Contender(run, samples, lambda: params, lambda: facts)


def loop(case: Case, given: Workload) -> Contender:
    """A Python loop over clients: one compiled call a step, and a running mean."""
    pool = columns(given)
    forms = _models(given, ("patches", "direct"))
    programs = [_by_step(form, model, given, pool) for form, model in forms.items()]
    largest = int(np.argmax(given.sizes))
    best, facts = _fastest(programs, given.params, _batches(given, largest))
    weight = jax.ShapeDtypeStruct((), jnp.float32)
    add, seconds = _compile(_add, 0, given.params, given.params, weight)
    facts["compile_seconds"] += seconds
    params = jax.tree.map(jnp.array, given.params)

    def one_round(params: Params, number: int) -> Params:
        total = jax.tree.map(jnp.zeros_like, params)
        ids = given.cohort(number)
        everybody = float(given.sizes[ids].sum())
        for client in ids:
            own = jax.tree.map(jnp.copy, params)
            trained = best.run(own, _batches(given, client))
            total = add(total, trained, np.float32(given.sizes[client] / everybody))
        return total

    def run(first: int, rounds: int) -> float:
        nonlocal params
        begin = time.perf_counter()
        for number in range(first, first + rounds):
            params = one_round(params, number)
        jax.block_until_ready(params)
        return time.perf_counter() - begin

    return Contender(run, given.samples, lambda: params, lambda: facts)


def _add(total: Params, one: Params, weight: Array) -> Params:
    return jax.tree.map(lambda t, p: t + weight * p, total, one)


def _batches(given: Workload, client: int) -> np.ndarray:
    """A client's rows as [steps, batch], the last batch filled with -1."""
    rows = given.rows(client)
    table = np.full((-(-len(rows) // given.batch), given.batch), -1, np.int32)
    table.reshape(-1)[: len(rows)] = rows
    return table
