"""FedScale's pickles, converted without being run."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedjax_compress import clock
from fedjax_compress.clock import fedscale
from fedjax_compress.clock.plain_pickle import read_plain_pickle
from fedjax_compress.errors import InputError

CAPACITY = {
    1: {"computation": 162.0, "communication": 2209.61},
    2: {"computation": 45, "communication": 5648.125},
    3: {"computation": 0.5, "communication": 1000},
}
AVAILABILITY = {
    3834: {
        "duration": 211625,
        "inactive": [65881, 133574],
        "finish_time": 518400,
        "active": [12788, 100044],
        "model": "CPH1801",
    },
    7: {"inactive": [9.5], "finish_time": 100, "active": [0.25], "model": "x"},
}


def save(folder, name, content, protocol=4):
    path = folder / name
    if not isinstance(content, bytes):
        content = pickle.dumps(content, protocol)
    path.write_bytes(content)
    return str(path)


@pytest.fixture
def convert(tmp_path):
    """Converts two dicts, and gives the lines of the CSV."""

    def run(capacity, availability=None, protocol=4):
        output = tmp_path / "out.csv"
        one = save(tmp_path, "capacity", capacity, protocol)
        other = availability
        if availability is not None:
            other = save(tmp_path, "availability", availability, protocol)
        number = clock.convert_fedscale(one, other, str(output))
        lines = output.read_text().splitlines()
        assert len(lines) == number + 1
        return lines

    return run


@pytest.mark.parametrize("protocol", range(6))
def test_files_of_every_protocol_convert(convert, protocol):
    """Row 2 begins again with the first client of the shorter file."""
    assert convert(CAPACITY, AVAILABILITY, protocol) == [
        "down,up,row_ms,active,period",
        "2.20961,2.20961,486.0,12788-65881 100044-133574,518400",
        "5.648125,5.648125,135,0.25-9.5,100",
        "1.0,1.0,1.5,12788-65881 100044-133574,518400",
    ]


def test_a_pickle_of_python_2_converts(convert):
    """Its texts are byte strings."""
    row = b"}q\x01(U\x0bcomputationq\x02K\x02U\rcommunicationq\x03G@Y\0\0\0\0\0\0u"
    lines = convert(b"\x80\x02}q\x00K\x01" + row + b"s.")
    assert lines == ["down,up,row_ms", "0.1,0.1,6"]


def test_the_longer_file_says_how_many_rows(convert):
    lines = convert({1: CAPACITY[3]}, AVAILABILITY)
    assert [line.partition(",")[0] for line in lines[1:]] == ["1.0", "1.0"]


@pytest.mark.parametrize(
    ("active", "inactive", "intervals"),
    [
        ([10, 30], [20, 40], "10-20 30-40"),
        ([30, 10], [40, 20], "10-20 30-40"),
        ([10, 15, 50], [20, 40, 60], "10-40 50-60"),
        ([10, 12], [40, 20], "10-40"),
        ([10, 20], [20, 30], "10-30"),
        ([10, 30], [20], "10-20 30-100"),
        ([10], [20, 30], "10-20"),
        ([10, 30, 60], [20, 25, 60], "10-20"),
        ([10, 120], [150, 130], "10-100"),
        ([-5, 30], [20, 40], "0-20 30-40"),
        ((0.1, 1e-05), (0.2, 2e-05), "1e-05-2e-05 0.1-0.2"),
    ],
    ids=[
        "as it should be", "unsorted", "overlap", "inside", "touch", "no end",
        "no beginning", "reversed or empty", "behind the period", "before it", "tiny",
    ],
)  # fmt: skip
def test_intervals_are_put_in_order(convert, tmp_path, active, inactive, intervals):
    said = {"active": active, "inactive": inactive, "finish_time": 100}
    lines = convert(CAPACITY, {0: said})
    assert lines[1].split(",", 3)[3] == f"{intervals},100"
    assert clock.trace(str(tmp_path / "out.csv"))["activity"].period[0] == 100


def test_a_client_that_is_never_there_is_left_out(convert):
    never = {"active": [9], "inactive": [3], "finish_time": 10}
    nothing = {"active": [], "inactive": [], "finish_time": 10}
    lines = convert(CAPACITY, {0: never, 1: AVAILABILITY[7], 2: nothing})
    assert [line.split(",")[3] for line in lines[1:]] == ["0.25-9.5"] * 3
    with pytest.raises(InputError, match="no client is ever there"):
        convert(CAPACITY, {0: never})


def test_seconds_of_a_round_are_fedscales_but_for_its_kilobits(convert, tmp_path):
    """ResNet-12, 780,266 parameters, 3.12 MB each way, at 2209.61 kbit/s: FedScale
    divides bytes by 1024 and says 22.07 s, which in kbit of 1000 bits are 22.60 s.
    30 steps on 20 samples of 162 ms, three passes, take 291.6 s."""
    convert(CAPACITY)
    found = clock.parse(f"trace('{tmp_path / 'out.csv'}')")
    size = 4 * 780_266
    compute = 30 * 20 * found.rows(0, 1)
    spans = clock.spans(found.network(0, 1), size, size, compute)
    both = float((spans.download + spans.upload)[0])
    assert both == pytest.approx(8 * 2 * size / 2_209_610, rel=1e-12)
    assert round(both, 2) == 22.60
    assert round(both / 1.024, 2) == 22.07
    assert both / 1.024 == pytest.approx(2 * (size / 1024 * 8) / 2209.61, rel=1e-12)
    assert spans.compute[0] == pytest.approx(3.0 * 20 * 30 * 162 / 1000)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**300), 2**300)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


@hypothesis.settings(max_examples=100)
@hypothesis.given(PLAIN)
@hypothesis.example([list(range(1500)), dict.fromkeys(range(1500)), "x" * 300])
def test_plain_data_is_read_as_it_was(tmp_path_factory, value):
    """Also a thing that is there twice, and more of them than one opcode takes."""
    folder = tmp_path_factory.getbasetemp()
    for protocol in range(6):
        path = save(folder, "plain", [value, value], protocol)
        assert repr(read_plain_pickle(path)) == repr([value, value])


def test_bytes_are_read_as_text(tmp_path):
    for content in (b"abc\xff", b"x" * 300):
        for protocol in (3, 4, 5):
            path = save(tmp_path, "bytes", pickle.dumps(content, protocol))
            assert read_plain_pickle(path) == content.decode("latin-1")


class Evil:
    """Makes a folder where it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_pickle_is_run(tmp_path, convert, protocol):
    mark = tmp_path / "was here"
    evil = Evil(str(mark))
    name = "STACK_GLOBAL" if protocol > 3 else "GLOBAL"
    for content in (evil, {1: evil}, {1: {**CAPACITY[1], "extra": evil}}):
        with pytest.raises(InputError, match=f"uses {name}; nothing of it") as caught:
            convert(content, protocol=protocol)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=f"availability .* uses {name}; nothing"):
            convert(CAPACITY, content, protocol)
    assert not mark.exists()
    pickle.loads(pickle.dumps(evil, protocol))
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"(S'true'\nios\nsystem\n.", "INST"),
        (b"cos\nsystem\n(S'true'\ntR.", "GLOBAL"),
        (b"(U\x04trueo.", "OBJ"),
        (b"U\x04true)R.", "REDUCE"),
        (b"}}b.", "BUILD"),
        (b"})\x81.", "NEWOBJ"),
        (b"})}\x92.", "NEWOBJ_EX"),
        (b"\x82\x01.", "EXT1"),
        (b"Pfile\n.", "PERSID"),
        (b"U\x04fileQ.", "BINPERSID"),
        (b"\x8f.", "EMPTY_SET"),
        (b"\x96\x01\0\0\0\0\0\0\0a.", "BYTEARRAY8"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"N0N.", "POP"),
    ],
)
def test_an_opcode_that_is_not_of_plain_data_is_named(tmp_path, content, name):
    path = save(tmp_path, "odd", content)
    with pytest.raises(InputError, match=f"more than plain data: it uses {name};"):
        read_plain_pickle(path)


