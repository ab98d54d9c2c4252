r"""Reads and writes answers of TAT-QA: the last ``\boxed{...}``, and what LaTeX is in it; and the original's own rules.

Pure text work in time linear in the text; never raises on model output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LEAD_IN = re.compile(r"^(?:the answer is|answer:|the result is|the value is)\s*")


def first_box_compat(text: str) -> str:
    r"""The original's rule: the first box, up to the first closing brace: ``\boxed{\frac{1}{2}}`` gives ``\frac{1``."""
    match = re.search(r"\\boxed\{([^}]*)\}", text)
    return match[1] if match else ""


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
