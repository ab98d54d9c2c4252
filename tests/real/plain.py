"""Losses by plain transformers and torch: one row at a time, no packing, nothing of the library."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

Row = tuple[list[int], list[bool]]
"""Token ids, and which of them are learned."""


def load(folder: Path) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()


def row(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> Row:
    """One exchange in ChatML, as SmolLM2's template writes it; the answer and the token that ends it are learned."""
    start = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    coded = tokenizer(f"{start}{answer}<|im_end|>", add_special_tokens=False, return_offsets_mapping=True)
    return coded["input_ids"], [begin >= len(start) for begin, _ in coded["offset_mapping"]]


def logps(model: nn.Module, ids: Sequence[int], learned: Sequence[bool]) -> Tensor:
    """Log-probabilities of the learned tokens, each given those before it."""
    row = torch.tensor(ids)
    logits = model(input_ids=row[None], use_cache=False).logits[0, :-1]
    found = torch.log_softmax(logits.float(), dim=-1).gather(1, row[1:, None])[:, 0]
    return found[torch.tensor(learned)[1:]]


def nll(rows: Sequence[Row]) -> Callable[[nn.Module], Iterable[Tensor]]:
    """The mean over all learned tokens of all rows, a row at a time."""
    total = sum(sum(learned) for _, learned in rows)
    return lambda model: (-logps(model, *row).sum() / total for row in rows)


def gradient(model: nn.Module, parts: Iterable[Tensor]) -> tuple[float, float]:
    """The sum of the parts of a loss, and the 2-norm of its gradient, which the parameters then hold."""
    model.zero_grad(set_to_none=True)
    total = 0.0
    for part in parts:
        part.backward()
        total += float(part.detach())
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    return total, float(torch.stack(norms).norm())
