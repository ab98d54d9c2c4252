"""Text that shows everything it holds, so that data can neither hide nor steer the terminal."""

from __future__ import annotations

import unicodedata

NEWLINE = "↵"


def visible(text: str, newline: str = NEWLINE + "\n") -> str:
    """``text`` with control characters, direction marks and the like spelt out.

    Args:
        text: anything.
        newline: what a line break becomes.
    """
    out = []
    for c in text:
        if c == "\n":
            out.append(newline)
        elif ord(c) < 32:
            out.append(chr(0x2400 + ord(c)))  # Unicode's pictures of control characters
        elif unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
            out.append(f"\\u{ord(c):04x}")
        else:
            out.append(c)
    return "".join(out)
