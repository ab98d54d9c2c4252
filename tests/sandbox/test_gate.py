"""What the gate refuses, and what it must let through."""

import ast

import pytest

from lightning_posttrain.sandbox import Job, Sandbox
from lightning_posttrain.sandbox.inside.gate import LOOK, Refused, check, guarded, looked

from .conftest import NUMBERS

REFUSED = [
    "import os", "import os.path as p", "from os import path", "from . import x", "import ibis.os", "import pickle",
    "from ibis.util import os", "from ibis.backends.duckdb import __builtins__", "import duckdb", "import importlib",
    "x.__class__", "().__class__.__mro__", "__builtins__", "__import__('os')", "open('x')", "f = open", "eval('1')",
    "exec('1')", "compile('1', '', 'eval')", "getattr(x, 'y')", "globals()", "con.raw_sql('x')", "t.sql('x')",
    "t.to_csv('x')", "t.to_parquet('x')", "con.attach('x')", "con.load_extension('x')", "(lambda: 0).__code__",
    "[x.__dict__ for x in y]", "def f():\n    import sys", "type(x).mro()", "x._Private__y.__a", "con.read_sqlite('x')",
    "ibis.parse_sql('x', {})", "from ibis.expr.sql import parse_sql", "con.con.execute('x')", "c = con.con",
    "con.begin()", "ibis.get_backend().con", "con._safe_raw_sql('x')", "t.to_geo('x')", "typing.get_type_hints(x)",
    "from typing import sys", "from typing import ForwardRef", "from random import _os", "import operator.os",
    "from json import codecs", "operator.attrgetter('x')", "from operator import methodcaller", "import inspect",
    "string.Formatter()", "from string import Formatter", "ibis.util.import_object('os.system')",
    "import ibis.expr.operations as ops\nops.SQLQueryResult('x', s, con)",
]  # fmt: skip
ALLOWED = [
    "import ibis", "import ibis.selectors as s", "from ibis import _", "from ibis.expr import datatypes as dt",
    "import datetime, math, decimal, statistics, re", "from __future__ import annotations", "t.os", "t.io.max()",
    "'open exec __class__ raw_sql'", "# import os\nx = 1", "if __name__ == '__main__':\n    x = 1", "re.compile('a')",
    "t['__class__']", "t._id", "_", "ibis._.x", "ibis.read_csv('x')", "ibis.to_sql(t)", "opened = evaluate(t)",
    "input = t\ninput.count()", "t.execute()", "t.count().to_pyarrow()",
    "from typing import Any", "import typing", "con.table('x')", "t['con']", "con.list_tables()",
    "import collections, itertools, functools, operator, string, random, json, fractions",
    "from collections.abc import Sequence", "from functools import reduce", "from ibis.nowhere import x",
]  # fmt: skip


@pytest.mark.parametrize("code", REFUSED)
def test_refused(code: str):
    with pytest.raises(Refused, match=r"^line \d+: .+ is not allowed here"):
        check(ast.parse(code))


@pytest.mark.parametrize("code", ALLOWED)
def test_allowed(code: str):
    assert check(ast.parse(code)) is False


@pytest.mark.parametrize("code", ["import pandas", "import ibis, pandas as pd", "from numpy import array"])
def test_pandas_is_allowed_and_told(code: str):
    assert check(ast.parse(code)) is True


FOREIGN = [
    "import re\nre.enum.sys.modules['os'].getcwd()",
    "os = ibis.util.os\nos.write(3, b'x')",
    "import random\nr = random\nr._os.getcwd()",
    "import json\n(lambda m: m.codecs)(json)",
    "import collections\n[collections][0]._sys",
    "import functools, operator\nfunctools.reduce(lambda a, b: a, [ibis.util]).importlib",
    "def f(m): return m.sys\nf(ibis.util)",
    "import statistics\nx = {'a': statistics}\nx['a'].sys",
    "import typing\nmatch typing:\n    case m:\n        m.sys",
    "f'{ibis.util.sys}'",
    "import pandas\npandas.io.common.os",
]  # fmt: skip


@pytest.mark.parametrize("code", FOREIGN)
def test_modules_within_modules_are_refused_however_they_are_reached(code: str, sandbox: Sandbox):
    check(ast.parse(code))  # nothing in the text says so
    (outcome,) = sandbox.run([Job(code, (NUMBERS,))])
    assert (outcome.status, outcome.error_class) == ("refused", "Refused")
    assert "is not allowed here" in (outcome.error or "")


HARMLESS = {
    "import collections, itertools, functools, operator, string, random, json, statistics, datetime, decimal\n"
    "import fractions, math, re, typing\n"
    "functools.reduce(operator.add, itertools.chain([1], collections.Counter('aa').values()))": 3,
    "import json\njson.loads('[1, 2]')[1]": 2,
    "t = numbers.rename(os='x', sys='name')\nt.os.max()": 3,
    "import re\nre.compile('a').pattern": "a",
    "from __future__ import annotations\n@ibis.udf.scalar.python\ndef f(x: int) -> int:\n    return x + 1\n"
    "numbers.mutate(y=f(numbers.x)).y.max()": 4,
    "x: list[int] = [1, 2]\nx[0] += 4\ndel x[1]\nx[0]": 5,
    "import datetime\nmatch 1:\n    case datetime.MINYEAR:\n        result = 7": 7,
}


@pytest.mark.parametrize("code", HARMLESS)
def test_what_is_looked_at_is_the_same(code: str, sandbox: Sandbox):
    (outcome,) = sandbox.run([Job(code, (NUMBERS,))])
    assert outcome.rows == ((HARMLESS[code],),), outcome


def test_a_guarded_snippet_cannot_put_something_in_the_place_of_the_guard():
    space: dict[str, object] = {LOOK: looked}
    with pytest.raises(Refused, match="module sys"):
        exec(compile(guarded(ast.parse("import re\nlook = lambda value: value\nre.enum.sys")), "x", "exec"), space)