def test_every_other_opcode_is_refused():
    """A new one of Python's is not taken unseen."""
    from fedjax_compress.clock.plain_pickle import _Machine

    refused = set()
    for opcode in pickletools.opcodes:
        machine = _Machine()
        machine.stack = [{}, [], 0, []]
        machine.marks, machine.memo = [2], {0: 0}
        value = b"" if "BYTES" in opcode.name else 0
        try:
            if not machine.step(opcode.name, value):
                refused.add(opcode.name)
        except (LookupError, TypeError, AttributeError):
            assert opcode.name in {"SETITEM", "SETITEMS", "APPEND", "APPENDS", "DICT"}
    assert {
        "ADDITEMS", "BINPERSID", "BUILD", "BYTEARRAY8", "DUP", "EMPTY_SET", "EXT1",
        "EXT2", "EXT4", "FROZENSET", "GLOBAL", "INST", "NEWOBJ", "NEWOBJ_EX",
        "NEXT_BUFFER", "OBJ", "PERSID", "POP", "POP_MARK", "READONLY_BUFFER", "REDUCE",
        "STACK_GLOBAL",
    } == refused  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"down,up\n1,2\n",
        b"PK\x03\x04",
        pickle.dumps(CAPACITY)[:-9],
        b"a.",
        b"u.",
        b"h\x07.",
        b"(K\x01d.",
        b"K\x01K\x02a.",
        b"](K\x01K\x02u.",
        b"}]K\x01s.",
        b"K\x01K\x02.",
        b"I1" + b"0" * 5000 + b"\n.",
        b".",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
    ],
)
def test_what_is_no_pickle_is_refused_in_one_line(tmp_path, content):
    path = save(tmp_path, "broken", content)
    with pytest.raises(InputError, match="is no pickle, or a broken one") as caught:
        read_plain_pickle(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"communication": 0}, "communication must be above 0 and computation at leas"),
        ({"computation": -1}, "at least 0, not 2209.61 and -1"),
        ({"computation": None}, "client 1: computation must be a number, not 'None'"),
        ({"computation": True}, "client 1: computation must be a number, not 'True'"),
        ({"communication": "9"}, "communication must be a number, not '9'"),
        ({"communication": float("nan")}, "communication must be a number, not 'nan'"),
        ({"communication": 10**400}, "communication must be a number, not '10000"),
    ],
)
def test_capacities_of_another_form_are_refused(convert, change, reason):
    with pytest.raises(InputError, match=reason):
        convert({1: {**CAPACITY[1], **change}})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"finish_time": 0}, "client 7: finish_time must be above 0, not 0"),
        ({"finish_time": None}, "client 7: finish_time must be a number, not 'None'"),
        ({"active": 3}, "client 7: active must be a list of seconds"),
        ({"inactive": None}, "client 7: inactive must be a list of seconds"),
        ({"inactive": ["9"]}, "client 7: inactive must be a number, not '9'"),
    ],
)
def test_availabilities_of_another_form_are_refused(convert, change, reason):
    with pytest.raises(InputError, match=reason):
        convert(CAPACITY, {7: {**AVAILABILITY[7], **change}})


