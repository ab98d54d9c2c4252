"""Plain text -> token shards, for pretraining: made once by any number of processes, then mapped into memory.

A document is a row of a .jsonl, .json, .csv or .parquet, or any other file as a whole. Markers of a chat format inside
a document are text like any other: only the end of a document is a special token.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..progress import Progress
from ..records.files import matching, read_json, whole_folder, write_text
from ..records.shards import MANIFEST, ShardWriter
from ..records.shards import SUFFIXES as SHARDS
from ..records.sources import SUFFIXES as ROWS
from ..records.sources import count_rows, fingerprint, read_rows
from ..text.tokenizer import tokenizer_fingerprint
from ..text.workers import chunks_of, in_order
from ..types import UserError

TEXTS = (".txt", ".md", ".rst", ".tex", ".py", ".c", ".h", ".cpp", ".java", ".js", ".ts", ".go", ".rs", ".sh", ".sql")
"""What a folder is searched for, besides files of rows; a file that is named may have any ending."""
DOCUMENTS = 256
"""Documents per task of a worker."""


def is_shards(paths: Sequence[str]) -> bool:
    """Whether ``paths`` name token shards rather than text.

    Raises:
        UserError: some do and some do not, or a folder holds both.
    """
    kinds = {path: _names_shards(path) for path in paths}
    if len(set(kinds.values())) > 1:
        raise UserError(f"{', '.join(paths)}: token shards and text in one source; make two sources of them")
    return all(kinds.values())


def _names_shards(path: str) -> bool:
    here = Path(path)
    if not here.is_dir():
        return here.suffix in SHARDS
    shards = sorted(p for p in here.iterdir() if p.suffix in SHARDS)
    if shards:
        # a table of the same name beside a shard, as OLMo's has one, says where its documents begin
        about = {MANIFEST, *(f"{p.stem}{table}" for p in shards for table in (".csv", ".csv.gz", ".json"))}
        texts = [p for p in _texts_in(here) if p.name not in about]
        if texts:
            raise UserError(
                f"{path}: holds token shards ({shards[0].name}) and text ({texts[0].relative_to(here)}); put them in "
                f"two folders, or name what you mean: {here / ('*' + shards[0].suffix)}"
            )
    return bool(shards)


def check_tokenizer(files: Sequence[Path], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse shards that another tokenizer made, as far as the manifests beside them tell.

    Raises:
        UserError: naming both tokenizers.
    """
    here = {"tokenizer_sha256": tokenizer_fingerprint(tokenizer), "end_of_text": tokenizer.eos_token_id}
    for folder in dict.fromkeys(path.parent for path in files):
        made = read_json(folder / MANIFEST)
        for name, value in here.items():
            if made.get(name, value) != value:
                raise UserError(
                    f"{folder / MANIFEST}: the shards were made with {name}={made[name]}, the run's tokenizer has "
                    f"{value}; give the tokenizer that made them as model.tokenizer.source, or make the shards again "
                    "with this one: lightning-posttrain prepare tokens"
                )


def text_files(paths: Sequence[str]) -> list[Path]:
    """The files that ``paths`` name, each a file, a folder (searched whole) or a glob; sorted within each.

    Raises:
        UserError: a path names none.
    """
    found: list[Path] = []
    for path in paths:
        here = Path(path)
        files = _texts_in(here) if here.is_dir() else matching(path)
        if not files:
            what = "holds no text" if here.is_dir() else "does not exist"
            raise UserError(f"{path}: {what}; name a file, a folder with {', '.join((*ROWS, *TEXTS))}, or a pattern")
        found += files
    return found


def documents(files: Sequence[Path], column: str = "text") -> Iterator[tuple[str, str]]:
    """(text, origin) of each document.

    Args:
        files: see the module.
        column: of the text in files of rows.

    Raises:
        UserError: a file is broken, or a row has no text in that column.
    """
    for path in files:
        if not _is_rows(path):
            try:
                yield path.read_text(encoding="utf-8", errors="strict"), str(path)
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{path}: is no UTF-8 text ({error}); convert it or leave it out") from error
            continue
        for row, origin in read_rows(path):
            if not isinstance(row.get(column), str):
                raise UserError(
                    f"{origin}: {column}={row.get(column)!r} is no text; the row has {', '.join(row)}: name the column "
                    "with the documents as text_column"
                )
            yield row[column], origin


def _texts_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and (_is_rows(p) or p.suffix in TEXTS))


def _is_rows(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(ROWS)


def _encode(tokenizer: PreTrainedTokenizerBase, chunk: tuple[tuple[str, str], ...]) -> list[np.ndarray]:
    texts = [text for text, _ in chunk]
    options: dict[str, Any] = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    encoded = tokenizer(texts, return_attention_mask=False, **options)["input_ids"]
    return [np.asarray(ids, dtype=np.uint32) for ids in encoded]


def write_shards(
    paths: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    column: str = "text",
    num_workers: int = 0,
    shard_tokens: int = 1 << 26,
) -> dict[str, Any]:
    """Tokenise ``paths`` into ``folder``, whole or not at all, in place of what is there; what its manifest.json says.

    Args:
        paths: files, folders or patterns.
        tokenizer: its end-of-text token ends each document.
        folder: of the shards.
        column: of the text in files of rows.
        num_workers: processes that tokenise; 0 = this one. The result is the same.
        shard_tokens: tokens after which another shard begins.

    Raises:
        UserError: nothing to tokenise, a broken file, or a tokenizer without an end of text.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise UserError("the tokenizer has no eos token, so documents would run into each other; use one that has")
    files = text_files(paths)
    name, began = ", ".join(paths), time.monotonic()
    filled = ((text, origin) for text, origin in documents(files, column) if text)
    meter = Progress(f"tokenising {name}", lambda: _count(files), "documents")
    with whole_folder(folder) as temporary, meter:
        writer = ShardWriter(temporary, int(end), len(tokenizer), shard_tokens)
        for encoded in in_order(_encode, tokenizer, chunks_of(filled, DOCUMENTS), num_workers):
            for ids in encoded:
                writer.add(ids)
            meter.add(len(encoded))
        counts = writer.close()
        if not counts["tokens"]:
            raise UserError(f"{', '.join(paths)}: every document is empty; name files with text in them")
        sources = [Path(path).name for path in paths]
        manifest = {**counts, "sources": sources, "tokenizer_sha256": tokenizer_fingerprint(tokenizer)}
        write_text(temporary / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    print(f"{name}: {counts['tokens']} tokens in {time.monotonic() - began:.1f} s", file=sys.stderr)
    return manifest


def _count(files: Sequence[Path]) -> int | None:
    """About how many documents there are, if that is known of each file."""
    found = [count_rows(path) if _is_rows(path) else 1 for path in files]
    return None if None in found else sum(filter(None, found))


def cached_shards(
    paths: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    cache_dir: str,
    column: str = "text",
    num_workers: int = 0,
) -> Path:
    """Folder of the shards of ``paths``, tokenised unless the same text was by the same tokenizer before."""
    contents = [fingerprint(path) for path in text_files(paths)]
    parts = json.dumps([contents, column, tokenizer_fingerprint(tokenizer)])
    folder = Path(cache_dir) / f"shards-{hashlib.sha256(parts.encode()).hexdigest()[:24]}"
    if not (folder / MANIFEST).is_file():
        write_shards(paths, tokenizer, folder, column, num_workers)
    return folder
