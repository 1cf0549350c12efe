"""The picture of a partition: what is drawn is what there is."""

from __future__ import annotations

import xml.etree.ElementTree as tree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedjax_compress.clients.skew import Labels, label_distances
from fedjax_compress.report import partition_plot
from fedjax_compress.report.partition_plot import Picture, draw_partition


def picture(counts: Any, **more: Any) -> Picture:
    """Of clients whose rows have one label each."""
    counts = np.array(counts)
    names = more.pop("names", tuple(f"label {i}" for i in range(counts.shape[1])))
    labels = Labels("labels", names, counts, more.pop("ordered", False))
    found = label_distances(counts)
    made = Picture("digits, shards, seed 0", labels, counts.sum(axis=1), found, found)
    return made._replace(**more)


def heights(axes: Any) -> list[list[tuple[float, float]]]:
    """(bottom, height) of each client, for each label."""
    return [[(p.get_y(), p.get_height()) for p in c.patches] for c in axes.containers]


def test_bars_are_the_rows_of_each_label_largest_client_first(tmp_path: Path) -> None:
    counts = [[1, 0, 2], [4, 0, 1], [0, 0, 1]]
    figure = draw_partition(picture(counts), tmp_path / "p.png")
    whole, sizes, distances = figure.axes
    # The label that nobody has is left out.
    assert heights(whole) == [[(0, 4), (0, 1), (0, 0)], [(4, 1), (1, 2), (0, 1)]]
    assert [t.get_text() for t in whole.get_xticklabels()] == ["1", "0", "2"]
    assert whole.get_xlabel() == "3 clients, the largest first"
    legend = whole.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["label 2", "label 0"]
    assert whole.get_ylim()[1] > 5
    assert sizes.get_title(loc="left") == "Rows of a client: 1 to 5, median 3"
    bars = {round(p.get_x() + p.get_width() / 2): p.get_height() for p in sizes.patches}
    assert bars == {1: 1, 3: 1, 5: 1}
    # All together 5/9 and 4/9: distances 2/9, 11/45, 5/9.
    words = [t.get_text() for t in distances.get_legend().get_texts()]
    mean = (2 / 9 + 11 / 45 + 5 / 9) / 3
    assert words == [
        f"these clients: mean {mean:.2f}",
        f"rows shuffled: mean {mean:.2f}",
    ]
    drawn = {p.get_x(): p.get_height() for p in distances.patches[:-1]}
    assert sum(drawn.values()) == 3
    assert [round(x, 3) for x, n in drawn.items() if n] == [0.2, 0.225, 0.55]


def columns(figure: Figure) -> np.ndarray:
    """The shares that the map shows, [labels, clients]."""
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array())


def test_many_labels_are_a_map_of_shares(tmp_path: Path) -> None:
    counts = np.zeros((3, 13), int)
    counts[0, :], counts[1, 12], counts[2, 0:2] = 1, 20, [30, 10]
    figure = draw_partition(picture(counts), tmp_path / "p.png")
    shares = columns(figure)
    np.testing.assert_allclose(shares[:2, 0], [0.75, 0.25])
    np.testing.assert_allclose(shares[:, 1], np.eye(13)[12])
    np.testing.assert_allclose(shares[:, 2], 1 / 13)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["2", "1", "0"]
    assert figure.axes[0].get_xlabel() == "3 clients, the largest first"


def test_equally_large_clients_of_a_map_stand_by_their_labels(tmp_path: Path) -> None:
    """First the label with most rows, then how many, then the second."""
    counts = np.zeros((200, 3), int)
    rng = np.random.default_rng(0)
    for client in range(200):
        first, second = rng.permutation(3)[:2]
        counts[client, [first, second]] = [7, 3]
    shares = columns(draw_partition(picture(counts), tmp_path / "p.png"))
    first, second = shares.argmax(axis=0), (shares == 0.3).argmax(axis=0)
    pairs = list(zip(first, second, strict=True))
    assert pairs == sorted(pairs)
    assert len(set(pairs)) == 6


def test_of_very_many_clients_some_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_plot, "MOST_COLUMNS", 150)
    counts = np.outer(np.arange(1, 1491), [1, 0]).astype(int)
    counts[:, 1] = 1000
    figure = draw_partition(picture(counts), tmp_path / "p.png")
    axes = figure.axes[0]
    assert columns(figure).shape == (2, 150)
    # Every tenth of 1,490, from the largest to the smallest.
    wanted = np.linspace(1490, 1, 150).round()
    np.testing.assert_allclose(columns(figure)[0], wanted / (wanted + 1000), atol=1e-3)
    assert axes.get_xlim() == (-0.5, 1489.5)
    assert axes.get_xlabel() == (
        "150 of 1,490 clients, evenly spaced, the largest first"
    )


def test_of_very_many_labels_neighbours_share_a_row(tmp_path: Path) -> None:
    counts = np.tile(np.arange(250), (2, 1))
    counts[:, 0] = 3
    figure = draw_partition(picture(counts), tmp_path / "p.png")
    shares = columns(figure)
    assert shares.shape == (84, 2)  # threes of 250
    np.testing.assert_allclose(shares[0, 0], (3 + 1 + 2) / counts[0].sum())
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    assert figure.axes[0].get_ylabel() == "labels, 3 in a row"


def test_rows_with_other_than_one_label(tmp_path: Path) -> None:
    made = picture([[3, 0], [0, 0]], sizes=np.array([2, 1]))
    figure = draw_partition(made, tmp_path / "p.png")
    assert figure.axes[0].get_ylabel() == "labels"
    words = [t.get_text() for t in figure.axes[2].get_legend().get_texts()]
    assert words[0] == "these clients: mean 0.00"
    made = picture([[0, 0], [0, 0]], sizes=np.array([2, 1]))
    figure = draw_partition(made, tmp_path / "p.png")
    words = [t.get_text() for t in figure.axes[2].get_legend().get_texts()]
    assert words[0] == "these clients: no labels"


def test_numbers_have_shades_from_light_to_dark(tmp_path: Path) -> None:
    figure = draw_partition(picture([[1] * 10], ordered=True), tmp_path / "p.png")
    bars = [c.patches[0].get_facecolor() for c in figure.axes[0].containers]
    light = [sum(color[:3]) for color in bars]
    assert light == sorted(light, reverse=True)
    assert len(set(light)) == 10
    assert figure.axes[0].get_xlabel() == "1 client, by id"


def test_colors_of_labels_differ() -> None:
    for count in (2, 7, partition_plot.MOST_COLORS):
        assert len(set(partition_plot._colors(count, ordered=False))) == count


def test_an_svg_where_the_name_ends_so(tmp_path: Path) -> None:
    for name in ("a.svg", "b.SVG"):
        draw_partition(picture([[3, 1], [1, 2]]), tmp_path / name)
        assert tree.parse(tmp_path / name).getroot().tag.endswith("svg")
    assert b"<dc:date>" not in (tmp_path / "a.svg").read_bytes()
