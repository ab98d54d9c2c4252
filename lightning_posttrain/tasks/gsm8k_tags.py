"""GSM8K with tags: the working between two tags, then the solution between two more.

`TagFormat` is the one place that writes and reads the tags: targets, scores, rewards and traces all use it. The tags
are plain text, not tokens of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..types import Completion, Message, Record, UserError
from .answers import final_answer
from .base import Score, Task
from .gsm8k import answer_of, flexible_match, read_row
from .numbers import parse_number, stated_number

_CALCULATOR = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text holds between its tags.

    Args:
        thinking: the working, stripped; None without both of its tags, in order.
        solution: the last solution that is closed, stripped; None without one.
        exact: the text is working and solution as asked for, see `TagFormat.parse`.
        counts: how often each of the four tags stands in the text, in their order.
    """

    thinking: str | None
    solution: str | None
    exact: bool
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TagFormat:
    """The four tags."""

    start_working: str = "<start_working_out>"
    """Opens the working. A generation prompt may end in it."""
    end_working: str = "<end_working_out>"
    """Closes the working."""
    start_solution: str = "<SOLUTION>"
    """Opens the solution."""
    end_solution: str = "</SOLUTION>"
    """Closes the solution."""

    def __post_init__(self) -> None:
        for name, tag in vars(self).items():
            if tag != tag.strip() or not tag:
                raise UserError(f"{name}={tag!r}: a tag is a text without spaces around it, such as <SOLUTION>")
            other = next((k for k, v in vars(self).items() if k != name and tag in v), None)
            if other:
                raise UserError(f"{name}={tag!r} is found in {other} too; give every tag a text of its own")

    @property
    def tags(self) -> tuple[str, str, str, str]:
        return self.start_working, self.end_working, self.start_solution, self.end_solution

    def parse(self, text: str) -> Parsed:
        """What a completion holds. A start tag that it lacks is put before it: the generation prompt may have it.

        Exact is a text that begins with the working, in which each tag stands once and in order, and which ends, but
        for whitespace, with a solution that is not blank. Text between working and solution is allowed.
        """
        text = self.completed(text)
        counts = tuple(text.count(tag) for tag in self.tags)
        working = text.split(self.start_working, 1)[1]
        thinking = working.split(self.end_working, 1)[0].strip() if self.end_working in working else None
        closed = [piece for piece in text.split(self.start_solution)[1:] if self.end_solution in piece]
        solution = closed[-1].split(self.end_solution, 1)[0].strip() if closed else None
        places = [text.find(tag) for tag in self.tags]
        exact = (
            counts == (1, 1, 1, 1)
            and places == sorted(places)
            and text.lstrip().startswith(self.start_working)
            and text.rstrip().endswith(self.end_solution)
            and bool(solution)
        )
        return Parsed(thinking, solution, exact, counts)

    def number(self, text: str) -> Fraction | None:
        """The number that the solution of a completion states, or None; rewards and evaluation read it here."""
        return stated_number(self.parse(final_answer(text)).solution or "")

    def completed(self, text: str) -> str:
        """``text`` with the start tag that may have stood in its generation prompt."""
        return text if self.start_working in text else self.start_working + text

    def wrap(self, rationale: str, answer: str) -> str:
        """The text that a model is to write."""
        return f"{self.start_working}{rationale}{self.end_working}{self.start_solution}{answer}{self.end_solution}"

    def instructions(self) -> str:
        """What a model is told: the default system message."""
        return (
            "You are given a problem to solve. Think it through and show how you work it out. "
            f"Write the working between {self.start_working} and {self.end_working}. "
            f"Then write the solution between {self.start_solution} and {self.end_solution}."
        )


