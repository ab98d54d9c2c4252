"""Numbers after ``####`` and between tags as models write them, and the lenient metric as lm-eval has it."""

import json
from pathlib import Path

import pytest
from answer_tables import answers

from lightning_posttrain.tasks.gsm8k import GSM8K
from lightning_posttrain.tasks.gsm8k_rewards import Correctness
from lightning_posttrain.tasks.gsm8k_tags import GSM8KTags
from lightning_posttrain.types import Completion

TABLE = [
    (
        "18",
        answers(
            r"""
            18 ¦ 18. ¦ $18 ¦ \$18 ¦ 18.0 ¦ 18.00 ¦ **18** ¦ *18* ¦ `18` ¦ __18__ ¦ 18! ¦ 18; ¦ (18) ¦ [18] ¦
            x = 18 ¦ = 18 ¦ 18 dollars ¦ $18 per day ¦ \boxed{18} ¦ $\boxed{18}$ ¦ \(18\) ¦ $18$ ¦ \text{18} ¦
            18 apples ¦ 18 eggs left ¦ 18 km ¦ 18 cm^2 ¦ 18 m² ¦ 18 miles/hour ¦ 18% ¦ 18 percent ¦
            The answer is 18. ¦ Answer: 18 ¦ 6 * 3 = 18 ¦ +18 ¦ The final answer is **18**. ¦ 18 USD ¦ USD 18 ¦
            €18 ¦ ¥18 ¦ 18 years old ¦ 18<|im_end|> ¦ 18<|endoftext|> ¦ 18</s> ¦ She makes $18 every day. ¦
            $\text{18 dollars}$ ¦ 36/2 ¦ \frac{36}{2} ¦ 18 ¦ １８ ¦ 18kg ¦ approximately 18 ¦ **18 dollars** ¦
            **$18** ¦ 18\,\text{dollars} ¦ \boxed{18\text{ dollars}} ¦ 1.8e1 ¦ Total = $18.00 ¦ 18\%
            """
        ),
        answers(
            r"""
            19 ¦ 1.8 ¦ 180 ¦ 81 ¦ -18 ¦ −18 ¦ 18 or 19 ¦ 18, 19 ¦ 18-19 ¦ 18 to 20 ¦ 18 and 2 ¦ not 18 ¦
            18 thousand ¦ 18k ¦ 18M ¦ 18 million ¦ 18 hundred ¦ 18 dozen ¦ half of 18 ¦ twice 18 ¦ less than 18 ¦
            at least 18 ¦ more than 18 ¦ >18 ¦ ≥ 18 ¦ 18 ± 1 ¦ 18? ¦ minus 18 ¦ 18 = 9 * 2 + 1 = 19 ¦ 18/19 ¦
            18:30 ¦ 18th ¦ maybe 18 ¦ 1 8 ¦ 18.5 ¦ 18,5 ¦ 0.18 ¦ 1/18 ¦ 18 + 1 ¦ 18 * 2 ¦ 2^18 ¦ $18 or $19 ¦
            either 18 ¦ up to 18 ¦ eighteen hundred ¦ unknown ¦ \boxed{19} ¦ $-18 ¦ <18
            """,
            "",
            " ",
            "\n18",
        )[:-1],
    ),
    (
        "1,000",
        answers(
            r"""
            1000 ¦ 1,000 ¦ 1 000 ¦ $1,000.00 ¦ 1'000 ¦ 1{,}000 ¦ 1\,000 ¦ 1e3 ¦ 1000 ml ¦ **1,000** meters ¦
            10^3 = 1000
            """
        ),
        answers(
            """
            1,00 ¦ 10,00 ¦ 1.000 ¦ 100 ¦ 10000 ¦ 1 ¦ 1,000,000 ¦ 1 000 000 ¦ 1,000 or 2,000 ¦ 1, 000 ¦ 1,0000 ¦
            one
            """
        ),
    ),
    (
        "-5",
        answers(
            r"""
            -5 ¦ −5 ¦ -5.0 ¦ $-5 ¦ -$5 ¦ -5 degrees ¦ **-5** ¦ x = -5 ¦ \boxed{-5} ¦ The answer is -5 ¦ - 5
            """
        ),
        answers("5 ¦ --5 ¦ 0-5 ¦ -5 or 5 ¦ -50 ¦ -0.5 ¦ 5- ¦ not -5"),
    ),
    (
        "2.5",
        answers(
            r"""
            2.5 ¦ 2.50 ¦ $2.50 ¦ 5/2 ¦ 2 1/2 ¦ \frac{5}{2} ¦ 2.5 hours ¦ .25e1 ¦ 2.5 miles per hour ¦ $2.5$
            """
        ),
        answers("2,5 ¦ 25 ¦ 2 ¦ 2.5.1 ¦ 2.5 or 3 ¦ 3 ¦ 2/5 ¦ 2 and a half of 3 ¦ 2.5 million"),
    ),
    ("0", answers("0 ¦ 0.0 ¦ $0 ¦ 0% ¦ 0 apples ¦ **0**"), answers("none ¦ 10 ¦ 1 ¦ 0.1 ¦ 0 or 1 ¦ zero or one ¦ O")),
]
PAIRS = [(gold, text, right) for gold, good, bad in TABLE for right, ts in ((1, good), (0, bad)) for text in ts]
TEST = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "test.jsonl"
TASK, TAGS, REWARD = GSM8K(), GSM8KTags(), Correctness(require_format=False)


