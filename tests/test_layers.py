"""Who may import whom: walks the imports of every module of the package."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

PACKAGE = "fedjax_compress"
LAYERS = [
    ["typing", "tree", "spec", "errors", "registry", "checks", "numerics"],
    ["wire", "data", "models"],
    [
        "clients",
        "local",
        "quantize",
        "compress",
        "prune",
        "submodel",
        "aggregate",
        "server",
    ],
    ["algorithms", "clock", "runtime"],
    ["simulate"],
    ["bench"],
    ["report"],
    ["__init__"],  # the package itself, which gives every room on first use
    ["experiment"],
    ["cli"],
    ["__main__"],
]
LAYER = {room: i for i, rooms in enumerate(LAYERS) for room in rooms}

# Libraries that only some rooms may know.
ROOMS_OF = {
    "flax": {"models"},
    "optax": {"models", "local", "server", "algorithms"},
    "orbax": {"runtime"},
    "tensorflow_datasets": {"data"},
    "sklearn": {"data"},
    "PIL": {"data"},
    "scipy": {"data"},
    "matplotlib": {"report", "cli"},
    "rich": {"report", "experiment", "cli"},
    "tyro": {"experiment", "cli"},
    "zstandard": {"wire"},
    "msgpack": {"data"},
    "h5py": {"data"},
    "pyarrow": {"clock", "data"},
    "jax": set(LAYER),
    "numpy": set(LAYER),
}
WHEN_USED = {"tensorflow_datasets", "sklearn", "PIL", "scipy", "orbax", "pyarrow"}
WHEN_USED |= {"msgpack", "h5py"}
# What is written in terms of such a library, and so is imported when used as well.
ITSELF_WHEN_USED = {f"{PACKAGE}.runtime.orbax_files"}


def imports(source: str, module: str) -> list[tuple[str, bool]]:
    """(full name, inside a function) of everything that a module imports."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((name.name, inside) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = module.split(".")[: -node.level]
                base = ".".join([*stem, base]).rstrip(".")
            found.extend((f"{base}.{name.name}", inside) for name in node.names)
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def breaches(source: str, module: str) -> list[str]:
    """What a module, named by its full dotted path, imports and must not."""
    room = module.split(".")[1]
    wrong = []
    for name, inside in imports(source, module):
        top, *rest = name.split(".")
        if top == PACKAGE:
            other = rest[0] if rest and rest[0] in LAYER else "__init__"
            same = other == room or LAYER[other] == LAYER[room] == 0
            if name in ITSELF_WHEN_USED and not inside:
                wrong.append(f"{module} imports {name} at its head, not when used")
            if not same and LAYER[other] >= LAYER[room]:
                wrong.append(f"{module} (layer {LAYER[room]}) imports {name}")
        elif top in ROOMS_OF:
            if room not in ROOMS_OF[top]:
                wrong.append(f"{module} imports {top}, which {room} must not know")
            elif top in WHEN_USED and not inside and module not in ITSELF_WHEN_USED:
                wrong.append(f"{module} imports {top} at its head, not when used")
        elif top not in sys.stdlib_module_names:
            wrong.append(f"{module} imports {top}, which pyproject.toml does not name")
    return wrong


def modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts)] = path
    return found


def test_every_module_keeps_to_its_layer(repository):
    found = modules(repository)
    assert f"{PACKAGE}.runtime.manifest" in found
    del found[f"{PACKAGE}.__init__"]
    assert [m for m in found if m.split(".")[1] not in LAYER] == []
    wrong = [b for m, path in found.items() for b in breaches(path.read_text(), m)]
    assert wrong == []


def test_the_table_for_contributors_is_this_one(repository):
    """Rooms by layer, as CONTRIBUTING.md lists them; the package's own files apart."""
    text = (repository / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, re.M)
    assert [int(number) for number, _ in rows] == list(range(len(rows)))
    table = [set(re.findall(r"`(\w+)/?`", rooms)) for _, rooms in rows]
    ours = [set(rooms) for rooms in LAYERS if not rooms[0].startswith("__")]
    assert table == ours
    for _, rooms in rows:
        for name, slash in re.findall(r"`(\w+)(/?)`", rooms):
            assert (repository / PACKAGE / name).is_dir() == bool(slash)


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("wire.pack", "from fedjax_compress.typing import Array", 0),
        ("wire.pack", "from fedjax_compress import tree, wire", 0),
        ("wire.pack", "from . import field", 0),
        ("wire.pack", "from ..compress import chain", 1),
        ("wire.pack", "from fedjax_compress.clients import store", 1),
        ("wire.pack", "def f():\n  import fedjax_compress.simulate", 1),
        ("compress.chain", "from fedjax_compress import aggregate", 1),
        ("compress.chain", "from fedjax_compress import wire, models", 0),
        ("algorithms._fedavg", "from fedjax_compress import local, server", 0),
        ("algorithms._fedavg", "import optax\nimport flax.linen as nn", 1),
        ("simulate.engine", "import fedjax_compress", 1),
        ("simulate.engine", "from fedjax_compress import bench", 1),
        ("bench.measure", "from fedjax_compress import simulate", 0),
        ("bench.measure", "from fedjax_compress import experiment", 1),
        ("quantize.qat", "from fedjax_compress.local import train", 1),
        ("runtime.meeting", "from fedjax_compress import simulate", 1),
        ("cli.commands", "import fedjax_compress", 0),
        ("cli.commands", "from fedjax_compress import __version__", 0),
        ("runtime.arrays", "def f():\n  import orbax.checkpoint", 0),
        ("runtime.arrays", "import orbax.checkpoint", 1),
        ("runtime.orbax_files", "import orbax.checkpoint", 0),
        ("runtime.arrays", "from fedjax_compress.runtime import orbax_files", 1),
        ("tree", "from fedjax_compress.errors import InputError", 0),
        ("tree", "import tensorflow", 1),
        ("data._digits", "import sklearn.datasets", 1),
        ("data._digits", "def f():\n  from sklearn import datasets", 0),
        ("models.mlp", "def f():\n  from sklearn import datasets", 1),
        ("models.mlp", "import chex", 1),
    ],
)
def test_a_breach_is_seen(module, source, count):
    assert len(breaches(source, f"{PACKAGE}.{module}")) == count
