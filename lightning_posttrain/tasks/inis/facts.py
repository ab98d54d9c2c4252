"""The facts that the INIS data is made of: nuclides, reactor types, events, tissues; and invented names for the rest.

Half-lives, main decay modes, coolants, dates and ICRP 103 tissue weighting factors are textbook values, rounded as
textbooks round them. Sites, plants, samples and measurements are invented. Every fact and every invented name belongs
to one split, so that what is evaluated is never trained on. Left out: whatever tables disagree on by more than their
last digit.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

Split = Literal["train", "val", "test"]


class Nuclide(NamedTuple):
    """Isotope, half-life as it is written, its unit, main decay mode, and a use (None: none is told)."""

    isotope: str
    half_life: str
    unit: str
    decay: str
    use: str | None


_B, _P, _A, _E = "beta minus", "beta plus", "alpha", "electron capture"

NUCLIDES = (
    Nuclide("H-3", "12.32", "years", _B, "tracing water"),
    Nuclide("Be-7", "53.2", "days", _E, "tracing soil erosion"),
    Nuclide("C-11", "20.4", "minutes", _P, "brain imaging"),
    Nuclide("C-14", "5,730", "years", _B, "dating wood"),
    Nuclide("N-13", "9.97", "minutes", _P, "heart imaging"),
    Nuclide("O-15", "122", "seconds", _P, "measuring blood flow"),
    Nuclide("N-16", "7.13", "seconds", _B, None),
    Nuclide("F-18", "109.8", "minutes", _P, "tumour imaging"),
    Nuclide("Na-22", "2.60", "years", _P, "calibrating detectors"),
    Nuclide("Na-24", "15.0", "hours", _B, "finding leaks in pipes"),
    Nuclide("P-32", "14.3", "days", _B, "labelling nucleic acids"),
    Nuclide("S-35", "87.4", "days", _B, "labelling proteins"),
    Nuclide("Ar-41", "109.6", "minutes", _B, None),
    Nuclide("Cr-51", "27.7", "days", _E, "labelling red blood cells"),
    Nuclide("Mn-54", "312", "days", _E, "calibrating detectors"),
    Nuclide("Fe-55", "2.74", "years", _E, "fluorescence analysis"),
    Nuclide("Fe-59", "44.5", "days", _B, "studying iron metabolism"),
    Nuclide("Co-57", "272", "days", _E, "calibrating gamma cameras"),
    Nuclide("Co-60", "5.27", "years", _B, "sterilising syringes"),
    Nuclide("Ga-67", "3.26", "days", _E, "imaging inflammation"),
    Nuclide("Ga-68", "67.7", "minutes", _P, "tumour imaging"),
    Nuclide("Se-75", "119.8", "days", _E, "radiography of welds"),
    Nuclide("Kr-85", "10.76", "years", _B, "testing seals"),
    Nuclide("Sr-89", "50.6", "days", _B, "relieving bone pain"),
    Nuclide("Sr-90", "28.8", "years", _B, "thermoelectric generators"),
    Nuclide("Y-90", "64.1", "hours", _B, "treating liver tumours"),
    Nuclide("Zr-95", "64.0", "days", _B, None),
    Nuclide("Nb-95", "35.0", "days", _B, None),
    Nuclide("Mo-99", "2.75", "days", _B, "technetium generators"),
    Nuclide("Tc-99m", "6.01", "hours", "isomeric transition", "bone scans"),
    Nuclide("Tc-99", "2.11×10^5", "years", _B, None),
    Nuclide("Ru-106", "372", "days", _B, "treating eye tumours"),
    Nuclide("In-111", "2.80", "days", _E, "labelling white blood cells"),
    Nuclide("Sb-124", "60.2", "days", _B, "neutron sources"),
    Nuclide("Sb-125", "2.76", "years", _B, None),
    Nuclide("I-123", "13.2", "hours", _E, "thyroid imaging"),
    Nuclide("I-125", "59.4", "days", _E, "prostate implants"),
    Nuclide("I-131", "8.02", "days", _B, "treating the thyroid"),
    Nuclide("Xe-133", "5.25", "days", _B, "lung studies"),
    Nuclide("Xe-135", "9.14", "hours", _B, None),
    Nuclide("Cs-134", "2.06", "years", _B, None),
    Nuclide("Cs-137", "30.1", "years", _B, "calibrating survey meters"),
    Nuclide("Ba-133", "10.5", "years", _E, "calibrating detectors"),
    Nuclide("Ba-140", "12.75", "days", _B, None),
    Nuclide("La-140", "1.68", "days", _B, None),
    Nuclide("Ce-144", "285", "days", _B, None),
    Nuclide("Pm-147", "2.62", "years", _B, "thickness gauges"),
    Nuclide("Sm-153", "46.3", "hours", _B, "relieving bone pain"),
    Nuclide("Ho-166", "26.8", "hours", _B, "treating liver tumours"),
    Nuclide("Lu-177", "6.65", "days", _B, "treating tumours"),
    Nuclide("Re-188", "17.0", "hours", _B, "treating skin cancer"),
    Nuclide("Ir-192", "73.8", "days", _B, "radiography of welds"),
    Nuclide("Au-198", "2.69", "days", _B, "tracing sediments"),
    Nuclide("Tl-201", "3.04", "days", _E, "heart imaging"),
    Nuclide("Tl-204", "3.78", "years", _B, "thickness gauges"),
    Nuclide("Pb-210", "22.2", "years", _B, "dating sediments"),
    Nuclide("Po-210", "138.4", "days", _A, "static eliminators"),
    Nuclide("Rn-222", "3.82", "days", _A, "tracing groundwater"),
    Nuclide("Ra-223", "11.4", "days", _A, "treating bone metastases"),
    Nuclide("Ra-226", "1,600", "years", _A, None),
    Nuclide("Th-232", "1.40×10^10", "years", _A, None),
    Nuclide("U-234", "2.455×10^5", "years", _A, None),
    Nuclide("U-235", "7.04×10^8", "years", _A, "reactor fuel"),
    Nuclide("U-238", "4.468×10^9", "years", _A, "radiation shields"),
    Nuclide("Np-237", "2.144×10^6", "years", _A, None),
    Nuclide("Np-239", "2.36", "days", _B, None),
    Nuclide("Pu-238", "87.7", "years", _A, "power sources in space"),
    Nuclide("Pu-239", "24,110", "years", _A, "reactor fuel"),
    Nuclide("Pu-241", "14.3", "years", _B, None),
    Nuclide("Am-241", "432", "years", _A, "smoke detectors"),
    Nuclide("Cm-244", "18.1", "years", _A, None),
    Nuclide("Cf-252", "2.65", "years", _A, "neutron sources"),
)

_VAL = frozenset(("C-14", "Cr-51", "Sr-89", "Xe-135", "I-123", "Ba-140", "Tl-201", "U-234", "Cm-244"))
_TEST_TEXT = "Na-24 Fe-59 Ga-67 Kr-85 Y-90 In-111 Xe-133 Pm-147 Lu-177 Po-210 Ra-226 U-238 Np-239 Pu-241"
_TEST = frozenset(_TEST_TEXT.split())


class Reactor(NamedTuple):
    """A type of power reactor; the ranges are of what such plants have: MWe, efficiency in %, burnup in GWd/t."""

    type: str
    coolant: str
    moderator: str | None
    power: tuple[int, int]
    efficiency: tuple[int, int]
    burnup: tuple[int, int]


_WATER, _GRAPHITE = "light water", "graphite"
REACTORS = {  # the moderator is None where neutrons stay fast
    "train": (
        Reactor("PWR", _WATER, _WATER, (600, 1600), (32, 36), (33, 58)),
        Reactor("RBMK", _WATER, _GRAPHITE, (925, 1000), (30, 33), (18, 26)),
        Reactor("AGR", "carbon dioxide", _GRAPHITE, (550, 680), (38, 42), (18, 34)),
        Reactor("SFR", "sodium", None, (250, 1200), (37, 42), (60, 110)),
        Reactor("HTGR", "helium", _GRAPHITE, (200, 330), (38, 42), (80, 120)),
    ),
    "val": (
        Reactor("BWR", _WATER, _WATER, (600, 1400), (31, 35), (30, 50)),
        Reactor("LFR", "lead", None, (100, 300), (38, 42), (50, 90)),
    ),
    "test": (
        Reactor("CANDU", "heavy water", "heavy water", (500, 900), (28, 32), (6, 9)),
        Reactor("Magnox", "carbon dioxide", _GRAPHITE, (200, 490), (22, 30), (3, 7)),
    ),
}
EVENTS = {  # what happened, day, where
    "train": (
        ("the first criticality of CP-1", "1942-12-02", "Chicago"),
        ("the first electricity from EBR-I", "1951-12-20", "Idaho"),
        ("the opening of Calder Hall", "1956-10-17", "Cumberland"),
        ("the accident at Three Mile Island", "1979-03-28", "Pennsylvania"),
        ("the accident at Fukushima Daiichi", "2011-03-11", "Japan"),
        ("the Windscale fire", "1957-10-10", "Cumberland"),
        ("the Trinity test", "1945-07-16", "New Mexico"),
    ),
    "val": (
        ("the first grid power from Obninsk", "1954-06-27", "Russia"),
        ("the signing of the Euratom treaty", "1957-03-25", "Rome"),
    ),
    "test": (
        ("the accident at Chernobyl", "1986-04-26", "Ukraine"),
        ("the first criticality of Shippingport", "1957-12-02", "Pennsylvania"),
    ),
}
TISSUES = {  # ICRP Publication 103
    "train": (
        *(("lung", "0.12"), ("stomach", "0.12"), ("colon", "0.12"), ("breast", "0.12"), ("liver", "0.04")),
        *(("bladder", "0.04"), ("skin", "0.01"), ("brain", "0.01")),
    ),
    "val": (("gonads", "0.08"), ("salivary glands", "0.01")),
    "test": (("thyroid", "0.04"), ("red bone marrow", "0.12"), ("oesophagus", "0.04"), ("bone surface", "0.01")),
}

SITES = {
    "train": ("Harrow Lake", "Kestrel Bay", "Norwood", "Ostend Mill", "Tarn Hill", "Velda", "Quarry End", "Birkdale"),
    "val": ("Lindow Fen", "Marsh Gate", "Osprey Cove"),
    "test": ("Alder Ridge", "Copper Weir", "Heron Dam", "Saltby"),
}
PLANTS = {
    "train": ("Arden", "Belmore", "Corvane", "Dunmere", "Eskdale", "Fenwick", "Galloway Point", "Ivory Cape"),
    "val": ("Jarrow Sound", "Kilder"),
    "test": ("Lomond Head", "Merrow", "Northolme"),
}
DETECTORS = {
    "train": ("NaI detector", "ion chamber", "Geiger counter", "liquid scintillator"),
    "val": ("HPGe detector", "proportional counter"),
    "test": ("plastic scintillator", "CZT detector"),
}
CODES = {"train": ("KX", "QM", "RV", "TL", "WD", "ZP"), "val": ("GF", "HJ"), "test": ("BX", "LN", "VY")}
"""Letters of sample and badge labels; none is an element's symbol."""


def nuclides(split: Split, simple: bool = False) -> list[Nuclide]:
    """The nuclides of a split; ``simple``: without those whose half-life is written with a power of ten."""
    return [n for n in NUCLIDES if owner_of_isotope(n.isotope) == split and not (simple and "×" in n.half_life)]


def owner_of_isotope(isotope: str) -> Split:
    """The split that may show an isotope."""
    return "val" if isotope in _VAL else "test" if isotope in _TEST else "train"


def owner_of_number(text: str) -> Split:
    """The split that may show an invented number: decided by its hash, so without knowing the other splits."""
    byte = hashlib.sha256(text.encode()).digest()[0]
    return "val" if byte < 32 else "test" if byte < 84 else "train"
