"""The rows of photos of a score: CLIP-I, CLIP-T, LPIPS, IS, FID, KID, and MM-Relevance.

Photos are opened, encoded and forgotten in small parts. A photo that cannot be read is a
PhotoError that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import to_pixels
from showtell.data.photos import EXTREME, load_photo, square
from showtell.data.world import load_oracle
from showtell.errors import ConfigError, did_you_mean
from showtell.metrics.fid import frechet_distance, inception_score, kernel_distance
from showtell.metrics.inception import FILE as INCEPTION_FILE
from showtell.metrics.inception import (
    LPIPS_FILE,
    LPIPS_SIDE,
    Inception,
    load_inception,
    load_lpips,
    resize_antialiased,
    resize_tensorflow1,
)
from showtell.metrics.protocols import Protocol
from showtell.metrics.relevance import (
    Relevance,
    aligned,
    cosines,
    minigpt5_relevance,
    mmdialog_relevance,
)
from showtell.metrics.rows import Pairs, Rows, marked, name_of

FEW = 10_000  # photos: below it FID is biased enough to be warned of
WORLD_FEATURES = ("world:oracle", "world:encoder")
_INCEPTION_NEEDS = (
    f"needs {INCEPTION_FILE}: name the file by --inception (docs/metrics.md says how it is made), "
    "or other features by --features"
)


def put_photos(rows: Rows) -> None:
    if any(said.photos or wanted.photos for said, wanted in rows.pairs):
        rows.measure(PHOTOS)


def _first(rows: Rows) -> int | None:
    """How many photos of an answer count: minigpt5 looks at the first alone."""
    return 1 if rows.protocol.name == "minigpt5" else None


def _pairs(rows: Rows) -> list[tuple[Path | None, Path, str, int]]:
    """(photo said, photo wanted, dialogue, number of the answer)"""
    return [
        (one, other, wanted.dialogue, number)
        for number, (said, wanted) in enumerate(rows.pairs)
        for one, other in aligned(said.photos, wanted.photos[: _first(rows)])
    ]


def _clip_i(rows: Rows) -> None:
    """Under mmdialog a missing photo counts 0 and an answer is the mean of its photos."""
    if (clip := rows.encoder("clip", "photo", "clip_i", "clip_t")) is None:
        return
    pairs = _pairs(rows)
    found = rows.compared("CLIP", pairs, lambda x, y: cosines(clip.photos(x), clip.photos(y)))
    said = [one for one in found if one[0] is not None]
    missing = len(found) - len(said)
    if rows.protocol.name == "mmdialog":
        answers: dict[int, list[float]] = {}
        for (score, _), (*_, number) in zip(found, pairs, strict=True):
            answers.setdefault(number, []).append(score or 0.0)
        said = [(sum(a) / len(a), rows.pairs[k][1].dialogue) for k, a in answers.items()]
    note = f"; {missing:,} of {len(found):,} photos missing" if missing else ""
    rows.mean("photo", "clip_i", said, f"cosine; {name_of(clip)}{note}")


def _clip_t(rows: Rows) -> None:
    """Photos said beside the true photo's caption, or the answer's text where it has none."""
    if (clip := rows.encoder("clip", "photo", "clip_i", "clip_t")) is None:
        return
    pairs = [
        (photo, wanted.caption or wanted.text, wanted.dialogue)
        for said, wanted in rows.pairs
        if (wanted.caption or wanted.text).strip()
        for photo in said.photos[: _first(rows)]
    ]
    found = rows.compared("CLIP", pairs, lambda x, y: cosines(clip.photos(x), clip.texts(y)))
    rows.mean("photo", "clip_t", found, f"cosine; {name_of(clip)}")


def _lpips(rows: Rows) -> None:
    if (path := rows.encoders.lpips) is None:
        needs = f"needs {LPIPS_FILE}: name the file by --lpips"
        return rows.absent("photo", ["lpips"], needs)
    network = load_lpips(path)
    rows.used["lpips"] = marked(path)

    def distances(said: Sequence[Path], wanted: Sequence[Path]) -> Tensor:
        return network(_squeezed(said), _squeezed(wanted))

    found = rows.compared("LPIPS", _pairs(rows), distances)
    said = [one for one in found if one[0] is not None]
    rows.mean("photo", "lpips", said, "AlexNet, v0.1, 256 px")


def _squeezed(photos: Sequence[Path]) -> Tensor:
    """N3HW, squeezed to the side that GILL's script gives to LPIPS."""
    size = (LPIPS_SIDE, LPIPS_SIDE)
    parts = [
        torch.nn.functional.interpolate(
            to_pixels(load_photo(photo))[None], size, mode="bilinear", antialias=True
        )
        for photo in photos
    ]
    return torch.cat(parts)


# ---------------------------------------------------------------------------------- sets of photos


@dataclass(frozen=True, kw_only=True)
class SetFeatures:
    """An encoder of pixels N3HW for FID and KID; ``inception`` gives the logits of IS as well."""

    encode: Callable[[Tensor], Tensor]
    id: str
    side: int | None = None  # photos are cut to their middle square of this side first
    inception: Inception | None = None


def _set_features(rows: Rows) -> SetFeatures | None:
    path, features = rows.encoders.inception, rows.encoders.features
    if path is not None:
        features = inception_features(path, rows.protocol)
        rows.used["inception"] = f"{marked(path)} ({features.id.removeprefix('Inception, ')})"
    elif features is not None:
        features = named_features(features) if isinstance(features, str) else features
        rows.used["features"] = features.id
    return features


