"""Measures of sets of photos, in the features of any encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from showtell.errors import DataError, MissingDependency


def frechet_distance(
    real_N3HW: Tensor,
    painted_N3HW: Tensor,
    *,
    features: Callable[[Tensor], Tensor],
    num_features: int,
) -> float:
    """FID (Heusel et al. 2017, Eq. 6) of two sets of pixels in [0, 1], by torchmetrics.

    ``features`` maps (N, 3, H, W) to (N, ``num_features``). The estimate is biased upwards, the more
    the fewer photos there are: compare only sets of one size. Raises DataError for fewer than two
    photos, MissingDependency without torchmetrics.
    """
    if min(len(real_N3HW), len(painted_N3HW)) < 2:
        raise DataError(
            f"FID of {len(painted_N3HW)} painted and {len(real_N3HW)} real photos; wanted at least "
            "two of each"
        )
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise MissingDependency(
            "FID needs torchmetrics; python -m pip install 'showtell[eval]'"
        ) from error
    distance = FrechetInceptionDistance(feature=_Features(features, num_features), normalize=True)
    with torch.no_grad():
        for photos, real in ((real_N3HW, True), (painted_N3HW, False)):
            for part in photos.split(128):
                distance.update(part, real=real)
    return float(distance.compute())


class _Features(nn.Module):
    """Features as torchmetrics wants them: a module that says how many there are."""

    def __init__(self, features: Callable[[Tensor], Tensor], num_features: int) -> None:
        super().__init__()
        self.features = features
        self.num_features = num_features

    def forward(self, pixels_N3HW: Tensor) -> Tensor:
        return self.features(pixels_N3HW)
