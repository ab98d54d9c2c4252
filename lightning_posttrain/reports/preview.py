"""What one optimizer step really holds: its rows token by token, its micro-batches as trees, and what packing saves.

Read from the data module and the loader that training uses; nothing is rendered or packed a second way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..batching.loader import ExampleSource, StepLoader
from ..batching.mix import Mixture
from ..types import MicroBatch, StepBatch
from .tokens import TokenReader, TokenView
from .visible import NEWLINE, visible

MOST_BRANCHES, MOST_TREES = 12, 4
"""Branches of a node and micro-batches of a step that are drawn; the rest is counted."""
QUOTE = 60


@dataclass(frozen=True)
class Row:
    """A sequence as it will be trained."""

    title: str
    views: list[TokenView]


@dataclass(frozen=True)
class Preview:
    """Facts about the data and the step, the step's trees, and the first of its rows."""

    facts: list[tuple[str, str]]
    trees: list[str]
    rows: list[Row]


def preview(data: Any, tokenizer: Any, step: int, most_rows: int) -> Preview:
    """Look at optimizer step ``step`` (counted from 0 over all epochs) of a prepared data module, on one rank."""
    loader: StepLoader = data.train_dataloader()
    epoch, index = divmod(step, len(loader))
    loader.go_to(epoch, index)
    batch = next(iter(loader))
    first = index * loader.per_step
    picked = loader.order(epoch)[first : first + min(most_rows, batch.num_examples)]
    reader = TokenReader(tokenizer)
    in_blocks = isinstance(loader.source, Mixture) and loader.source.unit[0] == "tokens"
    unit = "block" if in_blocks else "row"
    rows = []
    for number, i in enumerate(picked):
        for part, sequence in enumerate(loader.source[int(i)]):
            trained = int(sequence.supervised.sum())
            name = f"{unit} {number}{f' ({part})' if len(loader.source[int(i)]) > 1 else ''}"
            title = f"{name}: {_named(sequence.id, sequence.origin)}: {len(sequence.ids)} tokens, {trained} trained"
            rows.append(Row(title, reader.views(sequence)))
    about = [*_block_facts(loader), *_document_facts(batch)] if in_blocks else _data_facts(data, loader)
    held_out = getattr(data, "val_set", None)
    validation = ("validation", f"{len(held_out):,} {unit}s" if held_out is not None else "none")
    facts = [*about, validation, *_step_facts(batch, step, f"{unit}s")]
    return Preview(facts, _trees(batch, tokenizer), rows)


def _named(id: str, origin: str) -> str:
    """A row by its id and place; without an id column the place is the id."""
    return origin if id == origin else f"{id}, {origin}"


def _data_facts(data: Any, loader: StepLoader) -> list[tuple[str, str]]:
    source = loader.source
    lengths = example_lengths(source)
    limit = getattr(data, "limits", {}).get("max_length")
    steps, left = len(loader), len(source) % loader.per_step
    return [
        ("rows", f"{len(source):,} to train on{_left_out(source)}"),
        ("tokens per row", f"{_spread(lengths)}; max_length {f'{limit:,}' if limit else 'none'}"),
        *(("note", f"{count:,} rows: {note}") for note, count in _notes(source).items()),
        ("steps per epoch", f"{steps:,} of {loader.per_step} rows{f', the last of {left}' if left else ''}"),
    ]


def _block_facts(loader: StepLoader) -> list[tuple[str, str]]:
    """What a pretraining run draws from each of its sources."""
    mixture: Any = loader.source
    length, steps = mixture.unit[1], len(loader)
    mix = [
        (
            f"mix {name}",
            f"{part['realised']:.4f} of the tokens (requested {part['requested']:.4f}): {part['tokens']:,} of "
            f"{part['tokens_available']:,}, used {part['repeats']:g} times",
        )
        for name, part in mixture.report().items()
    ]
    return [
        ("blocks", f"{len(mixture):,} of {length:,} tokens to train on"),
        *mix,
        ("steps", f"{steps:,} of {loader.per_step:,} blocks, {loader.per_step * length:,} tokens"),
    ]


def _document_facts(batch: StepBatch) -> list[tuple[str, str]]:
    lengths = np.concatenate([micro.lengths.numpy() for micro in batch.micros])
    return [("documents", f"{len(lengths):,} whole or in part in this step; tokens: {_spread(lengths)}")]


def _spread(lengths: np.ndarray) -> str:
    points = {"shortest": 0, "median": 50, "90%": 90, "99%": 99, "longest": 100}
    return ", ".join(f"{k} {np.percentile(lengths, p, method='lower'):,.0f}" for k, p in points.items())


def example_lengths(source: ExampleSource) -> np.ndarray:
    """(N,) tokens of each example, from the index of tokenised data where there is one."""
    if hasattr(source, "lengths"):
        return np.asarray(source.lengths)
    if hasattr(source, "indices") and hasattr(source, "source"):
        return example_lengths(source.source)[source.indices]
    return np.array([sum(len(s.ids) for s in source[i]) for i in range(len(source))])


