"""`prepare banking77|pubmedqa|tatqa|nl2sql|all`: splits, counts, hashes, and nothing half-written."""

import csv
import hashlib
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from lightning_posttrain.cli import main
from lightning_posttrain.records import sources
from lightning_posttrain.tasks.banking77 import LABELS
from lightning_posttrain.tasks.enterprise.prepare import EnterpriseSpec, prepared
from lightning_posttrain.tasks.registry import TASKS
from lightning_posttrain.types import UserError

DATA = Path(__file__).parents[3] / "shared" / "data"
PUBLISHED = pytest.mark.skipif(not (DATA / "banking77").is_dir(), reason="the published files are not here")


def write_csv(path: Path, columns: list[str], rows: list[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def banking77(folder: Path, n: int = 10) -> Path:
    """Three categories, grouped as in the published files; one text is in both parts."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["beta", "Alpha", "gamma?"]
    (folder / "categories.json").write_text(json.dumps(names))
    rows = [[f"{name} question {i}", name] for name in names for i in range(n)]
    write_csv(folder / "train.csv", ["text", "category"], [["Beta  TEST 0", "beta"], *rows])
    write_csv(
        folder / "test.csv", ["text", "category"], [[f"{name} test {i}", name] for name in names for i in range(4)]
    )
    return folder


def pubmedqa(folder: Path, n: int = 300) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    labels = ["yes"] * 5 + ["no"] * 3 + ["maybe"] * 2
    rows = {
        str(1000 + i): {"QUESTION": f"Question {i}?", "CONTEXTS": ["One.", "Two."], "final_decision": labels[i % 10]}
        for i in range(n)
    }
    (folder / "ori_pqal.json").write_text(json.dumps(rows))
    (folder / "test_ground_truth.json").write_text(json.dumps({str(1000 + i): "yes" for i in range(0, n, 2)}))
    return folder


def document(name: str, answers: list) -> dict:
    kinds = {list: "multi-span", str: "span"}
    questions = [
        {
            "uid": f"{name}-{i}",
            "question": f"What is {i}?",
            "answer": [answer] if isinstance(answer, str) else answer,
            "answer_type": kinds.get(type(answer), "arithmetic"),
            "scale": "percent" if isinstance(answer, float) else "",
            "derivation": "",
        }
        for i, answer in enumerate(answers)
    ]
    paragraphs = [{"order": 2, "text": "Second."}, {"order": 1, "text": "First."}]
    return {
        "table": {"uid": name, "table": [["", "2019"], ["x", "1"]]},
        "paragraphs": paragraphs,
        "questions": questions,
    }


def tatqa(folder: Path, parts: tuple[str, ...] = ("train", "dev")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        documents = [document(f"{part}{i}", [i, 0, 1.5, "word", ["a", "b"]]) for i in range(60)]
        (folder / f"tatqa_dataset_{part}.json").write_text(json.dumps(documents))
    return folder


def text2sql(folder: Path) -> Path:
    """Two data sets, one with a database. Of two queries of an entry the first may name what is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "towns-db.sqlite")) as db:
        db.execute("CREATE TABLE city (name text, state text)")
        db.execute("INSERT INTO city VALUES ('austin', 'texas')")
        db.commit()
    for name in ("towns", "books"):
        sql = ['SELECT name FROM city WHERE state = "state0" ;', "SELECT city.name FROM city ;"]
        entries = [
            {
                "sql": [f"SELECT title{i} FROM nowhere", *sql] if i == 0 else sql,
                "variables": [{"name": "state0", "example": "ohio"}, {"name": "state01", "example": "iowa"}],
                "query-split": ["train", "dev", "test"][i % 3],
                "sentences": [
                    {"text": f"{i}: in state0, not state01", "variables": {"state0": value}, "question-split": split}
                    for value, split in (("texas", "train"), ("", "dev"), ("utah", "test"))
                ],
            }
            for i in range(12)
        ]
        (folder / f"{name}.json").write_text(json.dumps(entries))
        header = "Table Name, Field Name, Is Primary Key, Is Foreign Key, Type\n"
        lines = "CITY, NAME, y, n, varchar(9) NOT NULL\n-, -, -, -, -\nCITY, STATE, n, n, int(11)\n"
        (folder / f"{name}-schema.csv").write_text(header + lines)
    return folder


def rows_of(folder: Path, part: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]


def run(*words: object) -> int:
    return main(["prepare", *map(str, words)])


