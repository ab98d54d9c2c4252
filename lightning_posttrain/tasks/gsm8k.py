"""GSM8K: grade-school word problems with a worked solution that ends in ``#### <number>`` (Cobbe et al. 2021)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..types import Completion, Message, Record, UserError
from .answers import final_answer
from .base import Score, Task
from .numbers import parse_number, stated_number

_ANY_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


class GSM8K(Task):
    """Rows ``{question, answer}``, answered by a working that ends in ``#### <number>``.

    Metrics of one completion:

    - ``accuracy``: the line after the last ``####``, reasoning (``<think>``) left out, states the gold number
      (`stated_number`).
    - ``accuracy_flexible``: lm-eval's ``flexible-extract``: the last number anywhere is gold's, digit by digit.
    - ``answer_rate``: a number stands after ``####``.
    - ``eos_rate``: the model ended the completion itself.
    - ``completion_tokens``: its length.
    """

    name = "gsm8k"
    primary = "accuracy"

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        question, solution, gold = read_row(row, origin)
        return Record(
            id=str(row.get("id", origin)),
            prompt=(Message("user", question),),
            answer=f"{solution}\n#### {gold}",
            origin=origin,
            meta={"gold": gold},
        )

    def score(self, record: Record, completion: Completion) -> Score:
        answer = final_answer(completion.text)
        _, mark, tail = answer.rpartition("####")
        text = tail.strip().split("\n")[0]
        guess = stated_number(text) if mark else None
        correct = guess is not None and guess == parse_number(record.meta["gold"])
        reason = None if correct else "no_answer" if guess is None else "wrong_answer"
        values = {
            "accuracy": float(correct),
            "accuracy_flexible": float(flexible_match(answer, record.meta["gold"])),
            "answer_rate": float(guess is not None),
            "eos_rate": float(completion.finished),
            "completion_tokens": float(len(completion.tokens)),
        }
        return Score(values, {"parsed": None if guess is None else text, "gold": record.meta["gold"]}, reason)

    def trace(self, record: Record, completion: Completion) -> str | None:
        """The text before the last ``####`` and the gold number after it."""
        return answer_of(completion.text.rpartition("####")[0], record.meta["gold"])


def flexible_match(text: str, gold: str) -> bool:
    """Whether the last number of a text is gold by lm-eval's ``flexible-extract``, which compares digits."""
    found = [match[0] for match in _ANY_NUMBER.finditer(text)]
    return bool(found) and _digits(found[-1]) == _digits(gold)


def _digits(text: str) -> str:
    text = text.replace(",", "").replace("$", "")
    return text.removesuffix(".")


def answer_of(reasoning: str, gold: str) -> str | None:
    """The answer of a GSM8K row, as `read_row` takes it apart; None where the reasoning is blank."""
    return f"{reasoning.strip()}\n\n#### {gold}" if reasoning.strip() else None


def read_row(row: Mapping[str, Any], origin: str) -> tuple[str, str, str]:
    """Question, worked solution and gold number (as it is written) of a GSM8K row.

    Raises:
        UserError: a text is missing, or the answer does not end in ``#### <number>``.
    """
    for key in ("question", "answer"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise UserError(f"{origin}: {key}={row.get(key)!r}; a GSM8K row needs texts `question` and `answer`")
    solution, mark, gold = row["answer"].rpartition("####")
    if not mark or parse_number(gold) is None:
        raise UserError(f"{origin}: the answer must end in `#### <number>`, not {row['answer'][-40:]!r}")
    return row["question"].strip(), solution.strip(), gold.strip()
