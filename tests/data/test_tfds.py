"""A real prepared set, made by tensorflow-datasets' own writer, read back.

The library writes array_record files without TensorFlow when images are handed over
as Pillow images, so the set is genuine: its builder, its writer, its metadata.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Task

TRAIN, TEST = 23, 8


def picture(i):
    return np.arange(i, i + 12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    import tensorflow_datasets as tfds

    class TinyScribbles(tfds.core.GeneratorBasedBuilder):
        """Pictures, labels, and who drew them."""

        __module__ = "tiny_scribbles"  # the library looks for files beside the module
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(3, 4, 1)),
                        "label": tfds.features.ClassLabel(num_classes=5),
                        "artist": tfds.features.Text(),
                        "numbers": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                        "parity": tfds.features.Scalar(dtype=np.int64),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(0, TRAIN),
                "test": self._generate_examples(TRAIN, TEST),
            }

        def _generate_examples(self, start, count):
            for i in range(start, start + count):
                yield (
                    i,
                    {
                        "image": Image.fromarray(picture(i)),
                        "label": i % 4,
                        "artist": f"artist {i % 3}" if i < TRAIN else "artist 1",
                        "numbers": np.array([i, -i], np.float32),
                        "parity": i % 2,
                    },
                )

    folder = tmp_path_factory.mktemp("prepared")
    builder = TinyScribbles(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return folder


def build(folder, options="", name="tiny_scribbles"):
    return registry.build("data", f"tfds('{name}', data_dir='{folder}'{options})")


def test_every_example_comes_back_once(prepared):
    data = build(prepared)
    assert data.name == "tiny_scribbles"
    assert data.task == Task((3, 4, 1), 5, scale=255.0)
    assert data.train["features"].dtype == np.uint8
    assert data.train["labels"].dtype == np.int32
    for features, labels, numbers in (
        (data.train["features"], data.train["labels"], range(TRAIN)),
        (data.test["features"], data.test["labels"], range(TRAIN, TRAIN + TEST)),
    ):
        ids = features[:, 0, 0, 0].astype(int)
        assert sorted(ids) == list(numbers)
        for i, row, label in zip(ids, features, labels, strict=True):
            np.testing.assert_array_equal(row[..., 0], picture(i))
            assert label == i % 4


def test_a_feature_says_whose_an_example_is(prepared):
    data = build(prepared, ", client=artist")
    ids = data.train["features"][:, 0, 0, 0]
    np.testing.assert_array_equal(data.train_clients, ids % 3)
    assert (data.test_clients == 1).all()


def test_other_features_and_splits_can_be_named(prepared):
    data = build(prepared, ", features=numbers, label=parity, train='train[:10]'")
    assert data.task == Task((2,), 2, scale=1.0)
    assert data.train["features"].shape == (10, 2)
    np.testing.assert_array_equal(
        data.train["labels"], data.train["features"][:, 0] % 2
    )


def test_other_targets_and_further_columns(prepared):
    """Without a test split: rows of numbers have no classes to be held out by."""
    options = ", label=numbers, target=number, inputs=(parity,), test=''"
    data = build(prepared, options)
    assert data.task.target == "number"
    assert data.task.classes == 2
    assert data.task.more == (("parity", (), "int32"),)
    ids = data.train["features"][:, 0, 0, 0].astype(int)
    np.testing.assert_array_equal(data.train["labels"], np.stack([ids, -ids], 1))
    np.testing.assert_array_equal(data.train["parity"], ids % 2)
    mask = build(prepared, ", label=image, target=positions")
    assert mask.task.predicts == "positions"
    np.testing.assert_array_equal(mask.train["labels"], mask.train["features"][..., 0])
    with pytest.raises(InputError, match="no feature 'party'; did you mean 'parity'"):
        build(prepared, ", weights=party")


def test_without_a_test_split_a_share_is_held_out(prepared):
    data = build(prepared, ", test='', holdout=0.2, client=artist")
    assert len(data.test["labels"]) == 5  # ceil(0.2 * 23)
    assert len(data.train["labels"]) == TRAIN - 5
    both = np.concatenate([data.train["features"], data.test["features"]])[:, 0, 0, 0]
    assert sorted(both) == list(range(TRAIN))


def test_versions_can_be_named(prepared):
    assert len(build(prepared, name="tiny_scribbles:1.2.0").train["labels"]) == TRAIN
    with pytest.raises(InputError, match="is not prepared"):
        build(prepared, name="tiny_scribbles:3.0.0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (", client=artis", "no feature 'artis'; did you mean 'artist'"),
        (", train=trian", "no split 'trian'; did you mean 'train'"),
        (", features=artist", "features must be numbers"),
    ],
)
def test_wrong_names_are_refused(prepared, options, message):
    with pytest.raises(InputError, match=message):
        build(prepared, options)


def test_a_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    with pytest.raises(InputError, match="mnist is not prepared in") as error:
        build(tmp_path, name="mnist")
    assert "\n" not in error.value.reason
    with pytest.raises(InputError, match="Parsing builder name string") as other:
        build(tmp_path, name="no such/name/at all")
    assert "\n" not in other.value.reason
    assert "pip install 'fedjax_compress[prepare]'" in error.value.reason
    assert "tfds.builder('mnist', data_dir=" in error.value.reason
    assert "file_format='array_record').download_and_prepare()" in error.value.reason


def test_a_set_in_a_format_without_random_access_says_so(prepared, tmp_path):
    shutil.copytree(prepared / "tiny_scribbles", tmp_path / "tiny_scribbles")
    info = tmp_path / "tiny_scribbles" / "1.2.0" / "dataset_info.json"
    described = json.loads(info.read_text())
    assert described["fileFormat"] == "array_record"
    described["fileFormat"] = "tfrecord"
    info.write_text(json.dumps(described))
    with pytest.raises(InputError, match="prepared as tfrecord, which cannot"):
        build(tmp_path)


def test_reading_needs_no_tensorflow_and_importing_no_library(prepared):
    """In a process of its own, where importing TensorFlow is an error."""
    program = f"""
import importlib.machinery, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        raise AssertionError("tensorflow was imported")
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Refuse())
from fedjax_compress import data as datasets
heavy = {{"tensorflow_datasets", "sklearn", "PIL", "flax", "optax", "orbax"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
data = datasets.tfds("tiny_scribbles", data_dir={str(prepared)!r})
assert len(data.train["labels"]) == {TRAIN}
import jax
assert not jax._src.xla_bridge._backends, "a device was started"
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "OpenCV" not in done.stderr
