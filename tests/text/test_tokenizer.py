"""Home-made tokenizers round-trip, are deterministic and survive saving; loading and stop tokens refuse nonsense."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, GenerationConfig

from lightning_posttrain.text.tokenizer import (
    TokenizerSpec,
    build_tokenizer,
    byte_tokenizer,
    load_tokenizer,
    stop_ids,
    tokenizer_fingerprint,
    train_bpe,
)
from lightning_posttrain.types import UserError

BYTES = byte_tokenizer()
BPE = train_bpe(["the cat sat on the mat, 12 times. "] * 50, 300)
WHOLE = ["<think>", "</think>", "####", "the cat", "答え", "<think>\n"]
TAGGED = train_bpe(["the cat sat on the mat, 12 times. #### 4 "] * 50, 300, whole=WHOLE)


def plain_ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@settings(max_examples=200, deadline=None)
@given(st.text().filter(lambda text: "<|" not in text))  # the special tokens' texts are theirs
@example(" a  b . , 's \r\n\t\x00 \u2028 \ufeff é 😀 ")
def test_every_text_round_trips(text):
    ids = plain_ids(BYTES, text)
    assert ids == list(text.encode())  # the id of a byte is its value
    assert BYTES.decode(ids) == text
    assert BPE.decode(plain_ids(BPE, text)) == text


@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["byte", "bpe"])
def test_special_tokens_are_four_different_ids_inside_the_vocabulary(tokenizer):
    special = tokenizer.convert_tokens_to_ids(["<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>"])
    assert [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id] == [special[0], *special[1::2]]
    assert len(set(special)) == 4
    assert max(special) < len(tokenizer)
    assert tokenizer("a")["input_ids"] == [tokenizer.bos_token_id, *plain_ids(tokenizer, "a")]


@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["byte", "bpe"])
def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(tokenizer)
        assert loaded.chat_template == tokenizer.chat_template
        text = "the cat é <|im_end|> 's  12"
        assert plain_ids(loaded, text) == plain_ids(tokenizer, text)
        assert loaded.decode(plain_ids(loaded, text)) == text


def test_bpe_is_deterministic_and_keeps_digits_apart():
    assert tokenizer_fingerprint(train_bpe(["ab abc 1"] * 9, 270)) == tokenizer_fingerprint(
        train_bpe(["ab abc 1"] * 9, 270)
    )
    numbers = train_bpe(["year 2024 2024 2024"] * 50, 300)
    assert numbers.convert_ids_to_tokens(plain_ids(numbers, "year2024"))[-4:] == ["2", "0", "2", "4"]
    assert len(plain_ids(BPE, "the mat")) == 2
    assert len(BPE) <= 300


def test_bpe_refuses_too_few_tokens_and_no_text():
    with pytest.raises(UserError, match=r"vocab_size is 259.*need 260"):
        train_bpe(["a"], 259)
    for texts in ([], [""]):
        with pytest.raises(UserError, match="no text"):
            train_bpe(texts, 300)


def corpus(tmp_path):
    jsonl, table, text = tmp_path / "a.jsonl", tmp_path / "b.csv", tmp_path / "c.txt"
    row = {"n": 1, "messages": [{"role": "user", "content": "zebra zebra zebra"}], "gone": None}
    jsonl.write_text("\n".join([json.dumps(row)] * 20) + "\n\n", encoding="utf-8")
    table.write_text("q,a\n" + "giraffe giraffe,x\n" * 20, encoding="utf-8")
    text.write_text("elephant elephant\n" * 20, encoding="utf-8")
    return [str(p) for p in (jsonl, table, text)]


def test_a_trained_tokenizer_uses_every_string_and_is_cached(tmp_path):
    spec = TokenizerSpec(kind="bpe", corpus=corpus(tmp_path), vocab_size=300, cache_dir=str(tmp_path / "cache"))
    first = build_tokenizer(spec)
    for word in ("zebra", "giraffe", "elephant"):
        assert len(plain_ids(first, word)) <= 2
    (folder,) = (tmp_path / "cache").iterdir()
    written = (folder / "tokenizer.json").stat().st_mtime_ns
    assert tokenizer_fingerprint(build_tokenizer(spec)) == tokenizer_fingerprint(first)
    assert (folder / "tokenizer.json").stat().st_mtime_ns == written
    (tmp_path / "c.txt").write_text("crocodile\n" * 20, encoding="utf-8")
    assert tokenizer_fingerprint(build_tokenizer(spec)) != tokenizer_fingerprint(first)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # and no temporary folder


def test_whole_texts_are_one_token_each_and_text_like_any_other():
    tokenizer = TAGGED
    assert len(tokenizer) <= 300
    assert len(train_bpe(["a cat"] * 9, 266, whole=WHOLE)) == 266  # no room for merges
    for text in WHOLE:
        (token,) = plain_ids(tokenizer, text)
        assert tokenizer.decode([token]) == tokenizer.decode([token], skip_special_tokens=True) == text
        assert token not in tokenizer.all_special_ids
    assert len(tokenizer.all_special_ids) == 4
    text = "<think>\nthe cat</think> a<think>b #### 12答え é"
    ids = plain_ids(tokenizer, text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) == text
    assert ids[:3] == [plain_ids(tokenizer, t)[0] for t in ("<think>\n", "the cat", "</think>")]
    assert len(plain_ids(BPE, "</think>")) > 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([*WHOLE, "<", "think", " ", "é", "4", "\n"])).map("".join))
def test_texts_with_whole_ones_in_them_round_trip(text):
    assert TAGGED.decode(plain_ids(TAGGED, text)) == text


def test_whole_texts_are_part_of_the_cached_tokenizers_name(tmp_path):
    options = {"kind": "bpe", "corpus": corpus(tmp_path), "vocab_size": 300, "cache_dir": str(tmp_path / "cache")}
    specs = [TokenizerSpec(**options, whole=whole) for whole in ([], ["<a>"], ["<b>"], ["<a>", "<b>"], ["<b>", "<a>"])]
    made = [tokenizer_fingerprint(build_tokenizer(spec)) for spec in specs]
    assert len(set(made)) == len(specs) == len(list((tmp_path / "cache").iterdir()))
    again = build_tokenizer(specs[3])
    assert tokenizer_fingerprint(again) == made[3]
    assert [len(plain_ids(again, t)) for t in ("<a>", "<b>", "<c>")] == [1, 1, 3]
    assert again.decode(plain_ids(again, "<a>1<b>"), skip_special_tokens=True) == "<a>1<b>"


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (["<a>", "<a>"], "different texts, none empty"),
        (["<a>", ""], "different texts, none empty"),
        (["<réponse>"], "decoded as"),
        ([f"<{i}>" for i in range(41)], "vocab_size is 300.*need 301"),
    ],
)
def test_whole_texts_that_make_no_sense(whole, message):
    with pytest.raises(UserError, match=message):
        train_bpe(["a cat"], 300, whole=whole)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TokenizerSpec(), "Give one"),
        (TokenizerSpec(source="x", kind="byte"), "Give one"),
        (TokenizerSpec(kind="bpe"), "`corpus`"),
        (TokenizerSpec(kind="bpe", corpus=["nowhere.txt"]), "'nowhere.txt' cannot be read"),
        (TokenizerSpec(kind="byte", pad_token="<|bos|>"), "needs a `source`"),
    ],
)
def test_specs_that_make_no_sense(spec, message):
    with pytest.raises(UserError, match=message):
        build_tokenizer(spec)
    assert len(build_tokenizer(TokenizerSpec(kind="byte"))) == 260


def test_a_broken_corpus_names_file_and_line(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": "b"}\n{"a": ', encoding="utf-8")
    spec = TokenizerSpec(kind="bpe", corpus=[str(file)], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"a\.jsonl: line 2: "):
        build_tokenizer(spec)
    assert not (tmp_path / "cache").exists()


def test_loading_what_is_no_tokenizer(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer could be loaded.*kind: byte"):
        load_tokenizer(tmp_path)


def test_another_pad_token(tmp_path):
    BYTES.save_pretrained(tmp_path)
    assert build_tokenizer(TokenizerSpec(source=str(tmp_path), pad_token="<|im_start|>")).pad_token_id == 258
    with pytest.raises(UserError, match="pad_token '<unused>' is not in the tokenizer's vocabulary"):
        load_tokenizer(tmp_path, pad_token="<unused>")


def test_stop_ids_from_every_source():
    assert stop_ids(BYTES) == {259}
    assert stop_ids(BYTES, GenerationConfig(eos_token_id=7)) == {7, 259}
    assert stop_ids(BYTES, GenerationConfig(eos_token_id=[7, 8]), extra=[9, "<|im_start|>"]) == {7, 8, 9, 258, 259}
    with pytest.raises(UserError, match=r"stop token '<\|eot\|>' is not in"):
        stop_ids(BYTES, extra=["<|eot|>"])
    none = byte_tokenizer()
    none.eos_token = None
    with pytest.raises(UserError, match="no token ends an answer"):
        stop_ids(none)
