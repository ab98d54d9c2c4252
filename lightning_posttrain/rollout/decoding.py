"""The loop behind `sampler.generate`: rows start in cohorts, take one token per step together, and leave when they end.

A cohort's prompts are run once, packed; each further step runs the decoder once over the newest token of every row of
every cohort. When a quarter of the rows is free the next cohort starts, so a few long completions do not hold up the
rest. Text, arguments and the model's mode are the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..batching.tree import MIN_SHARED, build_forest
from ..ops.attention import AttentionOptions, Layout
from ..ops.logprobs import base_model, logits_of
from ..ops.sampling import draw, greedy, truncate_logits
from ..progress import Progress
from ..types import UserError
from .kv_store import KVStore

FREE = 0.25
"""Share of the rows that must be free before a cohort starts; smaller cohorts mean more and smaller attentions."""


@dataclass
class Row:
    """One completion in the making."""

    prompt: int
    sample: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


class Cohort:
    """Rows that were started together, with their store; everything per row is in the store's order.

    Args:
        rows: the R rows.
        store: their keys and values.
        positions: (R,) int64 position of each row's last token.
        uniforms: (R, max_new, levels) float64, or None for greedy decoding.
    """

    def __init__(self, rows: list[Row], store: KVStore, positions: Tensor, uniforms: Tensor | None) -> None:
        self.rows, self.store, self.positions, self.uniforms = rows, store, positions, uniforms
        self.newest = torch.empty_like(positions)

    def accept(self, newest: Tensor, tokens: list[float], logprobs: list[float], stops: frozenset[int]) -> None:
        """Append a token to every row and let the ended ones go."""
        self.newest = newest
        ended = []
        for i, (row, token, logprob) in enumerate(zip(self.rows, tokens, logprobs, strict=True)):
            row.tokens.append(int(token))
            row.logprobs.append(logprob)
            row.finished = row.tokens[-1] in stops
            if row.finished or len(row.tokens) == self.store.max_new:
                ended.append(i)
        if ended:
            order = self.store.drop(ended)
            self.rows = [self.rows[i] for i in order]
            kept = torch.tensor(order, dtype=torch.int64, device=newest.device)
            self.newest, self.positions = newest[kept], self.positions[kept]
            self.uniforms = None if self.uniforms is None else self.uniforms[kept]


class Decoding:
    """One run over many rows.

    Args:
        model: a causal LM in eval mode whose attention layers ask the layout.
        prompts: (T,) int32 ids each; rows name them by index.
        max_new: most tokens of a completion.
        truncation: temperature, top_k, top_p, min_p of `truncate_logits`; temperature 0 is greedy.
        stops: ids that end a completion.
        uniforms: row -> (max_new, levels) float64; not called for greedy decoding.
        max_tokens: most distinct prompt tokens in one decoder call.
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: list[np.ndarray],
        max_new: int,
        truncation: tuple[float, int, float, float],
        stops: frozenset[int],
        uniforms: Callable[[Row], np.ndarray],
        max_tokens: int,
    ) -> None:
        self.model, self.prompts, self.max_new, self.truncation = model, prompts, max_new, truncation
        self.stops, self.uniforms, self.max_tokens = stops, uniforms, max_tokens
        self.decoder = base_model(model).get_decoder()
        self.device = next(base_model(model).get_input_embeddings().parameters()).device

    def run(self, rows: list[Row], max_rows: int) -> None:
        """Complete the rows, at most ``max_rows`` at a time, starting them in the order given."""
        cohorts: list[Cohort] = []
        total = len(rows)
        with Progress("generation", total, "completions") as meter:
            while rows or cohorts:
                running = sum(len(c.rows) for c in cohorts)
                begun = sum(len(c.rows) * c.store.generated for c in cohorts) / self.max_new
                meter.at(total - len(rows) - running + begun)  # as if each took all of its tokens
                free = max_rows - running
                if rows and free >= FREE * max_rows:
                    cohorts.append(self.start(rows[:free]))
                    rows = rows[free:]
                else:
                    self.step(cohorts)
                cohorts = [c for c in cohorts if c.rows]
            meter.at(total)

    def start(self, rows: list[Row]) -> Cohort:
        """Run the rows' distinct prompts and draw the first tokens."""
        names = {row.prompt: self.prompts[row.prompt].astype(">u4").tobytes() for row in rows}  # sort like the ids
        slots = {name: slot for slot, name in enumerate(sorted(set(names.values())))}
        by_slot = {slots[name]: self.prompts[prompt] for prompt, name in names.items()}
        prompts = [by_slot[slot] for slot in range(len(slots))]
        rows = sorted(rows, key=lambda row: slots[names[row.prompt]])
        owners = [slots[names[row.prompt]] for row in rows]

        store = KVStore(prompts, owners, self.max_new, self.device)
        hidden = torch.cat([self.prefill(store, prompts, span) for span in _passes(prompts, self.max_tokens)])
        owner = torch.tensor(owners, device=self.device)
        lengths = torch.tensor(store.lengths, device=self.device)
        uniforms = None
        if self.truncation[0] > 0:
            uniforms = torch.from_numpy(np.stack([self.uniforms(row) for row in rows])).to(self.device)
        cohort = Cohort(rows, store, lengths[owner] - 1, uniforms)
        self.choose([cohort], self.truncated(hidden)[owner])
        return cohort

    def prefill(self, store: KVStore, prompts: list[np.ndarray], span: range) -> Tensor:
        """Fill the store with some of its prompts; (P, D) final hidden states of their last tokens."""
        ids, positions, layout, places = build_forest([prompts[i] for i in span])
        hidden = self.hidden(ids, positions, store.prefill(layout, places, span.start))
        config = base_model(self.model).config.get_text_config()
        if missing := sorted(set(range(config.num_hidden_layers)) - set(store.layers)):
            raise UserError(
                f"{type(base_model(self.model)).__name__} cannot be sampled: its layers {missing} mix tokens by other "
                "means than attention; use a model whose layers all attend"
            )
        return hidden[[int(place[-1]) for place in places]]

    def step(self, cohorts: list[Cohort]) -> None:
        """One token for every running row."""
        for cohort in cohorts:
            cohort.store.advance()
            cohort.positions = cohort.positions + 1
        ids, positions = _joined([c.newest for c in cohorts]), _joined([c.positions for c in cohorts])
        layout = cohorts[0].store if len(cohorts) == 1 else _Together([c.store for c in cohorts])
        self.choose(cohorts, self.truncated(self.hidden(ids[None], positions[None], layout)))

    def hidden(self, ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """(1, T) ids and positions -> final hidden states (T, D)."""
        ids, positions = ids.to(self.device), positions.to(self.device)
        out = self.decoder(input_ids=ids, position_ids=positions, use_cache=False, layout=layout)
        return out.last_hidden_state[0]

    def truncated(self, hidden: Tensor) -> Tensor:
        """(R, D) -> logits (R, V), scaled and truncated unless decoding is greedy."""
        logits = logits_of(self.model, hidden)
        return truncate_logits(logits, *self.truncation) if self.truncation[0] > 0 else logits

    def choose(self, cohorts: list[Cohort], logits: Tensor) -> None:
        """Pick the next token of every row of the cohorts, (R, V) in their order, and hand it over."""
        if self.truncation[0] == 0:
            tokens, logprobs = greedy(logits)
        else:
            now = [c.uniforms[:, c.store.generated] for c in cohorts if c.uniforms is not None]
            tokens, logprobs = draw(logits, _joined(now))
        listed = torch.stack([tokens.double(), logprobs.double()]).tolist()  # the step's only wait for the device
        at = 0
        for cohort in cohorts:
            span = slice(at, at + len(cohort.rows))
            at = span.stop
            cohort.accept(tokens[span], listed[0][span], listed[1][span], self.stops)


class _Together:
    """The rows of several stores in one decoder call."""

    def __init__(self, stores: list[KVStore]) -> None:
        self.stores = stores
        self.sizes = [len(s.owners) for s in stores]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        parts = (x.split(self.sizes, 2) for x in (query, key, value))
        outs = [s.attend(layer, q, k, v, options) for s, q, k, v in zip(self.stores, *parts, strict=True)]
        return torch.cat(outs, 2)


def _passes(prompts: list[np.ndarray], max_tokens: int) -> Iterator[range]:
    """Consecutive spans of sorted prompts with at most ``max_tokens`` distinct tokens each, or a single prompt."""
    first = used = 0
    for i, prompt in enumerate(prompts):
        cost = len(prompt)
        if i > first:
            before = prompts[i - 1][:cost]
            differ = np.flatnonzero(prompt[: len(before)] != before)
            shared = int(differ[0]) if len(differ) else len(before)
            cost -= shared if shared >= MIN_SHARED else 0
            if used + cost > max_tokens:
                yield range(first, i)
                first, used, cost = i, 0, len(prompt)
        used += cost
    yield range(first, len(prompts))


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
