"""Wrong versions of right Ibis code, each with a label of what is wrong with it.

`naive` makes the versions that run and are easily taken for right; an item whose tables cannot tell one of them from
the gold code is no item. `blunders` makes those that break the rules or do not run. Nothing is executed here: that a
version is wrong is for the maker of the data to prove. Only meant for code in the style of our own templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .rows import Result

Mutant = tuple[str, str]
"""Label and code."""

_SUBSTITUTIONS: tuple[tuple[str, str, str], ...] = (
    ("wrong_join", r"\.left_join\(", ".join("),
    ("wrong_join", r"\.join\(", ".left_join("),
    ("wrong_join", r"\.anti_join\(", ".semi_join("),
    ("wrong_join", r"\.semi_join\(", ".anti_join("),
    ("wrong_join", r"\.semi_join\(", ".join("),
    ("wrong_aggregate", r"\.sum\(", ".mean("),
    ("wrong_aggregate", r"\.mean\(", ".sum("),
    ("wrong_aggregate", r"\.max\(", ".min("),
    ("wrong_aggregate", r"\.min\(", ".max("),
    ("wrong_aggregate", r"\.nunique\(", ".count("),
    ("wrong_aggregate", r"_\.\w+\.count\(\)", "_.count()"),
    ("off_by_one", r" > (?=\d)", " >= "),
    ("off_by_one", r" < (?=\d)", " <= "),
    ("off_by_one", r" >= (?=\d)", " > "),
    ("off_by_one", r" <= (?=\d)", " < "),
    ("off_by_one", r" == 0\)", " == 1)"),
    ("off_by_one", r" == 1\)", " == 2)"),
    ("off_by_one_window", r"(_rank\(\)|_number\(\)|rank\(\))(\.over\(.*\)) \+ 1\b", r"\1\2"),
    ("off_by_one_window", r"\.lag\(\)", ".lead()"),
    ("off_by_one_window", r"\.lead\(\)", ".lag()"),
    ("off_by_one_window", r"preceding=2", "preceding=3"),
    ("wrong_window", r"\(group_by=\"\w+\", ", "("),
    ("wrong_window", r"\.dense_rank\(", ".rank("),
    ("wrong_window", r"ibis\.rank\(", "ibis.row_number("),
    ("wrong_order", r"ibis\.desc\((\"\w+\")\)", r"\1"),
    ("null_handling", r"\.fill_null\(0\)", ""),
    ("null_handling", r" \| _\.\w+\.isnull\(\)", ""),
    ("null_handling", r"\.isnull\(\)\.sum", ".notnull().sum"),
    ("duplicates", r"\.distinct\(\)", ""),
    ("duplicates", r"distinct=True", "distinct=False"),
    ("duplicates", r"distinct=False", "distinct=True"),
)

_METHODS = (
    ("filter", "where"),
    ("group_by", "groupby"),
    ("order_by", "sort_values"),
    ("agg", "summarise"),
    ("mutate", "with_columns"),
    ("select", "project"),
    ("left_join", "merge"),
    ("row_number", "row_num"),
    ("truncate", "floor_to"),
    ("pivot_wider", "pivot_table"),
)
"""A method of Ibis -> one that there is not, of another library or of none."""


def naive(gold: str, extra: Sequence[tuple[str, str, str]] = ()) -> list[Mutant]:
    """Versions that run and give another result on tables that show the difference.

    Args:
        gold: right code.
        extra: more (label, text, replacement) for this code.
    """
    found: list[Mutant] = []
    windowed = re.search(r"row_number|rank\(|\.lag\(|\.lead\(|window", gold) is not None
    for label, pattern, replacement in _SUBSTITUTIONS:
        if (code := re.sub(pattern, replacement, gold, count=1)) != gold:
            found.append((f"{label}_window" if label == "off_by_one" and windowed else label, code))
    found += [("missing_filter", code) for code in _without_filters(gold)]
    found += [(label, gold.replace(old, new)) for label, old, new in extra if old in gold]
    return list(dict.fromkeys(found))


def _without_filters(code: str) -> list[str]:
    """The code with each of its ``.filter(...)`` left out in turn."""
    return [code[: match.start()] + code[_closing(code, match.end()) :] for match in re.finditer(r"\.filter\(", code)]


def _closing(code: str, start: int) -> int:
    """Index just past the bracket that closes the one before ``start``."""
    depth = 1
    for index in range(start, len(code)):
        depth += {"(": 1, ")": -1}.get(code[index], 0)
        if not depth:
            return index + 1
    return len(code)


def blunders(gold: str, words: Mapping[str, str], visible: Result) -> list[Mutant]:
    """Versions that break a rule or do not run.

    Args:
        gold: right code.
        words: names of the schema by role.
        visible: the result on the visible tables, for answers that only repeat it.
    """
    table = re.search(rf"\b({'|'.join(words[w] for w in ('t', 'd') if w in words)})\.", gold)
    name = table[1] if table else words["t"]
    found = [
        ("pandas_code", pandas_code(gold, name)),
        ("raw_sql", f"result = {name}.sql('''{_sql(gold, name, visible)}''')"),
        ("eager", gold.replace(f"{name}.", f"{name}.execute().", 1)),
        ("hard_coded", hard_coded(visible)),
    ]
    for method, invented in _METHODS:
        if f".{method}(" in gold:
            found.append(("hallucinated_method", gold.replace(f".{method}(", f".{invented}(", 1)))
    if " & " in gold or " | " in gold:
        found.append(("python_and", gold.replace(" & ", " and ").replace(" | ", " or ")))
    if "num" in words:
        swapped = re.sub(
            rf"_\.({words['num']}|{words['qty']})\b",
            lambda m: f"_.{words['qty'] if m[1] == words['num'] else words['num']}",
            gold,
        )
        found.append(("wrong_column", swapped))
    found.append(("syntax", gold[:-1]))
    return [(label, code) for label, code in dict.fromkeys(found) if code != gold]


def pandas_code(gold: str, table: str) -> str:
    """The same steps in the words of pandas, on a file."""
    code = gold
    for ibis_word, pandas_word in (
        ("group_by(", "groupby("),
        ("order_by(", "sort_values("),
        (".mutate(", ".assign("),
        ("_.", "df."),
        (".filter(", ".query("),
        (".fill_null(", ".fillna("),
    ):
        code = code.replace(ibis_word, pandas_word)
    code = re.sub(rf"\b{table}\b(?!\")", "df", code)
    return f'import pandas as pd\n\ndf = pd.read_csv("{table}.csv")\n{code}'


def _sql(gold: str, table: str, visible: Result) -> str:
    """A query of the kind that a model writes for the same question. Refused before it could be found out."""
    columns = ", ".join(name for name, _ in visible[0])
    grouped = re.search(r"group_by\(\"(\w+)\"", gold)
    ending = (
        f" GROUP BY {grouped[1]}"
        if grouped
        else " WHERE " + condition[1]
        if (condition := re.search(r"\.filter\(_\.(\w+ [<>]=? [\d.]+)", gold))
        else ""
    )
    return f"SELECT {columns} FROM {table}{ending}"


def hard_coded(visible: Result) -> str:
    """Code that repeats the result on the visible tables."""
    columns, rows = visible
    data: dict[str, Any] = {name: [row[i] for row in rows] for i, (name, _) in enumerate(columns)}
    schema = dict(columns)
    return f"result = ibis.memtable({data!r}, schema={schema!r})"
