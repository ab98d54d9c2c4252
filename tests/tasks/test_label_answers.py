"""Answers that name a label, as models write them: one in any usual form is read, several or a denied one are not."""

import pytest
from answer_tables import answers

from lightning_posttrain.tasks.banking77 import LABELS, Banking77
from lightning_posttrain.tasks.pubmedqa import PubMedQA
from lightning_posttrain.types import Completion

GOLD = 12  # card_delivery_estimate
IDS = (
    answers(
        r"""
        12 ¦ 12. ¦ **12** ¦ `12` ¦ "12" ¦ (12) ¦ [12] ¦ 12: card_delivery_estimate ¦ 12 - card_delivery_estimate ¦
        #12 ¦ 12 card delivery estimate ¦ 12 (card_delivery_estimate) ¦ **12: card_delivery_estimate** ¦
        Category: 12 ¦ Answer: 12 ¦ Label: 12 ¦ category 12 ¦ \boxed{12} ¦ 12) card_delivery_estimate ¦
        12, card_delivery_estimate ¦ 012 ¦ *12* ¦ ID: 12 ¦ 12<|im_end|> ¦ 12</s> ¦ <think>13 or 12?</think>12 ¦
        The category: 12 ¦ 12! ¦ 12: Card delivery estimate. ¦ **Category:** 12
        """,
        "12\n",
        "\n\n12",
        "12\ncard_delivery_estimate",
        "12\n12",
        "12\n\nThe customer asks when a card comes.",
    ),
    answers(
        """
        12 or 13 ¦ 12, 13 ¦ 12/13 ¦ 12 13 ¦ 12 and 13 ¦ 12-13 ¦ 12; 13 ¦ [12, 13] ¦ 12 | 13 ¦ 12 & 13 ¦ 13 ¦ 1 ¦
        2 ¦ 120 ¦ 112 ¦ 12.5 ¦ 12,000 ¦ -12 ¦ not 12 ¦ 12? ¦ maybe 12 ¦ 12, maybe 13 ¦ either 12 or 13 ¦
        12 or another ¦ 13, not 12 ¦ 12 is wrong ¦ 13: card_delivery_estimate ¦ 12: card_linking ¦ 77 ¦ 99 ¦
        twelve ¦ card_arrival ¦ 12th ¦ x12 ¦ <think>12 ¦ 12 to 14 ¦ 12 13 14 ¦ 0 1 2 3 4 5 6 7 8 9 10 11 12 ¦
        It could be 11, 12 ¦ 12 (or 13) ¦ 12 perhaps ¦ none of 12 ¦ 12a
        """,
        "",
        "12\n13",
        "13\n12",
        "12\n- 13",
        "12: card_delivery_estimate\n13: card_linking",
    ),
)
NAMES = (
    answers(
        r"""
        card_delivery_estimate ¦ Card delivery estimate ¦ card-delivery-estimate ¦ **card_delivery_estimate** ¦
        `card_delivery_estimate` ¦ "card_delivery_estimate" ¦ card_delivery_estimate. ¦ CARD_DELIVERY_ESTIMATE ¦
        Category: card_delivery_estimate ¦ 12: card_delivery_estimate ¦ card_delivery_estimate (12) ¦
        [card_delivery_estimate] ¦ Answer: card_delivery_estimate ¦ card_delivery_estimate<|im_end|> ¦
        \boxed{card_delivery_estimate} ¦ The category: card delivery estimate ¦ label: card_delivery_estimate
        """,
        "card_delivery_estimate\nbecause the customer asks when it comes",
    ),
    answers(
        """
        card_arrival ¦ card_delivery_estimate or card_arrival ¦ card_delivery_estimate, card_arrival ¦
        card_delivery ¦ not card_delivery_estimate ¦ card_delivery_estimate? maybe ¦
        card_delivery_estimate/card_arrival ¦ 12 ¦ card ¦ 13: card_delivery_estimate ¦
        card_delivery_estimate (13) ¦ <think>card_delivery_estimate ¦
        estimate
        card_delivery_estimate and others ¦ card_delivery_estimates_x
        """,
        "",
        "card_delivery_estimate\ncard_arrival",
        "- card_arrival\n- card_delivery_estimate",
    ),
)


def banking(answer: str, gold: int, text: str) -> float:
    task = Banking77(answer=answer)
    record = task.record({"text": "x", "label": gold}, "f:1")
    return task.score(record, Completion((), (), text, True)).values["accuracy"]


