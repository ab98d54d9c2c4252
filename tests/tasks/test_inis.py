"""INIS: each perturbation drops the metrics that it should and no others; rows of every kind; rewards; wild answers."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_posttrain.tasks.answers import final_answer
from lightning_posttrain.tasks.base import Score
from lightning_posttrain.tasks.inis import Inis, InisReward
from lightning_posttrain.tasks.reward import RewardRunner
from lightning_posttrain.types import Completion, Message, Record, UserError

TASK = Inis()
CONTEXT = (
    "Co-60 has a half-life of 5.27 years. The source of 185.5 kBq was checked on 4 March 2021 and found tight; "
    "a second one of 12 kBq holds Cs-137 (30.1 years)."
)
GOLD: dict[str, Any] = {
    "isotope": "Co-60",
    "half_life": {"value": 5.27, "unit": "years"},
    "activity": 185.5,
    "unit": "kBq",
    "tight": True,
    "date": "2021-03-04",
    "use": None,
}
QUANTITY = {
    "type": "object",
    "properties": {"value": {"type": "number"}, "unit": {"type": "string"}},
    "required": ["value", "unit"],
}
SCHEMA = {
    "type": "object",
    "properties": {
        "isotope": {"type": ["string", "null"]},
        "half_life": QUANTITY,
        "activity": {"type": "number"},
        "unit": {"type": "string"},
        "tight": {"type": "boolean"},
        "date": {"type": "string", "format": "date"},
        "use": {"type": ["string", "null"]},
    },
    "required": list(GOLD),
    "additionalProperties": False,
}
RULES = {"isotope": "enum", "half_life": "quantity", "activity": "numeric", "unit": "unit", "use": "enum"}
SFT: dict[str, Any] = {
    "id": "a",
    "messages": [{"role": "user", "content": "Extract."}, {"role": "assistant", "content": json.dumps(GOLD)}],
    "type": "extract",
    "schema": SCHEMA,
    "gold": GOLD,
    "field_rules": RULES,
    "context": CONTEXT,
    "source": "inis",
    "synthetic": True,
}
LIST: dict[str, Any] = {
    "prompt": [{"role": "user", "content": "List the isotopes: Co-60, Cs-137."}],
    "type": "list",
    "gold": ["Co-60", "Cs-137"],
    "field_rules": {"": "set"},
}
FIELDS = {"correct", "exact_object", "field_precision", "field_recall", "field_f1"}


def qa(gold: Any, **more: Any) -> dict[str, Any]:
    verifier = "numeric" if not isinstance(gold, str) or gold[:1].isdigit() else "string"
    row = {"prompt": "How long?", "verifier": verifier, "ground_truth": gold, "context": f"{gold} {CONTEXT}"}
    return {**row, **more}


def score(text: str, row: dict[str, Any] = SFT, finished: bool = True) -> Score:
    return TASK.score(TASK.record(row, "f.jsonl:1"), Completion((), (), text, finished))


def dropped(text: str, row: dict[str, Any] = SFT) -> set[str]:
    """The metrics that are not as the right answer's."""
    best = TASK.score(record := TASK.record(row, "f"), Completion((), (), record.answer, True)).values
    found = score(text, row).values.items()
    return {name for name, value in found if value != best[name] and not math.isnan(value)}


def changed(**fields: Any) -> str:
    return json.dumps({**GOLD, **fields})


def without(key: str) -> str:
    return json.dumps({k: v for k, v in GOLD.items() if k != key})


def test_the_right_answer_has_everything():
    result = score(json.dumps(GOLD))
    assert {name for name, value in result.values.items() if value == 0} == {"hallucinated_field_rate"}
    assert {name for name, value in result.values.items() if math.isnan(value)} == {"qa_em", "qa_f1"}
    assert result.reason is None
    assert result.detail["wrong_fields"] == []
    assert TASK.primary in result.values


