"""INIS: nuclear-science passages, answered in strict JSON or in words. `task` judges, `data` makes the rows."""

from .task import Inis, InisReward

__all__ = ["Inis", "InisReward"]
