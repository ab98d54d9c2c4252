"""Questions about one table for the Bamboo data, with gold code: those on rows, groups, nulls,
dates, texts and cases.

A template speaks of columns by role (`schemas.ROLES`) in braces, and of drawn values: ``{v}`` ``{u}`` measures,
``{m}`` ``{n}`` small numbers, ``{c}`` ``{e}`` categories, ``{w}`` a word, ``{g}`` a group, ``{year}``. Which split a
template belongs to stands with it: no question of validation or test is asked in training. Joins, windows and sets are
in `templates_more`, the shortest questions in `easy`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .schemas import FEW_NUMBERS, Schema, Split

Difficulty = Literal["easy", "medium", "hard"]


@dataclass(frozen=True)
class Template:
    """One kind of question.

    Args:
        name: its first word is the family.
        split: where it may be asked.
        difficulty: ``easy`` is one short line each of question, thought and code.
        ask: the question.
        plan: what one has to think of.
        gold: right code, without imports; it sets ``result``.
        ordered: None = rows in any order, else the columns they were asked to be sorted by.
        extra: more (label, text, replacement) that make the code wrong in ways one would take for right.
        immune: labels of changes that do not matter to this question.
    """

    name: str
    split: Split
    difficulty: Difficulty
    ask: str
    plan: str
    gold: str
    ordered: tuple[str, ...] | None = None
    extra: tuple[tuple[str, str, str], ...] = ()
    immune: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        return self.name.split("_")[0]


def values(schema: Schema, rng: random.Random) -> Mapping[str, object]:
    """One draw of everything that templates may mention besides names."""
    low, high = sorted(rng.sample(FEW_NUMBERS[1:4], 2))
    c, e = rng.sample(schema.cats[:3], 2)
    drawn = {"v": low, "u": high, "m": rng.randint(2, 3), "n": rng.randint(2, 3), "c": c, "e": e}
    words = sorted({word for note in schema.notes for word in note.split()})
    return {**drawn, "w": rng.choice(words), "g": rng.choice(schema.grps), "year": rng.choice((2023, 2024))}


T = Template
SINGLE: tuple[Template, ...] = (
    T(
        "filter_and", "train", "medium",
        "Which rows of `{t}` have the `{cat}` '{c}' and a `{num}` above {v}? Columns `{id}` and `{num}`.",
        "Two conditions that must both hold go into one filter.",
        'result = {t}.filter(_.{cat} == "{c}", _.{num} > {v}).select("{id}", "{num}")',
    ),
    T(
        "filter_or", "train", "medium",
        "Which rows of `{t}` have a `{num}` below {v}, or a `{qty}` of at least {m}, or both? Columns `{id}`, `{cat}`.",
        "Either condition is enough: | between them, each in brackets, because | binds tighter than comparisons.",
        'result = {t}.filter((_.{num} < {v}) | (_.{qty} >= {m})).select("{id}", "{cat}")',
        immune=("off_by_one",),
    ),
    T(
        "filter_not", "val", "medium",
        "Which rows of `{t}` do not have the `{cat}` '{c}'? Rows without any `{cat}` count as not having it. "
        "Columns `{id}` and `{qty}`.",
        "A comparison with null is null and drops the row, so nulls have to be asked for.",
        'result = {t}.filter((_.{cat} != "{c}") | _.{cat}.isnull()).select("{id}", "{qty}")',
    ),
    T(
        "filter_in", "test", "medium",
        "Which rows of `{t}` have '{c}' or '{e}' as `{cat}` and a `{qty}` from 2 to {m}, both included? Columns `{id}` "
        "and `{qty}`.",
        "isin for the list of values, between for the range: both of its ends count.",
        'result = {t}.filter(_.{cat}.isin(["{c}", "{e}"]), _.{qty}.between(2, {m})).select("{id}", "{qty}")',
        extra=(("off_by_one", "between(2, ", "between(3, "),
               ("missing_filter", '.isin(["{c}", "{e}"])', '.isin(["{c}"])')),
    ),
    T(
        "group_sum", "train", "medium",
        "What is the total `{qty}` of each `{cat}` in `{t}`? Columns `{cat}` and `total`; rows without a `{cat}` are a "
        "group of their own.",
        "One row for each category: group, then sum.",
        'result = {t}.group_by("{cat}").agg(total=_.{qty}.sum())',
    ),
    T(
        "group_stats", "train", "medium",
        "For each `{cat}` in `{t}` (rows without one are a group too): the number of rows as `n_rows`, the mean "
        "`{num}` "
        "as `mean_value` and the largest `{qty}` as `largest`.",
        "Three aggregates of the same groups go into one agg; count all rows, not one column.",
        'result = {t}.group_by("{cat}").agg(n_rows=_.count(), mean_value=_.{num}.mean(), largest=_.{qty}.max())',
        extra=(("wrong_aggregate", "n_rows=_.count()", "n_rows=_.{num}.count()"),),
    ),
    T(
        "group_two", "train", "medium",
        "What is the smallest `{num}` for each pair of `{cat}` and `{fk}` in `{t}`? Columns `{cat}`, `{fk}`, "
        "`smallest`.",
        "The groups are pairs: both columns go into group_by.",
        'result = {t}.group_by("{cat}", "{fk}").agg(smallest=_.{num}.min())',
    ),
    T(
        "group_distinct", "val", "medium",
        "How many different `{fk}` values occur with each `{cat}` in `{t}`? Columns `{cat}` and `n_keys`; rows "
        "without a "
        "`{cat}` are a group too.",
        "Different values: nunique, which leaves nulls out.",
        'result = {t}.group_by("{cat}").agg(n_keys=_.{fk}.nunique())',
    ),
    T(
        "group_where", "test", "hard",
        "For each `{cat}` in `{t}` (rows without one are a group too): the total `{num}` of all rows as `total`, and "
        "of "
        "those with a `{qty}` of at least {m} as `part` (null if there are none).",
        "Both sums have the same groups, so the condition belongs into the second sum, not into a filter.",
        'result = {t}.group_by("{cat}").agg(total=_.{num}.sum(), part=_.{num}.sum(where=_.{qty} >= {m}))',
        extra=(("missing_filter", ".sum(where=_.{qty} >= {m})", ".sum()"),),
    ),
    T(
        "having_count", "train", "medium",
        "Which `{cat}` values have at least {n} rows in `{t}`? Columns `{cat}` and `n_rows`, their number; no "
        "`{cat}` is "
        "a value too.",
        "A condition on groups is a filter after agg.",
        'result = {t}.group_by("{cat}").agg(n_rows=_.count()).filter(_.n_rows >= {n})',
    ),
    T(
        "having_sum", "train", "medium",
        "Which `{fk}` values have a total `{qty}` above {m} in `{t}`? Columns `{fk}` and `total`.",
        "Sum first, then filter on the sum.",
        'result = {t}.group_by("{fk}").agg(total=_.{qty}.sum()).filter(_.total > {m})',
        immune=("off_by_one",),
    ),
    T(
        "having_max", "val", "medium",
        "For which `{cat}` values is the largest `{num}` in `{t}` at least {u}? Columns `{cat}` and `largest`.",
        "The largest value of each group, then a filter on it.",
        'result = {t}.group_by("{cat}").agg(largest=_.{num}.max()).filter(_.largest >= {u})',
    ),
    T(
        "having_two", "test", "hard",
        "Which `{cat}` values have at least {n} rows in `{t}` and a mean `{num}` above {v}? Columns `{cat}`, "
        "`n_rows` and "
        "`mean_value`.",
        "Two aggregates, and a filter on both.",
        'result = {t}.group_by("{cat}").agg(n_rows=_.count(), mean_value=_.{num}.mean()).filter(_.n_rows >= {n}, '
        "_.mean_value > {v})",
        immune=("off_by_one",),
    ),
    T(
        "null_fill", "train", "medium",
        "What is the mean `{qty}` of each `{cat}` in `{t}` if a missing `{qty}` counts as 0? Columns `{cat}` and "
        "`mean_value`.",
        "mean leaves nulls out, so they have to become 0 before it.",
        'result = {t}.group_by("{cat}").agg(mean_value=_.{qty}.fill_null(0).mean())',
    ),
    T(
        "null_count", "train", "medium",
        "How many rows of each `{cat}` in `{t}` have no `{num}`? Columns `{cat}` and `n_missing`.",
        "isnull gives booleans, and their sum is the number of true ones.",
        'result = {t}.group_by("{cat}").agg(n_missing=_.{num}.isnull().sum())',
        immune=("wrong_aggregate",),
    ),
    T(
        "null_coalesce", "val", "medium",
        "For each row of `{t}`: `{id}` and a `label`, which is the `{note}`, or where there is none the `{cat}`, or "
        "'none'.",
        "coalesce takes the first of its values that is not null.",
        'result = {t}.select("{id}", label=ibis.coalesce(_.{note}, _.{cat}, "none"))',
        extra=(("null_handling", "coalesce(_.{note}, _.{cat}, ", "coalesce(_.{note}, "),
               ("null_handling", ', "none")', ")")),
    ),
    T(
        "null_default", "test", "medium",
        "How many rows of `{t}` are there of each `{cat}`, with 'unknown' where it is missing? Columns `label`, "
        "`n_rows`.",
        "Replace nulls while grouping.",
        'result = {t}.group_by(label=_.{cat}.fill_null("unknown")).agg(n_rows=_.count())',
        extra=(("null_handling", '.fill_null("unknown")', ""),),
    ),
    T(
        "date_month", "train", "medium",
        "How many rows of `{t}` are there in each month of `{day}`? Columns `month` (its first day, a date) and "
        "`n_rows`.",
        "truncate to the month keeps the year apart.",
        'result = {t}.group_by(month=_.{day}.truncate("M")).agg(n_rows=_.count())',
        extra=(("wrong_date_part", '.truncate("M")', ".month()"),
               ("wrong_date_part", 'truncate("M")', 'truncate("Y")')),
    ),
    T(
        "date_year", "train", "medium",
        "What is the total `{num}` of the rows of `{t}` with a `{day}` in {year}? One row with the column `total`.",
        "Filter by the year of the date, then one sum.",
        "result = {t}.filter(_.{day}.year() == {year}).agg(total=_.{num}.sum())",
    ),
    T(
        "date_weekday", "val", "hard",
        "How many rows of `{t}` fall on each day of the week, by `{day}`? Columns `weekday` (0 = Monday) and `n_rows`.",
        "day_of_week has the index 0 for Monday.",
        "result = {t}.group_by(weekday=_.{day}.day_of_week.index()).agg(n_rows=_.count())",
        extra=(("wrong_date_part", ".day_of_week.index()", ".day()"),),
    ),
    T(
        "date_span", "test", "hard",
        "How many days lie between the first and the last `{day}` of each `{cat}` in `{t}`? Columns `{cat}`, `n_days`.",
        "The last date minus the first one, in whole days.",
        'result = {t}.group_by("{cat}").agg(n_days=_.{day}.max().delta(_.{day}.min(), unit="day"))',
        extra=(("wrong_date_part", 'unit="day"', 'unit="month"'),),
    ),
    T(
        "date_quarter", "test", "medium",
        "Which rows of `{t}` have a `{day}` in the first two months of a year? Columns `{id}` and `{day}`.",
        "The month of the date is at most 2, whatever the year.",
        'result = {t}.filter(_.{day}.month() <= 2).select("{id}", "{day}")',
    ),
    T(
        "string_upper", "train", "medium",
        "For the rows of `{t}` that have a `{note}`: `{id}` and the `{note}` in capitals as `loud`.",
        "Rows without a text are left out, upper does the rest.",
        'result = {t}.filter(_.{note}.notnull()).select("{id}", loud=_.{note}.upper())',
    ),
    T(
        "string_contains", "train", "medium",
        "Which rows of `{t}` have the word '{w}' in their `{note}`? Columns `{id}` and `{note}`.",
        "contains looks for a part of the text; null is no match.",
        'result = {t}.filter(_.{note}.contains("{w}")).select("{id}", "{note}")',
        extra=(("wrong_match", ".contains(", ".startswith("), ("wrong_match", '.contains("{w}")', ' == "{w}"')),
        immune=("wrong_match",),
    ),
    T(
        "string_length", "val", "medium",
        "For each row of `{t}`: `{id}` and the number of characters of its `{note}` as `length`, 0 where there is "
        "none.",
        "length of null is null, so 0 is filled in.",
        'result = {t}.select("{id}", length=_.{note}.length().fill_null(0))',
    ),
    T(
        "string_first", "test", "hard",
        "How many rows of `{t}` have each first word of `{note}`? Columns `word` and `n_rows`; rows without a "
        "`{note}` are "
        "left out.",
        "Split at spaces and take the piece with index 0.",
        'result = {t}.filter(_.{note}.notnull()).group_by(word=_.{note}.split(" ")[0]).agg(n_rows=_.count())',
        extra=(("off_by_one", "[0]", "[1]"),),
    ),
    T(
        "string_join", "test", "medium",
        "For each row of `{t}` with a `{cat}`: `{id}` and a `label` of the `{cat}`, a dash '-' and the `{qty}`, such "
        "as "
        "'{c}-3'; a missing `{qty}` is written as 0.",
        "The number becomes a text by cast; + joins texts, and null would swallow them.",
        'result = {t}.filter(_.{cat}.notnull()).select("{id}", label=_.{cat} + "-" + '
        '_.{qty}.fill_null(0).cast("string"))',
    ),
    T(
        "case_bands", "train", "medium",
        "For each row of `{t}`: `{id}` and a `band`: 'high' from a `{num}` of {u}, 'mid' from {v}, else 'low' (also "
        "where "
        "it is missing).",
        "cases takes the first condition that holds, so the highest band comes first.",
        'result = {t}.select("{id}", band=ibis.cases((_.{num} >= {u}, "high"), (_.{num} >= {v}, "mid"), else_="low"))',
        extra=(("wrong_case", 'else_="low"', 'else_=None'),),
        immune=("off_by_one",),
    ),
    T(
        "case_count", "train", "hard",
        "How many rows of `{t}` have a `{qty}` above {m} ('many'), and how many have not ('few', also where it is "
        "missing)? Columns `size` and `n_rows`.",
        "Name the band of each row while grouping, then count.",
        'result = {t}.group_by(size=ibis.cases((_.{qty} > {m}, "many"), else_="few")).agg(n_rows=_.count())',
        extra=(("wrong_case", '"many"), else_="few"', '"few"), else_="many"'),),
    ),
    T(
        "case_flag", "val", "medium",
        "For each row of `{t}`: `{id}` and a `size` that is 'big' where `{num}` is above {v} and 'small' otherwise, "
        "also "
        "where it is missing.",
        "ifelse with one condition; where that is null, the second value counts.",
        'result = {t}.select("{id}", size=ibis.ifelse(_.{num} > {v}, "big", "small"))',
        extra=(("wrong_case", '"big", "small"', '"small", "big"'),),
    ),
    T(
        "case_nulls", "test", "hard",
        "How many rows of `{t}` have no `{num}` ('none'), one of at most {v} ('low') and a higher one ('high')? "
        "Columns "
        "`band` and `n_rows`.",
        "Nulls first: no comparison would catch them.",
        'result = {t}.group_by(band=ibis.cases((_.{num}.isnull(), "none"), (_.{num} <= {v}, "low"), else_="high"))'
        ".agg(n_rows=_.count())",
        extra=(("null_handling", '(_.{num}.isnull(), "none"), ', ""),),
    ),
)  # fmt: skip
