"""A random sample of a stream of rows in bounded memory: the same for any order or partition.

Letters: N rows of one update, K kept, E width of a row.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Sample:
    """The ``kept`` rows of the lowest random priority, a function of a row's number and the seed.

    Rows that may belong to them wait aside until they are a quarter as many, and are then sorted
    in together: doing so for each batch would copy all that is kept each time.
    """

    def __init__(self, num_features: int, kept: int, *, seed: int) -> None:
        self.kept = kept
        self.seed = seed
        self._features_KE = torch.zeros(0, num_features, dtype=torch.float64)
        self._priorities_K = np.zeros(0, dtype=np.uint64)
        self._waiting: list[tuple[Tensor, np.ndarray]] = []

    @property
    def features_KE(self) -> Tensor:
        """The kept rows, the lowest priority first."""
        self._sort_in()
        return self._features_KE

    def update(self, features_NE: Tensor, first: int) -> None:
        """Add rows; ``first`` is the number of the first one within the whole stream."""
        numbers = np.arange(first, first + len(features_NE), dtype=np.uint64)
        self._take(features_NE, priorities_of(numbers, self.seed))

    def merge(self, other: Sample) -> None:
        """Take in the sample of other rows of the same stream."""
        other._sort_in()
        self._take(other._features_KE, other._priorities_K)

    def _take(self, features_NE: Tensor, priorities_N: np.ndarray) -> None:
        low_N = np.ones(len(priorities_N), dtype=bool)
        if len(self._priorities_K) == self.kept:
            low_N = priorities_N < self._priorities_K[-1]
        if low_N.any():  # the index makes a copy, so the batch itself is not held
            self._waiting.append((features_NE[torch.from_numpy(low_N)], priorities_N[low_N]))
        if sum(len(priorities) for _, priorities in self._waiting) * 4 >= self.kept:
            self._sort_in()

    def _sort_in(self) -> None:
        if not self._waiting:
            return
        features, priorities = zip(*self._waiting, strict=True)
        self._waiting = []
        all_priorities = np.concatenate([self._priorities_K, *priorities])
        order = np.argsort(all_priorities)[: self.kept]
        self._features_KE = torch.cat([self._features_KE, *features])[torch.from_numpy(order)]
        self._priorities_K = all_priorities[order]


def priorities_of(numbers_N: np.ndarray, seed: int) -> np.ndarray:
    """A random-looking uint64 for each number, no two alike (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        x = numbers_N + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
