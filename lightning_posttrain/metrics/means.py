"""Means of named per-example values with standard errors, exact over batches and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class NamedMeans(Metric):
    """Mean and standard error of each of ``names``; float64 sums, int64 counts.

    An example counts in every name's denominator, unless its value is nan: the name does not apply to it.

    >>> metric = NamedMeans(["right"])
    >>> metric.update({"right": 1.0}); metric.update({"right": 0.0})
    >>> {name: value.item() for name, value in metric.compute().items()}
    {'right': 0.5, 'right/stderr': 0.5}
    """

    full_state_update = False
    sums: Tensor
    squares: Tensor
    counts: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        for state in ("sums", "squares"):
            self.add_state(state, torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(self.names), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, values: Mapping[str, float]) -> None:
        """One example's values.

        Raises:
            ValueError: names other than the declared ones, so that no denominator can shrink unnoticed.
        """
        if set(values) != set(self.names):
            raise ValueError(f"need values for {self.names}, got {sorted(values)}")
        row = torch.tensor([float(values[n]) for n in self.names], dtype=torch.float64, device=self.sums.device)
        applies = ~row.isnan()
        row = torch.where(applies, row, 0.0)
        self.sums += row
        self.squares += row**2
        self.counts += applies

    def compute(self) -> dict[str, Tensor]:
        """``{name: mean}`` and ``{name/stderr: sample standard deviation / sqrt(n)}``; nan where n is too small."""
        n = self.counts.double()
        means = self.sums / n
        variance = (self.squares - self.sums**2 / n).clamp(min=0) / (n - 1)
        errors = torch.where(n > 1, (variance / n).sqrt(), torch.nan)
        return dict(zip(self.names, means, strict=True)) | {
            f"{name}/stderr": error for name, error in zip(self.names, errors, strict=True)
        }