@pytest.mark.parametrize(
    ("text", "lost", "reason"),
    [
        (changed(isotope="Cs-137"), FIELDS, "wrong_value"),
        (changed(activity=12), FIELDS | {"numeric"}, "wrong_value"),
        (changed(activity=99), FIELDS | {"numeric", "grounded"}, "wrong_value"),
        (changed(isotope="≠Co-60"), FIELDS, "wrong_value"),
        (changed(isotope="<Co-60"), FIELDS, "wrong_value"),
        (changed(isotope="Cs-134"), FIELDS | {"grounded"}, "wrong_value"),
        (changed(date="2021-03-05"), FIELDS | {"grounded"}, "wrong_value"),
        (changed(half_life={"value": 5.27, "unit": "days"}), FIELDS | {"numeric"}, "wrong_unit"),
        (changed(half_life={"value": 5.27, "unit": "parsec"}), FIELDS | {"numeric"}, "wrong_value"),
        (changed(unit="Bq"), FIELDS, "wrong_unit"),
        (changed(activity="185.5"), FIELDS | {"numeric", "schema"}, "number_as_string"),
        (changed(half_life={"value": "5.27", "unit": "years"}), FIELDS | {"numeric", "schema"}, "number_as_string"),
        (changed(tight=1), FIELDS | {"schema"}, "wrong_value"),
        (without("isotope"), FIELDS - {"field_precision"} | {"schema"}, "missing_field"),
        (
            changed(colour="blue"),
            FIELDS - {"field_recall"} | {"schema", "hallucinated_field_rate"},
            "hallucinated_field",
        ),
        (changed(use="checks"), FIELDS | {"hallucinated_field_rate", "abstention_accuracy"}, "answered_unanswerable"),
        (changed(isotope=None), FIELDS | {"abstention_accuracy"}, "abstained_answerable"),
        (f"Here it is: {json.dumps(GOLD)}", {"correct", "sole_json"}, "prose_around_json"),
        (f"```JSON\n{json.dumps(GOLD)}\n```", {"correct", "sole_json"}, "prose_around_json"),
        (f"{json.dumps(GOLD)}\n{changed(activity=12)}", {"correct", "sole_json"}, "prose_around_json"),
        (json.dumps(GOLD)[:-1] + ', "tight": true}', {"correct", "no_duplicate_keys"}, "duplicate_key"),
    ],
)
def test_each_fault_costs_its_own_metrics(text: str, lost: set[str], reason: str):
    assert dropped(text) == lost
    assert score(text).reason == reason


@pytest.mark.parametrize(
    "text",
    [
        changed(half_life={"value": 1924.8675, "unit": "d"}),
        changed(half_life={"value": 5270, "unit": "thousand years"}).replace("5270", "0.00527"),
        changed(isotope="cobalt-60"),
        changed(isotope="60Co"),
        changed(isotope="60-Co"),
        changed(isotope="CO-60"),
        changed(half_life={"value": 5.27, "unit": "yrs"}),
        changed(unit="kilobecquerels"),
        changed(activity=185.50),
        json.dumps(dict(reversed(GOLD.items())), indent=2),
        f"<think>Is it 12? {changed(activity=12)}</think>\n{json.dumps(GOLD)}",
        f"12 kBq, surely.</think>{json.dumps(GOLD)}",
    ],
)
def test_what_means_the_same_costs_nothing(text: str):
    assert dropped(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "null",
        '"Co-60"',
        f"[{json.dumps(GOLD)[1:-1]}]",
        json.dumps(GOLD)[:-1],
        json.dumps(GOLD)[:-1] + ",}",
        json.dumps(GOLD).replace('"', "'"),
        json.dumps(GOLD).replace("185.5", "NaN"),
        json.dumps(GOLD).replace("185.5", "1e999"),
        json.dumps(GOLD).replace("185.5", "1,185.5"),
        json.dumps(GOLD)[:-1] + " // checked\n}",
        '{"a":' * 1000 + "1" + "}" * 1000,
        f"<think>{json.dumps(GOLD)}",
        f"{json.dumps(GOLD)}<think>or not",
    ],
)
def test_what_is_no_json_object_parses_as_nothing(text: str):
    values = score(text).values
    names = ("parse", "sole_json", "no_duplicate_keys", "schema", "field_f1", "correct", "abstention_accuracy")
    assert [values[name] for name in names] == [0] * 7
    assert score(text).reason in ("invalid_json", "no_answer")


def test_an_object_inside_a_broken_one_is_not_the_answer():
    row = {**SFT, "gold": {"samples": [GOLD]}, "schema": None, "field_rules": {}}
    row["messages"] = [SFT["messages"][0], {"role": "assistant", "content": json.dumps(row["gold"])}]
    assert score(json.dumps(row["gold"])[:-1], row).reason == "invalid_json"


