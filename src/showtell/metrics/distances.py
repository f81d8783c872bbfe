"""Distances of two sets of feature vectors: Fréchet's, its limit for many photos, and the kernel
distance of bootstrap draws.

Letters: N photos of one set, M of the other, K kept, E features, R draws, G groups drawn.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from showtell.metrics.intervals import percentiles, resample_counts

SIZES = 15  # of the line for FID at infinite size (Chong and Forsyth 2020)


def gaussian_distance(one_NE: Tensor, other_ME: Tensor) -> float:
    """|mu - nu|^2 + tr A + tr B - 2 tr sqrt(A B) of the Gaussians of two sets of features.

    With A = F'F and B = G'G the last trace is the sum of the singular values of F G'; F is the
    centred set itself where that has fewer rows than columns, so that a thousand photos in 2,048
    features cost a matrix of a thousand.
    """
    one, other = one_NE.double(), other_ME.double()
    gap = (one.mean(0) - other.mean(0)).square().sum()
    factors = []
    for x in (one, other):
        f = (x - x.mean(0)) / (len(x) - 1) ** 0.5
        factors.append(torch.linalg.qr(f, mode="r").R if len(f) > f.shape[1] else f)
    traces = factors[0].square().sum() + factors[1].square().sum()
    return float(gap + traces - 2 * torch.linalg.svdvals(factors[0] @ factors[1].T).sum())


def line_at_zero(real_KE: Tensor, painted_KE: Tensor, rng: np.random.Generator) -> float:
    """FID of both sets thinned to ``SIZES`` sizes, as a line in 1 / n, read at 1 / n = 0."""
    fewest = min(len(real_KE), len(painted_KE))
    shares = 1 / np.linspace(1, 4, SIZES)
    distances = []
    for share in shares:
        one, other = (
            x[rng.permutation(len(x))[: max(2, round(share * len(x)))]]
            for x in (real_KE, painted_KE)
        )
        distances.append(gaussian_distance(one, other))
    return float(np.polyfit(1 / (shares * fewest), distances, 1)[1])


def kid_interval(real_KE: Tensor, painted_KE: Tensor, *, seed: int) -> tuple[float, float]:
    """The percentile bootstrap over photos of both sets, of at most 2,000 of each.

    A photo drawn twice is not compared with itself, so the estimate stays unbiased.
    """
    one, other = (x[:2000].numpy() for x in (real_KE, painted_KE))
    most = max(len(one), len(other))
    draws = zip(resample_counts(most, seed=seed), resample_counts(most, seed=seed + 1), strict=True)
    return percentiles(
        kid_of_draws(one, other, _shortened(first_RG, len(one)), _shortened(second_RG, len(other)))
        for first_RG, second_RG in draws
    )


def kid_of_draws(
    real_NE: np.ndarray,
    painted_ME: np.ndarray,
    real_RN: np.ndarray,
    painted_RM: np.ndarray,
    *,
    paired: bool = False,
) -> np.ndarray:
    """KID of R draws of both sets, (R,): how often each photo was drawn.

    A photo drawn twice is not compared with itself. ``paired``: photo n of both sets belongs
    together and is drawn together; then a pair drawn twice has no more of its own likeness than of
    that of strangers, or draws would lie below the estimate.
    """
    within = [_kernel(x, x) for x in (real_NE, painted_ME)]
    for k in within:
        np.fill_diagonal(k, 0)
    between = _kernel(real_NE, painted_ME)
    likeness = ((real_RN @ between) * painted_RM).sum(1)
    pairs = real_RN.sum(1) * painted_RM.sum(1)
    if paired:
        again_RN = real_RN**2 - real_RN  # how often a pair met itself beyond the draws of it
        likeness = likeness - again_RN @ np.diagonal(between)
        pairs = pairs - again_RN.sum(1)
    value = -2 * likeness / pairs
    for c, k in zip((real_RN, painted_RM), within, strict=True):
        # a draw of one photo alone has no pairs
        value += ((c @ k) * c).sum(1) / np.maximum(c.sum(1) ** 2 - (c**2).sum(1), 1)
    return value


def _kernel(x_NE: np.ndarray, y_ME: np.ndarray) -> np.ndarray:
    return (x_NE @ y_ME.T / x_NE.shape[1] + 1) ** 3


def _shortened(counts_RG: np.ndarray, size: int) -> np.ndarray:
    """Draws for the smaller of two sets: those of the larger, folded onto its photos."""
    if counts_RG.shape[1] == size:
        return counts_RG
    folded = np.zeros((len(counts_RG), size))
    np.add.at(folded.T, np.arange(counts_RG.shape[1]) % size, counts_RG.T)
    return folded
