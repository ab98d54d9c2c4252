"""The prompts of the enterprise tasks, word for word, by both rules: what a model was trained on stays what it is."""

import pytest

from lightning_posttrain.tasks.banking77 import LABELS, Banking77
from lightning_posttrain.tasks.base import Task
from lightning_posttrain.tasks.nl2sql import NL2SQL
from lightning_posttrain.tasks.pubmedqa import PubMedQA
from lightning_posttrain.tasks.tatqa import TatQA

TABLE = {
    "table": [["", "2019"], ["Sales", "$1,452.4"]],
    "paragraphs": ["In millions.", "Sales grew."],
    "question": "How much did sales grow?",
    "answer": 12.61,
    "answer_type": "arithmetic",
    "scale": "percent",
}
SHOWN = """\


Table:
 | 2019
Sales | $1,452.4

Text: In millions. Sales grew.

Question: How much did sales grow?

Answer:"""
SQL = {"user": "Schema: t(a)\n\nHow many?", "sql": "SELECT count(*) FROM t"}
EXPERT = "You are an expert in SQL. Write one SQL query (SQLite) that answers the question about the database."
ASKED = "Answer the question from the table and the text."
TOLD = ", followed by its scale (thousand, million, billion or percent) if it has one"


def shown(task: Task, row: dict) -> tuple[str, str]:
    """The only message of the prompt, and the target."""
    record = task.record(row, "rows.jsonl:1")
    assert [message.role for message in record.prompt] == ["user"]
    return record.prompt[0].content, record.answer


@pytest.mark.parametrize(
    ("options", "before", "target"),
    [
        ({}, f"{ASKED} Put the final answer{TOLD}, in \\boxed{{}}.", "\\boxed{12.61 percent}"),
        ({"scale": "drop"}, f"{ASKED} Put the final answer, in \\boxed{{}}.", "\\boxed{12.61}"),
        ({"box": "none"}, f"{ASKED} Write the answer{TOLD}.", "12.61 percent"),
        ({"rules": "compat"}, f"{ASKED} Put the final answer in \\boxed{{}}.", "12.61"),
        ({"rules": "compat", "box": "both"}, f"{ASKED} Put the final answer in \\boxed{{}}.", "\\boxed{12.61}"),
        ({"rules": "compat", "box": "none"}, ASKED, "12.61"),
        (
            {"rules": "compat", "scale": "append"},
            f"{ASKED} Put the final answer{TOLD}, in \\boxed{{}}.",
            "12.61 percent",
        ),
    ],
)
def test_tatqa(options, before, target):
    assert shown(TatQA(**options), TABLE) == (before + SHOWN, target)


def test_nl2sql():
    block = "Give the query in a ```sql block."
    fenced = f"```sql\n{SQL['sql']}\n```"
    assert shown(NL2SQL(), SQL) == (f"{EXPERT} {block}\n\n{SQL['user']}", fenced)
    assert shown(NL2SQL(rules="compat"), SQL) == (f"{EXPERT}\n\n{SQL['user']}\n\n{block}", SQL["sql"])
    assert shown(NL2SQL(rules="compat", target="block"), SQL)[1] == fenced
    assert shown(NL2SQL(target="bare"), SQL)[1] == SQL["sql"]


@pytest.mark.parametrize("rules", ["strict", "compat"])
def test_pubmedqa(rules):
    row = {"question": "Does it help?", "CONTEXTS": ["We asked.", "They said."], "answer": "maybe"}
    prompt = (
        "Answer the question from the medical context with one word: yes, no or maybe.\n\n"
        "Context: We asked. They said.\n\nQuestion: Does it help?\n\nAnswer:"
    )
    assert shown(PubMedQA(rules=rules), row) == (prompt, "maybe")


@pytest.mark.parametrize("rules", ["strict", "compat"])
def test_banking77(rules):
    row = {"text": "Where is my card?", "category": "card_arrival"}
    prompt, target = shown(Banking77(rules=rules), row)
    listed = "\n".join(f"{i}: {name}" for i, name in enumerate(LABELS))
    rest = [part for part in prompt.split(listed) if part]
    assert rest == [
        "You are a classifier of messages that customers send to their bank. Choose the one category that fits the "
        "message best.\n\nCategories:\n",
        "\n\nRules:\n- Answer with one integer from 0 to 76, the category's id.\n- Write nothing else: no words around "
        "it, no explanation.\n- Answers look like: 0, 38, 76\nRemember: one integer from 0 to 76, the category's id, "
        "and only that.\n\n<query>Where is my card?</query>",
    ]
    assert target == "11"
    first = shown(Banking77(rules=rules, prompt="short", answer="name"), row)
    assert first == (
        "Classify the query into a banking category.\n\nQuery: Where is my card?\nCategory:",
        "card_arrival",
    )
