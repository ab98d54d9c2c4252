"""Which ids came before, and from where, in 16 bytes per id.

Ids are kept as 64-bit hashes (a false alarm among ten million ids has a probability of 3e-6), origins as numbers.
"""

from __future__ import annotations

import numpy as np


class SeenIds:
    """Sorted runs that merge when they are of one size, so that adding stays cheap however many ids there are."""

    def __init__(self) -> None:
        self.runs: list[tuple[np.ndarray, np.ndarray]] = []  # sorted (n,) uint64 hashes, (n,) int64 places
        self.files: dict[str, int] = {}

    def find(self, keys: np.ndarray) -> np.ndarray:
        """(n,) int64 places of ``keys``, -1 where new."""
        places = np.full(len(keys), -1, np.int64)
        for run, run_places in self.runs:
            at = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            places = np.where(run[at] == keys, run_places[at], places)
        return places

    def add(self, keys: np.ndarray, places: np.ndarray) -> None:
        if not len(keys):
            return
        while self.runs and len(self.runs[-1][0]) <= len(keys):
            run, run_places = self.runs.pop()
            keys, places = np.concatenate([keys, run]), np.concatenate([places, run_places])
        order = np.argsort(keys)
        self.runs.append((keys[order], places[order]))

    def place(self, origin: str) -> int:
        """``file:line`` as one number."""
        file, _, line = origin.rpartition(":")
        if not line.isdecimal() or len(line) > 12:
            file, line = origin, "0"
        return (self.files.setdefault(file, len(self.files)) << 40) | int(line)

    def origin(self, place: int) -> str:
        file = list(self.files)[place >> 40]
        line = place & ((1 << 40) - 1)
        return f"{file}:{line}" if line else file
