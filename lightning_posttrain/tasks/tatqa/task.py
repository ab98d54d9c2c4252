r"""The task tatqa: a question about a table and its text, answered in ``\boxed{...}`` with the scale of the number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from ...types import Completion, Message, Record, UserError
from ..answers import final_answer
from ..base import Score, Task
from ..enterprise.labels import Rules, check_rules, text_of
from ..latex import BOX, last_box, plain
from .answer import escaped, first_box_compat, join, normal_compat, set_f1_compat
from .official import SCALES, TYPES, Official, gold_parts, is_number, official_score
from .reading import Reading, readings, splits
from .values import amount, bag_f1, folded, same

_ROWS = (
    "a row needs `table`, `paragraphs`, `question`, `answer`, `answer_type` and `scale`; `prepare tatqa` writes them"
)


class TatQA(Task):
    r"""A question about a table and text of a financial report, answered by spans or a number.

    Metrics of one completion:

    - ``official_em``, ``official_f1``, ``scale_accuracy``: the published metric (`official_score`) of the reading that
      suits best: it may name its scale, and be a list in any usual way of writing one. Which one it was is ``parsed``
      and ``scale`` in the detail.
    - the same followed by ``_span``, ``_multi_span``, ``_arithmetic``, ``_count``: of the questions of that type.
    - ``exact_match``: the last box has gold's parts, numbers to two decimals, and its scale if that is asked for, or
      the same amount in another (1.5 million = 1,500 thousand).
    - ``f1``: of words and numbers, each as often as it is there, of the last box and gold with their scales.
    - ``boxed_rate``: there is a closed box.
    - ``eos_rate``: the model ended the completion itself.

    By ``rules: compat`` the answer is what earlier reports took: the first box up to its first closing brace; gold has
    no scale, ``f1`` is of the set of words of the whole response, and any ``\boxed{`` counts.

    Args:
        rules: ``strict`` or ``compat``.
        scale: ``append`` = the prompt asks for the scale and targets end in it ("12.61 percent"); ``drop`` = neither,
            and about half of the questions can then not be answered right officially; null = ``append``, or the
            original's ``drop`` by ``compat``.
        box: where ``\boxed{}`` stands: in ``both`` prompt and target, in the ``prompt`` only, or ``none``: then the
            whole text is the answer; null = ``both``, or the original's ``prompt`` by ``compat`` (``none`` in its
            first version).
    """

    name = "tatqa"
    primary = "official_em"

    def __init__(
        self,
        rules: Rules = "strict",
        scale: Literal["append", "drop"] | None = None,
        box: Literal["both", "prompt", "none"] | None = None,
    ) -> None:
        check_rules(self.name, rules)
        strict = rules == "strict"
        self.rules = rules
        self.scale = scale or ("append" if strict else "drop")
        self.box = box or ("both" if strict else "prompt")
        self._before = f"Answer the question from the table and the text.{self._asked()}"

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        """A row as `prepare tatqa` writes it: one question with its table and paragraphs."""
        question = text_of(row, ("question",), origin, _ROWS)
        kind, scale = row.get("answer_type"), row.get("scale") or ""
        if kind not in TYPES:
            raise UserError(f"{origin}: answer_type={kind!r:.60}; it must be one of {', '.join(TYPES)}")
        if scale and scale not in SCALES:
            raise UserError(f"{origin}: scale={scale!r:.60}; it must be one of {', '.join(SCALES)}, or an empty text")
        golds = _golds(row, kind, origin)
        target = self._target(golds, scale)
        prompt = f"{self._before}\n\n{_shown(row, origin)}\n\nQuestion: {question}\n\nAnswer:"
        meta = {"answer": row["answer"], "answer_type": kind, "scale": scale, "golds": golds}
        return Record(
            str(row.get("id", row.get("uid", origin))),
            (Message("user", prompt),),
            target,
            origin,
            {**meta, "type": kind},
        )

    def _asked(self) -> str:
        """What the prompt says of the answer's form."""
        told = ", followed by its scale (thousand, million, billion or percent) if it has one"
        if self.box == "none":
            return f" Write the answer{told}." if self.scale == "append" else ""
        if self.rules == "compat" and self.scale == "drop":
            return f" Put the final answer in {BOX}}}."
        return f" Put the final answer{told if self.scale == 'append' else ''}, in {BOX}}}."

    def _target(self, golds: tuple[str, ...], scale: str) -> str:
        text = join(golds) if self.rules == "strict" else ", ".join(golds)
        if self.scale == "append" and scale and not (scale == "percent" and text.endswith("%")):
            text = f"{text} {scale}"
        return f"{BOX}{escaped(text)}}}" if self.box == "both" else text

    def parse(self, text: str) -> str | None:
        """The answer in a completion, or None; any text is read."""
        text = text if self.rules == "compat" else final_answer(text)
        if self.box == "none":
            return text.strip() or None
        if self.rules == "compat":
            return first_box_compat(text) or None
        box = last_box(text)
        return None if box is None else plain(box) or None

    def score(self, record: Record, completion: Completion) -> Score:
        meta, text = record.meta, completion.text
        answer = self.parse(text)
        official, taken = self._official(answer, meta)
        numbers = dict(zip(("official_em", "official_f1", "scale_accuracy"), official, strict=True))
        exact, f1, boxed = (
            self._compat(answer, text, meta) if self.rules == "compat" else self._strict(answer, text, meta)
        )
        values = {
            **numbers,
            **{
                f"{name}_{kind.replace('-', '_')}": value if kind == meta["answer_type"] else math.nan
                for kind in TYPES
                for name, value in numbers.items()
            },
            "exact_match": exact,
            "f1": f1,
            "boxed_rate": boxed,
            "eos_rate": completion.finished,
        }
        reason = None
        if not official.em:
            only_scale = answer is not None and not official.scale and self._but_for_scale(answer, meta)
            reason = "no_answer" if answer is None else "scale" if only_scale else "wrong_answer"
        detail = {"parsed": list(taken.parts), "scale": taken.scale, "gold": list(meta["golds"])}
        return Score({name: float(value) for name, value in values.items()}, detail, reason)

    def _official(self, answer: str | None, meta: Mapping[str, Any]) -> tuple[Official, Reading]:
        """The published metric of the best reading, and that reading.

        That metric takes "5 million or 6 million" for 5 million; a text that begins with an amount and is none counts
        only if it is gold's.
        """
        if answer is None:
            return Official(0.0, 0.0, 0.0), Reading((), "")
        gold = meta["answer"], meta["answer_type"], meta["scale"]
        known = set(map(folded, meta["golds"]))
        ways = [w for w in readings(answer) if all(_is_one(part) or folded(part) in known for part in w.parts)]
        scored = [(official_score(*gold, list(way.parts), way.scale), way) for way in ways]
        return max(scored, key=lambda one: one[0], default=(Official(0.0, 0.0, 0.0), Reading((answer,), "")))

    def _strict(self, answer: str | None, text: str, meta: Mapping[str, Any]) -> tuple[float, float, float]:
        boxed = float(last_box(final_answer(text)) is not None)
        if answer is None:
            return 0.0, 0.0, boxed
        scale = meta["scale"] if self.scale == "append" else None
        ways = splits(answer)
        exact = any(same(parts, meta["golds"], scale) for parts in ways)
        return float(exact), max(bag_f1(parts, meta["golds"], scale) for parts in ways), boxed

    def _compat(self, answer: str | None, text: str, meta: Mapping[str, Any]) -> tuple[float, float, float]:
        gold = ", ".join(meta["golds"])
        exact = normal_compat(answer or "") == normal_compat(gold)
        return float(exact), set_f1_compat(text, gold), float(BOX in text)

    def _but_for_scale(self, answer: str, meta: Mapping[str, Any]) -> bool:
        return any(same(parts, meta["golds"], None) for parts in splits(answer))


