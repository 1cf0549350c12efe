"""The forms in which a convolution can be computed, and who chooses among them."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal, get_args

import jax

from fedjax_compress.errors import InputError

Form = Literal["auto", "patches", "winograd", "direct"]
"""``patches``: slices and matrix products. ``winograd``: fewer multiplications where
it applies, else patches. ``direct``: XLA's own operation. ``auto``: ``default_form``,
asked while tracing. All have the same parameters, and the same outputs to rounding."""

_chosen: contextvars.ContextVar[Form] = contextvars.ContextVar("form", default="auto")
_asked: contextvars.ContextVar[list[Form] | None] = contextvars.ContextVar(
    "asked", default=None
)


@contextlib.contextmanager
def convolution_form(form: Form) -> Iterator[list[Form]]:
    """What ``auto`` means for everything traced inside the ``with`` block.

    Gives a list to which each question is added: empty at the end if nothing that was
    traced has a convolution whose form is open.

    A function that was traced before keeps the form it was traced with, as far as
    JAX's caches reach: trace a new function (``jax.jit(lambda ...)``) for each form.

    Args:
      form: the form to use; ``auto`` returns to the fixed rule.

    Raises:
      InputError: no such form.
    """
    if form not in get_args(Form):
        raise InputError(
            f"no convolution form {form!r}; use {', '.join(get_args(Form))}"
        )
    questions: list[Form] = []
    chosen, asked = _chosen.set(form), _asked.set(questions)
    try:
        yield questions
    finally:
        _chosen.reset(chosen)
        _asked.reset(asked)


def default_form() -> Form:
    """What ``auto`` means here: that of ``convolution_form``, else by the device.

    ``winograd`` on the CPU. On accelerators ``patches``: XLA's own convolution is
    faster for a single kernel, but clients side by side have a kernel each, which
    makes it a grouped convolution.
    """
    form = _chosen.get()
    if form == "auto":
        form = "winograd" if jax.default_backend() == "cpu" else "patches"
    questions = _asked.get()
    if questions is not None:
        questions.append(form)
    return form


def resolve(form: Form) -> Form:
    """The form itself, or ``default_form()`` for ``auto``; asked while tracing."""
    return default_form() if form == "auto" else form
