"""Reads a snippet before it is run and says what in it is not Ibis. A filter of quality, not the wall around it.

`check` looks at the syntax tree, so words in strings and comments mean nothing to it. What modules an expression leads
to (``re.enum.sys``) shows only when it runs: `guarded` has every attribute, item and returned value looked at, and one
that is a module not allowed here is refused. What gets past runs into the wall: no files, no network, no processes.
"""

from __future__ import annotations

import ast
import importlib
from contextlib import suppress
from types import ModuleType
from typing import Any

MODULES = {
    "ibis", "datetime", "math", "decimal", "statistics", "re", "typing", "__future__", "collections", "itertools",
    "functools", "operator", "string", "random", "json", "fractions", "enum", "bisect", "heapq", "calendar", "time",
    "copy", "numbers", "textwrap", "zoneinfo",
}  # fmt: skip
PANDAS = {"pandas", "numpy"}
"""Allowed, and told: an answer that computes in pandas is not an Ibis expression."""

NAMES = frozenset(
    ("open", "eval", "exec", "compile", "getattr", "setattr", "delattr", "globals", "locals", "vars", "breakpoint")
)
ATTRIBUTES = frozenset({
    "raw_sql", "sql", "attach", "attach_sqlite", "detach", "load_extension", "register_filesystem",
    "to_csv", "to_parquet", "to_parquet_dir", "to_delta", "to_json", "to_pickle", "to_excel", "to_hdf", "to_feather",
    "to_xlsx", "tofile", "read_pickle", "read_postgres", "read_mysql", "read_sqlite", "read_delta", "read_xlsx",
    "read_geo", "read_sql", "fromfile", "memmap", "mro", "gi_frame", "gi_code", "cr_frame", "f_back", "f_globals",
    "f_locals", "f_builtins", "tb_frame", "tb_next", "func_globals", "func_code", "get_type_hints", "ForwardRef",
    "con", "begin", "parse_sql", "to_geo", "SQLQueryResult", "SQLStringView", "_safe_raw_sql", "_to_duckdb_relation",
    "_create_temp_view", "_get_schema_using_query", "attrgetter", "methodcaller", "Formatter", "get_field",
    "import_object",
})  # fmt: skip
INNER_MODULES = frozenset(
    ("os", "sys", "subprocess", "builtins", "importlib", "pathlib", "shutil", "socket", "ctypes", "pickle", "io")
)
"""Modules that other modules have imported; a column may well be called so."""
LOOK = "<look>"
"""What a guarded snippet calls `looked` by: no name that it could write."""


class Refused(Exception):
    """A snippet uses what is not allowed; the message names it and its line."""


def check(tree: ast.AST) -> bool:
    """Whether a snippet imports pandas or numpy.

    Raises:
        Refused: it uses something that is not allowed.
    """
    pandas = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            pandas |= _check_import(node)
        elif isinstance(node, ast.Name):
            if node.id in NAMES or (_dunder(node.id) and node.id != "__name__"):
                raise _refused(node, node.id)
        elif isinstance(node, ast.Attribute) and (node.attr in ATTRIBUTES or _private(node.attr)):
            raise _refused(node, f".{node.attr}")
    return pandas


def _check_import(node: ast.Import | ast.ImportFrom) -> bool:
    names = [alias.name for alias in node.names]
    modules, relative = (names, 0) if isinstance(node, ast.Import) else ([node.module or ""], node.level)
    for module in modules:
        if module.split(".")[0] not in MODULES | PANDAS or relative:
            raise _refused(node, f"import {module or '.'}")
    for word in (part for name in [*names, *modules] for part in name.split(".")):
        if word in ATTRIBUTES | INNER_MODULES or (_private(word) and word != "__future__"):
            raise _refused(node, f"import {word}")
    if isinstance(node, ast.ImportFrom):
        for name in names:
            if _foreign(_imported(modules[0], name)):
                raise _refused(node, f"import {name}")
    return any(module.split(".")[0] in PANDAS for module in modules)


def _imported(module: str, name: str) -> Any:
    """What a name stands for in a module; None where it cannot be imported, which shows when the snippet runs."""
    with suppress(Exception):
        return getattr(importlib.import_module(module), name, None)
    return None


def guarded(tree: ast.Module) -> ast.Module:
    """A snippet in which every value got from another is `looked` at; to be run where `LOOK` is defined as that."""
    return ast.fix_missing_locations(_Guard().visit(tree))


class _Guard(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        got = isinstance(node, ast.Call) or (
            isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Load)
        )
        return ast.copy_location(_look(node), node) if got else node  # type: ignore[arg-type]

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        return node  # a pattern is compared with, and may not be a call

    visit_MatchClass = visit_MatchMapping = visit_MatchValue  # type: ignore[assignment]

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node  # annotations may be read as text

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.value = self.visit(node.value) if node.value is not None else None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        returns, node.returns = node.returns, None
        self.generic_visit(node)
        node.returns = returns
        return node


def _look(node: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(LOOK, ast.Load()), [node], [])


def looked(value: Any) -> Any:
    """The value itself.

    Raises:
        Refused: it is a module that is not allowed.
    """
    if _foreign(value):
        raise Refused(f"the module {value.__name__} is not allowed here")
    return value


def _foreign(value: Any) -> bool:
    return isinstance(value, ModuleType) and value.__name__.split(".")[0] not in MODULES | PANDAS


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _private(name: str) -> bool:
    return name.startswith("__")


def _refused(node: ast.AST, what: str) -> Refused:
    return Refused(f"line {getattr(node, 'lineno', 0)}: {what} is not allowed here")
