"""The processes of `dpo_losses_vs_trl.py`, one role each: prepare, ours, trl. Each prints one line of JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common_sides import answer
from dpo_losses_vs_trl import CUT, CUTS, DPO_DEFAULTS, PAIRS, cases


def prepare(folder: Path) -> dict[str, Any]:
    """Write two models, a tokenizer and pairs of random tokens."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from lightning_posttrain.text.tokenizer import byte_tokenizer

    tokenizer, made = byte_tokenizer(), np.random.default_rng(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = AutoConfig.for_model(
        "qwen2", **shape, vocab_size=len(tokenizer), tie_word_embeddings=True, initializer_range=0.15,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    for seed, name in enumerate(("policy", "reference")):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "policy")
    lengths = [made.integers(low, high, PAIRS).tolist() for low, high in ((3, 12), (1, 10), (1, 10))]
    lengths[2][::2] = lengths[1][::2]  # where lengths differ they alone would say how the margins are sorted
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [
        {k: made.integers(0, 256, n).tolist() for k, n in zip(names, sizes, strict=True)}
        for sizes in zip(*lengths, strict=True)
    ]
    (folder / "rows.json").write_text(json.dumps(rows), "utf-8")
    return {"pairs": PAIRS, "chosen_tokens": lengths[1], "rejected_tokens": lengths[2]}


def ours(folder: Path) -> dict[str, Any]:
    """Each case as one micro-batch and as several; the gradient of the latter goes to ``ours.pt``."""
    from lightning_posttrain.batching.tree import collate
    from lightning_posttrain.losses.preference import wpo_weights
    from lightning_posttrain.losses.preference_objective import PreferenceObjective
    from lightning_posttrain.models.load import load_policy
    from lightning_posttrain.ops.logprobs import token_logprobs
    from lightning_posttrain.ops.policy import policy_logprobs
    from lightning_posttrain.types import Sequence

    def sequence(row: dict[str, Any], answer: str) -> Sequence:
        ids = np.array(row["prompt_ids"] + row[answer], np.int32)
        return Sequence(ids, np.arange(len(ids)) >= len(row["prompt_ids"]))

    policy, reference = (load_policy(str(folder / name), None, vocab_size=260) for name in ("policy", "reference"))
    rows = json.loads((folder / "rows.json").read_text("utf-8"))
    examples = [(sequence(row, "chosen_ids"), sequence(row, "rejected_ids")) for row in rows]
    tokens = sum(len(row["chosen_ids"]) for row in rows)
    micros = {size: [collate(examples[i : i + size], 1) for i in range(0, PAIRS, size)] for size in (PAIRS, CUT)}
    held = {size: [token_logprobs(reference, m).detach() for m in some] for size, some in micros.items()}

    def pairs(loss: PreferenceObjective, size: int, i: int) -> Any:
        micro = micros[size][i]
        logps, squares = policy_logprobs(policy, micro, (1.0, 0, 1.0, 0.0), "log_squares")
        found = loss.pairs(logps, held[size][i] if loss.needs_reference else None, micro.sequence, micro.examples)
        return found, wpo_weights(logps, squares, micro.sequence, micro.examples) if loss.weighted else None

    def joined(parts: list[Any]) -> Any:
        return None if parts[0] is None else torch.cat([p.detach() for p in parts])

    def step(loss: PreferenceObjective, size: int) -> float:
        """Adds up the gradients of a step's micro-batches."""
        policy.zero_grad()
        if loss.couples_pairs and size < PAIRS:
            first = [pairs(loss, size, i) for i in range(PAIRS // size)]
            whole = type(first[0][0])(*(joined(list(parts)) for parts in zip(*(p for p, _ in first), strict=True)))
            found = loss.coupled(whole, joined([w for _, w in first]))
            for i in range(PAIRS // size):
                found.of(slice(i * size, (i + 1) * size)).surrogate(pairs(loss, size, i)[0]).backward()
            return found.loss.item()
        total = 0.0
        for i in range(PAIRS // size):
            own, weights = pairs(loss, size, i)
            value = loss.loss(own, PAIRS, tokens, weights)
            value.backward()
            total += value.item()
        return total

    values, gradients = [], []
    for case in cases():
        loss = PreferenceObjective(**case["ours"])
        values.append([step(loss, size) for size in (PAIRS, CUT)])
        gradients.append({name: p.grad.clone() for name, p in policy.named_parameters()})
    torch.save(gradients, folder / "ours.pt")
    return {"values": values, "torch": importlib.metadata.version("torch")}


def trl(folder: Path) -> dict[str, Any]:
    """TRL's losses of the cases, and how far its gradients are from those in ``ours.pt``."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    def load(name: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32)

    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    data = datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2)
    quiet = {"output_dir": str(folder / "trl"), "use_cpu": True, "bf16": False, "report_to": "none"}
    same = {"train_dataset": data, "processing_class": tokenizer}
    trainers = {
        "dpo": DPOTrainer(load("policy"), load("reference"), DPOConfig(**quiet, use_weighting=True), **same),
        "cpo": CPOTrainer(load("policy"), CPOConfig(**quiet), **same),
        "orpo": ORPOTrainer(load("policy"), ORPOConfig(**quiet), **same),
    }
    rows = json.loads((folder / "rows.json").read_text("utf-8"))

    collate, both = trainers["dpo"].data_collator, {**padded(rows, "chosen"), **padded(rows, "rejected")}

    def dpo_loss(trainer: Any, options: dict[str, Any]) -> Any:
        options = {**DPO_DEFAULTS, **options}
        trainer.loss_types, trainer.loss_weights = options.pop("losses"), options.pop("weights")
        for name, value in options.items():
            setattr(trainer, name, value)
        loss = trainer._compute_loss(trainer.model, collate(rows), return_outputs=False)
        with torch.no_grad():  # as gradient accumulation adds it up: the mean of the micro-batches' losses
            parts = [trainer._compute_loss(trainer.model, collate(rows[i : i + CUT]), False) for i in CUTS]
        return loss, torch.stack(parts).mean().item()

    def other_loss(trainer: Any, options: dict[str, Any]) -> Any:
        nll = options.get("nll")
        for name, value in {"label_smoothing": 0.0, **options}.items():
            setattr(trainer, name, value)
        loss = trainer.get_batch_loss_metrics(trainer.model, both)[0]
        if nll == "completion":  # its odds ratio with the likelihood of DPOTrainer's `sft`
            parts = trainer.concatenated_forward(trainer.model, both)
            labels = both["chosen_labels"][:, 1:]
            width = labels.shape[1]
            own = torch.nn.functional.cross_entropy(parts[2][:, :width].flatten(0, 1), labels.flatten())
            loss = loss - parts[4] + own
        return loss, None

    values, distances, cuts = [], [], []
    for case, mine in zip(cases(), torch.load(folder / "ours.pt", weights_only=True), strict=True):
        trainer = trainers[case["trainer"]]
        trainer.model.train().zero_grad()
        try:
            loss, parts = (dpo_loss if case["trainer"] == "dpo" else other_loss)(trainer, case["trl"])
            loss.backward()
        except RuntimeError:
            if case["why"] is None:
                raise
            values, distances, cuts = [*values, None], [*distances, None], [*cuts, None]
            continue
        cuts.append(parts)
        values.append(loss.item())
        distances.append(distance(mine, {name: p.grad for name, p in trainer.model.named_parameters()}))
    return {"values": values, "gradients": distances, "cuts": cuts, "trl": importlib.metadata.version("trl")}


def padded(rows: list[dict[str, Any]], answer: str) -> dict[str, Any]:
    """Half of a batch of `CPOTrainer` and `ORPOTrainer`."""
    whole = [row["prompt_ids"] + row[f"{answer}_ids"] for row in rows]
    labels = [[-100] * len(row["prompt_ids"]) + row[f"{answer}_ids"] for row in rows]
    columns = {"input_ids": (whole, 0), "labels": (labels, -100), "attention_mask": ([[1] * len(x) for x in whole], 0)}
    return {
        f"{answer}_{name}": torch.nn.utils.rnn.pad_sequence([torch.tensor(x) for x in values], True, fill)
        for name, (values, fill) in columns.items()
    }


def distance(mine: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The largest difference between two gradients, as a share of the largest entry."""
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    return max((theirs[name] - gradient).abs().max().item() for name, gradient in mine.items()) / largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["prepare", "ours", "trl"])
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    answer(lambda: {"prepare": prepare, "ours": ours, "trl": trl}[args.role](args.folder))


if __name__ == "__main__":
    main()
