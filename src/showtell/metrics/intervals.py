"""A measured number with its 95% interval: Wilson's for a share of independent cases, else the
percentile bootstrap over what was drawn independently (dialogues, photos, pairs of texts).

Letters: N values, S numbers a row, G groups drawn independently, R draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from showtell.errors import DataError

RESAMPLES = 1000
Z = 1.959963984540054  # the normal quantile of a two-sided 95 %


@dataclass(frozen=True, kw_only=True)
class Value:
    """A measured number with its 95% interval; ``value`` is None exactly where ``n`` is 0.

    ``unit`` is "fraction" (printed as percent) or what the plain number counts ("s", "photos").
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    higher_is_better: bool | None = True  # None: a description, neither better nor worse
    protocol: str = ""
    note: str = ""
    unit: str = "fraction"

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise DataError(
                    f"a measured value is {number}, wanted a finite number. The model or the data "
                    "gave NaN or infinity: look at the losses, or evaluate another checkpoint."
                )

    @property
    def printed(self) -> str:
        return printed(self.value, self.unit)

    @property
    def interval(self) -> str:
        if self.low is None or self.high is None:
            return "–"
        return f"{printed(self.low, self.unit)} – {printed(self.high, self.unit)}"


def printed(value: float | None, unit: str) -> str:
    """A fraction as percent, anything else with its unit; "–" for no number."""
    if value is None:
        return "–"
    if unit == "fraction":
        return f"{100 * value:.1f}%"
    digits = 0 if value == int(value) and abs(value) >= 10 else 3 if abs(value) < 10 else 1
    return f"{value:,.{digits}f} {unit}".strip()


def resample_counts(num_groups: int, *, seed: int) -> Iterator[np.ndarray]:
    """Bootstrap draws in blocks (R, G): how often each of the G groups was drawn."""
    rng = np.random.default_rng(seed)
    block = max(1, min(RESAMPLES, 2_000_000 // num_groups))
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        drawn_RG = rng.integers(num_groups, size=(rows, num_groups))
        drawn_RG += np.arange(rows)[:, None] * num_groups
        counts = np.bincount(drawn_RG.ravel(), minlength=rows * num_groups)
        yield counts.reshape(rows, num_groups).astype(np.float64)


def percentiles(values: Iterable[np.ndarray]) -> tuple[float, float]:
    """The 2.5% and 97.5% percentiles of bootstrapped values."""
    low, high = np.percentile(np.concatenate(list(values)), (2.5, 97.5))
    return float(low), float(high)


def bootstrap(
    measure: Callable[[np.ndarray], np.ndarray], num_groups: int, *, seed: int
) -> tuple[float, float]:
    """95% of a measure of drawn groups: counts (R, G) -> R values."""
    return percentiles(map(measure, resample_counts(num_groups, seed=seed)))


def grouped(rows_N: np.ndarray, groups: Sequence[Any] | np.ndarray | None) -> np.ndarray:
    """Numbers N, or rows NS of them, added up within each group; unchanged without groups."""
    if groups is None:
        return rows_N
    _, index_N = np.unique(np.asarray(groups), return_inverse=True)
    if rows_N.ndim == 1:
        return np.bincount(index_N, weights=rows_N)
    return np.stack([np.bincount(index_N, weights=column) for column in rows_N.T], axis=1)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion: sound at 0, at 1 and for small n.

    Not scipy's, which takes whole successes only; a dialogue of several votes is divided.
    """
    share = successes / n
    centre = share + Z**2 / (2 * n)
    spread = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mean_value(
    values: Sequence[float] | np.ndarray,
    *,
    seed: int,
    groups: Sequence[Any] | None = None,
    higher_is_better: bool | None = True,
    protocol: str = "",
    note: str = "",
    unit: str = "fraction",
) -> Value:
    """The mean with its interval: Wilson's for 0/1 values, else the percentile bootstrap.

    ``groups`` names what was drawn independently (the photo of an attribute, the dialogue of a
    position); whole groups are then resampled, 0/1 or not. No values give ``n`` 0 and no number.
    """
    values_N = np.asarray(values, dtype=np.float64)
    mean = low = high = None
    if len(values_N):
        mean = float(values_N.mean())
        if groups is None and np.isin(values_N, (0.0, 1.0)).all():
            low, high = wilson(float(values_N.sum()), len(values_N))
        else:
            sums_G, sizes_G = (grouped(x, groups) for x in (values_N, np.ones_like(values_N)))
            low, high = bootstrap(lambda c: (c @ sums_G) / (c @ sizes_G), len(sums_G), seed=seed)
    return Value(
        value=mean,
        low=low,
        high=high,
        n=len(values_N),
        higher_is_better=higher_is_better,
        protocol=protocol,
        note=note,
        unit=unit,
    )
