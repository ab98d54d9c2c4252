"""Tokenised data: the same examples with any number of processes, cached by key, whole or not at all."""

import json
import os
import pickle
import time
from functools import partial

import numpy as np
import pytest
from formats import renderer_for

from lightning_posttrain.records.policy import RowReport
from lightning_posttrain.text import cache, workers
from lightning_posttrain.text.cache import TokenisedDataset, tokenise
from lightning_posttrain.text.seen import SeenIds
from lightning_posttrain.types import Conversation, Message, Sequence, UserError


def rows(n, **change):
    for i in range(n):
        yield (
            {"id": str(i), "q": f"question {i}", "a": "a" * (i % 7 + 1), **change.get(f"row{i}", {})},
            f"f.jsonl:{i + 1}",
        )


def pair(row, origin, renderer):
    """Two sequences for each row, as a preference has."""
    if "bad" in row:
        raise UserError(f"{origin}: 'bad' is {row['bad']!r}. Remove it.")
    answers = (row["a"], row["a"] + "!")
    conversations = [
        Conversation((Message("user", row["q"]), Message("assistant", answer)), row["id"], origin) for answer in answers
    ]
    return tuple(renderer.sequence(c) for c in conversations)


MAKE = partial(pair, renderer=renderer_for())


def contents(dataset):
    return [[(s.ids.tolist(), s.supervised.tolist(), s.id, s.origin) for s in dataset[i]] for i in range(len(dataset))]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(workers, "CHUNK", 4)


def test_what_is_read_is_what_was_made(tmp_path):
    dataset = tokenise(rows(10), MAKE, "k", tmp_path)
    made = [MAKE(row, origin) for row, origin in rows(10)]
    assert contents(dataset) == contents(made)
    assert dataset.lengths.dtype == np.int64
    assert dataset.lengths.tolist() == [sum(len(s.ids) for s in example) for example in made]
    first = dataset[0][0]
    assert (first.ids.dtype, first.supervised.dtype) == (np.int32, np.bool_)
    assert dataset[-1][0].id == "9"
    with pytest.raises(IndexError):
        dataset[10]


def test_processes_give_the_same(tmp_path):
    alone = tokenise(rows(30), MAKE, "k", tmp_path / "0")
    report = RowReport("skip")
    shared = tokenise(rows(30, row17={"bad": 1}), MAKE, "k", tmp_path / "2", num_workers=2, policy=report)
    expected = [example for example in contents(alone) if example[0][2] != "17"]
    assert contents(shared) == expected
    assert (report.n_ok, report.n_skipped) == (29, 1)
    assert contents(pickle.loads(pickle.dumps(shared))) == expected
    with pytest.raises(UserError, match=r"f.jsonl:18: 'bad' is 1"):
        tokenise(rows(30, row17={"bad": 1}), MAKE, "l", tmp_path / "2", num_workers=2)


def test_a_second_run_reads_no_row(tmp_path):
    def never():
        raise AssertionError("read")
        yield

    first = tokenise(rows(5), MAKE, "k", tmp_path)
    second = tokenise(never(), MAKE, "k", tmp_path)
    assert contents(first) == contents(second)
    assert first.fingerprint == second.fingerprint
    other = tokenise(rows(5), MAKE, "another key", tmp_path)
    assert other.fingerprint != first.fingerprint


