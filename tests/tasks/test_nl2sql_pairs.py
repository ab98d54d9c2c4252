"""Queries that mean the same as gold are right and others wrong: the labels of `sql_pairs`, checked, then judged."""

import itertools
import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sql_pairs

from lightning_posttrain.sandbox import SandboxSpec
from lightning_posttrain.tasks.nl2sql import NL2SQL
from lightning_posttrain.tasks.nl2sql.database import read_schema
from lightning_posttrain.types import Completion

GEOGRAPHY = Path(__file__).parents[3] / "shared" / "data" / "text2sql" / "geography-db.sqlite"
NAMES = ("austin", "salem", "texas", "nome", "Odessa", "zzz", "boston")
STATES = ("texas", "alaska", "florida", "Texas", "oregon")
DAYS = ("1839-12-27", "1839-01-01", "1840-01-01", "1999-12-12", None)


def towns(rng: random.Random) -> sqlite3.Connection:
    """Random rows of the towns' tables."""
    db = sqlite3.connect(":memory:")
    db.executescript(sql_pairs.TOWNS.partition("INSERT")[0])
    pops = (7, 9, 10, 99, 100, 101, 500, 899, 900, 901, 902, 950, 1000, 1001, 1300, None)
    different = rng.random() < 0.5
    for number in range(rng.randint(4, 14)):
        pop = pops[(number * 5 + 3) % 16] if different else rng.choice(pops)
        row = (
            number,
            rng.choice(NAMES),
            rng.choice(STATES),
            pop,
            rng.randint(1, 4000) / 4,
            rng.choice(DAYS),
        )
        db.execute("INSERT INTO city VALUES (?, ?, ?, ?, ?, ?)", row)
    for number, name in enumerate(rng.sample([*STATES, "ohio", "iowa"], 5)):
        db.execute("INSERT INTO state VALUES (?, ?, ?)", (number, name, rng.choice(("south", "north", "west"))))
    return db


def shop(rng: random.Random) -> sqlite3.Connection:
    """The same of the shop's."""
    db = sqlite3.connect(":memory:")
    for table, columns in sql_pairs.SHOP.items():
        db.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns)})")
    days = ("2019-12-31", "2020-01-01", "2020-01-02", "2021-05-05")
    for number in range(6):
        row = (number, rng.choice("abcde"), rng.choice(("France", "Spain")), rng.choice(days))
        db.execute("INSERT INTO customers VALUES (?, ?, ?, ?)", row)
        title = rng.choice(("Apple", "apricot", "Banana", "pear A"))
        db.execute(
            "INSERT INTO products VALUES (?, ?, ?, ?)",
            (number, title, rng.choice((9.5, 10, 15, 20, 20.5)), "xyz"[number % 3]),
        )
    totals = rng.sample((97, 98.25, 99, 99.25, 99.5, 99.75, 100, 150, 151.5, 152, 153, 160), 10)
    for number in range(10):
        row = (
            number,
            rng.randint(2, 8),
            totals[number],
            rng.choice(("open", "done")),
            days[0],
        )
        db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", row)
    for order, product in rng.sample(list(itertools.product(range(4), range(8))), 14):
        db.execute("INSERT INTO items VALUES (?, ?, ?)", (order, product, rng.randint(1, 5)))
    return db


def result(db: sqlite3.Connection, sql: str, ordered: bool) -> list:
    rows = [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in db.execute(sql)]
    return rows if ordered else sorted(rows, key=repr)


def backwards(db: sqlite3.Connection) -> sqlite3.Connection:
    """The same rows, put in from the last to the first."""
    other = sqlite3.connect(":memory:")
    for name, sql in db.execute("SELECT name, sql FROM sqlite_master").fetchall():
        other.execute(sql)
        for row in db.execute(f"SELECT * FROM {name} ORDER BY rowid DESC"):
            other.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
    return other


def _has_ties(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT COUNT(*) > COUNT(DISTINCT IFNULL(pop, -1)) FROM city").fetchone()[0])


def agree(make, gold: str, answer: str) -> bool:
    """Whether two queries give the same on random rows, wherever gold says which rows and in what order."""
    ordered = "ORDER BY" in re.sub(r"OVER \([^)]*\)", "", gold)
    for seed in range(100):
        with closing(make(random.Random(f"check {seed}"))) as db, closing(backwards(db)) as other:
            if "LIMIT" in gold and _has_ties(db):
                continue
            want = result(db, gold, ordered)
            if result(other, gold, ordered) != want:
                continue  # tied rows
            try:
                got = result(db, answer, ordered)
            except sqlite3.Error:
                return False
            if got != want:
                return False
    return True


ALL = {"towns": (sql_pairs.TOWN_PAIRS, towns), "shop": (sql_pairs.SHOP_PAIRS, shop)}


@pytest.mark.parametrize("name", ALL)
def test_labels_are_what_sqlite_says_on_random_rows(name):
    pairs, make = ALL[name]
    wrong = [
        (gold, answer, right)
        for gold, *answers in pairs
        for right, some in zip((True, False), answers, strict=True)
        for answer in some
        if agree(make, gold, answer) != right
    ]
    assert not wrong


def verdicts(task: NL2SQL, pairs, row) -> list[tuple]:
    """Pairs judged otherwise than labelled, and how many there are."""
    asked = []
    for gold, right, wrong in pairs:
        record = task.record({**row, "question": "?", "sql": gold}, "f:1")
        asked += [(record, gold, answer, label) for label, some in ((1, right), (0, wrong)) for answer in some]
    scores = task.score_all(
        [(record, Completion((1,), (0.0,), f"```sql\n{answer}\n```", True)) for record, _, answer, _ in asked]
    )
    return [
        (gold, answer, label, score.detail)
        for (_, gold, answer, label), score in zip(asked, scores, strict=True)
        if (score.values["execution_match"], score.values["judged_rate"]) != (label, 1)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("towns")
    with closing(sqlite3.connect(place / "towns.sqlite")) as db:
        db.executescript(sql_pairs.TOWNS)
    return place


def test_pairs_with_a_database(folder):
    task = NL2SQL(databases=str(folder), sandbox=SandboxSpec(workers=1))
    wrong = verdicts(task, sql_pairs.TOWN_PAIRS, {"db_id": "towns", "schema": read_schema(folder / "towns.sqlite")})
    task.close()
    assert not wrong


def test_pairs_without_a_database(folder):
    task = NL2SQL(sandbox=SandboxSpec(workers=1))
    wrong = verdicts(task, sql_pairs.TOWN_PAIRS, {"schema": read_schema(folder / "towns.sqlite")})
    wrong += verdicts(task, sql_pairs.SHOP_PAIRS, {"schema": sql_pairs.SHOP})
    task.close()
    assert not wrong


@pytest.mark.skipif(not GEOGRAPHY.is_file(), reason="the published files are not here")
def test_pairs_on_a_published_database(tmp_path):
    (tmp_path / "geography.sqlite").symlink_to(GEOGRAPHY)
    task = NL2SQL(databases=str(tmp_path), sandbox=SandboxSpec(workers=1))
    wrong = verdicts(task, sql_pairs.GEOGRAPHY_PAIRS, {"db_id": "geography", "schema": read_schema(GEOGRAPHY)})
    task.close()
    assert not wrong


def test_there_are_enough_pairs():
    sets = (sql_pairs.TOWN_PAIRS, sql_pairs.SHOP_PAIRS, sql_pairs.GEOGRAPHY_PAIRS)
    assert sum(len(right) + len(wrong) for pairs in sets for _, right, wrong in pairs) > 250
