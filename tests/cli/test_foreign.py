"""Errors that are none of ours, as a user of the command line meets them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen

from fedjax_compress import registry
from fedjax_compress.__main__ import main
from fedjax_compress.cli.foreign import explain
from fedjax_compress.errors import InputError
from fedjax_compress.experiment import Config
from fedjax_compress.experiment.components import network
from fedjax_compress.models import from_linen
from fedjax_compress.report import files
from fedjax_compress.runtime import host
from fedjax_compress.typing import Task

JAX_CONFIG = "jax/_src/config.py"
PREFIX = "fedjax-compress: error: "


def line_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that must fail with status 2."""
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(PREFIX)
    return line.removeprefix(PREFIX)


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EMFILE, errno.EROFS, errno.EIO])
def test_what_the_system_refuses_is_a_line(number: int) -> None:
    words = os.strerror(number)
    assert explain(OSError(number, words)) == f"cannot write: {words}"
    assert explain(OSError(number, words, "a/b")) == f"a/b: {words}"


def test_defects_stay_defects() -> None:
    for error in (
        OSError(errno.EBADF, "bad"),
        ValueError("JAX_"),
        FloatingPointError("divide by zero"),
        ZeroDivisionError(),
    ):
        assert explain(error) is None


def test_a_limit_of_the_size_of_files_names_the_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            files.write_atomically(tmp_path / "big.json", b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert explain(caught.value) == f"{tmp_path}/big.json: File too large"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "--output", "NAME"],
        ["run", "--data", "npz(path='NAME')"],
        ["run", "NAME.toml"],
        ["resume", "NAME"],
        ["report", "NAME"],
        ["size", "--json", "NAME"],
    ],
)
def test_a_name_that_is_too_long(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([text.replace("NAME", "x" * 300) for text in argv]) == 2
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith(PREFIX)
    assert "File name too long" in line


def test_folders_files_and_loops_in_each_others_place(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("latin.toml").write_bytes("# é".encode("latin-1"))
    np.savez("file.npz", x=1)
    for argv, words in (
        (["run", "loop"], "Too many levels of symbolic links"),
        (["run", "."], "Is a directory"),
        (["run", "latin.toml"], "not text in UTF-8"),
        (["run", "--output", "file.npz/x"], "Not a directory"),
        (["report", "file.npz/x"], "there is no folder file.npz/x"),
    ):
        assert words in line_of(argv, capsys)


@contextlib.contextmanager
def setting(name: str, value: Any):
    """jax with another setting, as a variable of the environment gives it."""
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_disable_jit", True),
        ("jax_transfer_guard", "disallow"),
    ],
)
@pytest.mark.parametrize("command", ["run", "size", "bench"])
def test_settings_of_jax_with_which_no_round_runs(
    name: str,
    value: Any,
    command: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with setting(name, value):
        line = line_of([command], capsys)
    assert line.startswith(name.upper())
    assert line.endswith("; unset it")
    assert not list(tmp_path.iterdir())


def test_a_fault_where_jax_reads_settings_is_ours_where_none_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="no_such_setting") as caught:
        exec(compile("raise ValueError('no_such_setting')", JAX_CONFIG, "exec"))
    monkeypatch.setenv("JAX_LOG_COMPILES", "1")
    assert "JAX_LOG_COMPILES" in (explain(caught.value) or "")
    for name in [name for name in os.environ if name.startswith("JAX_")]:
        monkeypatch.delenv(name)
    assert explain(caught.value) is None


@pytest.mark.parametrize("command", [["size", "--shape", "5"], ["run"]])
def test_a_device_that_is_not_there(
    command: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with setting("jax_default_device", "tpu"):
        line = line_of([*command, "--model", "logistic", "--quiet"], capsys)
    assert line.startswith("jax cannot start JAX_DEFAULT_DEVICE=tpu: ")
    assert "unset it" in line
    assert "logistic" not in line


def test_devices_that_jax_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def devices(*names: str) -> None:
        raise RuntimeError("there is no way\nat all")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "0")
    with pytest.raises(InputError) as caught:
        host.start_devices()
    assert "JAX_NUM_CPU_DEVICES=0: there is no way; unset it" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("JAX_ENABLE_X64", "maybe", "jax does not take a variable"),
        ("JAX_PLATFORMS", "nonsense", "jax cannot start JAX_PLATFORMS=nonsense: "),
    ],
)
def test_variables_that_jax_does_not_take(
    variable: str, value: str, words: str, tmp_path: Path
) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "fedjax_compress", "size", "--quiet"],
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    (line,) = found.stderr.splitlines()
    assert line.startswith(PREFIX + words)
    assert variable in line
    assert found.returncode == 2


def test_characters_that_a_terminal_lacks_are_shown_as_escapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    assert main(["report", "größe"]) == 2
    streams[1].flush()
    assert b"there is no folder gr\\xf6\\xdfe" in streams[1].buffer.getvalue()
    print("größe")
    streams[0].flush()
    assert streams[0].buffer.getvalue() == b"gr\\xf6\\xdfe\n"


def test_bytes_that_are_no_text_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(
        ["run", "--output", b"gr\xf6\xdfe".decode("ascii", "surrogateescape")], capsys
    )
    assert line.startswith(r"'gr\udcf6\udcdfe' is no text in")
    assert line.endswith("set LC_ALL=C.UTF-8")


def test_what_a_module_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pictures(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2)(linen.Conv(3, (3, 3))(x).mean((1, 2)))

    def pictures(task: Task):
        """Reads pictures only."""
        return from_linen(Pictures(), task)

    entry = registry.Entry("model", "pictures", pictures, 1)
    monkeypatch.setitem(registry._entries._tables["model"], "pictures", entry)
    with pytest.raises(InputError) as caught:
        network(Config(model="pictures"), Task((5,), 2))
    assert str(caught.value).startswith("model: pictures does not fit examples of shap")
    assert "\n" not in str(caught.value)
