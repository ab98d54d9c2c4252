"""Blocks of token shards: every token once, documents apart, across files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.batching.blocks import TokenBlocks
from lightning_posttrain.types import UserError

END = 9


def write(folder: Path, *rows: list[int]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.npy" for i in range(len(rows))]
    for path, row in zip(paths, rows, strict=True):
        np.save(path, np.array(row, np.uint16))
    return paths


def blocks(folder: Path, *rows: list[int], length: int = 4, **options) -> TokenBlocks:
    options = {"vocabulary": 10, "cache_dir": str(folder / "cache"), **options}
    return TokenBlocks(write(folder, *rows), length, END, **options)


def test_a_document_begins_with_the_end_of_the_one_before(tmp_path):
    (first, second) = blocks(tmp_path, [1, 2, END, 3, 4, END, 5, 6], length=8)[0][:2]
    assert first.ids.tolist() == [1, 2, END]
    assert second.ids.tolist() == [END, 3, 4, END]
    assert second.supervised.tolist() == [False, True, True, True]


def test_blocks_run_across_files_and_leave_out_the_rest(tmp_path):
    made = blocks(tmp_path, [0, 1, 2], [3, 4, 5, 6, 7, 8], length=4, mask_documents=False)
    assert [made[i][0].ids.tolist() for i in range(len(made))] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert made.tokens == 9
    assert made[1][0].origin.endswith("1.npy block 1")


def test_a_block_is_one_sequence_where_documents_are_not_masked(tmp_path):
    (only,) = blocks(tmp_path, [1, END, END, 2], mask_documents=False)[0]
    assert only.ids.tolist() == [1, END, END, 2]


@given(st.lists(st.integers(0, END), min_size=8, max_size=60), st.integers(2, 8))
def test_every_token_but_a_blocks_first_is_predicted_once(tmp_path_factory, row, length):
    row = [*row, END]  # somewhere a document ends
    made = blocks(tmp_path_factory.mktemp("shards"), row, length=length)
    for i in range(len(made)):
        example = made[i]
        predicted = np.concatenate([s.ids[s.supervised] for s in example])
        assert predicted.tolist() == row[i * length + 1 : (i + 1) * length]
        assert all(s.ids[0] == END for s in example[1:])
        assert all(END not in s.ids[1:-1] for s in example)


def test_an_end_that_never_comes_is_refused(tmp_path):
    rows = [[*range(8)] * 4, [*range(7)] * 3]
    with pytest.raises(UserError, match=r"0\.npy, .*1\.npy: the id 9, .*not in their 53 tokens.*mask_documents: false"):
        blocks(tmp_path, *rows)
    assert len(blocks(tmp_path, *rows, mask_documents=False)) == 13
    assert len(blocks(tmp_path, rows[0], [*rows[1], END])) == 13  # one is enough: a document may be long


def test_ids_beyond_the_vocabulary_name_the_shard(tmp_path):
    with pytest.raises(UserError, match=r"1\.npy: holds the id 10, but the vocabulary has 10 tokens"):
        blocks(tmp_path, [1, 2, 3], [4, 10, 5])


def test_less_than_a_block_is_refused(tmp_path):
    with pytest.raises(UserError, match="3 tokens are less than one block of sequence_length=4"):
        blocks(tmp_path, [1, 2, 3])
    with pytest.raises(UserError, match="sequence_length=1"):
        blocks(tmp_path, [1, 2, 3], length=1)


def test_the_fingerprint_follows_the_content(tmp_path):
    one = blocks(tmp_path / "a", [1, 2, 3, END])
    assert blocks(tmp_path / "b", [1, 2, 3, END]).fingerprint == one.fingerprint
    assert blocks(tmp_path / "c", [1, 3, 2, END]).fingerprint != one.fingerprint
    assert blocks(tmp_path / "a", [1, 2, 3, END], length=2).fingerprint != one.fingerprint
