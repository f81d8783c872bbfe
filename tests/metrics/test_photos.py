"""FID, KID and IS: float64 transcriptions, torchmetrics, and the laws of streaming."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from showtell.errors import DataError
from showtell.metrics.distances import gaussian_distance
from showtell.metrics.fid import InceptionScore, PhotoSets, frechet_distance, merged_across_ranks

WIDTH = 6


class Same(torch.nn.Module):
    """Features as torchmetrics wants them."""

    num_features = WIDTH

    def forward(self, x):
        return x


def features(num, seed, *, shift=0.0, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return torch.randn(num, width, generator=generator) @ mixing + shift


def sets_of(real, painted, **settings):
    sets = PhotoSets(real.shape[1], **settings)
    sets.update(real, real=True, first=0)
    sets.update(painted, real=False, first=0)
    return sets


def slow_fid(real, painted):
    """Heusel et al.'s formula in float64, with scipy's square root of a matrix."""
    from scipy.linalg import sqrtm

    one, other = real.double().numpy(), painted.double().numpy()
    gap = ((one.mean(0) - other.mean(0)) ** 2).sum()
    a, b = np.cov(one.T), np.cov(other.T)
    return gap + np.trace(a + b - 2 * sqrtm(a @ b).real)


def slow_kid(real, painted):
    """The unbiased MMD^2 of all photos with k(x, y) = (x.y / d + 1)^3, by loops."""

    def k(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    x, y = real.double().numpy(), painted.double().numpy()
    n, m = len(x), len(y)
    within = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def slow_is(logits, splits):
    """Salimans et al.: exp of the mean KL of each split, photo k in split k mod ``splits``."""
    scores = []
    for s in range(splits):
        probs = torch.softmax(logits[s::splits].double(), -1).numpy()
        marginal = probs.mean(0)
        scores.append(np.exp(np.mean([(p * (np.log(p) - np.log(marginal))).sum() for p in probs])))
    return np.mean(scores), np.std(scores, ddof=1) if splits > 1 else 0.0


@pytest.mark.parametrize(("num", "other"), [(300, 200), (5, 4), (200, 4)])
def test_fid_is_its_formula_and_torchmetrics(num, other):
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, painted = features(num, 0), features(other, 1, shift=0.5)
    found = sets_of(real, painted).fid()
    wanted = slow_fid(real, painted)
    assert found == pytest.approx(wanted, rel=1e-4)
    assert gaussian_distance(real, painted) == pytest.approx(wanted, rel=1e-4)
    theirs = FrechetInceptionDistance(feature=Same(), normalize=True)
    theirs.update(real, real=True)
    theirs.update(painted, real=False)
    assert found == pytest.approx(float(theirs.compute()), rel=1e-4)
    # the way of pixels: features of one, in parts
    pixels = [x[:, :, None, None].expand(-1, -1, 4, 4) for x in (real, painted)]
    way = frechet_distance(*pixels, features=lambda x: x[..., 0, 0], num_features=WIDTH)
    assert way == pytest.approx(found, rel=1e-6)


def test_kid_is_its_formula_and_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    # torchmetrics divides by m (m - 1) for both and by m^2: equal sets make both definitions one
    real, painted = features(40, 0), features(40, 1, shift=0.3)
    found = sets_of(real, painted).kid()
    assert found.value == pytest.approx(slow_kid(real, painted), rel=1e-4)
    assert found.subset_size == 40 and found.low < found.value < found.high
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = KernelInceptionDistance(feature=Same(), subsets=3, subset_size=40)
    theirs.update(real.double(), real=True)
    theirs.update(painted.double(), real=False)
    assert found.value == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


@pytest.mark.parametrize("splits", [1, 5])
def test_the_inception_score_is_its_formula_and_torchmetrics(splits):
    from torchmetrics.image.inception import InceptionScore as Theirs

    logits = features(50, 3, width=7) * 2
    ours = InceptionScore(7, splits=splits)
    ours.update(logits, first=0)
    assert ours.compute() == pytest.approx(slow_is(logits, splits), rel=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of memory, and of the spread of one split
        theirs = Theirs(feature=Same(), splits=splits)
        theirs.update(logits)
        torch.manual_seed(4)
        mean, spread = theirs.compute()
    torch.manual_seed(4)  # the order in which torchmetrics shuffled, dealt out to our splits
    shuffled = logits[torch.randperm(50)].view(splits, -1, 7).transpose(0, 1).reshape(50, 7)
    ours = InceptionScore(7, splits=splits)
    ours.update(shuffled, first=0)
    assert ours.compute()[0] == pytest.approx(float(mean), rel=1e-4)
    if splits > 1:
        assert ours.compute()[1] == pytest.approx(float(spread), rel=1e-4)


@pytest.mark.parametrize(("logits", "score"), [(torch.eye(4) * 100, 4), (torch.zeros(9, 4), 1)])
def test_the_inception_score_of_sure_and_different_classes_is_their_number(logits, score):
    found = InceptionScore(4, splits=1)
    found.update(logits, first=0)
    assert found.compute() == pytest.approx((score, 0))


# ------------------------------------------------------------------------------------- streaming


def test_memory_is_bounded_by_a_sample_that_is_drawn_evenly():
    sets = PhotoSets(2, kept=30)
    for start in range(0, 3000, 100):
        sets.update(features(100, start, width=2), real=True, first=start)
    assert sets.count(real=True) == 3000 and sets.sample(real=True).shape == (30, 2)
    means = []
    for seed in range(20):  # numbers 0..999 as features: 200 kept ones have a mean near 499.5
        sets = PhotoSets(1, kept=200, seed=seed)
        sets.update(torch.arange(1000.0)[:, None], real=True, first=0)
        kept = sets.sample(real=True).flatten()
        assert len(kept.unique()) == 200
        means.append(kept.mean().item())
    # the spread of one mean is 289 / sqrt(200) * sqrt(0.8) = 18
    assert abs(np.mean(means) - 499.5) < 4 * 18 / 20**0.5
    assert 9 < np.std(means) < 32


def test_ranks_without_a_process_group_are_one_rank(tmp_path):
    sets = sets_of(features(20, 0), features(20, 1))
    assert merged_across_ranks(sets) is sets
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1
    )
    try:
        assert merged_across_ranks(sets).fid() == sets.fid()
    finally:
        torch.distributed.destroy_process_group()


# ------------------------------------------------------------------------------------------ laws


def test_a_set_is_nothing_away_from_itself_and_distances_are_symmetric():
    one, other = features(90, 0), features(90, 1, shift=1.0)
    assert abs(sets_of(one, one).fid()) < 1e-6
    assert sets_of(one, other).fid() == pytest.approx(sets_of(other, one).fid(), rel=1e-9)
    assert sets_of(one, other).fid() > sets_of(one, features(90, 2)).fid()


def test_small_sets_look_worse_than_they_are_and_the_extrapolation_mends_most_of_it():
    """Both sets from one distribution: the true distance is 0."""
    found = [
        sets_of(features(120, 2 * seed, width=20), features(120, 2 * seed + 1, width=20))
        for seed in range(6)
    ]
    values, kids = [sets.fid() for sets in found], [sets.kid() for sets in found]
    assert min(values) > 0
    assert abs(np.mean([sets.fid_infinity() for sets in found])) < 0.35 * np.mean(values)
    # unbiased: on both sides of 0, and its intervals hold 0 nearly always
    assert min(k.value for k in kids) < 0 < max(k.value for k in kids)
    assert sum(k.low < 0 < k.high for k in kids) >= 5


def test_the_interval_of_fid_covers_what_other_samples_of_the_size_give():
    found = []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        one, other = (torch.randn(150, 3, generator=generator) for _ in range(2))
        sets = sets_of(one, other * 1.5 + 0.5, seed=seed)
        found.append((sets.fid(), *sets.fid_interval()))
    middle = sum(value for value, _, _ in found) / len(found)
    assert sum(low <= middle <= high for _, low, high in found) >= 24  # 28.5 are expected
    assert all(low < value < high for value, low, high in found)
    low, high = sets.fid_infinity_interval()
    assert low < sets.fid_infinity() < high and high - low > found[-1][2] - found[-1][1]
    assert PhotoSets(600).fid_infinity_interval() is None


def test_warnings_say_what_is_too_small():
    few = " ".join(sets_of(features(5, 0), features(5, 1)).warnings())
    assert "5 photos is biased" in few and "singular" in few and "KID" in few
    many = features(10_000, 0, width=2)
    assert sets_of(many, many).warnings() == []


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(DataError, match="at least two"):
        sets_of(torch.zeros(1, 2), torch.zeros(1, 2)).fid()
    with pytest.raises(DataError, match=r"wanted \(N, 6\)"):
        PhotoSets(6).update(torch.zeros(3, 5), real=True, first=0)
    with pytest.raises(DataError, match="NaN"):
        PhotoSets(1).update(torch.full((3, 1), float("nan")), real=True, first=0)
    with pytest.raises(DataError, match="at least 8"):
        sets_of(features(4, 0), features(4, 1)).fid_infinity()
    with pytest.raises(DataError, match="no photos"):
        InceptionScore(3).compute()
