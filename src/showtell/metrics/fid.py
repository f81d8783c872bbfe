"""Measures of sets of photos, in the features of any encoder: FID, FID at infinite size, KID, IS.

A million photos pass through in bounded memory: sums for FID and IS, a sample of at most ``KEPT``
feature vectors for the rest. Ranks, or parts of a data set, are put together by ``merge``; the
result is that of the whole, because everything depends on a photo's *number* and not on the order
of updates. Letters: N photos, E features, C classes, K kept.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from showtell.errors import DataError, import_extra
from showtell.metrics.distances import gaussian_distance, kid_interval, line_at_zero
from showtell.metrics.intervals import Z
from showtell.runtime import processes, told_by

KEPT = 10_000
FEW = 10_000  # below it FID is biased enough to be warned of
SPLITS = 10
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # the defaults of Binkowski et al. and torchmetrics
_DRAWS, _FEW_DRAWS, _WIDE = 100, 20, 512  # resamples for an interval of FID; few in wide features


def frechet_distance(
    real_N3HW: Tensor,
    painted_N3HW: Tensor,
    *,
    features: Callable[[Tensor], Tensor],
    num_features: int,
) -> float:
    """FID of two sets of pixels in [0, 1]; ``features`` maps N3HW to (N, ``num_features``)."""
    sets = PhotoSets(num_features)
    with torch.no_grad():
        for photos, real in ((real_N3HW, True), (painted_N3HW, False)):
            for number, part in enumerate(photos.split(128)):
                sets.update(features(part), real=real, first=128 * number)
    return sets.fid()


class PhotoSets:
    """Features of a real and of a painted set, in bounded memory; FID, FID at infinity, KID."""

    def __init__(self, num_features: int, *, kept: int = KEPT, seed: int = 0) -> None:
        self.num_features = num_features
        self.seed = seed
        self._fid = _frechet_metric(num_features)
        self._samples = {
            real: Sample(num_features, kept, seed=2 * seed + real) for real in (True, False)
        }

    def update(self, features_NE: Tensor, *, real: bool, first: int) -> None:
        """Add features; ``first`` is the number of the first photo within its whole set."""
        if features_NE.ndim != 2 or features_NE.shape[1] != self.num_features:
            raise DataError(
                f"features of shape {tuple(features_NE.shape)}, wanted (N, {self.num_features}). "
                "Use one encoder for all photos."
            )
        if not torch.isfinite(features_NE).all():
            raise DataError("features hold NaN or infinity; wanted numbers. Look at the encoder.")
        features_NE = features_NE.detach().double().cpu()
        if len(features_NE):
            self._fid.update(features_NE, real=real)
            self._samples[real].update(features_NE, first)

    def merge(self, other: PhotoSets) -> None:
        """Take in what another rank has seen, of other photos: sums are added, samples united."""
        self._fid.merge_state(other._fid)
        for real in (True, False):
            self._samples[real].merge(other._samples[real])

    def count(self, *, real: bool) -> int:
        fid = self._fid
        return int(fid.real_features_num_samples if real else fid.fake_features_num_samples)

    def sample(self, *, real: bool) -> Tensor:
        """KE: all features of a small set, else the same random ``kept`` of them for any order."""
        return self._samples[real].features_KE

    def _both(self) -> tuple[Tensor, Tensor]:
        """The samples of both sets, the real one first."""
        return self.sample(real=True), self.sample(real=False)

    def _fewest(self) -> int:
        return min(self.count(real=True), self.count(real=False))

    def fid(self) -> float:
        """The Fréchet distance of the two Gaussians, by torchmetrics, over all photos."""
        self._needs_two()
        with warnings.catch_warnings():
            # torchmetrics does not count what was merged as an update
            warnings.simplefilter("ignore")
            return float(self._fid.compute())

    def fid_infinity(self) -> float:
        """What the distance would be with infinitely many photos on both sides, by extrapolation.

        FID of n photos is about FID_inf + c / n. Both kept sets are thinned alike to 15 sizes, from
        a quarter to the whole, evenly spaced in 1 / n; a line is fitted and read at 1 / n = 0.
        """
        self._needs_two()
        real, painted = self._both()
        fewest = min(len(real), len(painted))
        if fewest < 8:
            raise DataError(
                f"FID at infinite size of {fewest} photos; wanted at least 8 on each side"
            )
        return line_at_zero(real, painted, np.random.default_rng(self.seed))

    def fid_interval(self) -> tuple[float, float]:
        """95% around ``fid()``: what another sample of photos of the same size would give.

        The spread of resampled photos, put around the value itself: resampling adds a bias of its
        own, so its percentiles would lie too high. The estimate's own bias is not in it.
        """
        draws = _FEW_DRAWS if self.num_features > _WIDE else _DRAWS
        return self._around(self.fid(), gaussian_distance, draws)

    def fid_infinity_interval(self) -> tuple[float, float] | None:
        """The same around ``fid_infinity()``; None in features so wide that it would take hours."""
        if self.num_features > _WIDE:
            return None
        rng = np.random.default_rng(self.seed)
        value = self.fid_infinity()
        return self._around(value, lambda one, other: line_at_zero(one, other, rng), _DRAWS)

    def _around(
        self, value: float, measure: Callable[[Tensor, Tensor], float], draws: int
    ) -> tuple[float, float]:
        """1.96 standard deviations of the measure over resampled photos of both kept sets."""
        rng = np.random.default_rng(self.seed)
        samples = self._both()
        found = [
            measure(*(x[torch.from_numpy(rng.integers(len(x), size=len(x)))] for x in samples))
            for _ in range(draws)
        ]
        kept = min(map(len, samples))
        reach = Z * (float(np.std(found, ddof=1)) * (kept / self._fewest()) ** 0.5)
        return value - reach, value + reach

    def kid(self) -> Kid:
        """KID (Binkowski et al. 2018) by torchmetrics, of the kept photos."""
        self._needs_two()
        real, painted = self._both()
        size = min(KID_SUBSET_SIZE, len(real), len(painted))
        kid = import_extra("torchmetrics.image.kid", what="KID")
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            # it warns that it keeps all features: they are at most KEPT here
            warnings.simplefilter("ignore")
            torch.manual_seed(self.seed)
            metric = kid.KernelInceptionDistance(
                feature=_same(self.num_features),
                subsets=KID_SUBSETS,
                subset_size=size,
                sync_on_compute=False,  # ranks are put together before, and only once
            )
            metric.update(real, real=True)
            metric.update(painted, real=False)
            mean, spread = metric.compute()
        low, high = kid_interval(real, painted, seed=self.seed)
        return Kid(value=float(mean), spread=float(spread), low=low, high=high, subset_size=size)

    def _needs_two(self) -> None:
        if self._fewest() < 2:
            real, painted = self.count(real=True), self.count(real=False)
            raise DataError(
                f"FID of {painted} painted and {real} real photos; wanted at least two of each"
            )

    def warnings(self) -> list[str]:
        """What must be said beside these numbers."""
        fewest, said = self._fewest(), []
        if fewest < FEW:
            said.append(
                f"FID of {fewest:,} photos is biased upwards (wanted {FEW:,} or more): compare it "
                "only with sets of the same size, and read fid_infinity and kid beside it"
            )
        if fewest <= self.num_features:
            said.append(
                f"FID: {fewest:,} photos cannot fill a covariance of {self.num_features:,} "
                "features: it is singular"
            )
        if fewest < KID_SUBSET_SIZE:
            said.append(
                f"KID: its subsets have {fewest:,} photos instead of {KID_SUBSET_SIZE:,}, and are "
                "all the same"
            )
        return said


class Kid(NamedTuple):
    """Mean and spread over subsets; bootstrap interval of the unbiased estimate of the sample."""

    value: float
    spread: float
    low: float
    high: float
    subset_size: int


class Sample:
    """A random sample of a stream of rows, the same for any order or partition of it: the ``kept``
    rows of the lowest random priority, a function of a row's number and the seed.

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