def counts(folder: Path) -> dict[str, int]:
    return {
        part: len(rows_of(folder, part)) for part in ("train", "val", "test") if (folder / f"{part}.jsonl").exists()
    }


# ---- what is written ------------------------------------------------------------------------------------------------


def test_banking77(tmp_path, capsys):
    source = banking77(tmp_path / "source")
    assert run("banking77", "--source", source, "--output-dir", tmp_path / "out", "--val_share", "0.2") == 0
    folder = tmp_path / "out" / "banking77"
    assert counts(folder) == {"train": 24, "val": 6, "test": 12}
    told = capsys.readouterr().out
    assert "train 24, val 6, test 12 rows" in told
    assert "1 training rows left out" in told
    assert "set `labels`" in told
    assert json.loads((folder / "labels.json").read_text()) == {"0": "Alpha", "1": "beta", "2": "gamma?"}
    assert Counter(row["label"] for row in rows_of(folder, "val")) == {0: 2, 1: 2, 2: 2}
    assert rows_of(folder, "test")[0].keys() == {"id", "text", "label", "label_name"}
    assert [row["label"] for row in rows_of(folder, "test")] != sorted(row["label"] for row in rows_of(folder, "test"))
    stats = json.loads((folder / "stats.json").read_text())
    assert stats["train"]["label_name"] == {"Alpha": 8, "beta": 8, "gamma?": 8}


def test_the_manifest_proves_files_and_sources(tmp_path):
    source = text2sql(tmp_path / "source")
    assert run("nl2sql", "--source", source, "--output-dir", tmp_path / "out") == 0
    folder = tmp_path / "out" / "nl2sql"
    manifest = json.loads((folder / "manifest.json").read_text())
    held = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
    assert manifest["files"].keys() == held
    for places in (((folder / name), value) for name, value in manifest["files"].items()):
        assert hashlib.sha256(places[0].read_bytes()).hexdigest() == places[1]
    for name, value in manifest["source_files"].items():
        assert hashlib.sha256(Path(name).read_bytes()).hexdigest() == value
    assert (folder / "databases" / "towns.sqlite").read_bytes() == (source / "towns-db.sqlite").read_bytes()
    assert manifest["licence"]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    source = pubmedqa(tmp_path / "source")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("pubmedqa", "--source", source, "--output_dir", tmp_path / name, "--seed", seed) == 0
    a, b, c = ((tmp_path / name / "pubmedqa" / "test.jsonl").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_pubmedqa_is_stratified(tmp_path):
    assert run("pubmedqa", "--source", pubmedqa(tmp_path / "source"), "--output_dir", tmp_path) == 0
    folder = tmp_path / "pubmedqa"
    assert counts(folder) == {"train": 240, "val": 30, "test": 30}
    for part in ("val", "test"):
        assert Counter(row["answer"] for row in rows_of(folder, part)) == {"yes": 15, "no": 9, "maybe": 6}
    ids = [row["id"] for part in ("train", "val", "test") for row in rows_of(folder, part)]
    assert len(set(ids)) == 300


def test_the_official_test_ids(tmp_path):
    source = pubmedqa(tmp_path / "source")
    assert run("pubmedqa", "--source", source, "--output_dir", tmp_path, "--split", "official") == 0
    assert {int(row["id"]) % 2 for row in rows_of(tmp_path / "pubmedqa", "test")} == {0}
    assert counts(tmp_path / "pubmedqa") == {"train": 135, "val": 15, "test": 150}


def test_tatqa_keeps_documents_together(tmp_path):
    source = tatqa(tmp_path / "source")
    assert run("tatqa", "--source", source, "--output_dir", tmp_path) == 0
    folder = tmp_path / "tatqa"
    assert counts(folder) == {"train": 270, "val": 30, "test": 300}
    homes = {part: {row["document"] for row in rows_of(folder, part)} for part in ("train", "val", "test")}
    assert not homes["train"] & homes["val"]
    assert rows_of(folder, "train")[0]["paragraphs"] == ["First.", "Second."]
    assert Counter(row["answer_type"] for row in rows_of(folder, "val"))["arithmetic"] == 18


def test_tatqa_from_one_part(tmp_path, capsys):
    source = tatqa(tmp_path / "source", ("dev",))
    assert run("tatqa", "--source", source, "--output_dir", tmp_path) == 0
    assert counts(tmp_path / "tatqa") == {"train": 240, "val": 30, "test": 30}
    assert "only dev is there" in capsys.readouterr().out


def test_nl2sql_from_text2sql_data(tmp_path):
    source = text2sql(tmp_path / "source")
    assert run("nl2sql", "--source", source, "--output_dir", tmp_path, "--split", "official") == 0
    folder = tmp_path / "nl2sql"
    assert counts(folder) == {"train": 24, "val": 24, "test": 24}
    train = {row["id"]: row for row in rows_of(folder, "train")}
    town = train["towns-0-0"]
    assert town["question"] == "0: in texas, not iowa"
    assert town["sql"][0] == 'SELECT name FROM city WHERE state = "texas" ;'  # the first that names only what is there
    assert "nowhere" not in train["books-0-0"]["sql"][0]
    assert town["schema"] == {"city": [["name", "TEXT"], ["state", "TEXT"]]}
    assert train["books-0-0"]["schema"] == {"CITY": [["NAME", "varchar(9)"], ["STATE", "int(11)"]]}
    assert town["database"] == "databases/towns.sqlite"
    assert "database" not in train["books-0-0"]
    assert rows_of(folder, "val")[0]["question"].endswith("in ohio, not iowa")  # an empty value is the example
    record = TASKS["nl2sql"]().record(town, f"{folder}/train.jsonl:1")
    assert record.meta["problem"].database == folder / "databases" / "towns.sqlite"


@pytest.mark.parametrize("split", ["stratified", "query"])
def test_no_query_pattern_is_in_two_parts(tmp_path, split):
    source = text2sql(tmp_path / "source")
    assert run("nl2sql", "--source", source, "--output_dir", tmp_path, "--split", split, "--only", "towns") == 0
    homes = [{row["pattern"] for row in rows_of(tmp_path / "nl2sql", part)} for part in ("train", "val", "test")]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 12


def test_nl2sql_from_skyrl_rows(tmp_path, write_rows):
    rows = [
        {
            "db_id": f"db{i}",
            "data": ["spider", "synsql"][i % 2],
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f" Schema {i} "}],
            "reward_model": {"ground_truth": f"SELECT {i}"},
        }
        for i in range(653)
    ]
    path = write_rows(rows, "skyrl.jsonl")
    for split, expected in (("seed", {"train": 503, "val": 50, "test": 100}), ("seed_v1", {"train": 587, "test": 66})):
        assert run("nl2sql", "--source", path, "--output_dir", tmp_path / split, "--split", split) == 0
        assert counts(tmp_path / split / "nl2sql") == expected
    first = rows_of(tmp_path / "seed" / "nl2sql", "train")[0]
    assert (first["user"], first["sql"], first["db_id"]) == ("Schema 0", ["SELECT 0"], "db0")
    assert run("nl2sql", "--source", path, "--output_dir", tmp_path / "x", "--split", "official") == 2


