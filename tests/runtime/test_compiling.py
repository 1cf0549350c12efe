"""How programs are compiled: once for equal settings, and with which options."""

from __future__ import annotations

import itertools
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fedjax_compress.experiment import Config, Grid, Scheme, build, run_grid
from fedjax_compress.runtime import compiling, host
from fedjax_compress.runtime.compiling import compile_once, compile_program

WIDTH = "xla_cpu_prefer_vector_width"


@pytest.fixture(autouse=True)
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    if jax.devices()[0].platform != "cpu":
        pytest.skip("the option is for CPUs")
    monkeypatch.setenv("XLA_FLAGS", "")
    compiling.forget()


class Lowered:
    """Notes the options, and fails as it is told to where it gets any."""

    def __init__(self, failure: str = "") -> None:
        self.failure, self.asked = failure, []

    def compile(self, compiler_options: Any = None) -> str:
        self.asked.append(compiler_options)
        if self.failure and compiler_options:
            raise jax.errors.JaxRuntimeError(f"INVALID_ARGUMENT: {self.failure}")
        return "program"


def test_a_cpu_is_compiled_for_with_its_widest_vectors() -> None:
    lowered = Lowered()
    assert compile_program(lowered, {"a": 1}) == "program"
    assert lowered.asked == [{WIDTH: 512, "a": 1}]


def test_other_devices_are_compiled_for_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = types.SimpleNamespace(platform="gpu")
    monkeypatch.setattr(jax, "devices", lambda: [gpu])
    lowered = Lowered()
    compile_program(lowered)
    assert lowered.asked == [None]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options of all that is compiled."""
    found = []
    compile_ = jax.stages.Lowered.compile

    def noted(self: Any, compiler_options: Any = None) -> Any:
        found.append(compiler_options)
        return compile_(self, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", noted)
    return found


def test_rounds_are_compiled_so(asked: list[Any]) -> None:
    lowered = jax.jit(lambda x: x * 2).lower(jnp.ones(2))
    program, _ = compile_once(lowered, ())
    assert program(jnp.ones(2)).tolist() == [2, 2]
    assert asked == [{WIDTH: 512}]


def test_the_same_program_is_compiled_once(asked: list[Any]) -> None:
    """Another text, form of inputs, device or setting is another program."""

    def twice(factor: float, x: Any, device: int = 0) -> Any:
        program, text = compile_once(
            jax.jit(lambda x: jax.tree.map(lambda y: y * factor, x)).lower(x),
            jax.devices()[device : device + 1],
        )
        return program(x), text

    x = jnp.ones(2)
    (one, text), (again, same) = twice(2.0, x), twice(2.0, x + 1)
    assert (one.tolist(), again.tolist(), text) == ([2, 2], [4, 4], same)
    assert len(asked) == 1
    assert twice(2.0, {"a": x})[0]["a"].tolist() == [2, 2]
    assert twice(3.0, x)[0].tolist() == [3, 3]
    twice(2.0, x, device=1)
    with jax.numpy_dtype_promotion("standard"):  # the tests have strict
        twice(2.0, x)
    assert len(asked) == 5
    twice(2.0, x)
    assert len(asked) == 5


def test_only_the_last_programs_are_kept(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_MOST", 2)
    x = jnp.ones(2)
    programs = [jax.jit(lambda x, i=i: x + i).lower(x) for i in range(3)]
    for i, compiled in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)):
        compile_once(programs[i], ())
        assert len(asked) == compiled


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param(
            {"algorithm": "fjord", "model": "mlp(hidden=(8,))", "downlink": "identity"},
            marks=pytest.mark.slow,
        ),
        {"uplink": "error_feedback(top_k(0.1))", "partition": "quantity(alpha=0.5)"},
    ],
    ids=["default", "tiers", "stateful"],
)
def test_runs_of_all_seeds_share_a_program(settings: dict, asked: list[Any]) -> None:
    """Neither the key, nor who has which rows and how many, is in its text."""
    compiled, digests, lost = [], [], []
    for seed in (0, 7):
        config = Config(
            **{"clients": 20, "cohort": 4, "lanes": 2, "devices": 2, "seed": seed}
            | {"model": "logistic", "local": "sgd(lr=0.1, epochs=1)"}
            | settings
        )
        parts = build.build(config)
        simulator = parts.simulator
        _, records = simulator.advance(simulator.start(parts.params), 1)
        compiled.append(simulator.programs.compiled[0])
        digests.append(simulator.programs.digests)
        lost.append(records[0]["train_loss"])
    assert compiled[0] is compiled[1]
    assert digests[0] == digests[1]
    assert lost[0] != lost[1]


def test_the_xla_at_hand_takes_the_option() -> None:
    lowered = jax.jit(lambda x: x + 1).lower(jnp.zeros(3))
    program = lowered.compile(compiler_options={WIDTH: 512})
    assert program(jnp.ones(3)).tolist() == [2, 2, 2]
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        lowered.compile(compiler_options={"xla_cpu_no_such": 1})


def test_what_the_user_has_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", f"--{WIDTH}=128")
    lowered = Lowered()
    compile_program(lowered, {"a": 1})
    assert lowered.asked == [{"a": 1}]


def test_an_xla_without_the_option_compiles_as_it_does() -> None:
    lowered = Lowered(f"No such compile option: '{WIDTH}'")
    assert compile_program(lowered) == "program"
    assert lowered.asked == [{WIDTH: 512}, None]


@pytest.mark.parametrize(
    "failure", ["No such compile option: 'other'", f"out of memory, {WIDTH}"]
)
def test_other_errors_are_raised(failure: str) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID"):
        compile_program(Lowered(failure))


def test_a_grid_keeps_the_programs_of_a_scheme_for_its_seeds(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second seed finds them; after the last one they are let go."""
    kept, compiled = [], []

    def note() -> None:
        kept.append(len(compiling._compiled))
        compiled.append(len(asked))

    monkeypatch.setattr(host, "give_back", note)
    base = Config(clients=4, cohort=2, rounds=1, model="logistic", downlink="identity")
    schemes = Scheme("a", {"uplink": "identity"}), Scheme("b", {"uplink": "sign"})
    run_grid(Grid(base, schemes, (0, 1)), tmp_path / "grid", quiet=True)
    first, after_first, second, after_second = kept
    assert first > 0
    assert second > 0
    assert (after_first, after_second) == (0, 0)
    rounds = [later - sooner for sooner, later in itertools.pairwise([0, *compiled])]
    assert rounds[0] > rounds[1]
    assert rounds[2] > rounds[3]