def test_the_form_comes_from_the_item_never_from_the_answer():
    assert score("5.27 years").reason == "invalid_json"
    assert score('{"answer": "5.27 years"}', qa("5.27 years")).values["correct"] == 0
    with pytest.raises(UserError, match="never guessed from an answer"):
        TASK.record({"id": "x", "messages": SFT["messages"]}, "f:1")


def test_lists_are_sets_and_their_elements_are_fields():
    assert dropped('["caesium-137", "Co-60"]', LIST) == set()
    assert dropped('["Co-60"]', LIST) == FIELDS - {"field_precision"}
    assert dropped('["Co-60", "Cs-137", "Co-60"]', LIST) == FIELDS - {"field_recall"} | {"hallucinated_field_rate"}
    assert dropped('["Co-60", "I-131"]', LIST) == FIELDS | {"hallucinated_field_rate", "grounded"}
    assert dropped('The list: ["Co-60", "Cs-137"].', LIST) == {"correct", "sole_json"}
    assert score('{"isotopes": 3}', LIST).reason == "invalid_json"


def test_objects_in_a_list_are_told_apart_by_their_key():
    gold = [{"isotope": "Co-60", "bq": 5}, {"isotope": "Cs-137", "bq": 7}]
    row = {"prompt": "Co-60: 5, Cs-137: 7.", "gold": gold, "type": "list", "field_rules": {"": "key:isotope"}}
    assert dropped(json.dumps(gold[::-1]), row) == set()
    swapped = [{**gold[0], "bq": 7}, {**gold[1], "bq": 5}]
    assert score(json.dumps(swapped), row).values["field_f1"] == 0.5
    assert score(json.dumps(swapped), row).detail["wrong_fields"] == ["[Co-60].bq", "[Cs-137].bq"]


@pytest.mark.parametrize(
    "text", ["5.27 years", "5.27 y.", "5.27 yr", "**5.27 years**", "1924.8675 days", "<think>30.1?</think> 5.27 years"]
)
def test_a_quantity_is_right_in_any_unit(text: str):
    assert dropped(text, qa("5.27 years")) == set()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_answer"),
        ("<think>5.27 years", "no_answer"),
        ("5.27", "wrong_unit"),
        ("5.27 days", "wrong_unit"),
        ("5.28 years", "wrong_value"),
        ("-5.27 years", "wrong_value"),
        ("5.27-5.30 years", "wrong_value"),
        ("30.1 years, 5.27 years", "several_values"),
        ("5.27 years or 1924 days", "several_values"),
        ("It is not 5.27 years", "wrong_value"),
        ("<5.27 years", "wrong_value"),
        ("≤ 5.27 years", "wrong_value"),
        ("&gt; 5.27 years", "wrong_value"),
        ("$\\geq$ 5.27 years", "wrong_value"),
        ("!= 5.27 years", "wrong_value"),
        ("≠5.27 years", "wrong_value"),
        ("¬ 5.27 years", "wrong_value"),
        ("5.27 ± 0.1 years", "several_values"),
        ("less than 5.27 years", "wrong_value"),
        ("up to 5.27 years", "wrong_value"),
        ("half of 5.27 years", "wrong_value"),
        ("half-life of half of 5.27 years", "wrong_value"),
        ("5.27 million years", "wrong_unit"),
        ("5.27×100 years", "wrong_value"),
        ("5.27 years of Sr-90", "wrong_value"),
        ('{"half_life": "5.27 years"}', "wrong_value"),
        ("It is 5.27 years in A and 3 years in B", "several_values"),
        ("not stated", "abstained_answerable"),
        ("5.27 years or not stated", "wrong_value"),
    ],
)
def test_a_wrong_quantity_says_why(text: str, reason: str):
    result = score(text, qa("5.27 years"))
    assert (result.reason, result.values["correct"], result.values["numeric"]) == (reason, 0, 0)


def test_an_enumeration_earns_nothing_and_a_sentence_little():
    assert score("5.27 years, 12 years, 30.1 years", qa("5.27 years")).values["qa_f1"] == 0
    assert score("Possibly 5.27 years", qa("5.27 years")).values["qa_f1"] == pytest.approx(2 / 3)
    assert score("It is 5.27 years", qa("5.27 years")).values["qa_f1"] == 1


