r"""Reads and writes answers of TAT-QA: the last ``\boxed{...}``, and what LaTeX is in it; and the original's own rules.

Pure text work in time linear in the text; never raises on model output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

BOX = "\\boxed{"

_ESCAPED = re.compile(r"\\([{}$%&#_,\\])")
_MACRO = re.compile(r"\\(?:text|textrm|textbf|mathrm|mathbf|mathit|mbox|rm|bf|operatorname)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:[ ;:!]|quad\b|qquad\b|left\b|right\b|displaystyle\b)|(?<!\\)~(?=\S)(?<=\S~)")
_ABOUT = re.compile(r"\\(?:approx|sim|simeq)\b")
_MATHS = re.compile(r"(?<!\\)\$([^$]*)(?<!\\)\$(?![0-9])|\\\(|\\\)")
_LEAD_IN = re.compile(r"^(?:the answer is|answer:|the result is|the value is)\s*")


def last_box(text: str) -> str | None:
    r"""What stands in the last ``\boxed{...}`` that is closed, braces matched; None without one.

    >>> last_box(r"\boxed{1}, no: \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    found: tuple[int, int] | None = None
    opened: list[int] = []  # for each open brace where a box's content begins, or -1
    place = 0
    while place < len(text):
        if text.startswith(BOX, place):
            place += len(BOX)
            opened.append(place)
            continue
        if text[place] == "\\":
            place += 2  # what follows is no brace of its own
            continue
        if text[place] == "{":
            opened.append(-1)
        elif text[place] == "}" and opened:
            begin = opened.pop()
            if begin >= 0 and (found is None or begin > found[0]):
                found = (begin, place)
        place += 1
    return None if found is None else text[found[0] : found[1]].strip()


def first_box_compat(text: str) -> str:
    r"""The original's rule: the first box, up to the first closing brace: ``\boxed{\frac{1}{2}}`` gives ``\frac{1``."""
    match = re.search(r"\\boxed\{([^}]*)\}", text)
    return match[1] if match else ""


def plain(text: str) -> str:
    """A boxed text without what is only LaTeX: escapes, spacing, ``\\text{...}`` and dollar signs around formulae."""
    text = text.replace("{,}", ",")
    for _ in range(2):  # one macro may stand in another
        text = _MACRO.sub(r"\1", text)
    text = _ABOUT.sub("≈", _SPACING.sub(" ", _MATHS.sub(r"\1", text)))
    return _ESCAPED.sub(_unescaped, text).strip()


def _unescaped(match: re.Match[str]) -> str:
    """What an escape stands for: a sign, or for ``\\,`` a narrow space, which is none between two digits."""
    digits = match.string[match.start() - 1 : match.start()] + match.string[match.end() : match.end() + 1]
    return match[1] if match[1] != "," else "" if digits.isdigit() and len(digits) == 2 else " "


def escaped(text: str) -> str:
    """``text`` as it is written into a box, so that `plain` of the box gives it back."""
    return re.sub(r"[\\{}]", r"\\\g<0>", text)


def join(parts: Sequence[str]) -> str:
    """Parts as one text: with commas, or with semicolons where a part has a comma of its own."""
    separator = "; " if len(parts) > 1 and any(re.search(r",\s|;", part) for part in parts) else ", "
    return separator.join(parts)


def normal_compat(text: str) -> str:
    """The original's normal form: one space, small letters, no final punctuation, no lead-in."""
    return _LEAD_IN.sub("", " ".join(text.split()).lower().rstrip(".,;:!?")).strip()


def set_f1_compat(text: str, gold: str) -> float:
    """The original's F1 of the sets of words; it was given the whole response, not the box."""
    a, b = set(normal_compat(text).split()), set(normal_compat(gold).split())
    return 2 * len(a & b) / (len(a) + len(b)) if a & b else 0.0
