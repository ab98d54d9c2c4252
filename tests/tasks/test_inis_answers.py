"""Numbers that INIS questions ask for, as models give them: right ones in any spelling, wrong ones in all."""

from typing import Any

import pytest
from answer_tables import answers

from lightning_posttrain.tasks.inis import Inis
from lightning_posttrain.types import Completion

TASK = Inis()

POWER = (
    "The reactor at Lindow operates at a thermal power of 3,400 MWt and delivers 1,130 MWe to the grid.",
    "What is the thermal power of the reactor?",
    "a number in MWt",
    "3400",
)
ACTIVITY = ("Sample KK-1 holds 8.2 kBq of Co-60; KK-2 holds 5 kBq.", "What is the activity of KK-1?", "kBq", "8.2")
TIME = ("The vault must isolate its waste for 1,000 years.", "How long must the vault isolate waste?", "years", "1000")
LENGTH = ("The fuel pellet has a diameter of 8.19 mm.", "What is the diameter of the pellet?", "millimeters", "8.19")
HEIGHT = ("The pool is 165 cm deep and 4 m wide.", "How deep is the pool?", "centimeters", "165")
SHARE = ("The recovery system operates with 99.5% efficiency.", "What is the efficiency?", None, "99.5")
PRESSURE = ("The pressuriser holds 17.2 MPa at 345 °C.", "What is the pressure?", "MPa", "17.2")
RATE = ("At 40 m from the wall the detector shows 2.8 mSv/hr.", "What is the dose rate?", "mSv/hr", "2.8")
WASTE = ("About 850 tonnes of intermediate-level waste will be generated.", "How much waste will arise?", None, "850")
COLD = ("The loop was cooled to -5 °C overnight.", "To what temperature was the loop cooled?", "°C", "-5")
FLUX = ("The flux reaches 5.2×10^14 n/cm2/s in the core.", "What is the flux?", "n/cm2/s", "5.2e14")
COUNT = ("The survey took 3 samples of 12 kBq each.", "How many samples were taken?", None, "3")
MASS = ("The flask weighs 2.5 kg when empty.", "What does the flask weigh?", "kilograms", "2.5")

