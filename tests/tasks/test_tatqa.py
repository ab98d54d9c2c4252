"""TAT-QA: the published metric by its own vectors, boxes with braces, scales, and the original's rules."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.tasks.latex import last_box, plain
from lightning_posttrain.tasks.tatqa import TatQA, official_score
from lightning_posttrain.tasks.tatqa.answer import first_box_compat, normal_compat
from lightning_posttrain.tasks.tatqa.official import SCALES, TYPES
from lightning_posttrain.tasks.tatqa.reading import readings
from lightning_posttrain.types import Completion, UserError

DATA = Path(__file__).parents[3] / "shared" / "data" / "tatqa" / "tatqa_dataset_dev.json"
ROW = {
    "id": "q1",
    "table": [["", "2019", "2018"], ["Sales", "$1,452.4", "1,146.2"]],
    "paragraphs": ["In millions.", "Sales grew."],
    "question": "How much did sales grow?",
    "answer": 12.61,
    "answer_type": "arithmetic",
    "scale": "percent",
}
SPAN = {**ROW, "answer": ["the company’s other income"], "answer_type": "span", "scale": ""}
SPANS = {**ROW, "answer": ["fixed price", "other"], "answer_type": "multi-span", "scale": ""}
COMPAT = {"rules": "compat", "box": "prompt", "scale": "drop"}


def scored(row: dict, text: str, **options):
    task = TatQA(**options)
    return task.score(task.record(row, "f:1"), Completion((1,), (0.0,), text, True))


# ---- the published metric -------------------------------------------------------------------------------------------

MONEY = (["$1,452.4"], "span", "million")
GROWTH = (12.61, "arithmetic", "percent")
TYPES_OF_SALES = (["fixed price", "other"], "multi-span", "")


@pytest.mark.parametrize(
    ("gold", "prediction", "scale", "expected"),
    [
        (MONEY, "1452.4", "million", (1, 1, 1)),
        (MONEY, "1452.4", "", (0, 0, 0)),
        (GROWTH, "12.61", "percent", (1, 1, 1)),
        (GROWTH, "12.61%", "", (1, 1, 0)),
        (GROWTH, "0.1261", "", (1, 1, 0)),
        (GROWTH, "12.61", "", (0, 0, 0)),
        (TYPES_OF_SALES, ["other", "fixed price"], "", (1, 1, 1)),
        (TYPES_OF_SALES, ["fixed price"], "", (0, 0.8, 1)),
        (("3", "count", ""), "three", "", (0, 0, 1)),
        ((-134.5, "arithmetic", "thousand"), "(134.5)", "thousand", (1, 1, 1)),
        ((1500, "arithmetic", "thousand"), "1.5", "million", (1, 1, 0)),
        ((["the modified retrospective method"], "span", ""), "modified retrospective method.", "", (1, 1, 1)),
    ],
)
def test_vectors_of_the_published_metric(gold, prediction, scale, expected):
    assert official_score(*gold, prediction, scale) == expected


@pytest.mark.parametrize(
    ("gold", "prediction", "scale", "expected"),
    [
        ((["(1,234)"], "span", ""), "1,234", "", (1, 1, 1)),  # a comma hides the sign
        ((["(1234)"], "span", ""), "1,234", "", (0, 0, 1)),
        ((-3, "arithmetic", ""), "-3.0", "", (1, 1, 1)),
        ((0.5, "arithmetic", ""), ".5", "", (0, 0, 1)),  # no digit before the point: no number
        ((12.614, "arithmetic", ""), "12.61", "", (1, 1, 1)),  # two decimals
        ((["$9.8 million"], "span", ""), "9.8", "million", (1, 1, 0)),
        ((["12%", "13%"], "multi-span", ""), ["13%", "0.12"], "", (1, 1, 1)),
        ((["2019"], "span", ""), "", "", (0, 0, 0)),
        ((["2019"], "span", ""), [], "", (0, 0, 0)),
        ((["The a"], "span", ""), "an", "", (1, 1, 1)),
        ((["a b c"], "span", ""), "b d", "", (0, 0.5, 1)),
        ((5, "arithmetic", ""), "9" * 6000, "", (0, 0, 1)),
        ((["x"], "span", ""), "1" * 400 + ".0 billion", "billion", (0, 0, 0)),
    ],
)
def test_quirks_of_the_published_metric(gold, prediction, scale, expected):
    assert official_score(*gold, prediction, scale) == expected


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["1,200", "(3.5)", "12%", "4 million", "inf", "nan"]), max_size=3),
    st.text(max_size=20) | st.text("0123456789.,()%$- ", max_size=16),
    st.sampled_from(["", *SCALES]),
    st.sampled_from(TYPES),
)
def test_any_answer_is_judged(gold, prediction, scale, kind):
    answer = 4 if kind == "count" else gold
    found = official_score(answer, kind, scale, prediction, scale)
    assert found.em in (0, 1)
    assert 0 <= found.f1 <= 1
    assert found.f1 >= found.em


# ---- boxes and readings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "strict", "compat"),
    [
        (r"\boxed{12}", "12", "12"),
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}", r"\frac{1"),  # nested braces
        (r"\boxed{1}, no: \boxed{2}", "2", "1"),  # the last box
        (r"\boxed{a \{b\}}", r"a \{b\}", r"a \{b\ "[:-1]),
        (r"\boxed{\boxed{5}}", "5", r"\boxed{5"),
        (r"\boxed{1} and \boxed{2", "1", "1"),  # cut off
        (r"\boxed{}", "", ""),
        ("12", None, ""),
        (r"} \boxed{3}", "3", "3"),
    ],
)
def test_which_box(text, strict, compat):
    assert last_box(text) == strict
    assert first_box_compat(text) == compat


def test_latex_around_a_value_is_taken_away():
    assert plain(r"\$1{,}200") == "$1,200"
    assert plain(r"12.5\%") == "12.5%"
    assert plain(r"\text{other income}") == "other income"
    assert plain("$12$") == "12"


def test_an_answer_is_read_with_its_scale_and_parts():
    ways = {(way.parts, way.scale) for way in readings("65, (114) million")}
    assert (("65, (114)",), "million") in ways
    assert (("65", "(114)"), "million") in ways
    assert (("65, (114) million",), "") in ways
    assert (("12.61",), "percent") in {(way.parts, way.scale) for way in readings("12.61%")}
    assert readings("")[0].parts == ("",)


# ---- the task -------------------------------------------------------------------------------------------------------


def test_the_prompt_and_targets():
    record = TatQA().record(ROW, "f:1")
    text = record.prompt[0].content
    assert text.startswith("Answer the question from the table and the text. Put the final answer")
    assert (
        "Table:\n | 2019 | 2018\nSales | $1,452.4 | 1,146.2\n\nText: In millions. Sales grew.\n\nQuestion: How" in text
    )
    assert text.endswith("Answer:")
    assert record.answer == r"\boxed{12.61 percent}"
    assert TatQA(scale="drop").record(ROW, "f:1").answer == r"\boxed{12.61}"
    assert "boxed" not in TatQA(box="none").record(ROW, "f:1").prompt[0].content
    seed = TatQA(**COMPAT).record(ROW, "f:1")
    assert seed.answer == "12.61"
    assert "\\boxed{}" in seed.prompt[0].content
    assert TatQA().record(SPANS, "f:1").answer == r"\boxed{fixed price, other}"
    assert TatQA().record({**SPANS, "answer": ["b, c", "a"]}, "f:1").answer == r"\boxed{b, c; a}"
    assert TatQA(**COMPAT).record({**SPANS, "answer": ["b, c", "a"]}, "f:1").answer == "b, c, a"


@pytest.mark.parametrize(
    ("row", "text", "em", "scale", "exact"),
    [
        (ROW, r"\boxed{12.61 percent}", 1, 1, 1),
        (ROW, r"It is \boxed{12.61\%}.", 1, 1, 1),
        (ROW, r"\boxed{0.1261}", 1, 0, 0),
        (ROW, r"\boxed{12.61}", 0, 0, 0),
        (ROW, r"<think>\boxed{1}</think>\boxed{12.610 Percent}", 1, 1, 1),
        (ROW, "12.61 percent", 0, 0, 0),  # no box
        ({**ROW, "answer": 0}, r"\boxed{0%}", 1, 1, 1),  # the original left such questions out
        ({**ROW, "answer": -1234, "scale": ""}, r"\boxed{(1,234)}", 0, 1, 1),  # officially no negative number
        (SPAN, r"\boxed{The company's other expense.}", 0, 1, 0),
        (SPAN, r"\boxed{the company's other income}", 0, 1, 1),  # curly apostrophes: officially not the same
        (SPANS, r"\boxed{other, fixed price}", 1, 1, 1),
        (SPANS, r"\boxed{other; fixed price}", 1, 1, 1),
        (SPANS, r"\boxed{fixed price}", 0, 1, 0),
    ],
)
def test_strict_verdicts(row, text, em, scale, exact):
    values = scored(row, text).values
    assert (values["official_em"], values["scale_accuracy"], values["exact_match"]) == (em, scale, exact)


@pytest.mark.parametrize(
    ("text", "exact", "f1", "boxed"),
    [
        ("12.61", 0, 1, 0),  # what it was trained to write
        (r"The answer is \boxed{12.61}", 1, 0, 1),
        (r"\boxed{The answer is 12.61.}", 1, 0, 1),
        (r"\boxed{12.61} so 12.61", 1, 2 / 4, 1),  # the set of words of the whole response: {\boxed{12.61}, so, 12.61}
        (r"\boxed{12.61 percent}", 0, 0, 1),
        (r"\boxed{1} \boxed{12.61}", 0, 0, 1),  # the first box
        (r"\boxed{12.61", 0, 0, 1),
    ],
)
def test_compat_verdicts(text, exact, f1, boxed):
    values = scored(ROW, text, **COMPAT).values
    assert (values["exact_match"], values["boxed_rate"]) == (exact, boxed)
    assert values["f1"] == pytest.approx(f1)


def test_words_count_as_often_as_they_are_there():
    dollars = {**SPAN, "answer": ["sales of $5.0, in 2019"]}
    assert scored(dollars, r"\boxed{sales of 5 in 2019}").values["f1"] == 1  # numbers among words
    row = {**SPAN, "answer": ["net of net sales"]}
    assert scored(row, r"\boxed{net of sales}").values["f1"] == pytest.approx(6 / 7)
    assert scored(row, "net of sales", **COMPAT).values["f1"] == 1


PERCENT_SPAN = {**SPAN, "answer": ["12.5%"], "scale": "percent"}
LOSS = {**ROW, "answer": -134.5, "scale": "thousand"}


@pytest.mark.parametrize(
    ("row", "text", "f1"),
    [
        (ROW, "12.61%", 1),
        ({**ROW, "answer": 1.5, "scale": ""}, "1.50", 1),
        ({**SPAN, "answer": ["$1,452.4"], "scale": "million"}, "1452.4 million", 1),
        (LOSS, "(134.5) thousand", 1),
        (LOSS, "134.5 thousand", 0.5),  # another number
        ({**ROW, "answer": 5, "scale": "million"}, "5 millions", 1),
        (SPANS, "other; fixed price", 1),
        (SPANS, "other", 0.5),  # one of three words
        (PERCENT_SPAN, "12.5%", 1),
        (PERCENT_SPAN, "12.50 percent", 1),
        (ROW, "12.61", 2 / 3),  # without its scale
        (ROW, "12.61 million", 0.5),
        (SPAN, "the company's other income.", 1),
        ({**SPAN, "answer": ["."]}, "?", 1),  # nothing but punctuation
    ],
)
def test_f1_is_of_numbers_and_words_and_the_scale(row, text, f1):
    values = scored(row, rf"\boxed{{{text}}}").values
    assert values["f1"] == pytest.approx(f1)
    assert values["exact_match"] == (f1 == 1)


def test_the_originals_normal_form():
    assert normal_compat("  The answer is   12.61 .") == "12.61"
    assert normal_compat("Answer: Other!?") == "other"


def test_values_by_answer_type():
    values = scored(ROW, r"\boxed{12.61%}").values
    assert (values["official_em_arithmetic"], values["official_f1_arithmetic"]) == (1, 1)
    assert all(math.isnan(values[f"official_em_{kind}"]) for kind in ("span", "multi_span", "count"))


def test_reasons_and_what_was_read():
    assert scored(ROW, "no").reason == "no_answer"
    assert scored(ROW, r"\boxed{12.61}").reason == "scale"
    assert scored(ROW, r"\boxed{13}").reason == "wrong_answer"
    # officially not the same, but not for their scale
    assert scored({**ROW, "answer": -5, "scale": ""}, r"\boxed{−5}").reason == "wrong_answer"
    assert scored({**ROW, "answer": -5, "scale": "million"}, r"\boxed{−5 million}").reason == "wrong_answer"
    assert scored(SPAN, r"\boxed{the company's other income}").reason == "wrong_answer"
    right = scored(ROW, r"\boxed{12.61 percent}")
    assert right.reason is None
    assert right.detail == {"parsed": ["12.61"], "scale": "percent", "gold": ["12.61"]}


def test_a_whole_text_as_answer():
    assert scored(ROW, " 12.61 percent\n", box="none").values["official_em"] == 1
    assert scored(ROW, " ", box="none").reason == "no_answer"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answer_type": "date"}, "answer_type='date'"),
        ({"scale": "dozen"}, "scale='dozen'"),
        ({"answer": None}, "answer=None"),
        ({"answer": [" "]}, "answer="),
        ({"answer": "many", "answer_type": "count"}, "whole number"),
        ({"table": "x"}, "table='x'"),
        ({"paragraphs": [1]}, "paragraphs="),
        ({"question": ""}, "question=''"),
    ],
)
def test_bad_rows_are_refused(change, named):
    with pytest.raises(UserError, match=f"f:3.*{named}"):
        TatQA().record({**ROW, **change}, "f:3")


PIECES = [
    "\\boxed{",
    "}",
    "{",
    "\\",
    "12.61",
    " percent",
    "%",
    ", ",
    ";",
    "(",
    ")",
    "<think>",
    "</think>",
    "\\text{",
    "\ud800",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=14).map("".join))
def test_any_text_is_scored(text):
    for options in ({}, {"box": "none"}, COMPAT):
        for row in (ROW, SPANS):
            score = scored(row, text, **options)
            assert score.values["f1"] <= 1
            assert score.values["f1"] >= (0 if options == COMPAT else score.values["exact_match"])
            assert score.values["official_f1"] >= score.values["official_em"]


@given(st.lists(st.text(min_size=1, max_size=12).filter(lambda t: t == t.strip()), min_size=1, max_size=3))
def test_targets_give_gold_back(parts):
    row = {**SPANS, "answer": parts, "answer_type": "multi-span"}
    target = TatQA().record(row, "f:1").answer
    assert last_box(target) is not None


@pytest.mark.skipif(not DATA.is_file(), reason="the published file is not here")
def test_gold_answers_of_the_published_file_are_right():
    task, seed = TatQA(), TatQA(rules="compat", box="both")
    scores, seeds = [], []
    for document in json.loads(DATA.read_text()):
        shared = {"table": document["table"]["table"], "paragraphs": [p["text"] for p in document["paragraphs"]]}
        for question in document["questions"]:
            for judge, found in ((task, scores), (seed, seeds)):
                record = judge.record({**shared, **question}, "f:1")
                found.append(judge.score(record, Completion((), (), record.answer, True)).values)
    assert len(scores) == 1668
    for name in ("official_em", "official_f1", "scale_accuracy", "exact_match", "f1", "boxed_rate"):
        assert sum(values[name] for values in scores) == len(scores)
    # without its scale, gold itself is right on less than half
    assert sum(values["exact_match"] for values in seeds) == len(seeds)
    assert 0.4 < sum(values["official_em"] for values in seeds) / len(seeds) < 0.5
