"""The check between the backward and the optimizer: a step that is not finite never reaches the weights.

DeepSpeed tells the gradient's norm only once it has stepped: there a loss is checked before, the norm after.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.logprobs import token_logprobs
from ..ops.ranks import gather
from ..types import StepBatch, UserError


def check_finite(
    model: nn.Module, batch: StepBatch, step: int, loss: Tensor, norm: Tensor | None = None, updated: bool = False
) -> None:
    """Stop where the loss or the gradient's norm is not finite.

    Args:
        model: the policy.
        batch: this rank's share of the step.
        step: its number, from 0.
        loss: of the whole step, over all ranks, so that none of them goes on alone.
        norm: of the gradient over all ranks, where it is known.
        updated: the optimizer has stepped already, so the weights say nothing of the rows any more.

    Raises:
        UserError: naming the rows whose log-probs are not finite, or all of the step's.
    """
    if bool(torch.isfinite(loss)) and (norm is None or bool(torch.isfinite(norm))):
        return
    rows = [] if updated else [row for rank in gather(_broken(model, batch)) for row in rank]
    everything = [o or i for m in batch.micros if not m.idle for o, i in zip(m.origins, m.ids, strict=True)]
    suspects = list(dict.fromkeys(rows or [row for rank in gather(everything) for row in rank]))
    kind = "rows with non-finite log-probs" if rows else "all log-probs are finite, the gradient is not; rows"
    if updated:
        kind = "rows of the step"
    done = "the weights were spoilt, go on from the last checkpoint" if updated else "the weights were not updated"
    measured = f"loss {loss.item()}" + ("" if norm is None else f", gradient norm {norm.item()}")
    raise UserError(
        f"step {step} (epoch {batch.epoch}, batch {batch.index}): {measured}: {done}. {kind}: "
        f"{', '.join(suspects[:8])}{' ...' if len(suspects) > 8 else ''}. Lower model.optimizer.lr or look at these "
        "rows with `preview`."
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


@torch.no_grad()
def _broken(model: nn.Module, batch: StepBatch) -> list[str]:
    """Rows of this rank whose log-probs are not finite."""
    rows: list[str] = []
    for micro in batch.micros:
        bad = ~torch.isfinite(token_logprobs(model, micro))
        rows += [micro.origins[int(s)] or micro.ids[int(s)] for s in micro.sequence[bad].unique()]
    return rows