def completion(text: str) -> Completion:
    return Completion((), (), text, True)


def row(gold: str) -> dict[str, str]:
    return {"question": "How many?", "answer": f"So.\n#### {gold}"}


def test_the_table_has_enough_of_both_kinds():
    assert sum(right for *_, right in PAIRS) >= 75
    assert sum(1 - right for *_, right in PAIRS) >= 75


@pytest.mark.parametrize(("gold", "text", "right"), PAIRS)
def test_the_metrics_and_the_reward_read_the_same(gold: str, text: str, right: int):
    record, tagged = TASK.record(row(gold), "f:1"), TAGS.record(row(gold), "f:1")
    answer = completion(f"so<end_working_out><SOLUTION>{text.split('<|')[0].removesuffix('</s>')}</SOLUTION>")
    assert TASK.score(record, completion(f"So it is.\n#### {text}")).values["accuracy"] == right
    assert TAGS.score(tagged, answer).values["accuracy"] == right
    assert REWARD(tagged, answer) == right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<think>#### 18", 0),
        ("<think>\nfirst\n#### 18\n", 0),
        ("<think>#### 19</think>\n#### 18", 1),
        ("#### 19\n#### 18", 1),
        ("#### 18\n#### 19", 0),
        ("18", 0),
        ("#### 18\n\nI am done.", 1),
        ("####18", 1),
        ("####", 0),
        ("It is 18 ####", 0),
    ],
)
def test_which_number_is_the_answer(text: str, right: int):
    assert TASK.score(TASK.record(row("18"), "f:1"), completion(text)).values["accuracy"] == right


@pytest.mark.parametrize("text", ["<think>so<end_working_out><SOLUTION>18</SOLUTION>", "<SOLUTION>18"])
def test_a_solution_in_reasoning_that_never_ends_is_none(text: str):
    record = TAGS.record(row("18"), "f:1")
    assert TAGS.score(record, completion(text)).values["accuracy"] == REWARD(record, completion(text)) == 0


FLEXIBLE = answers(
    """
    #### 18 ¦ It is 18. ¦ 18 or 19 ¦ 19, then 18 ¦ $18 ¦ 18 dollars. ¦ so 18.00 ¦ 1,8 ¦ -18 ¦ 18! ¦ nothing ¦
    18 - 0 ¦ **18** ¦ \\boxed{18} ¦ 9+9=18 ¦ 18.5 ¦ #### 18. ¦ 0018 ¦ 18,000 ¦ $18,. ¦ 7 ¦ . ¦ $ ¦
    18 eggs, 2 left ¦ x18y ¦ 18: yes ¦ #### 19
    """
)


@pytest.mark.parametrize("text", FLEXIBLE)
@pytest.mark.parametrize("gold", ["18", "1,000", "-5"])
def test_the_lenient_metric_is_lm_evals(text: str, gold: str):
    metrics = pytest.importorskip("lm_eval.api.metrics")
    from lm_eval.filters.extraction import RegexFilter

    text = text.replace("18", gold)
    rules = {"regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"], "ignore_case": True}
    [[taken]] = RegexFilter("(-?[$0-9.,]{2,})|(-?[0-9]+)", -1).apply([[text]], [])
    expected = metrics.exact_match_hf_evaluate([taken], [row(gold)["answer"]], **rules)["exact_match"]
    found = TASK.score(TASK.record(row(gold), "f:1"), completion(text)).values["accuracy_flexible"]
    assert found == float(expected)


def spellings(gold: str) -> tuple[list[str], list[str]]:
    """Honest ways to write a published number, and wrong ones."""
    value, plain = int(gold.replace(",", "")), gold.replace(",", "")
    right = [plain, f"{value:,}", f"**{plain}**", f"${plain}", f"{plain} dollars", f"x = {plain}", f"{plain}."]
    right += [rf"\boxed{{{plain}}}", f"{plain}.00", f"The answer is {plain}.", f"{plain}<|im_end|>"]
    wrong = [f"{value + 1}", f"{value} or {value + 2}", f"not {value}", f"{value * 10 + 3}", f"{value}-{value + 4}"]
    return right, wrong


@pytest.mark.skipif(not TEST.is_file(), reason="the published file is not here")
def test_all_golds_of_the_published_file_in_any_spelling():
    rejected = accepted = total = 0
    for line in TEST.read_text(encoding="utf-8").splitlines():
        record = TASK.record(json.loads(line), "f:1")
        right, wrong = spellings(record.meta["gold"])
        good, bad = (
            sum(TASK.score(record, completion(f"So\n#### {text}")).values["accuracy"] for text in texts)
            for texts in (right, wrong)
        )
        rejected, accepted, total = rejected + len(right) - good, accepted + bad, total + len(right)
    print(f"rejected {rejected}, accepted {accepted} of {total}")
    assert total > 5_000
    assert (rejected, accepted) == (0, 0)
