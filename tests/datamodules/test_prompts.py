"""The data module of prompts: which rows become prompts, what is left out, and which options change what."""

import re

import numpy as np
import pytest

from lightning_posttrain.batching.tree import MIN_SHARED
from lightning_posttrain.datamodules.examples import MixPart
from lightning_posttrain.datamodules.prompts import PromptDataModule
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.text.spec import ChatSpec
from lightning_posttrain.text.tokenizer import byte_tokenizer
from lightning_posttrain.types import UserError

TOKENIZER = byte_tokenizer()


def rows(n=20):
    return [{"question": "x" * i + "?", "answer": f"It is {i}.\n#### {i}"} for i in range(n)]


@pytest.fixture
def prepared(write_rows):
    def make(data=None, **options):
        module = PromptDataModule(str(write_rows(data or rows())), GSM8K(), **options)
        module.prepare(ChatSpec().renderer(TOKENIZER))
        return module

    return make


def keys(source) -> list[int]:
    return [source[i].key for i in range(len(source))]


def test_a_row_becomes_a_prompt_that_ends_where_the_answer_begins(prepared):
    prompt = prepared().train_set[3]
    text = TOKENIZER.decode(prompt.ids)
    assert text.endswith("<|im_start|>user\nxxx?<|im_end|>\n<|im_start|>assistant\n")
    assert prompt.ids.dtype == np.int32
    assert prompt.key == 3
    assert prompt.record.origin.endswith("rows.jsonl:4")
    assert prompt.record.answer == "It is 3.\n#### 3"


def test_the_first_examples_are_those_of_the_file(prepared):
    assert keys(prepared().train_set) == list(range(20))
    assert keys(prepared(first_examples=7).train_set) == list(range(7))
    assert keys(prepared(first_examples=20).train_set) == list(range(20))
    with pytest.raises(UserError, match="first_examples=21, but there are 20 rows"):
        prepared(first_examples=21)


def test_rows_after_the_first_examples_are_not_read(prepared):
    bad = {"question": "?", "answer": "no number"}
    assert len(prepared([*rows(3), bad], first_examples=3).train_set) == 3
    with pytest.raises(UserError, match=r"rows.jsonl:4"):
        prepared([*rows(3), bad])


def test_a_sample_is_drawn_by_seed_and_keeps_the_rows_keys(prepared):
    some = keys(prepared(max_examples=6, seed=1).train_set)
    assert some == sorted(set(some))
    assert len(some) == 6
    assert keys(prepared(max_examples=6, seed=1).train_set) == some
    assert keys(prepared(max_examples=6, seed=2).train_set) != some
    assert max(keys(prepared(max_examples=6, first_examples=8).train_set)) < 8
    with pytest.raises(UserError, match="max_examples=21"):
        prepared(max_examples=21)


def test_long_prompts_are_left_out_and_counted(prepared, capsys):
    lengths = [len(prepared().train_set[i].ids) for i in range(20)]
    assert lengths == list(range(lengths[0], lengths[0] + 20))
    module = prepared(max_prompt_tokens=lengths[4])
    assert keys(module.train_set) == [0, 1, 2, 3, 4]
    assert f"rows.jsonl: 15 of 20 prompts left out, above {lengths[4]} tokens" in capsys.readouterr().err
    assert len(prepared(max_prompt_tokens=lengths[-1]).train_set) == 20
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=f"every prompt has more than {lengths[0] - 1} tokens"):
        prepared(max_prompt_tokens=lengths[0] - 1)


@pytest.mark.parametrize(("quantile", "kept"), [(0.5, 11), (0.9, 19), (1.0, 20), (0.01, 2)])
def test_a_quantile_of_the_lengths_leaves_the_longest_out(prepared, quantile, kept):
    module = prepared(max_prompt_quantile=quantile)  # e.g. 0.5: the median of 0..19 is 9.5, down to 9, plus one
    assert keys(module.train_set) == list(range(kept))


def test_a_quantile_of_equal_lengths_leaves_nothing_out(prepared):
    same = [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(9)]
    assert len(prepared([{**r, "answer": "so\n" + r["answer"]} for r in same], max_prompt_quantile=0.1).train_set) == 9


def test_lengths_are_measured_before_a_sample_is_drawn(prepared):
    module = prepared(max_prompt_quantile=0.5, max_examples=11)
    assert keys(module.train_set) == list(range(11))


def test_options_reach_the_loader(prepared):
    batch = next(iter(prepared(prompts_per_step=3, tokens_per_micro=99, shuffle=False).train_dataloader()))
    assert [p.key for p in batch.prompts] == [0, 1, 2]
    assert (batch.tokens_per_micro, batch.min_shared) == (99, MIN_SHARED)
    assert next(iter(prepared(share_prefixes=False).train_dataloader())).min_shared > 1e6
    orders = [[p.key for b in prepared(seed=s).train_dataloader() for p in b.prompts] for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(20))
    assert prepared().val_dataloader() == prepared().test_dataloader() == []


def test_fingerprints_name_the_content(prepared):
    first = prepared().fingerprints()
    changed = rows()
    changed[0]["question"] = "other"
    assert prepared(changed).fingerprints()["train"] != first["train"]
    assert prepared(first_examples=19).fingerprints()["train"] != first["train"]
    assert prepared().fingerprints() == first
    assert PromptDataModule("x", GSM8K()).fingerprints() == {}


def test_preparing_twice_reads_once(prepared):
    module = prepared()
    before, module.path = module.train_set, "gone.jsonl"
    module.prepare(ChatSpec().renderer(TOKENIZER))
    assert module.train_set is before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_prompt_tokens": 9, "max_prompt_quantile": 0.9}, "not both"),
        ({"max_prompt_quantile": 0.0}, "max_prompt_quantile=0.0: use a share in (0, 1]"),
        ({"max_prompt_quantile": 90}, "max_prompt_quantile=90"),
    ],
)
def test_lengths_that_make_no_sense(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        PromptDataModule("x", GSM8K(), **options)


def test_an_unprepared_module_says_so():
    with pytest.raises(UserError, match="prepare"):
        PromptDataModule("x", GSM8K()).train_dataloader()


def test_a_mix_of_prompts_has_keys_of_its_own(write_rows):
    parts = [MixPart(str(write_rows(rows(n), f"{n}.jsonl")), weight) for n, weight in ((6, 2.0), (8, 1.0))]
    module = PromptDataModule(task=GSM8K(), mix=parts)
    module.prepare(ChatSpec().renderer(TOKENIZER))
    found = keys(module.train_set)
    assert len(found) == len(set(found)) == 9
    assert sum(key < 6 for key in found) == 6
    assert module.mixture.report()[parts[1].path]["rows"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": [MixPart("x", max_repeats=2)]}, "prompts repeat by epochs"),
        ({"mix": [MixPart("x")], "path": "y"}, "data.path='y' does not go with data.mix"),
    ],
)
def test_a_mix_that_cannot_be_meant_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        PromptDataModule(task=GSM8K(), **options)


def test_path_and_task_are_needed_without_a_mix():
    for options, named in (({"task": GSM8K()}, "data.path=null"), ({"path": "x"}, "data.task=null")):
        with pytest.raises(UserError, match=named):
            PromptDataModule(**options).prepare(ChatSpec().renderer(TOKENIZER))