KK = {
    "context": "Sample KK-1 holds 2,500 Bq of Co-60, found on 26 April 1986. Cs-137 decays by beta minus.",
    "type": "qa",
}
ASKED = {
    "2,500 Bq": "What is the activity of KK-1?",
    "1986-04-26": "On what day was the sample found?",
    "Co-60": "Which isotope is in KK-1?",
    "beta minus": "How does Cs-137 decay?",
    "carbon dioxide": "What cools the reactor?",
    "5.27 years": "What is the half-life of Co-60?",
    "95–99%": "What is the efficiency?",
    "-5 °C": "At what temperature did it freeze?",
}


def asked(gold: str) -> dict[str, Any]:
    return KK | {"prompt": f"{KK['context']} {ASKED[gold]} Short answer, or: not stated", "gold": gold}


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("2,500 Bq", "The activity of KK-1 is 2,500 Bq."),
        ("2,500 Bq", "Answer: 2500 Bq"),
        ("2,500 Bq", "about 2500 Bq"),
        ("2,500 Bq", "≈ 2500 Bq"),
        ("2,500 Bq", "2500 Bq of Co-60"),
        ("2,500 Bq", "2500 Bq (Co-60)"),
        ("2,500 Bq", "The activity is:\n2.5 kBq"),
        ("1986-04-26", "On 26 April 1986."),
        ("1986-04-26", "The sample was found on 26 Apr 1986."),
        ("Co-60", "The isotope in KK-1 is cobalt-60."),
        ("beta minus", "Beta minus decay"),
        ("beta minus", "β⁻ decay"),
        ("beta minus", "Cs-137 decays by beta minus decay."),
        ("carbon dioxide", "It is cooled by carbon dioxide."),
        ("5.27 years", "The half-life of Co-60 is 5.27 years."),
        ("95–99%", "between 95 and 99%"),
        ("95–99%", "The efficiency is from 95% to 99%."),
        ("-5 °C", "It was minus 5 °C"),
    ],
)
def test_a_sentence_that_says_gold_and_nothing_else_is_right(gold: str, text: str):
    result = score(text, asked(gold))
    assert (result.values["correct"], result.values["qa_f1"], result.reason) == (1, 1, None)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("2,500 Bq", "The activity of KK-2 is 2,500 Bq."),
        ("2,500 Bq", "The activity of KK-1 is not 2,500 Bq."),
        ("2,500 Bq", "The activity of KK-1 exceeds 2,500 Bq."),
        ("2,500 Bq", "at least 2500 Bq"),
        ("2,500 Bq", "2500 Bq of I-131"),
        ("2,500 Bq", "2500 Bq of Cs-137"),
        ("2,500 Bq", "√2500 Bq"),
        ("2,500 Bq", "2500 Bq or 3 Bq"),
        ("2,500 Bq", "It is 2500 Bq, or 3 Bq"),
        ("1986-04-26", "after 26 April 1986"),
        ("1986-04-26", "by 26 April 1986"),
        ("1986-04-26", "26 April 1986 or 27 April 1986"),
        ("Co-60", "The isotopes in KK-1 are Cs-137 and Co-60"),
        ("Co-60", "It is in Cs-137 as in Co-60"),
        ("beta minus", "alpha, beta minus"),
        ("beta minus", "beta plus, beta minus decay"),
        ("carbon dioxide", "It is cooled by carbon dioxide, helium or sodium."),
        ("carbon dioxide", "carbon dioxide helium"),
        ("carbon dioxide", "It is not cooled by carbon dioxide."),
        ("carbon dioxide", "is, helium, is carbon dioxide"),
        ("95–99%", "between 95 and 98%"),
    ],
)
def test_a_sentence_that_says_more_or_otherwise_is_wrong(gold: str, text: str):
    assert score(text, asked(gold)).values["correct"] == 0


def test_a_number_of_no_known_unit_may_bring_one_that_the_passage_has():
    bare = {"prompt": "The sample holds 2,500 Bq. Activity?", "verifier": "numeric", "ground_truth": 2500}
    for text in ("2500", "2500 Bq", "2,500 Bq.", "2.5e3 Bq", "It is 2500 Bq", "2.5 kBq"):
        assert score(text, bare).values["correct"] == 1, text
    for text in ("2500 kBq", "2500 Sv", "2.5", "2500 Bq or 3 Bq", "2500 Bq 3"):
        assert score(text, bare).values["correct"] == 0, text
    assert score("2500 Sv", bare | {"unit": "Bq"}).reason == "wrong_unit"
    assert score("2500 Bq", bare | {"ground_truth": "2500"}).values["correct"] == 1
    assert score("2500 Bq", bare | {"prompt": "How many?"}).values["correct"] == 1


