"""Objects in the place of SPECs: the same numbers, and nothing lost on the way."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedjax_compress import (
    aggregate,
    algorithms,
    clients,
    clock,
    compress,
    data,
    local,
    models,
    server,
    tree,
)
from fedjax_compress.cli.commands import main
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import (
    Config,
    Scheme,
    build,
    compare,
    dump_toml,
    load_toml,
    resume,
    resume_grid,
    run,
    trained,
    validate,
)
from fedjax_compress.experiment.config import SPECS, is_object, recorded
from fedjax_compress.report import files, records, report

TEXTS = Config(
    clients=8,
    cohort=4,
    rounds=4,
    partition="dirichlet(alpha=1.0)",
    model="logistic",
    local="sgd(lr=0.2, steps=2, batch=5)",
    server="fedavgm(lr=1.0, momentum=0.5)",
    aggregate="mean(weight=uniform)",
    sampling="uniform",
    uplink="error_feedback(top_k(0.1))",
    downlink="cast(bfloat16)",
    algorithm="fedavg",
    clock="network(fixed_2020) | over_selection(1.5)",
    lanes=1,
    evaluate_every=2,
    checkpoint_every=2,
)


def given(name: str) -> Any:
    """What a SPEC of ``TEXTS`` makes, as an object or as a function that makes it."""
    digits = data.digits()
    model = models.logistic(digits.task)
    found = {
        "data": digits,
        "partition": clients.dirichlet(alpha=1.0),
        "model": model,
        "augment": lambda task: None,
        "qat": lambda model, task: model,
        "local": lambda model: local.sgd(model, lr=0.2, steps=2, batch=5),
        "server": server.fedavgm(lr=1.0, momentum=0.5),
        "aggregate": aggregate.mean(weight="uniform"),
        "sampling": clients.uniform(),
        "uplink": compress.parse("error_feedback(top_k(0.1))"),
        "downlink": compress.parse("cast(bfloat16)"),
        "algorithm": algorithms.fedavg,
        "public": data.noise(20),
        "clock": clock.parse("network(fixed_2020) | over_selection(1.5)"),
    }
    return found[name]


def objects() -> dict[str, Any]:
    return {name: given(name) for name in SPECS if name != "augment"}


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in record.items() if k not in records.CLOCK}
        for record in records.read(folder / files.METRICS)
    ]


@pytest.fixture(scope="module")
def by_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, all of it by SPEC."""
    folder = tmp_path_factory.mktemp("objects") / "text"
    run(TEXTS, folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def by_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, all of it by equal objects."""
    folder = tmp_path_factory.mktemp("objects") / "object"
    run(dataclasses.replace(TEXTS, **objects()), folder, quiet=True)
    return folder


def test_equal_objects_give_equal_numbers(by_text: Path, by_object: Path) -> None:
    assert numbers(by_object) == numbers(by_text)
    ours, theirs = (files.read_json(f / files.SUMMARY) for f in (by_object, by_text))
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]
    assert ours["uplink"] == "<object: Compressor error_feedback>"
    assert {p.name for p in by_object.iterdir()} == {p.name for p in by_text.iterdir()}


def test_objects_are_recorded_by_name(by_object: Path) -> None:
    config = load_toml(by_object / files.CONFIG)
    assert config.data == "<object: Dataset digits>"
    assert config.partition == "<object: dirichlet>"
    assert config.algorithm == "<object: fedavg>"
    assert config.augment == "none"
    assert all(is_object(getattr(config, name)) for name in objects())
    text = (by_object / files.CONFIG).read_text()
    assert text.count("# an object, to be given again") == len(objects())
    partial = functools.partial(algorithms.fedavg)
    found = recorded(Config(algorithm=partial))
    assert found.algorithm == "<object: partial fedavg>"


def test_a_run_with_objects_goes_on(by_object: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    shutil.copytree(by_object, folder)
    (folder / files.SUMMARY).unlink()
    shutil.rmtree(folder / files.CHECKPOINTS / "00000004")
    resume(folder, parts=objects(), quiet=True)
    assert numbers(folder) == numbers(by_object)
    digests = [files.read_json(f / files.SUMMARY) for f in (folder, by_object)]
    assert digests[0]["parameters_sha256"] == digests[1]["parameters_sha256"]
    _, params = trained(folder, parts=objects())
    assert tree.sha256(params) == digests[0]["parameters_sha256"]


def test_what_lacks_or_is_too_much_is_one_line(
    by_object: Path, by_text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in by_object.rglob("*")}
    assert main(["resume", str(by_object), "--rounds", "9"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"resume('{by_object}', parts={{'data': ..., 'public': ..., 'partition': ...,"
        in line
    )
    assert main(["run", str(by_object / files.CONFIG)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data was <object: Dataset digits> in Python and cannot be read back" in line
    some = {name: value for name, value in objects().items() if name != "model"}
    with pytest.raises(InputError, match="objects that only Python can give again"):
        resume(by_object, parts=some, quiet=True)
    with pytest.raises(InputError, match="not given an object for 'model'; leave it"):
        resume(by_text, parts={"model": given("model")}, quiet=True)
    other = objects() | {"sampling": clients.dirichlet(alpha=1.0)}
    with pytest.raises(InputError, match=r"other settings: sampling \(wanted '<object"):
        resume(by_object, {"rounds": 9}, parts=other, quiet=True)
    assert {p: p.stat().st_mtime_ns for p in by_object.rglob("*")} == before


@pytest.mark.parametrize("name", [n for n in SPECS if n != "augment"])
def test_each_setting_takes_an_object(name: str) -> None:
    """Alone among texts, it is built and checked like them."""
    parts = build.build(dataclasses.replace(TEXTS, **{name: given(name)}))
    assert tree.count(parts.params) == 650


def test_an_augment_is_made_from_the_task() -> None:
    def shifted(task: Any) -> Any:
        return lambda features, key: features * 0.5

    found = build.build(dataclasses.replace(TEXTS, augment=shifted))
    assert found.model is not None
    with pytest.raises(InputError, match=r"augment: .* must give a function, not"):
        build.build(dataclasses.replace(TEXTS, augment=lambda task: 3))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model", 3, "model must be text in quotes, not 3"),
        ("uplink", None, "uplink must be text in quotes, not None"),
        (
            "uplink",
            compress.top_k(0.1),
            r"uplink: .* must give a Compressor, as compress.on_leaves\(stage\) does",
        ),
        ("model", server.fedavg(), "model: .* must give a Model, not ServerOptimizer"),
        ("partition", server.fedavg(), "partition: .* must give a function, not Serv"),
        ("data", lambda: None, "data: .* must give a Dataset, not function"),
        ("local", lambda model: model, "local: .* must give a LocalUpdate, not Model"),
    ],
)
def test_another_object_than_is_wanted(
    name: str, value: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        run(dataclasses.replace(TEXTS, **{name: value}), tmp_path / "a", quiet=True)
    assert not (tmp_path / "a").exists()


def test_an_algorithm_is_made_from_the_parts() -> None:
    made = build.build(TEXTS).algorithm
    with pytest.raises(
        InputError, match=r"algorithm: .* must give a function, not Alg"
    ):
        build.build(dataclasses.replace(TEXTS, algorithm=made))


def test_an_error_of_ones_own_keeps_its_traceback(tmp_path: Path) -> None:
    def broken(model: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError) as caught:
        run(dataclasses.replace(TEXTS, local=broken), tmp_path / "a", quiet=True)
    assert caught.value.__notes__ == ["raised in the object given for local"]


@pytest.mark.slow
def test_schemes_take_objects(
    by_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comparison of a text and an object, stopped and gone on with."""
    base = dataclasses.replace(TEXTS, data=given("data"), model=given("model"))
    schemes = (
        Scheme("text", {"uplink": TEXTS.uplink}),
        Scheme("object", {"uplink": given("uplink")}),
    )
    folder = tmp_path / "c"
    found = compare(base, schemes, folder, quiet=True)
    whole = files.read_json(by_text / files.SUMMARY)["parameters_sha256"]
    runs = [scheme["runs"][0] for scheme in found["schemes"]]
    assert [one["parameters_sha256"] for one in runs] == [whole] * 2
    assert found["schemes"][1]["settings"] == {
        "uplink": "<object: Compressor error_feedback>"
    }
    (folder / "object" / "seed-0" / files.SUMMARY).unlink()
    again = compare(base, schemes, folder, quiet=True)
    assert [s["runs"][0]["parameters_sha256"] for s in again["schemes"]] == [whole] * 2
    listed = report([folder], tmp_path / "r", quiet=True)["schemes"]
    assert [one["name"] for one in listed] == ["text", "object"]
    with pytest.raises(
        InputError, match=r"grid with objects .* call run_grid or compa"
    ):
        resume_grid(folder, quiet=True)
    assert main(["resume", str(folder)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_was_an_object_is_no_text() -> None:
    text = dump_toml(recorded(Config(uplink=given("uplink"))))
    assert 'uplink = "<object: Compressor error_feedback>"' in text
    with pytest.raises(InputError, match=r"uplink was <object: .* give it again"):
        validate(recorded(Config(uplink=given("uplink"))))
