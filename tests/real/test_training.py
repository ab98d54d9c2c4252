"""Training SmolLM2: losses and gradients are those of plain transformers, and what is exported is what was trained."""

import json
from pathlib import Path

import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from lightning_posttrain.callbacks.export import ModelExport
from lightning_posttrain.datamodules.preferences import PreferenceDataModule
from lightning_posttrain.datamodules.prompts import PromptDataModule
from lightning_posttrain.datamodules.sft import SFTDataModule
from lightning_posttrain.models.load import LoadSpec, LoraSpec
from lightning_posttrain.modules.dpo import DPOModule
from lightning_posttrain.modules.grpo import GRPOModule
from lightning_posttrain.modules.optim import OptimizerSpec, ScheduleSpec
from lightning_posttrain.modules.sft import SFTModule
from lightning_posttrain.ops.attention import plain_attention
from lightning_posttrain.ops.logprobs import base_model
from lightning_posttrain.rollout.sampler import SamplingParams
from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.tasks.reward import Reward
from lightning_posttrain.types import Completion, Record

from . import plain

TALKS = [
    ("Name the capital of France.", "Paris."),
    ("What is 12 + 30?", "12 + 30 = 42."),
    ("Say “hello” in German.", "„Guten Tag!“"),
    ("Is the sea salty?", "Yes: about 35 grams of salt are in a litre of it."),
    ("Write an empty function in Python.", "def nothing():\n    pass"),
    ("Which word rhymes with light?", "Night."),
    ("List two fruits.", "- apples\n- pears"),
    ("Why does ice float?", "Because water expands when it freezes."),
]
ADAM = {"lr": 2e-5, "eps": 1e-8}
STEPS, PER_STEP = 10, 4
GOLDEN = [2.54809, 3.19613, 1.60853, 1.92799, 1.28424, 1.38887, 0.94367, 0.96759, 0.66761, 0.63906]
"""Losses of `STEPS` steps on `TALKS` in their order, `PER_STEP` at a time."""


