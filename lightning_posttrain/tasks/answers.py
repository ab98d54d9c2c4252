"""The answer in a completion: the text after its reasoning, without the tokens that end a turn.

Every scorer takes it from here, so that they agree on what a model said and what it only thought. Left out: formats
whose reasoning carries marks of their own that a task asks for, such as `gsm8k_tags`.
"""

from __future__ import annotations

import re

_OPENS = re.compile(r"<think(?:ing)?>|\[THINK\]|<\|channel\|>\s*(?:analysis|commentary)\b", re.I)
_CLOSES = re.compile(r"</think(?:ing)?>|\[/THINK\]|<\|channel\|>\s*final\s*<\|message\|>", re.I)
_ENDS = re.compile(
    r"(?:\s|<\|[\w ]{1,40}\|>|<｜[\w▁ ]{1,40}｜>|</s>|<s>|<eos>|<bos>|<pad>|<end_of_turn>|\[/?(?:EOS|PAD)\])+\Z", re.I
)
_LONGEST_END = 2_000
"""Characters at the end of a text among which such tokens are looked for: a broken model writes them by the page."""


def without_reasoning(text: str) -> str:
    """What follows the last end of a reasoning block, as it stands; nothing where one is never closed."""
    end = 0
    for match in _CLOSES.finditer(text):
        end = match.end()
    text = text[end:]
    return "" if _OPENS.search(text) else text


def final_answer(text: str) -> str:
    """A text without its reasoning, the white space around it and the special tokens after it."""
    text = without_reasoning(text).strip()
    for _ in range(2):  # a long run of them may hide some
        head, tail = text[:-_LONGEST_END], text[-_LONGEST_END:]
        text = (head + _ENDS.sub("", tail)).strip()
    return text
