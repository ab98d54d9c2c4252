"""`chat` speaks as training did: same renderer, same stop tokens, one conversation."""

import io
import shutil
from pathlib import Path

import pytest

from lightning_posttrain.cli import main
from lightning_posttrain.commands.chat import _shown
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.rollout import sampler
from lightning_posttrain.rollout.sampler import SamplingParams
from lightning_posttrain.types import Completion, Message


@pytest.fixture
def prompts(monkeypatch):
    """Prompts that reach the sampler; the n-th answer is "answer n", or cut off where the prompt says so."""
    seen = []

    def generate(model, asked, params, stop_ids, decode_text, **options):
        seen.append((decode_text(asked[0]), params, set(stop_ids), options))
        return [[Completion((65, 66), (0.0, 0.0), f"answer {len(seen)}", "cut" not in seen[-1][0])]]

    monkeypatch.setattr(sampler, "generate", generate)
    return seen


def test_one_prompt_prints_only_the_answer(run, prompts, capsys):
    words = ["--model", str(run / "model"), "--prompt", "hello", "--system", "Be brief.", "--temperature", "0.5"]
    assert main(["chat", *words, "--max_new_tokens", "9", "--seed", "3"]) == 0
    out = capsys.readouterr()
    assert out.out == "answer 1\n"
    text, params, stops, options = prompts[0]
    module = SFTModule(pretrained=str(run / "model"))
    asked = [Message("system", "Be brief."), Message("user", "hello")]
    assert text == module.decode(module.renderer.prompt(asked))
    assert stops == module.renderer.stop_ids
    assert params == SamplingParams(max_new_tokens=9, temperature=0.5)
    assert options["seed"] == 3


def test_the_loop_keeps_the_turns_until_reset(run, prompts, monkeypatch, capsys):
    lines = "first\nsecond\n\n/what\n/reset\ncut this\n/quit\nnever\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["chat", "--model", str(run / "model")]) == 0
    out = capsys.readouterr()
    assert out.out == "answer 1\nanswer 2\nanswer 3\n"
    assert "(stopped at 2 tokens)" in out.err
    assert len(prompts) == 3
    assert "first" in prompts[1][0]
    assert "answer 1<|im_end|>" in prompts[1][0]
    assert "first" not in prompts[2][0]
    assert [p[3]["step"] for p in prompts] == [0, 1, 0]


def test_a_real_answer_is_reproducible(run, capsys):
    words = ["chat", "--model", str(run / "model"), "--prompt", "Add 1.", "--max_new_tokens", "4", "--temperature", "1"]
    outputs = []
    for seed in ("1", "1", "2"):
        assert main([*words, "--seed", seed]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_a_question_that_is_too_long_does_not_end_the_talk(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 400 + "\nhi\n"))
    assert main(["chat", "--model", str(run / "model"), "--max_new_tokens", "2"]) == 0
    out = capsys.readouterr()
    assert "/reset starts again" in out.err
    assert out.out


def test_plain_text_is_continued(run, prompts):
    assert main(["chat", "--model", str(run / "model"), "--prompt", "Once", "--format", "plain"]) == 0
    assert prompts[0][0] == "<|bos|>Once"


def test_a_terminal_cannot_be_steered(monkeypatch):
    assert _shown("a\x1b[2J\n\tb") == "a\x1b[2J\n\tb"  # a pipe gets the text as it is
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert _shown("a\x1b[2J\n\tb") == "a\ufffd[2J\n\tb"


def test_wrong_values_are_refused(run, capsys):
    assert main(["chat", "--model", str(run / "model"), "--prompt", "x", "--top_p", "2"]) == 2
    assert "top_p" in capsys.readouterr().err
    assert main(["chat", "--model", str(run / "nowhere"), "--prompt", "x"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_an_answer_never_asks_for_more_positions_than_the_model_has(run, capsys):
    """The tiny model has 256 positions and the default answer 512 tokens."""
    assert main(["chat", "--model", str(run / "model"), "--prompt", "Add 1."]) == 0
    assert "error" not in capsys.readouterr().err


TEMPLATES = Path(__file__).parents[1] / "real" / "templates"


@pytest.mark.parametrize(
    ("template", "answer", "later"),
    [
        ("qwen3_thinking", "so\n</think>\n\nIt is 4.", "<|im_start|>assistant\nIt is 4.<|im_end|>"),
        ("deepseek_r1", "so\n</think>\n\nIt is 4.", "<｜Assistant｜>\n\nIt is 4.<｜end▁of▁sentence｜>"),
        ("deepseek_v3_1", "It is 4.", "<｜Assistant｜></think>It is 4.<｜end▁of▁sentence｜>"),
        (
            "harmony",
            "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>It is 4.",
            "<|start|>assistant<|channel|>final<|message|>It is 4.<|end|>",
        ),
        ("olmo3", "It is 4.", "<|im_start|>assistant\nIt is 4.<|im_end|>"),
        ("mistral_v3", "It is 4.", "[/INST] It is 4.<|im_end|>[INST]"),
    ],
)
def test_a_second_question_follows_an_answer_that_the_template_rewrites(
    run, tmp_path, monkeypatch, capsys, template, answer, later
):
    model = tmp_path / "model"
    shutil.copytree(run / "model", model)
    shutil.copy(TEMPLATES / f"{template}.jinja", model / "chat_template.jinja")
    seen = []

    def generate(model, asked, params, stop_ids, decode_text, **options):
        seen.append(decode_text(asked[0]))
        return [[Completion((65,), (0.0,), answer, True)]]

    monkeypatch.setattr(sampler, "generate", generate)
    monkeypatch.setattr("sys.stdin", io.StringIO("2+2?\nand 2 more?\nand 3?\n"))
    assert main(["chat", "--model", str(model), "--system", "Be brief."]) == 0
    out = capsys.readouterr()
    assert "error" not in out.err
    assert out.out == f"{answer}\n" * 3
    for number, prompt in enumerate(seen):
        assert prompt.count(later) == number
        assert "Be brief." in prompt
    assert "so\n" not in seen[1].split("and 2 more?")[0]  # earlier thoughts are gone, as the template has it


@pytest.mark.parametrize(("policy", "ends"), [([], 2), (["--special_text", "allow"], 3)])
def test_the_text_of_a_special_token_is_text_unless_asked_for(run, monkeypatch, policy, ends):
    asked = []

    def generate(model, prompts, params, stop_ids, decode_text, **options):
        asked.extend(prompts)
        return [[Completion((65,), (0.0,), "A", True)]]

    monkeypatch.setattr(sampler, "generate", generate)
    words = ["chat", "--model", str(run / "model"), "--system", "s", "--prompt", "what is <|im_end|>?"]
    assert main([*words, *policy]) == 0
    tokenizer = SFTModule(pretrained=str(run / "model")).tokenizer
    assert asked[0].count(tokenizer.eos_token_id) == ends
    assert "what is <|im_end|>?" in tokenizer.decode(asked[0])
