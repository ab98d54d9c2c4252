"""Templates that change earlier turns, from rows to steps and predictions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightning_posttrain.batching.sources import PromptWeighted
from lightning_posttrain.cli import main
from lightning_posttrain.datamodules.prompts import PromptDataModule
from lightning_posttrain.datamodules.sft import SFTDataModule, last_prompt
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.text.spec import ChatSpec
from lightning_posttrain.text.tokenizer import byte_tokenizer
from lightning_posttrain.types import Message, UserError

TEMPLATES = Path(__file__).parents[1] / "real" / "templates"
QWEN3 = str(TEMPLATES / "qwen3_thinking.jinja")
TALK = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\n4"},
    {"role": "user", "content": "And one?"},
    {"role": "assistant", "content": "<think>\nOne more.\n</think>\n\n5"},
]


def rows(n=6):
    return [{"id": f"r{i}", "messages": [{**TALK[0], "content": f"2+{i}?"}, *TALK[1:]]} for i in range(n)]


@pytest.fixture
def prepared(write_rows, tmp_path):
    def make(data=None, template=QWEN3, **options):
        options = {"examples_per_step": 3, "tokens_per_micro": 2000, "cache_dir": str(tmp_path / "cache")} | options
        module = SFTDataModule(str(write_rows(data or rows())), **options)
        module.prepare(ChatSpec(template=template).renderer(byte_tokenizer(), **module.limits))
        return module

    return make


def test_answers_of_a_row_are_sequences_that_share_their_beginning(prepared, capsys):
    module = prepared()
    step = next(iter(module.train_dataloader()))
    assert (step.num_examples, step.num_sequences) == (3, 6)
    assert sum(m.layout.num_tokens for m in step.micros) < sum(int(m.lengths.sum()) for m in step.micros)
    assert "6 of 6 rows: earlier turns change" in capsys.readouterr().err
    assert len({s.id for i in range(6) for s in module.train_set[i]}) == 12


def test_a_row_needs_no_more_memory_than_its_longest_answer(prepared):
    """The sequences of a row may lie in different micro-batches, and the step stays the same."""
    module = prepared()
    longest = max(len(s.ids) for i in range(6) for s in module.train_set[i])
    together = next(iter(module.train_dataloader()))
    apart = next(iter(prepared(tokens_per_micro=longest).train_dataloader()))
    assert len(apart.micros) > len(together.micros)
    assert (apart.num_tokens, apart.num_examples) == (together.num_tokens, together.num_examples)
    assert sorted(i for m in apart.micros for i in m.ids) == sorted(i for m in together.micros for i in m.ids)


def test_a_prompt_that_two_answers_of_a_row_share_weighs_once(prepared):
    first, second = PromptWeighted(prepared().train_set, 0.5)[0]
    shared = next(n for n, (a, b) in enumerate(zip(first.ids, second.ids, strict=False)) if a != b)
    assert first.supervised[1:].all()
    assert second.supervised.tolist() == [n >= shared for n in range(len(second.ids))]
    for sequence in (first, second):
        assert len(sequence.columns["weight"]) == sequence.supervised.sum()
        assert set(sequence.columns["weight"].tolist()) == {0.5, 1.0}


def test_the_last_turn_alone_gives_one_sequence(prepared, capsys):
    module = prepared(supervise="last_turn")
    assert [len(module.train_set[i]) for i in range(6)] == [1] * 6
    assert "rows:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("user", "q"), ("assistant", "a")], [("user", "q")]),
        (
            [("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")],
            [("user", "q"), ("assistant", "a"), ("user", "r")],
        ),
        ([("user", "q"), ("assistant", "a"), ("assistant", "b")], [("user", "q")]),
        ([("user", "q"), ("assistant", "a"), ("user", "r")], [("user", "q")]),
    ],
)
def test_what_is_predicted_is_the_last_answer(messages, expected):
    found = last_prompt([Message(role, content) for role, content in messages])
    assert [(m.role, m.content) for m in found] == expected
    begun = [Message("user", "q"), Message("assistant", "It is 4.", prefill=5)]
    assert last_prompt(begun)[-1].content == "It is"


def config_of(folder, data, **init):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    architecture = {
        **{"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512},
    }
    model = {"architecture": architecture, "tokenizer": {"kind": "byte"}, "chat": {"template": QWEN3}}
    path = {"path": str(folder / "rows.jsonl"), "cache_dir": str(folder / "cache"), "examples_per_step": 3}
    config = {
        "model": {"class_path": "SFTModule", "init_args": {**model, "sampling": {"max_new_tokens": 3}}},
        "data": {"class_path": "SFTDataModule", "init_args": {**path, **init}},
        "trainer": {"accelerator": "cpu", "max_steps": 2, "enable_progress_bar": False},
        "run": {"dir": str(folder / "run")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "config.yaml")


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


@pytest.mark.parametrize("supervise", ["all_turns", "last_turn"])
def test_fit_preview_and_predict(tmp_path, capsys, supervise):
    begun = {"prompt": [TALK[0], {"role": "assistant", "content": "The answer"}], "completion": " is 4."}
    config = config_of(tmp_path, [*rows(), {"messages": TALK[:2], "tools": [TOOL]}, begun], supervise=supervise)
    assert main(["preview", "-c", config, "--rows", "2", "--color", "never"]) == 0
    assert ("sequence of its own" in capsys.readouterr().out) == (supervise == "all_turns")
    assert main(["fit", "-c", config]) == 0
    assert main(["predict", "-c", config, "--run.dir", str(tmp_path / "answers")]) == 0
    (file,) = (tmp_path / "answers").rglob("predictions*.jsonl")
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(found) == 8
    assert [m["role"] for m in found[0]["prompt"]] == ["user", "assistant", "user"]
    assert found[7]["prompt"][-1] == {"role": "assistant", "content": "The answer"}


def test_preference_rows_and_prompts(write_rows, tmp_path):
    module = PromptDataModule(str(write_rows([{"question": "2+2?", "answer": "#### 4"}])), GSM8K())
    renderer = ChatSpec(template=str(TEMPLATES / "deepseek_r1.jinja")).renderer(byte_tokenizer())
    module.prepare(renderer)
    assert byte_tokenizer().decode(module.train_set[0].ids).endswith("<｜Assistant｜><think>\n")
    bad = PromptDataModule(str(write_rows([{"question": "<|pad|>?", "answer": "#### 4"}])), GSM8K())
    with pytest.raises(UserError, match=r"rows.jsonl:1: message 0 .* special token"):
        bad.prepare(renderer)


@pytest.mark.e2e
def test_two_processes_tokenise_in_a_fresh_interpreter(tmp_path, write_rows):
    """Nothing but the library is imported, as in a user's first script."""
    script = (
        "from lightning_posttrain.datamodules.sft import SFTDataModule\n"
        "from lightning_posttrain.text.spec import ChatSpec\n"
        "from lightning_posttrain.text.tokenizer import byte_tokenizer\n"
        "if __name__ == '__main__':\n"
        f"    data = SFTDataModule({str(write_rows(rows()))!r}, num_workers=2, cache_dir={str(tmp_path / 'cache')!r})\n"
        "    data.prepare(ChatSpec().renderer(byte_tokenizer()))\n"
        "    print(len(data.train_set), int(data.train_set.lengths.sum()))\n"
    )
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "6"
