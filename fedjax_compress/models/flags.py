"""How a module is told whether it is training: arguments and fields by these names."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import flax
import jax
from flax import linen

from fedjax_compress.checks.returned import within
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Key

FLAGS = {"train": True, "training": True, "is_training": True, "deterministic": False}
"""Names of flags, with their values while a module is training."""
DROPOUT = "dropout"
_HOW = (
    "give it an argument train, training, is_training or deterministic and hand that on"
)
_STREAM = re.compile(r'needs PRNG for "(\w+)"')
_UNTOLD = re.compile(r'Parameter "(\w+)" must be passed to the constructor')


def flag(name: str, training: bool) -> bool:
    """The value of the flag of that name."""
    return FLAGS[name] == training


def options(call: Callable[..., Any], training: bool, given: int) -> dict[str, Any]:
    """The flags among the arguments of a module's ``__call__``.

    Args:
      call: the method.
      training: whether the module is.
      given: how many arguments come first, which are set.

    Raises:
      InputError: an argument without a default that nobody sets.
    """
    arguments = list(inspect.signature(call).parameters.values())[1:]
    found = {a.name: flag(a.name, training) for a in arguments if a.name in FLAGS}
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for argument in [a for a in arguments if a.kind not in kinds][given:]:
        if argument.name not in found and argument.default is argument.empty:
            raise InputError(
                f"the module's __call__ has an argument {argument.name!r} that nobody "
                f"sets; give it a default, have inputs give a tuple of all that it "
                f"reads, or call it one of {', '.join(FLAGS)}"
            )
    return found


def streams(names: tuple[str, ...], key: Key) -> dict[str, Key]:
    """A key for ``dropout``, the given one, and one for each further stream."""
    found = {DROPOUT: key}
    for name in names:
        if name != DROPOUT:
            found[name] = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return found


def check_streams(names: Any) -> tuple[str, ...]:
    """The names of streams as a tuple; raises InputError for anything else."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"streams must be names, as in ('noise',), not {names!r}")
    return tuple(names)


def told(module: linen.Module, training: bool) -> linen.Module:
    """The module with the flags among its fields set, and those of modules in them.

    Set are: a flag of the module itself that is no argument of its ``__call__``; a flag
    that is true or false in a module of the user's that is a field; and in
    ``linen.Sequential``, which hands nothing on, flags that are None as well.

    Raises:
      InputError: a layer of a Sequential has a flag as an argument only.
    """
    return _Teller(training).module(module, "us")


Caller = Literal["us", "sequential", "other"]
"""Who calls a module: ``options`` goes along, nothing does, or whatever they write."""


class _Teller:
    """Copies modules, each once, so that those that are shared stay so."""

    def __init__(self, training: bool):
        self.training = training
        self.done: dict[int, tuple[Any, linen.Module]] = {}

    def module(self, module: linen.Module, caller: Caller) -> linen.Module:
        """The module told, for somebody who calls it."""
        if id(module) not in self.done:
            changes = self._changes(module, caller)
            made = module.clone(**changes) if changes else module
            self.done[id(module)] = module, made
        return self.done[id(module)][1]

    def _changes(self, module: linen.Module, caller: Caller) -> dict[str, Any]:
        call = inspect.signature(type(module).__call__).parameters
        is_flax = type(module).__module__.split(".")[0] == "flax"
        layered = type(module) is linen.Sequential
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(module):
            if field.name in ("parent", "name"):
                continue
            value, name = getattr(module, field.name, None), field.name
            if name not in FLAGS:
                made = self._inside(value, layered)
                changes |= {} if made is value else {name: made}
            elif value is None and caller != "other":
                if caller == "sequential" or name not in call:
                    changes[name] = flag(name, self.training)
            elif isinstance(value, bool) and not is_flax and name not in call:
                changes[name] = flag(name, self.training)
        return changes

    def _inside(self, value: Any, layered: bool) -> Any:
        """A field's value with the modules in it told."""
        if isinstance(value, linen.Module):
            if layered:
                _check_layer(value)
            return self.module(value, "sequential" if layered else "other")
        if isinstance(value, Mapping):
            made = {k: self._inside(v, layered) for k, v in value.items()}
            same = all(made[k] is value[k] for k in made)
            kind: Any = type(value)
            return value if same else kind(made)
        if type(value) in (list, tuple):
            items = [self._inside(v, layered) for v in value]
            same = all(a is b for a, b in zip(items, value, strict=True))
            return value if same else type(value)(items)
        return value


