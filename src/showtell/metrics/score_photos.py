"""The rows of photos of a score: CLIP-I, CLIP-T, LPIPS, IS, FID, KID and MM-Relevance.

Photos are opened, encoded and forgotten in small parts, dealt out to the ranks where there are
several. A photo that cannot be read is a PhotoError that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.metrics.answers import aligned
from showtell.metrics.encoders import opened, pixels_of, square_pixels
from showtell.metrics.inception import NUM_CLASSES, NUM_FEATURES, Inception
from showtell.metrics.perceptual import SIDE, Lpips
from showtell.metrics.photos import InceptionScore, PhotoSets, merged_across_ranks
from showtell.metrics.protocols import Protocol
from showtell.metrics.report import Value, mean_value
from showtell.metrics.score_text import Pairs
from showtell.metrics.similarity import (
    PhotoEncoder,
    Relevance,
    TextEncoder,
    cosines,
    minigpt5_relevance,
    mmdialog_relevance,
)
from showtell.runtime import dealt, share_of

_CHUNK = 64
_MOST_VALUES = 20_000_000  # of pixels in one part: 80 MB


def photo_pairs(pairs: Pairs, protocol: Protocol) -> list[tuple[Path | None, Path, str, int]]:
    """(said or None, wanted, dialogue, number of the answer) of every reference photo.

    Paired from the left; minigpt5 looks at the first photo alone.
    """
    found = []
    for number, (said, wanted) in enumerate(pairs):
        photos = wanted.photos[:1] if protocol.name == "minigpt5" else wanted.photos
        for one, other in aligned(said.photos, photos):
            found.append((one, other, wanted.dialogue, number))
    return found


def clip_i_value(
    pairs: Pairs, protocol: Protocol, encoder: PhotoEncoder, *, seed: int, id: str
) -> Value | None:
    """CLIP-I; under mmdialog a missing photo counts 0 and an answer is the mean of its photos."""
    rows = photo_pairs(pairs, protocol)
    both = [row for row in rows if row[0] is not None]
    if not rows or not both and protocol.name != "mmdialog":
        return None

    def measure(part: Sequence[Any]) -> list[float]:
        one, other = (encoder([row[k] for row in part]) for k in (0, 1))
        return cosines(one, other).tolist()

    found = dealt(both, measure, _CHUNK)
    missing = len(rows) - len(both)
    note = f"cosine; {id}" + (f"; {missing:,} of {len(rows):,} photos missing" if missing else "")
    if protocol.name != "mmdialog":
        return _mean(found, [row[2] for row in both], protocol, seed, note)
    scores = iter(found)
    answers: dict[int, list[float]] = {}
    for said, _, _, number in rows:
        answers.setdefault(number, []).append(0.0 if said is None else next(scores))
    dialogues = [pairs[number][1].dialogue for number in answers]
    return _mean([sum(a) / len(a) for a in answers.values()], dialogues, protocol, seed, note)


def clip_t_value(
    pairs: Pairs,
    protocol: Protocol,
    *,
    photo_encoder: PhotoEncoder,
    text_encoder: TextEncoder,
    seed: int,
    id: str,
) -> Value | None:
    """CLIP-T of every photo said (minigpt5: the first) and the reference's whole text."""
    rows = [
        (photo, wanted.text, wanted.dialogue)
        for said, wanted in pairs
        if wanted.text.strip()
        for photo in (said.photos[:1] if protocol.name == "minigpt5" else said.photos)
    ]
    if not rows:
        return None

    def measure(part: Sequence[Any]) -> list[float]:
        photos, texts = photo_encoder([r[0] for r in part]), text_encoder([r[1] for r in part])
        return cosines(photos, texts).tolist()

    found = dealt(rows, measure, _CHUNK)
    return _mean(found, [row[2] for row in rows], protocol, seed, f"cosine; {id}")


def lpips_value(pairs: Pairs, protocol: Protocol, lpips: Lpips, *, seed: int) -> Value | None:
    """LPIPS of the photos that are there on both sides, squeezed to 256 x 256."""
    rows = [row for row in photo_pairs(pairs, protocol) if row[0] is not None]
    if not rows:
        return None

    def measure(part: Sequence[Any]) -> list[float]:
        one, other = (torch.stack([_squeezed(row[k]) for row in part]) for k in (0, 1))
        return lpips(one, other).tolist()

    found = dealt(rows, measure, _CHUNK)
    groups = [row[2] for row in rows]
    return mean_value(
        found,
        seed=seed,
        groups=groups if len(set(groups)) < len(groups) else None,
        higher_is_better=False,
        protocol=protocol.name,
        note="AlexNet, v0.1, 256 px",
        unit="",
    )


def _squeezed(photo: Any) -> Tensor:
    return torch.nn.functional.interpolate(
        pixels_of(opened(photo))[None], (SIDE, SIDE), mode="bilinear", antialias=True
    )[0]


def _mean(
    values: Sequence[float], dialogues: Sequence[str], protocol: Protocol, seed: int, note: str
) -> Value:
    """The mean over photos, dialogues resampled: no protocol averages photos by dialogue."""
    return mean_value(
        values,
        seed=seed,
        groups=dialogues if len(set(dialogues)) < len(dialogues) else None,
        protocol=protocol.name,
        note=note,
    )