# -------------------------------------------------------------------------------- Inception score


class InceptionScore:
    """IS (Salimans et al. 2016): exp of the mean KL(p(y|x) || p(y)), by splits, from sums alone.

    KL summed over a split is sum p log p - n sum q log q with q the mean of p. Photo ``number``
    belongs to split ``number`` mod ``splits``.
    """

    def __init__(self, num_classes: int, *, splits: int = SPLITS) -> None:
        self.counts_S = torch.zeros(splits, dtype=torch.float64)
        self.entropy_S = torch.zeros(splits, dtype=torch.float64)
        self.mass_SC = torch.zeros(splits, num_classes, dtype=torch.float64)

    def update(self, logits_NC: Tensor, *, first: int) -> None:
        """Add photos; ``first`` is the number of the first one within the whole set."""
        logs_NC = logits_NC.detach().double().cpu().log_softmax(-1)
        probs_NC = logs_NC.exp()
        split_N = (first + torch.arange(len(logits_NC))) % len(self.counts_S)
        self.counts_S.index_add_(0, split_N, torch.ones(len(split_N), dtype=torch.float64))
        self.entropy_S.index_add_(0, split_N, (probs_NC * logs_NC).sum(-1))
        self.mass_SC.index_add_(0, split_N, probs_NC)

    def merge(self, other: InceptionScore) -> None:
        self.counts_S += other.counts_S
        self.entropy_S += other.entropy_S
        self.mass_SC += other.mass_SC

    def compute(self) -> tuple[float, float]:
        """(mean, standard deviation) over the splits that hold photos."""
        full_S = self.counts_S > 0
        if not full_S.any():
            raise DataError("the Inception score of no photos; wanted at least one for each split")
        counts, mass = self.counts_S[full_S], self.mass_SC[full_S]
        mean_SC = mass / counts[:, None]
        marginal_S = (mean_SC * mean_SC.clamp_min(1e-300).log()).sum(-1)
        scores_S = (self.entropy_S[full_S] / counts - marginal_S).exp()
        spread = float(scores_S.std()) if len(scores_S) > 1 else 0.0
        return float(scores_S.mean()), spread


# ------------------------------------------------------------------------------------------ ranks


def merged_across_ranks(metric: Any) -> Any:
    """The metric over the photos of all ranks of torch.distributed, on every rank.

    Without a process group it is the metric itself. Photos must be numbered over all ranks. Ranks
    send one after the other, so that no rank holds more than two metrics beside its own.
    """
    rank, count = processes()
    if count == 1:
        return metric
    # its own stays as it is: more photos may come
    whole: Any = told_by(0, copy.deepcopy(metric) if rank == 0 else None)
    for source in range(1, count):
        whole.merge(told_by(source, metric if rank == source else None))
    return whole


def _same(num_features: int) -> nn.Module:
    """Features as torchmetrics wants them: a module that says how many there are."""
    same = nn.Identity()
    same.num_features = num_features  # type: ignore[assignment]
    return same


def _frechet_metric(num_features: int) -> Any:
    fid = import_extra("torchmetrics.image.fid", what="FID")
    # ranks are put together by merged_across_ranks, once, and not again at compute
    metric = fid.FrechetInceptionDistance(
        feature=_same(num_features), normalize=True, sync_on_compute=False
    )
    metric.orig_dtype = torch.float64  # else unset on a rank that saw no photo of its own
    return metric
