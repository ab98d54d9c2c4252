"""Writes one item of the Bamboo data as a row: prompt, thought and answer, tables and expected results.

Only text: what is expected comes from whoever ran the gold code (`data`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...sandbox import Table
from .easy import EasySchema
from .rows import Result
from .schemas import Schema, Split
from .templates import Template

SHOWN_ROWS = 3
SYSTEM = (
    "You answer questions about tables with Ibis code in Python. Think first, between <think> and </think>. Then "
    "answer with one python code block that sets `result` to an Ibis expression. Every table is a variable of its "
    "name. Use neither pandas nor SQL."
)


@dataclass(frozen=True)
class Place:
    """Which item: of which file, in the easy tier or not, and its number there."""

    file: str
    easy: bool
    index: int

    @property
    def split(self) -> Split:
        return self.file.rpartition("_")[2]  # type: ignore[return-value]

    @property
    def kind(self) -> str:
        """sft, dpo or rlvr."""
        return self.file.partition("_")[0]

    @property
    def id(self) -> str:
        return f"bamboo-{self.file.replace('_', '-')}-{'e' if self.easy else 'm'}{self.index:04d}"


@dataclass(frozen=True)
class Draft:
    """An item before its gold code was run."""

    place: Place
    template: Template
    schema: Schema | EasySchema
    fillings: tuple[tuple[Table, ...], ...]
    words: Mapping[str, Any]
    gold: str
    rng: random.Random


def filled_in(draft: Draft) -> list[tuple[str, str, str]]:
    return [(label, old.format(**draft.words), new.format(**draft.words)) for label, old, new in draft.template.extra]


def complete(code: str) -> str:
    """Code with the imports it needs. One line of the easy tier has none: `_` and `ibis` are always there."""
    lines = ["import ibis"] if "ibis." in code and "import ibis" not in code else []
    lines += ["from ibis import _"] if "_." in code else []
    return "\n".join([*lines, "", code]) if lines else code


def answer_text(draft: Draft, code: str, visible: Result, shows: bool = False) -> str:
    """Thought and answer. ``shows``: the thought holds the code already."""
    plan = draft.template.plan.format(**draft.words)
    if draft.template.difficulty == "easy":
        return f"<think>{plan}</think>\n```python\n{code}\n```"
    if shows:
        plan += f"\n```python\n{code}\n```"
    columns = ", ".join(f"`{name}`" for name, _ in visible[0])
    order = "" if draft.template.ordered is None else ", in the order asked for"
    said = f"The result has the column{'s' * (len(visible[0]) > 1)} {columns}{order}."
    return f"<think>\n{plan}\n</think>\n{said}\n```python\n{complete(code)}\n```"


def row_of(draft: Draft, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Sequence[Any]]]) -> dict[str, Any]:
    """The item as a row of its file."""
    place, template = draft.place, draft.template
    answer = answer_text(
        draft,
        draft.gold,
        (tuple(columns), ()),
        place.kind == "sft" and template.difficulty == "hard" and place.index % 2 == 0,
    )
    prompt = prompt_of(draft)
    turn = {"role": "assistant", "content": answer}
    talk: dict[str, Any] = {"prompt": prompt}
    if place.kind == "sft":
        talk = {"messages": [*prompt, turn]}
    elif place.kind == "dpo":
        talk = {"prompt": prompt, "chosen": [turn]}
    compare: dict[str, Any] = {
        "ordered": template.ordered is not None,
        "float_tol": 1e-9,
        "column_names": "strict",
        "multiset": True,
    }
    if template.ordered:
        compare["order_by"] = [name.format(**draft.words) for name in template.ordered]
    return {
        "id": place.id,
        **talk,
        "tables": {t.name: {"columns": dict(t.columns), "rows": t.rows} for t in draft.fillings[0]},
        "hidden_tables": [{t.name: t.rows for t in tables} for tables in draft.fillings[1:]],
        "gold_code": draft.gold if template.difficulty == "easy" else complete(draft.gold),
        "expected": {"columns": columns, "fillings": rows},
        "compare": compare,
        "tags": [template.family],
        "template": template.name,
        "schema": draft.schema.name,
        "difficulty": template.difficulty,
        "split": place.split,
        **({"verifier": "ibis"} if place.kind == "rlvr" else {}),
    }


def prompt_of(draft: Draft) -> list[dict[str, str]]:
    """The turns before the answer. Easy: one line. Else rules, the tables with their first rows, and the question."""
    ask = draft.template.ask.format(**draft.words)
    lines = []
    for table in draft.fillings[0]:
        columns = ", ".join(f"{name} {kind}" for name, kind in table.columns)
        if draft.template.difficulty == "easy":
            return [{"role": "user", "content": f"Ibis: {table.name}({columns}): {ask}"}]
        lines.append(f"Table {table.name}, {len(table.rows)} rows: {columns}")
        lines += [", ".join("null" if v is None else str(v) for v in row) for row in table.rows[:SHOWN_ROWS]]
        lines += ["...", ""]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join([*lines, ask])}]
