"""SQLite databases: as the sandbox runs queries on them, as a prompt shows them, and what is known of them.

Files are opened read-only. What a column holds decides how it is filled with other rows (`fillings`): whether its
values are unique, whether some are null, and some of them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...sandbox import Database
from ...types import UserError

Schema = Mapping[str, Sequence[tuple[str, str]]]
"""Table -> columns, each a name and a declared type in capitals, as some versions of SQLite give it anyway."""
Place = tuple[str, str]
"""A table's and a column's name in small letters."""
MAX_CELLS = 2_000_000
"""Values of the largest database that is run: all of them go to a process of the sandbox."""
SAMPLED = 40
"""Different values of a column that are looked at."""
_KEYS = re.compile(r"(^|_)(id|key|code|no|num|number|name|title)$|(?<=\w)(id|name|code)$")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name, declared: as the schema has them.
        unique: no value comes twice.
        entity: perhaps so: by its name it tells the rows of its table apart.
        nullable: some values are null; None = not known.
        collation: BINARY, NOCASE or RTRIM.
        values: some that are in the database.
    """

    name: str
    declared: str
    unique: bool = False
    entity: bool = False
    nullable: bool | None = None
    collation: str = "BINARY"
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Relation:
    """A table: its columns, and whether whole rows may be there twice."""

    name: str
    columns: tuple[Column, ...]
    repeats: bool = False


@dataclass(frozen=True)
class Shape:
    """The tables of a database, and pairs of columns of which one refers to the other."""

    relations: tuple[Relation, ...]
    links: tuple[tuple[Place, Place], ...] = ()


@dataclass(frozen=True)
class Published:
    """A database that came with the data: itself and its shape."""

    database: Database
    shape: Shape


def read_schema(path: Path) -> dict[str, list[tuple[str, str]]]:
    """The tables of a database with their columns, in the order of its file.

    Raises:
        UserError: it is missing, no SQLite database, or without tables.
    """
    with opened(path) as db:
        return _schema(db, path)


def read_database(path: Path) -> Published:
    """A database and its shape; read once for each state of the file.

    Raises:
        UserError: it is missing, no SQLite database, without tables, or has more than `MAX_CELLS` values.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise UserError(f"{path}: no database ({error}); run `prepare nl2sql` again, or set `databases`") from error
    return _read_database(path.resolve(), facts.st_mtime_ns, facts.st_size)


@lru_cache(64)
def _read_database(path: Path, changed: int, size: int) -> Published:
    with opened(path) as db:
        schema = _schema(db, path)
        cells = 0
        for name, columns in schema.items():
            cells += _count(db, name) * len(columns)
            if cells > MAX_CELLS:
                raise UserError(
                    f"{path}: holds more than {MAX_CELLS} values, too many to run queries on; leave `database` out of "
                    "its rows, or give a smaller one"
                )
        try:
            relations = tuple(_relation(db, name, columns) for name, columns in schema.items())
            links = tuple(link for name in schema for link in _links(db, name))
        except sqlite3.Error as error:
            raise UserError(f"{path}: cannot be read ({error}); give another database") from error
    return Published(Database(path.read_bytes()), Shape(relations, links))


def shape_of(schema: Schema) -> Shape | None:
    """The shape of a schema of which no rows are known; None where there is none, or where names make no database."""
    names = [list(schema), *([column for column, _ in columns] for columns in schema.values())]
    if not all(some and all(some) and len({name.lower() for name in some}) == len(some) for some in names):
        return None
    relations = []
    for table, columns in schema.items():
        together = [column for column, _ in columns]
        found = [_guessed(table, column, declared, list(schema), together) for column, declared in columns]
        relations.append(Relation(table, tuple(found)))
    return Shape(tuple(relations))


def compiles(path: Path, sql: str) -> bool:
    """Whether SQLite can read a query of the data set's and finds its tables and columns. Nothing is executed.

    Raises:
        UserError: there is no such file.
    """
    with opened(path) as db:
        return compiles_in(db, sql)


def compiles_in(db: sqlite3.Connection, sql: str) -> bool:
    """The same in an open database."""
    try:
        db.execute(f"EXPLAIN {sql}")
    except (sqlite3.Error, sqlite3.Warning, ValueError):  # ValueError: NUL in the text
        return False
    return True


def emptied(schema: Schema) -> closing[sqlite3.Connection]:
    """The tables of a schema without rows, as a database in memory.

    Raises:
        UserError: its names make no database.
    """
    db = sqlite3.connect(":memory:")
    try:
        for table, columns in schema.items():
            db.execute(f"CREATE TABLE {quoted(table)} ({', '.join(quoted(column) for column, _ in columns)})")
    except sqlite3.Error as error:
        db.close()
        raise UserError(
            f"the schema makes no database ({error}); give every table and column a name of its own"
        ) from error
    return closing(db)


def opened(path: Path) -> closing[sqlite3.Connection]:
    """A database for reading only.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: does not exist; give the path of a SQLite database")
    db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return closing(db)