def test_the_originals_splits_are_in_file_order(tmp_path):
    assert run("pubmedqa", "--source", pubmedqa(tmp_path / "p"), "--output_dir", tmp_path, "--split", "seed") == 0
    parts = [rows_of(tmp_path / "pubmedqa", part) for part in ("train", "val", "test")]
    assert [row["id"] for part in parts for row in part] == [str(1000 + i) for i in range(300)]
    assert [len(part) for part in parts] == [100, 100, 100]
    source = banking77(tmp_path / "b", n=50)
    assert run("banking77", "--source", source, "--output_dir", tmp_path, "--split", "seed") == 0
    assert counts(tmp_path / "banking77") == {"train": 51, "val": 100, "test": 12}
    assert {row["label_name"] for row in rows_of(tmp_path / "banking77", "val")} == {"Alpha", "gamma?"}
    assert run("tatqa", "--source", tatqa(tmp_path / "t"), "--output_dir", tmp_path, "--split", "seed") == 0
    # of five answers of a document one is 0, and in the first one two are
    assert counts(tmp_path / "tatqa") == {"train": 139, "val": 100, "test": 239}


@pytest.mark.parametrize(
    ("split", "file", "rows"), [("seed", "dev", 239), ("seed_v1", "dev", 239), ("official", "test_gold", 300)]
)
def test_the_test_part_of_tatqa_needs_its_own_file_alone(tmp_path, split, file, rows):
    source = tatqa(tmp_path / "t", (file,))
    words = ["--source", source, "--output_dir", tmp_path, "--split", split]
    assert run("tatqa", *words) == 2
    assert run("tatqa", *words, "--test_only", "true") == 0
    assert counts(tmp_path / "tatqa") == {"test": rows}
    tatqa(source, ("train", "dev", "test_gold"))
    assert run("tatqa", "--source", source, "--output_dir", tmp_path / "whole", "--split", split) == 0
    assert rows_of(tmp_path / "whole" / "tatqa", "test") == rows_of(tmp_path / "tatqa", "test")


