"""Files of a user's own: imported once, named by their own line where they fail."""

from __future__ import annotations

import hashlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.registry import imports

GOOD = """
from fedjax_compress.registry import register

@register("schedule")
def wave(height: float = 1.0):
    '''Up and down.'''
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers and imports is forgotten again."""
    for kind in registry.kinds():
        monkeypatch.setitem(registry._entries._tables, kind, registry.entries(kind))
    monkeypatch.setattr(imports, "_brought", {})
    monkeypatch.setattr(imports, "_latest", {})
    monkeypatch.setattr(imports, "_current", ())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_names_are_known_then(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    imports.bring([path])
    entry = registry.entries("schedule")["wave"]
    assert (entry.summary, entry.is_ours) == ("Up and down.", False)
    assert registry.entries("schedule")["steps"].is_ours
    wanted = hashlib.sha256(GOOD.encode()).hexdigest()
    assert imports.digests() == {"mine.py": wanted}
    assert imports.current() == [path]
    imports.bring([path])
    assert registry.entries("schedule")["wave"] is entry  # it was not imported again
    written(tmp_path, GOOD.replace("Up and", "Neither up nor"))
    imports.bring([path])
    assert registry.entries("schedule")["wave"].summary == "Neither up nor down."
    assert imports.digests()["mine.py"] != wanted
    imports.bring([])
    assert imports.digests() == {}


def test_what_lies_beside_a_file_can_be_imported(tmp_path: Path) -> None:
    written(tmp_path, "HEIGHT = 3.0\n", "beside_mine.py")
    text = "from beside_mine import HEIGHT\n" + GOOD.replace("= 1.0", "= HEIGHT")
    imports.bring([written(tmp_path, text)])
    (option,) = registry.entries("schedule")["wave"].options()
    assert option.default == 3.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ny = nothing\n", "mine.py, line 2: NameError: name 'nothing' is"),
        ("x = 1\n\nx ==== 2\n", "mine.py, line 3: SyntaxError: invalid syntax"),
        ("\nimport no_such_module\n", "line 2: ModuleNotFoundError: No module named"),
        ("import json\n\njson.loads('{')\n", "line 3: JSONDecodeError: Expecting"),
        ("raise ValueError\n", "mine.py, line 1: ValueError: no message"),
        ("raise ValueError('one\\ntwo')\n", "mine.py, line 1: ValueError: one"),
        ("import sys\nsys.exit(3)\n", "line 2: ends the program while it is imported"),
        (
            GOOD + "import wrong_beside_mine\n",
            "wrong_beside_mine.py, line 1: ZeroDivisionError",
        ),
        (
            "from fedjax_compress.registry import register\n"
            "@register('stage')\ndef qsgd():\n    pass\n",
            "mine.py, line 2: stage 'qsgd' is registered already, by fedjax_compress",
        ),
    ],
)
def test_the_users_own_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.delitem(sys.modules, "imported_mine", raising=False)
    written(tmp_path, "1 / 0\n", "wrong_beside_mine.py")
    with pytest.raises(InputError) as caught:
        imports.bring([written(tmp_path, text)])
    (line,) = str(caught.value).splitlines()
    assert words in line
    assert line.startswith(str(tmp_path))
    assert "imported_mine" not in sys.modules


def test_files_that_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot import .*none.py: No such file"):
        imports.bring([str(tmp_path / "none.py")])
    with pytest.raises(InputError, match=r"takes a Python file, like mine.py, not"):
        imports.bring([written(tmp_path, GOOD, "mine.txt")])
    (tmp_path / "other").mkdir()
    two = [written(tmp_path, GOOD), written(tmp_path / "other", GOOD)]
    with pytest.raises(InputError, match=r"two files to import are called mine.py"):
        imports.bring(two)
    imports.bring([two[0], two[0]])


def test_a_file_that_registers_nothing_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"mine.py registers nothing"):
        imports.bring([written(tmp_path, "x = 1\n")])


def test_a_moved_file_takes_the_place_of_the_old_one() -> None:
    before = (os.path.join("a", "one.py"), os.path.join("a", "two.py"))
    given: Any = (os.path.join("b", "two.py"), os.path.join("b", "three.py"))
    assert imports.merged(before, given) == (before[0], *given)
    assert imports.merged(before, ()) == before


def test_an_error_of_ours_is_told_at_the_users_line(tmp_path: Path) -> None:
    """Whatever room of the package it is raised in."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from fedjax_compress import compress\n\ncompress.parse('nosuch')\n"
    )
    with pytest.raises(InputError, match=r"mine.py, line 3: .*unknown stage 'nosuch'"):
        imports.bring([str(mine)])


STAGE = """
from fedjax_compress import registry
from fedjax_compress.compress import identity

@registry.register("stage")
def of_ones_own({option}: int = 1):
    return identity()
"""


def test_a_script_can_name_itself(tmp_path: Path, monkeypatch: Any) -> None:
    """What it has registered as the main module, it registers again as an import."""
    script = tmp_path / "script.py"
    script.write_text(STAGE.format(option="x"))
    module = types.ModuleType("main_of_test")
    monkeypatch.setitem(sys.modules, "main_of_test", module)
    exec(compile(script.read_text(), str(script), "exec"), module.__dict__)
    imports.bring([str(script)])
    [option] = registry.entries("stage")["of_ones_own"].options()
    assert option.name == "x"


def test_of_two_files_of_one_name_the_last_holds(tmp_path: Path) -> None:
    """Also where the first comes again, unchanged."""
    files = []
    for option in ("one", "two"):
        files.append(tmp_path / option / "same.py")
        files[-1].parent.mkdir()
        files[-1].write_text(STAGE.format(option=option))
    for which, name in ((0, "one"), (1, "two"), (0, "one")):
        imports.bring([str(files[which])])
        [option] = registry.entries("stage")["of_ones_own"].options()
        assert option.name == name


def test_a_script_that_runs_while_it_is_imported(tmp_path: Path) -> None:
    """One line, however deep; what runs belongs under the guard."""
    script = tmp_path / "self.py"
    again = (
        "from fedjax_compress.registry import imports\n\nimports.bring([__file__])\n"
    )
    script.write_text(again)
    with pytest.raises(InputError, match="runs while it is imported; put what") as told:
        imports.bring([str(script)])
    assert str(told.value).count("line 3") == 1
    script.write_text(GOOD)
    imports.bring([str(script)])


def test_a_kind_that_nothing_takes_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(registry._entries._tables, "schedlue", {})  # gone afterwards
    mine = tmp_path / "mine.py"
    mine.write_text(GOOD.replace("schedule", "schedlue"))
    with pytest.warns(UserWarning, match="'wave' as 'schedlue', .* mean 'schedule'"):
        imports.bring([str(mine)])


def test_two_given_files_of_one_name_are_both_there_to_be_refused() -> None:
    before = ("old/mine.py", "old/other.py")
    assert imports.merged(before, ["new/mine.py"]) == ("old/other.py", "new/mine.py")
    assert imports.merged((), ["a/mine.py", "b/mine.py"]) == ("a/mine.py", "b/mine.py")
