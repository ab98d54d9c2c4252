"""Files are read strictly: every way in which a file can be broken is an error that names the place."""

import contextlib
import gzip
import json
import re

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lightning_posttrain.records import sources
from lightning_posttrain.records.sources import fingerprint, read_rows
from lightning_posttrain.types import UserError


def write(tmp_path, content, name="f.jsonl"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def refused(file, place, *words):
    """Reading ``file`` fails, at ``place`` (what follows the path), with ``words`` in the message."""
    with pytest.raises(UserError) as caught:
        list(read_rows(file))
    message = str(caught.value)
    assert message.startswith(f"{file}{place}: ")
    for word in words:
        assert word in message


def test_jsonl_rows_and_origins(tmp_path):
    file = write(tmp_path, '{"a": 1}\n\n  {"a": [null, true, 1.5, "é"]}  \n{"a": {}}')
    assert list(read_rows(file)) == [
        ({"a": 1}, f"{file}:1"),
        ({"a": [None, True, 1.5, "é"]}, f"{file}:3"),
        ({"a": {}}, f"{file}:4"),
    ]
    assert list(read_rows(str(file))) == list(read_rows(file))


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (b'\xef\xbb\xbf{"a": 1}\n', {"a": 1}),  # byte-order mark
        (b'{"a": 1}\r\n', {"a": 1}),
        ('{"a": "x\u2028y\u2029z\x85"}\n', {"a": "x\u2028y\u2029z\x85"}),  # no line ends in JSON
        (b'{"a": "\\ud83d\\ude00\\u0000"}', {"a": "😀\0"}),
    ],
)
def test_what_is_odd_but_valid(tmp_path, content, row):
    assert [r for r, _ in read_rows(write(tmp_path, content))] == [row]


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        ('{"a": 1', ":2:8", ["no valid JSON", "may be cut off"]),
        ('{"a": "x\n', ":2:7", ["no valid JSON: Unterminated string"]),
        ('{"a": 1} {"b": 2}\n', ":2:10", ["follows the object"]),
        ("[1]\n", ":2", ["[1]", "no JSON object"]),
        ("null\n", ":2", ["no JSON object"]),
        (b'{"a": "x\xffy"}\n', ":2", ["byte 19 (0xff) is not UTF-8"]),
        (b'{"a": "x\x00y"}\n', ":2:9", ["control character"]),
        (b"\x00\x00\x00", ":2:1", ["no valid JSON"]),
        ('{"a": NaN}\n', ":2:1", ["NaN is no JSON number"]),
        ('{"a": -Infinity}\n', ":2:1", ["-Infinity is no JSON number"]),
        ('{"a": 1e999}\n', ":2:1", ["1e999 is too large"]),
        ('{"a": ' + "7" * 5000 + "}\n", ":2:1", ["a number cannot be read"]),
        ('{"a": 1, "b": {"c": 1, "c": 2}}\n', ":2:1", ["'c' is given twice"]),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n", ":2:1", ["nested too deeply"]),
        ('{"a": "\\ud83d"}\n', ":2:1", ["half of a surrogate pair"]),
    ],
)
def test_broken_lines_name_line_and_column(tmp_path, line, place, words):
    good = b'{"a": 1}\n\n'[:-1]
    line = line if isinstance(line, bytes) else line.encode()
    refused(write(tmp_path, good + line), place, *(w.replace("19", str(len(good) + 8)) for w in words))


def test_bad_lines_can_be_left_out(tmp_path):
    file = write(tmp_path, b'{"a": 1}\n{"a": \n\xff\n[]\n{"a": 2}\n{"a"')
    errors = []
    assert [row for row, _ in read_rows(file, errors.append)] == [{"a": 1}, {"a": 2}]
    assert [re.search(r":(\d+)", str(e).removeprefix(str(tmp_path)))[1] for e in errors] == ["2", "3", "4", "6"]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE", 100)
    file = write(tmp_path, '{"a": 1}\n{"a": "' + "x" * 1000 + '"}\n{"b": "' + "x" * 80 + '"}\n' + "y" * 300)
    refused(file, ":2", "the line is longer than")
    errors = []
    assert [list(row) for row, _ in read_rows(file, errors.append)] == [["a"], ["b"]]
    assert [str(e).removeprefix(f"{file}:")[0] for e in errors] == ["2", "4"]


