"""The words of the format-following data: names, sentences, rules, payments, and how a reply goes wrong.

Only text: what is drawn, and how often, is in format_data. Every text fits on few lines, because models that learn
from this data may be very small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Strictness = Literal["strict", "medium", "hard"]

SCHEMA = {"name": "string", "date": "date", "amount": "number"}
JSON_FORMATS: dict[str, dict[str, Any]] = {
    "minified": {"separators": (",", ":")},
    "spaced": {"separators": (", ", ": ")},
    "indented": {"indent": 2},
}
BAD_OUTPUT_STYLES = ("assistant_fence", "assistant_preamble", "fence_only", "duplicate_json")

NAMES = (
    *("Mara Lindqvist", "Tom O'Rourke", "Ana-Lucia Prado", "Zoë Hartmann", "Kwame Boateng", "Priya D'Mello"),
    *("Noëlle Verbeek", "Jun Tanabe", "Pierre-Yves Caron", "Samir Haddad", "Olga Petrova"),
)
ITEMS = ("train ticket", "desk lamp", "team lunch", "library fine", "bike repair", "concert pass")
SENTENCES = (
    "{name} paid {amount} for a {item} on {date}.",
    "On {date}, {name} paid {amount} for a {item}.",
    "{amount} was paid by {name} on {date} for a {item}.",
)
RULES: dict[Strictness, str] = {
    "strict": """Extract the payment below as JSON. Follow every rule:
1. Reply with exactly one JSON object and nothing before or after it.
2. The first character is { and the last character is }.
3. Use exactly these keys: name, date, amount. Add no key, drop no key.
4. name is a string. date is a string in the form YYYY-MM-DD. amount is a number: no currency sign, no thousands comma.
5. Give no explanation, no speaker label and no markup.
Schema: {"name": string, "date": "YYYY-MM-DD", "amount": number}""",
    "medium": """Reply with one JSON object and no other text: name (string), date (YYYY-MM-DD), amount (number).
Use the TARGET line only.""",
    "hard": "JSON only, keys name, date, amount. Use TARGET [{target_id}].",
}
SHOW_FAILURE = "Do not reply like this:\n{bad}"
DESCRIBE_FAILURE = (
    "A reply that names the speaker, adds a remark, decorates the object or repeats it will be rejected.",
    "Replies are read by a program: one word outside the object, or a second object, and the payment is lost.",
)
FIX_OUTPUT = (
    "This earlier reply broke the format and may hold wrong values:\n{bad}\nWrite the reply that TARGET calls for."
)
FIX_DUPLICATE = "This draft holds two objects. Exactly one agrees with TARGET; give that one alone.\n{bad}"
NOTES = ("{name} asked for a copy of the receipt.", "please forward this to {name}.", "checked by {name} this week.")


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment. The amount is kept in cents, because cents hash and compare exactly."""

    name: str
    item: str
    date: str
    cents: int

    def answer(self) -> dict[str, Any]:
        return {"name": self.name, "date": self.date, "amount": self.cents / 100}


def bad_reply(style: str, text: str) -> str:
    """``text`` in one of the ways in which chat models spoil a JSON reply."""
    fenced = f"```json\n{text}\n```"
    return {
        "assistant_fence": f"assistant\n{fenced}",
        "assistant_preamble": f"assistant\nHere is the JSON you asked for:\n{text}",
        "fence_only": fenced,
    }[style]


def dumps(answer: Mapping[str, Any], json_format: str) -> str:
    return json.dumps(answer, ensure_ascii=False, **JSON_FORMATS[json_format])
