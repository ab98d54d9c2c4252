"""Writes small word problems in GSM8K's row format: one or two additions and subtractions in one short sentence.

Files are a pure function of the spec. Which numbers a split may show together is decided by their hash alone, not by
the seed: no file of this generator ever trains on the numbers that another one evaluates on, whatever their seeds,
and what is evaluated is arithmetic on unseen operands.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from ..types import UserError
from .format_data import _write_all

Split = Literal["train", "eval", "prep"]

NAMES = ("Ann", "Ben", "Eva", "Max", "Mia", "Tom")
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens")
QUESTIONS = {
    "+": (
        "{name} has {a} {things} and gets {b} more: how many now?",
        "{name} has {a} {things} and {other} has {b}: how many in all?",
        "There are {a} {things} here and {b} there: how many in all?",
    ),
    "-": (
        "{name} has {a} {things} and gives away {b}: how many are left?",
        "{name} has {a} {things} and {other} has {b}: how many more has {name}?",
        "There are {a} {things} and {name} takes {b}: how many are left?",
    ),
    "++": ("{name} has {a} {things}, gets {b} and then gets {c}: how many now?",),
    "+-": ("{name} has {a} {things}, gets {b} and then gives away {c}: how many now?",),
    "-+": ("{name} has {a} {things}, gives away {b} and then gets {c}: how many now?",),
    "--": ("{name} has {a} {things}, gives away {b} and then gives away {c}: how many now?",),
}
"""Operations in order -> sentences. A two-step problem is told apart from the others by its verbs alone."""

ONE_STEP, TWO_STEPS = [tuple(key for key in QUESTIONS if len(key) == steps) for steps in (1, 2)]
HELD_OUT_OF_256 = 51  # about a fifth of all sets of operands
ATTEMPTS = 10_000  # draws for one row until the questions are taken to be used up


@dataclass(frozen=True)
class WordProblemSpec:
    """What the generated data holds."""

    n_train: int = 2000
    """Training rows, at least 1."""
    n_eval: int = 200
    """Evaluation rows, at least 1. None of their sets of operands is in any training row, in whatever order."""
    max_operand: int = 50
    """Largest number in a question, from 5 to 9999; the smallest is 1. No result is negative."""
    two_step_prob: float = 0.25
    """Share of rows with two operations instead of one."""
    carry_share: float | None = None
    """Share of rows in which a one is carried or borrowed; null = as numbers drawn at random have it (about half)."""
    working: Literal["results", "columns"] = "results"
    """How a step is worked out: at once (``27+45=72``), or digit by digit from the right
    (``27+45: 7+5=12, 2+4+1=7, 72``), which a small model learns much sooner."""
    n_prep: int = 0
    """Rows of a third file, prep.jsonl, solved by someone careless; 0 = no such file. Needs ``working: columns``."""
    careless: float = 0.6
    """In prep.jsonl, share of the carried and borrowed ones that are forgotten: every such solution is wrong."""
    seed: int = 7
    """Same seed and spec, same bytes."""

    def check(self) -> None:
        """Raise UserError naming the first field with an impossible value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("two_step_prob", "careless") or (field.name == "carry_share" and value is not None):
                good, wanted = type(value) in (int, float) and 0 <= value <= 1, "a probability from 0 to 1"
            elif field.name == "carry_share":
                continue
            elif field.name == "max_operand":
                good, wanted = type(value) is int and 5 <= value <= 9999, "a whole number from 5 to 9999"
            elif field.name == "working":
                good, wanted = value in ("results", "columns"), "results or columns"
            elif field.name == "n_prep":
                good = type(value) is int and value >= 0 and (not value or self.working == "columns")
                wanted = "0, or with working=columns a whole number such as 2000"
            elif field.name == "seed":
                good, wanted = type(value) is int, "a whole number, such as 7"
            else:
                good, wanted = type(value) is int and value >= 1, "a whole number of at least 1, such as 200"
            if not good:
                raise UserError(f"{field.name}={value!r} is not possible: give {wanted}")


def generate(output_dir: Path, spec: WordProblemSpec) -> dict[str, Any]:
    """Write ``train.jsonl``, ``eval.jsonl``, perhaps ``prep.jsonl``, and ``stats.json`` into ``output_dir``.

    Existing files of these names are replaced, and only once all new ones are complete on disk.

    Returns:
        What ``stats.json`` holds.

    Raises:
        UserError: if the spec is impossible, asks for more rows than there are, or the directory cannot be written.
    """
    spec.check()
    names: tuple[Split, ...] = ("train", "eval", "prep") if spec.n_prep else ("train", "eval")
    splits = {split: make_split(spec, split) for split in names}
    stats: dict[str, Any] = {"params": asdict(spec)} | {split: _stats(rows) for split, rows in splits.items()}
    texts = {f"{split}.jsonl": "".join(json.dumps(row) + "\n" for row in rows) for split, rows in splits.items()}
    texts["stats.json"] = json.dumps(stats, indent=2) + "\n"
    _write_all(Path(output_dir), texts)
    return stats


