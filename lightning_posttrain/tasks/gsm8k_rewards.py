"""Rewards for GSM8K with tags: strict ones, and the published families that pay for format and for near misses.

The families (``preset``) are kept as they were published, faults included, to reproduce their runs: they read numbers
with ``float``, so the right answer 1000 to a gold of "1,000" scores worst, and so does every answer to a gold of 0;
wrong numbers may score below no answer; being within 10% pays, which is easily learnt. New runs take `Correctness`
with `FormatReward`, which read answers as evaluation does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..types import Completion, Record, UserError
from .gsm8k_tags import TagFormat
from .numbers import parse_number
from .reward import Reward

Preset = Literal["original", "unsloth_qwen3", "unsloth_gemma3", "google"]


@dataclass(frozen=True)
class NumberRule:
    """How `CheckNumbers` finds a number after the solution's start tag, and what it pays."""

    pattern: str
    drop_commas: bool
    none: float
    equal: float
    other: float
    unparsable: float = 0.0


@dataclass(frozen=True)
class Rules:
    """What one family pays. The fields of an answer are in the order in which they are tried."""

    whole_text: bool
    """The format begins with the working's start tag at the start of the text (else: with its end tag, anywhere)."""
    tag_once: float
    tag_other: float
    no_match: float
    equal: float
    equal_stripped: float
    within_10: float
    within_20: float
    other_number: float
    no_number: float
    strips: bool = False
    """The guess is stripped before it is compared, which leaves ``equal_stripped`` to golds with spaces around."""
    numbers: NumberRule | None = None


RULES: dict[Preset, Rules] = {
    "original": Rules(False, 0.5, -1.0, -2.0, 5.0, 3.5, 2.0, 1.5, -2.5, -4.5, strips=True),
    "unsloth_qwen3": Rules(
        *(False, 0.5, -1.0, -2.0, 5.0, 3.5, 2.0, 1.5, -2.5, -4.5),
        numbers=NumberRule(r"-?[\d.,]+", True, none=-2.5, equal=3.5, other=-1.5),
    ),
    "unsloth_gemma3": Rules(
        *(True, 0.5, -0.5, 0.0, 3.0, 1.5, 1.0, 0.5, -1.5, -1.5),
        numbers=NumberRule(r"[\d.,]+", True, none=0.0, equal=1.5, other=0.0),
    ),
    "google": Rules(
        *(True, 0.5, -0.5, 0.0, 3.0, 1.5, 0.5, 0.25, -1.0, -0.5),
        numbers=NumberRule(r"[\d.]+", False, none=0.0, equal=1.5, other=0.0),
    ),
}
"""Family -> what it pays. ``original`` is ``unsloth_qwen3`` without `CheckNumbers` and with the guess stripped."""


class _PresetReward(Reward):
    """A reward of one of the families.

    Args:
        preset: the family.
        tags: the four tags; the task's.
        weight: factor in the sum of the rewards.
    """

    def __init__(self, preset: Preset = "original", tags: TagFormat = TagFormat(), weight: float = 1.0) -> None:
        if preset not in RULES:
            raise UserError(f"{self.name}: preset={preset!r}; choose one of {', '.join(RULES)}")
        self.preset, self.tags, self.weight = preset, tags, weight
        self.rules = RULES[preset]

    def guess(self, text: str) -> str | None:
        """The solution of a text in the family's format, which ends with the solution; None in any other text."""
        text = self.tags.completed(text)
        if self.rules.whole_text:
            body = text.lstrip()
            if not body.startswith(self.tags.start_working):
                return None
            body = body[len(self.tags.start_working) + 1 :]  # at least one character of working
        else:
            body = text
        _, worked, body = body.partition(self.tags.end_working)
        body = body.rstrip()
        if not worked or not body.endswith(self.tags.end_solution):
            return None
        _, _, solution = body.removesuffix(self.tags.end_solution).partition(self.tags.start_solution)
        return solution or None


class MatchFormatExactly(_PresetReward):
    """3.0 for a text in the format, else 0.

    The format: end of working, anything, solution between its tags, whitespace. The ``unsloth_gemma3`` and ``google``
    families also want the working and its start tag before that, and nothing before it.
    """

    name = "match_format_exactly"

    def __call__(self, record: Record, completion: Completion) -> float:
        return 0.0 if self.guess(completion.text) is None else 3.0


