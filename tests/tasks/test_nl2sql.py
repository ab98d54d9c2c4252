"""NL2SQL: queries compared as text, in one form and by their results; a fault of the sandbox is no verdict."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_posttrain.sandbox import SandboxFault, SandboxSpec
from lightning_posttrain.tasks.nl2sql import NL2SQL
from lightning_posttrain.tasks.nl2sql.database import compiles, read_database, read_schema, shape_of
from lightning_posttrain.tasks.nl2sql.edit import edit_distance, normal_compat
from lightning_posttrain.tasks.nl2sql.query import find_query, find_query_compat, normal, parses
from lightning_posttrain.tasks.nl2sql.results import expected, same_rows, sorting
from lightning_posttrain.types import Completion, UserError
from tests.conftest import HANGS

DATA = Path(__file__).parents[3] / "shared" / "data" / "text2sql"
SCHEMA = {"city": [["name", "text"], ["state", "text"], ["population", "int"]], "state": [["name", "text"]]}
COLUMNS = frozenset({"name", "state", "population"})
CITIES = [("austin", "texas", 3), ("dallas", "texas", 5), ("boston", "massachusetts", 5), ("nome", "alaska", None)]
ROW = {
    "id": "r",
    "db_id": "towns",
    "question": "Which cities are in Texas?",
    "schema": SCHEMA,
    "sql": ['SELECT name FROM city WHERE state = "texas" ;'],
}
GOLD = ROW["sql"][0]


def write_database(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE city (name text, state text, population int)")
        db.execute("CREATE TABLE state (name text)")
        db.executemany("INSERT INTO city VALUES (?, ?, ?)", CITIES)
        db.executemany("INSERT INTO state VALUES (?)", [("texas",), ("alaska",)])
        db.commit()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("towns")
    write_database(place / "towns.sqlite")
    return place


@pytest.fixture(scope="module")
def task(folder):
    made = NL2SQL(databases=str(folder), sandbox=SandboxSpec(workers=1, wall_seconds=HANGS))
    yield made
    made.close()


def answer(text: str) -> Completion:
    return Completion((1,), (0.0,), text, True)


def block(sql: str) -> str:
    return f"```sql\n{sql}\n```"


# ---- finding and comparing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "strict", "compat"),
    [
        ("```sql\nSELECT 1\n```", "SELECT 1", "SELECT 1"),
        ("```sql\nSELECT 1\n```\nbetter:\n```sql\nSELECT 2\n```", "SELECT 2", "SELECT 1"),
        ("```\nSELECT 1\n```", "SELECT 1", "SELECT 1"),
        ("```python\nx\n```\n```sqlite\nSELECT 2\n```", "SELECT 2", "x"),
        ("```SQL SELECT 1```", "SELECT 1", "SELECT 1"),
        ("```sql\nSELECT 1", "SELECT 1", "```sql\nSELECT 1"),
        ("SELECT 1", "SELECT 1", "SELECT 1"),
        ("", None, ""),
    ],
)
def test_which_query_an_answer_gives(text, strict, compat):
    assert find_query(text) == strict
    assert find_query_compat(text) == compat


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("SELECT name FROM city", "select c.NAME from CITY as c;"),
        ('SELECT name FROM city WHERE state = "texas"', "SELECT name FROM city\nWHERE 'texas' = state"),
        (
            "SELECT a.name FROM city AS a, state AS b WHERE a.state = b.name AND a.population > 3",
            "SELECT x.name FROM state y JOIN city x ON y.name = x.state WHERE 3 < x.population",
        ),
        ("SELECT COUNT(*) AS n FROM city", "SELECT count( * ) FROM city"),
        ("SELECT name FROM city WHERE (population=1 OR state='a') AND name='b'",
         "SELECT name FROM city WHERE name='b' AND (state='a' OR population=1)"),
        ("SELECT name FROM city WHERE population=1 OR (state='a' AND name='b')",
         "SELECT name FROM city WHERE population=1 OR state='a' AND name='b'"),
        ("SELECT name FROM city WHERE population IN (3, 1)", "SELECT name FROM city WHERE population IN (1, 3)"),
        ("SELECT name AS x FROM city ORDER BY x DESC", "SELECT name FROM city ORDER BY name DESC"),
        ("SELECT name FROM city WHERE population != 1", "SELECT name FROM city WHERE 1 <> population"),
        ("SELECT name FROM city ORDER BY population", "SELECT name FROM city ORDER BY population ASC"),
        ("SELECT name FROM city ORDER BY population, name DESC",
         "SELECT name FROM city ORDER BY population ASC NULLS FIRST, name DESC NULLS LAST"),
        (
            "SELECT name FROM city WHERE state IN (SELECT name FROM state)",
            "SELECT a.name FROM city a WHERE a.state IN (SELECT b.name FROM state b)",
        ),
    ],
)  # fmt: skip
def test_queries_of_the_same_form(a, b):
    assert normal(a, COLUMNS) == normal(b, COLUMNS) is not None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("SELECT name, state FROM city", "SELECT state, name FROM city"),
        ("SELECT name FROM city WHERE state='Texas'", "SELECT name FROM city WHERE state='texas'"),
        ("SELECT name FROM city WHERE population >= 1", "SELECT name FROM city WHERE population > 1"),
        ("SELECT name FROM city WHERE name=1 OR state=2 AND population=3",
         "SELECT name FROM city WHERE (name=1 OR state=2) AND population=3"),
        ("SELECT population - (1 - 2) FROM city", "SELECT population - 1 - 2 FROM city"),
        ("SELECT name FROM city WHERE NOT (name=1 AND state=2)", "SELECT name FROM city WHERE NOT name=1 AND state=2"),
        ("SELECT a.name FROM city a LEFT JOIN state b ON a.state=b.name",
         "SELECT a.name FROM state b LEFT JOIN city a ON a.state=b.name"),
        ("SELECT a.name FROM city a, city b WHERE a.state=b.name",
         "SELECT b.name FROM city a, city b WHERE a.state=b.name"),
        ("SELECT DISTINCT name FROM city", "SELECT name FROM city"),
        ("SELECT name FROM city ORDER BY population ASC", "SELECT name FROM city ORDER BY population DESC"),
        ("SELECT name FROM city ORDER BY population ASC", "SELECT name FROM city ORDER BY population NULLS LAST"),
    ],
)  # fmt: skip
def test_queries_of_different_forms(a, b):
    assert normal(a, COLUMNS) != normal(b, COLUMNS)


def test_only_one_query_is_a_query():
    assert parses("WITH x AS (SELECT 1) SELECT * FROM x")
    assert parses("SELECT 1 UNION SELECT 2;")
    for text in ("", "Texas.", "DROP TABLE city", "SELECT 1; SELECT 2", "SELECT FROM WHERE", "(" * 100, "SELECT ["):
        assert not parses(text)
        assert normal(text) is None
        assert sorting(text, COLUMNS) is None


def test_how_a_query_sorts():
    assert sorting("SELECT name FROM city", COLUMNS) is None
    how = sorting("SELECT name, population AS n FROM city ORDER BY n DESC, 1, state LIMIT 3 OFFSET 2", COLUMNS)
    assert (how.keys, how.added, how.start, how.stop) == ((-3, -2, -1), 3, 2, 5)
    assert how.sql.startswith("SELECT name, population AS n, population AS sort_key_0, name AS sort_key_1, state AS")
    assert "LIMIT" not in how.sql
    how = sorting("SELECT name FROM city UNION SELECT name FROM state ORDER BY name", COLUMNS)
    assert (how.keys, how.added) == ((0,), 0)
    for sql in (
        "SELECT DISTINCT name FROM city ORDER BY population",
        "SELECT name FROM city UNION SELECT name FROM state ORDER BY population",
        "SELECT * FROM city ORDER BY 1",
        "SELECT name FROM city ORDER BY name LIMIT (SELECT 1)",
    ):
        assert sorting(sql, COLUMNS).sql is None
    assert "LOWER(name) AS sort_key_0" in sorting("SELECT name FROM city ORDER BY name COLLATE NOCASE", COLUMNS).sql


def result(rows, sql, keyed):
    return expected(rows, sorting(sql, COLUMNS), keyed)


def test_tied_rows_come_in_any_order_and_a_limit_takes_any_of_them():
    keyed = [("a", 3), ("b", 2), ("c", 2), ("d", 2), ("e", 1)]
    sql = "SELECT name FROM city ORDER BY population DESC"
    whole = result([(n,) for n, _ in keyed], sql, keyed)
    assert whole.met_by([("a",), ("d",), ("b",), ("c",), ("e",)])
    assert not whole.met_by([("b",), ("a",), ("c",), ("d",), ("e",)])
    assert not whole.met_by([("a",), ("b",), ("b",), ("d",), ("e",)])
    assert not whole.open
    cut = result([("a",), ("b",)], f"{sql} LIMIT 2", keyed)
    assert cut.open
    assert cut.met_by([("a",), ("d",)])
    assert not cut.met_by([("a",), ("e",)])
    assert not cut.met_by([("a",), ("b",), ("c",)])
    inner = result([("c",), ("d",)], f"{sql} LIMIT 2 OFFSET 2", keyed)
    assert inner.met_by([("b",), ("d",)])
    assert not inner.met_by([("b",), ("b",)])
    assert not result([("a",)], f"{sql} LIMIT 1", keyed).open
    unlike = result([("e",), ("a",)], f"{sql} LIMIT 2", keyed)  # further columns changed the result: ties are not told
    assert unlike.met_by([("e",), ("a",)])
    assert not unlike.met_by([("a",), ("e",)])


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ([(5,)], [(5.0,)], True),
        ([(0.1 + 0.2,)], [(0.3,)], True),
        ([(0.3,)], [(0.3001,)], False),
        ([(2**60,)], [(2**60 + 1,)], False),
        ([("5",)], [(5,)], False),
        ([(None,)], [(None,)], True),
        ([(None,)], [(0,)], False),
        ([(None,)], [("",)], False),
        ([("a",), ("a",), ("b",)], [("a",), ("b",), ("a",)], True),
        ([("a",), ("b",), ("b",)], [("a",), ("b",), ("a",)], False),
        ([("a", 1)], [(1, "a")], False),
        ([], [], True),
        ([], [(None,)], False),
        ([({"blob": "AA=="},)], [("AA==",)], False),
        ([({"blob": "AA=="},)], [({"blob": "AA=="},)], True),
        ([(1e300, "x"), (2.0, "y")], [(2, "y"), (1e300 * (1 + 1e-12), "x")], True),
    ],
)
def test_equality_of_rows(a, b, same):
    assert same_rows(a, b) == same_rows(b, a) == same


def test_the_originals_normal_form():
    assert normal_compat("```sql\nSELECT  a,b FROM t WHERE a>=1 ;\n```") == "select a , b from t where a > = 1"
    assert normal_compat("a<>b") == "a < > b"
    assert normal_compat("a!=b") == "a! = b"
    assert normal_compat("x = 'A'") == normal_compat("x='a'")


def test_edit_distance_by_hand():
    assert edit_distance("kitten", "sitting") == 3 / 7
    assert edit_distance("", "") == 0
    assert edit_distance("ab", "") == 1
    assert edit_distance("abcd", "abcx") == 0.25


# ---- databases ------------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as db:
        db.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE, b REAL UNIQUE, c, ref REFERENCES s(k))"
        )
        db.execute("CREATE TABLE s (k, name TEXT)")
        db.execute("INSERT INTO t VALUES (1, 'x', 2, NULL, 3), (2, 'x', NULL, x'00ff', 3)")
        db.execute("INSERT INTO s VALUES (1, 'p'), (1, 'q')")
        db.commit()
    shape = read_database(tmp_path / "x.sqlite").shape
    t, s = shape.relations
    assert [(c.unique, c.nullable, c.collation, c.values) for c in t.columns] == [
        (True, False, "BINARY", (1, 2)),
        (False, False, "NOCASE", ("x",)),
        (True, True, "BINARY", (2.0,)),
        (False, True, "BINARY", ()),
        (False, False, "BINARY", (3,)),
    ]
    assert [column.unique for column in s.columns] == [False, True]
    assert shape.links == ((("t", "ref"), ("s", "k")),)
    assert read_database(tmp_path / "x.sqlite") is read_database(tmp_path / "x.sqlite")
    assert read_schema(tmp_path / "x.sqlite")["s"] == [("k", ""), ("name", "TEXT")]


def test_what_is_guessed_from_names():
    shape = shape_of({
        "orders": [["id", "int"], ["customer_id", "int"], ["total", "real"]],
        "customers": [["customer_id", "int"], ["name", "text"]],
        "items": [["order_id", "int"], ["quantity", "int"]],
    })  # fmt: skip
    known = {(r.name, c.name): (c.unique, c.entity) for r in shape.relations for c in r.columns}
    assert known == {
        ("orders", "id"): (True, True), ("orders", "customer_id"): (False, False), ("orders", "total"): (False, False),
        ("customers", "customer_id"): (True, True), ("customers", "name"): (False, True),
        ("items", "order_id"): (False, False), ("items", "quantity"): (False, False),
    }  # fmt: skip


def test_databases_are_not_written_to(folder):
    path = folder / "towns.sqlite"
    before = path.read_bytes()
    assert compiles(path, "SELECT name FROM city")
    assert not compiles(path, "SELECT nothing FROM city")
    assert not compiles(path, "SELECT 1; DROP TABLE city")
    assert compiles(path, "DELETE FROM city")
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "text.sqlite").write_text("no database at all, but long enough to look at" * 10)
    closing(sqlite3.connect(tmp_path / "empty.sqlite")).__exit__()
    for name, named in (("text", "no SQLite database"), ("empty", "no tables"), ("none", "no database|does not exist")):
        with pytest.raises(UserError, match=named):
            read_database(tmp_path / f"{name}.sqlite")


# ---- the task -------------------------------------------------------------------------------------------------------


def test_the_prompt_and_targets(task):
    record = task.record(ROW, "f:1")
    text = record.prompt[0].content
    assert text.startswith("You are an expert in SQL.")
    assert "CREATE TABLE city (name text, state text, population int);\nCREATE TABLE state (name text);" in text
    assert text.endswith("Question: Which cities are in Texas?")
    assert record.answer == block(GOLD)
    assert NL2SQL(target="bare").record(ROW, "f:1").answer == GOLD
    given = NL2SQL().record({"user": "Schema ... question", "sql": "SELECT 1"}, "f:1")
    assert given.prompt[0].content.endswith("in a ```sql block.\n\nSchema ... question")


UNSEEN = "SELECT name FROM city ORDER BY population DESC"
CASES = {
    # name: (gold, answer, exact, execution, reason)
    "gold": (GOLD, block(GOLD), 1, 1, None),
    "bare": (GOLD, GOLD, 1, 1, None),
    "other text, same result": (GOLD, block("SELECT name FROM city WHERE state IS 'texas' AND 1"), 0, 1, None),
    "same result on the published rows only": (
        GOLD,
        block("SELECT name FROM city WHERE state LIKE 'TEX%'"),
        0,
        0,
        "other_result",
    ),
    "thought first": (GOLD, f"<think>```sql\nSELECT 1\n```</think>{block(GOLD)}", 1, 1, None),
    "rows in another order": (GOLD, block("SELECT name FROM city WHERE state='texas' ORDER BY name DESC"), 0, 1, None),
    "other result": (GOLD, block("SELECT name FROM city"), 0, 0, "other_result"),
    "row twice": (GOLD, block(f"{GOLD[:-1]} UNION ALL SELECT 'austin'"), 0, 0, "other_result"),
    "wrong case": (GOLD, block("SELECT name FROM city WHERE state = 'Texas'"), 0, 0, "other_result"),
    "no such column": (GOLD, block("SELECT title FROM city"), 0, 0, "error"),
    "no query": (GOLD, "In Texas.", 0, 0, "no_query"),
    "not a question": (GOLD, block("DROP TABLE city"), 0, 0, "no_query"),
    "empty": (GOLD, "", 0, 0, "no_query"),
    "reads a file": (GOLD, block("SELECT * FROM read_csv('/etc/passwd')"), 0, 0, "error"),
    "sorted": ("SELECT name FROM city ORDER BY name", block("SELECT name FROM city"), 0, 0, "other_result"),
    "ties": (
        "SELECT population, name FROM city WHERE population > 1 ORDER BY population",
        block("SELECT population, name FROM city WHERE population > 1 ORDER BY population, name DESC"),
        0,
        1,
        None,
    ),
    "unseen ties": (UNSEEN, block(f"{UNSEEN}, name DESC"), 0, 1, None),
    "unseen ties the other way": (UNSEEN, block(f"{UNSEEN}, name"), 0, 1, None),
    "unseen key not sorted by": (UNSEEN, block("SELECT name FROM city ORDER BY name"), 0, 0, "other_result"),
    "unseen key, fewer rows": (UNSEEN, block(f"{UNSEEN} LIMIT 3"), 0, 0, "other_result"),
    "unseen count": (
        "SELECT state FROM city GROUP BY state ORDER BY COUNT(*) DESC",
        block("SELECT state FROM city GROUP BY state ORDER BY COUNT(*) DESC, state DESC"),
        0,
        1,
        None,
    ),
    "all columns and one of them sorted by": (
        "SELECT * FROM city ORDER BY population",
        block("SELECT * FROM city ORDER BY population, name DESC"),
        0,
        1,
        None,
    ),
    "a key shown and one unseen": (
        "SELECT state FROM city ORDER BY state DESC, population",
        block("SELECT state FROM city ORDER BY 1 DESC"),
        0,
        1,
        None,
    ),
    "unseen ties cut off": (f"{UNSEEN} LIMIT 1", block(f"{UNSEEN}, name DESC LIMIT 1"), 0, 1, None),
    "bare column": ("SELECT state, name, COUNT(*) FROM city GROUP BY state", block("SELECT 1"), 0, 0, "other_result"),
    "null": (
        "SELECT name FROM city WHERE population IS NULL",
        block("SELECT name FROM city WHERE NOT population NOTNULL"),
        0,
        1,
        None,
    ),
    "its rows written out": (GOLD, block("VALUES ('austin'), ('dallas')"), 0, 0, "other_result"),
    "extreme": (
        "SELECT name, MIN(population) FROM city",
        block("SELECT name, population FROM city WHERE population IS NOT NULL ORDER BY population LIMIT 1"),
        0,
        1,
        None,
    ),
    "a text in double quotes": (GOLD, block('SELECT name FROM city WHERE "texas" = state'), 1, 1, None),
    "attaches": (GOLD, block("ATTACH '/etc/passwd' AS x"), 0, 0, "no_query"),
    "writes": (GOLD, block("WITH x AS (SELECT 1) DELETE FROM city RETURNING name"), 0, 0, "no_query"),
}  # fmt: skip


def test_strict_verdicts(task):
    pairs = [(task.record({**ROW, "sql": gold}, "f:1"), answer(text)) for gold, text, *_ in CASES.values()]
    for (name, case), score in zip(CASES.items(), task.score_all(pairs), strict=True):
        _, _, exact, execution, reason = case
        found = score.values["exact_match"], score.values["execution_match"], score.values["correct"], score.reason
        assert (name, *found) == (name, exact, execution, execution, reason)
        assert score.values["edit_similarity"] == 1 - score.values["edit_distance"]
        assert (score.values["edit_distance"] == 0) == bool(exact)


def test_compat_verdicts(folder):
    task = NL2SQL(rules="compat", databases=str(folder), sandbox=SandboxSpec(workers=1, wall_seconds=HANGS))
    record = task.record(ROW, "f:1")
    texts = {
        block(GOLD.upper()): (1, 0),  # literals are lowered for the text, not for the database
        block("SELECT c.name FROM city c WHERE state='texas'"): (0, 1),
        block(f"{GOLD[:-1]} UNION ALL SELECT 'austin'"): (0, 1),  # sets of rows
        f"{block(GOLD)}\nor\n{block('SELECT 1')}": (1, 1),  # the first block
        f"<think>{block('SELECT 1')}</think>{block(GOLD)}": (0, 0),
        "```sql": (0, 0),
        block(f"{GOLD[:-1]} AND 1.5 < 2"): (0, 1),
    }
    scores = task.score_all([(record, answer(text)) for text in texts])
    task.close()
    assert [(s.values["exact_match"], s.values["execution_match"]) for s in scores] == list(texts.values())


def test_without_a_database_fillings_judge():
    task = NL2SQL(sandbox=SandboxSpec(workers=1, wall_seconds=HANGS))
    record = task.record(ROW, "f:1")
    texts = (
        GOLD,
        "SELECT c.name FROM city c WHERE 'texas' = c.state",
        "SELECT name FROM state",
        "SELECT title FROM state",
    )
    scores = task.score_all([(record, answer(block(sql))) for sql in texts])
    task.close()
    assert [s.values["correct"] for s in scores] == [1, 1, 0, 0]
    assert [s.values["execution_match"] for s in scores] == [1, 1, 0, 0]
    assert [s.values["judged_rate"] for s in scores] == [1] * 4
    assert [s.values["executable_rate"] for s in scores] == [1, 1, 1, 0]
    assert scores[2].reason == "other_result"
    assert isinstance(scores[2].detail["differs_on"], int)


def test_a_gold_query_that_gives_nothing_anywhere_is_not_judged_and_counted(task):
    record = task.record({**ROW, "sql": "SELECT name FROM city WHERE population > 1 AND population < 1"}, "f:1")
    right, wrong = task.score_all(
        [(record, answer(block(sql))) for sql in (record.meta["problem"].queries[0], "SELECT 1")]
    )
    for score, exact in ((right, 1), (wrong, 0)):
        assert math.isnan(score.values["execution_match"])
        assert (score.values["judged_rate"], score.values["gold_failed"], score.values["correct"]) == (0, 0, exact)


@pytest.mark.parametrize("schema", [{}, {"city": []}, {"city": [["name", "text"], ["NAME", "text"]]}])
def test_without_a_schema_that_makes_tables_nothing_is_run(schema):
    task = NL2SQL()
    values = task.score(task.record({**ROW, "schema": schema}, "f:1"), answer(GOLD)).values
    assert math.isnan(values["executable_rate"])
    assert values["exact_match"] == 1


def test_a_row_may_name_its_database(tmp_path):
    write_database(tmp_path / "databases" / "towns.sqlite")
    task = NL2SQL(sandbox=SandboxSpec(workers=1, wall_seconds=HANGS))
    rows = tmp_path / "test.jsonl"
    record = task.record({**ROW, "database": "databases/towns.sqlite"}, f"{rows}:1")
    assert task.score(record, answer(GOLD)).values["execution_match"] == 1
    task.close()
    with pytest.raises(UserError, match=r"other\.sqlite"):
        task.record({**ROW, "database": "databases/other.sqlite"}, f"{rows}:1")


def test_where_gold_does_not_run_nothing_is_said_of_results(task):
    record = task.record({**ROW, "sql": "SELECT title FROM city"}, "f:1")
    score = task.score(record, answer(block(GOLD)))
    assert math.isnan(score.values["execution_match"])
    assert math.isnan(score.values["executable_rate"])
    assert (score.values["correct"], score.values["judged_rate"], score.values["gold_failed"]) == (0, 0, 1)
    assert score.detail["gold_status"] == "error"


def test_any_of_several_gold_queries_will_do(task):
    record = task.record({**ROW, "sql": ["SELECT title FROM city", "SELECT name FROM state", GOLD]}, "f:1")
    values = task.score(record, answer(block(GOLD))).values
    assert (values["exact_match"], values["execution_match"], values["edit_distance"]) == (1, 1, 0)


def test_a_failing_sandbox_is_no_verdict(folder, monkeypatch):
    def fail(jobs):
        raise SandboxFault("no workers")

    task = NL2SQL(databases=str(folder))
    monkeypatch.setattr(task.sandbox, "run", fail)
    with pytest.raises(SandboxFault, match="no workers"):
        task.score(task.record(ROW, "f:1"), answer(GOLD))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sql": None}, "sql=None"),
        ({"sql": []}, r"sql=\[\]"),
        ({"sql": ["SELECT 1", " "]}, "sql="),
        ({"question": None}, "question=None"),
        ({"schema": ["city"]}, "schema="),
        ({"schema": {"city": ["name"]}}, "schema="),
        ({"database": 3}, "database=3"),
    ],
)
def test_bad_rows_are_refused(change, named):
    with pytest.raises(UserError, match=f"f:3.*{named}"):
        NL2SQL().record({**ROW, **change}, "f:3")


def test_options_out_of_range_are_refused(tmp_path):
    with pytest.raises(UserError, match="databases="):
        NL2SQL(databases=str(tmp_path / "none"))
    with pytest.raises(UserError, match="rules='easy'"):
        NL2SQL(rules="easy")


PIECES = [
    "SELECT ",
    "name",
    " FROM city",
    " WHERE ",
    "(",
    ")",
    "'",
    '"',
    "```sql\n",
    "```",
    "<think>",
    ";",
    "--",
    "\0",
    "\ud800",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=14).map("".join))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_scored(task, text):
    values = task.score(task.record(ROW, "f:1"), answer(text)).values
    assert all(0 <= value <= 1 for value in values.values() if not math.isnan(value))


def test_sets_of_rows_hold_numbers_however_they_are_written(folder):
    task = NL2SQL(rules="compat", databases=str(folder), sandbox=SandboxSpec(workers=1, wall_seconds=HANGS))
    record = task.record({**ROW, "sql": "SELECT population * 1.5 FROM city WHERE name = 'austin'"}, "f:1")
    texts = {"SELECT 4.5": 1, "SELECT 9 / 2.0": 1, "SELECT CAST(4.5 AS REAL)": 1, "SELECT '4.5'": 0, "SELECT 4.5, 1": 0}
    scores = task.score_all([(record, answer(block(text))) for text in texts])
    task.close()
    assert [score.values["execution_match"] for score in scores] == list(texts.values())


@pytest.mark.skipif(not DATA.is_dir(), reason="the published files are not here")
def test_the_form_of_a_published_query_gives_its_result():
    compared = 0
    schema = read_schema(DATA / "geography-db.sqlite")
    columns = frozenset(name for held in schema.values() for name, _ in held)
    with closing(sqlite3.connect(f"file:{DATA / 'geography-db.sqlite'}?mode=ro&immutable=1", uri=True)) as db:
        for entry in json.loads((DATA / "geography.json").read_text()):
            sql = entry["sql"][0]
            for variable in entry["variables"]:
                sql = sql.replace(variable["name"], variable["example"])
            if "LIMIT" in sql or not compiles(DATA / "geography-db.sqlite", sql):
                continue  # which of several rows comes first is not said
            form = normal(sql, columns)
            assert form is not None
            assert sorted(map(repr, db.execute(form))) == sorted(map(repr, db.execute(sql)))
            compared += 1
    assert compared > 190


@pytest.mark.skipif(not DATA.is_dir(), reason="the published files are not here")
def test_published_queries_have_one_form():
    for name in ("geography", "scholar"):
        for entry in json.loads((DATA / f"{name}.json").read_text())[:60]:
            for sql in entry["sql"]:
                form = normal(sql)
                assert form is not None
                assert normal(form) == form
