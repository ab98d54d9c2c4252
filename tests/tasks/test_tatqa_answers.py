"""TAT-QA answers as models write them: amounts and lists in any usual spelling are right, other values are not."""

import json
from pathlib import Path

import pytest
from answer_tables import answers

from lightning_posttrain.tasks.tatqa import TatQA
from lightning_posttrain.tasks.tatqa.values import half_up, same
from lightning_posttrain.types import Completion

DEV = Path(__file__).parents[3] / "shared" / "data" / "tatqa" / "tatqa_dataset_dev.json"
TASK = TatQA()
MILLION = (12.3, "arithmetic", "million")
LOSS = (-13.04, "arithmetic", "percent")
BIG = (8751, "arithmetic", "thousand")
SHARE = (12.5, "arithmetic", "percent")
PLAIN = (-361, "arithmetic", "")
RATIO = (2.93, "arithmetic", "")
COUNT = ("2", "count", "")
YEARS = (["2019", "2018", "2017"], "multi-span", "")
NAMES = (["Digital", "Webzone"], "multi-span", "")
THOUSANDS = (["79", "1,905"], "multi-span", "thousand")
LOSSES = (["(66)%", "(223)%"], "multi-span", "percent")
MONEY = (["$(9.8) million"], "span", "")
DOLLARS = (["$1,496.5"], "span", "million")
TERM = (["5 years"], "span", "")
TEXT = (["the modified retrospective method"], "span", "")

