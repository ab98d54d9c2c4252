"""Rows of the format-following data: the mix that was asked for, and no way round reading the prompt."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from lightning_posttrain.tasks import format_data, format_texts
from lightning_posttrain.tasks.format_data import FormatDataSpec, make_splits
from lightning_posttrain.tasks.format_following import FormatFollowing
from lightning_posttrain.tasks.strict_json import StrictJSONError, find_objects, parse_object
from lightning_posttrain.types import Completion

MIXED = FormatDataSpec(
    n_train=1500,
    n_eval=400,
    fix_bad_output_prob_train=0.4,
    fix_duplicate_json_prob_train=0.35,
    train_strictness="hard",
    eval_strictness="hard",
)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def mixed() -> dict[str, list[Row]]:
    return {str(split): rows for split, rows in make_splits(MIXED).items()}


def small(**changes: Any) -> FormatDataSpec:
    return replace(FormatDataSpec(n_train=30, n_eval=10, fix_duplicate_json_prob_train=0.3), **changes)


def dates(text: str) -> set[str]:
    return set(re.findall(r"\d{4}-\d{2}-\d{2}", text))


def amounts(text: str) -> set[float]:
    """Every amount a text shows, in sentences and in objects."""
    found = re.findall(r'(?:\$ ?|"amount": ?)([\d,]*\d(?:\.\d+)?)', text)
    return {float(number.replace(",", "")) for number in found}


def objects(text: str) -> list[Any]:
    """Every valid object in a text; the schema line of the strict rules is braced but no JSON."""
    parsed = []
    for piece in find_objects(text):
        try:
            parsed.append(parse_object(piece))
        except StrictJSONError:
            assert piece in format_texts.RULES["strict"]
    return parsed


def within_three_sigma(count: int, total: int, chance: float) -> bool:
    return abs(count - total * chance) <= 3 * math.sqrt(total * chance * (1 - chance))


def test_rows_are_accepted_by_the_task_and_gold_scores_full_marks(mixed: dict[str, list[Row]]) -> None:
    task = FormatFollowing()
    for row in mixed["train"][:100] + mixed["eval"][:100]:
        record = task.record(row, "x")
        result = task.score(record, Completion((), (), row["completion"], True))
        assert result.reason is None
        assert result.values["field_exact_match"] == 1.0


def test_ids_and_prompts_are_unique(mixed: dict[str, list[Row]]) -> None:
    rows = mixed["train"] + mixed["eval"]
    assert len({row["id"] for row in rows}) == len({row["prompt"] for row in rows}) == len(rows)


def test_repeated_prompts_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one name, item, sentence and day and three amounts, nine texts are left (three spellings each)."""
    for name in ("NAMES", "ITEMS", "SENTENCES"):
        monkeypatch.setattr(format_texts, name, getattr(format_texts, name)[:1])
    monkeypatch.setattr(format_data, "NUM_DAYS", 1)
    monkeypatch.setattr(format_data, "SMALL_CENTS", (1234, 1236))
    monkeypatch.setattr(format_data._RowMaker, "payment", _any_payment)
    spec = FormatDataSpec(4, 2, 0, 0.0, 0.0, 0.0, large_amount_prob=0.0, holdout=False)
    splits = make_splits(spec)
    assert len({row["prompt"] for rows in splits.values() for row in rows}) == 6


def _any_payment(self: Any, unlike: object = None) -> format_texts.Payment:
    return format_texts.Payment(format_texts.NAMES[0], format_texts.ITEMS[0], self.date(), self.cents())


def test_the_mix_is_the_one_asked_for(mixed: dict[str, list[Row]]) -> None:
    duplicate, fix, negative = 0.35, 0.65 * 0.4, 0.65 * 0.6 * 0.35  # each draw takes from what the one before left
    chances = {
        "fix_duplicate_json": duplicate,
        "fix_bad_output": fix,
        "hard_negative_train_priming": negative,
        "basic": 1 - duplicate - fix - negative,
    }
    rows = mixed["train"]
    for variant, chance in chances.items():
        assert within_three_sigma(sum(row["variant"] == variant for row in rows), len(rows), chance)
    for json_format in format_texts.JSON_FORMATS:
        assert within_three_sigma(sum(row["json_format"] == json_format for row in rows), len(rows), 1 / 3)
    fixes = [row["bad_output_style"] for row in rows if row["variant"] == "fix_bad_output"]
    for style in format_texts.BAD_OUTPUT_STYLES:
        assert within_three_sigma(fixes.count(style), len(fixes), 1 / 4)
    large = sum(json.loads(row["completion"])["amount"] >= 1000 for row in rows)
    assert within_three_sigma(large, len(rows), MIXED.large_amount_prob)
    held = mixed["eval"]
    assert {row["variant"] for row in held} == {"basic", "hard_negative_eval_non_priming"}
    assert within_three_sigma(sum(row["variant"] != "basic" for row in held), len(held), 0.35)


