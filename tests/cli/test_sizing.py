"""The command ``size``: exact figures, a table to read, errors of one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedjax_compress.__main__ import main
from fedjax_compress.cli.sizing import Question, measure_sizes
from fedjax_compress.errors import InputError
from fedjax_compress.experiment.config import Config

LOGISTIC = Config(
    model="logistic", uplink="uniform(bits=4)", downlink="on_vector(uniform(bits=8))"
)


def test_figures_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Logistic regression on digits: 64 x 10 weights and 10 biases."""
    name = tmp_path / "sizes.json"
    found = measure_sizes(Question(LOGISTIC, json=str(name)))
    assert json.loads(name.read_text()) == found
    assert found["parameters"] == 650
    assert (found["shape"], found["classes"]) == ([8, 8, 1], 10)
    up, down = found["up"], found["down"]
    assert up["bytes"] == 4 * 650 // 8 + 2 * 8 + 16
    assert down["bytes"] == 650 + 8 + 16
    assert up["factor"] == 2600 / up["bytes"]
    assert sum(sum(row["bits"].values()) for row in up["layers"]) == 4 * 650 + 128
    assert len(up["layers"]) == 2
    assert len(down["layers"]) == 1
    assert len(down["layers"][0]["leaves"]) == 2
    assert up["not_counted"]["nominal_bytes"] == 325
    assert set(up["not_counted"]) == {
        "nominal_bytes",
        "ideal_bytes",
        "deflate_bytes",
        "zstd_bytes",
    }
    text = capsys.readouterr().out
    for line in (up["bytes"], down["bytes"]):
        assert f"{line:,}" in text
    for word in ("made-up Gaussian update", "initial parameters", "Not counted"):
        assert word in text
    assert "together" in text


def test_a_shape_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    command = "size --model logistic --shape 5,3,1 --classes 4 --data npz(path='none')"
    command += " --uplink identity --downlink identity"
    assert main(command.split()) == 0
    text = capsys.readouterr().out
    assert "64 parameters" in text
    assert "5x3x1, 4 classes" in text


def test_quantized_weights_are_a_message_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """4 bits for each of 60 weights and one scale, 4 biases, in place of up or down."""
    command = "size --model logistic --shape 5,3,1 --classes 4 --uplink identity"
    command += " --downlink identity --qat"
    assert main([*command.split(), "integer(bits=4)"]) == 0
    text = capsys.readouterr().out
    assert "quantized  integer(bits=4), of the initial parameters" in text
    size = 16 + 30 + 4 + 4 * 4
    rows = [line.split() for line in text.splitlines()]
    assert ["quantized", f"{size}"] in [row[:2] for row in rows]
    assert ["both", f"{2 * (16 + 4 * 64)}"] in [row[:2] for row in rows]
    assert "in place of up or down" in " ".join(text.split())
    assert main([*command.split(), "integer(bits=32)"]) == 0
    wanted = "no such message: integer(bits=32) has float32 weights"
    assert wanted in capsys.readouterr().out
    assert main([*command.split(), "none"]) == 0
    assert "quantized" not in capsys.readouterr().out


def test_the_same_seed_gives_the_same_sizes() -> None:
    def sizes(seed: int) -> list[int]:
        config = Config(
            model="logistic", uplink="qsgd(code=elias)", downlink="identity", seed=seed
        )
        found = measure_sizes(Question(config), quiet=True)
        return [sum(row["bits"].values()) for row in found["up"]["layers"]]

    assert sizes(0) == sizes(0)
    assert sizes(0) != sizes(1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--modle mlp", "size has no option --modle; did you mean '--model'?"),
        ("--model mpl", "model: unknown model 'mpl'; did you mean 'mlp'?"),
        ("--uplink unifrm", "did you mean 'uniform'?"),
        ("--uplink uniform(code=hufman)", "did you mean 'huffman'?"),
        ("--uplink uniform(bits=9,code=huffman)", "alphabets of up to 256 symbols"),
        ("--shape 28,x", "shape must be whole numbers like 28,28,1, not '28,x'"),
        ("--shape 0", "shape must be whole numbers"),
        ("--classes 3", "classes belongs to a shape"),
        ("--shape 5 --classes 0", "classes must be at least 1, not 0"),
        ("--model cnn --shape 7", "model: "),
        ("--uplink by_label(identity,nothing=cast)", "no leaf is labelled 'nothing'"),
        ("--qat integer(bits=1)", "qat: integer: bits must be 2 to 16 bits"),
        ("--qat intger", "qat: unknown qat 'intger'; did you mean 'integer'?"),
        ("--json none/sizes.json", "json: there is no folder none; make it first"),
    ],
)
def test_errors_are_one_line(
    options: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["size", *options.split()]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    line = found.err.splitlines()[0]
    assert line.startswith("fedjax-compress: error: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_a_json_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="json needs the name of a file"):
        measure_sizes(Question(LOGISTIC, json=str(tmp_path)), quiet=True)