class MatchFormatApproximately(_PresetReward):
    """For each tag: +0.5 if it stands in the text once, else a penalty.

    ====================  =======  =============================================
    preset                penalty  tags
    ====================  =======  =============================================
    original              -1.0     end of working, start and end of solution
    unsloth_qwen3         -1.0     the same
    unsloth_gemma3        -0.5     all four
    google                -0.5     all four
    ====================  =======  =============================================
    """

    name = "match_format_approximately"

    def __call__(self, record: Record, completion: Completion) -> float:
        counts = self.tags.parse(completion.text).counts[0 if self.rules.whole_text else 1 :]
        return sum(self.rules.tag_once if count == 1 else self.rules.tag_other for count in counts)


class CheckAnswer(_PresetReward):
    """The solution against the gold text; the first rule that holds pays. Numbers are read by ``float``.

    ==================================  ========  =============  ==============  ======
    rule                                original  unsloth_qwen3  unsloth_gemma3  google
    ==================================  ========  =============  ==============  ======
    not in the format                   -2.0      -2.0           0               0
    equal text                          5.0       5.0            3.0             3.0
    equal text but for spaces around    (3.5)     3.5            1.5             1.5
    ratio to gold from 0.9 to 1.1       2.0       2.0            1.0             0.5
    ratio to gold from 0.8 to 1.2       1.5       1.5            0.5             0.25
    another number                      -2.5      -2.5           -1.5            -1.0
    no ratio                            -4.5      -4.5           -1.5            -0.5
    ==================================  ========  =============  ==============  ======
    """

    name = "check_answer"

    def __call__(self, record: Record, completion: Completion) -> float:
        rules, guess, gold = self.rules, self.guess(completion.text), record.meta["gold"]
        if guess is None:
            return rules.no_match
        guess = guess.strip() if rules.strips else guess
        if guess == gold:
            return rules.equal
        if guess.strip() == gold.strip():
            return rules.equal_stripped
        try:
            ratio = float(guess) / float(gold)
        except (ValueError, ZeroDivisionError):
            return rules.no_number
        if 0.9 <= ratio <= 1.1:
            return rules.within_10
        return rules.within_20 if 0.8 <= ratio <= 1.2 else rules.other_number


class CheckNumbers(_PresetReward):
    """The first number after the solution's start tag against gold, which is read by ``float``, commas and all.

    =================  =============  ==============  ======
    rule               unsloth_qwen3  unsloth_gemma3  google
    =================  =============  ==============  ======
    no number          -2.5           0               0
    equal              3.5            1.5             1.5
    another number     -1.5           0               0
    either unreadable  0              0               0
    sign is read       yes            no              no
    commas are read    yes            yes             no
    =================  =============  ==============  ======
    """

    name = "check_numbers"

    def __init__(self, preset: Preset = "unsloth_qwen3", tags: TagFormat = TagFormat(), weight: float = 1.0) -> None:
        super().__init__(preset, tags, weight)
        if self.rules.numbers is None:
            having = ", ".join(name for name, rules in RULES.items() if rules.numbers)
            raise UserError(f"check_numbers: preset={preset!r} has no such reward; leave it out, or choose {having}")
        self.rule = self.rules.numbers

    def __call__(self, record: Record, completion: Completion) -> float:
        _, _, after = completion.text.partition(self.tags.start_solution)
        found = re.search(self.rule.pattern, after)
        if found is None:
            return self.rule.none
        text = found[0].replace(",", "") if self.rule.drop_commas else found[0]
        try:
            equal = float(text) == float(record.meta["gold"])
        except ValueError:
            return self.rule.unparsable
        return self.rule.equal if equal else self.rule.other


class Correctness(Reward):
    """1 if the solution is the gold number, read as evaluation reads it, else 0.

    Args:
        require_format: also ask for the exact format, so that an answer with the tags wrong earns nothing.
        tags: the four tags; the task's.
        weight: factor in the sum of the rewards.
    """

    name = "correctness"

    def __init__(self, require_format: bool = True, tags: TagFormat = TagFormat(), weight: float = 1.0) -> None:
        self.require_format, self.tags, self.weight = require_format, tags, weight

    def __call__(self, record: Record, completion: Completion) -> float:
        parsed = self.tags.parse(completion.text)
        right = self.tags.number(completion.text) == parse_number(record.meta["gold"])
        return float(right and (parsed.exact or not self.require_format))


class FormatReward(Reward):
    """1 if the text is in the exact format, else 0.

    Args:
        tags: the four tags; the task's.
        weight: factor in the sum of the rewards.
    """

    name = "format"

    def __init__(self, tags: TagFormat = TagFormat(), weight: float = 1.0) -> None:
        self.tags, self.weight = tags, weight

    def __call__(self, record: Record, completion: Completion) -> float:
        return float(self.tags.parse(completion.text).exact)
