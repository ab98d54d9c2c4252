"""IFEval: lm-eval's verdicts on every published row, and the same ones each time, without a network or nltk's data."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_posttrain.tasks.base import Score
from lightning_posttrain.tasks.ifeval import IFEval, checkers
from lightning_posttrain.tasks.ifeval.task import FAMILIES
from lightning_posttrain.tasks.registry import task_class
from lightning_posttrain.types import Completion, UserError

DATA = Path(__file__).parents[3] / "shared" / "data" / "ifeval" / "input_data.jsonl"
PROSE = (
    "Dear Mr. Smith,\n\nI went to Washington D.C. last week. It was GREAT! The museums (all of them) were open, "
    "weren't they? We paid $3.50 each.\n\nP.S. Bring a friend."
)
ANSWERS = (
    PROSE,
    PROSE.upper(),
    PROSE.lower().replace(",", ""),
    f'"{PROSE}"',
    f"<<A title>>\n\n* *one*\n* **two**\n- three [place] [name] [date]\n\n{PROSE}",
    json.dumps({"answer": PROSE}),
    "```json\n[1, 2]\n```",
    f"{PROSE}\n\n******\n\n{PROSE.lower()}",
    "SECTION 1\nOne.\n\nSECTION 2\nTwo.\n\n***\n\nThree. Is there anything else I can help with?",
    "My answer is yes.",
    " ".join([PROSE] * 8),
    "Je ne sais pas ce que vous voulez, mais je suis content d'être ici avec vous aujourd'hui.",
    "",
    "!!! ### 12",
    "P.P.S hello",
)

EDGES = ("", "\n\n", " \n", "\t")


def row(*instructions: tuple[str, dict], **columns) -> dict:
    names, arguments = zip(*instructions, strict=True)
    given = {"key": 7, "prompt": "Do it.", "instruction_id_list": list(names), "kwargs": list(arguments)}
    return {**given, **columns}


def answer(text: str, finished: bool = True) -> Completion:
    return Completion((1,), (0.0,), text, finished)


def scored(text: str, *instructions: tuple[str, dict], task: IFEval | None = None) -> Score:
    task = task or IFEval()
    return task.score(task.record(row(*instructions), "rows.jsonl:1"), answer(text))


NO_COMMA = ("punctuation:no_comma", {})
TITLE = ("detectable_format:title", {})
FIVE_WORDS = ("length_constraints:number_words", {"num_words": 5, "relation": "at least"})


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        ("<<Hi>> one two three four five", [True, True, True], [True, True, True]),
        ("<<Hi>> one, two, three, four, five", [False, True, True], [False, True, True]),
        ("Sure, here it is:\n<<Hi>> one two three four five", [False, True, True], [True, True, True]),
        ("<<Hi>> one two three four five\nGood luck, friend", [False, True, True], [True, True, True]),
        ("<*<Hi>> one two three four", [True, False, True], [True, True, True]),
        ("no title here", [True, False, False], [True, False, False]),
        ("", [False, False, False], [False, False, False]),
        (" \n ", [False, False, False], [False, False, False]),
    ],
)
def test_strict_and_loose(text, strict, loose):
    found = scored(text, NO_COMMA, TITLE, FIVE_WORDS)
    assert found.detail["strict"] == strict
    assert found.detail["loose"] == loose
    assert found.values["prompt_level_strict_acc"] == all(strict)
    assert found.values["prompt_level_loose_acc"] == all(loose)
    names = [NO_COMMA[0], TITLE[0], FIVE_WORDS[0]]
    assert found.reason == next((n for n, good in zip(names, strict, strict=True) if not good), None)


def test_a_family_without_an_instruction_does_not_apply():
    values = scored(
        "a, b", NO_COMMA, FIVE_WORDS, ("length_constraints:number_words", {"num_words": 9, "relation": "less than"})
    ).values
    assert values["strict/punctuation"] == 0
    assert values["strict/length_constraints"] == 0.5  # less than 9 words, but no 5
    assert math.isnan(values["strict/keywords"])
    assert {name for name in values if name.startswith("strict/")} == {f"strict/{family}" for family in FAMILIES}


def test_instruction_level_accuracy_is_pooled_over_instructions():
    one = scored("<<Hi>> a", NO_COMMA, TITLE, FIVE_WORDS)  # 2 of 3
    other = scored("a, b", NO_COMMA)  # 0 of 1
    assert IFEval().corpus_metrics([one, other]) == {"inst_level_strict_acc": 0.5, "inst_level_loose_acc": 0.5}


def test_reasoning_is_no_part_of_the_answer_but_by_the_old_rule():
    text = "<think>one, two</think>three"
    assert scored(text, NO_COMMA).values["prompt_level_strict_acc"] == 1
    assert scored(text, NO_COMMA, task=IFEval("compat")).values["prompt_level_strict_acc"] == 0
    assert scored("<think>three", NO_COMMA).values["prompt_level_strict_acc"] == 0
    with pytest.raises(UserError, match="rules='loose'"):
        IFEval("loose")


FIRST_WORD = (
    "length_constraints:nth_paragraph_first_word",
    {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "hello"},
)


@pytest.mark.parametrize(
    ("text", "strict"),
    [
        ("Hello there.\n\nGood bye.", 1),
        ("Hello there.\n\nGood bye.\n\n", 1),
        ("\n\nHello there.\n\nGood bye.", 0),  # the first paragraph is a blank one
        ("\n Hello there.\n\nGood bye.\n", 1),
        ("<think>a</think>\n\nHello there.\n\nGood bye.", 1),  # lm-eval takes white space after reasoning away
        ("a</think>Hello there.\n\nGood bye.\n\n", 1),
    ],
)
def test_white_space_around_an_answer_counts_as_in_lm_eval(text, strict):
    assert scored(text, FIRST_WORD).values["prompt_level_strict_acc"] == strict


def test_the_hubs_rows_have_all_arguments_and_mostly_nulls():
    nulls = dict.fromkeys(("num_words", "relation", "keywords", "language", "letter"))
    hub = scored("a b c d e", (FIVE_WORDS[0], nulls | FIVE_WORDS[1]), (NO_COMMA[0], nulls))
    assert hub.values["prompt_level_strict_acc"] == 1


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (row(NO_COMMA, prompt=" "), "prompt=' '"),
        (row(NO_COMMA, instruction_id_list="x"), "instruction_id_list='x'"),
        (row(NO_COMMA, instruction_id_list=[], kwargs=[]), r"instruction_id_list=\[\]"),
        (row(NO_COMMA, kwargs=[]), r"kwargs=\[\] for 1 instructions"),
        (row(NO_COMMA, kwargs=["x"]), "kwargs hold 'x'"),
        (row(("punctuation:no_comas", {})), "punctuation:no_comas"),
        (row(("length_constraints:number_words", {"relation": "at least"})), "num_words"),  # else drawn at random
        (row(("length_constraints:number_words", {"relation": "about", "num_words": 3})), "about"),
        (row(("length_constraints:number_words", {"relation": "at least", "num_words": "x"})), "number_words"),
        (row(("punctuation:no_comma", {"language": "de"})), "language"),
        (row(NO_COMMA, answer=3), "answer=3"),
    ],
)
def test_bad_rows_are_refused_by_name(bad, named):
    with pytest.raises(UserError, match=r"rows.jsonl:1: .*" + named):
        IFEval().record(bad, "rows.jsonl:1")


def test_it_is_registered_and_reads_its_own_rows():
    assert task_class("ifeval") is IFEval
    assert IFEval().reads(row(NO_COMMA))
    assert not IFEval().reads({"question": "?"})
    record = IFEval().record(row(NO_COMMA, prompt="  Say it.\n", answer="x"), "f:1")
    assert (record.id, record.answer, record.prompt[0].content) == ("7", "x", "  Say it.\n")


LANGUAGE = ("language:response_language", {"language": "en"})


def test_verdicts_repeat_and_leave_no_trace():
    """Unseeded, the language of such a text is drawn anew each time; the letter is drawn by a checker itself."""
    import langdetect

    hash_sign = ("keywords:letter_frequency", {"letter": "#", "let_frequency": 1, "let_relation": "at least"})
    random.seed(123)
    state, seed = random.getstate(), langdetect.DetectorFactory.seed
    first, *others = [scored("no es la te un on we me", LANGUAGE, hash_sign).detail for _ in range(12)]
    assert all(other == first for other in others)
    assert random.getstate() == state
    assert langdetect.DetectorFactory.seed is seed


def test_undetectable_texts_are_not_logged(caplog):
    assert scored("12 34 !!", LANGUAGE).values["prompt_level_strict_acc"] == 1  # lm-eval: undecided counts as followed
    assert not caplog.records


SENTENCES = ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"})
CAPITALS = ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"})


@pytest.fixture
def without_data(monkeypatch):
    monkeypatch.setattr(checkers, "has_data", lambda: False)


@pytest.mark.parametrize(
    ("text", "sentences", "capitals"),
    [
        ("One. Two. Three.", True, False),
        ("I met Dr. Smith e.g. at 3 p.m. today. He left.", False, False),
        ("It WAS $3.50. VERY CHEAP! So we left.", True, True),
        ("ONE", False, False),
    ],
)
def test_without_data_sentences_are_split_approximately_and_that_is_counted(without_data, text, sentences, capitals):
    found = scored(text, SENTENCES, CAPITALS, NO_COMMA)
    assert found.detail["strict"][:2] == [sentences, capitals]
    assert found.values["approximate"] == 1
    assert scored(text, NO_COMMA).values["approximate"] == 0


def test_without_data_nothing_is_downloaded(without_data, monkeypatch, capsys):
    from lightning_posttrain.tasks.ifeval import task

    monkeypatch.setattr("nltk.download", lambda *_: pytest.fail("tried to download"))
    checkers._modules.cache_clear()
    task._tell_once.cache_clear()
    for _ in range(2):
        assert scored("One. Two.", SENTENCES).values["approximate"] == 1
    assert capsys.readouterr().err.count("NLTK_DATA") == 1


def test_the_checkers_of_others_are_left_alone(without_data):
    util = checkers._modules().util
    before = util.nltk, util._get_sentence_tokenizer
    scored("One. Two.", SENTENCES)
    assert (util.nltk, util._get_sentence_tokenizer) == before


@pytest.mark.skipif(not checkers.has_data(), reason="nltk's punkt_tab is not installed")
def test_with_data_it_is_exact():
    found = scored("One. Two. Three.", SENTENCES)
    assert found.values["approximate"] == 0
    assert found.values["prompt_level_strict_acc"] == 1


EVERY = (
    *(NO_COMMA, TITLE, FIVE_WORDS, LANGUAGE, SENTENCES, CAPITALS),
    ("detectable_format:json_format", {}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"}),
    ("change_case:english_lowercase", {}),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}),
)


@settings(max_examples=25)
@given(st.text(st.characters(codec=None), max_size=60))
def test_no_answer_raises(text):
    found = scored(text, *EVERY)
    assert set(found.values) == set(scored("x", NO_COMMA).values)
    json.dumps(dict(found.detail))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 50_000, "\n" * 200_000, "\ud800"])
def test_no_answer_raises_or_takes_long(text):
    assert scored(text, *EVERY).values["prompt_level_strict_acc"] == 0


@pytest.mark.skipif(not DATA.exists(), reason="the published rows are not here")
def test_verdicts_are_lm_evals_on_every_published_row():
    import langdetect

    utils = checkers._modules().utils
    task, scores, compared = IFEval(), [], 0
    for i, line in enumerate(DATA.open()):
        published = json.loads(line)
        record = task.record(published, f"input_data.jsonl:{i + 1}")
        text = ANSWERS[i % len(ANSWERS)] if i % 3 else f"{published['prompt']}\n{ANSWERS[i % len(ANSWERS)]}"
        text = f"{EDGES[i % 4]}{text}{EDGES[i // 4 % 4]}"
        scores.append(task.score(record, answer(text)))
        if checkers.is_approximate(published["instruction_id_list"]):
            continue  # lm-eval raises on these
        random.seed(0)  # it draws a letter in place of "#" and "!"
        langdetect.DetectorFactory.seed = 0
        want = utils.process_results(published, [text])
        for rule in ("strict", "loose"):
            assert scores[-1].detail[rule] == want[f"inst_level_{rule}_acc"], (published["key"], text)
            assert scores[-1].values[f"prompt_level_{rule}_acc"] == want[f"prompt_level_{rule}_acc"]
        compared += 1
    assert len(scores) == 541
    assert sum(len(s.detail["strict"]) for s in scores) == 834
    assert compared in (477, 541)
    assert 0.05 < sum(s.values["prompt_level_strict_acc"] for s in scores) / 541 < 0.5