TABLE = [
    (
        POWER,
        answers(
            r"""
            3400 ¦ 3,400 ¦ 3 400 ¦ 3.4e3 ¦ 3400 MWt ¦ 3,400 MWt ¦ 3400MWt ¦ **3,400 MWt** ¦ `3400 MWt` ¦ 3.4 GWt ¦
            3,400,000 kWt ¦ 3400 MW(t) ¦ 3400 MWth ¦ 3400 MW thermal ¦ 3,400 megawatts thermal ¦ $3400\,\text{MWt}$ ¦
            \boxed{3400} ¦ \(3{,}400\) MWt ¦ 3400 MW ¦ 3400 megawatts ¦ 3.4 GW ¦
            The reactor operates at a thermal power of 3,400 MWt. ¦ Answer: 3400 ¦ The answer is **3,400 MWt**. ¦
            According to the passage, the thermal output is 3,400 MWt. ¦ 3,400 MWt<|im_end|> ¦ 3,400 MWt (3.4 GWt) ¦
            3.4 × 10^3 MWt ¦ 3.4 thousand MWt
            """,
            "<think>1,130 MWe is electric.</think>\n3400",
        ),
        answers(
            """
            1130 ¦ 1,130 MWe ¦ 3400 MWe ¦ 3400 kWt ¦ 3400 GWt ¦ 3.4 MWt ¦ 34000 ¦ 340 ¦ -3400 MWt ¦ 3400 or 1130 ¦
            3,400 MWt, 1,130 MWe ¦ between 3,400 and 3,500 MWt ¦ 3400-3500 MWt ¦ not 3400 MWt ¦ more than 3400 MWt ¦
            3400 kg ¦ 3400 °C ¦ [3400, 1130] ¦ <think>3400 ¦ I don't think it is 3400 ¦
            Thermal power 3,400 MWt; electric power 1,130 MWe ¦ maybe 3400 MWt ¦ 3400 MWt? ¦
            It is either 3400 MWt or another value ¦ half of 3400 MWt ¦ {"power": 3400} ¦ 3400 bananas ¦ not stated
            """,
            "",
        ),
    ),
    (
        ACTIVITY,
        answers(
            """
            8.2 ¦ 8.20 ¦ 8.2 kBq ¦ 8.20 kBq ¦ 8200 Bq ¦ 8,200 Bq ¦ 0.0082 MBq ¦ 8.2 kilobecquerels ¦
            8.2 kBq of Co-60 ¦ 8.2 kBq of cobalt-60 ¦ 8.2 × 10³ Bq ¦ 8.2 kBq ¦ 8.2 kBq. ¦ Sample KK-1 holds 8.2 kBq. ¦
            KK-1 has an activity of 8.2 kBq of Co-60. ¦ The measured activity comes to roughly 8.2 kBq
            """,
        ),
        answers(
            """
            5 ¦ 5 kBq ¦ 8.2 Bq ¦ 8.2 MBq ¦ 8.2 mBq ¦ 8200 kBq ¦ 8.3 kBq ¦ 82 kBq ¦ 8.2 kBq of Cs-137 ¦
            KK-2 holds 8.2 kBq ¦ 8.2 kBq and 5 kBq ¦ 8.2 / 5 ¦ 8.2 kSv ¦ < 8.2 kBq ¦ ≥ 8.2 kBq ¦ 8.2 ± 5 kBq ¦
            The activity exceeds 8.2 kBq. ¦ 8.2 kBq or 5 kBq ¦ 8.2 kBq per day
            """,
        ),
    ),
    (
        TIME,
        answers(
            """
            1000 ¦ 1,000 ¦ 1000 years ¦ 1,000 years ¦ 1000 yr ¦ 1000 yrs ¦ 1000 y ¦ 1,000-year ¦ 1 ka ¦
            1 thousand years ¦ 365250 days ¦ 365,250 days ¦ 10 centuries ¦ 1 millennium ¦ 10^3 years ¦
            The vault must isolate its waste for 1,000 years. ¦ For 1000 years
            """,
        ),
        answers(
            """
            1000 days ¦ 100 years ¦ 1,000,000 years ¦ 1000 hours ¦ 10,000 ¦ 1000 million years ¦ 1000 s ¦
            up to 1000 years ¦ at least 1,000 years ¦ after 1000 years ¦ 1000 or 2000 years ¦ 1000 BC or so ¦
            less than 1,000 years ¦ 1000 to 2000 years
            """,
        ),
    ),
    (
        LENGTH,
        answers(
            r"""
            8.19 ¦ 8.19 mm ¦ 8.19mm ¦ 0.819 cm ¦ 0.00819 m ¦ 8190 µm ¦ 8190 μm ¦ 8190 um ¦ 8.190 mm ¦
            8.19 millimeters ¦ 8.19 millimetres ¦ 8.19 Millimeters ¦ 8.19\ \mathrm{mm} ¦ 0.322 inches ¦
            The value is 8.19 mm. ¦ The pellet is 8.19 mm across. ¦ Diameter = 8.19 mm ¦ 8.19 mm (0.819 cm)
            """,
        ),
        answers(
            """
            8.19 cm ¦ 8.19 m ¦ 8.19 nm ¦ 8.19 inches ¦ 0.819 ¦ 0.819 mm ¦ 81.9 mm ¦ 8.2 mm ¦ 8 ¦ 8.19 kg ¦
            8.19 × 10 mm ¦ 8,19,0 ¦ -8.19 mm ¦ 8.19 mm2 ¦ 8.19 furlongs ¦ 0.4 inches ¦ 8.19/2 mm ¦ twice 8.19 mm ¦
            The diameter is not 8.19 mm. ¦ The value for Chernobyl is 8.19 mm.
            """,
        ),
    ),
    (
        HEIGHT,
        answers(
            """
            165 ¦ 165 cm ¦ 1.65 m ¦ 1650 mm ¦ 165 centimetres ¦ The value is 165 cm. ¦ It is 165 cm deep. ¦
            64.96 inches
            """,
        ),
        answers(
            """
            4 ¦ 4 m ¦ 165 m ¦ 165 mm ¦ 1.65 ¦ 16.5 cm ¦ 165 cm by 4 m ¦ 165 x 4 ¦ 1.65 km ¦ 156 cm
            """,
        ),
    ),
    (
        SHARE,
        answers(
            r"""
            99.5 ¦ 99.5% ¦ 99.5 % ¦ 99.5 percent ¦ 99.5 per cent ¦ 99.5\% ¦ $99.5\%$ ¦ **99.5%** ¦
            The recovery system operates with 99.5% efficiency. ¦ The efficiency is 99.5%.
            """,
        ),
        answers(
            """
            99.5 kBq ¦ 95.5% ¦ 9.95% ¦ 99.5 MW ¦ 99 ¦ 0.5% ¦ 99.5 to 100% ¦ over 99.5% ¦ 99.5% or 98% ¦ nearly 99.5%
            """,
        ),
    ),
    (
        PRESSURE,
        answers(
            """
            17.2 ¦ 17.2 MPa ¦ 17.20 MPa ¦ 172 bar ¦ 17200 kPa ¦ 17,200 kPa ¦ 17.2 megapascals ¦ 1.72×10^7 Pa ¦
            17.2e6 Pa ¦ 2495 psi ¦ 0.0172 GPa ¦ The value is 17.2 MPa. ¦ It holds 17.2 MPa.
            """,
        ),
        answers(
            """
            345 ¦ 345 °C ¦ 17.2 kPa ¦ 17.2 bar ¦ 1720 bar ¦ 17.2 psi ¦ 17.2 °C ¦ 17.2 MPa at 345 °C ¦ 2500 psi ¦
            1.72 MPa ¦ 17.3 MPa ¦ 17.2 MW ¦ below 17.2 MPa
            """,
        ),
    ),
    (
        RATE,
        answers(
            """
            2.8 ¦ 2.8 mSv/hr ¦ 2.8 mSv/h ¦ 2.8 mSv per hour ¦ 2800 µSv/h ¦ 2800 μSv/hr ¦ 2,800 uSv/h ¦ 0.0028 Sv/h ¦
            2.8 mSv h⁻¹ ¦ 2.8 mSv·h^{-1} ¦ 2.8 millisieverts per hour ¦ 2.8 millisieverts an hour ¦
            The dose rate is 2.8 mSv/h.
            """,
        ),
        answers(
            """
            40 ¦ 40 m ¦ 2.8 µSv/h ¦ 2.8 mSv ¦ 2.8 Sv/h ¦ 2.8 mSv/day ¦ 2.8 mSv/min ¦ 2.8 mGy/h ¦ 28 mSv/h ¦
            280 µSv/h ¦ 2.8 mSv/y ¦ 2.8 m ¦ 2.8 mSv/hr, 40 m
            """,
        ),
    ),
    (
        WASTE,
        answers(
            """
            850 ¦ 850 tonnes ¦ 850 t ¦ about 850 tonnes ¦ ~850 tonnes ¦ 850 metric tons ¦ 850,000 kg ¦ 0.85 kt ¦
            About 850 tonnes of intermediate-level waste will be generated. ¦ Approximately **850 tonnes**
            """,
        ),
        answers(
            """
            850 kg ¦ 850 thousand tonnes ¦ 850 million ¦ 8500 tonnes ¦ 85 tonnes ¦ 850 m3 ¦ 850 kBq ¦
            more than 850 tonnes ¦ 850 or 900 tonnes ¦ 0.85 ¦ 800-850 tonnes ¦ no more than 850
            """,
        ),
    ),
    (
        COLD,
        answers(
            """
            -5 ¦ −5 ¦ -5 °C ¦ −5°C ¦ minus 5 °C ¦ 268.15 K ¦ 23 °F ¦ -5 degrees Celsius ¦ It was cooled to -5 °C.
            """,
        ),
        answers(
            """
            5 ¦ 5 °C ¦ -5 K ¦ -5 °F ¦ -15 °C ¦ -5.5 °C ¦ below -5 °C ¦ -5 or 5 °C ¦ -5 to 5 °C
            """,
        ),
    ),
    (
        FLUX,
        answers(
            r"""
            5.2e14 ¦ 5.2×10^14 ¦ 5.2·10¹⁴ n/cm²/s ¦ 5.2 x 10^14 n cm⁻² s⁻¹ ¦ 5.2e18 n/m2/s ¦ $5.2 \times 10^{14}$
            """,
        ),
        answers(
            """
            5.2 ¦ 5.2×10^13 ¦ 5.2×1014 ¦ 5.2e14 n/m2/s ¦ 10^14 ¦ 5.2 n/cm2/s ¦ 5.2e14 Bq
            """,
        ),
    ),
    (
        COUNT,
        answers(
            """
            3 ¦ three ¦ 3 samples ¦ Three samples were taken. ¦ The survey took 3 samples.
            """,
        ),
        answers(
            """
            12 ¦ 3 kBq ¦ 3 of 12 ¦ 4 ¦ 3 or 4 ¦ 36 kBq ¦ thirty ¦ 3-12
            """,
        ),
    ),
    (
        MASS,
        answers(
            """
            2.5 ¦ 2.5 kg ¦ 2500 g ¦ 2.5 kilograms ¦ 0.0025 t ¦ 2.5e6 mg ¦ 5.51 pounds ¦ 2½ kg
            """,
        ),
        answers(
            """
            2.5 g ¦ 25 kg ¦ 2.5 t ¦ 2.5 lb ¦ 250 g ¦ 2.6 kg ¦ 2.5 kg/m3 ¦ two ¦ 2,5
            """,
        ),
    ),
]
PAIRS = [
    (case, text, right) for case, good, bad in TABLE for right, texts in ((True, good), (False, bad)) for text in texts
]


