"""The file of a grid: what is read, what is refused, and how two are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, Grid, Scheme, load_grid
from fedjax_compress.experiment.grid import (
    dump_grid,
    grid_difference,
    jobs,
    load_base,
)

TEXT = """
rounds = 2
downlink = "cast"
seeds = [3, 1]

[[schemes]]
name = "FP32"
uplink = "identity"
downlink = "identity"

[[schemes]]
uplink = "top_k(steps((0.5, 0.1), after=1))"
rounds = 4
evaluate_clients = true
"""


def read(folder: Path, text: str = TEXT) -> Grid:
    (folder / "g.toml").write_text(text)
    grid = load_grid(folder / "g.toml")
    assert grid is not None
    return grid


def test_schemes_take_what_is_not_their_own_from_the_base(tmp_path: Path) -> None:
    grid = read(tmp_path)
    base = Config(rounds=2, downlink="cast", seed=3)
    top = "top_k(steps((0.5, 0.1), after=1))"
    assert grid == Grid(
        base,
        (
            Scheme("FP32", {"uplink": "identity", "downlink": "identity"}),
            Scheme(top, {"uplink": top, "rounds": 4, "evaluate_clients": True}),
        ),
        (3, 1),
    )
    assert load_base(tmp_path / "g.toml") == base
    found = jobs(grid)
    assert [(job.scheme, job.folder) for job in found] == [
        ("FP32", "fp32/seed-3"),
        ("FP32", "fp32/seed-1"),
        (top, "top-k-steps-0.5-0.1-after-1/seed-3"),
        (top, "top-k-steps-0.5-0.1-after-1/seed-1"),
    ]
    assert [job.config.seed for job in found] == [3, 1, 3, 1]
    assert [job.config.rounds for job in found] == [2, 2, 4, 4]
    assert [job.config.downlink for job in found] == ["identity"] * 2 + ["cast"] * 2


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    grid = read(tmp_path)
    assert read(tmp_path, dump_grid(grid)) == grid
    assert grid_difference(read(tmp_path, dump_grid(grid)), grid) == ""


def test_settings_only_are_no_grid(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("rounds = 7\nseed = 2\n")
    assert load_grid(tmp_path / "c.toml") is None
    assert load_base(tmp_path / "c.toml") == Config(rounds=7, seed=2)


def test_one_seed_and_a_common_uplink(tmp_path: Path) -> None:
    text = "seed = 5\nuplink = 'cast'\n[[schemes]]\nname = 'a'\nrounds = 3\n"
    grid = read(tmp_path, text)
    assert grid.seeds == (5,)
    assert grid.schemes == (Scheme("a", {"rounds": 3, "uplink": "cast"}),)


SCHEME = "[[schemes]]\nname = 'a'\nuplink = 'cast'\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeds = [0]\n", "has no schemes; write each as [[schemes]]"),
        ("schemes = []\n", "has no schemes"),
        ("[schemes.a]\nuplink = 'cast'\n", "has no schemes; write each as [[schemes]]"),
        ("schemes = ['cast']\n", "scheme 1 must be a table, not 'cast'"),
        ("seeds = []\n" + SCHEME, "seeds must be different whole numbers"),
        ("seeds = [0, 0]\n" + SCHEME, "seeds must be different whole numbers"),
        ("seeds = [0, -1]\n" + SCHEME, "seeds must be different whole numbers"),
        ("seeds = [true]\n" + SCHEME, "seeds must be different whole numbers"),
        ("seeds = 3\n" + SCHEME, "seeds must be different whole numbers"),
        ("seed = 1\nseeds = [0]\n" + SCHEME, "there are seeds, so leave seed out"),
        ("rouds = 3\n" + SCHEME, "unknown setting 'rouds'; did you mean 'rounds'?"),
        (SCHEME + "rouds = 3\n", "scheme 'a': unknown setting 'rouds'; did you mean"),
        (SCHEME + "rounds = '3'\n", "scheme 'a': rounds must be a whole number"),
        (SCHEME + "seed = 3\n", "all schemes have the same seed; write seeds before"),
        (SCHEME + "devices = 3\n", "all schemes have the same devices; write devices"),
        ("[[schemes]]\nname = 'a'\n", "scheme 'a' has no uplink"),
        ("[[schemes]]\nname = 3\n", "scheme 1: name must be text, not 3"),
        ("[[schemes]]\nname = ' '\n", "scheme 1: name must be text, not ' '"),
        ("[[schemes]\n", "is not TOML"),
    ],
)
def test_what_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    (line,) = str(caught.value).splitlines()
    assert words in line
    assert "g.toml" in line


def test_schemes_need_folders_of_their_own(tmp_path: Path) -> None:
    grid = read(tmp_path, SCHEME + SCHEME.replace("'a'", "'A!'"))
    with pytest.raises(InputError, match="share the folder 'a': 'a' and 'A!'"):
        jobs(grid)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rounds = 2", "rounds = 3", "rounds (wanted 3, found 2)"),
        ("[3, 1]", "[3, 2]", "seeds (wanted [3, 2], found [3, 1])"),
        ("[3, 1]", "[1, 3]", "seeds (wanted [1, 3], found [3, 1])"),
        ('"FP32"', '"FP16"', "scheme 'FP16' is new, scheme 'FP32' is missing"),
        ("after=1", "after=2", "scheme 'top_k(steps((0.5, 0.1), after=2))' is new"),
        ("rounds = 4\n", "", "rounds of scheme 'top_k(steps((0.5, 0.1), after=1))' (w"),
        ("rounds = 4\n", "", "(wanted none, found 4)"),
        (
            'downlink = "identity"',
            'downlink = "cast"',
            "downlink of scheme 'FP32' (wanted 'cast', found 'identity')",
        ),
    ],
)
def test_what_differs_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in TEXT
    before, now = read(tmp_path), read(tmp_path, TEXT.replace(old, new))
    assert words in grid_difference(now, before)


def test_another_order_is_another_grid(tmp_path: Path) -> None:
    grid = read(tmp_path)
    other = grid._replace(schemes=grid.schemes[::-1])
    assert grid_difference(other, grid) == "the order of the schemes"
