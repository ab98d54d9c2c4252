"""The passages of the INIS data and what may be asked about them. All of it is the project's own words.

A template belongs to one split. Short ones (60 words or fewer) tell a few things to be copied; long ones tell of
several samples, nuclides or plants, of which a question or a schema wants some. ``lacks`` names slots that are drawn
but not told: an answer to them comes from memory or from nowhere. Left out: how rows are drawn, which is in data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .facts import Split

Level = Literal["short", "long"]


@dataclass(frozen=True, slots=True)
class Template:
    """One passage.

    Args:
        id, split, level: name, the split it belongs to, difficulty.
        scenes: letter -> scene, see `scenes`; several of one kind tell different things.
        text: the passage, with slots.
        fields: the object to extract: key -> slot, or nested.
        asks: (slot, question) that the passage answers.
        lacks: (key, slot, question) that it does not.
        lists: (key of the list, its question, slots or objects in it, ``set`` or ``key:NAME``), or None.
    """

    id: str
    split: Split
    level: Level
    scenes: Mapping[str, str]
    text: str
    fields: Mapping[str, Any]
    asks: tuple[tuple[str, str], ...] = ()
    lacks: tuple[tuple[str, str, str], ...] = ()
    lists: tuple[str, str, tuple[Any, ...], str] | None = field(default=None)


EXTRACT: dict[Level, str] = {
    "short": "{text}\nJSON only, null if not stated: {keys}",
    "long": (
        "Read the document and reply with one JSON object that fits the schema, and nothing else. "
        "Use null where the document does not say.\nSchema: {schema}\nDocument: {text}"
    ),
}
LIST: dict[Level, str] = {
    "short": "{text}\nJSON only, list {question}: {keys}",
    "long": (
        "Read the document and list {question}. Reply with one JSON object that fits the schema, and nothing else.\n"
        "Schema: {schema}\nDocument: {text}"
    ),
}
ASK: dict[Level, str] = {
    "short": "{text}\n{question} Short answer, or: not stated",
    "long": (
        "Document: {text}\nQuestion: {question}\nAnswer in a few words and as the document has it; "
        "if it does not say, answer: not stated"
    ),
}

_NUCLIDE = {"isotope": "a.isotope", "half_life": "a.half_life", "unit": "a.unit"}
_SAMPLE = {"sample": "a.sample", "isotope": "a.isotope", "activity": "a.activity", "unit": "a.unit"}
_BADGE = {"badge": "a.badge", "dose": "a.dose", "unit": "a.unit", "date": "a.date"}
_SURVEY = {"site": "a.site", "rate": "a.rate", "unit": "a.unit"}
_HALF_LIFE = ("a.life", "What is the half-life of {a.isotope}?")
_DECAY = ("a.decay", "How does {a.isotope} decay?")
_NO_DECAY = ("decay", "a.decay", "How does {a.isotope} decay?")
_NO_USE = ("use", "a.use", "What is {a.isotope} used for?")
_NO_DATE = ("date", "a.date", "When was {a.sample} measured?")
_NO_SITE = ("site", "a.site", "Where was {a.sample} taken?")
_ACTIVITY = ("a.amount", "What is the activity of {a.sample}?")
_WHICH = ("a.isotope", "Which isotope is in {a.sample}?")
_ONE: dict[str, Mapping[str, str]] = {
    name: {"a": name}
    for name in ("nuclide", "used", "sample", "badge", "survey", "plant", "reactor", "event", "tissue")
}
_THREE = {"a": "sample", "b": "sample", "c": "sample"}
_ISOTOPES = ("isotopes", "the isotopes", ("a.isotope", "b.isotope", "c.isotope"), "set")


def _short(name: str, split: Split, scene: str, text: str, fields: Mapping[str, Any], **more: Any) -> Template:
    return Template(name, split, "short", _ONE[scene], text, fields, **more)


SHORT = (
    _short(
        *("nuclide-has", "train", "nuclide", "{a.isotope} has a half-life of {a.half_life} {a.unit}.", _NUCLIDE),
        asks=(_HALF_LIFE,), lacks=(_NO_DECAY, _NO_USE),
    ),
    _short(
        *("nuclide-decays", "train", "nuclide"),
        *("With a half-life of {a.half_life} {a.unit}, {a.isotope} decays by {a.decay}.",),
        _NUCLIDE | {"decay": "a.decay"},
        asks=(_HALF_LIFE, _DECAY), lacks=(_NO_USE,),
    ),
    _short(
        *("nuclide-use", "train", "used"),
        *("{a.isotope} (half-life {a.half_life} {a.unit}) serves for {a.use}.", _NUCLIDE | {"use": "a.use"}),
        asks=(_HALF_LIFE, ("a.use", "What does {a.isotope} serve for?")), lacks=(_NO_DECAY,),
    ),
    _short(
        *("sample-holds", "train", "sample", "Sample {a.sample} holds {a.activity} {a.unit} of {a.isotope}.", _SAMPLE),
        asks=(_ACTIVITY, _WHICH), lacks=(_NO_DATE, _NO_SITE),
    ),
    _short(
        *("sample-found", "train", "sample"),
        *("On {a.date} we found {a.activity} {a.unit} of {a.isotope} in {a.sample}.", _SAMPLE | {"date": "a.date"}),
        asks=(_ACTIVITY, _WHICH, ("a.date", "When was {a.sample} measured?")), lacks=(_NO_SITE,),
    ),
    _short(
        *("sample-site", "train", "sample"),
        *("{a.site}, sample {a.sample}: {a.isotope}, {a.activity} {a.unit}.", {"site": "a.site"} | _SAMPLE),
        asks=(_ACTIVITY, ("a.site", "Where was {a.sample} taken?")), lacks=(_NO_DATE,),
    ),
    _short(
        *("badge-read", "train", "badge", "Badge {a.badge} read {a.dose} {a.unit} on {a.date}.", _BADGE),
        asks=(("a.amount", "What dose did {a.badge} read?"), ("a.date", "When was {a.badge} read?")),
        lacks=(("site", "a.site", "Where was {a.badge} worn?"),),
    ),
    _short(
        *("survey-rate", "train", "survey", "The dose rate at {a.site} is {a.rate} {a.unit}.", _SURVEY),
        asks=(("a.amount", "What is the dose rate at {a.site}?"),),
        lacks=(("distance", "a.distance", "At what distance in metres was it measured?"),),
    ),
    _short(
        *("survey-away", "train", "survey"),
        *("At {a.distance} m from the wall of {a.site} the {a.detector} shows {a.rate} {a.unit}.",),
        {"site": "a.site", "detector": "a.detector", "distance_m": "a.distance", "rate": "a.rate", "unit": "a.unit"},
        asks=(("a.amount", "What is the dose rate at {a.site}?"), ("a.detector", "Which instrument was used?")),
    ),
    _short(
        *("reactor-type", "train", "reactor", "The {a.type} is cooled by {a.coolant} and moderated by {a.moderator}."),
        {"type": "a.type", "coolant": "a.coolant", "moderator": "a.moderator"},
        asks=(("a.coolant", "What cools the {a.type}?"), ("a.moderator", "What moderates the {a.type}?")),
    ),
    _short(
        *("plant-power", "train", "plant", "{a.plant} is a {a.type} of {a.power} MWe."),
        {"plant": "a.plant", "type": "a.type", "power_mwe": "a.power"},
        asks=(("a.electric", "What is the electric power of {a.plant}?"), ("a.type", "Of what type is {a.plant}?")),
        lacks=(("coolant", "a.coolant", "What cools {a.plant}?"),),
    ),
    _short(
        *("event-dated", "train", "event", "Dated {a.date}: {a.event}."),
        {"event": "a.event", "date": "a.date"},
        asks=(("a.date", "When was {a.event}?"),),
    ),
    _short(
        *("tissue-weight", "train", "tissue", "ICRP 103 gives the {a.tissue} a weighting factor of {a.weight}."),
        {"tissue": "a.tissue", "weight": "a.weight"},
        asks=(("a.weight", "What is the weighting factor of the {a.tissue}?"),),
    ),
    Template(
        *("filter-holds", "train", "short", _THREE, "The filter holds {a.isotope}, {b.isotope} and {c.isotope}."),
        {"isotopes": ["a.isotope", "b.isotope", "c.isotope"]}, lists=_ISOTOPES,
        lacks=(("activity", "a.activity", "What is the activity of {a.isotope}?"),),
    ),
    _short(
        *("nuclide-halves", "val", "nuclide"),
        *("Every {a.half_life} {a.unit}, half of the {a.isotope} is gone.", _NUCLIDE),
        asks=(_HALF_LIFE,), lacks=(_NO_DECAY, _NO_USE),
    ),
    _short(
        *("sample-activity", "val", "sample"),
        *("The activity of {a.isotope} in {a.sample}, taken at {a.site}, is {a.activity} {a.unit}.", _SAMPLE),
        asks=(_ACTIVITY, _WHICH, ("a.site", "Where was {a.sample} taken?")), lacks=(_NO_DATE,),
    ),
    _short(
        *("badge-dose", "val", "badge", "A dose of {a.dose} {a.unit} was read from {a.badge} on {a.date}.", _BADGE),
        asks=(("a.amount", "What dose did {a.badge} read?"),), lacks=(("site", "a.site", "Where was {a.badge} worn?"),),
    ),
    _short(
        *("plant-with", "val", "plant", "With {a.power} MWe, {a.plant} is a {a.type}."),
        {"plant": "a.plant", "type": "a.type", "power_mwe": "a.power"},
        asks=(("a.electric", "What is the electric power of {a.plant}?"),),
        lacks=(("coolant", "a.coolant", "What cools {a.plant}?"),),
    ),
    _short(
        *("nuclide-needs", "test", "used"),
        *("{a.isotope}, used for {a.use}, needs {a.half_life} {a.unit} to lose half its activity.", _NUCLIDE),
        asks=(_HALF_LIFE,), lacks=(_NO_DECAY,),
    ),
    _short(
        *("sample-contained", "test", "sample"),
        *("{a.activity} {a.unit} of {a.isotope} were contained in {a.sample} on {a.date}.", _SAMPLE),
        asks=(_ACTIVITY, _WHICH), lacks=(_NO_SITE,),
    ),
    _short(
        *("badge-worn", "test", "badge", "Worn until {a.date}, badge {a.badge} shows {a.dose} {a.unit}.", _BADGE),
        asks=(("a.amount", "What dose does {a.badge} show?"),),
        lacks=(("site", "a.site", "Where was {a.badge} worn?"),),
    ),
    _short(
        *("survey-was", "test", "survey", "{a.rate} {a.unit} was the highest dose rate at {a.site}.", _SURVEY),
        asks=(("a.amount", "What was the highest dose rate at {a.site}?"),),
        lacks=(("distance", "a.distance", "At what distance in metres was it measured?"),),
    ),
    _short(
        *("reactor-uses", "test", "reactor", "In a {a.type}, {a.moderator} slows the neutrons and {a.coolant} cools."),
        {"type": "a.type", "coolant": "a.coolant", "moderator": "a.moderator"},
        asks=(("a.coolant", "What cools the {a.type}?"), ("a.moderator", "What slows the neutrons?")),
    ),
)  # fmt: skip
