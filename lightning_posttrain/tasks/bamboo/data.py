"""Writes the Bamboo data: questions about tables, answered with Ibis code. Every claim in it is proved by running it.

The gold code of an item is run on every filling of its tables, and what it gives is what is expected. An item stays
only if each naive change of its code (`mutants.naive`) is told from it by some filling; until then its tables
are filled anew. A rejected answer of a preference pair is one that the task's scorer has failed. An item is a function
of (seed, file, tier, index): the first rows of a file do not depend on how many follow. Left out: other dialects.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...sandbox import Job, Sandbox, SandboxSpec
from ...types import Completion, Record, UserError
from ..format_data import _write_all
from . import mutants as mutations
from .easy import EasySchema, easy_schemas, easy_templates, easy_values, fill_easy
from .items import Draft, Place, answer_text, complete, filled_in, row_of
from .schemas import FLAVOURS, SCHEMAS, Schema, fill
from .task import Bamboo
from .templates import Template, values
from .templates_more import TEMPLATES

SIZES: dict[str, tuple[int, int]] = {
    "sft_train": (480, 264),
    "sft_val": (30, 30),
    "sft_test": (40, 51),
    "dpo_train": (90, 136),
    "dpo_val": (15, 15),
    "rlvr_train": (90, 128),
    "rlvr_val": (15, 15),
}
"""File -> rows of the easy tier and of the others."""
KINDS = ("sft", "dpo", "rlvr")
COMMON = frozenset({"syntax", "raw_sql", "pandas_code", "eager", "hallucinated_method", "hard_coded", "wrong_column"})
"""Labels of wrong answers that nearly every item has one of."""
RARE_WEIGHT = 4.0
ATTEMPTS = 80
"""Fillings of one item until its template is taken to be unable to tell gold from naive code."""


@dataclass(frozen=True)
class BambooDataSpec:
    """What the generated data holds."""

    seed: int = 0
    """Same seed and sizes, same bytes."""
    scale: float = 1.0
    """Rows of each file in proportion to those of the committed data, rounded up."""

    def check(self) -> None:
        """Raise UserError naming the first field with an impossible value."""
        if type(self.seed) is not int:
            raise UserError(f"seed={self.seed!r} is not possible: give a whole number, such as 0")
        if type(self.scale) not in (int, float) or not 0 < self.scale <= 5:
            raise UserError(f"scale={self.scale!r} is not possible: give a number above 0 and up to 5, such as 0.1")


def generate(output_dir: Path, spec: BambooDataSpec, sandbox: SandboxSpec | None = None) -> dict[str, Any]:
    """Write the files of `SIZES` and ``stats.json`` into ``output_dir``.

    Existing files of these names are replaced, and only once all new ones are complete.

    Returns:
        What ``stats.json`` holds.

    Raises:
        UserError: the spec is impossible, or the directory cannot be written.
        SandboxFault: the sandbox failed.
    """
    spec.check()
    stats: dict[str, Any] = {"params": {"seed": spec.seed, "scale": spec.scale}}
    texts, seen = {}, set[str]()
    maker = Maker(spec.seed, sandbox)
    for file, sizes in SIZES.items():
        easy, other = (-(-int(size * spec.scale * 1000) // 1000) for size in sizes)
        rows = maker.rows(file, easy, other)
        print(f"{file}: {len(rows)} rows proved", file=sys.stderr)
        for row in rows:
            text = json.dumps(row.get("prompt") or row["messages"][:-1])
            if text in seen:
                raise UserError(f"{row['id']}: its prompt was made before; use another seed, or less than {spec.scale}")
            seen.add(text)
        texts[f"{file}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        stats[file] = _stats(rows)
    maker.close()
    texts["stats.json"] = json.dumps(stats, indent=2) + "\n"
    _write_all(Path(output_dir), texts)
    return stats


class Maker:
    """Makes rows and proves them.

    Args:
        seed: of all draws.
        sandbox: how code is run; None = with time to spare, because a verdict must not depend on the machine.
    """

    def __init__(self, seed: int, sandbox: SandboxSpec | None = None) -> None:
        self.seed = seed
        spec = sandbox or SandboxSpec(wall_seconds=20.0, cpu_seconds=20.0)
        self.sandbox, self.task = Sandbox(spec), Bamboo(spec)
        schemas, templates = easy_schemas(), easy_templates()
        self.easy = {split: [(t, s) for t in templates[split] for s in schemas[split]] for split in SCHEMAS}
        for split, pairs in self.easy.items():
            random.Random(f"{seed}/{split}/easy").shuffle(pairs)

    def close(self) -> None:
        """Stop the workers."""
        self.sandbox.close()
        self.task.close()

    def rows(self, file: str, easy: int, other: int) -> list[dict[str, Any]]:
        """The first rows of both tiers of a file, evenly mixed."""
        places = [(Place(file, tier, i), (i + 0.5) / n) for tier, n in ((True, easy), (False, other)) for i in range(n)]
        places.sort(key=lambda pair: pair[1])
        made: dict[Place, dict[str, Any]] = {}
        for attempt in range(ATTEMPTS):
            left = [place for place, _ in places if place not in made]
            if not left:
                return [made[place] for place, _ in places]
            made |= self._proved([self._draft(place, attempt) for place in left])
        names = {self._draft(place, 0).template.name for place, _ in places if place not in made}
        raise UserError(f"{file}: no tables tell gold from naive code for {sorted(names)}; change these templates")

    def _draft(self, place: Place, attempt: int) -> Draft:
        template, schema = self._question(place)
        rng = random.Random(f"{self.seed}/{place.id}/{attempt}")  # a text seed is hashed by SHA-512, not by the process
        if isinstance(schema, EasySchema):
            words = {**schema.words(), **easy_values(schema, rng)}
            fillings = tuple(fill_easy(schema, flavour, rng) for flavour in FLAVOURS)
        else:
            words = {**schema.words(), **values(schema, rng)}
            used = [schema.t, schema.d] if "{d}" in template.gold else [schema.t]
            filled = [fill(schema, flavour, rng) for flavour in FLAVOURS]
            fillings = tuple(tuple(table for table in tables if table.name in used) for tables in filled)
        return Draft(place, template, schema, fillings, words, template.gold.format(**words), rng)

    def _question(self, place: Place) -> tuple[Template, Schema | EasySchema]:
        """Template and schema of an item: pairs in a drawn order, each once before any again.

        In the easy tier, where a pair is nearly all of a prompt, the files of a split take turns in one such order.
        """
        if place.easy:
            easy = self.easy[place.split]
            return easy[(place.index * len(KINDS) + KINDS.index(place.kind)) % len(easy)]
        pairs = [(t, s) for t in TEMPLATES if t.split == place.split for s in SCHEMAS[place.split]]
        random.Random(f"{self.seed}/{place.file}").shuffle(pairs)
        return pairs[place.index % len(pairs)]

    def _proved(self, drafts: Sequence[Draft]) -> dict[Place, dict[str, Any]]:
        """The rows of those drafts whose tables tell gold from naive code."""
        outcomes = iter(self.sandbox.run([Job(complete(d.gold), tables) for d in drafts for tables in d.fillings]))
        tried: list[_Trial] = []
        for draft in drafts:
            runs = [next(outcomes) for _ in draft.fillings]
            if failed := next((run for run in runs if run.status != "ok"), None):
                raise UserError(f"template {draft.template.name}: {draft.gold!r} fails: {failed}")
            ordered = draft.template.ordered is not None
            rows = [list(run.rows or ()) if ordered else sorted(run.rows or (), key=repr) for run in runs]
            if not rows[0] or not any(rows[1:]):
                continue  # an empty result is expected of many a wrong answer
            row = json.loads(json.dumps(row_of(draft, runs[0].columns or (), rows)))  # as it will be read
            mutants = mutations.naive(draft.gold, filled_in(draft))
            mutants = [(label, code) for label, code in mutants if label not in draft.template.immune]
            tried.append(_Trial(draft, row, self.task.record(row, draft.place.id), mutants))
        golds = self.task.score_all([(trial.record, _completion(trial.draft.gold)) for trial in tried])
        for trial, score in zip(tried, golds, strict=True):
            if not score.values["values_hidden"]:
                raise UserError(f"template {trial.draft.template.name}: {trial.draft.gold!r} changes between runs")
        kept = self._told_apart(tried)
        return {
            trial.draft.place: self._pair(trial) if trial.draft.place.kind == "dpo" else trial.row for trial in kept
        }

    def _told_apart(self, tried: Sequence[_Trial]) -> list[_Trial]:
        """Those whose every naive version is failed. Most are by the visible tables, so these are tried first."""
        pairs = [(i, _completion(code)) for i, trial in enumerate(tried) for _, code in trial.mutants]
        visible = [_visible_only(trial.record) for trial in tried]
        scores = self.task.score_all([(visible[i], text) for i, text in pairs])
        pairs = [pair for pair, score in zip(pairs, scores, strict=True) if score.values["values_hidden"]]
        scores = self.task.score_all([(tried[i].record, text) for i, text in pairs])
        passed = {i for (i, _), score in zip(pairs, scores, strict=True) if score.values["values_hidden"]}
        return [trial for i, trial in enumerate(tried) if i not in passed]

    def _pair(self, trial: _Trial) -> dict[str, Any]:
        """The item as a preference pair, with an answer that the scorer fails, most likely one of a rare label."""
        draft, row, problem = trial.draft, trial.row, trial.record.meta["problem"]
        visible = problem.expected[0]
        by_label: dict[str, list[str]] = {}
        for label, code in [*trial.mutants, *mutations.blunders(draft.gold, draft.schema.words(), visible)]:
            by_label.setdefault(label, []).append(code)
        drawn = {
            label: draft.rng.random() ** (1 / (1 if label in COMMON else RARE_WEIGHT)) for label in sorted(by_label)
        }
        for label in sorted(drawn, key=drawn.__getitem__, reverse=True):
            text = answer_text(draft, draft.rng.choice(by_label[label]), visible)
            score = self.task.score(trial.record, Completion((), (), text, True))
            if not score.values["values_hidden"]:
                rejected = [{"role": "assistant", "content": text}]
                proof = {"source": "bamboo", "rejected_kind": label, "rejected_reason": score.reason}
                keep = {key: value for key, value in row.items() if key not in ("id", "prompt", "chosen")}
                return {**{key: row[key] for key in ("id", "prompt", "chosen")}, "rejected": rejected, **proof, **keep}
        raise UserError(f"template {draft.template.name}: no wrong answer to {draft.gold!r} is wrong")


@dataclass(frozen=True)
class _Trial:
    """A draft whose gold code ran: its row, and what must not pass for it."""

    draft: Draft
    row: dict[str, Any]
    record: Record
    mutants: list[tuple[str, str]]


def _visible_only(record: Record) -> Record:
    problem = record.meta["problem"]
    shown = replace(problem, fillings=problem.fillings[:1], expected=problem.expected[:1])
    return replace(record, meta={**record.meta, "problem": shown})


def _completion(code: str) -> Completion:
    return Completion((), (), f"<think></think>\n```python\n{complete(code)}\n```", True)


def _stats(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = {key: Counter(row[key] for row in rows if key in row) for key in ("difficulty", "rejected_kind")}
    families = Counter(row["tags"][0] for row in rows)
    found = {key: dict(sorted(counter.items())) for key, counter in {**counts, "family": families}.items() if counter}
    return {"num_rows": len(rows), **found}
