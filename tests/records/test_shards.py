"""Token shards: what is found, what is counted, and what is refused."""

import json

import numpy as np
import pytest

from lightning_posttrain.records.shards import ShardWriter, count_tokens, open_shard, shard_facts, shard_files
from lightning_posttrain.types import UserError


def test_shards_are_found_by_file_folder_and_pattern(tmp_path):
    for name in ("b.npy", "a.npy"):
        np.save(tmp_path / name, np.arange(3, dtype=np.uint16))
    (tmp_path / "notes.txt").write_text("x")
    both = [tmp_path / "a.npy", tmp_path / "b.npy"]
    assert shard_files([str(tmp_path)]) == both
    assert shard_files([f"{tmp_path}/*.npy"]) == both
    assert shard_files([str(tmp_path / "b.npy"), str(tmp_path / "a.npy")]) == both[::-1]
    with pytest.raises(UserError, match="nothing-here"):
        shard_files([str(tmp_path / "nothing-here")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds none"):
        shard_files([str(tmp_path / "empty")])


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_bare_numbers_and_arrays_hold_the_same(tmp_path, dtype):
    ids = np.array([1, 2, 40_000], dtype)
    np.save(tmp_path / "a.npy", ids)
    ids.tofile(tmp_path / "a.bin")
    for name in ("a.npy", "a.bin"):
        assert open_shard(tmp_path / name, dtype).tolist() == ids.tolist()
        assert count_tokens(tmp_path / name, dtype) == 3
        facts = shard_facts(tmp_path / name, 2, dtype, str(tmp_path / "cache"))
        assert (facts.tokens, facts.largest, facts.ends) == (3, 40_000, 1)


def test_facts_are_kept_and_follow_the_file(tmp_path):
    path, cache = tmp_path / "a.npy", str(tmp_path / "cache")
    np.save(path, np.array([1, 2], np.uint16))
    first = shard_facts(path, 3, cache_dir=cache)
    kept = list((tmp_path / "cache").iterdir())
    assert shard_facts(path, 3, cache_dir=cache) == first
    assert list((tmp_path / "cache").iterdir()) == kept
    np.save(path, np.array([1, 3, 3], np.uint16))
    assert shard_facts(path, 3, cache_dir=cache).largest == 3
    assert [shard_facts(path, end, cache_dir=cache).ends for end in (3, 1, 7)] == [2, 1, 0]


def test_cut_off_files_are_refused_by_name(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(100, dtype=np.uint16))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-7])
    (tmp_path / "b.bin").write_bytes(b"abc")
    (tmp_path / "c.npy").write_bytes(whole[:20])
    for name in ("a.npy", "b.bin", "c.npy", "missing.npy"):
        with pytest.raises(UserError, match=name):
            open_shard(tmp_path / name)


def test_bare_numbers_are_no_npy_file_and_told_how_to_be_read(tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    np.full(5000, 7, np.uint32).tofile(tmp_path / "olmo.npy")
    for name in ("text", "olmo"):
        with pytest.raises(UserError, match=rf"{name}\.npy: is no token shard .*no \.npy header.*rename.*to \.bin"):
            open_shard(tmp_path / f"{name}.npy", "uint32")
    (tmp_path / "olmo.npy").rename(tmp_path / "olmo.bin")
    assert open_shard(tmp_path / "olmo.bin", "uint32").tolist() == [7] * 5000


@pytest.mark.parametrize(("magic", "dtype"), [(20240520, "uint16"), (20240801, "uint32")])
def test_the_header_of_llm_c_is_no_text(tmp_path, magic, dtype):
    header = np.zeros(256, "<i4")
    header[:3] = magic, 1, 1000
    ids = np.arange(1000).astype(dtype)
    path = tmp_path / "a.bin"
    path.write_bytes(header.tobytes() + ids.tobytes())
    for told in ("uint16", "uint32"):  # the header knows better
        assert open_shard(path, told).tolist() == ids.tolist()
        facts = shard_facts(path, 9, told, str(tmp_path / "cache"))
        assert (facts.tokens, facts.largest, facts.ends) == (1000, 999, 1)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"a\.bin: is no token shard \(its header of llm\.c counts 1000 tokens"):
        open_shard(path)


def test_numbers_of_four_bytes_are_not_read_as_two(tmp_path):
    path = tmp_path / "a.bin"
    for largest in (300, 65_535, 100_278, 1_000_000):  # the upper halves are 0, 0 and 1, 0 to 15
        ids = np.random.default_rng(0).integers(0, largest, 5000).astype(np.uint32)
        ids.tofile(path)
        with pytest.raises(UserError, match=r"a\.bin: every second number is \d+ or less.*set dtype: uint32"):
            open_shard(path)
        assert (open_shard(path, "uint32") == ids).all()
    for size in (300, 50_000):
        np.random.default_rng(0).integers(0, size, 5000).astype(np.uint16).tofile(path)
        assert len(open_shard(path)) == 5000


def test_a_manifest_says_the_dtype(tmp_path):
    np.arange(8, dtype=np.uint32).tofile(tmp_path / "a.bin")
    (tmp_path / "manifest.json").write_text(json.dumps({"dtype": "uint32"}))
    assert open_shard(tmp_path / "a.bin", "uint32").tolist() == list(range(8))
    with pytest.raises(
        UserError, match=r"a\.bin: is read as uint16, but manifest\.json beside it says uint32; set dtype"
    ):
        open_shard(tmp_path / "a.bin")


def test_other_arrays_are_no_shards(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros(3, np.float32))
    np.save(tmp_path / "m.npy", np.zeros((2, 2), np.uint16))
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("f.npy", "m.npy", "o.npy"):
        with pytest.raises(UserError, match=name):
            open_shard(tmp_path / name)
    with pytest.raises(UserError, match="int64"):
        open_shard(tmp_path / "x.bin", "int64")


def test_the_writer_ends_documents_and_begins_new_shards(tmp_path):
    writer = ShardWriter(tmp_path, end=7, vocabulary=300, shard_tokens=4)
    for ids in ([1, 2], [3, 4], [], [5]):
        writer.add(ids)
    assert writer.close() == {"tokens": 9, "documents": 4, "shards": 2, "dtype": "uint16", "end_of_text": 7}
    rows = [np.load(path).tolist() for path in sorted(tmp_path.iterdir())]
    assert rows == [[1, 2, 7, 3, 4, 7], [7, 5, 7]]
    assert ShardWriter(tmp_path, 0, 70_000).dtype is np.uint32