def _check_layer(layer: linen.Module) -> None:
    call = inspect.signature(type(layer).__call__).parameters
    fields = {field.name for field in dataclasses.fields(layer)}
    for name in FLAGS:
        if name in call and name not in fields:
            raise InputError(
                f"{type(layer).__name__} stands in a Sequential, which does not hand "
                f"on its argument {name!r}; make {name} a field of it"
            )


@contextlib.contextmanager
def explained(names: tuple[str, ...] = ()) -> Iterator[None]:
    """What flax says of flags and streams becomes one line; other errors a note.

    Args:
      names: of the streams that there are besides ``dropout``.
    """
    try:
        with within("the module's __call__ or setup"):
            yield
    except flax.errors.InvalidRngError as error:
        match = _STREAM.search(str(error))
        name = match[1] if match else "unknown"
        if name in (DROPOUT, *names):
            reason = "in evaluation, where nothing is random; switch that off there"
            raise InputError(
                f"the module draws from its random stream {name!r} {reason}: {_HOW}"
            ) from error
        listed = ", ".join(repr(n) for n in (*names, name))
        raise InputError(
            f"the module draws from a random stream {name!r} that it is not given; "
            f"pass streams=({listed},)"
        ) from error
    except ValueError as error:
        match = _UNTOLD.search(str(error))
        if match is None:
            raise
        raise InputError(
            f"a layer of the module needs {match[1]!r} and nobody sets it, as a field "
            f"or when it is called: {_HOW}"
        ) from error


@contextlib.contextmanager
def dropouts_are_on() -> Iterator[None]:
    """What is traced inside is training.

    One that is switched off in a call, by its own flag or by that of a module around
    it, is meant to be, if another one is on: the module knows of training.

    Raises:
      InputError: a ``linen.Dropout`` was off all the same, for nobody has told it.
    """
    off: dict[bool, list[str]] = {True: [], False: []}
    on: list[str] = []
    calls: list[bool | None] = []

    def watch(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer, name = context.module, context.method_name
        # Nobody but us calls the outermost one, so what it is given says nothing.
        calls.append(_told_by_call(layer, name, args, kwargs) if calls else None)
        try:
            if isinstance(layer, linen.Dropout) and name == "__call__":
                given = _given(layer, name, args, kwargs).get("deterministic")
                state = layer.deterministic if given is None else given
                path = "/".join(layer.path) or "Dropout"
                if state is True and layer.rate > 0:
                    first = next(told for told in (*calls, False) if told is not None)
                    off[first].append(path)
                elif state is False:
                    on.append(path)
            return method(*args, **kwargs)
        finally:
            calls.pop()

    with linen.intercept_methods(watch):
        yield
    untold = off[False] if on else off[False] + off[True]
    if untold:
        raise InputError(
            f"{untold[0]} is off while the module is training, since nobody tells it: "
            f"{_HOW}; rate=0 if it is to stay off"
        )


def _signature(layer: linen.Module, name: str) -> inspect.Signature:
    """Of a method; empty for a function of ``linen.remat``, which has none of it."""
    return inspect.signature(getattr(type(layer), name, lambda self: None))


def _given(layer: linen.Module, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
    """The flags that a call of a method gives, by name."""
    try:
        bound = _signature(layer, name).bind_partial(layer, *args, **kwargs).arguments
    except TypeError:  # the call itself will say so
        return {}
    return {flag: bound[flag] for flag in FLAGS if bound.get(flag) is not None}


def _told_by_call(
    layer: linen.Module, name: str, args: Any, kwargs: Any
) -> bool | None:
    """Whether a call gives the flag that the method has; None: it has none."""
    takes = _signature(layer, name).parameters
    if not any(flag in takes for flag in FLAGS):
        return None
    return bool(_given(layer, name, args, kwargs))
