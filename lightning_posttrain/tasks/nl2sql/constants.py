"""The constants of a query, and the values of a column for which an expression of it comes near one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from . import conditions
from .conditions import Condition, Value

Inverse = Callable[[Value], Sequence[Value]]


def constant_of(node: exp.Expr | None) -> Value:
    """A literal's value, else None."""
    while isinstance(node, exp.Paren | exp.Cast | exp.Lower | exp.Upper):
        node = node.this
    if isinstance(node, exp.Neg):
        value = constant_of(node.this)
        return -value if isinstance(value, int | float) else None
    if isinstance(node, exp.Boolean):
        return int(node.this)
    if not isinstance(node, exp.Literal):
        return None
    if node.is_string:
        return str(node.this)
    try:
        return int(node.this)
    except ValueError:
        return float(node.this)


def between_of(node: exp.Between) -> Condition | None:
    low, high = constant_of(node.args["low"]), constant_of(node.args["high"])
    return conditions.between(low, high) if low is not None and high is not None else None


def bare(side: exp.Expr) -> exp.Expr:
    while isinstance(side, exp.Paren | exp.Cast | exp.Collate | exp.Sum | exp.Avg | exp.Min | exp.Max):
        side = side.this
    return side


def inverse_of(side: exp.Expr) -> Inverse:
    """Values of a column for which an expression of it comes near a constant."""
    if isinstance(side, exp.Column):
        return lambda value: [value]
    if isinstance(side, exp.Lower | exp.Upper | exp.Trim):
        return lambda value: [value, value.upper(), value.title()] if isinstance(value, str) else [value]
    if isinstance(side, exp.Length):
        return lambda value: ["k" * max(0, min(int(value), 60))] if isinstance(value, int | float) else [value]
    if isinstance(side, exp.Add | exp.Sub | exp.Mul | exp.Div | exp.Mod):
        return _arithmetic(side)
    return _part


def _part(value: Value) -> list[Value]:
    """Texts and dates of which a value may be a part: 1839 a year, 07 a month or a day."""
    text = str(value)
    if text.isdigit() and len(text) == 4:
        return [f"{text}-06-15", f"{text}-01-01", f"{text}-12-31", value]
    if text.isdigit() and len(text) <= 2:
        return [f"2001-{text:0>2}-10", f"1999-10-{text:0>2}", value]
    return [value, f"{text}{conditions.FILLER}", f"{conditions.FILLER}{text}"]


def _arithmetic(side: exp.Binary) -> Inverse:
    number = constant_of(side.expression)
    if not isinstance(number, int | float) or number == 0:
        return lambda value: [value]
    back: dict[type[exp.Expr], Callable[[float], list[Value]]] = {
        exp.Add: lambda value: [value - number],
        exp.Sub: lambda value: [value + number],
        exp.Mul: lambda value: [int(value // number), int(value // number) + 1],
        exp.Div: lambda value: [value * number, value * number + 1, value * number - 1],
        exp.Mod: lambda value: [value, value + number, value + 1],
    }
    return lambda value: back[type(side)](value) if isinstance(value, int | float) else [value]