class GSM8KTags(Task):
    """GSM8K rows ``{question, answer}``, answered by a working and a solution between tags.

    Metrics of one completion, each 0 or 1 but for the last:

    - ``accuracy``: the solution, after any reasoning block, states the gold number (`numbers.stated_number`).
    - ``accuracy_flexible``: lm-eval's ``flexible-extract``: the last number anywhere is gold's, digit by digit.
    - ``accuracy_compat``: the looser rule of earlier reports: without commas equal as floats to 1e-6, or as texts.
    - ``format``: the tags are exactly as asked for (`TagFormat.parse`).
    - ``thinking``: there is text between the working's tags.
    - ``answer``: there is text between the solution's tags.
    - ``answer_rate``: that text is a number.
    - ``eos_rate``: the model ended the completion itself.
    - ``completion_tokens``: its length.

    Args:
        tags: the four tags.
        system: the system message; null = what `TagFormat.instructions` says, an empty text = none.
        strip_calculator: leave the ``<<a*b=c>>`` marks of GSM8K's solutions out of the targets.
    """

    name = "gsm8k_tags"
    primary = "accuracy"

    def __init__(
        self, tags: TagFormat = TagFormat(), system: str | None = None, strip_calculator: bool = False
    ) -> None:
        self.tags, self.strip_calculator = tags, strip_calculator
        self.system = tags.instructions() if system is None else system

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        question, rationale, gold = read_row(row, origin)
        if self.strip_calculator:
            rationale = _CALCULATOR.sub("", rationale)
        answer = self.tags.wrap(rationale, gold)
        if not self.tags.parse(answer).exact:
            raise UserError(
                f"{origin}: answer={row['answer'][:60]!r} holds a tag itself; give the task other `tags` than "
                f"{' '.join(self.tags.tags)}"
            )
        system = (Message("system", self.system),) if self.system else ()
        return Record(
            id=str(row.get("id", origin)),
            prompt=(*system, Message("user", question)),
            answer=answer,
            origin=origin,
            meta={"gold": gold, "question": question, "rationale": rationale},
        )

    def score(self, record: Record, completion: Completion) -> Score:
        parsed, gold = self.tags.parse(completion.text), record.meta["gold"]
        guess = self.tags.number(completion.text)
        correct = guess is not None and guess == parse_number(gold)
        values = {
            "accuracy": correct,
            "accuracy_flexible": flexible_match(final_answer(completion.text), gold),
            "accuracy_compat": _equal_compat(parsed.solution, gold),
            "format": parsed.exact,
            "thinking": bool(parsed.thinking),
            "answer": bool(parsed.solution),
            "answer_rate": guess is not None,
            "eos_rate": completion.finished,
            "completion_tokens": len(completion.tokens),
        }
        wrong = "no_answer" if not parsed.solution else "unparsable" if guess is None else "wrong_answer"
        detail = {"thinking": parsed.thinking, "answer": parsed.solution, "gold": gold}
        return Score({k: float(v) for k, v in values.items()}, detail, None if correct else wrong)

    def table_row(self, record: Record, completion: Completion, score: Score) -> dict[str, Any]:
        """Question, labels, completion and what was read from it; a part that was not found is an empty text."""
        return {
            "question": record.meta["question"],
            "labeled_cot": record.meta["rationale"],
            "labeled_answer": record.meta["gold"],
            "generated_text": completion.text,
            "extracted_thinking": score.detail["thinking"] or "",
            "extracted_answer": score.detail["answer"] or "",
            "correct": bool(score.values["accuracy"]),
        }

    def trace(self, record: Record, completion: Completion) -> str | None:
        """The working between its tags, which may hold no other tag, and the gold number after it."""
        thinking = self.tags.parse(completion.text).thinking or ""
        return None if any(tag in thinking for tag in self.tags.tags) else answer_of(thinking, record.meta["gold"])


def _equal_compat(guess: str | None, gold: str) -> bool:
    """The rule of earlier reports. Floats, so it also takes ``1_000`` and calls large neighbours equal."""
    if guess is None:
        return False
    guess, gold = (text.replace(",", "").strip() for text in (guess, gold))
    try:
        return abs(float(guess) - float(gold)) < 1e-6
    except ValueError:
        return guess == gold