def test_all_four(tmp_path, capsys):
    makers = {"banking77": banking77, "pubmedqa": pubmedqa, "tatqa": tatqa, "text2sql": text2sql}
    for name, make in makers.items():
        make(tmp_path / "data" / name)
    assert run("all", "--source", tmp_path / "data", "--output-dir", tmp_path / "out") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["banking77", "nl2sql", "pubmedqa", "tatqa"]
    assert len(capsys.readouterr().out.splitlines()) == 4
    for name in ("pubmedqa", "tatqa", "nl2sql"):
        path = tmp_path / "out" / name / "train.jsonl"
        for row, origin in sources.read_rows(path):
            assert TASKS[name]().record(row, origin).id == row["id"]


# ---- the hub --------------------------------------------------------------------------------------------------------


class Rows(list):
    """What the datasets library gives, as far as it is used."""

    _fingerprint = "abc"


def test_the_hub(tmp_path, monkeypatch):
    asked = []

    def hub(path):
        asked.append(path)
        if "banking77" in path:
            return Rows({"text": f"text {i} {path}", "label": i % 77} for i in range(1001))
        if "PubMedQA" in path:
            labels = ["yes", "no", "maybe"]
            context = {"contexts": ["One."], "labels": [], "meshes": []}
            return Rows(
                {"pubid": i, "question": f"{i}?", "context": context, "final_decision": labels[i % 3]}
                for i in range(300)
            )
        prompt = [{"role": "user", "content": "Schema"}]
        return Rows({"db_id": "x", "prompt": prompt, "reward_model": {"ground_truth": "SELECT 1"}} for _ in range(200))

    def download(repo, file, repo_type):
        asked.append((repo, file, repo_type))
        return str(tatqa(tmp_path / "cache", ("train", "dev", "test_gold")) / file)

    monkeypatch.setattr(sources, "_hub", hub)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert run("all", "--source", "hub", "--output_dir", tmp_path / "out", "--split", "seed") == 0
    assert {name for name in asked if isinstance(name, str)} == {
        "hub:legacy-datasets/banking77:train",
        "hub:legacy-datasets/banking77:test",
        "hub:qiaojin/PubMedQA:pqa_labeled:train",
        "hub:NovaSky-AI/SkyRL-SQL-653-data:train",
    }
    assert ("next-tat/TAT-QA", "tatqa_dataset_train.json", "dataset") in asked
    assert counts(tmp_path / "out" / "banking77") == {"train": 901, "val": 100, "test": 1001}
    assert json.loads((tmp_path / "out" / "banking77" / "labels.json").read_text())["76"] == LABELS[76]
    manifest = json.loads((tmp_path / "out" / "pubmedqa" / "manifest.json").read_text())
    assert manifest["source_files"] == {"hub:qiaojin/PubMedQA:pqa_labeled:train": "abc"}
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: 1 / 0)
    assert run("tatqa", "--source", "hub:me/mine", "--output_dir", tmp_path / "x") == 2
    assert run("pubmedqa", "--source", "hub", "--output_dir", tmp_path / "x", "--split", "official") == 2
    assert not (tmp_path / "x").exists()


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_replaced_unasked(tmp_path, capsys):
    command = ["pubmedqa", "--source", pubmedqa(tmp_path / "source"), "--output_dir", tmp_path / "out"]
    assert run(*command) == 0
    assert run(*command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(*command, "--overwrite", "--seed", "5") == 0
    (tmp_path / "other" / "pubmedqa").mkdir(parents=True)
    (tmp_path / "other" / "pubmedqa" / "thesis.txt").write_text("years of work")
    assert run(*command[:-1], tmp_path / "other", "--overwrite") == 2
    assert "something else" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "other" / "pubmedqa").iterdir()] == ["thesis.txt"]


def bad_label(folder):
    with (banking77(folder) / "train.csv").open("a") as file:
        file.write("How is the weather?,weather\n")


def empty_category(folder):
    (banking77(folder) / "categories.json").write_text(json.dumps(["alpha", "beta", "gamma?", "delta"]))


def no_test_file(folder):
    (banking77(folder) / "test.csv").unlink()