TABLE = [
    (
        MILLION,
        answers(
            r"""
            12.3 million ¦ 12.30 million ¦ $12.3 million ¦ \$12.3 million ¦ 12.3 millions ¦ 12.3 Million. ¦
            12.3\ \text{million} ¦ 12.3\;\text{million} ¦ 12.3~\text{million} ¦ 12.3\,\mathrm{million} ¦
            \$12.3\text{ million} ¦ 12.3M ¦ 12.3 mn ¦ $12.3m ¦ US$ 12.3 million ¦ 12.3 million dollars ¦
            approximately 12.3 million ¦ ≈12.3 million ¦ \approx 12.3 million ¦ **12.3 million** ¦
            12.3 (in millions) ¦ The answer is 12.3 million ¦ 12,300 thousand ¦ 0.0123 billion ¦ "12.3 million" ¦
            12.3 million USD
            """,
        ),
        answers(
            """
            12.3 ¦ 12.3 thousand ¦ 12.3 billion ¦ 12.3% ¦ -12.3 million ¦ (12.3) million ¦ 12.4 million ¦
            12.3 million, 15.7 million ¦ 12.3 million or 15.7 million ¦ 12.3 million; 5 ¦ 12.3 million and 5 million ¦
            12.3 to 15.7 million ¦ 12.3-15.7 million ¦ 123 million ¦ not 12.3 million ¦ less than 12.3 million ¦
            12.3 million or so ¦ more than 12.3 million ¦ 12.3 million / 15.7 million ¦ million ¦ 1.23 million
            """,
            "",
        ),
    ),
    (
        LOSS,
        answers(
            r"""
            (13.04\%) ¦ -13.04\% ¦ -13.04% ¦ (13.04)% ¦ (13.04) percent ¦ −13.04% ¦ -13.04 percent ¦ minus 13.04% ¦
            negative 13.04 percent ¦ (13.04)\ \% ¦ –13.04 % ¦ $-13.04\%$ ¦ -13.040 per cent
            """,
        ),
        answers(
            """
            13.04% ¦ +13.04% ¦ 13.04 percent ¦ -13.04 ¦ (13.05%) ¦ (13.04 ¦ 13.04)% ¦ -13.04 million ¦ -1.304% ¦
            --13.04% ¦ -13.04% or 13.04% ¦ (13.04%), (12%) ¦ -0.1304%
            """,
        ),
    ),
    (
        BIG,
        answers(
            r"""
            8,751\ \text{thousand} ¦ 8,751\;\text{thousand} ¦ $8,751$ thousand ¦ 8751 thousand ¦ 8,751 thousands ¦
            \$8{,}751\text{ thousand} ¦ 8\,751\text{ thousand} ¦ 8 751 thousand ¦ 8,751K ¦ 8.751 million ¦
            \text{8,751 thousand} ¦ \textbf{8,751 thousand} ¦ 8,751.00 thousand ¦ The value is 8,751 thousand.
            """,
        ),
        answers(
            """
            8,751 ¦ 8,751 million ¦ 87,51 thousand ¦ 8.751 thousand ¦ 8,715 thousand ¦ 8,751 and 8,752 thousand ¦
            8,751 thousand, 8,752 thousand ¦ (8,751) thousand ¦ 8,751% ¦ 8751 thousand or 8752
            """,
        ),
    ),
    (
        SHARE,
        answers(
            r"""
            12.5 per cent ¦ \approx 12.5\% ¦ 12.5% ¦ 12.50% ¦ 12.5 percent ¦ 12.5 % ¦ 12.5 Percent ¦ ~12.5% ¦
            12.5\,\% ¦ 12.5\text{ percent} ¦ 12.5 percentage points ¦ about 12.5% ¦ +12.5% ¦ 12.5 pct
            """,
        ),
        answers(
            """
            12.5 ¦ 125% ¦ 1.25% ¦ 12.5 million ¦ 12.5% or 13% ¦ 12.5%-13% ¦ -12.5% ¦ (12.5%) ¦ 12.6% ¦ below 12.5% ¦
            87.5% ¦ 12.5% 13%
            """,
        ),
    ),
    (
        PLAIN,
        answers(
            r"""
            -361 ¦ (361) ¦ −361 ¦ -361.00 ¦ -$361 ¦ $(361) ¦ -\$361 ¦ minus 361 ¦ $-361$ ¦ -361 dollars
            """,
        ),
        answers(
            """
            361 ¦ -36.1 ¦ -361% ¦ -361 million ¦ -361 or 361 ¦ -362 ¦ -361, -400 ¦ - 361 - 5
            """,
        ),
    ),
    (
        RATIO,
        answers(
            """
            2.93 ¦ 2.930 ¦ 2.934 ¦ ≈ 2.93 ¦ **2.93**
            """,
        ),
        answers(
            """
            2.94 ¦ 29.3 ¦ 2.9 ¦ 3 ¦ 2.93% ¦ 2.93 or 2.94 ¦ 2.93 million ¦ 2.925 to 2.93 ¦ 2.936
            """,
        ),
    ),
    (
        COUNT,
        answers(
            r"""
            "2" ¦ 2 ¦ two ¦ 2.0 ¦ 2 years ¦ 2. ¦ \text{2} ¦ '2' ¦ Two
            """,
        ),
        answers(
            """
            3 ¦ 2 or 3 ¦ two or three ¦ 12 ¦ 2% ¦ 2 million ¦ -2 ¦ 2, 3 ¦ 20 ¦ 2.5
            """,
        ),
    ),
    (
        YEARS,
        answers(
            r"""
            2019, 2018, 2017 ¦ 2019, 2018 and 2017 ¦ 2019, 2018, and 2017 ¦ 2019; 2018; 2017 ¦ 2017, 2018, 2019 ¦
            [2019, 2018, 2017] ¦ ["2019", "2018", "2017"] ¦ 2019,2018,2017 ¦ 2019, 2018 & 2017 ¦
            2019 and 2018 and 2017 ¦ 2019,\ 2018,\ 2017 ¦ {2019, 2018, 2017} ¦ \text{2019}, \text{2018}, \text{2017}
            """,
            "- 2019\n- 2018\n- 2017",
            "1. 2019\n2. 2018\n3. 2017",
        ),
        answers(
            """
            2019, 2018 ¦ 2019, 2018, 2016 ¦ 2019, 2018, 2017, 2016 ¦ 2019 or 2018 or 2017 ¦ 2017-2019 ¦ 2019 ¦
            2019, 2019, 2017 ¦ 2019 2018 2017 ¦ 2019 to 2017 ¦ not 2019, 2018, 2017 ¦ [2019, 2018
            """,
        ),
    ),
    (
        NAMES,
        answers(
            """
            Digital and Webzone ¦ Digital, Webzone ¦ Webzone and Digital ¦ Digital & Webzone ¦ digital; webzone ¦
            "Digital", "Webzone" ¦ [Digital, Webzone] ¦ ['Digital', 'Webzone'] ¦ Digital, and Webzone.
            """,
            "Digital\nWebzone",
        ),
        answers(
            """
            Digital ¦ Webzone ¦ Digital or Webzone ¦ Digital, Webzone, Other ¦ Digital and Web ¦ DigitalWebzone ¦
            neither
            """,
        ),
    ),
    (
        THOUSANDS,
        answers(
            """
            79 thousand, 1,905 thousand ¦ 79, 1,905 thousand ¦ 79 thousand and 1,905 thousand ¦ 1,905; 79 thousand ¦
            $79 thousand, $1,905 thousand ¦ [79 thousand, 1,905 thousand] ¦ 79K and 1,905K ¦
            79 thousand, 1.905 million
            """,
        ),
        answers(
            """
            79, 1,905 ¦ 79 million, 1,905 thousand ¦ 79 thousand ¦ 79 thousand or 1,905 thousand ¦ 791,905 thousand ¦
            79, 1,905 million ¦ 79 thousand, 1,906 thousand ¦ 79%, 1,905%
            """,
        ),
    ),
    (
        LOSSES,
        answers(
            r"""
            (66)%, (223)% ¦ -66%, -223% ¦ (66%), (223%) ¦ (66)% and (223)% ¦ -66% and -223% ¦ (66)\%, (223)\%
            """,
        ),
        answers(
            """
            66%, 223% ¦ (66)% ¦ (66), (223) ¦ -66%, 223% ¦ (66)% or (223)% ¦ (66)%, (22)%
            """,
        ),
    ),
    (
        MONEY,
        answers(
            r"""
            $(9.8) million ¦ -9.8 million ¦ -$9.8 million ¦ $-9.8 million ¦ ($9.8) million ¦ ($9.8 million) ¦
            \$(9.8) million
            """,
        ),
        answers(
            """
            $9.8 million ¦ 9.8 million ¦ $(9.8) billion ¦ $(9.8) ¦ €(9.8) million ¦ $(9.8) million or $(9.9) million
            """,
        ),
    ),
    (
        DOLLARS,
        answers(
            """
            $1,496.5 million ¦ 1,496.5 million ¦ 1496.5 million ¦ USD 1,496.5 million ¦ $1,496.50 million ¦
            $1.4965 billion
            """,
        ),
        answers(
            """
            €1,496.5 million ¦ $1,496.5 ¦ $1,496.5 thousand ¦ $1,469.5 million ¦ $1,496.5 million and $5 million
            """,
        ),
    ),
    (
        TERM,
        answers(
            """
            5 years ¦ 5 Years ¦ 5 years. ¦ The answer is 5 years
            """,
        ),
        answers(
            """
            5 ¦ 5 months ¦ 15 years ¦ 5-10 years ¦ 5 or 6 years ¦ less than 5 years
            """,
        ),
    ),
    (
        TEXT,
        answers(
            r"""
            the modified retrospective method ¦ modified retrospective method ¦ Modified Retrospective Method. ¦
            "the modified retrospective method" ¦ \text{the modified retrospective method} ¦
            The answer is the modified retrospective method
            """,
        ),
        answers(
            """
            the full retrospective method ¦ retrospective method ¦ not the modified retrospective method ¦ modified
            """,
        ),
    ),
]
PAIRS = [(gold, text, right) for gold, good, bad in TABLE for right, ts in ((1, good), (0, bad)) for text in ts]


