"""`preview` shows exactly the tokens that are trained, in every form, and the step as it is packed."""

import html
import json
import re

import numpy as np
import pytest

from lightning_posttrain.cli import main
from lightning_posttrain.commands.runs import fit_args
from lightning_posttrain.reports.preview import example_lengths, preview
from lightning_posttrain.reports.tokens import BOUNDARY, CLOSE, OPEN, TokenReader, as_html, as_plain, as_rich
from lightning_posttrain.reports.visible import visible
from lightning_posttrain.text.tokenizer import byte_tokenizer, train_bpe
from lightning_posttrain.trainer_cli import load_run
from lightning_posttrain.types import Sequence
from tests.commands.conftest import write_config


@pytest.fixture
def loaded(tmp_path):
    """Module and prepared data of a small configuration."""
    with fit_args(["-c", str(write_config(tmp_path))]) as words:
        module, data = load_run(words)
    data.prepare(module.training_renderer(**data.limits))
    return module, data


def parse_plain(text):
    """(token, trained) pairs out of the plain form."""
    tokens, trained, current = [], False, ""
    for c in text + BOUNDARY:
        if c in (BOUNDARY, OPEN, CLOSE):
            if current:
                tokens.append((current, trained))
            current, trained = "", c == OPEN or (c == BOUNDARY and trained)
        else:
            current += c
    return tokens


def parse_html(text):
    spans = re.findall(r'<span class="t ([su])[01]( special)?">(.*?)</span>', text, re.DOTALL)
    return [(html.unescape(token), kind == "s") for kind, _, token in spans]


def parse_rich(text):
    return [(text.plain[s.start : s.end], "green" in s.style) for s in text.spans]


def test_trained_tokens_are_those_of_the_sequence_in_every_form(loaded):
    module, data = loaded
    reader = TokenReader(module.tokenizer)
    for i in range(len(data.train_set)):
        (sequence,) = data.train_set[i]
        expected = [
            (visible(module.tokenizer.decode([t])), bool(s))
            for t, s in zip(sequence.ids.tolist(), sequence.supervised, strict=True)
        ]
        views = reader.views(sequence)
        assert parse_plain(as_plain(views)) == expected
        assert parse_html(as_html(views)) == expected
        assert parse_rich(as_rich(views)) == expected
        assert any(trained for _, trained in expected)


def test_the_command_prints_the_real_rows(tmp_path, capsys):
    assert main(["preview", "-c", str(write_config(tmp_path)), "--rows", "2", "--color", "never"]) == 0
    out = capsys.readouterr().out
    assert out.count("\nrow ") == 2
    shown = re.search(rf"{OPEN}(I.*?){CLOSE}", out, re.DOTALL)[1].replace(BOUNDARY, "")
    assert re.fullmatch(r"It is \d+\.↵\n#### \d+<\|im_end\|>", shown)
    assert "8 to train on, 0 bad ones skipped, 0 dropped" in out
    assert "steps per epoch  2 of 4 rows" in out
    assert "validation       2 rows" in out
    assert "\x1b" not in out


