"""The published files of banking77, PubMedQA and TAT-QA, from a folder or the hub, as rows that the tasks read.

Nothing is split or drawn here. Every row keeps the file and line it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...records.sources import fingerprint, read_rows
from ...types import UserError
from ..banking77 import LABELS as PUBLISHED
from ..banking77 import label_id, read_labels
from ..pubmedqa import LABELS as DECISIONS

Row = dict[str, Any]
Sourced = tuple[Row, str]
"""A row and its ``file:line``."""

HUB = {
    "banking77": "legacy-datasets/banking77",
    "pubmedqa": "qiaojin/PubMedQA",
    "tatqa": "next-tat/TAT-QA",
    "nl2sql": "NovaSky-AI/SkyRL-SQL-653-data",
}
"""Data set that ``hub`` stands for; ``hub:ORG/NAME`` is another one of the same form."""
ABOUT = {
    "banking77": ("https://github.com/PolyAI-LDN/task-specific-datasets", "CC BY 4.0"),
    "pubmedqa": ("https://github.com/pubmedqa/pubmedqa", "MIT"),
    "tatqa": ("https://github.com/NExTplusplus/TAT-QA", "CC BY 4.0"),
    "nl2sql": ("https://huggingface.co/datasets/NovaSky-AI/SkyRL-SQL-653-data", "see its page"),
    "text2sql": ("https://github.com/jkkummerfeld/text2sql-data", "see its LICENSE.md"),
}
"""Where data is published, and its licence."""
TATQA_PARTS = ("train", "dev", "test_gold")


@dataclass(frozen=True)
class Source:
    """What was read.

    Args:
        parts: name of a published part -> its rows in their order.
        files: path or hub name -> sha256, or the hub's fingerprint.
        labels: names by id, for banking77.
        databases: id -> SQLite file, for nl2sql.
        about: key of `ABOUT`.
        note: what a user has to know of it, or nothing.
    """

    parts: Mapping[str, list[Sourced]]
    files: Mapping[str, str]
    about: str
    labels: tuple[str, ...] = ()
    databases: Mapping[str, Path] = field(default_factory=dict)
    note: str = ""


def read_banking77(source: str) -> Source:
    """Rows ``{id, text, label, label_name}`` of the parts train and test.

    Raises:
        UserError: a file is missing, a category is not in categories.json, or one has no row in train.
    """
    if is_hub(source):
        paths = {part: f"{hub_name('banking77', source)}:{part}" for part in ("train", "test")}
        labels, files = PUBLISHED, [*paths.values()]
    else:
        folder = folder_of(source, "banking77", ("train.csv", "test.csv", "categories.json"))
        paths = {part: str(folder / f"{part}.csv") for part in ("train", "test")}
        categories = folder / "categories.json"
        labels = tuple(sorted(read_labels(str(categories)), key=str.lower))  # so are the published ids
        files = [*paths.values(), str(categories)]
    parts = {}
    for part, path in paths.items():
        rows: list[Sourced] = []
        for number, (row, origin) in enumerate(read_rows(path)):
            label = label_id(row, origin, labels)
            made = {"id": f"{part}-{number}", "text": row.get("text"), "label": label, "label_name": labels[label]}
            rows.append((made, origin))
        parts[part] = rows
    unseen = set(labels) - {row["label_name"] for row, _ in parts["train"]}
    if unseen:
        raise UserError(
            f"{paths['train']}: no row has the category {sorted(unseen)[0]!r} ({len(unseen)} such categories); add "
            "rows, or take it out of categories.json"
        )
    return Source(parts, fingerprints(files), "banking77", labels)


def read_pubmedqa(source: str) -> Source:
    """Rows ``{id, question, context, answer}`` of the only part, ``labeled``.

    Raises:
        UserError: the file is missing, a field is, or one of yes, no and maybe has no row.
    """
    if is_hub(source):
        path = f"{hub_name('pubmedqa', source)}:pqa_labeled:train"
    else:
        path = str(folder_of(source, "pubmedqa", ("ori_pqal.json",)) / "ori_pqal.json")
    rows: list[Sourced] = []
    for row, origin in read_rows(path):
        held = row.get("CONTEXTS", row.get("context"))
        contexts = held.get("contexts") if isinstance(held, Mapping) else held
        made = {
            "id": str(row.get("id", row.get("pubid", origin))),
            "question": row.get("QUESTION", row.get("question")),
            "context": contexts,
            "answer": row.get("final_decision"),
        }
        rows.append((made, origin))
    missing = [label for label in DECISIONS if label not in {row["answer"] for row, _ in rows}]
    if missing:
        raise UserError(f"{path}: no row's final_decision is {missing[0]!r}; check that the file is whole")
    return Source({"labeled": rows}, fingerprints([path]), "pubmedqa")


def read_test_ids(source: str, given: str | None) -> tuple[set[str], dict[str, str]]:
    """The ids of PubMedQA's official test part, and the file's fingerprint.

    Args:
        source: as of `read_pubmedqa`.
        given: the file, if it is not in that folder.

    Raises:
        UserError: it is missing or holds no ids.
    """
    if given is None and is_hub(source):
        raise UserError(
            "split=official: the hub's copy of PubMedQA does not name the 500 test ids; give test_ground_truth.json of "
            "github.com/pubmedqa/pubmedqa as --test_ids"
        )
    name = "test_ground_truth.json"
    path = Path(given) if given else folder_of(source, "pubmedqa", (name,)) / name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no test ids ({error}); give the published test_ground_truth.json") from error
    if not isinstance(found, dict | list) or not found:
        raise UserError(f"{path}: holds no ids; give the published test_ground_truth.json")
    return {str(key) for key in found}, fingerprints([str(path)])


def read_tatqa(source: str) -> Source:
    """A row for each question, with its table, paragraphs and ``document``, of all parts that there are.

    Raises:
        UserError: there is no part, or a document is not as published.
    """
    if is_hub(source):
        paths = {part: hub_file(hub_name("tatqa", source), f"tatqa_dataset_{part}.json") for part in TATQA_PARTS}
    else:
        names = [f"tatqa_dataset_{part}.json" for part in TATQA_PARTS]
        folder = folder_of(source, "tatqa", names, need_all=False)
        paths = {part: folder / name for part, name in zip(TATQA_PARTS, names, strict=True)}
    parts = {
        part: [question for document, origin in read_rows(path) for question in _questions(document, origin)]
        for part, path in paths.items()
        if path.is_file()
    }
    return Source(parts, fingerprints([str(paths[part]) for part in parts]), "tatqa")


def _questions(document: Row, origin: str) -> Iterable[Sourced]:
    try:
        shared = {
            "document": str(document["table"]["uid"]),
            "table": document["table"]["table"],
            "paragraphs": [
                str(text["text"]) for text in sorted(document["paragraphs"], key=lambda text: text["order"])
            ],
        }
        for question in document["questions"]:
            asked = {name: question[name] for name in ("question", "answer", "answer_type", "scale", "derivation")}
            yield {"id": str(question["uid"]), **shared, **asked}, f"{origin} (question {question['uid']})"
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{origin}: no document of TAT-QA ({error!r}); it needs table, paragraphs and questions with answers, as "
            "in tatqa_dataset_dev.json"
        ) from error


# ---- places ---------------------------------------------------------------------------------------------------------


def is_hub(source: str) -> bool:
    return source == "hub" or source.startswith("hub:")


def hub_name(task: str, source: str) -> str:
    """``hub:ORG/NAME`` of a source that is on the hub."""
    return f"hub:{HUB[task]}" if source == "hub" else source


def hub_file(name: str, file: str) -> Path:
    """A file of a hub data set, downloaded into the hub's cache.

    Raises:
        UserError: the hub cannot be reached, or there is no such file.
    """
    from huggingface_hub import hf_hub_download  # a slow import that only the hub needs

    repo = name.removeprefix("hub:")
    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset"))
    except Exception as error:  # network, cache and permission errors share no base class
        raise UserError(
            f"{name}: the hub gave no {file} ({type(error).__name__}: {str(error)[:200]}). Without a network, download "
            "it elsewhere and name its folder as --source."
        ) from error


def folder_of(source: str, inside: str, files: Iterable[str], need_all: bool = True) -> Path:
    """The folder of a source that has ``files``: the source itself, or the folder ``inside`` of it.

    Args:
        source: as given.
        inside: name of the task's folder where several stand side by side.
        files: names.
        need_all: every file is needed; false = one is enough.

    Raises:
        UserError: none has them; names what is missing.
    """
    files, enough = list(files), all if need_all else any
    for folder in (Path(source), Path(source, inside)):
        if folder.is_dir() and enough((folder / name).is_file() for name in files):
            return folder
    folder = Path(source, inside) if Path(source, inside).is_dir() else Path(source)
    if not folder.is_dir():
        raise UserError(f"source={source}: there is no such folder; give one with {', '.join(files)}, or hub")
    missing = [name for name in files if not (folder / name).is_file()]
    raise UserError(
        f"source={source}: {folder} lacks {', '.join(missing)}; give a folder with the published files, or hub"
    )


def fingerprints(paths: Iterable[str]) -> dict[str, str]:
    return {path: fingerprint(path) for path in paths}