def record(gold: tuple):
    row = {"id": "q", "table": [["a"]], "paragraphs": ["b"], "question": "c?"}
    return TASK.record(row | dict(zip(("answer", "answer_type", "scale"), gold, strict=True)), "f:1")


def values(gold: tuple, text: str):
    return TASK.score(record(gold), Completion((), (), text, True)).values


def test_the_table_has_enough_of_both_kinds():
    assert sum(right for *_, right in PAIRS) >= 100
    assert sum(1 - right for *_, right in PAIRS) >= 100


@pytest.mark.parametrize(("gold", "text", "right"), PAIRS)
def test_what_a_box_says(gold: tuple, text: str, right: int):
    assert values(gold, rf"\boxed{{{text}}}")["exact_match"] == right


@pytest.mark.parametrize(
    "text",
    [
        *(
            "12.3 million, 15.7 million",
            "12.3 million or 15.7 million",
            "12.3 million; 5",
            "12.3 million to 15 million",
        ),
        *("12.3 million and 5 million", "12.3 million (or 15.7 million)", "12.3 million / 15.7 million"),
        *("12.3 million or less", "12.3 million - 5", "12.3 million plus 5"),
    ],
)
def test_the_published_metric_is_not_given_several_values_as_one(text: str):
    assert values(MILLION, rf"\boxed{{{text}}}")["official_em"] == 0


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (BIG, r"8,751\;\text{thousand}"),
        (SHARE, "12.5 per cent"),
        (SHARE, r"\approx 12.5\%"),
        (YEARS, "2019, 2018 and 2017"),
        (YEARS, "[2019, 2018, 2017]"),
        (NAMES, "Digital and Webzone"),
        (THOUSANDS, "79 thousand, 1,905 thousand"),
        (LOSS, r"(13.04\%)"),
        (COUNT, '"2"'),
        (MILLION, "12.3 million dollars"),
    ],
)
def test_the_published_metric_is_given_the_parts_and_the_scale(gold: tuple, text: str):
    found = values(gold, rf"\boxed{{{text}}}")
    assert (found["official_em"], found["scale_accuracy"]) == (1, 1)


