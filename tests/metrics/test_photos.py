"""FID: its closed form on features that are known, and its laws."""

from __future__ import annotations

import pytest
import torch

from showtell.errors import DataError
from showtell.metrics.photos import frechet_distance


def corner(pixels_N3HW):
    """Two features of a photo: the red of its first pixel and the green of it."""
    return pixels_N3HW[:, :2, 0, 0]


def test_it_is_the_distance_between_two_gaussians():
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(400, 3, 4, 4, generator=generator)
    painted = 0.1 + 0.5 * torch.rand(400, 3, 4, 4, generator=generator)
    found = frechet_distance(real, painted, features=corner, num_features=2)

    one, two = (x[:, :2, 0, 0].double() for x in (real, painted))
    covariances = [torch.cov(x.T) for x in (one, two)]
    # tr sqrt(A B) is the sum of the roots of the eigenvalues of A B
    roots = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.sqrt().sum()
    gap = (one.mean(0) - two.mean(0)).square().sum()
    wanted = gap + covariances[0].trace() + covariances[1].trace() - 2 * roots
    assert found == pytest.approx(float(wanted), abs=1e-5)


def test_a_set_is_nothing_away_from_itself():
    photos = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    distance = frechet_distance(photos, photos, features=corner, num_features=2)
    assert abs(distance) < 1e-6


def test_one_photo_is_no_set():
    one = torch.zeros(1, 3, 4, 4)
    with pytest.raises(DataError, match="at least two"):
        frechet_distance(one, one, features=corner, num_features=2)
