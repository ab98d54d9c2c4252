"""Tokens as a reader sees them: which text each one is, which are trained, where one ends and the next begins.

Nothing invisible stays invisible: line ends, control characters, direction marks and broken UTF-8 are all shown, so
that data can neither hide nor steer the terminal. Three forms: plain text, ANSI colours, HTML.
"""

from __future__ import annotations

import html
import unicodedata
from dataclasses import dataclass

from rich.text import Text
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ..text.checks import special_texts
from ..types import Sequence

BOUNDARY, OPEN, CLOSE = "╎", "⟦", "⟧"
"""Plain text: between two tokens; around a run of trained ones."""
NEWLINE = "↵"
STYLES = {
    (True, 0): "black on green3",
    (True, 1): "black on pale_green1",
    (False, 0): "grey85 on grey15",
    (False, 1): "grey85 on grey30",
}
"""Style of a token by (trained, parity): neighbours differ, so boundaries show."""
CSS = """
.t{white-space:pre-wrap;border-radius:2px} .u0{background:#e8e8e8} .u1{background:#d2d2d2}
.s0{background:#7ee08a} .s1{background:#b5f2bd} .special{font-weight:bold;color:#a0137f}
"""


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token: what it reads as (line ends as ``↵`` and a break), and whether it is trained or special."""

    text: str
    trained: bool
    special: bool


class TokenReader:
    """Reads ids as text, each on its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.special = special_texts(tokenizer)
        self.bytes = {c: b for b, c in bytes_to_unicode().items()} if "Ġ" in tokenizer.get_vocab() else {}
        self.added = {str(token) for token in tokenizer.added_tokens_decoder.values()}

    def views(self, sequence: Sequence) -> list[TokenView]:
        """One view per token; ``trained`` is ``sequence.supervised``."""
        names = self.tokenizer.convert_ids_to_tokens(sequence.ids.tolist())
        return [
            TokenView(visible(self._text(name)), bool(trained), name in self.special)
            for name, trained in zip(names, sequence.supervised, strict=True)
        ]

    def _text(self, name: str) -> str:
        if name in self.added:
            return name
        if self.bytes and all(c in self.bytes for c in name):
            return bytes(self.bytes[c] for c in name).decode(errors="backslashreplace")
        return name.replace("▁", " ")


def visible(text: str) -> str:
    """``text`` with a mark before each line break, and code points that show nothing spelt out."""
    out = []
    for c in text:
        if c == "\n":
            out.append(NEWLINE + "\n")
        elif ord(c) < 32:
            out.append(chr(0x2400 + ord(c)))  # Unicode's pictures of control characters
        elif unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"):
            out.append(f"\\u{ord(c):04x}")
        else:
            out.append(c)
    return "".join(out)


def as_plain(views: list[TokenView]) -> str:
    """Tokens between boundary marks; runs of trained ones in double brackets."""
    out = []
    for i, view in enumerate(views):
        before = i > 0 and views[i - 1].trained
        if view.trained and not before:
            out.append(OPEN)
        elif before and not view.trained:
            out.append(CLOSE)
        elif i:
            out.append(BOUNDARY)
        out.append(view.text)
    return "".join(out) + (CLOSE if views and views[-1].trained else "")


def as_rich(views: list[TokenView]) -> Text:
    """Trained tokens green, the others grey, special ones bold; two shades of each in turn."""
    text = Text()
    for i, view in enumerate(views):
        style = STYLES[view.trained, i % 2]
        text.append(view.text, f"bold {'' if view.trained else 'bright_magenta'} {style[6:]}" if view.special else style)
    return text


def as_html(views: list[TokenView]) -> str:
    """The same as spans of the classes in `CSS`."""
    return "".join(
        f'<span class="t {"s" if v.trained else "u"}{i % 2}{" special" if v.special else ""}">{html.escape(v.text)}</span>'
        for i, v in enumerate(views)
    )
