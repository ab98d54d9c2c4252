"""Text that shows everything it holds, so that data can neither hide nor steer the terminal."""

from __future__ import annotations

import unicodedata

NEWLINE = "↵"
BLANK = [
    ("\u034f", "\u034f"),  # grapheme joiner
    ("\u115f", "\u1160"),  # Hangul fillers
    ("\u17b4", "\u17b5"),
    ("\u180b", "\u180f"),
    ("\u2800", "\u2800"),  # a Braille cell without dots
    ("\u3164", "\u3164"),
    ("\ufe00", "\ufe0f"),  # variation selectors
    ("\uffa0", "\uffa0"),
    ("\U000e0100", "\U000e01ef"),
]
"""Characters that have a width or a meaning but no picture, though Unicode counts them among letters and marks."""


def visible(text: str, newline: str = NEWLINE + "\n") -> str:
    """``text`` with control characters, direction marks and the like spelt out.

    Args:
        text: anything.
        newline: what a line break becomes.
    """
    out = []
    for i, c in enumerate(text):
        if c == "\n":
            out.append(newline)
        elif ord(c) < 32:
            out.append(chr(0x2400 + ord(c)))  # Unicode's pictures of control characters
        elif _unseen(c) or (i == 0 and unicodedata.category(c) in ("Mn", "Me")):  # a mark with nothing to sit on
            out.append(f"\\u{ord(c):04x}")
        else:
            out.append(c)
    return "".join(out)


def _unseen(c: str) -> bool:
    """Whether a character prints as nothing, or as a space though it is none."""
    if c == " ":
        return False
    hidden = unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")
    return hidden or any(first <= c <= last for first, last in BLANK)
