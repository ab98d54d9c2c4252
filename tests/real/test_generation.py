"""Greedy answers of a real model to real questions: token for token those of transformers, in every batch layout."""

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lightning_posttrain.ops.attention import plain_attention
from lightning_posttrain.rollout.sampler import SamplingParams, generate

COUNT, NEW = 64, 24
TIE = 1e-3
"""Logits closer than this are a tie: either token is right, and what follows it cannot be compared."""

SUBJECTS = (
    "photosynthesis",
    "the French Revolution",
    "a binary search",
    "inflation",
    "plate tectonics",
    "jazz",
    "rust",
)
FORMS = (
    "Explain {} in two sentences.",
    "What should a beginner know about {}?",
    "Write a haiku about {}.",
    "Name three facts about {} and say why each of them matters to someone who has never heard of it before.",
    "{}?",
    "Is {} older than the steam engine? Answer yes or no, then give one reason.",
    "Translate this into French: I have been reading about {} all day long and I am tired.",
    "Pens cost 3 euros each. I bought {} and twelve pens. How much were the pens?",
    "List words that come to mind when you think of {}.",
    "Why do people care about {}?",
)


def questions() -> list[str]:
    """GSM8K's test questions where $GSM8K_DIR has them, else sentences of our own."""
    path = Path(os.environ.get("GSM8K_DIR", "")) / "test.jsonl"
    if "GSM8K_DIR" in os.environ and path.is_file():
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line)["question"] for line, _ in zip(lines, range(COUNT), strict=False)]
    return [form.format(subject) for form in FORMS for subject in SUBJECTS][:COUNT]


@pytest.fixture(scope="module")
def setting(smollm2):
    """The model, the prompts' ids and what transformers answers, 16 prompts at a time."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": q}], add_generation_prompt=True, tokenize=False)
        for q in questions()
    ]
    expected = []
    for at in range(0, COUNT, 16):
        inputs = tokenizer(texts[at : at + 16], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
        for row in out[:, inputs["input_ids"].shape[1] :].tolist():
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else NEW
            expected.append(tuple(row[:end]))
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert len(ids) == len(set(map(tuple, ids))) == COUNT
    return model, ids, expected, [tokenizer.eos_token_id]


def answers(setting, prompts, **layout):
    model, ids, _, stops = setting
    params = SamplingParams(max_new_tokens=NEW, temperature=0.0)
    groups = generate(model, [ids[i] for i in prompts], params, stops, str, **layout)
    return {i: group[0] for i, group in zip(prompts, groups, strict=True)}


def ties(setting, found) -> list[int]:
    """Prompts whose answers part from the expected ones where two logits are equal; nothing else may differ."""
    model, ids, expected, _ = setting
    tied = []
    for i, completion in found.items():
        if completion.tokens == expected[i]:
            continue
        pairs = zip(completion.tokens, expected[i], strict=False)
        at = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
        assert at is not None, f"prompt {i} ends after {len(completion.tokens)} tokens, not {len(expected[i])}"
        with plain_attention(model), torch.inference_mode():
            logits = model(torch.tensor([[*ids[i], *expected[i][:at]]])).logits[0, -1]
        both = logits[[completion.tokens[at], expected[i][at]]]
        assert float((logits.max() - both).max()) < TIE, f"prompt {i}, token {at}"
        tied.append(i)
    return tied


@pytest.mark.parametrize(
    ("prompts", "layout"),
    [
        (range(COUNT), {}),
        (range(COUNT), {"max_rows": 5}),
        (range(COUNT - 1, -1, -1), {"max_rows": 33, "max_tokens": 200}),
        (range(3), {"max_rows": 1}),
    ],
    ids=["together", "five at a time", "backwards, small prefills", "alone"],
)
def test_answers_are_those_of_transformers(setting, prompts, layout):
    assert len(ties(setting, answers(setting, prompts, **layout))) <= 2


def test_log_probs_are_those_of_an_ordinary_forward(setting):
    model, ids, *_ = setting
    for i, completion in answers(setting, range(4)).items():
        row = torch.tensor([[*ids[i], *completion.tokens]])
        with plain_attention(model), torch.inference_mode():
            logps = model(row).logits[0, len(ids[i]) - 1 : -1].log_softmax(-1)
        expected = logps.gather(-1, row[0, len(ids[i]) :, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=0, atol=2e-4)


def test_a_common_prefix_changes_nothing(setting):
    """Each question after the same long examples: prompts of which most is shared, against one prompt at a time."""
    model, ids, _, stops = setting
    shared = [token for prompt in ids[-3:] for token in prompt]
    params = SamplingParams(max_new_tokens=NEW, temperature=0.0)
    prompts = [shared + ids[i] for i in range(8)]
    together = generate(model, prompts, params, stops, str)
    alone = [generate(model, [prompt], params, stops, str)[0] for prompt in prompts[:3]]
    expected = []
    for prompt in prompts:
        with plain_attention(model), torch.inference_mode():
            row = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)[0, len(prompt) :].tolist()
        expected.append(tuple(row))
    case = (model, prompts, expected, stops)
    assert len(ties(case, {i: group[0] for i, group in enumerate(together)})) <= 1
    assert len(ties(case, {i: group[0] for i, group in enumerate(alone)})) <= 1


def test_bfloat16_products_stay_near(setting):
    """The policy's own log-probs of what a narrow copy drew are near, so that a correction has little to do."""
    model, ids, _, stops = setting
    params = SamplingParams(max_new_tokens=NEW, temperature=1.0)
    groups = generate(model, ids[:8], params, stops, str, n=2, dtype="bfloat16")
    gaps = []
    for prompt, group in zip(ids, groups, strict=False):
        for completion in group:
            row = torch.tensor([[*prompt, *completion.tokens]])
            with plain_attention(model), torch.inference_mode():
                logps = model(row).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            gaps.append((logps.gather(-1, row[0, len(prompt) :, None])[:, 0] - torch.tensor(completion.logprobs)).abs())
    together = torch.cat(gaps)
    print(f"mean {together.mean():.4f}, largest {together.max():.4f} nats")
    assert 1e-4 < float(together.mean()) < 0.05
