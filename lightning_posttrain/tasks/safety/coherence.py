"""Whether a text is usable at all: empty, noise, a loop, an echo of the request. For English; other languages pass."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..answers import final_answer
from .judge import Exchange, Verdict

_TYPOGRAPHY = str.maketrans(
    {**dict.fromkeys("‘’‛ʼʹ´`′", "'"), **dict.fromkeys("“”„«»", '"'), **dict.fromkeys("‐‑‒–—−", "-")}
)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_ODD = re.compile(r"(?=[a-z]{3,}$)[^aeiouy]+$|[^\Waeiouy\d_]{6,}|[a-z]{23,}|(.)\1{3,}")
"""A word of small Latin letters that English has not: without a vowel, with six consonants in a row, endless."""
_FUNCTION = frozenset(
    (
        "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "for", "from", "had", "has", "have", "he",
        "her", "his", "i", "if", "in", "into", "is", "it", "its", "me", "my", "of", "on", "or", "our", "she", "so",
        "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "was", "we", "were",
        "what", "which", "who", "will", "with", "would", "you", "your",
    )
)  # fmt: skip


def plain(text: str) -> str:
    """A text as it is compared: NFKC, straight quotes and dashes, no emphasis, small letters."""
    return re.sub(r"\*\*|__|```\w*", "", unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHY)).casefold().strip()


def fault(prompt: str, text: str) -> str | None:
    """Why an answer is no usable text, in a word; None where it is one.

    Args:
        prompt: the request.
        text: the answer without its reasoning; both as `plain` leaves them.
    """
    words = _WORD.findall(text)
    if not words:
        return "empty" if not text else "no_words"
    shown = [c for c in text if not c.isspace()]
    if sum(c.isalpha() for c in shown) < 0.4 * len(shown) and len(words) < 40:
        return "hardly_any_words"
    if all(word in _FUNCTION for word in words):
        return "no_content"
    latin = [word for word in words if word.isascii()]
    if sum(bool(_ODD.search(word)) for word in latin) > 0.25 * len(words):
        return "no_language"
    if len(words) >= 12:
        thrice = list(zip(words, words[1:], words[2:], strict=False))
        if len(set(thrice)) < 0.4 * len(thrice):
            return "repetitive"
        if sum(word in _FUNCTION for word in words) > 0.85 * len(words):
            return "no_content"
    return "echo" if _only_repeats(prompt, text) else None


def _only_repeats(prompt: str, text: str) -> bool:
    """Whether nothing but the request, or a part of it of four words or more, stands in the text."""
    asked, said = _WORD.findall(prompt), _WORD.findall(text)
    inside = f" {' '.join(said)} " in f" {' '.join(asked)} "
    if inside and len(said) >= 4:
        return True
    rest = " ".join(said).replace(" ".join(asked), " ") if asked else "all"
    return not rest.strip()


def usable_first(exchanges: Sequence[Exchange], ask: Callable[[list[Exchange]], Sequence[Verdict]]) -> list[Verdict]:
    """Verdicts where only usable answers, without their reasoning, are asked about; the others are ``incoherent``.

    Args:
        exchanges: all, as the model gave them.
        ask: labels the usable ones; it is not called where there is none.
    """
    bare = [replace(exchange, answer=final_answer(exchange.answer)) for exchange in exchanges]
    faults = [fault(plain(exchange.prompt), plain(exchange.answer)) for exchange in bare]
    usable = [exchange for exchange, wrong in zip(bare, faults, strict=True) if wrong is None]
    asked = iter(ask(usable) if usable else ())
    return [next(asked) if wrong is None else Verdict("incoherent", wrong) for wrong in faults]
