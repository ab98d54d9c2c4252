"""The loader: an epoch is a permutation keyed by (seed, epoch), a batch is an optimizer step, a position is a number.

Nothing about the order is drawn from global random state, so workers, ranks and resuming cannot change it. The state
is (epoch, next step, data fingerprint, batch words); `__len__` is there because Lightning loses a batch without it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from ..types import Example, Sequence, StepBatch, UserError
from .cut import cut_step
from .tree import MIN_SHARED, collate_all

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class _Timed(Protocol):
    load_seconds: float


Batch = TypeVar("Batch", bound=_Timed)


class Source(Protocol[Item_co]):
    """Random access to what steps are made of; ``fingerprint`` names the content."""

    fingerprint: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Item_co: ...


ExampleSource = Source[Example]
"""Tokenised examples."""


class EpochLoader(ABC, Generic[Item, Batch]):
    """Yields one step of ``per_step`` items after the other; the next ``iter`` is the next epoch.

    A pass that was left unfinished is not taken up again, except by `load_state_dict`.

    Args:
        source: the items.
        per_step: items per step over all ranks; the last step of an epoch may have fewer.
        tokens_per_micro: most distinct tokens the decoder sees at once on a rank: the memory bound.
        seed: keys the order together with the epoch; None = the source's order.
        rank, world_size: this process and how many there are.
        min_shared: shortest common prefix (tokens) worth sharing.

    Raises:
        UserError: empty source, or a state that belongs to other data.
    """

    per_step_name: str
    """What users call ``per_step``."""

    def __init__(
        self,
        source: Source[Item],
        per_step: int,
        tokens_per_micro: int,
        seed: int | None = 0,
        rank: int = 0,
        world_size: int = 1,
        min_shared: int = MIN_SHARED,
    ) -> None:
        if len(source) == 0:
            raise UserError("the data set has no examples left to train on; see the skip report above")
        if per_step < world_size:
            raise UserError(f"{self.per_step_name}={per_step} is fewer than the {world_size} ranks; raise it")
        self.source, self.per_step, self.seed = source, per_step, seed
        self.rank, self.world_size = rank, world_size
        self.tokens_per_micro, self.min_shared = tokens_per_micro, min_shared
        self.rewind()

    def rewind(self) -> None:
        """Make the next pass the first one again, as every validation does."""
        self.epoch, self.position, self._resumed = 0, 0, False

    @abstractmethod
    def build(self, items: list[Item], epoch: int = 0, index: int = 0) -> Batch:
        """The step of ``items``, as this rank sees it."""

    def __len__(self) -> int:
        """Steps per epoch. A remainder smaller than the number of ranks joins the step before it."""
        n, k = len(self.source), self.per_step
        return max(1, n // k + (n % k >= self.world_size if n % k else 0))

    def order(self, epoch: int) -> np.ndarray:
        """(items,) int64: which item comes when in ``epoch``."""
        if self.seed is None:
            return np.arange(len(self.source))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.source))

    def steps(self, epoch: int) -> list[np.ndarray]:
        """The items of each step of ``epoch``."""
        order = self.order(epoch)
        return np.split(order, range(self.per_step, len(self) * self.per_step, self.per_step))

    def items(self, steps: int) -> np.ndarray:
        """(N,) int64: the items of the first ``steps`` steps, over as many epochs as they take."""
        epochs, rest = divmod(steps, len(self))
        return np.concatenate([*map(self.order, range(epochs)), *self.steps(epochs)[:rest], np.zeros(0, np.int64)])

    def __iter__(self) -> Iterator[Batch]:
        if self.position >= len(self) or (self.position and not self._resumed):
            self.epoch, self.position = self.epoch + 1, 0
        self._resumed = False
        steps = self.steps(self.epoch)
        while self.position < len(self):
            began = time.perf_counter()
            index = self.position
            step = self.build([self.source[int(i)] for i in steps[index]], self.epoch, index)
            step.load_seconds = time.perf_counter() - began
            self.position += 1
            yield step

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` stood.

        Raises:
            UserError: naming what differs between the checkpoint's data and this run's.
        """
        for name, here in self._identity().items():
            if state.get(name) != here:
                raise UserError(
                    f"cannot resume: the checkpoint has {name}={state.get(name)!r}, this run {here!r}; "
                    "restore it, or start a new run from the checkpoint's exported model"
                )
        self.go_to(state["epoch"], state["position"])

    def go_to(self, epoch: int, position: int) -> None:
        """Let the next pass begin at step ``position`` of ``epoch``."""
        self.epoch, self.position, self._resumed = epoch, position, True

    def _identity(self) -> dict[str, Any]:
        """What fixes the order and the meaning of a position."""
        return {
            "fingerprint": self.source.fingerprint,
            "examples": len(self.source),
            self.per_step_name: self.per_step,
            "seed": self.seed,
        }


class StepLoader(EpochLoader[Example, StepBatch]):
    """Yields `StepBatch`es.

    Args:
        *args: as `EpochLoader`.
        apart: sequences of an example need not meet in a micro-batch, so a long example needs no more memory.
        **kwargs: as `EpochLoader`.
    """

    per_step_name = "examples_per_step"

    def __init__(self, *args: Any, apart: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.apart = apart

    def build(self, items: list[Example], epoch: int = 0, index: int = 0) -> StepBatch:
        units: list[Example] = [(s,) for example in items for s in example] if self.apart else items
        mine = cut_step(units, self.tokens_per_micro, self.world_size, self.min_shared)[self.rank]
        tokens = [[int(s.supervised.sum()) for s in example] for example in items]
        return StepBatch(
            micros=collate_all(mine, self.min_shared, items[0]),
            num_tokens=sum(map(sum, tokens)),
            num_tokens_by_place=tuple(map(sum, zip_longest(*tokens, fillvalue=0))),
            total_weight=sum(token_weight(s) for example in items for s in example),
            num_sequences=sum(len(e) for e in items),
            num_examples=len(items),
            epoch=epoch,
            index=index,
        )


def token_weight(sequence: Sequence) -> float:
    """The sum of the weights of a sequence's supervised tokens: 1 each, where it has no column ``weight``."""
    weight = sequence.columns.get("weight")
    return float(sequence.supervised.sum() if weight is None else weight.sum(dtype=np.float64))
