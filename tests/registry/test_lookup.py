"""Functions of other libraries by name."""

from __future__ import annotations

import functools
import types

import jax.numpy as jnp
import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.numerics.promotion import as_written
from fedjax_compress.registry.libraries import call_by_name


def test_what_is_missing_is_named():
    module = types.ModuleType("library")
    vars(module).update(adam=lambda rate, beta=0.9: (rate, beta), pi=3)
    take = functools.partial(call_by_name, module)
    assert take("adam", "rate", {"rate": 1}) == (1, 0.9)
    with pytest.raises(InputError, match="no 'adm' with a rate; did you mean 'adam'"):
        take("adm", "rate", {})
    with pytest.raises(InputError, match="no option 'bet'; did you mean 'beta'"):
        take("adam", "rate", {"bet": 1})
    with pytest.raises(InputError, match=r"library.adam needs rate as well"):
        take("adam", "rate", {})
    vars(module).update(lamb=lambda rate, depth: range(depth))
    with pytest.raises(InputError, match=r"library.lamb: 'float' object cannot be"):
        take("lamb", "rate", {"rate": 1, "depth": 0.5})
    with pytest.raises(InputError, match="no 'pi' with a rate"):
        take("pi", "rate", {})


def test_the_suite_refuses_silent_promotion_and_other_libraries_are_spared():
    whole, row = jnp.arange(3), jnp.ones(3)
    for strict in (lambda: whole + row, lambda: row + row[None]):
        with pytest.raises(ValueError, match="promotion"):
            strict()
        with as_written():
            strict()
    with pytest.raises(ValueError, match="promotion"):
        _ = whole + row
