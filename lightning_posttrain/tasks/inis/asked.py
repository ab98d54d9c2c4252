"""What is asked for as one number, day or isotope: in which unit, and whether a quantity or a sentence is the answer.

``What is the diameter in millimetres?`` is answered by ``8.19``, ``0.819 cm`` and ``The pellet is 8.19 mm across.``
What stands beside the number may be any words but those that change or doubt it: another quantity, a comparison, a
denial, an alternative, a thing that was not asked about. Left out: numbers in words above twelve.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import log10

from .plain import plain
from .sentences import CARRY, HEDGE, LISTS, close_isotopes
from .units import UNIT, Unit, parse_unit
from .words import Day, Isotope, Quantity, Token, tokens

_ASKED = re.compile(
    rf"""(?:\b(?:in|as|units?(?:\sof)?|how\smany|number\sof|what)\b:?\s(?:(?:full|whole|the|units?\sof)\s)?|[(\[]\s?|_)
    (?P<unit>(?-i:(?!(?:an?|[abdn])\b){UNIT}))(?=\s?(?:[).,;:?!\]\n]|$)|\s[^\W\d_]{{2,}})""",
    re.VERBOSE | re.I,
)
_PERCENTAGE = re.compile(r"\b(?:percentage|per\s?cent)\b|[(\s]%", re.I)
_PLAIN_POWER = (("power", 1),)
_KINDS_OF_POWER = ((("electric power", 1),), (("thermal power", 1),))

_DOUBT = """
not no never none neither nor cannot or either versus vs but except unless instead rather maybe perhaps possibly
probably likely unlikely might may could if unclear unknown unsure uncertain unable false wrong incorrect isn aren
wasn weren doesn don didn won hasn haven couldn wouldn shouldn
"""
_COMPARE = """
than more less fewer greater higher lower larger smaller longer shorter above below over under beyond least most up
exceed exceeds exceeded exceeding surpass surpasses surpassed almost nearly twice double doubled triple half third
quarter tenth times minus plus negative until till before after since within between without per hundred hundreds
thousand thousands million millions billion billions trillion dozen dozens square squared cubic cubed
"""
_DOUBTS, _COMPARES = frozenset(_DOUBT.split()), frozenset(_COMPARE.split())
"""Words that doubt, deny or offer another answer, wherever they stand; words that change a number beside them."""
_AFTER_NUMBERS = frozenset(("unit", "units", "degree", "degrees"))


def asked_unit(prompt: str, question: str) -> Unit | None:
    """The unit in which a prompt asks for a number: after ``in``, ``how many`` and the like, or in brackets.

    Args:
        prompt: the whole of it.
        question: the part that asks; it and what follows it go first.
    """
    start = prompt.rfind(question) if question else -1
    for text in (prompt[start:], prompt) if start >= 0 else (prompt,):
        text = plain(text)
        for match in _ASKED.finditer(text):
            if (unit := parse_unit(match["unit"])) is not None:
                return unit
        if _PERCENTAGE.search(text[:500]):
            return parse_unit("%")
    return None


def is_gold(
    gold: Quantity, unit: Unit | None, passage: frozenset[Token], share: float = 0.0
) -> Callable[[Quantity], bool]:
    """What tells whether a quantity of an answer is gold: the same in the unit asked for, or in one like it.

    Args:
        gold: as the row has it, perhaps without a unit.
        unit: that is asked for; None = none is. Then it is the passage's, and where that has none, any will do that
            the passage does not give to another number.
        passage: its tokens.
        share: by which the number may be off.
    """
    known = [q for q in passage if isinstance(q, Quantity)]
    same = [gold, *_in_unit(gold, unit)]
    if gold.dims is None and unit is None:
        same += [q for q in known if q.dims and q.bare == gold.bare]
    taken = {q.dims for q in known} if gold in passage else set()
    any_unit = len(same) == 1 and gold.dims is None and unit is None

    def agrees(given: Quantity) -> bool:
        if any(given.near(right, share) or _rounded(given, right) for right in same):
            return True
        return any_unit and given.bare == gold.bare and given.dims not in taken

    return agrees


def _in_unit(gold: Quantity, unit: Unit | None) -> list[Quantity]:
    """Gold with the unit where it lacks one, and without where it has it; plain watts pass for electric ones."""
    if unit is None:
        return []
    if gold.dims is None:
        full = Quantity(unit.to_base(gold.low), unit.to_base(gold.high), unit.dims, gold.bare)
        found = [full]
    elif gold.dims == unit.dims:
        full = gold
        found = [Quantity(unit.from_base(gold.low), unit.from_base(gold.high), None)]
    else:
        return []
    if full.dims in _KINDS_OF_POWER:
        found.append(Quantity(full.low, full.high, _PLAIN_POWER, full.bare))
    return found


def _rounded(given: Quantity, gold: Quantity) -> bool:
    """Whether a number is gold in another kind of unit, rounded where it ends, to three digits or more."""
    if given.dims != gold.dims or not given.dims or len(given.bare) != 1 or len(gold.bare) != 1:
        return False
    number, before = given.bare[0], gold.bare[0]
    places = next((n for n in range(40) if (number * 10**n).denominator == 1), None)
    if places is None or abs(number) * 10**places < 100 or not gold.low or not before:
        return False
    factor = given.low / number
    apart = abs(factor / (gold.low / before))
    if apart == Fraction(10) ** round(log10(apart)):
        return False
    return abs(gold.low / factor - number) * 10**places <= Fraction(1, 2)


def states(answer: Sequence[Token], gold: Token, text: str, question: str, passage: Sequence[Token]) -> bool:
    """Whether an answer gives one number, isotope or day, and nothing in it says otherwise.

    Args:
        answer: its tokens, every quantity that is gold replaced by it.
        gold: the right one.
        text: the answer as it is written, without space around it.
        question: what was asked.
        passage: tokens of the passage, likewise.
    """
    if gold not in answer or LISTS.search(plain(text).strip()) or text.endswith("?"):
        return False
    asked = tokens(question)
    known = {*asked, *passage}
    said = {word for at in _places(passage, gold) for word in _comparisons(passage, at)}
    words = {token for token in answer if isinstance(token, str)}
    if any(word in _DOUBTS and not (word in ("may", "could", "might") and word in known) for word in words):
        return False
    if any(_comparisons(answer, at) - said for at in _places(answer, gold)):
        return False
    return all(_harmless(token, gold, asked, passage, known) for token in answer) and not _strangers(text, known)


def follows_unit(written: Sequence[Token], at: int, known: frozenset[Token]) -> bool:
    """Whether the number at a place has a unit that is no unit here: ``8.19 furlongs``."""
    number, rest = written[at], written[at + 1 : at + 2]
    if not isinstance(number, Quantity) or number.dims is not None or not rest or not isinstance(rest[0], str):
        return False
    return not (rest[0] in known or rest[0] in CARRY | HEDGE | _DOUBTS | _COMPARES | _AFTER_NUMBERS)


def _places(answer: Sequence[Token], gold: Token) -> list[int]:
    return [at for at, token in enumerate(answer) if token == gold]


def _comparisons(answer: Sequence[Token], at: int) -> set[Token]:
    """The words beside a number, three before it and two after it, that change it."""
    words = [*answer[max(at - 3, 0) : at + 3], ""]
    changing = _COMPARES | {"by"} if isinstance(answer[at], Day) else _COMPARES
    return {w for w, then in pairwise(words) if w in changing and not (w == "half" and then in ("life", "lives"))}


def _harmless(token: Token, gold: Token, asked: Sequence[Token], passage: Sequence[Token], known: set[Token]) -> bool:
    """Whether a token of an answer is gold or speaks of nothing that was not asked about."""
    if type(token) is type(gold) or isinstance(token, Quantity):
        return token == gold
    if isinstance(token, Day):
        return token in known
    if isinstance(token, Isotope):
        named = {one for one in asked if isinstance(one, Isotope)}
        return token in (named or close_isotopes(gold, passage))
    if re.match(r"[<>≤≥≠¬±√≢≉]|!=|=/=", token):
        return False
    if any(map(str.isdigit, token)):  # a label
        labels = any(isinstance(one, str) and any(map(str.isdigit, one)) for one in asked)
        return token in (asked if labels else known)
    return True


def _strangers(text: str, known: set[Token]) -> list[str]:
    """Names in the middle of a sentence that neither question nor passage has."""
    named = re.findall(r"(?<=[a-z,;] )[A-Z][a-z]{2,}", plain(text)[:4000])
    return [name for name in named if name.casefold() not in known | CARRY | HEDGE]