@pytest.mark.parametrize("answer", ["", "  "])
def test_an_empty_answer_is_judged_in_evaluation_and_refused_in_training(answer: str):
    for row in (qa("5.27 years"), {k: v for k, v in SFT.items() if k != "messages"} | {"prompt": "Extract."}):
        record = Inis(check_answers=False).record(row | {"completion": answer}, "f:1")
        result = TASK.score(record, Completion((), (), record.answer, True))
        assert (result.reason, result.values["correct"]) == ("no_answer", 0)
        assert record.meta["empty_answer"]
        with pytest.raises(UserError, match="no_answer"):
            TASK.record(row | {"completion": answer}, "f:1")


def test_tolerance_is_the_rows_own_and_never_for_counts():
    assert score("5.3 years", qa("5.27 years")).values["correct"] == 0
    assert score("5.3 years", qa("5.27 years", tolerance=0.01)).values["correct"] == 1
    assert score("1001", qa(1000)).values["correct"] == 0  # 0.1% off, but a count
    assert score("5.2×10^14 n/cm²/s", qa("5.2e14 n/cm2/s")).values["correct"] == 1
    assert score("520000000000001 n/cm²/s", qa("5.2e14 n/cm2/s")).values["correct"] == 0
    row = {**SFT, "field_rules": {**RULES, "activity": "numeric:0.01"}}
    assert score(changed(activity=186), row).values["exact_object"] == 1
    assert score(changed(activity=188), row).values["exact_object"] == 0


@pytest.mark.parametrize(
    "text",
    [
        *("not stated", "Not stated.", "unknown", "N/A", "The passage does not say", "not stated in the passage"),
        *("The passage does not state this.", "It is not mentioned in the text.", "I don't know", "no information"),
        *(
            "Cannot be determined from the passage.",
            "It isn't specified.",
            "Answer: not stated",
            "It can't be answered",
        ),
        *("The document doesn't say how long.", "There is no information in the text."),
    ],
)
def test_an_abstention_in_any_words(text: str):
    row = qa("not stated", type="unanswerable")
    assert dropped(text, row) == set()
    assert dropped("5.27 years", row) == {"correct", "qa_em", "qa_f1", "abstention_accuracy"}
    assert score("5.27 years", row).reason == "answered_unanswerable"


def test_grounded_needs_an_answer_and_reads_units():
    assert score("", qa("5.27 years")).values["grounded"] == 0
    assert score("185500 Bq", qa("5.27 years")).values["grounded"] == 1
    assert score("186 kBq", qa("5.27 years")).values["grounded"] == 0
    assert score("2021-03-04", qa("5.27 years")).values["grounded"] == 1
    assert score(changed(activity=185500, unit="Bq")).values["grounded"] == 1


def test_an_abstention_speaks_of_what_was_asked():
    row = {"prompt": "Badge XX-1 was read. What dose did XX-1 read?", "type": "unanswerable", "gold": "not stated"}
    for text in ("The dose is not stated.", "The dose of XX-1 was not given in the report."):
        assert score(text, row).values["correct"] == 1, text
    for text in (
        "5 mSv is not stated",
        "not stated, but probably 5 mSv",
        "not",
        "The colour is not stated",
        "not 5 mSv",
    ):
        assert score(text, row).reason == "answered_unanswerable", text


def test_strings_are_compared_as_words():
    assert dropped("The BETA-minus decay", qa("beta minus decay")) == set()
    assert dropped("β− decay", qa("beta minus decay")) == set()
    assert score("beta plus decay", qa("beta minus decay")).values["qa_f1"] == pytest.approx(2 / 3)


def test_one_field_is_judged_alone():
    row = {**SFT, "verifier": "json_field", "ground_truth": {"activity": 185.5}, "field_rules": RULES}
    assert dropped(changed(isotope="Cs-137"), row) == set()
    assert score(changed(activity=12), row).reason == "wrong_value"
    other = {"prompt": "?", "verifier": "json_field", "ground_truth": {"field": "activity", "value": 185.5}}
    record = TASK.record(other, "f")
    assert record.answer == '{"activity": 185.5}'
    assert TASK.score(record, Completion((), (), '{"activity": 185.5, "b": 1}', True)).values["correct"] == 1