def inception_features(path: str | Path, protocol: Protocol) -> SetFeatures:
    """The published network with the resize that the protocol names."""
    resize, how = resize_antialiased, "antialiased resize"
    if protocol.tensorflow1_resize:
        resize, how = resize_tensorflow1, "TensorFlow 1's resize"
    network = load_inception(path, resize=resize)
    return SetFeatures(
        encode=lambda pixels_N3HW: network(pixels_N3HW).features_NE,
        id=f"Inception, {how}",
        inception=network,
    )


def named_features(name: str) -> SetFeatures:
    """One of the photo world's own readers, "world:oracle" or "world:encoder": for use offline.

    Raises ConfigError for another name.
    """
    if name not in WORLD_FEATURES:
        raise ConfigError(f'no features "{name}"{did_you_mean(name, WORLD_FEATURES)}')
    reader = load_oracle(name.removeprefix("world:"))
    return SetFeatures(encode=reader.features, id=name, side=64)


def _sets(rows: Rows) -> None:
    """Photos that were said beside those that were wanted, as two sets."""
    if (features := _set_features(rows)) is None:
        return rows.absent("photo", SETS, _INCEPTION_NEEDS)
    said, wanted = ([photo for pair in rows.pairs for photo in pair[k].photos] for k in (0, 1))
    if (network := features.inception) is None:
        rows.absent("photo", ["inception_score"], _INCEPTION_NEEDS)
    elif said and rows.wants("inception_score"):
        logits_NC = _encoded(rows, said, features, lambda x: network(x).logits_NC)
        mean, spread = inception_score(logits_NC)
        note = (
            f"10 splits, spread {spread:.3f}; features: {features.id}, {network.fc.in_features:,}"
        )
        rows.row("photo", "inception_score", mean, n=len(said), note=note)
        if len(said) < 5000:
            rows.warnings.append(
                f"IS of {len(said):,} photos: ten splits of {len(said) // 10:,} cannot hold many "
                "classes, so it is biased downwards; compare only sets of the same size"
            )
    fewest = min(len(said), len(wanted))
    if fewest < 2 or not rows.wants("fid", "kid"):
        return
    short_side = rows.protocol.fid_short_side
    said_NE, wanted_ME = (
        _encoded(rows, photos, features, features.encode, short_side) for photos in (said, wanted)
    )
    about = f"features: {features.id}, {said_NE.shape[1]:,}"
    note = f"{len(said):,} said, {len(wanted):,} wanted; {about}"
    rows.row("photo", "fid", frechet_distance(wanted_ME, said_NE), n=fewest, note=note)
    found = kernel_distance(wanted_ME, said_NE, seed=rows.seed)
    note = f"100 subsets of {found.subset_size:,}, spread {found.spread:.4g}; {about}"
    rows.row("photo", "kid", found.value, n=fewest, note=note, low=found.low, high=found.high)
    if fewest < FEW:
        rows.warnings.append(
            f"FID of {fewest:,} photos is biased upwards (wanted {FEW:,} or more): compare it only "
            "with sets of the same size, and read kid beside it"
        )
    if network is None:
        rows.warnings.append(
            f"FID and KID in the features of {features.id}, not of Inception: not to be compared "
            "with published figures"
        )


def _encoded(
    rows: Rows,
    photos: Sequence[Path],
    features: SetFeatures,
    encode: Callable[[Tensor], Tensor],
    short_side: int | None = None,
) -> Tensor:
    """A row for each photo. One is open at a time: they have many sizes, up to 50 megapixels."""

    @torch.no_grad()
    def of_photo(photo: Path) -> Tensor:
        image = load_photo(photo)
        if features.side is not None:
            image = square(image, features.side)
        elif short_side is not None:
            image = _reduced(image, short_side)
        return encode(to_pixels(image)[None])[0].cpu()

    return torch.stack(rows.in_parts("photos", photos, lambda part: list(map(of_photo, part))))


def _reduced(image: Image.Image, short_side: int) -> Image.Image:
    """The shorter side at ``short_side`` pixels, the longer rounded down; bilinear.

    The longer side is at most ``EXTREME`` times as long: a photo of 6,000 x 8 would else be
    enlarged to 49 megapixels, to be reduced to 299 x 299 by the network.
    """
    shorter = min(image.size)
    width, height = (int(short_side * min(side / shorter, EXTREME)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


SETS = ("inception_score", "fid", "kid")
PHOTOS: Mapping[tuple[str, ...], Callable[[Rows], None]] = {
    ("clip_i",): _clip_i,
    ("clip_t",): _clip_t,
    ("lpips",): _lpips,
    SETS: _sets,
}

# ------------------------------------------------------------------------------------ MM-Relevance


def put_relevance(rows: Rows) -> None:
    """MM-Relevance: mean over answers, or (minigpt5) over dialogues."""
    protocol = rows.protocol
    if not protocol.relevance:
        return
    if (clip := rows.encoder("relevance_clip", "relevance", "relevance")) is None:
        return
    how = {"text_encoder": clip.texts, "photo_encoder": clip.photos}
    whole: dict[str, list[Any]] = {}
    for number, pair in enumerate(rows.pairs):
        name = pair[1].dialogue if protocol.name == "minigpt5" else str(number)
        whole.setdefault(name, []).append(pair)

    def one(turns: Pairs) -> Relevance:
        said, wanted = ([record.elements for record in side] for side in zip(*turns, strict=True))
        if protocol.name == "minigpt5":
            return minigpt5_relevance(said, wanted, **how)
        return mmdialog_relevance(said[0], wanted[0], **how)

    answers = list(whole.values())
    found = rows.in_parts("MM-Relevance", answers, lambda part: list(map(one, part)))
    for part in ("f1", "precision", "recall"):
        values = [
            (getattr(row, part), turns[0][1].dialogue)
            for row, turns in zip(found, answers, strict=True)
        ]
        rows.mean("relevance", part, values, f"cosine; {name_of(clip)}")
