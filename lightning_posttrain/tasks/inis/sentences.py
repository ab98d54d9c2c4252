"""Answers in whole sentences: whether one says no more than gold, and whether one says that the passage does not say.

``The activity of KK-1 is 2,500 Bq.`` answers ``What is the activity of KK-1?`` as ``2,500 Bq`` does: what stands beside
gold are words of the question and a few that carry no meaning of their own. What compares, negates, enumerates or
multiplies is never among them, nor is a second quantity. Left out: paraphrase.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .plain import plain
from .words import Day, Isotope, Quantity, Token, tokens

_CARRY = """
it this that these they there its answer result value is was are were be been has had have equals equal so final
therefore thus hence of in on at by for with as from
"""
_LINK = "is was are were be by with as in on at from of for answer"
_HEDGE = "about approximately approx roughly around circa ca some"
_NEVER = """
not no never none neither nor cannot or and but than less more fewer greater higher lower larger smaller above below
over under up down least most almost nearly twice double triple third quarter times hundred hundreds thousand
thousands million millions billion billions dozen except without instead unlike before after since until within minus
plus between beyond per percent if maybe perhaps possibly probably might may could false wrong incorrect
"""
CARRY, NEVER = frozenset(_CARRY.split()), frozenset(_NEVER.split())
"""Words that mean nothing beside an answer, and words that a question cannot make harmless."""
LINK, HEDGE = frozenset(_LINK.split()), frozenset(_HEDGE.split())
"""What an answer in words may follow; what may stand before a number, which still has to be right."""
LISTS = re.compile(r"[{}\[\]|]")
"""Marks of lists, objects and tables, which are no sentences."""
_ENUMERATES = re.compile(r"[,;/\n]")
_QUESTION = re.compile(r"[^?]*\?", re.S)
_SENTENCE = re.compile(r"[.!?:\n]\s+")

_DOCUMENT = "passage|text|document|article|abstract|report|context|source"
_PLACE = rf"(?:(?:in|from|by|within)\s)?(?:(?:this|given|provided)\s)?(?:{_DOCUMENT})"
_STATED = (
    "stated|given|mentioned|specified|available|provided|reported|known|answerable|disclosed|said|indicated|listed|"
    "included|found|described|recorded|determined|in"
)
_SAYS = "say|says|state|mention|specify|give|tell|provide|report|contain|include|indicate|answer|describe|list"
_FOUND = "determined|answered|known|inferred|found|told|said"
_NOTHING = re.compile(
    rf"""(?:(?P<subject>.*?)\s?(?:is|was|are|were)\s)?not\s(?:{_STATED})(?:\s{_PLACE})?
    |(?:{_PLACE}|it)\s(?:does|did|do)\snot\s(?:{_SAYS})(?:\s(?P<object>.*))?
    |(?:(?P<subject2>.*?)\s)?(?:can|could)\snot\sbe\s(?:{_FOUND})(?:\s{_PLACE})?
    |(?:i\s)?do\snot\sknow|unknown|unanswerable|n/a|null|none\sgiven|no\sanswer
    |(?:there\sis\s)?(?:no|insufficient|not\senough)\sinformation(?:\s(?:is\s)?(?:{_STATED}))?(?:\s{_PLACE})?""",
    re.VERBOSE,
)
_LONGEST = 200
"""Characters of the longest text that says nothing."""


def question_of(prompt: str) -> str:
    """The last sentence of a prompt that ends in a question mark, without what stands before it; else its last line."""
    asked = _QUESTION.findall(prompt[-2000:])
    if not asked:
        return prompt.strip().rpartition("\n")[2]
    return str(_SENTENCE.split(asked[-1].strip())[-1])


def abstains(text: str, question: str = "") -> bool:
    """Whether a text says that the passage does not say; what it speaks of are things of the question."""
    if len(text) > _LONGEST:
        return False
    text = plain(text).casefold().replace("can't", "can not").replace("cannot", "can not").replace("n't", " not")
    words = [word for word in re.findall(r"n/a|[^\W_]+(?:-[^\W_]+)*", text) if word not in ("a", "an", "the")]
    if words[:1] == ["answer"]:
        words = words[1:]
    match = _NOTHING.fullmatch(" ".join(words))
    if match is None:
        return False
    spoken = " ".join(filter(None, (match["subject"], match["object"], match["subject2"])))
    asked = [word for word in tokens(question) if isinstance(word, str)]
    return all(
        token in CARRY or _of(token, asked) if isinstance(token, str) else token in tokens(question)
        for token in tokens(spoken)
    )


def says(answer: Sequence[Token], gold: Sequence[Token], text: str, question: str, context: str) -> bool:
    """Whether an answer holds gold once and nothing else that means anything.

    Args:
        answer, gold: as `tokens` gives them.
        text: the answer as it is written.
        question: what was asked.
        context: the passage.
    """
    places = [i for i in range(len(answer) - len(gold) + 1) if list(answer[i : i + len(gold)]) == list(gold)]
    if len(places) != 1 or not gold or LISTS.search(text.strip()):
        return False
    before, after = list(answer[: places[0]]), list(answer[places[0] + len(gold) :])
    typed = {type(token) for token in gold if not isinstance(token, str)}
    if after[:1] == ["decay"]:
        after = after[1:]
    if not typed:
        linked = not before or before[-1] in LINK
        return linked and not after and not _ENUMERATES.search(text) and _empty(before, question, typed)
    if Quantity in typed:
        after = _without_isotope(after, gold[0], question, context)
        before = [token for token in before if token not in HEDGE]
    if Day in typed and "by" in before:
        return False
    return _empty([*before, *after], question, typed)


def _empty(rest: Sequence[Token], question: str, typed: set[type]) -> bool:
    """Whether these tokens add nothing to an answer."""
    asked = tokens(question)
    words = [token for token in asked if isinstance(token, str)]
    for token, following in zip(rest, (*rest[1:], ""), strict=False):
        if isinstance(token, str):
            half = token == "half" and following not in ("life", "lives")
            if token in NEVER or half or not (token in CARRY or _of(token, words)):
                return False
        elif type(token) in typed or isinstance(token, Quantity) or token not in asked:
            return False
    return True


def _without_isotope(after: list[Token], gold: Token, question: str, context: str) -> list[Token]:
    """What follows a quantity without ``of Co-60``, where the question is of that, or the passage has the two close."""
    rest = after[1:] if after[:1] == ["of"] else after
    if not rest or not isinstance(rest[0], Isotope):
        return after
    right = {token for token in tokens(question) if isinstance(token, Isotope)}
    return rest[1:] if rest[0] in (right or close_isotopes(gold, tokens(context, most=None))) else after


def close_isotopes(gold: Token, passage: Sequence[Token]) -> set[Token]:
    """The isotope that is closest to a quantity in a passage, wherever that is; the only isotope, where it is not."""
    isotopes = [(place, token) for place, token in enumerate(passage) if isinstance(token, Isotope)]
    places = [place for place, token in enumerate(passage) if token == gold]
    if not places:
        named: set[Token] = {token for _, token in isotopes}
        return named if len(named) == 1 else set()
    return {min(isotopes, key=lambda one: abs(one[0] - place))[1] for place in places if isotopes}


def _of(word: str, question: Sequence[str]) -> bool:
    """Whether a word is one of the question's, or another form of one: ``cooled`` of ``cools``."""
    return any(word == other or (len(word) > 3 and word[:4] == other[:4]) for other in question)
