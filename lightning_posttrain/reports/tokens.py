"""Tokens as a reader sees them: which text each one is, which are trained, where one ends and the next begins.

Nothing invisible stays invisible: line ends, control characters, direction marks and broken UTF-8 are all shown, so
that data can neither hide nor steer the terminal. Three forms: plain text, ANSI colours, HTML.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from rich.text import Text
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ..text.control import special_texts
from ..types import Sequence
from .visible import visible

BOUNDARY, OPEN, CLOSE = "╎", "⟦", "⟧"
"""Plain text: between two tokens; around a run of trained ones."""
COLOURS = {
    (True, False): "black",
    (True, True): "bold black",
    (False, False): "grey85",
    (False, True): "bold bright_magenta",
}
"""By (trained, special)."""
SHADES = {True: ("green3", "pale_green1"), False: ("grey15", "grey30")}
"""Backgrounds by trained; the two take turns, so that boundaries show."""
BYTE = re.compile("<0x([0-9A-F]{2})>")
"""How tokenizers with characters for tokens name a byte of one that they lack."""
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
        decoder = repr(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None))
        self.bytes = {c: b for b, c in bytes_to_unicode().items()} if "ByteLevel" in decoder else {}
        self.added = {str(token) for token in tokenizer.added_tokens_decoder.values()}

    def views(self, sequence: Sequence) -> list[TokenView]:
        """One view per token; ``trained`` is ``sequence.supervised``."""
        names = self.tokenizer.convert_ids_to_tokens(sequence.ids.tolist())
        return [
            TokenView(visible(self._text(name)), bool(trained), name in self.special)
            for name, trained in zip(names, sequence.supervised, strict=True)
        ]

    def _text(self, name: str) -> str:
        if name in self.special or (self.bytes and name in self.added):
            return name
        if self.bytes and all(c in self.bytes for c in name):
            return bytes(self.bytes[c] for c in name).decode(errors="backslashreplace")
        if byte := BYTE.fullmatch(name):
            return bytes.fromhex(byte[1]).decode(errors="backslashreplace")
        return name.replace("▁", " ")


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
        text.append(view.text, f"{COLOURS[view.trained, view.special]} on {SHADES[view.trained][i % 2]}")
    return text


def as_html(views: list[TokenView]) -> str:
    """The same as spans of the classes in `CSS`."""
    out = []
    for i, view in enumerate(views):
        kind = f"{'s' if view.trained else 'u'}{i % 2}{' special' if view.special else ''}"
        out.append(f'<span class="t {kind}">{html.escape(view.text)}</span>')
    return "".join(out)
