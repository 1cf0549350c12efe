"""Well-known sets by their bare names: prepared sets, or one line how to get them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from alike import assert_alike
from PIL import Image
from processes import environment

from fedjax_compress import registry
from fedjax_compress.__main__ import main
from fedjax_compress.errors import InputError

NAMES = ("mnist", "fashion_mnist", "cifar10", "cifar100", "emnist", "femnist")
FILES = dict.fromkeys(NAMES, "idx") | {"cifar10": "cifar", "cifar100": "cifar"}
TINY = ["--rounds", "2", "--clients", "4", "--cohort", "2", "--lanes", "2", "--quiet"]
TINY += ["--model", "logistic", "--uplink", "identity", "--downlink", "identity"]


def prepare(folder, name, configs=()):
    """A small set of this name, written by tensorflow-datasets' own writer."""
    import tensorflow_datasets as tfds

    def info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(4, 5, 1)),
                    "label": tfds.features.ClassLabel(num_classes=3),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def examples(self, start, count):
        for i in range(start, start + count):
            pixels = np.arange(i, i + 20, dtype=np.uint8).reshape(4, 5)
            yield i, {"image": Image.fromarray(pixels), "label": i % 3}

    def splits(self, manager):
        return {"train": self.examples(0, 20), "test": self.examples(20, 6)}

    found = [tfds.core.BuilderConfig(name=c, version="1.0.0") for c in configs]
    builder = type(
        name,
        (tfds.core.GeneratorBasedBuilder,),
        {
            "__module__": f"small_{name}",  # beside it the library looks for files
            "__doc__": "Small.",
            "name": name,
            "VERSION": tfds.core.Version("1.0.0"),
            "BUILDER_CONFIGS": found,
            "_info": info,
            "_split_generators": splits,
            "_generate_examples": examples,
            "examples": examples,
        },
    )
    for config in configs or (None,):
        made = builder(data_dir=folder, file_format="array_record", config=config)
        made.download_and_prepare()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all of them are prepared, by a registry of the library that forgets."""
    from tensorflow_datasets.core import registered

    place = tmp_path_factory.mktemp("prepared")
    with registered.skip_registration():
        for name in NAMES:
            configs = ("byclass", "letters") if name == "emnist" else ()
            prepare(place, name, configs)
    return place


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_prepared_set(folder, name):
    data = registry.build("data", f"{name}(data_dir='{folder}')")
    other = registry.build("data", f"tfds({name}, data_dir='{folder}')")
    assert len(data.train["labels"]) == 20
    if name == "emnist":
        turned = [
            part | {"features": part["features"].swapaxes(1, 2)}
            for part in (data.train, data.test)
        ]
        assert data.task.shape == (5, 4, 1)
        assert data.train["features"].shape == (20, 5, 4, 1)
        task = data.task._replace(shape=(4, 5, 1))
        data = dataclasses.replace(data, task=task, train=turned[0], test=turned[1])
    assert_alike(data, other)


def test_parts_of_emnist(folder):
    found = registry.build("data", f"emnist(letters, data_dir='{folder}')")
    assert found.name == "emnist/letters"
    with pytest.raises(InputError, match="emnist/digits is not prepared in"):
        registry.build("data", f"emnist(digits, data_dir='{folder}')")


def test_a_bare_name_is_found_where_the_library_looks(folder, tmp_path):
    command = [sys.executable, "-m", "fedjax_compress", "run", *TINY]
    command += ["--data", "mnist", "--output", str(tmp_path / "run")]
    where = environment(TFDS_DATA_DIR=str(folder))
    done = subprocess.run(command, env=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("name", NAMES)
def test_without_it_one_line_says_how_to_get_it(name, tmp_path, monkeypatch, capsys):
    from tensorflow_datasets.core import constants

    monkeypatch.setattr(constants, "DATA_DIR", tmp_path)
    with pytest.raises(InputError) as caught:
        registry.build("data", f"{name}(data_dir='{tmp_path}/none')")
    reason = caught.value.reason
    assert "\n" not in reason
    if name == "femnist":
        assert "./preprocess.sh -s niid --sf 1.0 -k 0 -t sample" in reason
        assert reason.endswith("then take leaf(path='leaf/data/femnist')")
    else:
        full = "emnist/byclass" if name == "emnist" else name
        assert f"{full} is not prepared in {tmp_path}/none; prepare it once" in reason
        assert f"tfds.builder('{full}', data_dir='{tmp_path}/none', file_fo" in reason
        assert reason.endswith(f"its published files, {FILES[name]}(path=...)")
    out = str(tmp_path / "run")
    assert main(["run", "--data", name, "--output", out]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3  # the line, the text and the caret
    assert f"data: {name}: " in shown[0]


def test_options_of_the_folder_of_cifar10(tmp_path):
    with pytest.raises(InputError, match="batches are of a folder"):
        registry.build("data", "cifar10(batches=2)")
    with pytest.raises(InputError, match="does not exist"):
        registry.build("data", f"cifar10('{tmp_path}/nowhere')")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("digit", "unknown data 'digit'; did you mean 'digits'"),
        ("xyzzy", "unknown data 'xyzzy'; known: audio, cifar, cifar10, "),
        ("minst", "unknown data 'minst'; did you mean 'mnist'"),
    ],
)
def test_a_misspelt_name_is_unknown_as_before(text, words):
    with pytest.raises(InputError, match=words):
        registry.build("data", text)
