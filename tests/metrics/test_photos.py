"""FID, KID and IS: float64 transcriptions and their laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transcribed import slow_fid, slow_is, slow_kid

from showtell.errors import DataError
from showtell.metrics.fid import (
    features_of,
    frechet_distance,
    inception_score,
    kernel_distance,
)

WIDTH = 6


def features(num, seed, *, shift=0.0, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return torch.randn(num, width, generator=generator) @ mixing + shift


@pytest.mark.parametrize(("num", "other"), [(300, 200), (5, 4), (200, 4)])
def test_fid_is_its_formula_of_features_or_of_pixels(num, other):
    real, painted = features(num, 0), features(other, 1, shift=0.5)
    found = frechet_distance(real, painted)
    wanted = slow_fid(real.double().numpy(), painted.double().numpy())
    assert found == pytest.approx(wanted, rel=1e-4)
    pixels = (x[:, :, None, None].expand(-1, -1, 4, 4) for x in (real, painted))
    assert frechet_distance(*(features_of(x, lambda x: x[..., 0, 0]) for x in pixels)) == found


def test_kid_is_its_formula():
    # torchmetrics divides by m (m - 1) for both and by m^2: equal sets make both definitions one
    real, painted = features(40, 0), features(40, 1, shift=0.3)
    found = kernel_distance(real, painted, seed=0)
    slow = slow_kid(real.double().numpy(), painted.double().numpy())
    assert found.value == pytest.approx(slow, rel=1e-4)
    assert found.subset_size == 40 and found.low < found.value < found.high
    assert found == kernel_distance(real, painted, seed=0)


def test_the_inception_score_is_its_formula():
    logits = features(50, 3, width=7) * 2
    slow = slow_is(torch.softmax(logits.double(), -1).numpy(), 10)
    assert inception_score(logits) == pytest.approx(slow, rel=1e-6)


@pytest.mark.parametrize(("logits", "score"), [(torch.eye(40) * 100, 4), (torch.zeros(9, 4), 1)])
def test_the_inception_score_of_sure_and_different_classes_is_their_number(logits, score):
    assert inception_score(logits) == pytest.approx((score, 0))  # four photos in each split


def test_a_set_is_nothing_away_from_itself_and_distances_are_symmetric():
    one, other = features(90, 0), features(90, 1, shift=1.0)
    assert abs(frechet_distance(one, one)) < 1e-6
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-9)
    assert frechet_distance(one, other) > frechet_distance(one, features(90, 2))


def test_small_sets_look_worse_by_fid_and_not_by_kid():
    """Both sets from one distribution: the true distance is 0."""
    pairs = [(features(120, 2 * k, width=20), features(120, 2 * k + 1, width=20)) for k in range(6)]
    kids = [kernel_distance(*pair, seed=0) for pair in pairs]
    assert min(frechet_distance(*pair) for pair in pairs) > 0
    # unbiased: on both sides of 0, and its intervals hold 0 nearly always
    assert min(k.value for k in kids) < 0 < max(k.value for k in kids)
    assert sum(k.low < 0 < k.high for k in kids) >= 5


def test_what_cannot_be_measured_is_refused():
    good = torch.zeros(3, 2)
    with pytest.raises(DataError, match="at least two"):
        frechet_distance(good[:1], good)
    with pytest.raises(DataError, match="of one width"):
        kernel_distance(good, torch.zeros(3, 5), seed=0)
    with pytest.raises(DataError, match="NaN"):
        frechet_distance(good, torch.full((3, 2), float("nan")))
    with pytest.raises(DataError, match="no photos"):
        inception_score(torch.zeros(0, 3))


def test_kid_draws_an_equal_number_of_either_set():
    real, painted = features(30, 0), features(50, 1, shift=2.0)
    found = kernel_distance(real, painted, seed=0)
    assert found.subset_size == 30 and found.low < found.value < found.high
    assert np.isfinite(found.spread)