@pytest.mark.parametrize(("text", "right"), [(t, r) for r, ts in ((1, IDS[0]), (0, IDS[1])) for t in ts])
def test_categories_by_number(text: str, right: int):
    assert banking("id", GOLD, text) == right


@pytest.mark.parametrize(("text", "right"), [(t, r) for r, ts in ((1, NAMES[0]), (0, NAMES[1])) for t in ts])
def test_categories_by_name(text: str, right: int):
    assert banking("name", GOLD, text) == right


def test_every_category_in_any_form_and_none_beside_another():
    for gold, name in enumerate(LABELS):
        other = (gold + 7) % len(LABELS)
        for text in (f"{gold}", f"**{gold}**", f"{gold}: {name}", f"{gold} - {name}", f"Category: {gold}", f"{gold}."):
            assert banking("id", gold, text) == 1, text
        for text in (f"{other}", f"{gold} or {other}", f"{gold}, {other}", f"{gold}: {LABELS[other]}", f"not {gold}"):
            assert banking("id", gold, text) == 0, text
        for text in (name, f"**{name}**", f"{gold}: {name}", name.replace("_", " "), name.upper(), f'"{name}"'):
            assert banking("name", gold, text) == 1, text
        for text in (
            LABELS[other],
            f"{name} or {LABELS[other]}",
            f"{name}, {LABELS[other]}",
            f"not {name}",
            f"{other}",
        ):
            assert banking("name", gold, text) == 0, text


WORDS = {
    "yes": answers(
        r"""
        yes ¦ Yes ¦ YES ¦ yes. ¦ **Yes** ¦ "yes" ¦ `yes` ¦ (yes) ¦ Yes! ¦ Answer: yes ¦ The answer is yes. ¦
        \boxed{yes} ¦ _Yes_ ¦ Yes, it does. ¦ Yes, there is no doubt. ¦ The answer is **yes**. ¦
        Final answer: Yes ¦ yes<|im_end|> ¦ \text{yes} ¦ <think>no?</think>yes ¦ Based on the context, yes. ¦
        There is no doubt: the answer is yes. ¦ Conclusion: yes ¦
        Yes - the treatment helps, although no effect was seen in men. ¦ It does help, so yes ¦ yes yes ¦
        I would say yes
        """
    ),
    "no": answers(
        """
        no ¦ No ¦ NO. ¦ **No** ¦ No, it does not. ¦ Answer: No ¦ The answer is no. ¦ 'no' ¦
        No. Yes was expected. ¦ no</s> ¦ The conclusion is no ¦ The final answer is: no ¦
        So the answer would be no ¦ **Answer: no** ¦ no! ¦ No evidence was found.
        """
    ),
    "maybe": answers(
        """
            maybe ¦ Maybe ¦ **maybe** ¦ Maybe. ¦ The answer is maybe ¦ Answer: maybe ¦ Maybe, the data are few ¦
            MAYBE
            """
    ),
    None: answers(
        """
        yes or no ¦ yes/no ¦ yes and no ¦ Yes, no ¦ no, or maybe yes ¦ maybe yes ¦ maybe no ¦ yes, maybe ¦
        no, maybe ¦ yes|no ¦ yes-no ¦ either yes or no ¦ neither yes nor no ¦ not yes ¦ not no ¦ It isn't yes ¦
        The answer is not no ¦ know ¦ eyes ¦ I do not know ¦ It cannot be said. ¦ unknown ¦ unclear ¦ perhaps ¦
        <think>yes ¦ nothing ¦ notyes ¦ Yesterday ¦ yes, but maybe no ¦ Some say yes. Others say no. ¦
        There is no proof that yes is right ¦ whether yes is right ¦ yes no maybe ¦ yes, no, maybe ¦
        It is hard to say no when many say yes ¦ noyes ¦ yes to no ¦ yes & no ¦ 1 ¦ true
        """,
        "",
    ),
}


@pytest.mark.parametrize(("text", "label"), [(text, label) for label, texts in WORDS.items() for text in texts])
def test_yes_no_and_maybe(text: str, label: str | None):
    task = PubMedQA()
    for gold in ("yes", "no", "maybe"):
        record = task.record({"question": "a?", "context": "b", "answer": gold}, "f:1")
        assert task.score(record, Completion((), (), text, True)).values["accuracy"] == (gold == label)
    assert task.parse(text) == label