def test_rows_of_every_kind_become_records():
    record = TASK.record(SFT, "f.jsonl:1")
    assert record.prompt == (Message("user", "Extract."),)
    assert (record.id, record.answer, record.meta["type"], record.meta["source"]) == (
        *("a", json.dumps(GOLD)),
        *("extract", "inis"),
    )
    pair = {k: v for k, v in SFT.items() if k != "messages"} | {
        "prompt": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Extract."}],
        "chosen": [{"role": "assistant", "content": json.dumps(GOLD)}],
        "rejected": [{"role": "assistant", "content": "{}"}],
        "rejected_kind": "missing_field",
    }
    assert [m.role for m in TASK.record(pair, "f").prompt] == ["system", "user"]
    assert TASK.record(pair, "f").meta["rejected_kind"] == "missing_field"
    rl = {"messages": [{"role": "user", "content": "?"}], "verifier": "numeric", "ground_truth": 5.27, "unit": "y"}
    assert TASK.record(rl, "f").answer == "5.27 y"
    assert score("5.27 years", rl).values["correct"] == 1
    assert TASK.record({"question": "What?", "context": "It is lead.", "type": "qa", "gold": "lead"}, "f").prompt == (
        Message("user", "Passage: It is lead.\nWhat?"),
    )
    assert Inis(name="inis_short").name == "inis_short"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": None}, "messages"),
        ({"messages": "Extract.", "completion": 3}, "chosen"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"gold": 5.27}, "gold"),
        ({"gold": None}, "gold"),
        ({"gold": {"isotope": "Co-60"}}, "hallucinated_field"),
        ({"type": "essay"}, "type"),
        ({"schema": "object"}, "schema"),
        ({"schema": {"type": "nothing"}}, "schema"),
        ({"schema": {"$ref": "https://example.org/s.json"}}, "schema"),
        ({"schema": {**SCHEMA, "required": ["colour"]}}, "schema"),
        ({"field_rules": {"isotope": "roughly"}}, "field_rules.isotope"),
        ({"field_rules": {"activity": "numeric:lots"}}, "field_rules.activity"),
        ({"field_rules": {"isotope": "enum:2"}}, "field_rules.isotope"),
        ({"field_rules": []}, None),
        ({"field_rules": ["enum"]}, "field_rules"),
        ({"verifier": "vibes"}, "verifier"),
        ({"tolerance": "1%"}, "tolerance"),
        ({"context": 5}, "context"),
        ({"gold": None, "verifier": "numeric"}, "ground_truth"),
        ({"verifier": "json_schema", "ground_truth": SCHEMA, "schema": None}, "ground_truth"),
    ],
)
def test_bad_rows_are_refused_with_place_and_field(change: dict[str, Any], field: str | None):
    if field is None:
        TASK.record({**SFT, "field_rules": {**RULES}, "schema": None}, "f")
        return
    with pytest.raises(UserError, match=r"f\.jsonl:7: ") as error:
        TASK.record({**SFT, **change}, "f.jsonl:7")
    assert field in str(error.value)


def test_all_metrics_are_there_for_every_kind_of_row():
    names = set(score(json.dumps(GOLD)).values)
    assert set(score("", qa("5.27 years")).values) == set(score("[]", LIST).values) == names
    assert score(json.dumps(GOLD), finished=False).values["eos_rate"] == 0


REWARD = InisReward()


def worth(text: str, row: dict[str, Any] = SFT, reward: InisReward = REWARD) -> float:
    return reward(TASK.record(row, "f"), Completion((), (), text, True))


def test_only_the_right_answer_gets_the_whole_reward():
    right = json.dumps(GOLD)
    stages = ["", json.dumps({"a": 1}), without("isotope"), changed(isotope="Cs-137"), right]
    values = [worth(text) for text in stages]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0, 1)
    assert values[1] == pytest.approx(0.1)
    assert values[3] == pytest.approx(0.1 + 0.2 + 0.7 * 6 / 7)
    assert worth(f"Sure: {right}") == pytest.approx(0.9)
    assert worth(right[:-1] + ', "tight": true}') == pytest.approx(0.9)
    assert worth("5.27 y", qa("5.27 years")) == 1
    assert worth("not stated", qa("5.27 years")) == 0
    assert worth("5.27 years, 12 years", qa("5.27 years")) == 0
    assert worth("It is 5.27 years", qa("5.27 years")) == 1
    assert worth("Possibly 5.27 years", qa("5.27 years")) == pytest.approx(0.7 * 2 / 3)


