"""Environment variables in configuration files: ``${NAME:-default}``, or ``${NAME}`` for one that must be set.

Only files given by ``-c`` are read this way, never words of the command line. References are taken out of the text
before YAML sees it and put back as values, so they work in block and flow style alike and comments may hold any. A
value that is a reference and nothing else gets the type YAML gives its text (512 is a number, [1, 2] a list), unless
it stands in quotes; one within a longer text is text. ``$${`` is a plain ``${``.

``extends: other.yaml`` at the top of a file, relative to it, takes everything from another one and changes what is said
here: mappings key by key, anything else as a whole.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from .types import UserError

MODE = "yaml_env"
"""The parser mode that reads files like this; parsers are made with ``parser_mode=MODE``."""
SAVED = "yaml_env_saved"
"""The dump format whose text `MODE` reads back unchanged."""

EXTENDS = "extends"
_REFERENCE = re.compile(r"\$\$\{|\$\{(?!\{)[^{}\n]*\}?")  # `${{` is jinja's
_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\}")
_OPEN, _CLOSE = "\ue000", "\ue001"  # private-use characters, which YAML takes as letters
_HELD = re.compile(f"{_OPEN}([0-9]+)(q?){_CLOSE}")


MOST_VALUES = 100_000
"""Values that a YAML text may have once its aliases are written out; a configuration has hundreds."""
MOST_LEVELS = 100
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 6
_secrets: dict[str, str] = {}
"""Name -> value of the variables a configuration took a secret from."""


def load_text(text: str, name: str) -> Any:
    """The value of a YAML text with its references resolved.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        UserError: a variable is not set, or a reference is misspelt; names file, key and variable.
        yaml.YAMLError: it is no YAML.
    """
    found: list[str] = []

    def hold(match: re.Match[str]) -> str:
        start, end = match.span()
        quoted = text[start - 1 : start] in ("'", '"') and text[start - 1] == text[end : end + 1]
        found.append(match[0])
        return f"{_OPEN}{len(found) - 1}{'q' * quoted}{_CLOSE}"

    value = _yaml(_REFERENCE.sub(hold, text))
    return _resolve(value, found, name, "") if found else value


def load_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file with its references resolved; empty where the file holds something else.

    Raises:
        UserError: the file cannot be read or is no YAML, or see `load_text`.
    """
    try:
        value = load_text(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _no_yaml(path, error) from error
    return _extended(value, path, ()) if isinstance(value, dict) else {}


def _no_yaml(path: Path | str, error: Exception) -> UserError:
    where = getattr(error, "problem_mark", None)
    line = "" if where is None else f"line {where.line + 1}, column {where.column + 1}: "
    said = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
    return UserError(f"{path}: is no YAML ({line}{said}); repair it")


def _extended(value: dict[str, Any], path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """``value``, what the file at ``path`` says, over that of the file it extends; ``below``: files that extend it."""
    if EXTENDS not in value:
        return value
    given = value[EXTENDS]
    if not isinstance(given, str):
        raise UserError(f"{path}: {EXTENDS}={given!r}; name one YAML file, relative to this one")
    other = path.parent / given
    if other.resolve() in (path.resolve(), *below):
        raise UserError(f"{path}: {EXTENDS}={given} extends this file itself; remove one of them")
    try:
        base = load_text(other.read_text(encoding="utf-8"), str(other))
    except OSError as error:
        raise UserError(f"{path}: {EXTENDS}={given}: {other} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _no_yaml(other, error) from error
    whole = _extended(base if isinstance(base, dict) else {}, other, (*below, path.resolve()))
    return _merged(whole, {key: part for key, part in value.items() if key != EXTENDS})


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merged(v, over[k]) for k, v in base.items() if isinstance(v, dict) and isinstance(over.get(k), dict)}
    return {**base, **over, **both}


def save_text(value: Any) -> str:
    """YAML that `load_text` reads as ``value``, whatever texts are in it.

    What came from a variable whose name speaks of a secret (``TOKEN``, ``KEY``, ``PASSWORD``, ...) is written as a
    reference to it again; values of other variables are written out, so that the file always means the same.
    """
    return without_secrets(
        yaml.safe_dump(_escaped(value), default_flow_style=False, allow_unicode=True, sort_keys=False)
    )


def without_secrets(text: str) -> str:
    """``text`` with the secrets of this process's configuration replaced by references to their variables."""
    for name, value in sorted(_secrets.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"${{{name}}}")
    return text


def _resolve(value: Any, found: list[str], name: str, key: str) -> Any:
    """``value`` with what was held put back; ``key`` is where it stands, for messages."""
    if isinstance(value, dict):
        kept = {k: _HELD.sub(lambda m: found[int(m[1])], k) if isinstance(k, str) else k for k in value}
        return {kept[k]: _resolve(v, found, name, f"{key}.{kept[k]}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, found, name, f"{key}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    whole = _HELD.fullmatch(value)
    if whole and not whole[2] and found[int(whole[1])] != "$${":
        return _typed(_expand(found[int(whole[1])], name, key))
    return _HELD.sub(lambda m: _expand(found[int(m[1])], name, key), value)


def _expand(reference: str, name: str, key: str) -> str:
    if reference == "$${":
        return "${"
    where = f"{name}: {key or 'the whole file'}={reference}"
    match = _NAMED.fullmatch(reference)
    if match is None:
        raise UserError(f"{where}: write ${{NAME}} or ${{NAME:-default}} in one line, or $${{ for a plain ${{")
    variable, default = match.groups()
    text = os.environ.get(variable) or default
    if text and _SECRET.search(variable) and len(text) >= _SHORTEST:
        _secrets[variable] = text
    if text is None:
        raise UserError(f"{where}: {variable} is not set or empty in the environment; set it: export {variable}=...")
    return text


def _typed(text: str) -> Any:
    """A number, truth value, null or flow list as YAML reads it; anything else stays the text it is."""
    if text.startswith(("{", "&", "*", "!", "|", ">", "#", "%", "@", "`")) or ": " in text:
        return text
    try:
        value = _yaml(text) if text.strip() else None
    except yaml.YAMLError:
        return text
    return text if isinstance(value, dict) else value


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _escaped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def _yaml(text: str) -> Any:
    """The value of a YAML text that is of a sensible size.

    Raises:
        yaml.YAMLError: it is no YAML, contains itself, or would be huge or deep once its aliases are written out.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _values(node, {}, 0) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES} values")
    except RecursionError as error:
        raise yaml.YAMLError(f"more than {MOST_LEVELS} levels within each other") from error
    return get_loader("yaml")(text)


def _values(node: yaml.Node, sizes: dict[int, int], level: int) -> int:
    """How many values ``node`` holds with its aliases written out; ``sizes``: of the nodes that are known, 0 = open."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise yaml.YAMLError("an alias stands within what it stands for")
        return sizes[id(node)]
    if level > MOST_LEVELS:
        raise yaml.YAMLError(f"more than {MOST_LEVELS} levels within each other")
    sizes[id(node)] = 0
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    sizes[id(node)] = 1 + sum(_values(part, sizes, level + 1) for part in parts)
    return sizes[id(node)]


def _load(stream: str, path: str = "") -> Any:
    """jsonargparse's: ``path`` is the name of a file, and empty for anything from the command line."""
    if not path:
        return _yaml(stream)
    try:
        value = load_text(stream, path)
    except yaml.YAMLError as error:
        raise _no_yaml(path, error) from error
    if not isinstance(value, dict):
        kind = "nothing" if value is None else f"a {type(value).__name__}"
        raise UserError(f"{path}: holds {kind} and no mapping of options; write `option: value` lines")
    return _extended(value, Path(path), ())


set_loader(MODE, _load, (yaml.YAMLError,))
set_dumper(SAVED, save_text)
