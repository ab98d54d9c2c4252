"""Writes the format-following data: payment sentences to be answered with one strict JSON object.

Rows, mix and files are a pure function of the spec: same spec, same bytes, on any machine. Other payments stand in the
prompts as distractors, and a draft shown for correction is as often wrong as right, so that nothing but reading the
TARGET line solves a row. Left out: other tasks, other languages, dates in words.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ..types import UserError
from . import format_texts as words
from .format_texts import JSON_FORMATS, SCHEMA, Payment, Strictness, bad_reply, dumps

Split = Literal["train", "eval"]

FIRST_DAY, NUM_DAYS = datetime.date(2024, 1, 1), 731  # 2024 and 2025
SMALL_CENTS, LARGE_CENTS = (150, 25_000), (100_000, 999_999)  # both ends included
HELD_OUT_OF_256 = 51  # about a fifth of all dates and of all amounts


@dataclass(frozen=True)
class FormatDataSpec:
    """What the generated data holds. Probabilities are drawn in the order duplicate, fix, hard negative, else basic."""

    n_train: int = 200
    """Training rows, at least 1."""
    n_eval: int = 50
    """Evaluation rows, at least 1."""
    seed: int = 7
    """Same seed and spec, same bytes."""
    hard_negative_prob_train: float = 0.35
    """Share of the rows left by the two fix draws whose prompt shows the unwanted kind of reply and forbids it."""
    hard_negative_prob_eval: float = 0.35
    """Share of evaluation rows whose prompt describes the failure without showing any of it."""
    fix_bad_output_prob_train: float = 0.15
    """Share of the rows left by the duplicate draw that show a badly formatted reply to be corrected."""
    fix_duplicate_json_prob_train: float = 0.0
    """Share of training rows that show two objects, of which the one that agrees with TARGET is wanted."""
    train_strictness: Strictness | Literal["mixed", "rising"] = "strict"
    """Training prompts: strict = long rules, one sentence; medium = short rules, a distractor; hard = few, several;
    mixed = any of the three, drawn for each row; rising = a third of the rows each, in this order (a curriculum for
    training without shuffling)."""
    eval_strictness: Strictness | Literal["mixed"] = "strict"
    """The same for evaluation prompts."""
    large_amount_prob: float = 0.1
    """Share of amounts from 1,000.00 to 9,999.99: written with a comma that the JSON number must not have."""
    holdout: bool = True
    """Keep a fifth of all dates and amounts for the evaluation split; no training prompt shows any of them."""

    def check(self) -> None:
        """Raise UserError naming the first field with an impossible value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("n_train", "n_eval"):
                good, wanted = type(value) is int and value >= 1, "a whole number of at least 1, such as 200"
            elif field.name == "seed":
                good, wanted = type(value) is int, "a whole number, such as 7"
            elif field.name == "holdout":
                good, wanted = isinstance(value, bool), "true or false"
            elif field.name.endswith("_strictness"):
                known = (*get_args(Strictness), "mixed", *(["rising"] if field.name.startswith("train") else []))
                good, wanted = value in known, f"one of {', '.join(known)}"
            else:
                good, wanted = type(value) in (int, float) and 0 <= value <= 1, "a probability from 0 to 1"
            if not good:
                raise UserError(f"{field.name}={value!r} is not possible: give {wanted}")


def generate(output_dir: Path, spec: FormatDataSpec) -> dict[str, Any]:
    """Write ``train.jsonl``, ``eval.jsonl``, ``stats.json`` and ``stats.md`` into ``output_dir``.

    Existing files of these names are replaced, and only once all new ones are complete on disk.

    Returns:
        What ``stats.json`` holds.

    Raises:
        UserError: if the spec is impossible or the directory cannot be written.
    """
    spec.check()
    splits = make_splits(spec)
    stats: dict[str, Any] = {
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "out_dir": str(output_dir),
        "params": asdict(spec),
        **{split: _stats(rows) for split, rows in splits.items()},
    }
    texts = {
        f"{split}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for split, rows in splits.items()
    }
    texts["stats.md"] = _stats_page(stats)
    texts["stats.json"] = json.dumps(stats, indent=2, ensure_ascii=False) + "\n"
    _write_all(Path(output_dir), texts)
    return stats