def test_the_stages_can_be_weighed():
    reward = InisReward(parse=0.3, schema=0.3, fields=0.4, weight=2.0, name="mine")
    assert worth(json.dumps({"a": 1}), reward=reward) == pytest.approx(0.3)
    pair = (TASK.record(SFT, "f"), Completion((), (), json.dumps(GOLD), True))
    table = RewardRunner([reward]).evaluate([pair])
    assert (table.names, table.values.tolist()) == (("mine",), [[1.0]])
    for stages in ((0.0, 0.3, 0.7), (0.5, 0.5, 0.5), (-0.1, 0.4, 0.7)):
        with pytest.raises(UserError, match="the sum 1"):
            InisReward(*stages)


def test_reasoning_is_taken_away():
    assert final_answer("<think>a</think> b") == final_answer("a</think>b") == final_answer(" b ") == "b"
    assert final_answer("<think>a</think>b<think>c</think>d") == "d"
    assert final_answer("<think>a") == final_answer("b<think>") == ""


PIECES = [
    *('{"', '"}', '{"isotope": "Co-60"', '"half_life": {"value": 5.27, "unit": "years"}', "[", "]", "}", ",", "null"),
    *("<think>", "</think>", "5.27 years", "not stated", "10^", "−", "×10^99", "1e999", "e", "%", " to ", "\\ud800"),
    *("\ud800", "\x00", "```json\n", "Cs-137", "137", "m", "2021-02-30", "µSv/h", "/", "true", "NaN", "9" * 400),
]
wild = st.text() | st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
RECORDS = [TASK.record(row, "f") for row in (SFT, LIST, qa("5.27 years"), qa("not stated", type="unanswerable"))]


@settings(max_examples=50, deadline=None)
@given(wild | st.recursive(st.none() | st.floats() | st.text() | st.booleans(), st.lists).map(json.dumps))
def test_any_text_is_judged_and_every_value_is_a_share(text: str):
    for record in RECORDS:
        completion = Completion((), (), text, True)
        result = TASK.score(record, completion)
        assert all(math.isnan(value) or 0 <= value <= 1 for value in result.values.values())
        assert (result.reason is None) == (result.values["correct"] == 1)
        json.dumps(result.detail)
        reward = REWARD(record, completion)
        assert 0 <= reward <= 1
        assert (reward == 1) == (result.values["correct"] == 1)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(GOLD)), st.none() | st.integers() | st.text(max_size=5) | st.booleans()))
def test_any_object_is_judged(value: dict[str, Any]):
    values = score(json.dumps({**GOLD, **value})).values
    assert 0 <= values["field_f1"] <= 1
    assert values["parse"] == values["sole_json"] == 1


@pytest.mark.parametrize(
    "unit", ["{", "[", '{"a":', '"', "1", "1 ", "1,", "9 to ", "Cs-", "10^", "1e1 ", "- ", "1 µSv/"]
)
def test_hostile_text_costs_linear_time(unit: str):
    started = time.process_time()
    for row in (SFT, LIST, qa("5.27 years")):
        score(unit * 10_000, row)
    assert time.process_time() - started < 60


def test_a_wrong_answer_of_a_row_is_refused_or_scored():
    row = {**SFT, "messages": [*SFT["messages"][:-1], {"role": "assistant", "content": "{}"}]}
    with pytest.raises(UserError, match="fails its own checks"):
        TASK.record(row, "rows.jsonl:3")
    lenient = Inis(check_answers=False)
    record = lenient.record(row, "rows.jsonl:3")
    assert lenient.score(record, Completion((), (), record.answer, True)).values["correct"] == 0


def test_rewards_are_for_rows_of_the_task():
    other = Record("x", (), "", "f")
    assert REWARD(other, Completion((), (), "{}", True)) is None
    assert not TASK.reads({"tables": {}})
    assert TASK.reads(SFT)
