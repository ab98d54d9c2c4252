"""What an object was set up with as text that is the same in every process: keys of caches are made of it.

``repr`` is not: it may hold addresses, and the order of sets.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np

from ..types import UserError


def canonical(value: Any) -> str:
    """One line of JSON that names the class of ``value`` and everything it was set up with.

    An object is described by its ``__getstate__``, where its class has one, else by its attributes; what a
    ``cached_property`` has computed is left out.

    Raises:
        UserError: something in it has neither attributes nor a known text.
    """
    return json.dumps(_plain(value, ()), sort_keys=True, ensure_ascii=True)


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return [type(value).__name__, value.value] if isinstance(value, Enum) else value
    if id(value) in above:
        return {"again": above[::-1].index(id(value))}
    above = (*above, id(value))
    if isinstance(value, Mapping):
        pairs = [[_plain(k, above), _plain(v, above)] for k, v in value.items()]
        return {"mapping": sorted(pairs, key=lambda pair: json.dumps(pair[0], sort_keys=True))}
    if isinstance(value, list | tuple):
        return [_plain(part, above) for part in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((_plain(part, above) for part in value), key=lambda x: json.dumps(x, sort_keys=True))}
    known = _known(value)
    return known if known is not None else {_name(type(value)): _plain(_state(value), above)}


def _known(value: Any) -> Any:
    """Values that are no containers and have no attributes worth reading."""
    if isinstance(value, Enum):
        return [type(value).__name__, value.name]
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, re.Pattern):
        return {"pattern": value.pattern if isinstance(value.pattern, str) else value.pattern.hex(), "f": value.flags}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, np.ndarray) and value.dtype != object:
        data = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"array": [str(value.dtype), list(value.shape), data]}
    if isinstance(value, np.generic):
        return {"number": [str(value.dtype), value.item()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, type) or (hasattr(value, "__qualname__") and hasattr(value, "__module__")):
        return {"named": _name(value)}
    return None


def _state(value: Any) -> Any:
    kind = type(value)
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if getattr(kind, "__getstate__", None) is not getattr(object, "__getstate__", None):
        return value.__getstate__()
    if hasattr(value, "__dict__"):
        cached = {name for owner in kind.__mro__ for name, a in vars(owner).items() if isinstance(a, cached_property)}
        return {name: part for name, part in vars(value).items() if name not in cached}
    try:
        return list(value.__reduce_ex__(4)[1:3])
    except Exception as error:
        raise UserError(f"{_name(kind)}: an object of this kind cannot be part of a cache's key; {error}") from error


def _name(owner: Any) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"
