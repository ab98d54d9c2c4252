"""Bamboo: questions about tables, answered with Ibis code that is run. `task` judges, `data` makes the rows."""

from .task import Bamboo, BambooReward

__all__ = ["Bamboo", "BambooReward"]
