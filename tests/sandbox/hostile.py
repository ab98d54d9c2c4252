"""Snippets that try to get out, to break something or to stay. Each fails in a harmless way in a sandbox that holds.

They are in ``hostile.txt``: groups after "====", snippets after "----". In them {canary} is a file that must not
change, {folder} where it lies, {secret} a file whose text must not get out, {port} and {udp} those of listeners,
{trainer} the number of the process that owns the sandbox. None may end as "ok". What hangs only ends when it is killed.
"""

from pathlib import Path

GROUPS: dict[str, dict[str, str]] = {}

for _group in (Path(__file__).parent / "hostile.txt").read_text("utf-8").split("==== ")[1:]:
    _name, *_snippets = _group.split("---- ")
    GROUPS[_name.strip()] = {s.split("\n", 1)[0]: s.split("\n", 1)[1].removesuffix("\n") for s in _snippets}

GROUPS["parsing"] = {
    "many_parens": "(" * 5000,
    "many_minus": "-" * 20000 + "1",
    "many_not": "not " * 50000 + "1",
    "nul": "result = 1\x00",
    "surrogate": "result = '\ud800'",
}
GROUPS["sql"] |= {
    "sql_deep_parens": "SELECT " + "(" * 100000 + "1",
    "sql_deep_not": "SELECT " + "NOT " * 100000 + "true",
}
GROUPS["sqlite"] |= {
    "lite_deep_parens": "SELECT " + "(" * 50000 + "1" + ")" * 50000,
    "lite_deep_not": "SELECT " + "NOT " * 50000 + "1",
    "lite_deep_case": "SELECT " + "CASE WHEN 1 THEN " * 5000 + "1" + " END" * 5000,
    "lite_deep_sum": "SELECT " + "1+" * 50000 + "1",
    "lite_long_list": f"SELECT x FROM numbers WHERE x IN ({', '.join(map(str, range(100_000)))})",
    "lite_many_unions": " UNION ALL ".join(["SELECT 1"] * 5000),
    "lite_long_pattern": f"SELECT 'a' LIKE '{'%a' * 5000}'",
    "lite_nul_byte": "SELECT 1\x00",
    "lite_surrogate": "SELECT '\ud800'",
}

ACTS = ("writes", "network", "processes", "signals")
for _name in ACTS:
    for _snippet in GROUPS[_name]:
        GROUPS[_name][_snippet] += "\nresult = 1"  # it would be "ok" if it had worked