def test_colours_on_demand(tmp_path, capsys):
    assert main(["preview", "-c", str(write_config(tmp_path)), "--rows", "1", "--color", "always"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert OPEN not in out


def test_options_of_fit_change_what_is_shown(tmp_path, capsys):
    config = str(write_config(tmp_path))
    options = ["--data.max_length=72", "--data.overlong=drop", "--data.examples_per_step=3", "--data.val_examples=0"]
    assert main(["preview", "-c", config, *options, "--data.supervise=all_tokens"]) == 0
    out = capsys.readouterr().out
    used, dropped = map(int, re.search(r"rows +(\d+) to train on, 0 bad ones skipped, (\d+) dropped", out).groups())
    assert used + dropped == 10
    assert dropped
    assert f"{used // 3 + (used % 3 > 0)} of 3 rows" in out
    assert f"<|bos|>{OPEN}<|im_start|>" in out


def test_the_tree_adds_up(loaded):
    module, data = loaded
    data.tokens_per_micro = 150
    found = preview(data, module.tokenizer, 1, 1)
    facts = dict(found.facts)
    sizes = [int(re.search(r"(\d+) distinct", tree)[1]) for tree in found.trees]
    nodes = [sum(int(n) for n in re.findall(r"─ (\d+) tokens", tree)) for tree in found.trees]
    assert sizes == nodes
    assert f"{sum(sizes):,} distinct" in facts["tokens"]
    assert facts["step"] == "1 (epoch 0, batch 1): 4 rows"
    assert f"{len(sizes)} of at most {max(sizes)} tokens" in facts["micro-batches"]
    ids = re.findall(r"(\S+) \(\d+ trained\)", "\n".join(found.trees))
    assert len(ids) == len(set(ids)) == 4
    shared = [int(n) for n in re.findall(r"shared by (\d+) sequences", found.trees[0])]
    assert shared[0] == int(re.search(r"(\d+) sequences", found.trees[0])[1])


def test_later_steps_are_those_of_later_epochs(loaded):
    module, data = loaded
    rows = [preview(data, module.tokenizer, step, 4).rows for step in range(4)]
    titles = [{row.title.split(": ")[1] for row in step} for step in rows]
    assert titles[0] | titles[1] == titles[2] | titles[3]
    assert titles[0] != titles[2]


def test_lengths_follow_a_subset(loaded):
    _, data = loaded
    expected = [len(data.train_set[i][0].ids) for i in range(len(data.train_set))]
    assert example_lengths(data.train_set).tolist() == expected


def test_nothing_stays_invisible():
    text = "a\x1b[31m\u202eb\u200bc\td\ne"
    assert visible(text) == "a␛[31m\\u202eb\\u200bc␉d↵\ne"
    assert visible("a\ufe0f\u00a0\u2800\u3164\u034f b") == "a\\ufe0f\\u00a0\\u2800\\u3164\\u034f b"
    assert visible("\u0301e\u0301") == "\\u0301e\u0301"  # a mark is seen where it has a letter to sit on
    tokenizer = byte_tokenizer()
    ids = tokenizer("é\x1b")["input_ids"]
    views = TokenReader(tokenizer).views(Sequence(np.array(ids, np.int32), np.zeros(len(ids), bool)))
    assert [v.text for v in views[-3:]] == ["\\xc3", "\\xa9", "␛"]
    assert views[0].special


def test_a_trained_vocabulary_reads_as_its_text():
    tokenizer = train_bpe(["über über naïve words"] * 9, 300)
    ids = tokenizer("über naïve words")["input_ids"]
    views = TokenReader(tokenizer).views(Sequence(np.array(ids, np.int32), np.zeros(len(ids), bool)))
    assert "".join(v.text for v in views[1:]) == "über naïve words"


def test_the_page_is_whole_and_escaped(tmp_path, capsys):
    config = write_config(tmp_path)
    row = {"question": "<script>alert(1)</script>", "answer": "One.\n#### 1"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    page = tmp_path / "page.html"
    words = ["--html", str(page), "--data.val_examples=0"]
    assert main(["preview", "-c", str(config), *words]) == 0
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "<script" not in text
    assert "http" not in text
    assert parse_html(text)[2:]  # after the two of the legend
    assert main(["preview", "-c", str(config), "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "does not exist" in capsys.readouterr().err


PRETRAINING = """
model:
  class_path: PretrainModule
  init_args:
    architecture: {name: olmo3_1m}
    tokenizer: {kind: byte}
    chinchilla: 0.005
data:
  class_path: PretrainDataModule
  init_args:
    sources: {prose: DIR/prose.jsonl, code: DIR/code.jsonl}
    mix: {prose: 0.75, code: 0.25}
    val_sources: {code: DIR/code.jsonl}
    sequence_length: 64
    tokens_per_step: 256
    tokens: 512
    cache_dir: DIR/cache
"""


def test_pretraining_shows_blocks_documents_and_the_mixture(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(PRETRAINING.replace("DIR", str(tmp_path)))
    for name, text in (("prose", "words "), ("code", "x += 1\n")):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text * i}) + "\n" for i in range(1, 14)))
    assert main(["preview", "-c", str(config), "--rows", "1", "--color", "never"]) == 0
    out = capsys.readouterr().out
    facts = dict(re.findall(r"^(\S.*?)  +(\S.*)$", out, re.MULTILINE))
    assert facts["blocks"] == "8 of 64 tokens to train on"
    assert facts["mix prose"].startswith("0.7500 of the tokens (requested 0.7500): 384 of 512, used 0.75 times")
    assert facts["mix code"].startswith("0.2500 of the tokens (requested 0.2500): 128 of 640, used 0.2 times")
    assert facts["steps"] == "2 of 4 blocks, 256 tokens"
    assert facts["validation"] == "10 blocks"
    assert facts["step"] == "0 (epoch 0, batch 0): 4 blocks"
    documents = int(re.match(r"\d+", facts["documents"])[0])
    assert documents == sum(int(n) for n in re.findall(r"micro-batch \d+: (\d+) sequences", out)) > 4
    shown = [int(n) for n in re.findall(r"^block 0.*: (\d+) tokens, \d+ trained$", out, re.MULTILINE)]
    assert sum(shown) - (len(shown) - 1) == 64  # the end of a document is the start of the next one too
    (tmp_path / "prose.jsonl").unlink()
    assert main(["preview", "-c", str(config)]) == 2
    assert "prose.jsonl: does not exist" in capsys.readouterr().err


def test_what_trains_on_no_tokens_of_its_own_is_refused(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("model:\n  class_path: SFTModule\ndata:\n  class_path: EvalDataModule\n")
    assert main(["preview", "-c", str(config)]) == 2
    assert "data=EvalDataModule: holds no tokens that are trained on" in capsys.readouterr().err


def test_a_saved_configuration_can_be_previewed(run, capsys):
    assert main(["preview", "-c", str(run / "config.yaml"), "--rows", "0"]) == 0
    assert "micro-batch 0" in capsys.readouterr().out
    assert main(["preview", f"--config={run / 'config.yaml'}", "--rows", "0"]) == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [([], "preview needs a configuration"), (["-c", "x.yaml", "--rows", "-1"], "--rows -1")],
)
def test_wrong_words_are_refused(words, named, capsys):
    assert main(["preview", *words]) == 2
    assert named in capsys.readouterr().err


def test_help_lists_its_own_options(capsys):
    assert main(["preview", "--help"]) == 0
    assert "--html" in capsys.readouterr().out
