"""The options that programs are compiled with."""

from __future__ import annotations

import types
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fedjax_compress.simulate import program_cache
from fedjax_compress.simulate.compiling import compile_program

WIDTH = "xla_cpu_prefer_vector_width"


@pytest.fixture(autouse=True)
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    if jax.devices()[0].platform != "cpu":
        pytest.skip("the option is for CPUs")
    monkeypatch.setenv("XLA_FLAGS", "")


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


def test_rounds_are_compiled_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    compile_ = jax.stages.Lowered.compile

    def noted(self: Any, compiler_options: Any = None) -> Any:
        asked.append(compiler_options)
        return compile_(self, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", noted)
    lowered = jax.jit(lambda x: x * 2).lower(jnp.ones(2))
    program, _ = program_cache.find(None, (), (), lambda: lowered)
    assert program(jnp.ones(2)).tolist() == [2, 2]
    assert asked == [{WIDTH: 512}]


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
