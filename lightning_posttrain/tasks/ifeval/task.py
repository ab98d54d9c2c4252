"""IFEval: does an answer do what it was told, as far as a program can tell (Zhou et al. 2023, arXiv:2311.07911).

541 published prompts hold 834 instructions of 25 kinds in 9 families. Left out: the multilingual sets.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...types import Completion, Message, Record, UserError
from ..answers import without_reasoning
from ..base import Score, Task
from ..enterprise.given import given_answer
from ..enterprise.labels import Rules, check_rules
from .checkers import NO_DATA, check, check_row, is_approximate

FAMILIES = (
    "change_case", "combination", "detectable_content", "detectable_format", "keywords", "language",
    "length_constraints", "punctuation", "startend",
)  # fmt: skip
"""What stands before the colon in an instruction's id."""

_ROWS = "a row needs `key`, `prompt`, `instruction_id_list` and `kwargs`, a list of arguments for each instruction"


class IFEval(Task):
    """Instructions such as "no commas" or "at least 300 words", judged by lm-eval's checkers.

    Metrics of one completion:

    - ``prompt_level_strict_acc``: 1 where all instructions are followed.
    - ``prompt_level_loose_acc``: the same, where an instruction may also be followed by the answer without its first
      line, its last line or both, and each of these without asterisks.
    - ``strict/<family>``: the share of the prompt's instructions of that family that are followed strictly.
    - ``approximate``: 1 where a checker split sentences without nltk's data; such verdicts may be wrong.
    - ``eos_rate``: the model ended the completion itself.

    Of all examples: ``inst_level_strict_acc`` and ``inst_level_loose_acc``, the shares of all instructions. The same
    answers always get the same verdicts: languages are detected with a fixed seed, and so is drawn the letter that the
    checkers put in the place of "#" and "!", for which two of the published rows ask.

    Args:
        rules: ``strict``, or ``compat``: reasoning before ``</think>`` counts as part of the answer.
    """

    name = "ifeval"
    primary = "prompt_level_strict_acc"

    def __init__(self, rules: Rules = "strict") -> None:
        check_rules(self.name, rules)
        self.rules = rules

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        """A row as published or as on the hub; its ``answer``, if it has one, is scored where no model is given."""
        prompt, names, arguments = row.get("prompt"), row.get("instruction_id_list"), row.get("kwargs")
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f"{origin}: prompt={prompt!r:.60}; {_ROWS}")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"{origin}: instruction_id_list={names!r:.60}; {_ROWS}")
        if not isinstance(arguments, list) or len(arguments) != len(names):
            raise UserError(f"{origin}: kwargs={arguments!r:.60} for {len(names)} instructions; {_ROWS}")
        given: list[dict[str, Any]] = []
        for one in arguments:
            if not isinstance(one, Mapping | None):
                raise UserError(f"{origin}: kwargs hold {one!r:.60}; {_ROWS}")
            given.append({str(key): value for key, value in (one or {}).items() if value})
        check_row(names, given, origin)
        if is_approximate(names):
            _tell_once()
        key = row.get("key", origin)
        answer, marks = given_answer(row, origin)
        meta = {"key": key, "prompt": prompt, "instruction_id_list": list(names), "kwargs": given, **marks}
        return Record(str(key), (Message("user", prompt),), answer, origin, meta)

    def reads(self, row: Mapping[str, Any]) -> bool:
        return "instruction_id_list" in row

    def judged(self, text: str) -> str:
        """What of a completion is judged, white space around it included, as lm-eval does it."""
        answer = without_reasoning(text) if self.rules == "strict" else text
        return answer.lstrip() if len(answer) < len(text) else answer

    def score(self, record: Record, completion: Completion) -> Score:
        text = self.judged(completion.text)
        names = record.meta["instruction_id_list"]
        found = check(record.meta, text)
        values = {
            "prompt_level_strict_acc": float(all(found.strict)),
            "prompt_level_loose_acc": float(all(found.loose)),
            **{f"strict/{family}": _share(family, names, found.strict) for family in FAMILIES},
            "approximate": float(found.approximate),
            "eos_rate": float(completion.finished),
        }
        broken = [name for name, followed in zip(names, found.strict, strict=True) if not followed]
        detail: dict[str, Any] = {
            "instruction_id_list": names,
            "strict": list(found.strict),
            "loose": list(found.loose),
        }
        if found.failed:
            detail["checker_failed"] = list(found.failed)
        return Score(values, detail, broken[0] if broken else None)

    def corpus_metrics(self, scores: Sequence[Score]) -> dict[str, float]:
        return {f"inst_level_{rule}_acc": _pooled([s.detail[rule] for s in scores]) for rule in ("strict", "loose")}


def _pooled(verdicts: Sequence[Sequence[bool]]) -> float:
    """The share of all instructions that are followed."""
    return sum(map(sum, verdicts)) / sum(map(len, verdicts))


def _share(family: str, names: Sequence[str], followed: Sequence[bool]) -> float:
    """The share of a family's instructions that are followed; nan where there is none."""
    kept = [good for name, good in zip(names, followed, strict=True) if name.partition(":")[0] == family]
    return sum(kept) / len(kept) if kept else math.nan


@lru_cache(1)
def _tell_once() -> None:
    print(f"ifeval: {NO_DATA}", file=sys.stderr)
