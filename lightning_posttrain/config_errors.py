"""What is wrong with a configuration in one line: the option, its value, and what it may be.

jsonargparse prints its usage and then a nested account of every type that was tried; the last key in it is the one that
is wrong. Left out: errors of other shapes, which are only put on one line.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import traceback
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, NoReturn, get_type_hints

from jsonargparse import ArgumentParser

from .env_config import without_secrets
from .types import UserError

_KEY = re.compile(r'Parser key "([^"]+)":')
_OWNER = re.compile(r"Problem with given class_path '([^']+)'")
_UNKNOWN = re.compile(
    r"unrecognized arguments: --(?P<argument>[^=\s]+)|Option '(?P<option>[^']+)' is not accepted"
    r"|Group '(?P<group>[^']+)' does not accept option '(?P<member>[^']+)'"
    r"|Subcommand '[^']+' does not accept option '(?P<key>[^']+)'"
)
_REQUIRED = re.compile(r"the following arguments are required: (.*)")
_VALUE = re.compile(r"(?:Given value|Got value): (.*)")
_LITERAL = re.compile(r"Expected a (?:typing\.)?Literal\[([^\]]*)\]")
_TYPE = re.compile(r"Expected a <class '([^']+)'>")
_CLASS = re.compile(r"Expected a dot import path string: (.{1,100})")
_SPOKEN = {
    **{"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "list": "a list"},
    **{"dict": "a mapping", "NoneType": "null"},
}
_NESTED = re.compile(r"NestedArg\(key='([^']+)'")
_NEGATIVE = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^-\.?(inf|nan)$", re.IGNORECASE)
"""What begins with a dash and is a number: argparse's own pattern knows no exponents."""
_LONGEST = 600


class OneLineParser(ArgumentParser):
    """A parser that says what is wrong in one line and exits with 2, without its usage."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._negative_number_matcher = _NEGATIVE

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """None of the options that a long word may be short for: a shortened key is a misspelt one."""
        return [] if option_string.startswith("--") else super()._get_option_tuples(option_string)

    def parse_args(self, args: Any = None, namespace: Any = None, **how: Any) -> Any:  # type: ignore[override]
        """jsonargparse hands an option of a class on as text: ``None`` where the user wrote null, in a dict too."""
        if "defaults" in how and isinstance(args, list):  # from within jsonargparse
            args = [_as_yaml(arg) for arg in args]
        return super().parse_args(args, namespace, **how)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        print(without_secrets(f"error: {shortened(message)}"), file=sys.stderr)
        self.exit(2)


def _as_yaml(argument: str) -> str:
    """``--option=value`` with a Python null or container written as YAML reads it."""
    name, equals, text = argument.partition("=")
    try:
        value = ast.literal_eval(text)
        return argument if isinstance(value, str | bytes) else f"{name}{equals}{json.dumps(value)}"
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # a text
        return argument


def shortened(message: str) -> str:
    """One line of a message of jsonargparse.

    >>> shortened('Parser key "n":\\n  Expected a <class \\'int\\'>. Got value: abc')
    'n=abc: give a whole number'
    """
    keys = list(_KEY.finditer(message))
    path = [key[1] for key in keys]
    if unknown := _UNKNOWN.search(message):
        parts = [part for part in unknown.groups() if part]
        owners = [owner[1].rpartition(".")[2] for owner in _OWNER.finditer(message)]
        of = f" of {owners[-1]}" if owners else ""
        return f"{'.'.join([*path, *parts])}: there is no such option{of}; see --help"
    owner = _OWNER.search(message)
    if owner and (needed := _REQUIRED.search(message)):
        return f"{'.'.join(path)}: {owner[1].rpartition('.')[2]} needs {needed[1].strip()}"
    inner = message[keys[-1].end() :] if keys else ""
    value = _VALUE.search(inner)
    if value is None:
        return _flat(message)
    if nested := _NESTED.match(value[1].strip()):
        option = ".".join(path)
        return f"--{option}.{nested[1]}: there is no such option; give --{option} one value"
    tried = inner[: value.start()]
    problem = f"{'.'.join(path)}={value[1].strip()[:100]}"
    if named := _CLASS.search(tried):
        return f"{'.'.join(path)}={named[1]}: no class of this name is known; give a known one, or its import path"
    choices = dict.fromkeys(word.strip("'\" ") for found in _LITERAL.findall(tried) for word in found.split(","))
    if choices:
        others = ", or a mapping" * ("'dict'" in tried) + ", or null" * ("'NoneType'" in tried)
        return f"{problem}: give one of {', '.join(choices)}{others}"
    kinds = dict.fromkeys(_SPOKEN.get(kind, kind.rpartition(".")[2]) for kind in _TYPE.findall(tried))
    return f"{problem}: give {' or '.join(kinds)}" if kinds else f"{problem}: {_flat(tried)}"


def user_error(error: BaseException) -> UserError | None:
    """The `UserError` of a constructor that jsonargparse has wrapped in errors of its own; None for anything else."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or "jsonargparse" not in frames[-1].filename:
        return None
    seen: Any = error
    while seen is not None:
        if isinstance(seen, UserError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def refuse_null_groups(name: str, config: Any) -> None:
    """Refuse null in place of a group of options, which would be a `TypeError` when the class is made.

    Args:
        name: of the class in the configuration, such as ``model``.
        config: its ``class_path`` and ``init_args``.

    Raises:
        UserError: names the option.
    """
    nulls = {key for key, value in config.get("init_args", {}).items() if value is None}
    if not nulls:
        return
    module, _, kind = config.class_path.rpartition(".")
    for owner in getattr(import_module(module), kind).__mro__:
        hints = get_type_hints(owner.__init__) if owner.__module__.startswith(__package__) else {}
        for key in sorted(nulls & hints.keys()):
            if is_dataclass(hints[key]):
                raise UserError(f"{name}.{key}=null: it is a group of options; leave it out for its defaults")


def _flat(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
