"""The check between the backward and the optimizer: a step that is not finite never reaches the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.logprobs import token_logprobs
from ..types import StepBatch, UserError


def check_finite(model: nn.Module, losses: Tensor, norm: Tensor, batch: StepBatch, step: int) -> None:
    """Stop where the losses (micro-batches,) or the gradient's ``norm`` are not finite.

    Raises:
        UserError: naming the rows whose log-probs are not finite, or all of the step's.
    """
    if torch.isfinite(norm) and bool(torch.isfinite(losses).all()):
        return
    rows: list[str] = []
    with torch.no_grad():
        for micro in batch.micros:
            bad = ~torch.isfinite(token_logprobs(model, micro))
            rows += [micro.origins[int(s)] or micro.ids[int(s)] for s in micro.sequence[bad].unique()]
    suspects = rows or [o or i for m in batch.micros for o, i in zip(m.origins, m.ids, strict=True)]
    kind = "rows with non-finite log-probs" if rows else "all log-probs are finite, the gradient is not; rows"
    raise UserError(
        f"step {step} (epoch {batch.epoch}, batch {batch.index}): loss {losses.sum().item()}, gradient "
        f"norm {norm.item()}: the weights were not updated. {kind}: {', '.join(suspects[:8])}"
        f"{' ...' if len(suspects) > 8 else ''}. Lower model.optimizer.lr or look at these rows with `preview`."
    )


def check_first_gradient(loss: Tensor, norm: Tensor, step: int) -> None:
    """Stop a run that cannot learn: at its first step there is something to learn and no gradient at all.

    Raises:
        UserError: the gradient's norm is exactly 0 and the loss is not.
    """
    if step == 0 and float(norm) == 0.0 and abs(float(loss)) > 1e-6:
        raise UserError(
            f"step 0: loss {float(loss):.4g}, but the gradient is exactly 0, so nothing would be learnt. Weights so "
            "large that activations overflow, or that are all 0, do that; so do trained layers that the loss does not "
            "depend on. Look at the model's weights, or at lora.target_modules"
        )