def make_splits(spec: FormatDataSpec) -> dict[Split, list[dict[str, Any]]]:
    """The rows of both splits. No two prompts are equal, within a split or across."""
    seen: set[str] = set()
    splits: dict[Split, list[dict[str, Any]]] = {"train": [], "eval": []}
    for split, rows in splits.items():
        maker = _RowMaker(spec, split)
        for index in range(spec.n_train if split == "train" else spec.n_eval):
            row = maker.row(index)
            while row["prompt"] in seen:
                row = maker.row(index)
            seen.add(row["prompt"])
            rows.append(row)
    return splits


class _RowMaker:
    """The random draws of one split, from a stream of its own: the size of one split does not change the other."""

    def __init__(self, spec: FormatDataSpec, split: Split) -> None:
        self.spec, self.split = spec, split
        self.rng = random.Random(f"{spec.seed}/{split}")  # a text seed is hashed by SHA-512, not by the process
        self.asked = spec.train_strictness if split == "train" else spec.eval_strictness
        self.level: Strictness = "strict"

    def row(self, index: int) -> dict[str, Any]:
        self.level = self.strictness(index)
        variant = self.variant()
        target = self.payment()
        other = self.payment(unlike=target)
        json_format = self.rng.choice(list(JSON_FORMATS))
        block, style = self.block(variant, target, other)
        row = {
            "id": f"format-{self.split}-{index:06d}",
            "prompt": self.prompt(block, target, other, labelled=variant.startswith("fix")),
            "completion": dumps(target.answer(), json_format),
            "schema": SCHEMA,
            "variant": variant,
            "json_format": json_format,
            "instruction_strictness": self.level,
        }
        return row if style is None else {**row, "bad_output_style": style}

    def strictness(self, index: int) -> Strictness:
        levels: tuple[Strictness, ...] = get_args(Strictness)
        if self.asked == "mixed":
            return self.rng.choice(levels)
        return levels[index * len(levels) // self.spec.n_train] if self.asked == "rising" else self.asked

    def variant(self) -> str:
        spec, chance = self.spec, self.rng.random
        if self.split == "eval":
            return "hard_negative_eval_non_priming" if chance() < spec.hard_negative_prob_eval else "basic"
        if chance() < spec.fix_duplicate_json_prob_train:
            return "fix_duplicate_json"
        if chance() < spec.fix_bad_output_prob_train:
            return "fix_bad_output"
        return "hard_negative_train_priming" if chance() < spec.hard_negative_prob_train else "basic"

    def payment(self, unlike: Payment | None = None) -> Payment:
        """A payment of this split's values that differs from ``unlike`` in name, date and amount."""
        while True:
            made = Payment(self.rng.choice(words.NAMES), self.rng.choice(words.ITEMS), self.date(), self.cents())
            if unlike is None or (made.name != unlike.name and made.date != unlike.date and made.cents != unlike.cents):
                return made

    def date(self) -> str:
        while True:
            date = (FIRST_DAY + datetime.timedelta(days=self.rng.randrange(NUM_DAYS))).isoformat()
            if self.allowed(date):
                return date

    def cents(self) -> int:
        while True:
            cents = self.rng.randint(*(LARGE_CENTS if self.rng.random() < self.spec.large_amount_prob else SMALL_CENTS))
            if self.allowed(str(cents)):
                return cents

    def allowed(self, value: str) -> bool:
        """Whether this split may show a date or amount: decided by its hash, so without knowing the other split."""
        held_out = hashlib.sha256(value.encode()).digest()[0] < HELD_OUT_OF_256
        return not self.spec.holdout or held_out == (self.split == "eval")

    def block(self, variant: str, target: Payment, other: Payment) -> tuple[str, str | None]:
        """What stands between the rules and the payment, and the style of the bad reply shown for correction."""
        if variant == "basic":
            return "", None
        if variant == "hard_negative_eval_non_priming":
            return self.rng.choice(words.DESCRIBE_FAILURE), None
        if variant == "hard_negative_train_priming":
            return words.SHOW_FAILURE.format(bad=bad_reply("assistant_fence", self.shown(other.answer()))), None
        if variant == "fix_duplicate_json":
            return words.FIX_DUPLICATE.format(bad=self.two_objects(target, other)), "duplicate_json"
        style = self.rng.choice(words.BAD_OUTPUT_STYLES)
        if style == "duplicate_json":
            return words.FIX_OUTPUT.format(bad=self.two_objects(target, other)), style
        right = self.rng.random() < 0.5  # else repeating the values shown would solve every such row
        draft = target.answer() if right else self.wrong(target, other)
        return words.FIX_OUTPUT.format(bad=bad_reply(style, self.shown(draft))), style

    def two_objects(self, target: Payment, other: Payment) -> str:
        pair = [target.answer(), self.wrong(target, other)]
        self.rng.shuffle(pair)
        return "\n".join(self.shown(answer) for answer in pair)

    def wrong(self, target: Payment, other: Payment) -> dict[str, Any]:
        """The target's answer with one to three values of the other payment."""
        taken = self.rng.sample(list(SCHEMA), self.rng.randint(1, len(SCHEMA)))
        return {**target.answer(), **{key: other.answer()[key] for key in taken}}

    def shown(self, answer: Mapping[str, Any]) -> str:
        return dumps(answer, self.rng.choice(list(JSON_FORMATS)))

    def prompt(self, block: str, target: Payment, other: Payment, labelled: bool) -> str:
        """Rules, block and payment lines. The lines come in any order: only the word TARGET tells which one counts."""
        rules = words.RULES[self.level]
        if self.level == "strict":
            lines = [f"{'TARGET' if labelled else 'Text'}: {self.sentence(target)}"]
        elif self.level == "medium":
            lines = [f"TARGET: {self.sentence(target)}", f"Previous: {self.sentence(other)}"]
            self.rng.shuffle(lines)
            lines = [f"Reference number: {self.rng.randint(10_000, 99_999)}", *lines]
        else:
            target_id, legacy_id = (
                f"{letter}{self.rng.randint(100, 999)}" for letter in self.rng.sample("ABCDEFGH", 2)
            )
            rules = rules.format(target_id=target_id)
            past = self.payment(unlike=target)
            lines = [
                f"TARGET [{target_id}]: {self.sentence(target)}",
                f"Legacy [{legacy_id}]: {self.sentence(other)}",
                f"Summary: {self.rng.randint(2, 9)} payments, {self.amount(past.cents)} in all, closed {past.date}.",
                f"Note: {self.rng.choice(words.NOTES).format(name=past.name)}",
            ]
            self.rng.shuffle(lines)
        return "\n".join(part for part in (rules, block, *lines) if part)

    def sentence(self, payment: Payment) -> str:
        amount = self.amount(payment.cents)
        return self.rng.choice(words.SENTENCES).format(
            name=payment.name, amount=amount, item=payment.item, date=payment.date
        )

    def amount(self, cents: int) -> str:
        """The amount as people write it: 30% drop trailing zeros, 30% put a space after the sign."""
        text = f"{cents // 100:,}.{cents % 100:02d}"
        if self.rng.random() < 0.3:
            text = text.rstrip("0").rstrip(".")
        return f"$ {text}" if self.rng.random() < 0.3 else f"${text}"


def _stats(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    styles: dict[str, dict[str, int]] = {}
    for variant in sorted({row["variant"] for row in rows if "bad_output_style" in row}):
        styles[variant] = _counts([row for row in rows if row["variant"] == variant], "bad_output_style")
    return {
        "num_rows": len(rows),
        "variant_counts": _counts(rows, "variant"),
        "json_format_counts": _counts(rows, "json_format"),
        "instruction_strictness_counts": _counts(rows, "instruction_strictness"),
        "bad_output_style_counts": styles,
    }


def _counts(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, int]:
    return dict(sorted(Counter(row[column] for row in rows).items()))


def _stats_page(stats: Mapping[str, Any]) -> str:
    """The stats for a reader. Without time and place, so that it too is the same for the same spec."""

    def bullets(values: Mapping[str, Any], indent: str = "") -> list[str]:
        lines = []
        for key, value in values.items():
            nested = isinstance(value, Mapping)
            lines.append(f"{indent}- {key}:" if nested else f"{indent}- {key}: {json.dumps(value)}")
            lines += bullets(value, indent + "  ") if nested else []
        return lines

    sections = [[f"## {part}", "", *bullets(stats[part]), ""] for part in ("params", "train", "eval")]
    return "\n".join(["# Format-following data", "", *(line for section in sections for line in section)])


def _write_all(directory: Path, texts: Mapping[str, str]) -> None:
    """Complete temporaries first, then the renames: a failure while writing leaves the old files as they were."""
    temporaries = {name: directory / f".{name}.{os.getpid()}.tmp" for name in texts}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for name, text in texts.items():
                temporaries[name].write_bytes(text.encode())
            for name, temporary in temporaries.items():
                temporary.replace(directory / name)
        finally:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"output_dir={directory} cannot be written ({error}): give a directory that can") from error
