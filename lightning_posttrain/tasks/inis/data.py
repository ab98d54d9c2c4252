"""Writes the INIS data: SFT rows, preference pairs and RLVR prompts about invented nuclear-science passages.

Files are a pure function of the spec. Passages are the project's own words; facts are textbook values. Validation and
test rows have templates, nuclides, reactors, events, names and numbers that no training row has; ``short_test`` alone
asks about test facts through training templates, which is what a model of a million parameters can be expected to do.
Every gold answer is scored as right and every rejected one as wrong in the way its label says before it is written.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...types import Completion, UserError
from ..format_data import _write_all
from .documents import TEMPLATES
from .examples import Asked, Example, ExampleMaker
from .facts import Split
from .mutations import MUTATIONS, reject
from .task import Inis
from .texts import Level

Row = dict[str, Any]
FILES = ("sft_train", "sft_val", "sft_test", "short_test", "dpo_train", "dpo_val", "rlvr_train", "rlvr_val")
ATTEMPTS = 20_000
"""Draws for one row until the prompts are taken to be used up."""
TYPES = {"extract": "extract", "extract_null": "extract", "qa": "qa", "unanswerable": "unanswerable", "list": "list"}


@dataclass(frozen=True)
class InisDataSpec:
    """What the generated data holds."""

    seed: int = 0
    """Same seed and spec, same bytes."""
    n_sft_train: int = 1200
    """SFT training rows, at least 10. Short ones come first: ``data.first_examples`` can take them alone."""
    n_sft_val: int = 90
    """SFT validation rows, at least 10."""
    n_sft_test: int = 120
    """SFT test rows, at least 10; ``short_test`` has as many."""
    n_dpo_train: int = 264
    """Preference pairs for training, at least 11, the kinds in turn."""
    n_dpo_val: int = 44
    """Preference pairs for validation, at least 11."""
    n_rlvr_train: int = 300
    """RLVR prompts for training, at least 10."""
    n_rlvr_val: int = 60
    """RLVR prompts for validation, at least 10."""
    short_share: float = 0.8
    """Share of rows with a short passage; the others have a long one."""

    def check(self) -> None:
        """Raise UserError naming the first field with an impossible value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "seed":
                good, wanted = type(value) is int, "a whole number, such as 0"
            elif field.name == "short_share":
                good, wanted = type(value) in (int, float) and 0 <= value <= 1, "a share from 0 to 1"
            else:
                least = 11 if "dpo" in field.name else 10
                good, wanted = type(value) is int and value >= least, f"a whole number of at least {least}"
            if not good:
                raise UserError(f"{field.name}={value!r} is not possible: give {wanted}")


def generate(output_dir: Path, spec: InisDataSpec) -> dict[str, Any]:
    """Write the ``.jsonl`` files and ``manifest.json`` into ``output_dir``, all of them or none.

    Returns:
        What ``manifest.json`` holds.

    Raises:
        UserError: the spec is impossible, asks for more rows than there are, or the directory cannot be written.
    """
    files = make_files(spec)
    manifest: dict[str, Any] = {
        "params": asdict(spec),
        "synthetic": "generated passages and answers; real constants, invented measurements, sites and plants",
        "files": {f"{name}.jsonl": _stats(rows) for name, rows in files.items()},
    }
    texts = {
        f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name, rows in files.items()
    }
    texts["manifest.json"] = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    _write_all(Path(output_dir), texts)
    return manifest


def make_files(spec: InisDataSpec) -> dict[str, list[Row]]:
    """The rows of every file. No two rows of the SFT and RLVR files have the same prompt.

    Raises:
        UserError: the spec is impossible or asks for more rows than there are.
    """
    spec.check()
    writer = _Writer(spec)
    return {
        "sft_train": writer.rows("sft_train", "train", "train", spec.n_sft_train, _sft),
        "sft_val": writer.rows("sft_val", "val", "val", spec.n_sft_val, _sft),
        "sft_test": writer.rows("sft_test", "test", "test", spec.n_sft_test, _sft),
        "short_test": writer.rows("short_test", "test", "train", spec.n_sft_test, _sft, short_share=1.0),
        "dpo_train": writer.pairs("dpo_train", "train", spec.n_dpo_train),
        "dpo_val": writer.pairs("dpo_val", "val", spec.n_dpo_val),
        "rlvr_train": writer.rows("rlvr_train", "train", "train", spec.n_rlvr_train, _rlvr),
        "rlvr_val": writer.rows("rlvr_val", "val", "val", spec.n_rlvr_val, _rlvr),
    }