# ------------------------------------------------------------------------------ sets of photos


@dataclass(frozen=True, kw_only=True)
class SetFeatures:
    """An encoder of pixels N3HW for FID and KID; ``inception`` gives the logits of IS as well."""

    encode: Callable[[Tensor], Tensor]
    num_features: int
    id: str
    side: int | None = None  # photos are cut to their middle square of this side first
    inception: Inception | None = None


def inception_features(network: Inception, id: str) -> SetFeatures:
    return SetFeatures(
        encode=lambda pixels: network(pixels).features_NE,
        num_features=NUM_FEATURES,
        id=id,
        inception=network,
    )


def set_values(
    pairs: Pairs, protocol: Protocol, features: SetFeatures, *, seed: int
) -> tuple[dict[str, Value], list[str]]:
    """(``inception_score``, ``fid``, ``fid_infinity``, ``kid``; warnings) over all photos.

    Photos said are all of the predictions, photos wanted all of the references: sets, not pairs.
    """
    said = [photo for one, _ in pairs for photo in one.photos]
    wanted = [photo for _, other in pairs for photo in other.photos]
    values: dict[str, Value] = {}
    warned: list[str] = []
    about = f"features: {features.id}, {features.num_features:,}"
    if features.inception is not None and said:
        score = InceptionScore(NUM_CLASSES)
        for first, pixels in _pixels(said, features, short_side=None):
            score.update(features.inception(pixels).logits_NC, first=first)
        mean, spread = merged_across_ranks(score).compute()
        values["inception_score"] = Value(
            value=mean,
            low=None,
            high=None,
            n=len(said),
            protocol=protocol.name,
            note=f"10 splits, spread {spread:.3f}; {about}",
            unit="",
        )
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
    n = min(len(said), len(wanted))
    sizes = f"{len(said):,} said, {len(wanted):,} wanted; {about}"

    def row(value: float, note: str, low: float | None = None, high: float | None = None) -> Value:
        return Value(
            value=value,
            low=low,
            high=high,
            n=n,
            higher_is_better=False,
            protocol=protocol.name,
            note=note,
            unit="",
        )

    values["fid"] = row(sets.fid(), sizes, *sets.fid_interval())
    if n >= 8:
        between = sets.fid_infinity_interval() or (None, None)
        values["fid_infinity"] = row(
            sets.fid_infinity(), f"extrapolated to 1/N = 0; {about}", *between
        )
    kid = sets.kid()
    values["kid"] = row(
        kid.value,
        f"100 subsets of {kid.subset_size:,}, spread {kid.spread:.4g}; {about}",
        kid.low,
        kid.high,
    )
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
        photo = photos[number]
        if features.side is not None:
            pixels = square_pixels([photo], size=features.side)[0]
        else:
            pixels = pixels_of(_reduced(opened(photo), short_side))
        if held and (
            held[0].shape != pixels.shape
            or len(held) == _CHUNK
            or (len(held) + 1) * pixels.numel() > _MOST_VALUES
        ):
            yield number - len(held), torch.stack(held)
            held = []
        held.append(pixels)
    if held:
        yield mine.stop - len(held), torch.stack(held)


def _reduced(image: Image.Image, short_side: int | None) -> Image.Image:
    """The shorter side at ``short_side`` pixels, the longer rounded down; bilinear."""
    if short_side is None:
        return image
    shorter = min(image.size)
    width, height = (int(short_side * side / shorter) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


# --------------------------------------------------------------------------------- MM-Relevance


def relevance_values(
    pairs: Pairs,
    protocol: Protocol,
    *,
    text_encoder: TextEncoder,
    photo_encoder: PhotoEncoder,
    seed: int,
    id: str,
) -> dict[str, Value]:
    """``relevance.<protocol>.f1``, ``precision`` and ``recall``: mean over answers, or (minigpt5)
    over dialogues."""
    if protocol.name == "minigpt5":
        dialogues: dict[str, list[int]] = {}
        for number, (_, wanted) in enumerate(pairs):
            dialogues.setdefault(wanted.dialogue, []).append(number)

        def of_dialogues(part: Sequence[list[int]]) -> list[Relevance]:
            return [
                minigpt5_relevance(
                    [pairs[k][0].elements for k in numbers],
                    [pairs[k][1].elements for k in numbers],
                    text_encoder=text_encoder,
                    photo_encoder=photo_encoder,
                )
                for numbers in part
            ]

        found = dealt(list(dialogues.values()), of_dialogues, _CHUNK)
        groups = list(dialogues)
    else:

        def of_answers(part: Pairs) -> list[Relevance]:
            return [
                mmdialog_relevance(
                    said.elements,
                    wanted.elements,
                    text_encoder=text_encoder,
                    photo_encoder=photo_encoder,
                )
                for said, wanted in part
            ]

        found = dealt(pairs, of_answers, _CHUNK)
        groups = [wanted.dialogue for _, wanted in pairs]
    return {
        f"relevance.{protocol.name}.{part}": _mean(
            [getattr(one, part) for one in found], groups, protocol, seed, f"cosine; {id}"
        )
        for part in ("f1", "precision", "recall")
    }
