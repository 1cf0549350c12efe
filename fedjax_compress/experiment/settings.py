"""What is said of a setting where it is declared."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any


class Role(enum.Flag):
    """What a setting has a say in. Every list of settings is made from these.

    Attributes:
      ROWS: who has which rows.
      NETWORK: the network that clients train.
      PROGRAM: the compiled round, beside the shapes of its inputs.
      LAYOUT: how that lies on the machine; 0 and auto leave it to the engine.
      SPEED: which layout is the fastest, beside the program.
      EARLY: what is made before there are data.
      STEPS: numbers in its SPEC may change over rounds.
      RESUME: ``resume`` may be given another value.
      FREE: checkpoints do not depend on it.
      ASIDE: nothing follows from it once a run has begun.
      SHARED: all schemes of a grid have the same.
      SCHEME: ``compare`` takes it from the schemes.
      SIZE: ``size`` takes it.
      DEAL: ``partition`` takes it.
      LATER: the first runs did not know it; they had the default.
    """

    NONE = 0
    ROWS = enum.auto()
    NETWORK = enum.auto()
    PROGRAM = enum.auto()
    LAYOUT = enum.auto()
    SPEED = enum.auto()
    EARLY = enum.auto()
    STEPS = enum.auto()
    RESUME = enum.auto()
    FREE = enum.auto()
    ASIDE = enum.auto()
    SHARED = enum.auto()
    SCHEME = enum.auto()
    SIZE = enum.auto()
    DEAL = enum.auto()
    LATER = enum.auto()


def option(
    default: Any,
    text: str,
    roles: Role = Role.NONE,
    *,
    kind: str = "",
    least: int | None = None,
    most: int = 2**31 - 1,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field with its description, its roles, and its bounds or choices.

    A SPEC has the ``kind`` of names that it may begin with, ``link`` for both links.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": text,
            "roles": roles,
            "kind": kind,
            "spec": bool(kind),
            "least": least,
            "most": most,
            "choices": choices,
        },
    )