def create_table(name: str, columns: Sequence[tuple[str, str]]) -> str:
    """A table of a schema as the statement that a prompt shows."""
    shown = ", ".join(f"{column} {declared}".strip() for column, declared in columns)
    return f"CREATE TABLE {name} ({shown});"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _schema(db: sqlite3.Connection, path: Path) -> dict[str, list[tuple[str, str]]]:
    try:
        names = db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
        )
        tables = {
            str(name): [(str(c[1]), str(c[2]).upper()) for c in db.execute(f"PRAGMA table_info({quoted(name)})")]
            for (name,) in names.fetchall()
        }
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path}: no SQLite database ({error}); give another file") from error
    if not tables:
        raise UserError(f"{path}: holds no tables; give another database")
    return tables


def _count(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"SELECT COUNT(*) FROM {quoted(name)}").fetchone()[0])


def _relation(db: sqlite3.Connection, table: str, columns: Sequence[tuple[str, str]]) -> Relation:
    (text,) = db.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
    declared = _declared_unique(db, table)
    found = []
    for place, (name, kind) in enumerate(columns):
        column = quoted(name)
        rows, filled, different = db.execute(
            f"SELECT COUNT(*), COUNT({column}), COUNT(DISTINCT {column}) FROM {quoted(table)}"
        ).fetchone()
        held = db.execute(f"SELECT DISTINCT {column} FROM {quoted(table)} WHERE {column} IS NOT NULL LIMIT {SAMPLED}")
        values = tuple(sorted((v for (v,) in held if isinstance(v, int | float | str)), key=repr))
        unique = name.lower() in declared or (rows > 1 and rows == different and (place == 0 or is_key(name)))
        collation = re.search(rf"\b{re.escape(name)}\b[^,]*?\bCOLLATE\s+(NOCASE|RTRIM)\b", text, re.I)
        nullable = filled < rows if rows else None
        found.append(
            Column(name, kind, unique, unique, nullable, collation[1].upper() if collation else "BINARY", values)
        )
    different = db.execute(f"SELECT COUNT(*) FROM (SELECT DISTINCT * FROM {quoted(table)})").fetchone()[0]
    return Relation(table, tuple(found), different < _count(db, table))


def _declared_unique(db: sqlite3.Connection, table: str) -> set[str]:
    """Columns of which the schema says that no value comes twice."""
    keys = [str(row[1]).lower() for row in db.execute(f"PRAGMA table_info({quoted(table)})") if row[5]]
    found = set(keys) if len(keys) == 1 else set()
    for _, index, unique, _, partial in db.execute(f"PRAGMA index_list({quoted(table)})").fetchall():
        names = [row[2] for row in db.execute(f"PRAGMA index_info({quoted(index)})")]
        if unique and not partial and len(names) == 1 and names[0]:
            found.add(str(names[0]).lower())
    return found


def _links(db: sqlite3.Connection, table: str) -> list[tuple[Place, Place]]:
    rows = db.execute(f"PRAGMA foreign_key_list({quoted(table)})").fetchall()
    return [((table.lower(), row[3].lower()), (row[2].lower(), row[4].lower())) for row in rows if row[4]]


def is_key(name: str) -> bool:
    """Whether a column is called like one that tells rows apart, or refers to such a one."""
    return _KEYS.search(name.lower()) is not None


def _guessed(table: str, name: str, declared: str, tables: Sequence[str], names: Sequence[str]) -> Column:
    """A column of a table of which only the names are known: ``id`` and ``city_id`` tell the rows of ``city`` apart.

    Args:
        table, name, declared: of the column.
        tables: all tables.
        names: all columns of the table.
    """
    bare, own = _bare(name), {_bare(table), _bare(table).removesuffix("s")}
    others = {stem for other in tables if other != table for stem in (_bare(other), _bare(other).removesuffix("s"))}
    numbered = bare == "id" or any(bare == f"{stem}id" for stem in own)
    named = bare in ("name", "title", "code") or any(bare in (f"{stem}name", f"{stem}code", stem) for stem in own)
    keys = [other for other in names if _bare(other).endswith(("id", "code"))]
    only = keys == [name] == [names[0]] and not any(bare in (f"{stem}id", f"{stem}code") for stem in others)
    return Column(name, declared.upper(), numbered, numbered or named or only)


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
