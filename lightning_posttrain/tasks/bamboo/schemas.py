"""Tables for the Bamboo data: what they are called in which split, and seeded fillings of them.

A schema is two tables, events and the things they happen to, with columns in fixed roles; templates speak of roles
only. Fillings differ in what trips code up: the one a prompt shows is plain, the hidden ones have nulls, ties, rows
alike, groups without rows and keys without a partner. Everything is invented; left out are times and nested types.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

from ...sandbox import Table

Split = Literal["train", "val", "test"]
Flavour = Literal["plain", "nulls", "ties"]
FLAVOURS: tuple[Flavour, ...] = ("plain", "nulls", "ties")
"""The fillings of an item, in order; the first is the visible one."""

ROLES = {
    "id": "int64",
    "fk": "int64",
    "cat": "string",
    "num": "float64",
    "qty": "int64",
    "day": "date",
    "note": "string",
}
"""Columns of the table of events -> type: key, key of the thing, category, measure, count, date, remark."""


@dataclass(frozen=True)
class Schema:
    """Names of one pair of tables.

    Args:
        name: of the schema.
        t, d: table of events, table of things.
        id, fk, cat, num, qty, day, note: columns of the events, see `ROLES`.
        k, name_, grp: columns of the things: key, name, group.
        cats, names, grps, notes: the values that text columns take.
    """

    name: str
    t: str
    d: str
    id: str
    fk: str
    cat: str
    num: str
    qty: str
    day: str
    note: str
    k: str
    name_: str
    grp: str
    cats: tuple[str, ...]
    names: tuple[str, ...]
    grps: tuple[str, ...]
    notes: tuple[str, ...]

    def words(self) -> dict[str, str]:
        """Placeholder of a template -> name."""
        found = {key: value for key, value in vars(self).items() if isinstance(value, str)}
        return {**found, "name": self.name_}

    def columns(self, table: str) -> tuple[tuple[str, str], ...]:
        if table == self.t:
            return tuple((getattr(self, role), kind) for role, kind in ROLES.items())
        return ((self.k, "int64"), (self.name_, "string"), (self.grp, "string"))


def _schema(text: str) -> Schema:
    """Fields in order, separated by ``|``; the values of text columns by commas."""
    parts = [part.strip() for part in text.split("|")]
    values = [tuple(value.strip() for value in part.split(",")) for part in parts[13:]]
    return Schema(*parts[:13], *values)  # type: ignore[arg-type]


def _schemas(*texts: str) -> tuple[Schema, ...]:
    return tuple(map(_schema, texts))


SCHEMAS: dict[Split, tuple[Schema, ...]] = {
    "train": _schemas(
        """shop|sales|customers|sale_id|customer_id|product|price|units|sold_on|remark|customer_id|customer|region|
        tea,coffee,cocoa,juice|Ann Lee,Bo Chan,Cy Roth,Di Marsh,Ed Voss,Fay Quinn|north,south,west|
        gift,web order,late""",
        """clinic|visits|patients|visit_id|patient|ward|cost|nights|admitted|comment|patient_no|full_name|town|
        surgery,eyes,heart,lungs|Ida Blum,Jon Park,Kim Oduya,Leo Stern,Mia Falk,Ned Ruiz|Aldin,Brock,Corby|
        follow up,urgent,referred""",
        """library|loans|members|loan_id|member_id|genre|fee|renewals|lent_on|condition|member_id|member|branch|
        crime,poetry,travel,history|Olga Pym,Pat Dunn,Quy Tran,Ria Sood,Sam Weir,Tia Holt|centre,harbour,hill|
        torn page,as new,water mark""",
        """farm|harvests|fields|harvest_id|field_no|crop|tonnes|workers|cut_on|weather|field_no|field|owner|
        barley,oats,rye,maize|Long Acre,Mill Piece,Far Top,Low Moor,Church End,Six Oaks|Hale,Ibsen,Jory|
        dry spell,heavy rain,fog""",
        """transport|trips|drivers|trip_id|driver|vehicle|km|stops|driven_on|log|driver_id|driver_name|depot|
        van,bus,truck,tram|Abe Noor,Bea Lund,Cal Fox,Dot Kerr,Eli Moss,Flo Tait|east,dock,mill|
        traffic jam,detour,on time""",
        """school|exams|students|exam_id|student_id|subject|score|attempts|taken_on|feedback|student_id|student|class|
        maths,music,latin,biology|Gil Hart,Hana Ito,Ivo Kral,Jill Shaw,Ken Obi,Lise Dahl|9a,9b,10a|
        well done,see me,needs care""",
        """energy|readings|meters|reading_id|meter|tariff|kwh|peaks|read_on|status_note|meter_no|site|district|
        day,night,solar,weekend|Ash House,Birch Yard,Cedar Row,Dale Works,Elm Court,Fir Lodge|upper,lower,outer|
        estimated,read by post,replaced""",
        """museum|entries|exhibits|entry_id|exhibit|ticket|paid|guests|entered_on|language|exhibit_id|title|hall|
        adult,child,senior,school|Red Vase,Iron Mask,Tall Clock,Blue Boat,Clay Horse,Gold Coin|one,two,three|
        english,old norse,french""",
    ),
    "val": _schemas(
        """hotel|stays|rooms|stay_id|room|board|bill|persons|arrived|wish|room_no|room_name|floor|
        full,half,bed only,none|Rose,Lily,Iris,Daisy,Tulip,Aster|ground,first,attic|quiet room,late exit,extra bed""",
        """bakery|batches|ovens|batch_id|oven_id|bread|kilos|trays|baked_on|baker_note|oven_id|oven|shift|
        rolls,sourdough,pretzel,baguette|Old Tom,Big Ben,Dora,Ella,Frida,Greta|early,late,holiday|
        too dark,well risen,sold out""",
    ),
    "test": _schemas(
        """gym|sessions|trainers|session_id|trainer_id|sport|minutes|people|held_on|summary|trainer_id|trainer|studio|
        yoga,boxing,rowing,spin|Max Orr,Nia Cole,Oz Penn,Pia Roy,Raj Sen,Sue Todd|loft,court,pool|
        full class,new faces,cut short""",
        """harbour|cargoes|ships|cargo_id|ship|goods|weight|crates|landed_on|customs|ship_no|ship_name|flag|
        timber,grain,salt,copper|Alba,Boreas,Corona,Delphi,Europa,Fortuna|Malta,Panama,Norway|
        sealed,checked twice,duty paid""",
        """astronomy|shots|telescopes|shot_id|scope|target|exposure|frames|taken_on|quality|scope_id|scope_name|ridge|
        moon,comet,galaxy,nebula|Alpha Eye,Beta Eye,Gamma Eye,Delta Eye,Zeta Eye,Theta Eye|summit,saddle,valley|
        thin cloud,clear sky,wind shake""",
    ),
}

NUMBERS = tuple(quarter / 2 for quarter in range(3, 60))
"""Values of the measure: halves, whose sums are exact."""
FEW_NUMBERS = (2.5, 4.0, 6.5, 9.0, 12.5, 20.0)
DAYS = tuple(f"{year}-{month:02d}-{day:02d}" for year in (2023, 2024) for month in (1, 2, 3, 11) for day in (2, 9, 28))


def fill(schema: Schema, flavour: Flavour, rng: random.Random) -> tuple[Table, ...]:
    """Both tables of a schema with rows."""
    events = {"plain": 9, "nulls": 10, "ties": 10}[flavour]
    things = _things(schema, rng, {"plain": 4, "nulls": 5, "ties": 6}[flavour], flavour)
    keys: list[Any] = [row[0] for row in things]
    used = keys[:-1] if flavour == "plain" else keys[:-2]  # the others have no events
    if flavour == "ties":
        used = [*used, 99]  # a key without a partner
    cats = schema.cats[:3] if flavour == "ties" else schema.cats
    numbers = FEW_NUMBERS[:4] if flavour == "ties" else NUMBERS if flavour == "plain" else FEW_NUMBERS
    rows = []
    for number in rng.sample(range(1, 40), events):
        row = [
            number,
            rng.choice(used),
            rng.choice(cats),
            rng.choice(numbers),
            rng.randint(1, 3 if flavour == "ties" else 9),
            rng.choice(DAYS[6:14] if flavour == "ties" else DAYS),
            rng.choice(schema.notes) if rng.random() < 0.7 else None,
        ]
        rows.append(row)
    if flavour == "nulls":
        for column, chance in ((1, 0.15), (2, 0.2), (3, 0.25), (4, 0.25)):
            for row in rows:
                row[column] = None if rng.random() < chance else row[column]
    if flavour != "plain":
        first, second = rng.sample(rows, 2)
        second[1:] = first[1:]  # alike but for their keys
    return (
        Table(schema.t, schema.columns(schema.t), tuple(map(tuple, rows))),
        Table(schema.d, schema.columns(schema.d), tuple(map(tuple, things))),
    )


def _things(schema: Schema, rng: random.Random, count: int, flavour: Flavour) -> list[list[Any]]:
    names = rng.sample(schema.names, count)
    keys = sorted(rng.sample(range(1, 12), count))
    things: list[list[Any]] = [[key, name, rng.choice(schema.grps)] for key, name in zip(keys, names, strict=True)]
    if flavour == "nulls":
        things[1][2] = None
    if flavour == "ties":
        things[2][1] = things[1][1]  # two things of one name
    return things