def test_bad_rows_follow_the_policy_also_from_the_cache(tmp_path):
    bad = {"row2": {"bad": 1}, "row3": {"a": ""}}
    with pytest.raises(UserError, match=r"f.jsonl:3: 'bad' is 1"):
        tokenise(rows(6, **bad), MAKE, "k", tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing half made
    reports = [RowReport("skip"), RowReport("skip")]
    for report in reports:
        dataset = tokenise(rows(6, **bad), MAKE, "k", tmp_path, policy=report)
        assert [dataset[i][0].id for i in range(len(dataset))] == ["0", "1", "4", "5"]
        assert (report.n_ok, report.n_skipped, len(report.reasons)) == (4, 2, 2)
        assert dataset.report["n_skipped"] == 2
    assert reports[0] == reports[1]
    for strict in (RowReport(), RowReport("skip", max_skip=1), None):
        with pytest.raises(UserError, match="cached data was made with"):
            tokenise(rows(6, **bad), MAKE, "k", tmp_path, policy=strict)


def test_rows_that_an_option_drops_do_not_count_as_bad(tmp_path):
    make = partial(pair, renderer=renderer_for(max_length=len(MAKE(*next(rows(1)))[1].ids), overlong="drop"))
    report = RowReport("error", max_skip=0)
    assert len(tokenise(rows(9), make, "k", tmp_path, policy=report)) == 2
    assert (report.n_ok, report.n_skipped, report.n_dropped) == (2, 0, 7)
    assert list(report.reasons) == ["the row has N tokens, above max_length N"]


@pytest.mark.parametrize(("row", "first"), [(1, 0), (9, 1)])  # in the same chunk, in an earlier one
def test_duplicate_ids_name_both_rows(tmp_path, row, first):
    twice = {f"row{row}": {"id": str(first)}}
    with pytest.raises(
        UserError, match=rf"f.jsonl:{row + 1}: the id '{first}' was given before, at f.jsonl:{first + 1}"
    ):
        tokenise(rows(10, **twice), MAKE, "k", tmp_path)
    report = RowReport("skip")
    dataset = tokenise(rows(10, **twice), MAKE, "k", tmp_path, policy=report)
    assert (len(dataset), report.n_skipped) == (9, 1)
    assert dataset[first][0].origin == f"f.jsonl:{first + 1}"


def test_ids_seen_match_a_dictionary():
    rng = np.random.default_rng(0)
    seen, expected = SeenIds(), {}
    for size in (1, 3, 0, 50, 2, 200, 7):
        keys = rng.integers(0, 2**64, size, dtype=np.uint64)
        places = np.array([seen.place(f"dir/f{n % 3}.jsonl:{n}") for n in range(size)], np.int64)
        assert (seen.find(keys) == -1).all()
        seen.add(keys, places)
        expected.update(zip(keys.tolist(), [f"dir/f{n % 3}.jsonl:{n}" for n in range(size)], strict=True))
    assert len(seen.runs) < 5
    found = seen.find(np.array(list(expected), np.uint64))
    assert [seen.origin(int(p)) for p in found if p & 1] == [
        o for p, o in zip(found, expected.values(), strict=True) if p & 1
    ]
    assert seen.origin(seen.place("generated")) == "generated"


def test_no_usable_row(tmp_path):
    with pytest.raises(UserError, match="no row is usable"):
        tokenise(iter(()), MAKE, "k", tmp_path)
    with pytest.raises(UserError, match=r"no row is usable.*1 bad rows skipped"):
        tokenise(rows(1, row0={"bad": 1}), MAKE, "k", tmp_path, policy=RowReport("skip"))


def test_a_damaged_folder_is_refused(tmp_path):
    folder = tokenise(rows(5), MAKE, "k", tmp_path).folder
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "batches": [4]}))
    with pytest.raises(UserError, match=r"damaged.*Delete this folder"):
        TokenisedDataset(folder)
    (folder / "data.arrow").write_bytes(b"ARROW1")
    with pytest.raises(UserError, match="damaged"):
        tokenise(rows(5), MAKE, "k", tmp_path)


def test_another_process_that_was_first_wins(tmp_path, monkeypatch):
    real = cache._write

    def slow(folder, *args):
        real(folder, *args)
        monkeypatch.setattr(cache, "_write", real)
        tokenise(rows(5), MAKE, "k", tmp_path)  # meanwhile, elsewhere

    monkeypatch.setattr(cache, "_write", slow)
    assert len(tokenise(rows(5), MAKE, "k", tmp_path)) == 5
    assert len(list(tmp_path.iterdir())) == 1


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path):
    for name, age in (("old", 2 * cache.ABANDONED), ("young", 60)):
        left = tmp_path / f".key-{name}"
        left.mkdir()
        (left / "data.arrow").write_bytes(b"half")
        for path in (left / "data.arrow", left):
            os.utime(path, (time.time() - age,) * 2)
    tokenise(rows(5), MAKE, "k", tmp_path)
    assert sorted(p.name for p in tmp_path.glob(".key-*")) == [".key-young"]


def broken(row, origin):
    raise ZeroDivisionError


def test_a_bug_in_the_converter_names_the_row(tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        tokenise(rows(1), broken, "k", tmp_path)
    assert caught.value.__notes__ == ["while tokenising f.jsonl:1"]


def ragged(row, origin):
    rng = np.random.default_rng(int(row["id"]))
    return tuple(
        Sequence(rng.integers(0, 9, n, dtype=np.int32), rng.random(n) < 0.5, f"{row['id']}/{j}", origin)
        for j, n in enumerate(rng.integers(1, 20, rng.integers(1, 5)))
    )


def test_groups_of_any_size_and_masks_of_any_length(tmp_path):
    assert contents(tokenise(rows(20), ragged, "k", tmp_path)) == contents([ragged(r, o) for r, o in rows(20)])