def make_split(spec: WordProblemSpec, split: Split) -> list[dict[str, str]]:
    """The rows ``{id, question, answer}`` of one split; no question is in it twice.

    Raises:
        UserError: there are fewer different questions than rows asked for.
    """
    count = {"train": spec.n_train, "eval": spec.n_eval, "prep": spec.n_prep}[split]
    rng = random.Random(f"{spec.seed}/{split}")  # a text seed is hashed by SHA-512, not by the process
    rows: dict[str, dict[str, str]] = {}
    for index in range(count):
        operations = rng.choice(TWO_STEPS if rng.random() < spec.two_step_prob else ONE_STEP)
        carried = None if spec.carry_share is None else rng.random() < spec.carry_share
        for _ in range(ATTEMPTS):
            operands = _operands(rng, spec.max_operand, operations)
            question = _question(rng, operations, operands)
            fits = carried is None or carries(operations, operands) == carried
            if fits and held_out(operands) == (split == "eval") and question not in rows:
                break
        else:
            raise UserError(
                f"n_{split}={count}, but with max_operand={spec.max_operand} there are hardly more than {index} "
                "different questions; raise max_operand or ask for fewer rows"
            )
        forgets = (lambda: rng.random() < spec.careless) if split == "prep" else None
        answer = _answer(operations, operands, spec.working, forgets)
        rows[question] = {"id": f"words-{split}-{index:06d}", "question": question, "answer": answer}
    return list(rows.values())


def held_out(operands: Sequence[int]) -> bool:
    """Whether these numbers, in whatever order, are for evaluation. Decided without seed and spec."""
    key = "/".join(map(str, sorted(operands)))
    return hashlib.sha256(key.encode()).digest()[0] < HELD_OUT_OF_256


def carries(operations: str, operands: Sequence[int]) -> bool:
    """Whether any step carries or borrows a one."""
    found = False

    def notice() -> bool:
        nonlocal found
        found = True
        return False

    _answer(operations, operands, "columns", notice)
    return found


def _operands(rng: random.Random, most: int, operations: str) -> list[int]:
    """One number more than there are operations, such that no result on the way is negative."""
    while True:
        operands = [rng.randint(1, most) for _ in range(len(operations) + 1)]
        if min(_results(operations, operands)) >= 0:
            return operands


def _results(operations: str, operands: Sequence[int]) -> list[int]:
    """The first operand and the result of each operation."""
    signed = [number if sign == "+" else -number for sign, number in zip("+" + operations, operands, strict=True)]
    return list(accumulate(signed))


def _question(rng: random.Random, operations: str, operands: Sequence[int]) -> str:
    name, other = rng.sample(NAMES, 2)
    numbers = dict(zip("abc", operands, strict=False))
    return rng.choice(QUESTIONS[operations]).format(name=name, other=other, things=rng.choice(THINGS), **numbers)


def _answer(operations: str, operands: Sequence[int], working: str, forgets: Callable[[], bool] | None = None) -> str:
    """One line per step, then the result: ``34+57=91``, ``91-12=79``, ``#### 79``."""
    lines, left = [], operands[0]
    for sign, right in zip(operations, operands[1:], strict=True):
        if working == "columns":
            parts, result = _columns(left, sign, right, forgets)
            lines.append(f"{left}{sign}{right}: {', '.join(parts)}, {result}")
        else:
            result = left + right if sign == "+" else left - right
            lines.append(f"{left}{sign}{right}={result}")
        left = result
    return "\n".join([*lines, f"#### {left}"])


def _columns(left: int, sign: str, right: int, forgets: Callable[[], bool] | None) -> tuple[list[str], int]:
    """Sums or differences of the digits from the right (``7+5=12``, ``2+4+1=7``), and the result.

    ``forgets`` says of each one that should be carried or borrowed whether it is lost.
    """
    parts, result, carried, place = [], 0, 0, 1
    while left or right:
        (left, x), (right, y) = divmod(left, 10), divmod(right, 10)
        borrows = sign == "-" and x - carried < y and left > 0
        x += 10 * borrows
        value = x + y + carried if sign == "+" else x - y - carried
        parts.append(f"{x}{sign}{y}{f'{sign}1' if carried else ''}={value}")
        last = not left and not right
        result += place * (value if last else value % 10)
        carried = int(borrows) if sign == "-" else value // 10
        if carried and not last and forgets is not None and forgets():
            carried = 0
        place *= 10
    return parts, result


def _stats(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    steps = re.compile(r"^\d+([-+])", re.MULTILINE)
    operations = Counter("".join(steps.findall(row["answer"])) for row in rows)
    return {"num_rows": len(rows), "operation_counts": dict(sorted(operations.items()))}
