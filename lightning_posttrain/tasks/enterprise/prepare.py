"""Makes the data of the four enterprise tasks: what is read, split, proved readable by its task, counted and written.

A split is drawn (``stratified``), the original's (``seed``, and ``seed_v1`` for its first version), or the publishers'
(``official``; for SQL also ``query``: no query pattern in two parts).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ...types import UserError
from ..banking77 import LABELS, Banking77
from ..base import Task
from ..nl2sql import NL2SQL
from ..pubmedqa import PubMedQA
from ..tatqa import TatQA
from .sources import ABOUT, Row, Source, Sourced, read_banking77, read_pubmedqa, read_tatqa, read_test_ids
from .splits import Parts, in_order, shuffled, stratified
from .text2sql import read_nl2sql

TASKS = ("banking77", "pubmedqa", "tatqa", "nl2sql")
SPLITS = {
    "banking77": ("stratified", "seed", "seed_v1", "official"),
    "pubmedqa": ("stratified", "seed", "seed_v1", "official"),
    "tatqa": ("stratified", "seed", "seed_v1", "official"),
    "nl2sql": ("stratified", "seed", "seed_v1", "official", "query"),
}
"""Splits of each task."""


@dataclass(frozen=True)
class EnterpriseSpec:
    """What to make.

    Args:
        source: a folder with the published files, ``hub``, or ``hub:ORG/NAME``.
        split: one of `SPLITS`.
        seed: of drawn splits and of the order of their rows.
        val_share, test_share: in drawn splits, shares of the rows that are drawn from; the second one only where there
            is no test part of its own.
        test_ids: PubMedQA's test_ground_truth.json, where it is not in the source.
        only: data sets of text2sql-data; None = all.
        test_only: of TAT-QA, only the test part of the splits ``seed``, ``seed_v1`` and ``official``, without the
            files of the others.
    """

    source: str
    split: str = "stratified"
    seed: int = 0
    val_share: float = 0.1
    test_share: float = 0.1
    test_ids: str | None = None
    only: Sequence[str] | None = None
    test_only: bool = False

    def check(self, task: str) -> None:
        """Raise UserError naming the first field with an impossible value."""
        if self.split not in SPLITS[task]:
            raise UserError(f"{task}: split={self.split!r}; give one of {', '.join(SPLITS[task])}")
        if type(self.seed) is not int:
            raise UserError(f"seed={self.seed!r}; give a whole number")
        if self.test_only and self.split == "stratified":
            raise UserError("test_only=True: a drawn split needs all rows; add --split seed, seed_v1 or official")
        for name in ("val_share", "test_share"):
            if not 0 < getattr(self, name) < 0.5:
                raise UserError(f"{name}={getattr(self, name)}; give a share above 0 and below 0.5")


@dataclass(frozen=True)
class Prepared:
    """Everything that a task's folder will hold.

    Args:
        texts: file name -> content; ``manifest.json`` says what the others are.
        copies: file name -> file to copy.
        rows: part -> number of rows.
        note: what a user has to know besides, or nothing.
    """

    texts: Mapping[str, str]
    copies: Mapping[str, Path] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    def write(self, folder: Path) -> None:
        """Write the files into an existing folder."""
        for name, text in self.texts.items():
            (folder / name).write_bytes(text.encode())
        for name, path in self.copies.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)


def prepared(task: str, spec: EnterpriseSpec) -> Prepared:
    """Read, split and check the data of ``task``; nothing is written.

    Raises:
        UserError: an unknown task, an impossible spec, a missing file or part, or a row the task refuses.
    """
    if task not in TASKS:
        raise UserError(f"there is no enterprise task {task!r}; tasks: {', '.join(TASKS)}")
    spec.check(task)
    files: dict[str, str] = {}
    if task == "banking77":
        source = read_banking77(spec.source)
        parts, note = _banking77(source, spec)
    elif task == "pubmedqa":
        ids, files = read_test_ids(spec.source, spec.test_ids) if spec.split == "official" else (set(), {})
        source = read_pubmedqa(spec.source)
        parts, note = _pubmedqa(source.parts["labeled"], spec, ids), ""
    elif task == "tatqa":
        source = read_tatqa(spec.source)
        parts, note = _tatqa(source, spec)
    else:
        source = read_nl2sql(spec.source, spec.only)
        parts, note = _nl2sql(source, spec), source.note
    return _finished(task, spec, source, parts, note, files)


# ---- splits ---------------------------------------------------------------------------------------------------------


def _banking77(source: Source, spec: EnterpriseSpec) -> tuple[Parts, str]:
    train, test = source.parts["train"], source.parts["test"]
    note = "" if source.labels == LABELS else "its labels are not the 77 published ones: set `labels` to labels.json"
    if spec.split == "seed":
        return {**in_order(train, {"val": 100}, spec.source), "test": test}, note
    if spec.split != "stratified":
        return {"train": train, "test": test}, note
    tested = {_folded(row["text"]) for row, _ in test}
    kept = [(row, origin) for row, origin in train if _folded(row["text"]) not in tested]
    shares = {"train": 1 - spec.val_share, "val": spec.val_share}
    drawn = stratified(kept, shares, spec.seed, lambda row: row["label_name"], lambda row: _folded(row["text"]))
    left_out = f"{len(train) - len(kept)} training rows left out, whose text is in the test part too"
    return {**drawn, "test": shuffled(test, spec.seed)}, "; ".join(filter(None, (left_out, note)))


def _folded(text: Any) -> str:
    return " ".join(str(text).casefold().split())


def _pubmedqa(rows: list[Sourced], spec: EnterpriseSpec, test_ids: set[str]) -> Parts:
    if spec.split == "seed":
        return in_order(rows, {"val": 100, "test": 100}, spec.source)
    if spec.split == "seed_v1":
        return in_order(rows, {"test": len(rows) - len(rows) * 9 // 10}, spec.source)
    shares = {"train": 1 - spec.val_share - spec.test_share, "val": spec.val_share, "test": spec.test_share}
    test: Parts = {}
    if spec.split == "official":
        missing = sorted(test_ids - {row["id"] for row, _ in rows})
        if missing:
            raise UserError(
                f"source={spec.source}: has no row {missing[0]} ({len(missing)} of the test ids); check both"
            )
        test["test"] = [(row, origin) for row, origin in rows if row["id"] in test_ids]
        rows = [(row, origin) for row, origin in rows if row["id"] not in test_ids]
        shares = {"train": 1 - spec.val_share, "val": spec.val_share}
    drawn = stratified(rows, shares, spec.seed, lambda row: row["answer"], lambda row: _folded(row["question"]))
    return {**drawn, **test}


def _tatqa(source: Source, spec: EnterpriseSpec) -> tuple[Parts, str]:
    if spec.split != "stratified":
        return _tatqa_published(source, spec)
    shares = {"train": 1 - spec.val_share, "val": spec.val_share}
    pool = source.parts.get("train")
    test = source.parts.get("test_gold", source.parts.get("dev"))
    note = ""
    if pool is None or test is None:
        pool = [row for part in source.parts.values() for row in part]
        shares = {"train": 1 - spec.val_share - spec.test_share, "val": spec.val_share, "test": spec.test_share}
        note = f"only {', '.join(source.parts)} is there: all parts are drawn from it, by documents"
    drawn = stratified(pool, shares, spec.seed, lambda row: row["answer_type"], lambda row: row["document"])
    return drawn if note else {**drawn, "test": shuffled(test or [], spec.seed)}, note


def _tatqa_published(source: Source, spec: EnterpriseSpec) -> tuple[Parts, str]:
    """The parts of the published files; the last one is the test part."""
    needed: tuple[str, ...] = ("train", "dev", "test_gold") if spec.split == "official" else ("train", "dev")
    needed = needed[-1:] if spec.test_only else needed
    for part in needed:
        if part not in source.parts:
            raise UserError(
                f"split={spec.split}: source={spec.source} lacks tatqa_dataset_{part}.json (it has "
                f"{', '.join(source.parts)}); add it, use --source hub or --split stratified, or make the test part "
                f"alone from {'test_gold' if spec.split == 'official' else 'dev'}: --test_only true"
            )
    if spec.split == "official":
        names = ("train", "val", "test")[-len(needed) :]
        return {name: source.parts[part] for name, part in zip(names, needed, strict=True)}, ""
    # The original left out every answer that is falsy in Python: all zeros.
    kept = {part: [row for row in source.parts[part] if row[0]["answer"]] for part in needed}
    left_out = sum(len(source.parts[part]) - len(rows) for part, rows in kept.items())
    parts = {} if spec.test_only else {"train": kept["train"]}
    if spec.split == "seed" and parts:
        parts = in_order(kept["train"], {"val": 100}, spec.source)
    note = f"{left_out} questions left out, as in the original: their answer is 0"
    return {**parts, "test": kept["dev"]}, note


def _nl2sql(source: Source, spec: EnterpriseSpec) -> Parts:
    rows = source.parts["all"]
    if spec.split == "seed":
        return in_order(rows, {"val": 50, "test": 100}, spec.source)
    if spec.split == "seed_v1":
        return in_order(rows, {"test": len(rows) - len(rows) * 9 // 10}, spec.source)
    if spec.split == "stratified":
        shares = {"train": 1 - spec.val_share - spec.test_share, "val": spec.val_share, "test": spec.test_share}
        return stratified(
            rows, shares, spec.seed, lambda row: str(row.get("source", row["db_id"])), lambda row: row["pattern"]
        )
    column = "question_split" if spec.split == "official" else "query_split"
    if any(column not in row for row, _ in rows):
        raise UserError(f"split={spec.split}: source={spec.source} has no published splits; use stratified or seed")
    names = {"train": "train", "val": "dev", "test": "test"}
    parts = {part: [row for row in rows if row[0][column] == name] for part, name in names.items()}
    empty = [part for part, found in parts.items() if not found]
    if empty:
        raise UserError(f"split={spec.split}: source={spec.source} has no row of {names[empty[0]]!r}; use stratified")
    return parts


# ---- files ----------------------------------------------------------------------------------------------------------


def _finished(
    task: str, spec: EnterpriseSpec, source: Source, parts: Parts, note: str, more_files: Mapping[str, str]
) -> Prepared:
    """The files of a task from its parts, each row of which its task has read."""
    judges: dict[str, Task] = {"pubmedqa": PubMedQA(), "tatqa": TatQA(), "nl2sql": NL2SQL()}
    judge = judges.get(task) or Banking77(labels=list(source.labels))
    texts, stats = {}, {}
    for part, rows in parts.items():
        stats[part] = _stats(judge, rows)
        texts[f"{part}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row, _ in rows)
    if source.labels:
        texts["labels.json"] = _json({str(i): name for i, name in enumerate(source.labels)})
    texts["stats.json"] = _json(stats)
    copies = {f"databases/{name}.sqlite": path for name, path in source.databases.items()}
    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    hashes |= {name: source.files[str(path)] for name, path in copies.items()}
    url, licence = ABOUT[source.about]
    manifest = {
        "task": task,
        "source": spec.source,
        "url": url,
        "licence": licence,
        "split": spec.split,
        "seed": spec.seed if spec.split in ("stratified", "official") else None,
        "note": note,
        "rows": {part: len(rows) for part, rows in parts.items()},
        "files": hashes,
        "source_files": {**source.files, **more_files},
    }
    return Prepared({**texts, "manifest.json": _json(manifest)}, copies, manifest["rows"], note)  # type: ignore[arg-type]


def _stats(task: Task, rows: Sequence[Sourced]) -> dict[str, Any]:
    """Counts of a part: labels, and the characters of its prompts and answers.

    Raises:
        UserError: the task refuses a row, or an id stands there twice.
    """
    seen: dict[str, str] = {}
    prompts, answers = [], []
    for row, origin in rows:
        if row["id"] in seen:
            raise UserError(f"{origin}: the id {row['id']!r} was given before, at {seen[row['id']]}; give each its own")
        seen[row["id"]] = origin
        record = task.record({name: value for name, value in row.items() if name != "database"}, origin)
        prompts.append(sum(len(message.content) for message in record.prompt))
        answers.append(len(record.answer))
    counted = {
        name: dict(sorted(Counter(str(row[name]) for row, _ in rows).items()))
        for name in ("label_name", "answer_type", "scale", "db_id")
        if all(name in row for row, _ in rows)
    }
    if any("target_runs" in row for row, _ in rows):
        failing = Counter(str(row["db_id"]) for row, _ in rows if not row["target_runs"])
        counted["targets_that_do_not_run"] = dict(sorted(failing.items()))
    if isinstance(task, PubMedQA):
        counted["answer"] = dict(sorted(Counter(row["answer"] for row, _ in rows).items()))
    return {
        "rows": len(rows),
        "with_database": sum("database" in row for row, _ in rows),
        "prompt_chars": {"median": median(prompts), "max": max(prompts)},
        "answer_chars": {"median": median(answers), "max": max(answers)},
        **counted,
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


__all__ = ["SPLITS", "TASKS", "EnterpriseSpec", "Prepared", "Row", "prepared"]
