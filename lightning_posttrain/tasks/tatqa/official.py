"""TAT-QA's published metric (Zhu et al. 2021, arXiv:2105.07624): exact match, F1 and scale of one answer.

Rewritten from its rules, quirks included, so that numbers can be compared with published ones: "(1,234)" is no negative
number because of its comma, ".5" is none at all, and an answer without a scale is also tried as the bare number. What
the published program stops at (numbers of thousands of digits) is no number here.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TYPES = ("span", "multi-span", "arithmetic", "count")
SCALES = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000, "percent": 0.01}
"""What an annotator can say of an answer, besides nothing (``""``)."""
MAX_LENGTH = 5_000
"""Characters of an answer that are judged; gold answers are a fifth of that at most."""

_FACTORS = {"hundred": 100, **SCALES}
_AROUND_NUMBERS = str.maketrans("", "", "'\"\\$€£¥%(),[]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NUMBER = re.compile(r"(?P<read>[+-]?\d+(?:\.\d+)?)|[+-]?\.\d+")
_WITH_WORD = re.compile(r"(?<![\d.])[\d.]+\s?[a-zA-Z]+")  # tried at the beginning of a number only
_NEGATIVE = re.compile(r"\([\d.\s]+\)")
_PERCENT = re.compile(r"[\d.\s]%")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


class Official(NamedTuple):
    """The three numbers of one answer: exact match and scale are 0 or 1, F1 has two decimals."""

    em: float
    f1: float
    scale: float


def official_score(
    answer: object, answer_type: str, scale: str, prediction: Sequence[str] | str, predicted_scale: str = ""
) -> Official:
    """Judge a prediction against one question's annotation.

    Args:
        answer, answer_type, scale: as in the data set: a list of texts for spans, a number for the other types.
        prediction: the answer's parts, or the only one; nothing (empty) is wrong in every way.
        predicted_scale: a key of `SCALES` or "".
    """
    parts = [prediction] if isinstance(prediction, str) else list(prediction)
    golds = gold_parts(answer, answer_type)
    if not prediction or not parts or not golds:
        return Official(0.0, 0.0, 0.0)
    parts = [str(part)[:MAX_LENGTH] for part in parts]
    gold = _normal(_joined(golds, scale))
    tried = [_joined(parts, predicted_scale)]
    if len(parts) == 1 and not predicted_scale and "%" not in parts[0] and is_number(parts[0]):
        bare = _number(parts[0])
        tried += [] if bare is None else [f"{bare:.4f}"]
    em, f1 = max(_compared(_normal(text), gold) for text in tried)
    return Official(em, em if answer_type in ("arithmetic", "count") else f1, float(predicted_scale == scale))


def gold_parts(answer: object, answer_type: str) -> list[str]:
    """A gold answer as the metric reads it: the list of its parts.

    Raises:
        ValueError: a count is no whole number.
    """
    if isinstance(answer, list | tuple):
        return [str(part) for part in answer]
    return [str(int(str(answer))) if answer_type == "count" else str(answer)]


def _joined(parts: Sequence[str], scale: str) -> str:
    """The parts in alphabetical order as one text: numbers times their scale with four decimals, texts with it."""
    return " ".join(_with_scale(part, scale) for part in sorted(parts))


def _with_scale(part: str, scale: str) -> str:
    number = _number(part) if is_number(part) else None
    if number is None:
        return f"{part} {scale}" if scale else part
    if "%" in part:
        return f"{number:.4f}"
    try:
        return f"{round(number, 2) * _factor(scale):.4f}"
    except OverflowError:  # hundreds of digits
        return "inf"


def _factor(text: str) -> float:
    return next((factor for word, factor in _FACTORS.items() if word in text.lower()), 1)


def is_number(text: str) -> bool:
    """Whether a text is a number, alone or before a word such as million."""
    words = [word for raw in text.split() for word in raw.translate(_AROUND_NUMBERS).split()]
    try:
        if not words or np.isnan(float(words[0])):
            return False
    except ValueError:
        return False
    return len(words) < 2 or _factor(words[1]) != 1


def _number(text: str) -> float | None:
    """The first number in a text times what its signs and words say, to four decimals."""
    match = _NUMBER.search(text.translate(_AROUND_NUMBERS))
    if match is None or match["read"] is None:
        return None
    word = _WITH_WORD.search(text)
    sign = -1 if _NEGATIVE.search(text) else 1
    share = 0.01 if _PERCENT.search(text.strip()) else 1
    try:
        value: float = float(match["read"]) if "." in match["read"] else int(match["read"])
        found = round(value * (_factor(word[0]) if word else 1) * sign * share, 4)
        float(found)
    except (ValueError, OverflowError):  # thousands of digits
        return None
    return found


def _normal(text: str) -> str:
    """Lower case, numbers in one way of writing, no punctuation and no articles. Only spaces part words here."""
    words = []
    for raw in text.split(" "):
        word = raw.lower()
        word = word if is_number(word) else word.translate(_PUNCTUATION)
        word = str(_number(word)) if is_number(word) else word
        words += _ARTICLES.sub(" ", word).split()
    return " ".join(words)


def _compared(predicted: str, gold: str) -> tuple[float, float]:
    """Exact match, and F1 of the sets of words."""
    a, b = set(predicted.split()), set(gold.split())
    precision = len(a & b) / len(a) if a else 1.0
    recall = len(a & b) / len(b) if b else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision or recall else 0.0
    return float(predicted == gold), float(np.round(f1, 2))