def _left_out(source: Any) -> str:
    """What the policy for bad rows counted when the data was tokenised."""
    report = _found(source, "report")
    skipped, dropped = report.get("n_skipped", 0), report.get("n_dropped", 0)
    reasons = "; ".join(f"{n} x {reason}" for reason, n in report.get("reasons", {}).items())
    return f", {skipped:,} bad ones skipped, {dropped:,} dropped" + (f" ({visible(reasons)})" if reasons else "")


def _notes(source: Any) -> dict[str, int]:
    """What is trained though the rows do not say so, or otherwise than they seem to: how many rows of the file each."""
    if isinstance(source, Mixture):
        found: Counter[str] = Counter()
        for part in source.sources:
            found.update(_notes(part))
        return found
    return _found(source, "notes")


def _found(source: Any, name: str) -> dict[str, Any]:
    """What the tokenised data under ``source`` holds by this name."""
    while not hasattr(source, name) and hasattr(source, "source"):
        source = source.source
    return getattr(source, name, {})


def _step_facts(batch: StepBatch, step: int, unit: str) -> list[tuple[str, str]]:
    distinct = [m.layout.num_tokens for m in batch.micros]
    effective = sum(int(m.lengths.sum()) for m in batch.micros)
    head = sum(len(m.targets) for m in batch.micros)
    count = len(distinct)
    balance = f", the smallest {min(distinct) / max(distinct):.0%} of the largest" if count > 1 else ""
    return [
        ("step", f"{step} (epoch {batch.epoch}, batch {batch.index}): {batch.num_examples} {unit}"),
        ("micro-batches", f"{count} of at most {max(distinct):,} tokens{balance}"),
        (
            "tokens",
            f"{effective:,} in the {unit}, {sum(distinct):,} distinct: sharing {effective / sum(distinct):.2f}x",
        ),
        ("trained", f"{batch.num_tokens:,} tokens ({batch.num_tokens / effective:.1%}), {head:,} head predictions"),
    ]


# ---- trees ----------------------------------------------------------------------------------------------------------


def _trees(batch: StepBatch, tokenizer: Any) -> list[str]:
    trees = [
        "\n".join([_summary(i, micro), *_branches(micro, tokenizer)])
        for i, micro in enumerate(batch.micros[:MOST_TREES])
    ]
    return [*trees, *(_summary(i, m) for i, m in enumerate(batch.micros[MOST_TREES:], start=MOST_TREES))]


def _summary(index: int, micro: MicroBatch) -> str:
    return (
        f"micro-batch {index}: {micro.num_sequences} sequences, {micro.layout.num_tokens:,} distinct of "
        f"{int(micro.lengths.sum()):,} tokens, {len(micro.gather):,} trained"
    )


def _branches(micro: MicroBatch, tokenizer: Any) -> list[str]:
    """One line per node: its tokens, how many sequences go through it, and how it begins or which rows end in it."""
    layout = micro.layout
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(layout.parents):
        children.setdefault(parent, []).append(node)
    ends = _end_nodes(micro)
    through: Counter[int] = Counter()
    for node in ends:
        while node >= 0:
            through[node] += 1
            node = layout.parents[node]
    trained = np.bincount(micro.sequence.numpy(), minlength=micro.num_sequences)

    def label(node: int) -> str:
        start, length = layout.starts[node], layout.lengths[node]
        rows = [
            f"{_named(micro.ids[s], micro.origins[s])} ({trained[s]} trained)"
            for s, end in enumerate(ends)
            if end == node
        ]
        text = tokenizer.decode(micro.input_ids[0, start : start + min(length, QUOTE)].tolist())
        quote = visible(text, NEWLINE)[:QUOTE]
        shared = f" shared by {through[node]} sequences" if through[node] > 1 else ""
        return f"{length} tokens{shared}: {quote!r}" + (f" -> {', '.join(rows)}" if rows else "")

    return _draw(children.get(-1, []), children, label, "  ")


def _draw(nodes: Sequence[int], children: dict[int, list[int]], label: Callable[[int], str], indent: str) -> list[str]:
    lines: list[str] = []
    for i, node in enumerate(nodes[:MOST_BRANCHES]):
        last = i == len(nodes) - 1
        lines.append(f"{indent}{'└─' if last else '├─'} {label(node)}")
        lines += _draw(children.get(node, []), children, label, indent + ("   " if last else "│  "))
    if len(nodes) > MOST_BRANCHES:
        lines.append(f"{indent}└─ ... {len(nodes) - MOST_BRANCHES} more branches")
    return lines


def _end_nodes(micro: MicroBatch) -> list[int]:
    """The node that holds the last input token of each sequence: it predicts the last token, which is supervised."""
    last = np.zeros(micro.num_sequences, np.int64)
    np.maximum.at(last, micro.sequence.numpy(), micro.sources[micro.gather].numpy())
    return (np.searchsorted(micro.layout.starts, last, side="right") - 1).tolist()
