"""Which tests stand together: in one process, one after the other."""

from __future__ import annotations

import re

LONGEST = ("system", "contract", "algorithms", "simulate", "experiment", "documents")
"""Rooms whose tests begin first, so that no process is left with a long one."""
BY_CASE = {
    "contract/test_algorithms.py": "",
    "contract/test_claims.py": "",
    "contract/test_compressors.py": "",
    "contract/test_drawn_trees.py": "",
    "contract/test_qat.py": "qat ",
}
"""Files whose tests are grouped by their case, and what stands before its name."""
SMOKE = (
    "test_documents.py",
    "test_layers.py",
    "test_public_names.py",
    "registry/test_registry.py",
    "test_spec.py",
    "data/test_npz.py",
    "experiment/test_runner.py",
    "server/test_server.py",
    "runtime/test_checkpoint.py",
    "system/test_default_run.py",
    "wire/test_message.py",
    "fedavg",
    "qat integer(bits=4)",
    "error_feedback(top_k(0.3) | qsgd(bits=4))",
    "hadamard",
)
"""Files and groups that are a first look: one of each kind, each library used once."""


def group_of(name: str) -> str:
    """The group of a test, by its name: what it compiles is shared within it.

    In the files of ``BY_CASE`` that is the case, as in ``test_x.py::test_y[case-1]``,
    whichever of the files it is in; else the file.
    """
    file, _, rest = name.partition("::")
    place = file.removeprefix("tests/")
    if place in BY_CASE and "[" in rest:
        case = rest.partition("[")[2].removesuffix("]")
        return BY_CASE[place] + re.sub(r"-\d+$", "", case)
    return place


def rank_of(name: str) -> int:
    """When the group of a test begins: those of a lower rank first."""
    room = name.removeprefix("tests/").split("/")[0]
    return LONGEST.index(room) if room in LONGEST else len(LONGEST)


def is_smoke(name: str) -> bool:
    """Whether a test is part of the first look."""
    return group_of(name) in SMOKE