@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv", "f.jsonl.gz"])
@pytest.mark.parametrize("content", [b"", b" \n\n \r\n"])
def test_empty_files(tmp_path, name, content):
    if name.endswith(".gz"):
        content = gzip.compress(content)
    refused(write(tmp_path, content, name), "", "holds no rows")


def test_utf16_is_named(tmp_path):
    refused(write(tmp_path, '{"a": 1}'.encode("utf-16")), ":1", "byte 0 (0xff)", "looks like UTF-16")


def test_json_array_and_object(tmp_path):
    array = write(tmp_path, '\ufeff[ {"a": 1},\n {"a":\n 2}\n , {"a": 3}]\n', "f.json")
    assert list(read_rows(array)) == [({"a": n}, f"{array}:{line}") for n, line in ((1, 1), (2, 2), (3, 4))]
    keyed = write(tmp_path, '{"k1": {"a": 1},\n"k2" : {"a": 2, "id": 7}}', "g.json")
    assert list(read_rows(keyed)) == [({"id": "k1", "a": 1}, f"{keyed}:1"), ({"id": 7, "a": 2}, f"{keyed}:2")]
    errors = []
    mixed = write(tmp_path, '[1, {"a": 1}, null]', "h.json")
    assert [row for row, _ in read_rows(mixed, errors.append)] == [{"a": 1}]
    assert [str(e).removeprefix(f"{mixed}:1: an element is ") for e in errors] == [
        "int, not an object.",
        "NoneType, not an object.",
    ]


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ('[{"a": 1},\n {"a": }]', ":2:8", ["no valid JSON"]),
        ('[{"a": 1},\n {"a": 2}', ":2:10", ["',' or ']' expected", "cut off"]),
        ('[{"a": 1}\n {"a": 2}]', ":2:2", ["',' or ']' expected"]),
        ('[{"a": 1},', ":1:11", ["no valid JSON"]),
        ('[{"a": 1}] x', ":1:12", ["follows the end"]),
        ('{"a": {}}\n{"b": {}}', ":2:1", ["follows the end", ".jsonl"]),
        ('"text"', ":1:1", ["begins neither an array nor an object"]),
        ('{"a" 1}', ":1:2", ["expected"]),
        ('[{"a": 1},\n {"a": NaN}]', ":2:2", ["NaN"]),
        (b'[{"a": "\xff"}]', "", ["byte 8 (0xff)"]),
    ],
)
def test_broken_json_arrays(tmp_path, content, place, words):
    refused(write(tmp_path, content, "f.json"), place, *words)


def test_a_json_array_above_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_JSON", 10)
    refused(write(tmp_path, "[" + " " * 20 + "]", "f.json"), "", "Make it a .jsonl")


def test_csv(tmp_path):
    content = '\ufeffq,a\r\n"x, ""y""\nz",1\r\n\r\né\u2028,\r\n' + "l" * 200_000 + ",3"
    file = write(tmp_path, content, "f.csv")
    assert list(read_rows(file)) == [
        ({"q": 'x, "y"\nz', "a": "1"}, f"{file}:2"),
        ({"q": "é\u2028", "a": ""}, f"{file}:5"),
        ({"q": "l" * 200_000, "a": "3"}, f"{file}:6"),
    ]


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("q,q\n1,2\n", ":1", ["names a column twice"]),
        ("q,a\n1\n", ":2", ["has 1 fields, not 2"]),
        ("q,a\n1,2,3\n", ":2", ["has 3 fields, not 2"]),
        ('q,a\n1,"2\n3,4\n', ":2", ["unexpected end of data"]),
        ('q,a\n"1"x,2\n', ":2", ["expected after"]),
        ("q,a\n1,\0\n", ":2", ["holds a NUL"]),
        (b"q,a\n1,\xff\n", ":2", ["byte 6 (0xff)"]),
    ],
)
def test_broken_csv(tmp_path, content, place, words):
    refused(write(tmp_path, content, "f.csv"), place, *words)


