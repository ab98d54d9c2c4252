"""Generates completions for evaluation and for RL: prompts computed once, finished rows leave, logprobs are kept.

Rows are started in cohorts of similar prompt length; when enough rows have ended, the next cohort joins those still
running, and every step runs the decoder once over all of them. What is drawn for a completion depends on (seed, step,
prompt key, sample) alone. Beam search, penalties, several stop strings and streaming are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..batching.tree import MIN_SHARED, build_forest
from ..ops.attention import ATTENTION, AttentionOptions, use_layout_attention
from ..ops.logprobs import base_model, logits_of, plain_head
from ..ops.sampling import draw, greedy, truncate_logits, uniforms
from ..types import Completion, UserError
from .kv_store import KVStore

REFILL = 0.5
FEW = 8
"""Up to so many rows, weight @ hidden.T is up to 8 times as fast as hidden @ weight.T on CPU (but not for a single one)."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn.

    Args:
        max_new_tokens: most tokens of a completion, the stop token included.
        temperature: divides the logits; 0 is greedy.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens that together reach this probability; 1 keeps all.
        min_p: keep tokens at least this many times as probable as the most probable one; 0 keeps all.

    Raises:
        UserError: naming the field that is out of range.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        rules = {
            "max_new_tokens": (self.max_new_tokens >= 1, "use at least 1"),
            "temperature": (0 <= self.temperature < math.inf, "use 0 for greedy decoding or a positive number"),
            "top_k": (self.top_k >= 0, "use 0 to keep all tokens or a positive number"),
            "top_p": (0 < self.top_p <= 1, "use a probability in (0, 1]; 1 keeps all tokens"),
            "min_p": (0 <= self.min_p <= 1, "use a ratio in [0, 1]; 0 keeps all tokens"),
        }
        for name, (valid, remedy) in rules.items():
            if not valid:
                raise UserError(f"sampling parameter {name}={getattr(self, name)}: {remedy}")


@dataclass
class _Row:
    """One completion in the making."""

    prompt: int
    sample: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


class _Cohort:
    """Rows that were started together: their store, newest tokens, positions and uniforms, in the store's order."""

    def __init__(self, rows: list[_Row], store: KVStore, positions: Tensor, numbers: Tensor | None) -> None:
        self.rows, self.store, self.positions, self.numbers = rows, store, positions, numbers
        self.newest = positions  # replaced by the first token drawn

    def uniform(self) -> Tensor | None:
        """(R,) the uniforms of the next token."""
        return None if self.numbers is None else self.numbers[:, self.store.generated]

    def accept(self, newest: Tensor, drawn: list[list[float]], stops: frozenset[int]) -> None:
        """Append a token to every row and let the ended ones go."""
        self.newest = newest
        ended = []
        for i, (row, token, logprob) in enumerate(zip(self.rows, *drawn, strict=True)):
            row.tokens.append(int(token))
            row.logprobs.append(logprob)
            row.finished = row.tokens[-1] in stops
            if row.finished or len(row.tokens) == self.store.max_new:
                ended.append(i)
        if ended:
            order = self.store.drop(ended)
            self.rows = [self.rows[i] for i in order]
            kept = torch.tensor(order, dtype=torch.int64, device=newest.device)
            self.newest, self.positions = self.newest[kept], self.positions[kept]
            self.numbers = None if self.numbers is None else self.numbers[kept]


class _Together:
    """The rows of several stores in one decoder call."""

    def __init__(self, stores: list[KVStore]) -> None:
        self.stores = stores
        self.sizes = [len(s.owners) for s in stores]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: AttentionOptions) -> Tensor:
        parts = (x.split(self.sizes, 2) for x in (query, key, value))
        return torch.cat([s.attend(layer, *p, options) for s, *p in zip(self.stores, *parts, strict=True)], 2)


