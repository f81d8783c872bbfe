"""The rows of sets of photos: Inception score, FID, FID at infinite size, KID.

Photos said are all of the predictions, photos wanted all of the references: sets, not pairs. They
are opened, encoded and forgotten in small parts, dealt out to the ranks where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from showtell.data.photos import load_photo, square
from showtell.metrics.encoders import EXTREME, pixels_of
from showtell.metrics.inception import (
    NUM_CLASSES,
    NUM_FEATURES,
    Inception,
    load_inception,
    resize_antialiased,
    resize_tensorflow1,
)
from showtell.metrics.intervals import Value
from showtell.metrics.photos import InceptionScore, PhotoSets, merged_across_ranks
from showtell.metrics.protocols import Protocol
from showtell.runtime import share_of

SETS = ("inception_score", "fid", "fid_infinity", "kid")
CHUNK = 64
_MOST_VALUES = 20_000_000  # of pixels in one part: 80 MB


@dataclass(frozen=True, kw_only=True)
class SetFeatures:
    """An encoder of pixels N3HW for FID and KID; ``inception`` gives the logits of IS as well."""

    encode: Callable[[Tensor], Tensor]
    num_features: int
    id: str
    side: int | None = None  # photos are cut to their middle square of this side first
    inception: Inception | None = None


def inception_features(path: str | Path, protocol: Protocol) -> SetFeatures:
    """The published network with the resize that the protocol names."""
    resize, how = resize_antialiased, "antialiased resize"
    if protocol.tensorflow1_resize:
        resize, how = resize_tensorflow1, "TensorFlow 1's resize"
    network = load_inception(path, resize=resize)
    return SetFeatures(
        encode=lambda pixels_N3HW: network(pixels_N3HW).features_NE,
        num_features=NUM_FEATURES,
        id=f"Inception, {how}",
        inception=network,
    )


def set_values(
    said: Sequence[Path],
    wanted: Sequence[Path],
    protocol: Protocol,
    features: SetFeatures,
    *,
    seed: int,
) -> tuple[dict[str, Value], list[str]]:
    """(the rows of ``SETS`` that can be measured, by name; warnings)."""
    values: dict[str, Value] = {}
    warned: list[str] = []
    about = f"features: {features.id}, {features.num_features:,}"

    def put(name: str, value: float, note: str, between: tuple[float, float] | None = None) -> None:
        low, high = between or (None, None)
        is_score = name == "inception_score"
        values[name] = Value(
            value=value,
            low=low,
            high=high,
            n=len(said) if is_score else min(len(said), len(wanted)),
            higher_is_better=is_score,
            protocol=protocol.name,
            note=f"{note}; {about}",
            unit="",
        )

    if features.inception is not None and said:
        score = InceptionScore(NUM_CLASSES)
        for first, pixels in _pixels(said, features, short_side=None):
            score.update(features.inception(pixels).logits_NC, first=first)
        mean, spread = merged_across_ranks(score).compute()
        put("inception_score", mean, f"10 splits, spread {spread:.3f}")
        if len(said) < 5000:
            warned.append(
                f"IS of {len(said):,} photos: ten splits of {len(said) // 10:,} cannot hold many "
                "classes, so it is biased downwards; compare only sets of the same size"
            )
    if min(len(said), len(wanted)) < 2:
        return values, warned
    sets = PhotoSets(features.num_features, seed=seed)
    for photos, real in ((wanted, True), (said, False)):
        for first, pixels in _pixels(photos, features, short_side=protocol.fid_short_side):
            sets.update(features.encode(pixels), real=real, first=first)
    sets = merged_across_ranks(sets)
    put("fid", sets.fid(), f"{len(said):,} said, {len(wanted):,} wanted", sets.fid_interval())
    if min(len(said), len(wanted)) >= 8:
        between = sets.fid_infinity_interval()
        put("fid_infinity", sets.fid_infinity(), "extrapolated to 1/N = 0", between)
    kid = sets.kid()
    note = f"100 subsets of {kid.subset_size:,}, spread {kid.spread:.4g}"
    put("kid", kid.value, note, (kid.low, kid.high))
    warned += sets.warnings()
    if features.inception is None:
        warned.append(
            f"FID and KID in the features of {features.id}, not of Inception: not to be compared "
            "with published figures"
        )
    return values, warned


def _pixels(
    photos: Sequence[Path], features: SetFeatures, *, short_side: int | None
) -> Iterator[tuple[int, Tensor]]:
    """(number of the first, N3HW) of this rank's share of the photos.

    Neighbours of one shape come together, as far as memory allows.
    """
    held: list[Tensor] = []
    mine = share_of(len(photos))
    for number in mine:
        image = load_photo(photos[number])
        if features.side is not None:
            pixels = pixels_of(square(image, features.side))
        else:
            pixels = pixels_of(_reduced(image, short_side))
        if held and (
            held[0].shape != pixels.shape
            or len(held) == CHUNK
            or (len(held) + 1) * pixels.numel() > _MOST_VALUES
        ):
            yield number - len(held), torch.stack(held)
            held = []
        held.append(pixels)
    if held:
        yield mine.stop - len(held), torch.stack(held)


def _reduced(image: Image.Image, short_side: int | None) -> Image.Image:
    """The shorter side at ``short_side`` pixels, the longer rounded down; bilinear.

    The longer side is at most ``EXTREME`` times as long: a photo of 6,000 x 8 would else be
    enlarged to 49 megapixels, to be reduced to 299 x 299 by the network.
    """
    if short_side is None:
        return image
    shorter = min(image.size)
    width, height = (int(short_side * min(side / shorter, EXTREME)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)