def test_bad_csv_rows_can_be_left_out(tmp_path):
    errors = []
    file = write(tmp_path, b'q,a\n1\n1,2\n"x"y,1\n1,\xff\n3,4\n', "f.csv")
    assert [row["q"] for row, _ in read_rows(file, errors.append)] == ["1", "3"]
    assert len(errors) == 3


def test_gz_and_parquet(tmp_path):
    rows = [{"a": i, "m": [{"role": "user", "content": "x"}]} for i in range(600)]
    zipped = write(tmp_path, gzip.compress("\n".join(map(json.dumps, rows)).encode()), "f.jsonl.gz")
    assert list(read_rows(zipped))[-1] == (rows[-1], f"{zipped}:600")
    table = tmp_path / "f.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    assert list(read_rows(table))[-1] == (rows[-1], f"{table}:600")


def test_damaged_gz_and_parquet(tmp_path):
    packed = gzip.compress(b'{"a": 1}\n' * 1000)
    refused(write(tmp_path, packed[:-20], "f.jsonl.gz"), "", "cannot be read to its end")
    refused(write(tmp_path, b"no gzip", "f.jsonl.gz"), "", "cannot be read to its end")
    refused(write(tmp_path, b"PAR1 and so on PAR1", "f.parquet"), "", "after row 0", "no readable parquet")


def test_missing_files_name_what_is_there(tmp_path):
    write(tmp_path, "", "train.jsonl")
    write(tmp_path, "", "notes.txt")
    refused(tmp_path / "trian.jsonl", "", "does not exist", "['train.jsonl']")
    refused(tmp_path / "else.parquet", "", "['train.jsonl']")
    refused(tmp_path / "no" / "f.jsonl", "", f"nor does the folder {tmp_path / 'no'}")
    refused(tmp_path, "", "is a folder", "['train.jsonl']")
    refused(tmp_path / "notes.txt", "", "no kind of file that is known", ".parquet")
    with pytest.raises(UserError, match="does not exist"):
        fingerprint(tmp_path / "trian.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        next(read_rows("a\0b.jsonl"))


def test_fingerprint_is_of_the_content(tmp_path):
    one, two = write(tmp_path, "a", "1.jsonl"), write(tmp_path, "a", "2.jsonl")
    assert fingerprint(one) == fingerprint(two) != fingerprint(write(tmp_path, "b", "3.jsonl"))


def test_hub_rows(monkeypatch):
    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return datasets.Dataset.from_list([{"a": 1}, {"a": 2}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_rows("hub:org/x")) == [({"a": 1}, "hub:org/x:1"), ({"a": 2}, "hub:org/x:2")]
    assert next(read_rows("hub:org/x:test")) == ({"a": 1}, "hub:org/x:test:1")
    assert fingerprint("hub:org/x:main:test") == fingerprint("hub:org/x:main:test")
    assert asked[:3] == [("org/x", None, "train"), ("org/x", None, "test"), ("org/x", "main", "test")]


def test_a_hub_that_fails_names_the_local_way(monkeypatch):
    def load_dataset(*args, **kwargs):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for call in (lambda: next(read_rows("hub:org/x:main:test")), lambda: fingerprint("hub:org/x:main:test")):
        with pytest.raises(UserError, match=r"'org/x', split 'test' \(ConnectionError: offline\).*local .jsonl"):
            call()
    for path in ("hub:", "hub:a:b:c:d", "hub:a::b"):
        with pytest.raises(UserError, match="write hub:org/name"):
            next(read_rows(path))


@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv", "f.jsonl.gz", "f.json.gz", "f.parquet"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(alphabet='[]{}",:\\un0d8e1-\n\r ', max_size=80).map(str.encode))
@example(content=b"{" * 5000)
def test_whatever_the_bytes_only_user_errors(tmp_path, name, content):
    if name.endswith(".gz") and len(content) % 2:
        content = gzip.compress(content)
    file = write(tmp_path, content, name)
    for on_bad in ({}, {"on_bad": lambda error: None}):
        with contextlib.suppress(UserError):
            for row, origin in read_rows(file, **on_bad):
                assert isinstance(row, dict)
                assert origin.startswith(f"{file}:")
