"""Rows in chunks: the same examples as one by one, in few calls of the tokenizer, each error with its own row."""

import json

import numpy as np
import pytest
from formats import renderer_for

from lightning_posttrain.datamodules.preferences import RowPair
from lightning_posttrain.datamodules.sft import RowExample
from lightning_posttrain.text.cache import tokenise
from lightning_posttrain.types import UserError


def row(i):
    turns = [{"role": role, "content": f"{role} {i} {j}"} for j in range(3) for role in ("user", "assistant")]
    return {"messages": [{"role": "system", "content": "The same for all."}, *turns]}


ROWS = [(row(i), f"f.jsonl:{i + 1}") for i in range(40)]
BAD = [({"messages": []}, "f.jsonl:41"), ({"prompt": "<|pad|>", "completion": "a"}, "f.jsonl:42")]


@pytest.mark.parametrize("name", ["chatml", "qwen3"])
def test_many_rows_are_as_one_by_one(name):
    maker = RowExample(None, renderer_for(name))
    found = maker.many([*ROWS[:20], *BAD, *ROWS[20:]])
    assert [str(e)[:11] for e in found if isinstance(e, UserError)] == ["f.jsonl:41:", "f.jsonl:42:"]
    examples = [e for e in found if not isinstance(e, UserError)]
    for example, (one, origin) in zip(examples, ROWS, strict=True):
        for a, b in zip(example, maker(one, origin), strict=True):
            assert (a.ids.tolist(), a.supervised.tolist(), a.id, a.origin) == (
                *(b.ids.tolist(), b.supervised.tolist(), b.id, b.origin),
            )


def counted(maker, monkeypatch):
    """Texts of each call of the tokenizer for the rows, and how often the template is rendered."""
    from lightning_posttrain.text import chat_text, pieces

    called, rendered = [], []
    many, render = pieces.PieceEncoder._many, chat_text.ChatText._render
    monkeypatch.setattr(pieces.PieceEncoder, "_many", lambda self, texts: called.append(texts) or many(self, texts))
    monkeypatch.setattr(chat_text.ChatText, "_render", lambda *args: rendered.append(args) or render(*args))
    assert maker.many(ROWS)
    return called, len(rendered)


def test_a_chunk_is_one_call_and_what_rows_share_is_encoded_once(monkeypatch):
    (texts,), rendered = counted(RowExample(None, renderer_for()), monkeypatch)
    assert len(set(texts)) == len(texts)
    system = [text for text in texts if "The same for all" in text]
    assert len(system) == 1
    assert sum(map(len, texts)) < 2 * sum(len(m["content"]) + 10 for r, _ in ROWS for m in r["messages"])
    assert rendered == 2 * 3 * len(ROWS)  # before and after each answer


def test_pairs():
    rows = [({"prompt": f"q {i}", "chosen": "good", "rejected": "bad"}, f"f:{i}") for i in range(30)]
    maker = RowPair(renderer_for())
    (chosen, rejected), *_ = maker.many(rows)
    assert (chosen.id, rejected.id) == (chosen.id, f"{chosen.id} (rejected)")
    assert chosen.ids[chosen.supervised].tolist()[:4] == list(b"good")
    with pytest.raises(UserError, match=r"^f:1: earlier turns change.*a pair compares one of each"):
        RowPair(renderer_for("qwen3"))(
            {"chosen": talks("a", "b"), "rejected": talks("c", "d")},
            "f:1",
        )


def talks(*said):
    return [m for text in said for m in ({"role": "user", "content": "q"}, {"role": "assistant", "content": text})]


@pytest.mark.parametrize("workers", [0, 2])
def test_notes_are_counted_and_kept(tmp_path, workers):
    made = tokenise(ROWS, RowExample(None, renderer_for("qwen3")), f"key {workers}", tmp_path, num_workers=workers)
    again = tokenise([], RowExample(None, renderer_for("qwen3")), f"key {workers}", tmp_path)
    for data in (made, again):
        assert sorted(data.notes.values()) == [len(ROWS), len(ROWS)]
        assert any("sequence of its own" in note for note in data.notes)
    assert len(made[0]) == 3
    assert made.lengths[0] == sum(len(s.ids) for s in made[0])
    assert np.array_equal(made[5][1].ids, RowExample(None, renderer_for("qwen3"))(*ROWS[5])[1].ids)
    assert json.loads((made.folder / "meta.json").read_text())["notes"] == made.notes