def rows(case: tuple[str, str, str | None, str]) -> list[dict[str, Any]]:
    """A question in the forms that files give it."""
    passage, question, unit, gold = case
    form = unit if unit and unit.startswith("a number") else f"a number in {unit}" if unit else "a number"
    asked = f"Answer with {form}."
    whole = f"{passage}\n{question} {asked}"
    return [
        {"prompt": whole, "context": passage, "type": "qa", "gold": gold},
        {"messages": [{"role": "user", "content": whole}], "verifier": "numeric", "ground_truth": gold},
        {"prompt": f"{asked}\n\n{passage}\n\n{question}", "verifier": "numeric", "ground_truth": float(gold)},
    ]


def correct(row: dict[str, Any], text: str) -> bool:
    return TASK.score(TASK.record(row, "f:1"), Completion((), (), text, True)).values["correct"] == 1


def test_the_table_has_enough_of_both_kinds():
    assert sum(right for *_, right in PAIRS) >= 100
    assert sum(not right for *_, right in PAIRS) >= 100


@pytest.mark.parametrize(("case", "text", "right"), PAIRS)
def test_a_number_that_is_asked_for(case: tuple[str, str, str | None, str], text: str, right: bool):
    assert [correct(row, text) for row in rows(case)] == [right] * 3


@pytest.mark.parametrize(
    "asked", ["Answer with {}.", "What is the value? ({})", "Value?\nExpected answer: {}", "State the value as {}."]
)
@pytest.mark.parametrize(
    ("gold", "unit", "good", "bad"),
    [
        (
            "3400",
            " in MWt",
            "It operates at a thermal power of 3,400 MWt. ¦ 3.4 GWt",
            "3400 MWe ¦ 3,400 MWt or 3,500 MWt",
        ),
        ("99.5", "", "The system has 99.5% efficiency. ¦ 99.5", "95% ¦ 99.5% or 98%"),
        ("850", "", "850 t ¦ About 850 tonnes of waste will be generated.", "850 or 900 ¦ 80 t"),
        ("2.8", " in mSv/hr", "2800 µSv/h ¦ 2.8 mSv per hour", "2.8 µSv/h ¦ 2.8 mSv"),
    ],
)
def test_a_question_without_a_passage(asked: str, gold: str, unit: str, good: str, bad: str):
    row = {"prompt": asked.format(f"a number{unit}"), "verifier": "numeric", "ground_truth": gold}
    assert [correct(row, text) for text in answers(good)] == [True, True]
    assert [correct(row, text) for text in answers(bad)] == [False, False]
