"""Measures of sets of photos, in the features of any encoder: FID and KID by torchmetrics, and the
Inception score.

Letters: N photos of one set, M of the other, E features, C classes, S splits, R draws.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from showtell.errors import DataError, import_extra
from showtell.metrics.intervals import percentiles, resample_counts

PART = 128  # photos, or rows of features, at once
SPLITS = 10
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # the defaults of Binkowski et al. and torchmetrics
_MOST_DRAWN = 2000  # photos of each set that the interval of KID looks at


def features_of(photos_N3HW: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """NE of pixels in [0, 1], in parts."""
    with torch.no_grad():
        return torch.cat([encode(part) for part in photos_N3HW.split(PART)])


def frechet_distance(real_NE: Tensor, painted_ME: Tensor) -> float:
    """FID (Heusel et al. 2017): the distance of the Gaussians of two sets of features."""
    metric = _torchmetrics("fid.FrechetInceptionDistance", real_NE.shape[-1], normalize=True)
    for features_NE, real in _checked(real_NE, painted_ME):
        for part in features_NE.split(PART):
            metric.update(part, real=real)
    return float(metric.compute())


class Kid(NamedTuple):
    """Mean and spread over subsets; bootstrap interval of the unbiased estimate of all photos."""

    value: float
    spread: float
    low: float
    high: float
    subset_size: int


def kernel_distance(real_NE: Tensor, painted_ME: Tensor, *, seed: int) -> Kid:
    """KID (Binkowski et al. 2018): the unbiased squared MMD with the kernel (x.y / E + 1)^3.

    The interval resamples photos of both sets, an equal number of each, at most 2,000.
    """
    both = list(_checked(real_NE, painted_ME))
    (real_NE, _), (painted_ME, _) = both
    fewest = min(len(real_NE), len(painted_ME))
    size = min(KID_SUBSET_SIZE, fewest)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # it warns that it keeps all features
        torch.manual_seed(seed)
        metric = _torchmetrics(
            "kid.KernelInceptionDistance",
            real_NE.shape[1],
            subsets=KID_SUBSETS,
            subset_size=size,
        )
        for features_NE, real in both:
            metric.update(features_NE, real=real)
        mean, spread = metric.compute()
    num = min(fewest, _MOST_DRAWN)
    one_NE, other_NE = real_NE[:num].numpy(), painted_ME[:num].numpy()
    draws = zip(resample_counts(num, seed=seed), resample_counts(num, seed=seed + 1), strict=True)
    low, high = percentiles(kid_of_draws(one_NE, other_NE, *counts) for counts in draws)
    return Kid(value=float(mean), spread=float(spread), low=low, high=high, subset_size=size)


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


def inception_score(logits_NC: Tensor) -> tuple[float, float]:
    """(mean, standard deviation) over ten splits of exp of the mean KL(p(y|x) || p(y)) (Salimans et
    al. 2016).

    Photo k belongs to split k mod 10; torchmetrics shuffles the photos first.
    """
    if not len(logits_NC):
        raise DataError("the Inception score of no photos; wanted at least one. Give some.")
    logs_NC = logits_NC.detach().double().cpu().log_softmax(-1)
    scores = []
    for logs in (logs_NC[split::SPLITS] for split in range(min(SPLITS, len(logs_NC)))):
        probs = logs.exp()
        mean_C = probs.mean(0)
        marginal = (mean_C * mean_C.clamp_min(1e-300).log()).sum()
        scores.append(((probs * logs).sum(-1).mean() - marginal).exp())
    scores_S = torch.stack(scores)
    return float(scores_S.mean()), float(scores_S.std()) if len(scores_S) > 1 else 0.0


def _checked(real_NE: Tensor, painted_ME: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """(features in float64 on the CPU, whether they are the real ones) of both sets."""
    if min(len(real_NE), len(painted_ME)) < 2 or real_NE.shape[1:] != painted_ME.shape[1:]:
        raise DataError(
            f"features of shapes {tuple(real_NE.shape)} and {tuple(painted_ME.shape)}; wanted at "
            "least two rows of each, of one width. Use one encoder for all photos."
        )
    for features_NE, real in ((real_NE, True), (painted_ME, False)):
        if not torch.isfinite(features_NE).all():
            raise DataError("features hold NaN or infinity; wanted numbers. Look at the encoder.")
        yield features_NE.detach().double().cpu(), real


def _torchmetrics(name: str, num_features: int, **settings: Any) -> Any:
    """One of its metrics, fed with features; in training each rank measures for itself."""
    module, _, kind = name.partition(".")
    same = nn.Identity()
    same.num_features = num_features  # type: ignore[assignment]
    found = import_extra(f"torchmetrics.image.{module}", what="FID and KID")
    return getattr(found, kind)(feature=same, sync_on_compute=False, **settings)
