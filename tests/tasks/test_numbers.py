"""One parser for every number: what it reads, what it refuses, and that nothing makes it slow."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_posttrain.tasks.numbers import MAX_DIGITS, parse_number, stated_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,000", 1000),
        ("1000", 1000),
        ("1000.", 1000),
        ("$1,000.00", 1000),
        ("$1,000.00.", 1000),
        ("1,000,000", 1_000_000),
        ("-5", -5),
        ("−5", -5),
        ("- 5", -5),
        ("$ 3.", 3),
        ("0", 0),
        ("-0", 0),
        ("007", 7),
        (".5", Fraction(1, 2)),
        ("-.5", Fraction(-1, 2)),
        ("0.1", Fraction(1, 10)),
        ("+7", 7),
        ("-$4", -4),
        ("$-4", -4),
        ("€12", 12),
        ("12 €", 12),
        ("50%", 50),
        ("12.5 %", Fraction(25, 2)),
        ("3/4", Fraction(3, 4)),
        ("-3 / 4", Fraction(-3, 4)),
        ("1,000/4", 250),
        ("-1 1/2", Fraction(-3, 2)),
        ("1 1/2.", Fraction(3, 2)),
        ("1e3", 1000),
        ("2.5E-1", Fraction(1, 4)),
        ("  72\n", 72),
        ("７２", 72),
        ("＄１，０００", 1000),
    ],
)
def test_numbers(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "-", "$", ",", "%", "five", "12 apples", "x = 3", "1 2", "--3", "-$-3", "5..", "5. 5"),
        *("1,00", "1,0000", "1000,000", "0,500", ",500", "1,", "1,000,00", "1,5", "1_000"),
        *("3/0", "1 1/0", "1//2", "1/2/3", "1/", "e3", "1e", "1e3.5", "nan", "inf", "0x10"),
        *("10²", "1½", "①", "٣", "1{,}000", "(5)"),
    ],
)
def test_not_numbers(text):
    assert parse_number(text) is None


def test_the_longest_numbers():
    assert parse_number("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1
    assert parse_number("9" * (MAX_DIGITS + 1)) is None
    assert parse_number("1e64") == 10**64
    assert parse_number("1e-64") == Fraction(1, 10**64)
    assert parse_number("1e65") is None


@pytest.mark.parametrize(
    "unit",
    ["1", "9e9", "1,000", "1 ", "1/", "$ ", "-", ".", " ", "1\t\n", "−$", "1e999999 ", "a1", "1,00", "0,000", "1.1"],
)
def test_hostile_text_costs_linear_time(unit):
    started = time.process_time()
    for text in (unit * 50_000, "1e" + unit * 50_000, unit * 50_000 + "x"):
        assert parse_number(text) is None or not unit.strip()
        stated_number(text)
    assert time.process_time() - started < 60  # a quadratic scan of this takes minutes


@given(st.text() | st.text("0123456789,.-+/eE%$ −"))
def test_any_text_gives_a_number_or_none(text):
    for number in (parse_number(text), stated_number(text)):
        assert number is None or isinstance(number, Fraction)


@given(st.integers(-(10**20), 10**20), st.integers(1, 10**20))
def test_what_python_writes_is_read_back(top, bottom):
    assert parse_number(str(top)) == parse_number(f"{top:,}") == parse_number(f"{top}.") == top
    assert parse_number(f"{top}/{bottom}") == Fraction(top, bottom)
    assert parse_number(f"{abs(top)} {top % bottom}/{bottom}") == abs(top) + Fraction(top % bottom, bottom)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_decimals_are_exact(value):
    assert parse_number(f"{value:f}") == parse_number(f"{value:E}") == Fraction(value)