@pytest.mark.parametrize(
    ("task", "spoil", "options", "named"),
    [
        ("banking77", lambda folder: None, {}, "there is no such folder"),
        ("banking77", no_test_file, {}, r"lacks test\.csv"),
        ("banking77", bad_label, {}, r"train\.csv:33: category='weather'"),
        ("banking77", empty_category, {}, "no row has the category 'delta'"),
        ("banking77", banking77, {"split": "seed"}, "31 rows, but this split takes more than 100"),
        ("banking77", banking77, {"split": "query"}, "split='query'; give one of stratified"),
        ("banking77", banking77, {"val_share": 0.7}, "val_share=0.7"),
        ("banking77", banking77, {"seed": "x"}, "seed='x'"),
        ("pubmedqa", banking77, {}, r"lacks ori_pqal\.json"),
        ("pubmedqa", lambda folder: pubmedqa(folder, 5), {}, "'no'"),
        ("pubmedqa", lambda folder: pubmedqa(folder, 10), {}, "would be empty"),
        ("tatqa", lambda folder: tatqa(folder, ("dev",)), {"split": "seed"}, r"lacks tatqa_dataset_train\.json"),
        ("tatqa", tatqa, {"split": "official"}, r"lacks tatqa_dataset_test_gold\.json"),
        ("tatqa", tatqa, {"test_only": True}, "test_only=True: a drawn split needs all rows"),
        ("nl2sql", banking77, {}, r"no NAME-schema\.csv"),
        ("nl2sql", text2sql, {"only": ["atis"]}, "only=atis: .* has books, towns"),
        ("news", banking77, {}, "no enterprise task 'news'; tasks: banking77"),
    ],
)
def test_bad_sources_are_refused_by_name(tmp_path, task, spoil, options, named):
    source = tmp_path / "source"
    spoil(source)
    with pytest.raises(UserError, match=named):
        prepared(task, EnterpriseSpec(str(source), **options))


@pytest.mark.parametrize(
    ("task", "file", "change", "named"),
    [
        (
            "pubmedqa",
            "ori_pqal.json",
            {"1003": {"QUESTION": "?", "CONTEXTS": []}},
            "1: the answer|context=|answer=None",
        ),
        ("tatqa", "tatqa_dataset_dev.json", [{"table": {}}], "no document of TAT-QA"),
        ("text2sql", "towns.json", [{"sql": []}], "no entry of text2sql-data"),
    ],
)
def test_rows_that_are_not_as_published_are_named(tmp_path, task, file, change, named):
    makers = {"pubmedqa": pubmedqa, "tatqa": tatqa, "text2sql": text2sql}
    path = makers[task](tmp_path / "source") / file
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **change} if isinstance(found, dict) else [*found, *change]))
    only = ["towns"] if task == "text2sql" else None
    with pytest.raises(UserError, match=f"{file}:.*(?:{named})"):
        prepared(task.replace("text2sql", "nl2sql"), EnterpriseSpec(str(tmp_path / "source"), only=only))