@pytest.mark.parametrize(
    ("change", "split", "variant"),
    [
        ({"hard_negative_prob_eval": 1.0}, "eval", "hard_negative_eval_non_priming"),
        ({"hard_negative_prob_eval": 0.0}, "eval", "basic"),
        ({"fix_duplicate_json_prob_train": 1.0}, "train", "fix_duplicate_json"),
        ({"fix_duplicate_json_prob_train": 0.0, "fix_bad_output_prob_train": 1.0}, "train", "fix_bad_output"),
    ],
)
def test_a_probability_of_one_or_zero_is_certain(change: Row, split: str, variant: str) -> None:
    splits = {str(name): rows for name, rows in make_splits(small(**change)).items()}
    assert {row["variant"] for row in splits[split]} == {variant}


def test_certain_hard_negatives_leave_no_basic_row() -> None:
    spec = small(hard_negative_prob_train=1.0, fix_bad_output_prob_train=0.0, fix_duplicate_json_prob_train=0.0)
    assert {row["variant"] for row in make_splits(spec)["train"]} == {"hard_negative_train_priming"}


def test_completion_spacing(mixed: dict[str, list[Row]]) -> None:
    for row in mixed["train"]:
        gold = json.loads(row["completion"])
        assert list(gold) == ["name", "date", "amount"]
        assert row["completion"] == format_texts.dumps(gold, row["json_format"])
    seen = {row["json_format"]: row["completion"] for row in mixed["train"]}
    assert '":"' in seen["minified"]
    assert '", "' in seen["spaced"]
    assert seen["indented"].startswith('{\n  "name": ')


def test_amounts_are_written_in_every_way(mixed: dict[str, list[Row]]) -> None:
    lines = [line for row in mixed["train"] for line in row["prompt"].splitlines() if line.startswith("TARGET")]
    written = [match for line in lines for match in re.findall(r"\$ ?[\d,]+(?:\.\d+)?", line)]
    assert len(written) == len(mixed["train"])
    assert within_three_sigma(sum(text.startswith("$ ") for text in written), len(written), 0.3)
    assert any(re.fullmatch(r"\$ ?\d,\d{3}\.\d\d", text) for text in written)  # the thousands comma
    assert any(re.search(r"\.\d$", text) for text in written)  # a trailing zero dropped
    assert any(text.endswith("0") and "." in text for text in written)  # and one kept


def test_without_large_amounts_no_comma_stands_in_a_number() -> None:
    rows = make_splits(small(large_amount_prob=0.0))["train"]
    assert not any(re.search(r"\d,\d", row["prompt"]) for row in rows)
    assert all(1.5 <= json.loads(row["completion"])["amount"] <= 250 for row in rows)
    large = make_splits(small(large_amount_prob=1.0))["train"]
    assert all(1000 <= json.loads(row["completion"])["amount"] < 10_000 for row in large)


@pytest.mark.parametrize(
    ("level", "has", "has_not"),
    [
        ("strict", ["Schema: ", "Text: "], ["Previous: ", "Legacy ["]),
        ("medium", ["TARGET: ", "Previous: ", "Reference number: "], ["Schema: ", "Legacy ["]),
        ("hard", ["TARGET [", "Legacy [", "Summary: ", "Note: "], ["Schema: ", "Previous: "]),
    ],
)
def test_strictness_of_each_split(level: Any, has: list[str], has_not: list[str]) -> None:
    other = "medium" if level == "strict" else "strict"
    for split, spec in (
        ("train", small(train_strictness=level, eval_strictness=other)),
        ("eval", small(train_strictness=other, eval_strictness=level)),
    ):
        rows = {str(name): rows for name, rows in make_splits(spec).items()}
        assert {row["instruction_strictness"] for row in rows[split]} == {level}
        basic = [row["prompt"] for row in rows[split] if row["variant"] == "basic"]
        assert basic
        for prompt in basic:
            assert all(word in prompt for word in has)
            assert not any(word in prompt for word in has_not)


