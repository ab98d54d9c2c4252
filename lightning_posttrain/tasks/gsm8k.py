"""GSM8K: grade-school word problems with a worked solution that ends in ``#### <number>`` (Cobbe et al. 2021)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from ..types import Completion, Message, Record, UserError
from .base import Score, Task

NUMBER = re.compile(r"[-+−]?\s*[$€£]?\s*[-+−]?(?:\d[\d,]*\.?\d*|\.\d+)")


def parse_number(text: str) -> Decimal | None:
    """The number a short text stands for, or None: ``$1,000.00`` = 1000, ``−5`` = -5.

    >>> parse_number("$1,000.50")
    Decimal('1000.50')
    """
    match = NUMBER.fullmatch(text.strip().rstrip("."))
    if match is None:
        return None
    plain = re.sub(r"[\s$€£,]", "", match.group()).replace("−", "-")
    try:
        return Decimal(plain)
    except InvalidOperation:
        return None


class GSM8K(Task):
    """Rows ``{question, answer}``. An answer is right when the number after its last ``####`` equals the gold one."""

    name = "gsm8k"
    primary = "accuracy"

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        for key in ("question", "answer"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise UserError(f"{origin}: {key}={row.get(key)!r}; a GSM8K row needs texts `question` and `answer`")
        solution, mark, gold = row["answer"].rpartition("####")
        if not mark or parse_number(gold) is None:
            raise UserError(f"{origin}: the answer must end in `#### <number>`, not {row['answer'][-40:]!r}")
        return Record(
            id=str(row.get("id", origin)),
            prompt=(Message("user", row["question"].strip()),),
            answer=f"{solution.strip()}\n#### {gold.strip()}",
            origin=origin,
            meta={"gold": gold.strip()},
        )

    def score(self, record: Record, completion: Completion) -> Score:
        _, mark, tail = completion.text.rpartition("####")
        guess = parse_number(tail.strip().split("\n")[0]) if mark else None
        correct = guess is not None and guess == parse_number(record.meta["gold"])
        reason = None if correct else "no_answer" if guess is None else "wrong_answer"
        values = {
            "accuracy": float(correct),
            "answer_rate": float(guess is not None),
            "eos_rate": float(completion.finished),
            "completion_tokens": float(len(completion.tokens)),
        }
        return Score(values, {"parsed": None if guess is None else str(guess), "gold": record.meta["gold"]}, reason)