@pytest.mark.parametrize("content", [{}, [CAPACITY], None, 3])
def test_files_of_no_clients_are_refused(convert, content):
    with pytest.raises(InputError, match="must hold a dict of clients, and holds none"):
        convert(content)
    with pytest.raises(InputError, match="client 1 must have a dict of values"):
        convert({1: [45, 1000]})


def test_the_command_converts_or_says_why_not(tmp_path, capsys):
    capacity = save(tmp_path, "capacity", CAPACITY)
    output = str(tmp_path / "out.csv")
    assert fedscale.main([capacity, output]) == 0
    assert capsys.readouterr().out == f"3 clients in {output}\n"
    for argv, line in [
        ([], "usage: python -m fedjax_compress.clock.fedscale CAPACITY [AVAILABILITY]"),
        (["--help"], "usage: "),
        ([capacity, capacity, output, "x"], "usage: "),
        ([str(tmp_path / "none"), output], "cannot read "),
        ([capacity, str(tmp_path / "none"), output], "cannot read "),
        ([capacity, str(tmp_path)], f"{tmp_path} must end in .csv"),
        ([capacity, str(tmp_path / "no" / "out.csv")], "cannot write "),
    ]:
        assert fedscale.main(argv) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(line)
        assert told.err.count("\n") == 1


def test_it_runs_as_a_module(tmp_path, repository):
    """With both files, and without a word of Python's own."""
    one = save(tmp_path, "capacity", CAPACITY)
    other = save(tmp_path, "availability", AVAILABILITY)
    output = str(tmp_path / "out.csv")
    program = [sys.executable, "-W", "error", "-m", "fedjax_compress.clock.fedscale"]
    options = {"capture_output": True, "text": True, "check": False, "cwd": repository}
    done = subprocess.run([*program, one, other, output], **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert clock.trace(output)["activity"].active(np.arange(1), 12788) == [True]
