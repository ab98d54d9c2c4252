"""Questions with SQL: text2sql-data (Finegan-Dollak et al. 2018, arXiv:1806.09029), or SkyRL-SQL's rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...records.sources import read_rows
from ...types import UserError
from ..nl2sql.database import compiles_in, emptied, opened, read_schema
from .sources import Row, Source, Sourced, fingerprints, hub_name, is_hub

Columns = dict[str, list[tuple[str, str]]]


def read_nl2sql(source: str, only: Sequence[str] | None = None) -> Source:
    """Rows of the task nl2sql in one part, ``all``; each with the ``pattern`` of its query and published splits.

    A data set of a folder that cannot be read is left out and named in the note, unless it is asked for by ``only``.

    Args:
        source: a folder of text2sql-data (``NAME.json`` beside ``NAME-schema.csv``), a file of SkyRL-SQL's rows,
            or hub.
        only: names of text2sql-data's data sets to take; None = all there are.

    Raises:
        UserError: the source holds neither, or a row is not as published.
    """
    if is_hub(source):
        return _skyrl(f"{hub_name('nl2sql', source)}:train")
    if Path(source).is_file():
        return _skyrl(source)
    folder = Path(source, "text2sql") if Path(source, "text2sql").is_dir() else Path(source)
    schemas = sorted(folder.glob("*-schema.csv")) if folder.is_dir() else []
    names = [path.name.removesuffix("-schema.csv") for path in schemas]
    if not names:
        raise UserError(
            f"source={source}: holds no NAME-schema.csv beside NAME.json; give a folder of text2sql-data, a file of "
            "SkyRL-SQL's rows (.parquet or .jsonl), or hub"
        )
    unknown = [name for name in only or [] if name not in names]
    if unknown:
        raise UserError(f"only={unknown[0]}: {folder} has {', '.join(names)}")
    rows: list[Sourced] = []
    files: list[str] = []
    databases: dict[str, Path] = {}
    notes: list[str] = []
    for name in only or names:
        database = next((path for path in sorted(folder.glob(f"{name}-db*.sqlite"))), None)
        schema_file, questions = folder / f"{name}-schema.csv", folder / f"{name}.json"
        try:
            found = _data_set(name, questions, schema_file, database)
        except UserError as error:
            if only or len(names) == 1:
                raise
            notes.append(f"{name} is left out: {error}")
            continue
        rows += found
        failing = sum(not row["target_runs"] for row, _ in found)
        if failing:
            notes.append(f"{name}: {failing} of {len(found)} targets do not run on the schema in their prompts")
        files += [str(path) for path in (questions, schema_file, database) if path]
        databases |= {name: database} if database else {}
    if not rows:
        raise UserError(f"{folder}: holds no data set that can be read; {'; '.join(notes)}")
    return Source({"all": rows}, fingerprints(files), "text2sql", databases=databases, note="; ".join(notes))


def _data_set(name: str, questions: Path, schema_file: Path, database: Path | None) -> list[Sourced]:
    """The rows of one data set. Their target is the first query that runs: some published ones name what is not there.

    Raises:
        UserError: a file is missing or not as published.
    """
    schema = read_schema(database) if database else _schema(schema_file)
    shared: Row = {"schema": schema} | ({"database": f"databases/{name}.sqlite"} if database else {})
    rows = []
    with opened(database) if database else emptied(schema) as db:
        for row, origin in _entries(name, questions, shared):
            row["sql"].sort(key=lambda sql: not compiles_in(db, sql))
            row["target_runs"] = compiles_in(db, row["sql"][0])
            rows.append((row, origin))
    return rows


_TYPE = re.compile(
    r"(big|small|tiny|medium)?int(eger)?|(long|medium|tiny)?(text|blob)|(var)?char|float|double|real|decimal|numeric|"
    r"date(time)?|time(stamp)?|year|bool(ean)?|enum|set|bit|number|clob",
    re.I,
)


def _schema(path: Path) -> Columns:
    """Tables and columns of a schema file; lines of dashes part its tables.

    Not every published file has its types in the column that its first line says, or as many columns as that: the type
    is the first cell after the names that is one, else that of the column Type.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the published schema") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    if header[:2] != ["Table Name", "Field Name"] or "Type" not in header:
        raise UserError(f"{path}:1: columns {header}; a schema needs Table Name, Field Name and Type")
    tables: Columns = {}
    for number, line in enumerate(lines[1:], start=2):
        cells = _whole_types([cell.strip() for cell in line])
        if not any(cells) or not cells[0].strip("-"):
            continue
        kinds = [cell for cell in cells[2:] if _TYPE.match(cell)] + cells[header.index("Type") :][:1]
        if len(cells) < 3 or not cells[1] or not kinds:
            raise UserError(f"{path}:{number}: {', '.join(line)!r:.80}; a line needs a table, a field and its type")
        kind = re.sub(r"\s+(?:NOT NULL|DEFAULT NULL).*", "", kinds[0], flags=re.I)
        tables.setdefault(cells[0], []).append((cells[1], kind))
    if not tables:
        raise UserError(f"{path}: names no table; give the published schema")
    return tables