class _Sampler:
    """One call of `generate`."""

    def __init__(
        self,
        model: nn.Module,
        prompts: list[np.ndarray],
        params: SamplingParams,
        stops: frozenset[int],
        max_tokens: int,
    ) -> None:
        self.model, self.prompts, self.params, self.stops, self.max_tokens = model, prompts, params, stops, max_tokens
        self.decoder = base_model(model).get_decoder()
        self.head = plain_head(model)
        self.device = base_model(model).get_input_embeddings().weight.device
        self.truncation = (params.temperature, params.top_k, params.top_p, params.min_p)

    def run(self, rows: list[_Row], number: Callable[[_Row], np.ndarray], max_rows: int) -> None:
        """Complete the rows, at most ``max_rows`` at a time, in the order given."""
        cohorts: list[_Cohort] = []
        waiting = rows
        while waiting or cohorts:
            running = sum(len(c.rows) for c in cohorts)
            if waiting and running <= max_rows * REFILL:  # half at once: small cohorts would mean many small attentions
                starting, waiting = waiting[: max_rows - running], waiting[max_rows - running :]
                cohorts.append(self.start(starting, number))
            else:
                self.step(cohorts)
            cohorts = [c for c in cohorts if c.rows]

    def start(self, rows: list[_Row], number: Callable[[_Row], np.ndarray]) -> _Cohort:
        """Run the rows' distinct prompts and draw the first tokens."""
        distinct = {self.prompts[row.prompt].tobytes(): self.prompts[row.prompt] for row in rows}
        order = sorted(distinct, key=lambda name: distinct[name].astype(">u4").tobytes())
        prompts = [distinct[name] for name in order]
        place = {name: i for i, name in enumerate(order)}
        rows = sorted(rows, key=lambda row: place[self.prompts[row.prompt].tobytes()])
        owners = [place[self.prompts[row.prompt].tobytes()] for row in rows]
        store = KVStore(prompts, owners, self.params.max_new_tokens)
        hidden = torch.cat([self.prefill(store, prompts, span) for span in _passes(prompts, self.max_tokens)])
        store.start(self.device)
        owner = torch.tensor(owners, device=self.device)
        lengths = torch.tensor(store.lengths, device=self.device)[owner]
        numbers = None
        if self.params.temperature > 0:
            numbers = torch.from_numpy(np.stack([number(row) for row in rows])).to(self.device)
        cohort = _Cohort(rows, store, lengths - 1, numbers)
        self.choose([cohort], hidden, owner)
        return cohort

    def prefill(self, store: KVStore, prompts: list[np.ndarray], span: range) -> Tensor:
        """Fill the store with some prompts; the final hidden state of each one's last token."""
        ids, positions, layout, places = build_forest([prompts[i] for i in span])
        hidden = self.hidden(ids, positions, store.prefill(layout, places, span.start, self.device))
        missing = set(range(base_model(self.model).config.get_text_config().num_hidden_layers)) - set(store.layers)
        if missing:
            raise UserError(
                f"{type(base_model(self.model)).__name__} cannot be sampled: its layers {sorted(missing)} mix tokens "
                "by other means than attention; use a model whose layers all attend"
            )
        return hidden[[int(p[-1]) for p in places]]

    def step(self, cohorts: list[_Cohort]) -> None:
        """One token for every running row."""
        for cohort in cohorts:
            cohort.store.advance()
            cohort.positions = cohort.positions + 1
        ids, positions = (_joined([getattr(c, x) for c in cohorts]) for x in ("newest", "positions"))
        stores = [c.store for c in cohorts]
        layout = stores[0] if len(stores) == 1 else _Together(stores)
        self.choose(cohorts, self.hidden(ids[None], positions[None], layout))

    def hidden(self, ids: Tensor, positions: Tensor, layout: object) -> Tensor:
        """(1, T) ids and positions -> (T, D)."""
        ids, positions = ids.to(self.device), positions.to(self.device)
        out = self.decoder(input_ids=ids, position_ids=positions, use_cache=False, layout=layout)
        return out.last_hidden_state[0]

    def choose(self, cohorts: list[_Cohort], hidden: Tensor, owner: Tensor | None = None) -> None:
        """Draw the next token of every row from its hidden state, or from its prompt's if ``owner`` says whose."""
        logits = self.logits(hidden)
        if self.params.temperature == 0:
            tokens, logprobs = greedy(logits)
            if owner is not None:
                tokens, logprobs = tokens[owner], logprobs[owner]
        else:
            logits = truncate_logits(logits, *self.truncation)
            logits = logits if owner is None else logits[owner]
            tokens, logprobs = draw(logits, _joined([c.uniform() for c in cohorts]))
        drawn = torch.stack([tokens.double(), logprobs.double()]).tolist()  # the step's only wait for the device
        at = 0
        for cohort in cohorts:
            span = slice(at, at + len(cohort.rows))
            cohort.accept(tokens[span], [x[span] for x in drawn], self.stops)
            at = span.stop

    def logits(self, hidden: Tensor) -> Tensor:
        """(R, D) -> (R, V) float32 (or float64)."""
        head, rows = self.head, len(hidden)
        if head is None or rows > FEW or hidden.device.type != "cpu" or hidden.dtype != torch.float32:
            return logits_of(self.model, hidden)
        few = hidden if rows > 1 else hidden.repeat(2, 1)
        logits = torch.mm(head.weight, few.t()).t()[:rows].contiguous()
        return logits if head.bias is None else logits + head.bias


