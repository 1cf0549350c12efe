"""The study's protocol once more in PyTorch, beside the same rounds of this library.

    pip install torch
    python experiments/grativol2023/beside_torch.py weights
    python experiments/grativol2023/beside_torch.py accuracy --rounds 40 --threads 1

``weights`` trains the first cohort of the cell "reference, E = 1" for a few steps each,
without augmentation: same first weights, same rows in the same order. It writes how
far the mean of the four clients' weights is from that of PyTorch in float64, over the
distance moved, to ``beside_torch_weights.json``: of this library with convolutions in
two forms, and of PyTorch in float32. Rounding alone drives such runs apart, so what
counts is that all three are about as far.

``accuracy`` trains in PyTorch and writes a line for each round to
``beside_torch_SEED.jsonl`` when all are done. Reading the data, the partition, the
order of images and the cohorts are this library's; network, first weights, crops and
mirrored images, training, averaging and evaluation are not. With another number of
threads sums are rounded otherwise, and accuracies differ from round to round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fedjax_compress.clients import ClientData
from fedjax_compress.experiment import load_grid
from fedjax_compress.experiment.build import Parts, build, deal, load_data
from fedjax_compress.experiment.config import Config
from fedjax_compress.experiment.grid import jobs
from fedjax_compress.registry import build as component

HERE = Path(__file__).parent
MEAN = torch.tensor((0.4914, 0.4822, 0.4465)).reshape(1, 3, 1, 1)
STD = torch.tensor((0.2023, 0.1994, 0.2010)).reshape(1, 3, 1, 1)
BATCH, RATE, MOMENTUM, PADDING = 16, 0.01, 0.9, 4
STEPS = (1, 3, 10, 30, 100)
FORMS = ("direct", "winograd")


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

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 40, 80, 160)
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
) -> dict[str, torch.Tensor]:
    """The weights after an epoch in stored order, momentum from zero."""
    optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM)
    net.train()
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        if random is not None:
            batch = augment(batch, random)
        out = net(normalise(batch))
        loss = functional.cross_entropy(out, labels[start : start + BATCH])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return snapshot(net)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Of each channel, the mean taken off and divided by the standard deviation."""
    return (images - MEAN.to(images.dtype)) / STD.to(images.dtype)


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


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], first: Any) -> float:
    """Distance of two sets of weights, over the distance that the second has moved."""
    start = to_torch(first)

    def length(x: dict[str, torch.Tensor], y: dict[str, torch.Tensor]) -> float:
        parts = [float((x[n].double() - y[n].double()).norm()) for n in x]
        return float(np.linalg.norm(parts))

    return length(a, b) / length(b, start)


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
    return jax.device_get(parts.algorithm.network(state.server)[1])


def examples(
    data: ClientData, client: int, most: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A client's images and labels in stored order, all or the first of them."""
    start, end = map(int, np.asarray(data.offsets)[client : client + 2])
    rows = slice(start, end if most is None else min(end, start + most))
    labels = torch.from_numpy(np.array(data.columns["labels"][rows])).long()
    return images_of(data.columns["features"][rows]), labels


def cohort(config: Config, sizes: np.ndarray, number: int) -> np.ndarray:
    """The clients of a round, counted from 0."""
    sampling = component("sampling", config.sampling)
    return sampling(config.seed, number, sizes, config.cohort)


def compare_weights(seed: int) -> dict[str, dict[str, float]]:
    """After some steps of each of four clients, how far all are from float64."""
    still = "crop_flip(padding=0, flip=false)"
    dataset = load_data(cell(seed))
    found = {}
    for steps in STEPS:
        local = f"sgd(lr={RATE}, momentum={MOMENTUM}, steps={steps}, batch={BATCH}, "
        local += "epochs=0, shuffle=false)"
        ours = {}
        for form in FORMS:
            settings = {"augment": still, "local": local, "rounds": 1}
            config = cell(seed, **settings, convolution=form)
            parts = build(config, dataset)
            ours[f"here, {form}"] = to_torch(one_round(parts))
        first = jax.device_get(parts.params)
        theirs: dict[torch.dtype, list[dict[str, torch.Tensor]]] = {}
        for client in cohort(config, parts.data.sizes, 0):
            images, labels = examples(parts.data, client, BATCH * steps)
            for kind in (torch.float64, torch.float32):
                net = ResNet12()
                net.load_state_dict(to_torch(first))
                trained = train(net.to(kind), images.to(kind), labels, None)
                theirs.setdefault(kind, []).append(trained)
        exact, single = (average(w, [1] * len(w)) for w in theirs.values())
        ours["PyTorch, float32"] = single
        found[f"{steps} steps"] = {n: apart(w, exact, first) for n, w in ours.items()}
        print(steps, found[f"{steps} steps"], flush=True)
    return found


def accuracy(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of the images that are classified correctly."""
    net.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), 500):
            batch = normalise(images[start : start + 500])
            right += int((net(batch).argmax(1) == labels[start : start + 500]).sum())
    return right / len(images)


def train_alone(seed: int, rounds: int, path: Path) -> None:
    """PyTorch's own run of the cell, a line for each round."""
    config = cell(seed)
    dataset = load_data(config)
    data, _ = deal(config, dataset)
    test = images_of(dataset.test["features"])
    test_labels = torch.from_numpy(np.array(dataset.test["labels"])).long()
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    net = ResNet12()
    weights = snapshot(net)
    lines: list[str] = []
    for number in range(rounds):
        start = time.monotonic()
        trained, sizes = [], []
        for client in cohort(config, data.sizes, number):
            net.load_state_dict(weights)
            images, labels = examples(data, client)
            trained.append(train(net, images, labels, random))
            sizes.append(len(images))
        weights = average(trained, sizes)
        net.load_state_dict(weights)
        line = {
            "round": number + 1,
            "test_accuracy": accuracy(net, test, test_labels),
            "seconds": time.monotonic() - start,
        }
        lines.append(json.dumps(line) + "\n")
        print(lines[-1], end="", flush=True)
    path.write_text("".join(lines))


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
    text = json.dumps({"torch": str(torch.__version__), **found}, indent=1)
    (HERE / "beside_torch_weights.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