def _whole_types(cells: list[str]) -> list[str]:
    """Cells with those put together that a comma within brackets has parted, as in decimal(10,2)."""
    found: list[str] = []
    for cell in cells:
        if found and found[-1].count("(") > found[-1].count(")"):
            found[-1] += f",{cell}"
        else:
            found.append(cell)
    return found


def _entries(name: str, path: Path, shared: Row) -> Iterable[Sourced]:
    """A row for each sentence, with its values in the place of variables, in text and SQL."""
    for number, (entry, origin) in enumerate(read_rows(path)):
        try:
            examples = {variable["name"]: variable["example"] for variable in entry["variables"]}
            for place, sentence in enumerate(entry["sentences"]):
                values = examples | {key: value for key, value in sentence["variables"].items() if value}
                yield (
                    {
                        "id": f"{name}-{number}-{place}",
                        "db_id": name,
                        "question": _filled(sentence["text"], values),
                        "sql": [_filled(sql, values) for sql in entry["sql"]],
                        **shared,
                        "pattern": f"{name}-{number}",
                        "question_split": str(sentence["question-split"]),
                        "query_split": str(entry["query-split"]),
                    },
                    origin,
                )
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{origin}: no entry of text2sql-data ({error!r}); it needs sql, sentences, variables and query-split"
            ) from error


def _filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with the values of its variables. A variable's name is a word: city_name1 is not in city_name10."""
    if not values:
        return text.strip()
    names = "|".join(sorted(map(re.escape, values), key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{names})(?!\w)", lambda match: values[match[0]], text).strip()


def _skyrl(path: str) -> Source:
    """SkyRL-SQL's rows: the last user turn of ``prompt``, and ``reward_model.ground_truth``."""
    rows: list[Sourced] = []
    for number, (row, origin) in enumerate(read_rows(path)):
        user, gold = _turn(row.get("prompt"), origin), _gold(row)
        if not isinstance(gold, str) or not gold.strip():
            raise UserError(f"{origin}: reward_model.ground_truth={gold!r:.60}; a row needs a gold query")
        db = str(row.get("db_id") or "")
        made: Row = {"id": f"skyrl-{number}", "db_id": db, "user": user, "sql": [gold.strip()], "pattern": str(number)}
        rows.append((made | {"source": str(row.get("data") or row.get("data_source") or "")}, origin))
    return Source({"all": rows}, fingerprints([path]), "nl2sql")


def _gold(row: Row) -> Any:
    held = row.get("reward_model", row.get("reward_spec"))
    return held.get("ground_truth") if isinstance(held, Mapping) else None


def _turn(prompt: Any, origin: str) -> str:
    turns = prompt if isinstance(prompt, list) else []
    texts = [turn.get("content") for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "user"]
    if not texts or not isinstance(texts[-1], str) or not texts[-1].strip():
        raise UserError(f"{origin}: prompt={prompt!r:.60}; a row needs a list of messages with one of the user")
    return texts[-1].strip()
