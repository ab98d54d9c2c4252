"""The data module of pairs: rows of both layouts, several sources in proportion, and the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from lightning_posttrain.cli import main
from lightning_posttrain.datamodules.examples import MixPart
from lightning_posttrain.datamodules.preferences import PreferenceDataModule
from lightning_posttrain.datamodules.sft import SFTDataModule
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.text.spec import ChatSpec
from lightning_posttrain.text.tokenizer import byte_tokenizer
from lightning_posttrain.types import UserError
from tests.conftest import ARCHITECTURE

TOKENIZER = byte_tokenizer()


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def rows(n=8, name="p"):
    return [
        {
            "id": f"{name}{i}",
            "prompt": [user(f"{name} question {i}?")],
            "chosen": [assistant(f"yes {i}")],
            "rejected": [assistant("no")],
        }
        for i in range(n)
    ]


def whole(row):
    return {"id": row["id"], "chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]}


@pytest.fixture
def prepared(write_rows, tmp_path):
    def make(data=None, **options):
        options = {"cache_dir": str(tmp_path / "cache"), **options}
        module = PreferenceDataModule(str(write_rows(data)) if data else None, **options)
        module.prepare(ChatSpec().renderer(TOKENIZER, **module.limits))
        return module

    return make


def test_a_row_becomes_two_sequences_that_share_the_prompt(prepared):
    chosen, rejected = prepared(rows()).train_set[3]
    texts = [TOKENIZER.decode(s.ids[s.supervised]) for s in (chosen, rejected)]
    assert texts == ["yes 3<|im_end|>", "no<|im_end|>"]
    prompt = len(chosen.ids) - int(chosen.supervised.sum())
    assert np.array_equal(chosen.ids[:prompt], rejected.ids[:prompt])
    assert (chosen.id, rejected.id) == ("p3", "p3 (rejected)")
    assert chosen.origin.endswith("rows.jsonl:4")


def test_both_layouts_give_the_same_tokens(prepared):
    one = prepared(rows()).train_set
    other = prepared([whole(r) for r in rows()]).train_set
    for a, b in zip((s for e in one for s in e), (s for e in other for s in e), strict=True):
        assert np.array_equal(a.ids, b.ids)
        assert np.array_equal(a.supervised, b.supervised)


def test_supervise_says_whether_earlier_turns_of_an_answer_count(prepared):
    talk = [user("a?"), assistant("b"), user("c?")]
    row = {"chosen": [*talk, assistant("good")], "rejected": [user("a?"), assistant("x"), user("c?"), assistant("bad")]}
    last, every = (prepared([row], supervise=how).train_set[0] for how in ("last_turn", "all_turns"))
    assert TOKENIZER.decode(last[1].ids[last[1].supervised]) == "bad<|im_end|>"
    assert TOKENIZER.decode(every[1].ids[every[1].supervised]) == "x<|im_end|>bad<|im_end|>"


def test_a_mix_has_the_asked_proportions(prepared, write_rows):
    parts = [
        MixPart(str(write_rows(rows(n, name), f"{name}.jsonl")), weight)
        for n, name, weight in ((9, "a", 3), (9, "b", 1))
    ]
    module = prepared(mix=parts)
    names = [e[0].id[0] for e in module.train_set]
    assert (names.count("a"), names.count("b")) == (9, 3)
    assert module.mixture.report()[parts[0].path]["realised"] == 0.75
    assert module.val_set is None


def test_parts_bring_their_validation_rows(prepared, write_rows):
    path, held = (str(write_rows(rows(n, name), f"{name}.jsonl")) for n, name in ((6, "a"), (4, "v")))
    assert len(prepared(mix=[MixPart(path, val_path=held), MixPart(held, max_repeats=1)]).val_set) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "x", "mix": [MixPart("y")]}, "data.path='x' does not go with data.mix"),
        ({"val_examples": 2, "mix": [MixPart("y")]}, "data.val_examples=2 does not go"),
        ({"mix": []}, "name at least one source"),
        ({"mix": [MixPart("y", task=GSM8K())]}, "pairs are read by their columns"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        PreferenceDataModule(**options)


def test_a_part_of_an_sft_mix_may_have_its_own_task(write_rows, tmp_path):
    problems = [{"question": f"{i}+1?", "answer": f"So {i + 1}.\n#### {i + 1}"} for i in range(4)]
    talks = [{"messages": [user(f"hi {i}"), assistant("hello")]} for i in range(4)]
    parts = [MixPart(str(write_rows(problems, "a.jsonl")), task=GSM8K()), MixPart(str(write_rows(talks, "b.jsonl")))]
    module = SFTDataModule(mix=parts, cache_dir=str(tmp_path / "cache"))
    module.prepare(ChatSpec().renderer(TOKENIZER, **module.limits))
    texts = {TOKENIZER.decode(s.ids[s.supervised]) for (s,) in module.train_set}
    assert texts == {"hello<|im_end|>", *(f"So {i + 1}.\n#### {i + 1}<|im_end|>" for i in range(4))}


def test_dpo_by_the_command_line(write_rows, tmp_path, capsys):
    mix = [{"path": str(write_rows(rows(8, n), f"{n}.jsonl")), "weight": w} for n, w in (("a", 3.0), ("b", 1.0))]
    config = {
        "model": {
            "class_path": "DPOModule",
            "init_args": {
                "architecture": ARCHITECTURE,
                "tokenizer": {"kind": "byte"},
                "loss": {"name": {"sigmoid": 1.0, "sft": 0.1}, "beta": 0.2},
                "reference": {"cached": True, "cache_dir": str(tmp_path / "reference")},
            },
        },
        "data": {
            "class_path": "PreferenceDataModule",
            "init_args": {"mix": mix, "examples_per_step": 4, "cache_dir": str(tmp_path / "cache")},
        },
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, "log_every_n_steps": 1},
    }
    path = tmp_path / "dpo.yaml"
    path.write_text(yaml.safe_dump(config))
    for name, expected in (("one", "computed (cache miss)"), ("two", "from the cache (hit)")):
        assert main(["fit", "-c", str(path), "--run.dir", str(tmp_path / name)]) == 0
        assert expected in capsys.readouterr().err
    facts = json.loads((tmp_path / "one" / "run.json").read_text())
    assert [found["rows"] for found in facts["mixture"].values()] == [8, 2]
    saved = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())
    assert saved["model"]["init_args"]["loss"]["name"] == {"sigmoid": 1.0, "sft": 0.1}
    assert (
        Path(tmp_path / "two" / "model" / "model.safetensors").read_bytes()
        == Path(tmp_path / "one" / "model" / "model.safetensors").read_bytes()
    )


def test_a_part_may_be_some_rows_of_a_file(prepared, write_rows):
    path = str(write_rows([{**row, "level": "easy" if i % 2 else "hard"} for i, row in enumerate(rows())], "a.jsonl"))
    module = prepared(mix=[MixPart(path, where={"level": "easy"}, val_path=path)])
    assert [e[0].id for e in module.train_set] == ["p1", "p3", "p5", "p7"]
    assert len(module.val_set) == 4
    with pytest.raises(UserError, match=r"none of 8 rows has .*'odd'"):
        prepared(mix=[MixPart(path, where={"level": "odd"})])


def test_a_mix_may_have_a_size(prepared, write_rows):
    paths = [str(write_rows(rows(9, name), f"{name}.jsonl")) for name in "ab"]
    assert len(prepared(mix=[MixPart(p) for p in paths], mix_examples=6).train_set) == 6
    with pytest.raises(UserError, match="1 are missing"):
        prepared(mix=[MixPart(p) for p in paths], mix_examples=20)
    assert len(prepared(mix=[MixPart(p, max_repeats=2) for p in paths], mix_examples=20).train_set) == 20
