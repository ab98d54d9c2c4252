"""Ways in which an INIS answer goes wrong, each made on purpose and by its name.

The names are the scorer's own reasons: `data` scores every rejected answer and refuses one that fails for another
reason than its label says. Left out: answers with several faults.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from .examples import Asked, Example
from .items import NOT_STATED

OTHER_UNIT = {
    **{"years": "days", "days": "hours", "hours": "minutes", "minutes": "seconds", "seconds": "minutes"},
    **{"mBq": "kBq", "Bq": "kBq", "kBq": "Bq", "µSv": "mSv", "mSv": "µSv", "nSv/h": "µSv/h", "µSv/h": "mSv/h"},
    **{"MWe": "MWt", "MWt": "MWe", "GWd/t": "GWd/kg", "m": "cm"},
}
"""A unit of the same thing or nearly so, which makes the same number another quantity."""
EXTRA = (("confidence", 0.9), ("source", "the passage"), ("operator", "M. Quist"), ("checked", True), ("year", 2019))
BEFORE = ("Here is the JSON:\n", "Sure! ", "Answer: ", "The passage says:\n")
AFTER = ("\nLet me know if you need more.", " (as stated)", "\nNote: values are rounded.")

Mutation = Callable[[Example, random.Random], str | None]
"""A wrong answer to an example; None where this fault cannot be made of it."""


def reject(kind: str, example: Example, rng: random.Random) -> str | None:
    """A wrong answer of this kind, or None."""
    return MUTATIONS[kind][1](example, rng)


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _wrong_value(example: Example, rng: random.Random) -> str | None:
    if isinstance(example.gold, str):
        return example.rival if example.asked == "qa" and example.rival != example.gold else None
    keys = [k for k in example.gold if example.gold[k] is not None and example.gold[k] != example.rival[k]]
    keys = [k for k in keys if k not in ("unit", "isotopes") and not isinstance(example.gold[k], list)]
    if not keys:
        return None
    key = rng.choice(keys)
    gold, rival = example.gold[key], example.rival[key]
    if isinstance(gold, dict) and "value" in gold:
        rival = {**gold, "value": rival["value"]}  # another number, the same unit
        if rival == gold:
            return None
    return dumps({**example.gold, key: rival})


def _wrong_unit(example: Example, rng: random.Random) -> str | None:
    if isinstance(example.gold, str):
        number, _, unit = example.gold.partition(" ")
        return f"{number} {OTHER_UNIT[unit]}" if example.numeric and unit in OTHER_UNIT else None
    keys = [k for k, v in example.gold.items() if k == "unit" or (isinstance(v, dict) and "unit" in v)]
    if not keys:
        return None
    key = rng.choice(keys)
    if key == "unit":
        return dumps({**example.gold, key: OTHER_UNIT[example.gold[key]]})
    gold = example.gold[key]
    return dumps({**example.gold, key: {**gold, "unit": OTHER_UNIT[gold["unit"]]}})


def _missing_field(example: Example, rng: random.Random) -> str | None:
    gold = dict(example.gold)
    key = rng.choice(list(gold))
    if isinstance(gold[key], list):
        kept = list(gold[key])
        kept.pop(rng.randrange(len(kept)))
        return dumps({**gold, key: kept})
    del gold[key]
    return dumps(gold) if gold else None


def _hallucinated_field(example: Example, rng: random.Random) -> str | None:
    gold = dict(example.gold)
    lists = [key for key, value in gold.items() if isinstance(value, list)]
    if lists and rng.random() < 0.5:
        strange = [part for part in example.rival[lists[0]] if part not in gold[lists[0]]]
        return dumps({**gold, lists[0]: [*gold[lists[0]], strange[0]]}) if strange else None
    key, value = rng.choice(EXTRA)
    return dumps({**gold, key: value}) if key not in gold else None


def _prose_around_json(example: Example, rng: random.Random) -> str | None:
    text = dumps(example.gold)
    fence = rng.choice(("json", "JSON", ""))
    return rng.choice((f"{rng.choice(BEFORE)}{text}", f"{text}{rng.choice(AFTER)}", f"```{fence}\n{text}\n```"))


def _duplicate_key(example: Example, rng: random.Random) -> str | None:
    key = rng.choice(list(example.gold))
    again = rng.choice((example.gold[key], example.rival[key]))
    return f"{dumps(example.gold)[:-1]}, {dumps(key)}: {dumps(again)}}}"


def _invalid_json(example: Example, rng: random.Random) -> str | None:
    text = dumps(example.gold)
    return rng.choice(
        (
            f"{text[:-1]},}}",
            text.replace('"', "'"),
            f"{text[:-1]} // from the passage\n}}",
            text[:-1],
            text.replace('": ', '" = '),
            text[: len(text) * 2 // 3],
        )
    )


def _number_as_string(example: Example, rng: random.Random) -> str | None:
    keys = [k for k, v in example.gold.items() if _number(v) or (isinstance(v, dict) and _number(v.get("value")))]
    if not keys:
        return None
    key = rng.choice(keys)
    gold = example.gold[key]
    text = {**gold, "value": str(gold["value"])} if isinstance(gold, dict) else str(gold)
    return dumps({**example.gold, key: text})


def _answered_unanswerable(example: Example, _: random.Random) -> str | None:
    if isinstance(example.gold, str):
        return str(example.rival) if example.asked == "unanswerable" else None
    nulls = [key for key, value in example.gold.items() if value is None]
    return dumps({**example.gold, nulls[0]: example.rival[nulls[0]]}) if nulls else None


def _abstained_answerable(example: Example, rng: random.Random) -> str | None:
    if isinstance(example.gold, str):
        return NOT_STATED if example.asked == "qa" else None
    keys = [k for k, v in example.gold.items() if v is not None and not isinstance(v, list)]
    keys = [k for k in keys if not (isinstance(example.gold[k], dict) and "value" not in example.gold[k])]
    return dumps({**example.gold, rng.choice(keys): None}) if keys else None


def _several_values(example: Example, rng: random.Random) -> str | None:
    if not example.numeric or example.gold == example.rival:
        return None
    return rng.choice((" or ", ", perhaps ", ", ")).join(rng.sample((example.gold, example.rival), 2))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_OBJECTS: tuple[Asked, ...] = ("extract", "extract_null", "list")
MUTATIONS: Mapping[str, tuple[tuple[Asked, ...], Mutation]] = {
    "wrong_value": (("extract", "qa"), _wrong_value),
    "wrong_unit": (("extract", "qa"), _wrong_unit),
    "missing_field": (_OBJECTS, _missing_field),
    "hallucinated_field": (_OBJECTS, _hallucinated_field),
    "prose_around_json": (_OBJECTS, _prose_around_json),
    "duplicate_key": (_OBJECTS, _duplicate_key),
    "invalid_json": (_OBJECTS, _invalid_json),
    "number_as_string": (("extract",), _number_as_string),
    "answered_unanswerable": (("unanswerable", "extract_null"), _answered_unanswerable),
    "abstained_answerable": (("qa", "extract"), _abstained_answerable),
    "several_values": (("qa",), _several_values),
}
"""Kind -> the questions it is made of, and how."""
