"""Compressors from text: what is read, what is refused, and how."""

from __future__ import annotations

import pytest

from fedjax_compress import compress, registry
from fedjax_compress.errors import SpecError


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("identity", "identity"),
        ("uniform( 4 )", "uniform(bits=4)"),
        (
            "top_k(0.01,fixed)|qsgd(4)",
            "top_k(fraction=0.01, indices=fixed) | qsgd(bits=4)",
        ),
        (
            "error_feedback(top_k(0.01)|qsgd(4),0.5)",
            "error_feedback(compressor=top_k(fraction=0.01) | qsgd(bits=4), decay=0.5)",
        ),
        (
            "by_label(error_feedback(on_vector(top_k(.1))), bias=hadamard|uniform(2))",
            "by_label(default=error_feedback(compressor=on_vector(stage=top_k("
            "fraction=0.1))), bias=hadamard | uniform(bits=2))",
        ),
        ("random_k(0.5, rescale=false)", "random_k(fraction=0.5, rescale=false)"),
    ],
)
def test_normal_form(text, normal):
    assert compress.canonical(text) == normal
    assert compress.canonical(normal) == normal
    compress.parse(text)
    compress.parse(normal)


@pytest.mark.parametrize(
    ("text", "reason", "caret"),
    [
        ("unifrm(bits=4)", "did you mean 'uniform'", 0),
        ("hadamard | unifrm", "did you mean 'uniform'", 11),
        ("uniform(bit=4)", "no option 'bit'; did you mean 'bits'", 0),
        ("uniform(bits=4.5)", "bits must be int, not 4.5", 0),
        ("hadamard | uniform(bits=99)", "bits must be 1 to 16, not 99", 11),
        ("uniform(code=elia)", "did you mean 'elias'", 13),
        ("top_k", "top_k needs fraction: float", 0),
        ("uniform | qsgd", "uniform leaves no array, so qsgd cannot follow it", 10),
        ("on_vector(qsgd | cast)", "qsgd leaves no array", 17),
        ("cast | error_feedback(cast)", "cannot stand in a pipe of stages", 7),
        ("error_feedback(cast) | cast", "cannot stand in a pipe of stages", 0),
        ("on_vector(error_feedback(cast))", "cannot stand in a pipe of stages", 10),
        ("error_feedback(4)", "compressor must be Compressor, not 4", 0),
        ("error_feedback(unifrm)", "did you mean 'uniform'", 15),
        ("error_feedback(cast, decay=2)", "decay must be 0 to 1", 0),
        ("hadamard |", "expected a name", 10),
        ("by_label(cast, a=cast, a=cast)", "a is given twice", 23),
    ],
)
def test_refused_with_a_caret(text, reason, caret):
    with pytest.raises(SpecError) as error:
        compress.parse(text)
    first, shown, mark = str(error.value).split("\n")
    assert reason in first
    assert shown.strip() == text
    assert mark.index("^") - 2 == caret


def test_every_name_builds_from_python_and_has_a_line():
    for kind in ("stage", "compressor"):
        for name, entry in registry.entries(kind).items():
            assert getattr(compress, name) is entry.factory
            assert entry.summary.endswith(".")
            assert name in compress.__all__


def test_all_is_sorted_and_complete():
    assert list(compress.__all__) == sorted(compress.__all__)
    for name in compress.__all__:
        assert hasattr(compress, name)