@pytest.mark.parametrize("level", ["strict", "medium", "hard"])
def test_a_prompt_is_short_and_a_draft_always_has_its_target(level: Any) -> None:
    limit = 120 if level == "hard" else 150
    for row in make_splits(replace(MIXED, n_train=300, train_strictness=level))["train"]:
        assert len(row["prompt"].split()) <= limit
        if row["variant"].startswith("fix"):
            assert len(re.findall(r"^TARGET(?: \[[A-H]\d{3}\])?: ", row["prompt"], re.MULTILINE)) == 1


# Leaks


def target_values(prompt: str) -> Row:
    """What a careful reader of the TARGET line would answer."""
    (line,) = re.findall(r"^TARGET.*?: (.*)$", prompt, re.MULTILINE)
    (name,) = (name for name in format_texts.NAMES if name in line)
    return {"name": name, "date": dates(line).pop(), "amount": amounts(line).pop()}


def test_the_target_line_decides(mixed: dict[str, list[Row]]) -> None:
    for row in mixed["train"] + mixed["eval"]:
        assert target_values(row["prompt"]) == json.loads(row["completion"])


@pytest.mark.parametrize("place", [0, -1])
def test_copying_an_object_by_its_place_does_not_solve_drafts(mixed: dict[str, list[Row]], place: int) -> None:
    for variant in ("fix_duplicate_json", "fix_bad_output"):
        rows = [row for row in mixed["train"] if row["variant"] == variant]
        copied = sum(objects(row["prompt"])[place] == json.loads(row["completion"]) for row in rows)
        assert within_three_sigma(copied, len(rows), 0.5)


def test_of_two_objects_one_is_right_and_the_other_could_be(mixed: dict[str, list[Row]]) -> None:
    for row in mixed["train"]:
        if row.get("bad_output_style") != "duplicate_json":
            continue
        pair, gold = objects(row["prompt"]), json.loads(row["completion"])
        assert sorted(value == gold for value in pair) == [False, True]
        lines = row["prompt"].split("\n")
        (legacy,) = (line for line in lines if line.startswith("Legacy"))
        wrong = next(value for value in pair if value != gold)
        for key, value in wrong.items():  # each wrong value stands in the prompt: its presence tells nothing
            assert value == gold[key] or str(value) in legacy or (key == "amount" and value in amounts(legacy))


def test_a_forbidden_example_never_shows_the_answer(mixed: dict[str, list[Row]]) -> None:
    rows = [row for row in mixed["train"] if row["variant"] == "hard_negative_train_priming"]
    assert all("assistant\n```json\n" in row["prompt"] for row in rows)
    for row in rows:
        (shown,), gold = objects(row["prompt"]), json.loads(row["completion"])
        assert not any(shown[key] == gold[key] for key in gold)


def test_evaluation_prompts_show_no_failure(mixed: dict[str, list[Row]]) -> None:
    for row in mixed["eval"]:
        assert "assistant" not in row["prompt"].lower()
        assert "```" not in row["prompt"]
        assert "{" not in row["prompt"]


def test_the_target_line_stands_anywhere(mixed: dict[str, list[Row]]) -> None:
    basic = [row["prompt"].split("\n")[1:] for row in mixed["eval"] if row["variant"] == "basic"]
    places = [next(place for place, line in enumerate(lines) if line.startswith("TARGET")) for lines in basic]
    for place in range(4):
        assert within_three_sigma(places.count(place), len(places), 1 / 4)


def test_no_date_or_amount_of_the_evaluation_is_seen_in_training(mixed: dict[str, list[Row]]) -> None:
    train, held = ("\n".join(row["prompt"] + row["completion"] for row in mixed[split]) for split in ("train", "eval"))
    assert dates(held)
    assert amounts(held)
    assert not dates(train) & dates(held)
    assert not amounts(train) & amounts(held)


def test_without_holdout_the_splits_share_values() -> None:
    splits = make_splits(replace(MIXED, n_train=400, holdout=False))
    train, held = ("\n".join(row["completion"] for row in rows) for rows in splits.values())
    assert dates(train) & dates(held)


def test_names_and_items_have_the_letters_that_break_careless_code() -> None:
    assert len(set(format_texts.NAMES)) == 11
    assert len(set(format_texts.ITEMS)) == 6
    for letter in "'-ë":
        assert any(letter in name for name in format_texts.NAMES)
