"""What an algorithm asks of the local update that it is given."""

from __future__ import annotations

from fedjax_compress.errors import InputError
from fedjax_compress.typing import LocalUpdate, Model


def check_zeros(local: LocalUpdate, name: str) -> None:
    """Raises InputError, naming the algorithm, where pruned weights would not be 0."""
    found = None if local.model is None else local.model.quantized
    if found and not found.keeps_zeros:
        raise InputError(
            f"{name} sets weights to zero, which this quantized training turns into "
            "other numbers; take qat=integer, lsq or binary(zero=zero)"
        )


def model_of(local: LocalUpdate, name: str) -> Model:
    """The model that a local update trains, and can train others in place of.

    Raises:
      InputError: it names none.
    """
    if local.model is None:
        raise InputError(
            f"{name} needs a local update that names its model, as those of "
            "fedjax_compress.local do"
        )
    return local.model


def trained(local: LocalUpdate) -> tuple[Model, ...]:
    """The model of a local update, if it names one."""
    return () if local.model is None else (local.model,)
