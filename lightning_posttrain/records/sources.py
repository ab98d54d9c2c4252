"""Rows from files and from the hub, one at a time, each with its origin (``file.jsonl:12``), strict about syntax.

What other readers pass over in silence is refused by line: cut-off files, bytes that are no UTF-8, numbers that are no
numbers, keys given twice. What the fields mean is left to the adapters and the tasks.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ..types import UserError
from .jsontext import BadText, decode_object, decode_utf8, items

MAX_LINE = 64 * 2**20
"""Bytes of the longest line that is read; a file without line ends must not fill the memory."""
MAX_JSON = 512 * 2**20
"""Bytes of the largest .json, which is read at once."""

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
Row = dict[str, Any]
OnBad = Callable[[UserError], None]


def _stop(error: UserError) -> None:
    raise error


def read_rows(path: str | Path, on_bad: OnBad = _stop) -> Iterator[tuple[Row, str]]:
    """Yields (row, origin) from .jsonl, .json, .csv (also with .gz after them), .parquet or the hub.

    A .json is an array of objects, or an object of objects, whose keys then become the rows' ``id``.

    Args:
        path: a file, or ``hub:org/name``, ``hub:org/name:split`` or ``hub:org/name:config:split``.
        on_bad: called with the error of a row that cannot be read; if it returns, the row is left out. By default it
            raises. What spoils the rest of the file always raises.

    Raises:
        UserError: the file is missing, empty or broken; names file, line and, where known, column or byte.
    """
    number = 0
    for number, item in enumerate(_rows(str(path), on_bad), start=1):  # noqa: B007
        yield item
    if not number:
        raise UserError(f"{path}: holds no rows. Give a file with at least one, or check how it was written.")


def rows_where(rows: Iterable[tuple[Row, str]], where: Mapping[str, Any]) -> Iterator[tuple[Row, str]]:
    """The rows whose columns have the values of ``where``; all, where it is empty.

    Raises:
        UserError: none has; names them.
    """
    found = total = 0
    for row, origin in rows:
        total += 1
        if all(name in row and row[name] == value for name, value in where.items()):
            found += 1
            yield row, origin
    if total and not found:
        raise UserError(f"{origin.rsplit(':', 1)[0]}: none of {total} rows has {dict(where)}. Check names and values.")


def fingerprint(path: str | Path) -> str:
    """sha256 (hex) of a file's content; of a hub data set, the fingerprint the datasets library gives it.

    Raises:
        UserError: the file is missing or cannot be read, or the hub cannot be reached.
    """
    if str(path).startswith("hub:"):
        return str(_hub(str(path))._fingerprint)
    with _open(Path(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_rows(path: str | Path) -> int | None:
    """About how many rows a file has, without parsing it; None where that would take long."""
    path = Path(path)
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    if path.suffix not in (".jsonl", ".csv"):
        return None
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _rows(path: str, on_bad: OnBad) -> Iterator[tuple[Row, str]]:
    if path.startswith("hub:"):
        for number, row in enumerate(_hub(path), start=1):
            yield dict(row), f"{path}:{number}"
        return
    with _open(Path(path)) as raw:
        name = path.removesuffix(".gz")
        suffix = Path(name).suffix.lower()
        if suffix == ".parquet" and name == path:
            yield from _parquet(raw, path)
            return
        reader = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}.get(suffix)
        if reader is None:
            kinds = ", ".join(SUFFIXES)
            raise UserError(f"{path}: no kind of file that is known. Use {kinds} (.gz after the first three).")
        try:
            file = cast(BufferedReader, gzip.GzipFile(fileobj=raw)) if name != path else raw
            yield from reader(file, path, on_bad)
        except (OSError, EOFError, zlib.error) as error:  # of the disk, or of damaged or cut off compressed data
            raise UserError(f"{path}: cannot be read to its end ({error}). Fetch the file again.") from error


def _open(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except IsADirectoryError as error:
        files = sorted(p.name for p in path.iterdir() if p.name.removesuffix(".gz").endswith(SUFFIXES))[:10]
        raise UserError(f"{path}: is a folder. Name a file; it holds {files or 'none that can be read'}.") from error
    except FileNotFoundError as error:
        if not path.parent.is_dir():
            raise UserError(f"{path}: does not exist, nor does the folder {path.parent}. Check the path.") from error
        names = sorted(p.name for p in path.parent.iterdir())
        near = difflib.get_close_matches(path.name, names, n=5, cutoff=0.5)
        near = near or [n for n in names if n.removesuffix(".gz").endswith(SUFFIXES)][:5]
        raise UserError(f"{path}: does not exist. The folder holds {near or 'nothing like it'}.") from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        raise UserError(f"{path}: cannot be read ({error}).") from error


def _lines(file: BufferedReader, path: str, on_bad: OnBad) -> Iterator[tuple[int, str]]:
    """Numbered lines as text, line ends kept. Only \\n ends a line: JSON strings may hold U+2028 and the like."""
    number = offset = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        size = len(raw)
        try:
            if size > MAX_LINE:
                while (more := file.readline(MAX_LINE)) and not more.endswith(b"\n"):
                    size += len(more)
                size += len(more)
                raise BadText(f"the line is longer than {MAX_LINE >> 20} MiB. Put each row on a line of its own.")
            yield number, decode_utf8(raw, offset)
        except BadText as error:
            on_bad(UserError(f"{path}:{number}: {error}"))
        offset += size


def _jsonl(file: BufferedReader, path: str, on_bad: OnBad) -> Iterator[tuple[Row, str]]:
    for number, line in _lines(file, path, on_bad):
        if not line.strip():
            continue
        try:
            row = decode_object(line.rstrip("\r\n"))
        except BadText as error:
            cut = "" if line.endswith("\n") else " It is the last line and has no line end: the file may be cut off."
            column = f":{error.column}" if error.column else ""
            on_bad(UserError(f"{path}:{number}{column}: {error}{cut}"))
            continue
        yield row, f"{path}:{number}"


def _json(file: BufferedReader, path: str, on_bad: OnBad) -> Iterator[tuple[Row, str]]:
    raw = file.read(MAX_JSON + 1)
    if len(raw) > MAX_JSON:
        raise UserError(f"{path}: a .json is read at once and may have {MAX_JSON >> 20} MiB. Make it a .jsonl.")
    try:
        for number, key, item in items(decode_utf8(raw, 0)):
            if isinstance(item, dict):
                yield ({"id": key, **item} if key is not None else item), f"{path}:{number}"
            else:
                what = "an element" if key is None else f"the value of {key[:60]!r}"
                on_bad(UserError(f"{path}:{number}: {what} is {type(item).__name__}, not an object."))
    except BadText as error:
        where = f":{error.line}:{error.column}" if error.line else ""
        raise UserError(f"{path}{where}: {error}") from error


def _csv(file: BufferedReader, path: str, on_bad: OnBad) -> Iterator[tuple[Row, str]]:
    csv.field_size_limit(MAX_LINE)  # the default of 128 KiB is shorter than some documents
    current = 0

    def lines() -> Iterator[str]:
        nonlocal current
        for current, line in _lines(file, path, on_bad):  # noqa: B007
            yield line

    reader = csv.reader(lines(), strict=True)
    header: list[str] | None = None
    while True:
        begin = current + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            on_bad(UserError(f"{path}:{begin}: {error}. Check the quotes of this row."))
            continue
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = fields
            if len(set(header)) < len(header):
                raise UserError(f"{path}:{begin}: the header {header} names a column twice. Rename one.")
        elif len(fields) != len(header) or any("\0" in f for f in fields):
            what = "holds a NUL" if len(fields) == len(header) else f"has {len(fields)} fields, not {len(header)}"
            on_bad(UserError(f"{path}:{begin}: the row {what}. Check its quotes and commas."))
        else:
            yield dict(zip(header, fields, strict=True)), f"{path}:{begin}"


def _parquet(file: BufferedReader, path: str) -> Iterator[tuple[Row, str]]:
    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield row, f"{path}:{number}"
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: after row {number}: no readable parquet ({error}). Fetch it again.") from error


def _hub(path: str) -> Any:
    """A hub data set (datasets.Dataset), downloaded and cached by the datasets library."""
    import datasets  # a slow import that only hub rows need

    name, *rest = path.removeprefix("hub:").split(":")
    if not name or len(rest) > 2 or "" in rest:
        raise UserError(f"{path!r}: write hub:org/name, hub:org/name:split or hub:org/name:config:split.")
    split = rest[-1] if rest else "train"
    try:
        return datasets.load_dataset(name, rest[0] if len(rest) == 2 else None, split=split)
    except Exception as error:  # network, cache, parsing and builder errors share no base class
        raise UserError(
            f"{path}: the hub gave no data set {name!r}, split {split!r} ({type(error).__name__}: {str(error)[:200]}). "
            "Without a network, download it elsewhere and name the local .jsonl or .parquet file instead."
        ) from error