class Seen(L.Callback):
    """Loss and gradient norm of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.norms.append(float(trainer.callback_metrics["train/grad_norm"]))


def train(folder: Path, module, data, steps: int, *callbacks) -> Seen:
    seen = Seen()
    L.Trainer(
        accelerator="cpu", max_steps=steps, default_root_dir=folder, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[seen, *callbacks],
    ).fit(module, data)  # fmt: skip
    assert len(seen.losses) == steps
    return seen


def options(smollm2: Path, **more) -> dict:
    given = {"pretrained": str(smollm2), "max_grad_norm": None, "optimizer": OptimizerSpec(**ADAM)}
    return {**given, "schedule": ScheduleSpec(name="constant"), **more}


def sft_data(tmp_path: Path, per_step: int, talks=TALKS) -> SFTDataModule:
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in talks))
    return SFTDataModule(
        str(path), examples_per_step=per_step, tokens_per_micro=150, shuffle=False, cache_dir=str(tmp_path / "cache")
    )


@pytest.fixture(scope="module")
def talks(smollm2) -> list[plain.Row]:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    return [plain.row(tokenizer, *talk) for talk in TALKS]


def test_sft_takes_the_steps_of_plain_torch(tmp_path, smollm2, talks):
    seen = train(tmp_path, SFTModule(**options(smollm2)), sft_data(tmp_path, PER_STEP), STEPS)
    model = plain.load(smollm2)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, **ADAM)
    losses, norms = [], []
    for step in range(STEPS):
        begin = step * PER_STEP % len(talks)
        loss, norm = plain.gradient(model, plain.nll(talks[begin : begin + PER_STEP])(model))
        optimizer.step()
        losses.append(loss)
        norms.append(norm)
    assert seen.losses[0] == pytest.approx(losses[0], rel=2e-6)
    assert seen.norms[0] == pytest.approx(norms[0], rel=1e-4)
    assert seen.losses == pytest.approx(losses, abs=2e-5)
    assert seen.norms == pytest.approx(norms, rel=1e-4)
    assert seen.losses == pytest.approx(GOLDEN, abs=1e-4)


def test_dpo_takes_the_steps_of_plain_torch(tmp_path, smollm2):
    asked = [(p, c, TALKS[i - 1][1]) for i, (p, c) in enumerate(TALKS[:4])]
    path = tmp_path / "pairs.jsonl"
    names = ("prompt", "chosen", "rejected")
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in asked))
    data = PreferenceDataModule(
        str(path), examples_per_step=4, tokens_per_micro=150, shuffle=False, cache_dir=str(tmp_path / "cache")
    )
    seen = train(tmp_path, DPOModule(**options(smollm2)), data, 2)

    model, tokenizer = plain.load(smollm2), AutoTokenizer.from_pretrained(smollm2)
    pairs = [[plain.row(tokenizer, p, answer) for answer in answers] for p, *answers in asked]
    with torch.no_grad():
        reference = [[float(plain.logps(model, *row).sum()) for row in pair] for pair in pairs]

    def parts():
        for (chosen, rejected), (was_chosen, was_rejected) in zip(pairs, reference, strict=True):
            better = plain.logps(model, *chosen).sum() - was_chosen
            worse = plain.logps(model, *rejected).sum() - was_rejected
            yield -torch.nn.functional.logsigmoid(0.1 * (better - worse)) / len(pairs)

    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, **ADAM)
    first = plain.gradient(model, parts())
    optimizer.step()
    second = plain.gradient(model, parts())
    assert (seen.losses[0], seen.norms[0]) == (pytest.approx(first[0], rel=2e-6), pytest.approx(first[1], rel=1e-4))
    assert second[0] < 0.6 < first[0]
    assert (seen.losses[1], seen.norms[1]) == (pytest.approx(second[0], rel=1e-4), pytest.approx(second[1], rel=1e-4))


class Length(Reward):
    """Characters of the answer, in hundreds."""

    name = "length"

    def __call__(self, record: Record, completion: Completion) -> float:
        return len(completion.text) / 100


def test_grpo_learns_from_what_it_drew_as_plain_torch(tmp_path, smollm2):
    path = tmp_path / "problems.jsonl"
    rows = [{"question": f"What is {i} + 5?", "answer": f"#### {i + 5}"} for i in (3, 20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    module = GRPOModule(
        rewards=[Length()], samples_per_prompt=4, rollout=SamplingParams(max_new_tokens=12, temperature=1.0),
        **options(smollm2),
    )  # fmt: skip
    data = PromptDataModule(str(path), GSM8K(), prompts_per_step=2, tokens_per_micro=150, shuffle=False)
    seen = train(tmp_path, module, data, 1)

    drawn = pq.read_table(tmp_path / "rollouts" / "step_000000.parquet").to_pylist()
    assert len(drawn) == 8
    model = plain.load(smollm2)
    for group in (drawn[:4], drawn[4:]):
        rewards = np.array([len(one["text"]) / 100 for one in group])
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        assert [one["advantage"] for one in group] == pytest.approx(expected, abs=1e-9)
    total = sum(len(one["completion_ids"]) for one in drawn)

    def parts():
        for one in drawn:
            ids = [*one["prompt_ids"], *one["completion_ids"]]
            found = plain.logps(model, ids, [i >= len(one["prompt_ids"]) for i in range(len(ids))])
            for name in ("sampler_logprobs", "trainer_logprobs"):
                assert one[name] == pytest.approx(found.tolist(), abs=1e-4)
            yield -(one["advantage"] * torch.exp(found - found.detach())).sum() / total

    loss, norm = plain.gradient(model, parts())
    assert norm > 1  # the rewards of a group differ
    assert seen.losses[0] == pytest.approx(loss, abs=1e-6)
    assert seen.norms[0] == pytest.approx(norm, rel=1e-4)


def test_qlora_starts_as_peft_on_bitsandbytes_does(tmp_path, smollm2, talks):
    lora = LoraSpec(r=4, alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    module = SFTModule(**options(smollm2, lora=lora, load=LoadSpec(quantization="nf4")))
    module.build()
    for name, parameter in module.model.named_parameters():
        if "lora_B" in name:  # as after some training: with B = 0 no gradient would reach A
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(1))
    module.model.save_pretrained(tmp_path / "adapter")
    seen = train(tmp_path, module, sft_data(tmp_path, 2, TALKS[:2]), 1)

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    base = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32, quantization_config=four_bits)
    model = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True).train()
    loss, norm = plain.gradient(model, plain.nll(talks[:2])(model))
    assert seen.losses[0] == pytest.approx(loss, rel=2e-6)
    assert seen.norms[0] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("kind", ["whole", "adapter"])
def test_what_is_exported_is_what_was_trained(tmp_path, smollm2, talks, kind):
    lora = None if kind == "whole" else LoraSpec(r=4)
    module = SFTModule(**options(smollm2, lora=lora, optimizer=OptimizerSpec(lr=1e-3 if lora else 2e-5)))
    train(tmp_path, module, sft_data(tmp_path, 4), 2, ModelExport(tmp_path / "model"))
    ids = torch.tensor(talks[3][0])[None]
    with plain_attention(base_model(module.model)), torch.inference_mode():
        trained = module.model.eval()(input_ids=ids, use_cache=False).logits
    del module
    if kind == "whole":
        exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    else:
        exported = PeftModel.from_pretrained(plain.load(smollm2), tmp_path / "model")
    with torch.inference_mode():
        found = exported.eval()(input_ids=ids).logits
        before = plain.load(smollm2).eval()(input_ids=ids).logits
    assert (found - trained).abs().max() < 1e-4
    assert (found - before).abs().max() > 0.1
    written, published = (AutoTokenizer.from_pretrained(place) for place in (tmp_path / "model", smollm2))
    for text in ("12,345 „Wörter“ 🙂", "<|im_start|>user\n"):
        assert written(text)["input_ids"] == published(text)["input_ids"]
    messages = [{"role": "user", "content": "Hello!"}]
    assert written.apply_chat_template(messages, tokenize=False) == published.apply_chat_template(
        messages, tokenize=False
    )