class _Writer:
    """Rows of one spec; each file draws from a stream of its own."""

    def __init__(self, spec: InisDataSpec) -> None:
        self.spec, self.task = spec, Inis()
        self.seen: set[str] = set()

    def rows(
        self,
        name: str,
        facts: Split,
        templates: Split,
        count: int,
        make: Callable[[Example, random.Random], Row],
        short_share: float | None = None,
    ) -> list[Row]:
        rng = random.Random(f"{self.spec.seed}/{name}")  # a text seed is hashed by SHA-512, not by the process
        made = []
        for index, level in enumerate(self._levels(count, short_share)):
            example = self._new(self._maker(rng, facts, templates, level), None, name)
            row = {"id": f"inis-{name}-{index:06d}", **make(example, rng), **_labels(example)}
            self.check(row, f"{name}:{index + 1}")
            made.append(row)
        return made

    def pairs(self, name: str, split: Split, count: int) -> list[Row]:
        rng = random.Random(f"{self.spec.seed}/{name}")
        made = []
        for index, level in enumerate(self._levels(count, None)):
            kind = list(MUTATIONS)[index % len(MUTATIONS)]
            maker = self._maker(rng, split, split, level)
            asked = [one for one in MUTATIONS[kind][0] if one in maker.kinds]
            for _ in range(ATTEMPTS):
                example = self._new(maker, rng.choice(asked), name)
                wrong = reject(kind, example, rng)
                if wrong is not None:
                    break
            else:
                raise RuntimeError(f"{name}: no example can be spoilt by {kind}")
            row = {"id": f"inis-{name}-{index:06d}", **_pair(example, wrong, kind), **_labels(example)}
            self.check(row, f"{name}:{index + 1}")
            made.append(row)
        return made

    def check(self, row: Row, origin: str) -> None:
        """Proves a row by the scorer; a failure is a fault of this generator."""
        record = self.task.record(row, origin)
        if "rejected" in row:
            score = self.task.score(record, _said(row["rejected"][0]["content"]))
            if score.values["correct"] or score.reason != row["rejected_kind"]:
                raise RuntimeError(f"{origin}: {row['rejected_kind']} was scored as {score.reason}: {row['rejected']}")
        grounded = self.task.score(record, _said(record.answer)).values["grounded"]
        if not grounded:
            raise RuntimeError(f"{origin}: the answer {record.answer!r} is not grounded in {row['context']!r}")

    def _levels(self, count: int, short_share: float | None) -> list[Level]:
        share = self.spec.short_share if short_share is None else short_share
        short = round(share * count)
        return ["short" if index < short else "long" for index in range(count)]

    def _maker(self, rng: random.Random, facts: Split, templates: Split, level: Level) -> ExampleMaker:
        chosen = [one for one in TEMPLATES if one.split == templates and one.level == level]
        return ExampleMaker(rng, facts, chosen, simple=level == "short")

    def _new(self, maker: ExampleMaker, asked: Asked | None, name: str) -> Example:
        """An example whose prompt was not there before."""
        for _ in range(ATTEMPTS):
            example = maker.example(asked)
            if example.prompt not in self.seen:
                self.seen.add(example.prompt)
                return example
        raise UserError(f"n_{name}: there are hardly more different prompts; ask for fewer rows")


def _labels(example: Example) -> Row:
    return {
        "context": example.passage,
        "difficulty": example.template.level,
        "template": example.template.id,
        "source": "inis",
        "synthetic": True,
    }


def _item(example: Example) -> Row:
    """Type, and of JSON the schema and rules."""
    row: Row = {"type": TYPES[example.asked]}
    return row | ({"schema": example.schema} if example.schema is not None else {})


def _judged(example: Example) -> Row:
    return {"gold": example.gold, "field_rules": dict(example.rules or {})}


def _user(example: Example) -> list[dict[str, str]]:
    return [{"role": "user", "content": example.prompt}]


def _sft(example: Example, _: random.Random) -> Row:
    messages = [*_user(example), {"role": "assistant", "content": example.answer}]
    return {"messages": messages, **_item(example), **_judged(example)}


def _pair(example: Example, wrong: str, kind: str) -> Row:
    return {
        "prompt": _user(example),
        "chosen": [{"role": "assistant", "content": example.answer}],
        "rejected": [{"role": "assistant", "content": wrong}],
        "rejected_kind": kind,
        **_item(example),
        **_judged(example),
    }


def _rlvr(example: Example, rng: random.Random) -> Row:
    """A third of the extractions are judged by one field only."""
    row: Row = {"prompt": _user(example), **_item(example)}
    if isinstance(example.gold, str):
        return {**row, "verifier": "numeric" if example.numeric else "string", "ground_truth": example.gold}
    if example.asked == "extract" and rng.random() < 1 / 3:
        key = rng.choice(list(example.gold))
        return {**row, "verifier": "json_field", "ground_truth": {key: example.gold[key]}, **_judged(example)}
    rules = dict(example.rules or {})
    return {**row, "verifier": "json_schema", "ground_truth": example.gold, "field_rules": rules}


def _said(text: str) -> Completion:
    return Completion((), (), text, True)


def _stats(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counted = ("type", "difficulty", "verifier", "rejected_kind", "template")
    counts = {key: dict(sorted(Counter(row[key] for row in rows if key in row).items())) for key in counted}
    return {"num_rows": len(rows), **{key: value for key, value in counts.items() if value}}
