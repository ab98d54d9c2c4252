"""The long passages of the INIS data: reports of several paragraphs' worth of things, most of which nobody asks for.

As in texts, whose short passages come first in a curriculum. Quantities are objects ``{value, unit}`` here, and a
field may be null because the document does not tell it.
"""

from __future__ import annotations

from .texts import SHORT, Template

_SAMPLES = {"a": "sample", "b": "sample", "c": "sample"}
_TABLE = (
    "samples",
    "the samples with their isotopes and activities",
    tuple({"sample": f"{x}.sample", "isotope": f"{x}.isotope", "activity": f"{x}.amount"} for x in "abc"),
    "key:sample",
)
_TWO = {"a": "nuclide", "b": "nuclide"}
_LIVES = (
    "nuclides",
    "the nuclides with their half-lives",
    tuple({"isotope": f"{x}.isotope", "half_life": f"{x}.life"} for x in "ab"),
    "key:isotope",
)

LONG = (
    Template(
        *("campaign", "train", "long", _SAMPLES),
        "A sampling campaign was carried out at {a.site} on {a.spoken}. Three samples were taken along the shore, "
        "dried at 105 °C and counted with a {a.detector} for one hour each. In {a.sample} the activity of "
        "{a.isotope} was {a.activity} {a.unit}. {b.sample}, taken 200 m to the north, held {b.activity} {b.unit} of "
        "{b.isotope}, and {c.sample} held {c.activity} {c.unit} of {c.isotope}. Background was subtracted. None of "
        "the results calls for action, but the shore will be visited again within a year.",
        {"site": "a.site", "date": "a.spoken", "sample": "a.sample", "isotope": "a.isotope", "activity": "a.amount"},
        asks=(
            ("a.amount", "What is the activity of {a.sample}?"),
            ("c.isotope", "Which isotope was found in {c.sample}?"),
            ("a.spoken", "On what day was the campaign?"),
        ),
        lacks=(
            ("operator", "b.site", "Who led the campaign?"),
            ("depth_m", "b.activity", "How deep were the samples?"),
        ),
        lists=_TABLE,
    ),
    Template(
        *("two-nuclides", "train", "long", {"a": "used", "b": "nuclide"}),
        "The store keeps sealed sources of two nuclides. The first is {a.isotope}, which decays by {a.decay} with a "
        "half-life of {a.half_life} {a.unit}; it was bought for {a.use}. The second is {b.isotope}, with a "
        "half-life of {b.half_life} {b.unit}. Both are checked for leaks twice a year, because a wipe test costs "
        "little and a leak costs much. Sources that are no longer needed go back to the maker. The keys of the "
        "store are held by the radiation protection officer, and nobody enters it alone.",
        {"isotope": "a.isotope", "half_life": "a.life", "decay": "a.decay", "use": "a.use"},
        asks=(
            ("a.life", "What is the half-life of {a.isotope}?"),
            ("b.life", "What is the half-life of {b.isotope}?"),
            ("a.decay", "How does {a.isotope} decay?"),
        ),
        lacks=(("decay_of_second", "b.decay", "How does {b.isotope} decay?"),),
        lists=_LIVES,
    ),
    Template(
        *("plant-report", "train", "long", {"a": "plant", "b": "survey"}),
        "{a.plant} is a plant with one {a.type}. Its thermal power is {a.thermal}, of which {a.electric} reach the "
        "grid. Fuel is unloaded at an average burnup of {a.burnup} and cooled under water for at least five years. "
        "During the last outage the dose rate was surveyed with a {b.detector}: {b.distance} m from the hatch it "
        "was {b.rate} {b.unit}, well below the value that the plan had assumed. The work was finished two days "
        "early, and no contamination was found on clothing.",
        {"plant": "a.plant", "type": "a.type", "thermal_power": "a.thermal", "electric_power": "a.electric",
         "survey": {"detector": "b.detector", "distance": "b.away", "dose_rate": "b.amount"}},
        asks=(
            ("a.thermal", "What is the thermal power of {a.plant}?"),
            ("a.burnup", "What is the average burnup of the fuel?"),
            ("b.amount", "What dose rate was found near the hatch?"),
        ),
        lacks=(("coolant", "a.coolant", "What cools {a.plant}?"), ("site", "b.site", "In which town is {a.plant}?")),
    ),
    Template(
        *("dosimetry", "train", "long", {"a": "badge", "b": "badge", "c": "tissue"}),
        "Doses of the staff at {a.site} are read from badges. On {a.spoken} badge {a.badge} showed {a.dose} "
        "{a.unit} and badge {b.badge} showed {b.dose} {b.unit}. Both values are far below the limit of 20 mSv per "
        "year, averaged over five years, for people who work with radiation. To compare a dose to one organ with a "
        "dose to the whole body, it is multiplied by a tissue weighting factor, which for the {c.tissue} is "
        "{c.weight}. The next reading is due in a month.",
        {"site": "a.site", "date": "a.spoken", "badge": "b.badge", "dose": "b.amount",
         "tissue": {"name": "c.tissue", "weight": "c.weight"}},
        asks=(
            ("a.amount", "What dose did badge {a.badge} show?"),
            ("c.weight", "What is the tissue weighting factor of the {c.tissue}?"),
        ),
        lacks=(("training_date", "b.date", "When was the staff trained?"),),
        lists=("badges", "the badges with their doses",
               tuple({"badge": f"{x}.badge", "dose": f"{x}.amount"} for x in "ab"), "key:badge"),
    ),
    Template(
        *("history", "train", "long", {"a": "event", "b": "event"}),
        "A short chronicle of nuclear energy names, among many others, two dates. One is {a.spoken}, the day of "
        "{a.event} ({a.place}). The other is {b.spoken}, the day of {b.event}. What had been learnt on such days "
        "was written into rules for design, for training and for emergencies, and later chronicles are shorter "
        "because of it. The authors add that dates alone explain little, and that archives are open to whoever "
        "wants to know more.",
        {"event": "a.event", "date": "a.spoken", "place": "a.place"},
        asks=(("a.spoken", "On what day was {a.event}?"), ("b.spoken", "On what day was {b.event}?")),
    ),
    Template(
        *("inspection", "val", "long", _SAMPLES),
        "The inspectors came to {a.site} on {a.spoken} and left with three swipes. The laboratory reports "
        "{a.isotope} on {a.sample} ({a.activity} {a.unit}), {b.isotope} on {b.sample} ({b.activity} {b.unit}) and "
        "{c.isotope} on {c.sample} ({c.activity} {c.unit}). All three were counted overnight on a {a.detector}. The "
        "inspectors see no contradiction with the inventory that had been declared, and thank the staff for their "
        "help.",
        {"site": "a.site", "date": "a.spoken", "sample": "b.sample", "isotope": "b.isotope", "activity": "b.amount"},
        asks=(
            ("b.amount", "What is the activity of {b.sample}?"),
            ("a.isotope", "Which isotope was found on {a.sample}?"),
        ),
        lacks=(("operator", "b.site", "Who led the inspection?"),),
        lists=_TABLE,
    ),
    Template(
        *("generator", "val", "long", _TWO),
        "For the course, two nuclides are compared. {a.isotope} has lost half of its atoms after {a.half_life} "
        "{a.unit}, {b.isotope} after {b.half_life} {b.unit}. Students plot both decays on paper with a logarithmic "
        "scale, where each becomes a straight line, and read the slopes. In the discussion they learn that "
        "{a.isotope} decays by {a.decay}, and that the chemical form of a nuclide hardly changes its half-life.",
        {"isotope": "b.isotope", "half_life": "b.life"},
        asks=(("a.life", "What is the half-life of {a.isotope}?"), ("a.decay", "How does {a.isotope} decay?")),
        lacks=(("decay_of_second", "b.decay", "How does {b.isotope} decay?"),),
        lists=_LIVES,
    ),
    Template(
        *("river", "test", "long", _SAMPLES),
        "Sediment from the river below {a.site} was dredged in three places. The uppermost core, {a.sample}, "
        "contained {a.isotope} at {a.activity} {a.unit}; further down, {b.sample} contained {b.isotope} at "
        "{b.activity} {b.unit}, and close to the weir {c.sample} contained {c.isotope} at {c.activity} {c.unit}. "
        "The cores had been frozen on {a.spoken} and were sliced, ground and measured on a {a.detector} in the "
        "following week. No trend with depth was seen. The river authority will dredge again when the water is low.",
        {"site": "a.site", "date": "a.spoken", "sample": "c.sample", "isotope": "c.isotope", "activity": "c.amount"},
        asks=(
            ("b.amount", "What is the activity of {b.sample}?"),
            ("c.isotope", "Which isotope was found in {c.sample}?"),
            ("a.spoken", "On what day were the cores frozen?"),
        ),
        lacks=(("operator", "b.site", "Who dredged the river?"), ("depth_m", "b.activity", "How long were the cores?")),
        lists=_TABLE,
    ),
    Template(
        *("waste", "test", "long", _TWO),
        "In the waste package, two nuclides decide how long it must be watched. The short-lived one and the "
        "long-lived one are not always the ones people expect: here they are {a.isotope}, whose half-life is "
        "{a.half_life} {a.unit}, and {b.isotope}, whose half-life is {b.half_life} {b.unit}. After ten half-lives "
        "about a thousandth of a nuclide is left. The package is weighed, labelled and photographed before it goes "
        "into the vault, and its papers are kept in two places.",
        {"isotope": "a.isotope", "half_life": "a.life"},
        asks=(
            ("a.life", "What is the half-life of {a.isotope}?"),
            ("b.life", "What is the half-life of {b.isotope}?"),
        ),
        lacks=(("decay", "a.decay", "How does {a.isotope} decay?"),),
        lists=_LIVES,
    ),
    Template(
        *("uprate", "test", "long", {"a": "plant", "b": "survey"}),
        "After new turbines had been fitted, {a.plant} was allowed to deliver {a.electric}. The {a.type} behind "
        "them still makes {a.thermal} of heat, since nothing was changed in the core; the gain comes from better "
        "blades alone. Fuel leaves the core at {a.burnup}. A survey in the turbine hall, made with a {b.detector} "
        "{b.distance} m from the casing, gave {b.rate} {b.unit}. The regulator has published the papers, and no "
        "objection was received.",
        {"plant": "a.plant", "type": "a.type", "thermal_power": "a.thermal", "electric_power": "a.electric",
         "survey": {"detector": "b.detector", "distance": "b.away", "dose_rate": "b.amount"}},
        asks=(
            ("a.electric", "What electric power may {a.plant} deliver?"),
            ("a.burnup", "At what burnup does fuel leave the core?"),
        ),
        lacks=(("coolant", "a.coolant", "What cools {a.plant}?"),),
    ),
)  # fmt: skip

TEMPLATES = (*SHORT, *LONG)