def generate(
    model: nn.Module,
    prompts: Sequence[list[int]],
    params: SamplingParams,
    stop_ids: Collection[int],
    decode_text: Callable[[list[int]], str],
    *,
    n: int = 1,
    seed: int = 0,
    step: int = 0,
    keys: Sequence[int | str] | None = None,
    max_rows: int = 64,
    max_tokens: int = 8192,
) -> list[list[Completion]]:
    """Sample ``n`` completions of every prompt.

    The completions do not depend on the other prompts, their order, ``max_rows`` or the number of ranks (up to
    rounding of the logits): each is drawn with its own uniforms, keyed by (seed, step, key of its prompt, sample).
    The model runs in eval mode and without gradients; its train mode, its attention and all global random states are
    left as they were.

    Args:
        model: a causal LM, possibly inside an adapter wrapper.
        prompts: token ids.
        params: how tokens are drawn.
        stop_ids: token ids that end a completion; they are part of it.
        decode_text: ids -> text, special tokens kept.
        n: completions per prompt.
        seed, step: the run's seed and the step (or 0) at which the completions are drawn.
        keys: identity of each prompt; its index by default. Equal keys draw with equal uniforms.
        max_rows: most completions generated at the same time (memory).
        max_tokens: most distinct prompt tokens in one decoder call, unless one prompt alone has more (memory).

    Returns:
        ``[prompt][sample]``.

    Raises:
        UserError: naming an empty prompt, one too long for the model, an argument out of range, or a model whose
            layers do not all attend.
    """
    arrays = _checked(model, prompts, params, n, keys, max_rows, max_tokens)
    names = list(range(len(prompts))) if keys is None else list(keys)
    rows = [_Row(prompt, sample) for prompt in range(len(prompts)) for sample in range(n)]
    stops = frozenset(int(i) for i in stop_ids)

    def number(row: _Row) -> np.ndarray:
        return uniforms(seed, step, names[row.prompt], row.sample, params.max_new_tokens)

    with _sampling(model), torch.inference_mode():
        sampler = _Sampler(model, arrays, params, stops, max_tokens)
        sampler.run(sorted(rows, key=lambda row: -len(arrays[row.prompt])), number, max_rows)
    done = [_completion(row, decode_text) for row in rows]
    return [done[i : i + n] for i in range(0, len(done), n)]


def _completion(row: _Row, decode_text: Callable[[list[int]], str]) -> Completion:
    shown = row.tokens[:-1] if row.finished else row.tokens
    return Completion(tuple(row.tokens), tuple(row.logprobs), decode_text(shown), row.finished)


def _checked(
    model: nn.Module,
    prompts: Sequence[list[int]],
    params: SamplingParams,
    n: int,
    keys: Sequence[int | str] | None,
    max_rows: int,
    max_tokens: int,
) -> list[np.ndarray]:
    """The prompts as int32 arrays, or a UserError."""
    for name, value in (("n", n), ("max_rows", max_rows), ("max_tokens", max_tokens)):
        if value < 1:
            raise UserError(f"{name}={value}: use at least 1")
    if keys is not None and len(keys) != len(prompts):
        raise UserError(f"{len(keys)} keys for {len(prompts)} prompts: give each prompt one")
    positions = getattr(base_model(model).config.get_text_config(), "max_position_embeddings", None) or math.inf
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise UserError(f"prompt {i} is empty: give it at least one token, such as the beginning-of-text token")
        if len(prompt) + params.max_new_tokens > positions:
            raise UserError(
                f"prompt {i} has {len(prompt)} tokens, which with max_new_tokens={params.max_new_tokens} exceeds the "
                f"model's {positions} positions; shorten the prompt or lower max_new_tokens"
            )
    return [np.asarray(prompt, dtype=np.int32) for prompt in prompts]


def _passes(prompts: list[np.ndarray], max_tokens: int) -> Iterator[range]:
    """Consecutive spans of sorted prompts with at most ``max_tokens`` distinct tokens each."""
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


@contextmanager
def _sampling(model: nn.Module) -> Iterator[None]:
    """Eval mode and layout attention inside; each module's own mode and the former attention after."""
    modes = [(module, module.training) for module in model.modules()]
    before = base_model(model).config._attn_implementation
    model.eval()
    try:
        if before != ATTENTION:
            use_layout_attention(base_model(model))
        yield
    finally:
        if before != ATTENTION:
            base_model(model).set_attn_implementation(before)
        for module, mode in modes:
            module.training = mode
