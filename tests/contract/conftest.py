"""Every registered stage and compressor, as specifications to be tested.

A test that takes ``specification`` runs over all of them. A name whose options all have
defaults is covered by itself; one that needs options needs an example here, and
``test_every_entry_has_an_example`` fails until it has one. Variants come on top, some
of them among the slow tests.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fedjax_compress import compress, registry, wire
from fedjax_compress.typing import Keys

EXAMPLES = {
    "top_k": "top_k(0.3)",
    "random_k": "random_k(0.3)",
    "subsample": "subsample(0.3)",
    "count_sketch": "count_sketch(rows=3, columns=4)",
    "on_leaves": "on_leaves(hadamard | uniform(bits=4))",
    "on_vector": "on_vector(hadamard | uniform(bits=4))",
    "by_label": "by_label(uniform(bits=4), head=top_k(0.5), scale=cast)",
    "strom": "strom(0.5)",
    "dryden": "dryden(0.3)",
    "stc": "stc(0.3)",
    "error_feedback": "error_feedback(top_k(0.3) | qsgd(bits=4))",
}
VARIANTS = [
    "cast(bfloat16)",
    "uniform(levels=3, code=radix)",
    "qsgd(bits=2, bucket=8, norm=l2, code=elias)",
    "qsgd(bits=3, bucket=7, code=radix)",
    "top_k(0.3, indices=fixed)",
    "top_k(0.5, indices=bitmask) | cast(bfloat16)",
    "top_k(1.0)",
    "random_k(0.5, rescale=false)",
    "random_k(0.5) | hadamard(block=4) | uniform(levels=5)",
    "hadamard(block=8) | top_k(0.5)",
    "error_feedback(uniform(bits=2), decay=0.5)",
    "on_vector(random_k(0.5) | qsgd(bits=3, code=elias))",
]
AS_FOR_USERS = (
    "identity",
    "uniform",
    "qsgd",
    "hadamard",
    "kashin",
    "eden",
    "quic_fl",
    "one_bit",
    "power_sgd",
    "top_k(0.3)",
    "on_leaves(hadamard | uniform(bits=4))",
    "error_feedback(top_k(0.3) | qsgd(bits=4))",
)
"""Compiled with full effort: lest what holds should hold only without optimization."""
SLOW_VARIANTS = [
    "strom(0.01, indices=golomb)",
    "dgc(sparsity=0.5, momentum=0.5, clip=1.0, nesterov=true, indices=runs)",
    "on_vector(gradient_dropping(rate=0.5, indices=bitmask))",
    "gradient_dropping(rate=0.5, bits=2)",
    "adacomp(bin=7, indices=fixed)",
    "error_feedback(stc(0.2, indices=words))",
    "qsgd(bits=4, norm=l2, code=stream)",
    "one_bit(columns=false, threshold=mean)",
    "hadamard | terngrad(clip=0)",
    "sign(scale=one)",
    "z_sign(1.5, noise=uniform, relative_to=max)",
    "drive(scale=mmse)",
    "drive(plus=true)",
    "drive(scale=mmse, plus=true)",
    "eden(bits=2.5)",
    "top_k(0.3, indices=best) | qsgd(bits=3, code=zero_runs)",
    "uniform(levels=3, code=arithmetic)",
    "kashin(redundancy=2.0, eta=0.5, iterations=8) | uniform(bits=1)",
    "caldas(transform=hadamard, fraction=0.5, bits=2)",
    "error_feedback(power_sgd(rank=1))",
    "count_sketch(rows=1, columns=8)",
    "eden(bits=2, code=huffman)",
    "quic_fl(bits=2, code=arithmetic)",
    "dorefa_gradient(bits=3, code=best)",
    "terngrad(code=zero_runs)",
]


def names() -> list[str]:
    """Every name registered as a stage or a compressor."""
    return [*registry.entries("stage"), *registry.entries("compressor")]


def specifications() -> list[Any]:
    """One specification for each registered name, then the variants.

    The tests of one specification run in one process, so that it compiles once.
    """
    usual = [EXAMPLES.get(name, name) for name in names()] + VARIANTS
    slow = [pytest.param(s, marks=pytest.mark.slow) for s in SLOW_VARIANTS]
    return usual + slow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "specification" in metafunc.fixturenames:
        metafunc.parametrize("specification", specifications())
    if "entry_name" in metafunc.fixturenames:
        metafunc.parametrize("entry_name", names())


@pytest.fixture
def examples() -> dict[str, str]:
    """The examples, by registered name."""
    return EXAMPLES


class Case:
    """A compressor and its compiled rounds, shared by the tests of a specification.

    Attributes:
      compressor: as parsed.
      other_end: parsed once more, as a receiver would.
      traces: how often a round has been traced.
      round: (tree, state, coin) -> (payload, state after, decoded, bits, size,
        nominal size), compiled.
      batch: the same for a batch of trees and coins and one state, compiled; as for
        users where the specification is one of ``AS_FOR_USERS``.
      decode: the receiver's decode, compiled.
    """

    def __init__(self, specification: str, full_effort: dict[str, Any]):
        self.compressor = compress.parse(specification)
        self.other_end = compress.parse(specification)
        self.traces = 0
        self.round = jax.jit(self.eager_round)
        batch = jax.vmap(self.eager_round, (0, None, 0))
        effort = full_effort if specification in AS_FOR_USERS else None
        self.batch = jax.jit(batch, compiler_options=effort)
        self.decode = jax.jit(self.other_end.decode)

    def eager_round(self, tree, state, coin):
        self.traces += 1
        payload, state = self.compressor.encode(tree, state, coin)
        decoded = self.compressor.decode(payload, tree, coin.shared)
        sizes = wire.bits(payload), wire.size(payload), wire.nominal_size(payload)
        return payload, state, decoded, *sizes


_latest: dict[str, Case] = {}
"""The one that was used last: the tests of a specification follow each other."""


@pytest.fixture
def case(specification: str, full_effort: dict[str, Any]) -> Case:
    """The compiled compressor of the specification."""
    if specification not in _latest:
        _latest.clear()
        _latest[specification] = Case(specification, full_effort)
    return _latest[specification]


def _tree(seed: int):
    keys = jax.random.split(jax.random.key(seed), 3)
    normal = jax.random.normal
    return {
        "body": {"kernel": normal(keys[0], (3, 4, 5))},
        "head": normal(keys[1], (7,)).astype("bfloat16"),
        "scale": normal(keys[2], ()),
    }


@pytest.fixture
def make_tree():
    """Seed -> a tree of float32 [3, 4, 5], bfloat16 [7] and a float32 scalar."""
    return _tree


def _alone(vector):
    """The vector as the one leaf that has elements, in a tree with all labels."""
    nothing = jnp.zeros((*vector.shape[:-1], 0))
    return {"body": vector, "head": nothing, "scale": nothing}


@pytest.fixture
def alone():
    """Vector -> a tree of that vector and of empty leaves."""
    return _alone


@pytest.fixture
def make_keys():
    """Seed -> coin."""
    return lambda seed: Keys(*jax.random.split(jax.random.key(1000 + seed)))
