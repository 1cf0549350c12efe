"""Runs on recordings: scores, resume, pruning, submodels, quantized weights."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from sounds import SOUNDS, heard
from tones import ROWS, write_arrays, write_folder

from fedjax_compress import registry, tree
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config, build, resume, run, trained

MODEL = (
    "conformer_transducer(width=8, blocks=1, heads=2, kernel=3, joint=8, embedding=4, "
    "hidden=4, feed_forward=1, groups=2"
)
BASE = Config(
    cohort=3, rounds=4, evaluate_every=2, checkpoint_every=1, devices=1,
    partition="natural", model=f"{MODEL})", server="fedavg",
    augment="spec_augment(frequency_width=6, time_share=0.5)",
    local="optax(adam, lr=0.01, steps=2, batch=4)",
    uplink="on_vector(uniform(bits=4))", downlink="identity",
)  # fmt: skip
SPARE = "spare=(depthwise, embedding)"
PRUNED = dataclasses.replace(
    BASE,
    algorithm="federated_pruning(sparsity=cubic(0.5, begin=0, end=2), every=1, "
    f"pattern=half_column, {SPARE})",
    augment="none",
    uplink="identity",
    downlink="identity",
)
DROPPED = dataclasses.replace(BASE, algorithm="federated_dropout(keep_rate=0.5)")


def tones(config, place, **options):
    """The configuration with small recordings of three speakers, two sessions each."""
    said = ", ".join(f"{name}={value}" for name, value in options.items())
    said = said or "join=(1, 3), sessions=2, uses=2, test_uses=1, bins=8, longest=0"
    return dataclasses.replace(config, data=f"audio(path='{place}', {said})")


def records_of(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    timed = ("seconds", "clients_per_second")
    return [{k: v for k, v in r.items() if k not in timed} for r in records]


@pytest.mark.parametrize(
    "config",
    [
        BASE,
        pytest.param(PRUNED, marks=pytest.mark.slow),
        pytest.param(DROPPED, marks=pytest.mark.slow),
    ],
    ids=["fedavg", "federated_pruning", "federated_dropout"],
)
def test_a_run_goes_on_bit_for_bit(config, tmp_path):
    """Two rounds, then two more, as four at once; ragged rows and SpecAugment."""
    config = tones(config, write_arrays(tmp_path))
    summary = run(config, tmp_path / "whole", quiet=True)
    run(dataclasses.replace(config, rounds=2), tmp_path / "parts", quiet=True)
    resume(tmp_path / "parts", {"rounds": 4}, quiet=True)
    whole = records_of(tmp_path / "whole")
    assert records_of(tmp_path / "parts") == whole
    assert summary["metric"]["name"] == "wer"
    assert summary["metric"]["better"] == "lower"
    assert np.isfinite(whole[-1]["test_loss"])
    one, other = (trained(tmp_path / name)[1] for name in ("whole", "parts"))
    assert tree.sha256(one) == tree.sha256(other)


@pytest.mark.slow
def test_what_is_spared_stays_whole(tmp_path):
    config = tones(PRUNED, write_arrays(tmp_path))
    run(config, tmp_path / "run", quiet=True)
    params = trained(tmp_path / "run")[1]
    found = dict(zip(tree.paths(params), jax.tree.leaves(params), strict=True))
    for path, leaf in found.items():
        spared = leaf.ndim < 2 or {"depthwise", "embedding", "output"} & {
            *path.split("/")
        }
        zeros = np.mean(np.asarray(leaf) == 0)
        if leaf.ndim >= 2 and not spared:
            assert 0.3 < zeros < 0.7, path
        elif leaf.ndim >= 2:
            assert zeros == 0, path
    wrong = dataclasses.replace(
        config, algorithm=config.algorithm.replace("depthwise", "depthwize")
    )
    with pytest.raises(InputError, match="did you mean 'depthwise'"):
        run(wrong, tmp_path / "wrong", quiet=True)


def test_silence_an_empty_transcript_and_clients_scored_on_their_speaker(tmp_path):
    """dan and eve say a cat, nothing, a dog; one recording is silent.

    The mean over clients is that of the words of each speaker, by hand.
    """
    place = write_folder(tmp_path, samples={ROWS[0]["file"]: np.zeros(700, np.int16)})
    options = {"join": "(1, 1)", "sessions": 1, "uses": 1, "bins": 8, "longest": 0}
    config = tones(BASE, place, **options)
    config = dataclasses.replace(
        config, cohort=2, rounds=1, evaluate_every=1, evaluate_clients=True,
        augment="none", uplink="identity", downlink="identity",
    )  # fmt: skip
    run(config, tmp_path / "run", quiet=True)
    last = records_of(tmp_path / "run")[-1]
    model, params = trained(tmp_path / "run")
    data = build.load_data(config)
    count = jax.jit(
        lambda p, c: model.metrics["wer"].count(p, c, model.apply(p, c, None))
    )
    errors, words = (np.asarray(x) for x in count(params, data.test))
    each = [
        errors[data.test_clients == k].sum() / words[data.test_clients == k].sum()
        for k in (0, 1)
    ]
    np.testing.assert_allclose(last["client_wer_mean"], np.mean(each), rtol=1e-6)
    np.testing.assert_allclose(last["test_wer"], errors.sum() / words.sum(), rtol=1e-6)


def test_quantized_weights_are_those_that_decode():
    """What decoding reads is what the network computed with, not the latent weights."""
    model = registry.build("model", f"{MODEL})", SOUNDS)
    coarse = registry.build("qat", "integer(bits=2)", model, SOUNDS)
    params, columns = coarse.init(jax.random.key(0)), heard()
    decoder = coarse.apply(params, columns, None).decoder
    kernel = np.asarray(decoder["output"]["kernel"])
    assert len(np.unique(np.abs(kernel))) <= 4 * kernel.shape[-1]
    assert not np.array_equal(kernel, params["output"]["kernel"])
