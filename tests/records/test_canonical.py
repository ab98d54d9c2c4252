"""Keys made of objects: the same in every process, and different when something in them is."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from lightning_posttrain.records.canonical import canonical
from lightning_posttrain.types import UserError

PROGRAM = """
from lightning_posttrain.records.canonical import canonical
from lightning_posttrain.datamodules.sft import SFTDataModule
from lightning_posttrain.tasks.registry import TASKS
for name, kind in sorted(TASKS.items()):
    try:
        task = kind()
    except TypeError:
        continue
    print(name, SFTDataModule(path="x.jsonl", task=task).row_key)
print(canonical({"set": {"a", "b", "c", "d"}, "function": canonical}))
"""


def test_keys_of_all_tasks_are_the_same_in_every_process():
    def run(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        ).stdout

    first = run("1")
    assert first == run("2")
    assert "NL2SQL" in first
    assert " at 0x" not in first


class Plain:
    def __init__(self, value):
        self.value = value
        self._hidden = 1

    @cached_property
    def derived(self):
        return object()


class Named(Enum):
    A = 1
    B = 2


@dataclass
class Data:
    a: int = 1


class WithState:
    def __init__(self, setting):
        self.setting, self.process = setting, object()

    def __getstate__(self):
        return {"setting": self.setting}


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 2), (1, True), (1, 1.5), ("1", 1), (None, "null"), ({"a": 1}, {"a": 2}), ([1, 2], [2, 1]), ({1, 2}, {1, 3}),
     (Plain(1), Plain(2)), (Named.A, Named.B), (Data(1), Data(2)), (WithState(1), WithState(2)), (b"a", b"b"),
     (re.compile("a"), re.compile("a", re.I)), (Path("a"), Path("b")), (Path("a"), "a"), (len, print), (Plain, Data),
     (np.zeros(2), np.zeros(2, "f4")), (np.arange(3), np.arange(3)[::-1]), (1j, 2j)],
)  # fmt: skip
def test_what_differs_has_another_key(one, other):
    assert canonical(one) == canonical(one)
    assert canonical(one) != canonical(other)


def test_what_was_only_looked_at_is_the_same():
    seen = Plain(1)
    assert seen.derived
    assert canonical(seen) == canonical(Plain(1))
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1})


def test_an_object_may_hold_itself():
    loop = Plain(1)
    loop.value = [loop]
    again = Plain(1)
    again.value = [again]
    assert canonical(loop) == canonical(again)


def test_what_cannot_be_described_is_refused_by_name():
    with pytest.raises(UserError, match="generator"):
        canonical(x for x in ())
