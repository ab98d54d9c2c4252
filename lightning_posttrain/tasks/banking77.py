"""banking77: which of 77 intents a bank customer's message has (Casanueva et al. 2020, arXiv:2003.04807; CC BY 4.0).

The label list stands at the beginning of every prompt, so that a batch computes it once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ..types import Completion, Message, Record, UserError
from .answers import final_answer
from .base import Score, Task
from .enterprise.labels import Rules, check_rules, contained, label_metrics, text_of
from .latex import last_box

LABELS: tuple[str, ...] = (
    "activate_my_card", "age_limit", "apple_pay_or_google_pay", "atm_support", "automatic_top_up",
    "balance_not_updated_after_bank_transfer", "balance_not_updated_after_cheque_or_cash_deposit",
    "beneficiary_not_allowed", "cancel_transfer", "card_about_to_expire", "card_acceptance", "card_arrival",
    "card_delivery_estimate", "card_linking", "card_not_working", "card_payment_fee_charged",
    "card_payment_not_recognised", "card_payment_wrong_exchange_rate", "card_swallowed", "cash_withdrawal_charge",
    "cash_withdrawal_not_recognised", "change_pin", "compromised_card", "contactless_not_working", "country_support",
    "declined_card_payment", "declined_cash_withdrawal", "declined_transfer", "direct_debit_payment_not_recognised",
    "disposable_card_limits", "edit_personal_details", "exchange_charge", "exchange_rate", "exchange_via_app",
    "extra_charge_on_statement", "failed_transfer", "fiat_currency_support", "get_disposable_virtual_card",
    "get_physical_card", "getting_spare_card", "getting_virtual_card", "lost_or_stolen_card", "lost_or_stolen_phone",
    "order_physical_card", "passcode_forgotten", "pending_card_payment", "pending_cash_withdrawal", "pending_top_up",
    "pending_transfer", "pin_blocked", "receiving_money", "Refund_not_showing_up", "request_refund",
    "reverted_card_payment?", "supported_cards_and_currencies", "terminate_account", "top_up_by_bank_transfer_charge",
    "top_up_by_card_charge", "top_up_by_cash_or_cheque", "top_up_failed", "top_up_limits", "top_up_reverted",
    "topping_up_by_card", "transaction_charged_twice", "transfer_fee_charged", "transfer_into_account",
    "transfer_not_received_by_recipient", "transfer_timing", "unable_to_verify_identity", "verify_my_identity",
    "verify_source_of_funds", "verify_top_up", "virtual_card_not_working", "visa_or_mastercard",
    "why_verify_identity", "wrong_amount_of_cash_received", "wrong_exchange_rate_for_cash_withdrawal",
)  # fmt: skip
"""The published names in the order of their ids: alphabetical, whatever their case."""

_LEAD = r"(?i:(?:the\s)?(?:category|label|answer|id|intent|class)(?:\s(?:id|number|name))?\s*[:=#]?\s*#?\s*)?"
_NUMBER = re.compile(rf"\s*{_LEAD}#?([0-9]{{1,4}})\b(?![.,][0-9])(?P<rest>.*)")
_NAMED = re.compile(
    rf"\s*{_LEAD}(?:(?P<id>[0-9]{{1,4}})\s*[:.)-]\s*)?(?P<name>.*?)(?:\s*[(\[](?P<id2>[0-9]{{1,4}})[)\]]?)?[.!]?\s*"
)
_MARKS = re.compile(r"^[-•]\s+|[*`\"“”]|^[(\[]+|(?<=[0-9a-z])[)\]]+$")
_DOUBT = re.compile(r"\?|\b(?:or|not|maybe|perhaps|possibly|either|neither|wrong|incorrect|unsure|isn|[0-9]+)\b", re.I)
MOST_LINES = 50
"""So many lines of an answer are read: what it names there must be one category."""
_ROWS = "a row needs a text `text` and its label: `category` (a name) or `label` (an id or a name)"


class Banking77(Task):
    """Which of 77 categories a bank customer's message belongs to, answered by the category's number.

    Metrics of one completion, each 0 or 1:

    - ``accuracy``: the answer begins with the gold number (answers by name: its first line is the gold name), and names
      no other category: "12 or 13" is neither.
    - ``accuracy_lenient``: the rule of earlier reports: gold stands somewhere in the text, so "12" passes for 1.
    - ``valid_rate``: the answer names one category in that way.
    - ``eos_rate``: the model ended the completion itself.

    Of all examples: ``macro_f1``, ``micro_f1`` and ``majority_baseline`` (`label_metrics`).

    Args:
        rules: ``strict``, or ``compat``: ``accuracy`` is the lenient one too, and reasoning is not taken away. The
            prompt is the original's by both (that of its first version: ``prompt: short`` and ``answer: name``).
        prompt: ``labels`` = the rules and a list of all categories before the message; ``short`` = neither.
        answer: what is asked for: the category's ``id`` or its ``name``.
        labels: other names in the order of their ids, or a JSON file with them, such as the ``labels.json`` that
            `prepare banking77` writes; null = the 77 published ones.
    """

    name = "banking77"
    primary = "accuracy"

    def __init__(
        self,
        rules: Rules = "strict",
        prompt: Literal["labels", "short"] = "labels",
        answer: Literal["id", "name"] = "id",
        labels: str | list[str] | None = None,
    ) -> None:
        check_rules(self.name, rules)
        self.rules, self.prompt, self.answer = rules, prompt, answer
        self.labels = LABELS if labels is None else read_labels(labels) if isinstance(labels, str) else tuple(labels)
        self._before = self._instructions()

    def record(self, row: Mapping[str, Any], origin: str) -> Record:
        """A row ``{text, category}``, ``{text, label}`` or both, as `prepare banking77` writes it or as published."""
        text = text_of(row, ("text",), origin, _ROWS)
        label = label_id(row, origin, self.labels)
        gold = str(label) if self.answer == "id" else self.labels[label]
        after = f"<query>{text}</query>" if self.prompt == "labels" else f"Query: {text}\nCategory:"
        return Record(
            id=str(row.get("id", origin)),
            prompt=(Message("user", f"{self._before}\n\n{after}"),),
            answer=gold,
            origin=origin,
            meta={"label": label, "label_name": self.labels[label]},
        )

    def parse(self, text: str) -> int | None:
        """The id of the one category that an answer names, or None; any text is read."""
        strict = self.rules == "strict"
        if not strict and self.answer == "id":
            match = re.match(r"\s*([0-9]{1,4})\b(?![.,][0-9])", text)
            return self._known(match[1]) if match else None
        lines = [line for line in text.strip().splitlines() if line.strip()]
        if not strict:
            return _ids(self.labels).get(_plain(lines[0])) if lines else None
        one = self._by_id if self.answer == "id" else self._by_name
        read = [one(_MARKS.sub("", (last_box(line) or line).strip())) for line in lines[:MOST_LINES]]
        named = set(read) - {None}
        return read[0] if read and len(named) == 1 else None

    def _known(self, digits: str) -> int | None:
        label = int(digits)
        return label if label < len(self.labels) else None

    def _by_id(self, line: str) -> int | None:
        """The category whose number a line begins with; no other number or name may follow it."""
        match = _NUMBER.match(line)
        label = self._known(match[1]) if match else None
        if match is None or label is None:
            return None
        rest = _plain(match["rest"].lstrip(" :.)-("))
        named = _ids(self.labels).get(rest)
        if named is not None:
            return label if named == label else None
        beside = f"{rest.replace(_plain(self.labels[label]), '')} {match['rest'].rstrip()[-1:]}"
        return None if _DOUBT.search(beside) else label

    def _by_name(self, line: str) -> int | None:
        """The category that a whole line names, perhaps with its number."""
        label = _ids(self.labels).get(_plain(line))
        if label is not None:
            return label
        match = _NAMED.fullmatch(line)
        label = _ids(self.labels).get(_plain(match["name"])) if match else None
        given = (match["id"] or match["id2"]) if match else None
        return label if given is None or label is None or int(given) == label else None

    def score(self, record: Record, completion: Completion) -> Score:
        strict = self.rules == "strict"
        gold, lenient = record.meta["label"], contained(completion.text, record.answer)
        parsed = self.parse(final_answer(completion.text) if strict else completion.text)
        values = {
            "accuracy": parsed == gold if strict else lenient,
            "accuracy_lenient": lenient,
            "valid_rate": parsed is not None,
            "eos_rate": completion.finished,
        }
        reason = None if values["accuracy"] else "invalid" if parsed is None else "wrong_label"
        detail = {"parsed": None if parsed is None else self.labels[parsed], "gold": self.labels[gold]}
        return Score({name: float(value) for name, value in values.items()}, detail, reason)

    def corpus_metrics(self, scores: Sequence[Score]) -> dict[str, float]:
        return label_metrics(scores)

    def _instructions(self) -> str:
        if self.prompt == "short":
            return "Classify the query into a banking category."
        last = len(self.labels) - 1
        kind = f"one integer from 0 to {last}, the category's id" if self.answer == "id" else "the category's name"
        sample = [f"{i}" if self.answer == "id" else self.labels[i] for i in (0, last // 2, last)]
        listed = "\n".join(f"{i}: {name}" for i, name in enumerate(self.labels))
        return (
            "You are a classifier of messages that customers send to their bank. Choose the one category that fits the "
            f"message best.\n\nCategories:\n{listed}\n\nRules:\n- Answer with {kind}.\n"
            f"- Write nothing else: no words around it, no explanation.\n- Answers look like: {', '.join(sample)}\n"
            f"Remember: {kind}, and only that."
        )


def label_id(row: Mapping[str, Any], origin: str, labels: tuple[str, ...]) -> int:
    """The id of a row's label: its ``category``, ``label`` and ``label_name``, as far as it has them.

    Raises:
        UserError: it has none, one that is not among ``labels``, or two that differ.
    """
    given = {name: row[name] for name in ("category", "label", "label_name") if row.get(name) is not None}
    if not given:
        raise UserError(f"{origin}: columns {sorted(map(str, row))}; {_ROWS}")
    found = set()
    for name, value in given.items():
        text = str(value).strip()
        known = int(text) if re.fullmatch("[0-9]{1,9}", text) else _ids(labels).get(_plain(text))
        if known is None or known >= len(labels):
            raise UserError(
                f"{origin}: {name}={value!r:.80} is none of the {len(labels)} categories ({labels[0]}, ..., "
                f"{labels[-1]}); correct it, or the list of categories (categories.json, or the task's `labels`)"
            )
        found.add(known)
    if len(found) > 1:
        raise UserError(f"{origin}: {given} are different categories; keep the right one")
    return found.pop()


@lru_cache(16)
def _ids(labels: tuple[str, ...]) -> dict[str, int]:
    return {_plain(name): i for i, name in enumerate(labels)}


def read_labels(path: str) -> tuple[str, ...]:
    """Names in the order of their ids, from a JSON list or an object of id -> name.

    Raises:
        UserError: the file is missing or holds something else, or a name stands there twice.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        names = [found[str(i)] for i in range(len(found))] if isinstance(found, dict) else list(found)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"labels={path}: no labels ({error!r}); give a JSON list, or ids from 0 -> names") from error
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise UserError(f"labels={path}: {names!r:.80}; give at least one name, each a text")
    if len({_plain(name) for name in names}) < len(names):
        raise UserError(f"labels={path}: a name stands there twice; give each category its own")
    return tuple(names)


def _plain(name: str) -> str:
    """A name as it is compared: case, underscores and what stands around it do not count."""
    return " ".join(re.sub("[_-]", " ", name).casefold().split()).strip("\"'`*.,:;!? ")