@pytest.mark.parametrize(
    "text", ["<think>\\boxed{2}", "2", "\\boxed{2", "<think>a</think>\\boxed{3}", "\\boxed{2} no, \\boxed{3}"]
)
def test_an_answer_needs_a_closed_box_after_its_reasoning(text: str):
    assert values(COUNT, text)["exact_match"] == values(COUNT, text)["official_em"] == 0


@pytest.mark.parametrize(
    "text", ["<think>3</think>\\boxed{2}", "\\boxed{2}<|im_end|>", "\\boxed{3} no, \\boxed{2}</s>"]
)
def test_the_last_box_counts_whatever_ends_the_turn(text: str):
    assert values(COUNT, text)["exact_match"] == values(COUNT, text)["official_em"] == 1


@pytest.mark.parametrize(
    ("exact", "rounded"), [("12.345", "12.35"), ("0.125", "0.13"), ("0.135", "0.14"), ("-0.125", "-0.13")]
)
def test_halves_are_rounded_away_from_zero(exact: str, rounded: str):
    assert same([exact], [rounded], "")
    assert same([rounded], [exact], "")
    assert not same([exact], [rounded[:-1] + str(int(rounded[-1]) - 1)], "")


def test_half_up():
    assert [half_up(n / 2) for n in range(-3, 4)] == [-2, -1, -1, 0, 1, 1, 2]


def spellings(gold: str, scale: str) -> tuple[list[str], list[str]]:
    """Honest ways to write a number of the published file, and wrong ones."""
    value = float(gold)
    sign, size = ("-" if value < 0 else ""), f"{abs(value):,.2f}"
    end = {"": "", "percent": r"\%"}.get(scale, rf"\ \text{{{scale}}}")
    right = [
        f"{sign}{size}{end}",
        rf"{sign}\${size}{end}",
        f"{sign}{size.replace(',', '{,}')}{end}",
        rf"\approx {sign}{size}{end}",
    ]
    right += [f"({size}){end}", f"−{size}{end}"] if sign else [f"${size}${end}"]
    other = f"{value * 10 + 1:.2f}{end}"
    wrong = [other, f"{sign}{size}{end} or {other}", f"{sign}{size}{end}, {other}", f"not {sign}{size}{end}"]
    wrong += [f"{-value}{end}"] if value else []
    return right, wrong


@pytest.mark.skipif(not DEV.is_file(), reason="the published file is not here")
def test_all_numbers_of_the_published_file_in_any_spelling():
    rejected = accepted = total = 0
    for document in json.loads(DEV.read_text(encoding="utf-8")):
        for question in document["questions"]:
            if question["answer_type"] == "arithmetic":
                gold = question["answer"], "arithmetic", question["scale"]
                right, wrong = spellings(str(question["answer"]), question["scale"])
                rejected += sum(not values(gold, rf"\boxed{{{text}}}")["exact_match"] for text in right)
                accepted += sum(bool(values(gold, rf"\boxed{{{text}}}")["exact_match"]) for text in wrong)
                total += len(right)
    print(f"rejected {rejected}, accepted {accepted} of {total}")
    assert total > 3000
    assert (rejected, accepted) == (0, 0)