DESCRIBED = """Table Name, Field Name, Is Primary Key, Is Foreign Key, Type
CITY, NAME,   varchar(255),  NO,   PRI,  NULL,  -
CITY, STATE,  decimal(10,2),  YES,  -,    -
-, -, -, -, -, -, -
"""
TRAILING = """Table Name, Field Name, Is Primary Key, Is Foreign Key, Type, Other info
city, name, y, n, int(11), NOT NULL AUTO_INCREMENT,
city, state, n, n, "decimal(1,1)", DEFAULT NULL,
-, -, -, -, -
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DESCRIBED, {"CITY": [["NAME", "varchar(255)"], ["STATE", "decimal(10,2)"]]}),
        (TRAILING, {"city": [["name", "int(11)"], ["state", "decimal(1,1)"]]}),
    ],
)
def test_schema_files_whose_lines_are_longer_than_their_first(tmp_path, text, expected):
    source = text2sql(tmp_path / "source")
    (source / "books-schema.csv").write_text(text)
    assert run("nl2sql", "--source", source, "--output_dir", tmp_path, "--only", "books") == 0
    assert rows_of(tmp_path / "nl2sql", "train")[0]["schema"] == expected


@pytest.mark.parametrize("text", ["a, b\n1, 2\n", "Table Name, Field Name, Type\nCITY, NAME\n", "", "CITY"])
def test_schema_files_that_cannot_be_read_are_named(tmp_path, text):
    source = text2sql(tmp_path / "source")
    (source / "books-schema.csv").write_text(text)
    with pytest.raises(UserError, match=r"books-schema\.csv"):
        prepared("nl2sql", EnterpriseSpec(str(source), only=["books"]))


def test_a_data_set_that_cannot_be_read_is_left_out_and_named(tmp_path, capsys):
    source = text2sql(tmp_path / "source")
    (source / "spider-schema.csv").write_text((source / "books-schema.csv").read_text())
    (source / "books.json").write_text("[")
    assert run("nl2sql", "--source", source, "--output_dir", tmp_path) == 0
    folder = tmp_path / "nl2sql"
    assert {row["db_id"] for row in rows_of(folder, "train")} == {"towns"}
    manifest = json.loads((folder / "manifest.json").read_text())
    for said in (manifest["note"], capsys.readouterr().out):
        assert "books is left out" in said
        assert "spider is left out" in said
    with pytest.raises(UserError, match=r"spider\.json"):
        prepared("nl2sql", EnterpriseSpec(str(source), only=["spider"]))
    (source / "towns.json").write_text("[")
    with pytest.raises(UserError, match=r"no data set that can be read; .*towns is left out"):
        prepared("nl2sql", EnterpriseSpec(str(source)))


def test_targets_that_contradict_the_schema_of_their_prompts_are_counted(tmp_path, capsys):
    source = text2sql(tmp_path / "source")
    entries = json.loads((source / "towns.json").read_text())
    for entry in entries[:3]:
        entry["sql"] = ["SELECT city.ID FROM city"]
    (source / "towns.json").write_text(json.dumps(entries))
    assert run("nl2sql", "--source", source, "--output_dir", tmp_path, "--split", "official") == 0
    stats = json.loads((tmp_path / "nl2sql" / "stats.json").read_text())
    assert [held["targets_that_do_not_run"] for held in stats.values()] == [{"towns": 3}] * 3
    assert "towns: 9 of 36 targets do not run on the schema in their prompts" in capsys.readouterr().out
    assert sum(not row["target_runs"] for row in rows_of(tmp_path / "nl2sql", "train")) == 3


def test_one_bad_task_of_all_leaves_nothing_behind(tmp_path, capsys):
    makers = {"banking77": banking77, "pubmedqa": pubmedqa, "tatqa": tatqa}  # and no text2sql
    for name, make in makers.items():
        make(tmp_path / "data" / name)
    assert run("all", "--source", tmp_path / "data", "--output_dir", tmp_path / "out") == 2
    assert "NAME-schema.csv" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run("all", "--source", "hub:some/data", "--output_dir", tmp_path / "out") == 2


# ---- the published files --------------------------------------------------------------------------------------------


@PUBLISHED
@pytest.mark.parametrize(
    ("task", "split", "expected"),
    [
        ("banking77", "seed", {"train": 9903, "val": 100, "test": 3080}),
        ("banking77", "seed_v1", {"train": 10003, "test": 3080}),
        ("banking77", "stratified", {"train": 8999, "val": 997, "test": 3080}),
        ("pubmedqa", "seed", {"train": 800, "val": 100, "test": 100}),
        ("pubmedqa", "seed_v1", {"train": 900, "test": 100}),
        ("pubmedqa", "stratified", {"train": 800, "val": 100, "test": 100}),
        ("pubmedqa", "official", {"train": 450, "val": 50, "test": 500}),
        ("tatqa", "stratified", {"train": 1332, "val": 168, "test": 168}),
    ],
)
def test_documented_counts(task, split, expected):
    found = prepared(task, EnterpriseSpec(str(DATA), split))
    assert found.rows == expected
    stats = json.loads(found.texts["stats.json"])
    if (task, split) == ("banking77", "seed"):
        assert stats["val"]["label_name"] == {"country_support": 100}  # the original's flaw
    if (task, split) == ("banking77", "stratified"):
        assert len(stats["val"]["label_name"]) == 77
    if (task, split) == ("pubmedqa", "seed"):
        assert stats["val"]["answer"] == {"maybe": 8, "no": 34, "yes": 58}
        assert stats["test"]["answer"] == {"maybe": 12, "no": 37, "yes": 51}


@PUBLISHED
def test_published_geography():
    found = prepared("nl2sql", EnterpriseSpec(str(DATA), "official", only=["geography"]))
    assert found.rows == {"train": 549, "val": 49, "test": 279}
    assert list(found.copies) == ["databases/geography.sqlite"]
