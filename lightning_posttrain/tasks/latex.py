r"""LaTeX in short answers: the last ``\boxed{...}``, and a text without what only sets it.

Pure text work in time linear in the text; never raises on model output. Left out: formulae beyond simple fractions.
"""

from __future__ import annotations

import re

BOX = "\\boxed{"

_ESCAPED = re.compile(r"\\([{}$%&#_,\\])")
_MACRO = re.compile(r"\\(?:text|textrm|textbf|mathrm|mathbf|mathit|mbox|rm|bf|operatorname)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:[ ;:!]|quad\b|qquad\b|left\b|right\b|displaystyle\b)|(?<!\\)~(?=\S)(?<=\S~)")
_ABOUT = re.compile(r"\\(?:approx|sim|simeq)\b")
_MATHS = re.compile(r"(?<!\\)\$([^$]*)(?<!\\)\$(?![0-9])|\\\(|\\\)")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([0-9,]+)\s*\}\s*\{\s*([0-9,]+)\s*\}")


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


def plain(text: str) -> str:
    """A boxed text without what is only LaTeX: escapes, spacing, ``\\text{...}`` and dollar signs around formulae."""
    text = text.replace("{,}", ",")
    for _ in range(2):  # one macro may stand in another
        text = _MACRO.sub(r"\1", text)
    text = _FRACTION.sub(r" \1/\2", text)
    text = _ABOUT.sub("≈", _SPACING.sub(" ", _MATHS.sub(r"\1", text)))
    return _ESCAPED.sub(_unescaped, text).strip()


def _unescaped(match: re.Match[str]) -> str:
    """What an escape stands for: a sign, or for ``\\,`` a narrow space, which is none between two digits."""
    digits = match.string[match.start() - 1 : match.start()] + match.string[match.end() : match.end() + 1]
    return match[1] if match[1] != "," else "" if digits.isdigit() and len(digits) == 2 else " "
