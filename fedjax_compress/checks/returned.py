"""What a function that somebody else wrote gives back, checked in shape and dtype.

All of it happens while a program is traced: nothing is computed for it. Where the
function itself raises, the error is left as it is, with its traceback, and gets a note
that says which function it was.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_compress import tree
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array, Tree

_NOTE = "raised in "


@contextlib.contextmanager
def within(what: str) -> Iterator[None]:
    """Errors from inside the block get a note that names ``what``, the innermost once.

    An ``InputError`` says by itself what is wrong.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        if not any(note.startswith(_NOTE) for note in notes):
            error.add_note(f"{_NOTE}{what}")
        raise


def named(what: str, function: Callable, original: Any = None) -> Callable:
    """The function, whose errors get a note that names ``what``.

    Args:
      what: of whom it is.
      function: to be called.
      original: what it stands for, whose name and signature it gets; itself if None.
    """

    @functools.wraps(original if callable(original) else function)
    def call(*args: Any, **options: Any) -> Any:
        with within(what):
            return function(*args, **options)

    return call


def describe(value: Any) -> str:
    """Dtype and shape of an array in words; the type of anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__


def floats(what: str, value: Any, shape: tuple[int, ...], wanted: str) -> Array:
    """The value, if it is a float array of this shape.

    Args:
      what: of whom it is, such as "the model's loss".
      value: what was given back.
      shape: that it must have.
      wanted: what is right, in words.

    Raises:
      InputError: it is not; shape found and shape wanted.
    """
    array = is_array(value)
    if not array or not jnp.issubdtype(value.dtype, jnp.floating):
        raise InputError(_refusal(what, wanted, shape, value))
    if tuple(value.shape) != shape:
        raise InputError(_refusal(what, wanted, shape, value))
    return value


def numbers(what: str, value: Any, shape: tuple[int, ...], wanted: str) -> Array:
    """As ``floats``, but truth values and whole numbers become float32."""
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    real = is_array(value) and any(jnp.issubdtype(value.dtype, k) for k in kinds)
    if not real or tuple(value.shape) != shape:
        raise InputError(_refusal(what, wanted, shape, value))
    if jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return jnp.asarray(value, jnp.float32)


def number(what: str, value: Any) -> Array:
    """One number, as ``numbers``; those of Python become float32 as well."""
    if isinstance(value, bool | int | float):
        value = jnp.asarray(value, jnp.float32)
    return numbers(what, value, (), "one number")


def is_array(value: Any) -> bool:
    """Whether it is an array of jax or numpy, or a number of numpy."""
    return isinstance(value, (jax.Array, np.ndarray, np.generic))


def like(what: str, value: Tree, wanted: Tree, whose: str) -> Tree:
    """The value, if it is a tree of the same structure, shapes and dtypes.

    Args:
      what: of whom it is.
      value: what was given back.
      wanted: a tree of arrays or shapes.
      whose: of what they are, such as "the parameters".

    Raises:
      InputError: it is not; names the first leaf that differs.
    """
    if reason := difference(value, wanted):
        raise InputError(f"{what} must have the shapes and dtypes of {whose}: {reason}")
    return value


def difference(value: Tree, wanted: Tree) -> str:
    """How a tree differs from the one wanted, in words; empty if it does not."""
    found, right = leaves(value), leaves(wanted)
    for path, leaf in right.items():
        name = path or "it"
        if path not in found:
            return f"{name} is missing"
        if difference_of_leaf(found[path], leaf):
            return f"{name} is {describe(found[path])}, not {describe(leaf)}"
    if more := [path or "a leaf" for path in found if path not in right]:
        return f"{more[0]} is too much"
    one: Any = jax.tree.structure(value)
    if one != jax.tree.structure(wanted):
        return f"it is a {type(value).__name__} with its leaves in another place"
    return ""


def difference_of_leaf(value: Any, wanted: Any) -> bool:
    """Whether an array has another shape or dtype than the one wanted."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return True
    return tuple(value.shape) != tuple(wanted.shape) or value.dtype != wanted.dtype


def leaves(value: Tree) -> dict[str, Any]:
    """The leaves of a tree by their paths."""
    return dict(zip(tree.paths(value), jax.tree.leaves(value), strict=True))


def _refusal(what: str, wanted: str, shape: tuple[int, ...], value: Any) -> str:
    return f"{what} must give {wanted}, {list(shape)}, not {describe(value)}"


def expect(name: str, given: Any, kind: type) -> None:
    """Raises InputError where what is called ``name`` is of another type."""
    if not isinstance(given, kind):
        a = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InputError(f"{name} must be {a} {kind.__name__}, not {_type(given)}")


def _type(given: Any) -> str:
    named = getattr(given, "__name__", None)
    return f"{type(given).__name__} {named!r}" if named else type(given).__name__