def _is_one(part: str) -> bool:
    """Whether a part is one amount, or nothing that the published metric reads as a number."""
    return not is_number(part) or amount(part) is not None


def _golds(row: Mapping[str, Any], kind: str, origin: str) -> tuple[str, ...]:
    """Gold's parts as texts."""
    answer = row.get("answer")
    is_list = isinstance(answer, list | tuple) and any(str(part).strip() for part in answer)
    is_one = isinstance(answer, int | float | str) and not isinstance(answer, bool) and str(answer).strip()
    if not (is_list or is_one):
        raise UserError(f"{origin}: answer={answer!r:.60}; {_ROWS}")
    try:
        return tuple(part for part in gold_parts(answer, kind) if part.strip())
    except ValueError as error:
        raise UserError(f"{origin}: answer={answer!r:.60} of a count ({error}); give a whole number") from error


def _shown(row: Mapping[str, Any], origin: str) -> str:
    """Table and text as they stand in the prompt."""
    table, paragraphs = row.get("table"), row.get("paragraphs")
    if not isinstance(table, list) or not all(isinstance(line, list) for line in table):
        raise UserError(f"{origin}: table={table!r:.60}; it must be a list of rows, each a list of cells. {_ROWS}")
    if not isinstance(paragraphs, list) or not all(isinstance(text, str) for text in paragraphs):
        raise UserError(f"{origin}: paragraphs={paragraphs!r:.60}; it must be a list of texts. {_ROWS}")
    lines = "\n".join(" | ".join(str(cell) for cell in line) for line in table)
    return f"Table:\n{lines}\n\nText: {' '.join(paragraphs)}"
