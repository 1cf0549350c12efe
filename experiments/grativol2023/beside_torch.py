"""The study's protocol once more in PyTorch, beside the same rounds of this library.

    pip install torch
    python experiments/grativol2023/beside_torch.py weights
    python experiments/grativol2023/beside_torch.py accuracy --rounds 40

``weights`` trains one client of the cell "reference, E = 1" and then one whole round of
four, without augmentation, in both: same first weights, same rows in the same order.
It prints how far the weights are apart, relative to how far they have moved, and writes
``beside_torch_weights.json``. ``accuracy`` trains with PyTorch alone, on the same
partition and cohorts, from PyTorch's own first weights and with crops and mirrored
images from its own generator, and appends a line for each round to
``beside_torch_SEED.jsonl``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fedjax_compress.experiment import load_grid
from fedjax_compress.experiment.build import Parts, build, deal, load_data
from fedjax_compress.experiment.config import Config
from fedjax_compress.experiment.grid import jobs
from fedjax_compress.registry import build as component

HERE = Path(__file__).parent
MEAN = torch.tensor((0.4914, 0.4822, 0.4465)).reshape(1, 3, 1, 1)
STD = torch.tensor((0.2023, 0.1994, 0.2010)).reshape(1, 3, 1, 1)
BATCH, RATE, MOMENTUM, PADDING = 16, 0.01, 0.9, 4
COHORT = 4


class Block(nn.Module):
    """Three convolutions and a shortcut, each with its normalisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = (inputs, outputs, outputs)
        for i, width in enumerate(widths, 1):
            setattr(self, f"conv_{i}", nn.Conv2d(width, outputs, 3, 1, 1, bias=False))
            setattr(self, f"norm_{i}", nn.GroupNorm(2, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.shortcut_norm = nn.GroupNorm(2, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.leaky_relu(self.norm_1(self.conv_1(x)), 0.1)
        y = functional.leaky_relu(self.norm_2(self.conv_2(y)), 0.1)
        y = self.norm_3(self.conv_3(y)) + self.shortcut_norm(self.shortcut(x))
        return functional.max_pool2d(functional.leaky_relu(y, 0.1), 2)


class ResNet12(nn.Module):
    """The study's network."""

    def __init__(self, maps: int = 16) -> None:
        super().__init__()
        widths = (3, maps, 5 * maps // 2, 5 * maps, 10 * maps)
        for i in range(4):
            setattr(self, f"block_{i + 1}", Block(widths[i], widths[i + 1]))
        self.output = nn.Linear(widths[-1], 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="leaky_relu"
                )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(4):
            x = getattr(self, f"block_{i + 1}")(x)
        return self.output(x.mean((2, 3)))


def to_torch(params: Any) -> dict[str, torch.Tensor]:
    """The library's parameters under PyTorch's names and axes."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *layer, kind = (entry.key for entry in path)
        value = torch.from_numpy(np.array(leaf))
        if kind == "kernel":
            axes = (3, 2, 0, 1) if value.ndim == 4 else (1, 0)
            value = value.permute(axes).contiguous()
        name = "bias" if kind == "bias" else "weight"
        found[".".join((*layer, name))] = value
    return found


def augment(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Each image cropped somewhere after zeros around it, half of them mirrored."""
    size = images.shape[-1]
    padded = functional.pad(images, (PADDING,) * 4)
    changed = []
    for image in padded:
        top, left = torch.randint(2 * PADDING + 1, (2,), generator=random).tolist()
        image = image[:, top : top + size, left : left + size]
        mirror = torch.rand((), generator=random) < 0.5
        changed.append(image.flip(2) if mirror else image)
    return torch.stack(changed)


def train(
    net: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    random: torch.Generator | None,
    steps: Iterable[int] = (),
) -> Iterator[dict[str, torch.Tensor]]:
    """An epoch in stored order, momentum from zero; yields weights after some steps."""
    optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM)
    net.train()
    for step, start in enumerate(range(0, len(images), BATCH), 1):
        batch = images[start : start + BATCH]
        if random is not None:
            batch = augment(batch, random)
        out = net((batch - MEAN) / STD)
        loss = functional.cross_entropy(out, labels[start : start + BATCH])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in steps:
            yield snapshot(net)
    yield snapshot(net)


def snapshot(net: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights."""
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def images_of(array: Any) -> torch.Tensor:
    """uint8 [rows, height, width, 3] as float32 [rows, 3, height, width] in [0, 1]."""
    return torch.from_numpy(np.array(array)).permute(0, 3, 1, 2).float() / 255


def average(
    weights: list[dict[str, torch.Tensor]], sizes: list[int]
) -> dict[str, torch.Tensor]:
    """The mean by numbers of rows."""
    total = sum(sizes)
    return {
        name: sum(w[name] * (n / total) for w, n in zip(weights, sizes, strict=True))
        for name in weights[0]
    }


def apart(ours: Any, theirs: dict[str, torch.Tensor], first: Any) -> dict[str, float]:
    """Distance of the weights over the distance moved: of all, and the worst tensor."""
    a, b, start = to_torch(ours), theirs, to_torch(first)
    gaps = {n: float((a[n] - b[n]).norm()) for n in a}
    moves = {n: float((a[n] - start[n]).norm()) for n in a}

    def length(parts: dict[str, float]) -> float:
        return float(np.linalg.norm(list(parts.values())))

    return {
        "moved": length(moves),
        "apart_over_moved": length(gaps) / length(moves),
        "worst_tensor": max(gaps[n] / max(moves[n], 1e-12) for n in a),
    }


def cell(seed: int, **settings: Any) -> Config:
    """The cell "reference, E = 1" of table1.toml, with other settings."""
    grid = load_grid(HERE / "table1.toml")
    assert grid is not None
    config = next(j.config for j in jobs(grid) if j.scheme == "reference, E = 1")
    layout = {"lanes": 1, "devices": 1, "convolution": "winograd"}
    return dataclasses.replace(config, seed=seed, **{**layout, **settings})


def one_round(parts: Parts) -> Any:
    """The parameters after the library's first round."""
    state = parts.simulator.start(parts.params)
    state, _ = parts.simulator.advance(state, 1)
    return jax.device_get(parts.algorithm.params(state.server))


def rows_of(parts_data: Any, client: int) -> slice:
    """Where a client's rows stand."""
    offsets = np.asarray(parts_data.offsets)
    return slice(int(offsets[client]), int(offsets[client + 1]))


def cohort(config: Config, sizes: np.ndarray, number: int) -> np.ndarray:
    """The clients of a round, counted from 0."""
    return component("sampling", config.sampling)(config.seed, number, sizes, COHORT)


def compare_weights(seed: int) -> dict[str, Any]:
    """One round in both, of four clients and after some steps of the first of them."""
    found: dict[str, Any] = {}
    same = "crop_flip(padding=0, flip=false)"
    for maps in (16,):
        model = f"resnet12(maps={maps})"
        parts = build(cell(seed, augment=same, model=model, rounds=1))
        first = jax.device_get(parts.params)
        config = cell(seed, augment=same)
        ids = cohort(config, parts.data.sizes, 0)
        net, trained, sizes = ResNet12(maps), [], []
        for client in ids:
            net.load_state_dict(to_torch(first))
            rows = rows_of(parts.data, client)
            images = images_of(parts.data.features[rows])
            labels = torch.from_numpy(np.array(parts.data.labels[rows])).long()
            *_, last = train(net, images, labels, None)
            trained.append(last)
            sizes.append(len(images))
        found["round of four clients"] = apart(
            one_round(parts), average(trained, sizes), first
        )
        for steps in (1, 10, 100):
            local = f"sgd(lr={RATE}, momentum={MOMENTUM}, steps={steps}, batch=16, "
            local += "epochs=0, shuffle=false)"
            short = build(cell(seed, augment=same, local=local, rounds=1))
            trained = []
            for client in ids:
                net.load_state_dict(to_torch(first))
                rows = rows_of(parts.data, client)
                rows = slice(rows.start, rows.start + BATCH * steps)
                images = images_of(parts.data.features[rows])
                labels = torch.from_numpy(np.array(parts.data.labels[rows])).long()
                *_, last = train(net, images, labels, None)
                trained.append(last)
            found[f"{steps} steps of each"] = apart(
                one_round(short), average(trained, sizes), first
            )
    return found


def accuracy(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of the images that are classified correctly."""
    net.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), 500):
            batch = (images[start : start + 500] - MEAN) / STD
            right += int((net(batch).argmax(1) == labels[start : start + 500]).sum())
    return right / len(images)


def train_alone(seed: int, rounds: int, path: Path) -> None:
    """PyTorch's own run of the cell, a line for each round."""
    config = cell(seed)
    dataset = load_data(config)
    data, _ = deal(config, dataset)
    test = images_of(dataset.test_features)
    test_labels = torch.from_numpy(np.array(dataset.test_labels)).long()
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    net = ResNet12()
    weights = snapshot(net)
    path.unlink(missing_ok=True)
    for number in range(rounds):
        start = time.monotonic()
        trained, sizes = [], []
        for client in cohort(config, data.sizes, number):
            rows = rows_of(data, client)
            net.load_state_dict(weights)
            images = images_of(data.features[rows])
            labels = torch.from_numpy(np.array(data.labels[rows])).long()
            *_, last = train(net, images, labels, random)
            trained.append(last)
            sizes.append(len(images))
        weights = average(trained, sizes)
        net.load_state_dict(weights)
        line = {
            "round": number + 1,
            "test_accuracy": accuracy(net, test, test_labels),
            "seconds": time.monotonic() - start,
        }
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="The study's protocol in PyTorch.")
    parser.add_argument("what", choices=("weights", "accuracy"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "accuracy":
        path = HERE / f"beside_torch_{options.seed}.jsonl"
        train_alone(options.seed, options.rounds, path)
        return 0
    found = compare_weights(options.seed)
    found["torch"] = torch.__version__
    text = json.dumps(found, indent=1)
    (HERE / "beside_torch_weights.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
