"""The command ``partition``: who has what, in a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_compress.cli.arguments import check_file
from fedjax_compress.clients.skew import Labels, count_labels, label_distances
from fedjax_compress.data import Dataset
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.build import check_specs, deal, load_data, share
from fedjax_compress.experiment.config import Config, recorded
from fedjax_compress.experiment.show import lines
from fedjax_compress.report import files
from fedjax_compress.report.partition_plot import Picture, draw_partition
from fedjax_compress.report.progress import make_console

_ENDINGS = (".png", ".svg")
_SHUFFLE_STREAM = 0x53485546


class Outputs(NamedTuple):
    """Where the outcome goes.

    Attributes:
      output: the picture, PNG or SVG, or None.
      json: file of all figures, or None.
      quiet: show nothing.
    """

    output: str | None = None
    json: str | None = None
    quiet: bool = False


def show_partition(config: Config, by: str, outputs: Outputs) -> dict[str, Any]:
    """Deals the rows as a run would and shows it; returns what the JSON file holds.

    Args:
      config: data, public, partition, clients, seed and imports are used.
      by: column whose values are counted in the place of labels; empty for the labels.
      outputs: where the outcome goes.

    Raises:
      InputError: rows that cannot be dealt or counted, or files that cannot be
        written.
    """
    check_file("output", outputs.output)
    check_file("json", outputs.json)
    ending = Path(outputs.output or "a.png").suffix.lower()
    if ending not in _ENDINGS:
        raise InputError(
            "output is a PNG or an SVG; give a name like "
            f"{Path(str(outputs.output)).with_suffix('.png')}"
        )
    check_specs(config)
    dataset, _ = share(config, load_data(config))
    data, owner = deal(config, dataset)
    labels = count_labels(dataset, owner, data.clients, by)
    distances = label_distances(labels.counts)
    rng = np.random.default_rng([config.seed, _SHUFFLE_STREAM])
    mixed = owner.copy()
    mixed[owner >= 0] = rng.permutation(owner[owner >= 0])
    shuffled = label_distances(count_labels(dataset, mixed, data.clients, by).counts)
    found = _figures(config, dataset, labels, data.sizes, (distances, shuffled))
    found["unused_rows"] = int((owner < 0).sum())
    if outputs.output is not None:
        title = f"{dataset.name}, {found['partition']}, seed {config.seed}"
        picture = Picture(title, labels, data.sizes, distances, shuffled)
        draw_partition(picture, Path(outputs.output))
    if outputs.json is not None:
        files.write_json(Path(outputs.json), found)
    _show(found, outputs)
    return found


def _figures(
    config: Config,
    dataset: Dataset,
    labels: Labels,
    sizes: np.ndarray,
    distances: tuple[np.ndarray, np.ndarray],
) -> dict[str, Any]:
    """What the JSON file holds."""
    each = (labels.counts > 0).sum(axis=1)
    means = [float(np.nanmean(x)) if not np.isnan(x).all() else None for x in distances]
    return {
        "data": dataset.name,
        "partition": recorded(config).partition,
        "seed": config.seed,
        "clients": len(sizes),
        "rows": int(sizes.sum()),
        "rows_of_a_client": _spread(sizes),
        "counted": labels.what,
        "labels": list(labels.names),
        "labels_that_occur": int((labels.counts.sum(axis=0) > 0).sum()),
        "labels_of_a_client": _spread(each),
        "mean_distance": means[0],
        "mean_distance_shuffled": means[1],
        "by_client": [
            {
                "rows": int(size),
                "counts": count.tolist(),
                "distance": None if np.isnan(distance) else float(distance),
            }
            for size, count, distance in zip(
                sizes, labels.counts, distances[0], strict=True
            )
        ],
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "smallest": int(values.min()),
        "median": float(np.median(values)),
        "largest": int(values.max()),
    }


def _words(found: dict[str, float]) -> str:
    low, middle, high = found["smallest"], found["median"], found["largest"]
    return f"{low:,} / {middle:,.6g} / {high:,}"


def _show(found: dict[str, Any], outputs: Outputs) -> None:
    console = make_console(outputs.quiet)
    unused, what = found["unused_rows"], found["counted"]
    rows = f"{found['rows']:,}; of a client {_words(found['rows_of_a_client'])}"
    rows += " (smallest / median / largest)"
    if unused:
        rows += f"; {unused:,} are nobody's"
    distance = "-"
    if found["mean_distance"] is not None:
        distance = (
            f"{found['mean_distance']:.3f} on average from all clients together (total "
            "variation, 0 to 1); if rows were shuffled, "
            f"{found['mean_distance_shuffled']:.3f}"
        )
    written = [name for name in (outputs.output, outputs.json) if name is not None]
    lines(
        console,
        [
            ("data", found["data"]),
            ("partition", f"{found['partition']}, seed {found['seed']}"),
            ("clients", f"{found['clients']:,}"),
            ("rows", rows),
            (
                what,
                f"{found['labels_that_occur']:,}; of a client "
                f"{_words(found['labels_of_a_client'])} (fewest / median / most)",
            ),
            ("distance", distance),
            *([("files", ", ".join(written))] if written else []),
        ],
    )
