"""The easy tier of the Bamboo data: one small table in one line, a question of a few words, one line of code.

Short and regular enough for a model of a million parameters to learn much of it in minutes. Tables and questions are
combinations of parts. A held-out table or question is a combination that training does not have, all of whose parts it
has: what is tested is putting them together, not guessing new words.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...sandbox import Table
from .schemas import FEW_NUMBERS, NUMBERS, Flavour, Split
from .templates import Template

TABLES = ("sales", "stock", "trips", "orders", "bills", "parts", "jobs", "votes", "games", "boxes")
TEXTS = {
    "item": ("tea", "pen", "cup", "mat"),
    "city": ("rome", "oslo", "lima", "kiev"),
    "color": ("red", "blue", "pink", "gray"),
    "team": ("fox", "owl", "bear", "wolf"),
}
WHOLES = ("units", "days", "pages", "seats", "goals")
FRACTIONS = ("price", "weight", "hours", "cost", "score")

AGGREGATES = {"total": "sum", "mean": "mean", "largest": "max", "smallest": "min"}
CONDITIONS = {
    "{num} above {v}": "_.{num} > {v}",
    "{num} below {u}": "_.{num} < {u}",
    "{qty} at least {m}": "_.{qty} >= {m}",
    "{cat} {c}": '_.{cat} == "{c}"',
}


@dataclass(frozen=True)
class EasySchema:
    """One small table: a text, a whole number and a fraction."""

    t: str
    cat: str
    qty: str
    num: str
    cats: tuple[str, ...]

    @property
    def name(self) -> str:
        return "-".join((self.t, self.cat, self.qty, self.num))

    def words(self) -> dict[str, str]:
        """Placeholder of a template -> name."""
        return {"t": self.t, "cat": self.cat, "qty": self.qty, "num": self.num}

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        return ((self.cat, "string"), (self.qty, "int64"), (self.num, "float64"))


def easy_schemas() -> dict[Split, list[EasySchema]]:
    """All combinations of names, a tenth each for validation and test.

    The deal does not depend on a seed: no data of one seed trains on tables that data of another one evaluates on.
    """
    every = [
        EasySchema(t, cat, qty, num, cats)
        for t in TABLES
        for cat, cats in TEXTS.items()
        for qty in WHOLES
        for num in FRACTIONS
    ]
    return _dealt(every, "schemas", len(every) // 10, len(every) // 10)


def easy_templates() -> dict[Split, list[Template]]:
    """All combinations of what is asked and of which rows, some of them for validation and test."""
    templates = _dealt(list(_templates()), "templates", 5, 7)
    return {split: [_of(template, split) for template in some] for split, some in templates.items()}


def _templates() -> Iterator[Template]:
    conditions = list(CONDITIONS.items())
    for word, function in AGGREGATES.items():
        for column in ("qty", "num"):
            aggregate = f".agg({word}=_.{{{column}}}.{function}())"
            for number, (asked, condition) in enumerate([("", ""), *conditions]):
                if f"{{{column}}}" in asked:
                    continue  # the largest above 4 is the largest: the condition would mean nothing
                where, code = (f" where {asked}", f".filter({condition})") if asked else ("", "")
                yield _easy(f"{word}_{column}_{number}", f"{word} {{{column}}}{where}, as {word}", f"{code}{aggregate}")
            yield _easy(
                f"{word}_{column}_by", f"{word} {{{column}}} per {{cat}}, as {word}", f'.group_by("{{cat}}"){aggregate}'
            )
    for number, (asked, condition) in enumerate(conditions):
        yield _easy(f"rows_{number}", f"rows where {asked}", f".filter({condition})")
        yield _easy(
            f"number_{number}",
            f"number of rows where {asked}, as number",
            f".filter({condition}).agg(number=_.count())",
        )
    yield _easy("number_by", "number of rows per {cat}, as number", '.group_by("{cat}").agg(number=_.count())')


def _easy(name: str, ask: str, code: str) -> Template:
    """A template whose thought names the steps of the code, in the code's words."""
    steps = [step for step in ("filter", "group_by", "agg") if f".{step}(" in code]
    return Template(f"easy_{name}", "train", "easy", ask, ", ".join(steps), f"result = {{t}}{code}")


def _of(template: Template, split: Split) -> Template:
    return Template(template.name, split, template.difficulty, template.ask, template.plan, template.gold)


def _dealt(every: list[Any], what: str, val: int, test: int) -> dict[Split, list[Any]]:
    random.Random(f"bamboo/easy {what}").shuffle(every)
    return {"val": every[:val], "test": every[val : val + test], "train": every[val + test :]}


def easy_values(schema: EasySchema, rng: random.Random) -> Mapping[str, object]:
    """One draw of everything that easy templates mention besides names."""
    low, high = sorted(rng.sample(FEW_NUMBERS[1:4], 2))
    return {"v": low, "u": high, "m": rng.randint(2, 3), "c": rng.choice(schema.cats[:-1])}


def fill_easy(schema: EasySchema, flavour: Flavour, rng: random.Random) -> tuple[Table, ...]:
    """The table of an easy schema with rows."""
    ties = flavour == "ties"
    cats = schema.cats[:-1] if ties else schema.cats  # a group without rows
    numbers = FEW_NUMBERS[:4] if ties else FEW_NUMBERS if flavour == "nulls" else NUMBERS
    rows: list[list[Any]] = [
        [rng.choice(cats), rng.randint(1, 4 if ties else 9), rng.choice(numbers)]
        for _ in range(5 if flavour == "plain" else 6)
    ]
    if flavour == "nulls":
        for column, row in enumerate(rng.sample(rows, 3)):
            row[column] = None
    if flavour != "plain":
        rows[1] = list(rows[0])
    return (Table(schema.t, schema.columns, tuple(map(tuple, rows))),)
