"""The rows of photos of a score: CLIP-I, CLIP-T, LPIPS, IS, FID, KID, and MM-Relevance.

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

from showtell.batch import to_pixels
from showtell.data.photos import load_photo, square
from showtell.data.world import load_oracle
from showtell.errors import ConfigError, did_you_mean
from showtell.metrics.answers import Record
from showtell.metrics.encoders import CLIP_FILES, EXTREME, load_clip
from showtell.metrics.fid import InceptionScore, PhotoSets, merged_across_ranks
from showtell.metrics.inception import FILE as INCEPTION_FILE
from showtell.metrics.inception import (
    LPIPS_FILE,
    LPIPS_SIDE,
    NUM_CLASSES,
    NUM_FEATURES,
    Inception,
    load_inception,
    load_lpips,
    resize_antialiased,
    resize_tensorflow1,
)
from showtell.metrics.intervals import Value
from showtell.metrics.protocols import Protocol
from showtell.metrics.relevance import (
    Relevance,
    aligned,
    cosines,
    minigpt5_relevance,
    mmdialog_relevance,
)
from showtell.metrics.rows import CHUNK, Rows, marked, name_of
from showtell.runtime import dealt, share_of

SETS = ("inception_score", "fid", "fid_infinity", "kid")
WORLD_FEATURES = ("world:oracle", "world:encoder")
_MOST_VALUES = 20_000_000  # of pixels in one part: 80 MB


def put_photos(rows: Rows) -> None:
    if not any(said.photos or wanted.photos for said, wanted in rows.pairs):
        return
    protocol, encoders = rows.protocol, rows.encoders
    first = 1 if protocol.name == "minigpt5" else None  # it looks at the first photo alone
    pairs = [
        (one, other, wanted.dialogue, number)
        for number, (said, wanted) in enumerate(rows.pairs)
        for one, other in aligned(said.photos, wanted.photos[:first])
    ]
    if encoders.clip is None:
        rows.absent("photo", ("clip_i", "clip_t"), _clip_needs(protocol.clip))
    elif rows.wants("clip_i", "clip_t"):
        clip = rows.encoder("clip", encoders.clip, load_clip, protocol.clip)
        with rows.step("CLIP"):
            if rows.wants("clip_i"):
                _clip_i(rows, clip, pairs)
            spoken = [
                (photo, wanted.text, wanted.dialogue)
                for said, wanted in rows.pairs
                if wanted.text.strip()
                for photo in said.photos[:first]
            ]
            if rows.wants("clip_t"):
                found = rows.measured(spoken, lambda x, y: cosines(clip.photos(x), clip.texts(y)))
                rows.mean("photo", "clip_t", found, f"cosine; {name_of(clip)}")
        rows.count_cut("CLIP", clip)
    if encoders.lpips is None:
        rows.absent("photo", ["lpips"], f"needs {LPIPS_FILE}: name the file by --lpips")
    elif rows.wants("lpips"):
        network = load_lpips(encoders.lpips)
        rows.used["lpips"] = marked(encoders.lpips)
        found = rows.measured(pairs, lambda x, y: network(_squeezed(x), _squeezed(y)))
        said = [one for one in found if one[0] is not None]
        rows.mean("photo", "lpips", said, "AlexNet, v0.1, 256 px")
    if rows.wants(*SETS):
        _sets(rows)


def _clip_i(rows: Rows, clip: Any, pairs: Sequence[tuple[Any, Any, str, int]]) -> None:
    """Under mmdialog a missing photo counts 0 and an answer is the mean of its photos."""
    found = rows.measured(pairs, lambda x, y: cosines(clip.photos(x), clip.photos(y)))
    said = [one for one in found if one[0] is not None]
    missing = len(found) - len(said)
    if rows.protocol.name == "mmdialog":
        answers: dict[int, list[float]] = {}
        for (score, _), (*_, number) in zip(found, pairs, strict=True):
            answers.setdefault(number, []).append(score or 0.0)
        said = [(sum(a) / len(a), rows.pairs[k][1].dialogue) for k, a in answers.items()]
    note = f"; {missing:,} of {len(found):,} photos missing" if missing else ""
    rows.mean("photo", "clip_i", said, f"cosine; {name_of(clip)}{note}")


def _sets(rows: Rows) -> None:
    needs = (
        f"needs {INCEPTION_FILE}: name the file by --inception (docs/metrics.md says how it is "
        "made), or other features by --features"
    )
    features = rows.encoders.features
    if (path := rows.encoders.inception) is not None:
        features = inception_features(path, rows.protocol)
        how = features.id.removeprefix("Inception, ")
        rows.used["inception"] = f"{marked(path)} ({how})"
    elif features is not None:
        features = named_features(features) if isinstance(features, str) else features
        rows.used["features"] = features.id
    else:
        rows.absent("photo", SETS, needs)
        return
    said, wanted = ([photo for p in rows.pairs for photo in p[side].photos] for side in (0, 1))
    with rows.step("photos"):
        values, warned = set_values(said, wanted, rows.protocol, features, seed=rows.seed)
    for name in filter(rows.wants, values):
        rows.values[f"photo.{rows.protocol.name}.{name}"] = values[name]
    rows.warnings += warned
    if features.inception is None:
        rows.absent("photo", ["inception_score"], needs)


def put_relevance(rows: Rows) -> None:
    """MM-Relevance: mean over answers, or (minigpt5) over dialogues."""
    protocol, encoders = rows.protocol, rows.encoders
    if not protocol.relevance or not rows.wants("relevance"):
        return
    same = protocol.clip == protocol.relevance_clip
    chosen = encoders.clip if encoders.relevance_clip is None and same else encoders.relevance_clip
    if chosen is None:
        option = "--clip" if same else "--relevance-clip"
        rows.absent("relevance", ["relevance"], _clip_needs(protocol.relevance_clip, option))
        return
    clip = rows.encoder("relevance", chosen, load_clip, protocol.relevance_clip)
    how = {"text_encoder": clip.texts, "photo_encoder": clip.photos}
    whole: dict[str, list[tuple[Record, Record]]] = {}
    for number, pair in enumerate(rows.pairs):
        name = pair[1].dialogue if protocol.name == "minigpt5" else str(number)
        whole.setdefault(name, []).append(pair)

    def one(turns: list[tuple[Record, Record]]) -> Relevance:
        said, wanted = ([record.elements for record in side] for side in zip(*turns, strict=True))
        if protocol.name == "minigpt5":
            return minigpt5_relevance(said, wanted, **how)
        return mmdialog_relevance(said[0], wanted[0], **how)

    with rows.step("MM-Relevance"):
        found = dealt(list(whole.values()), lambda part: list(map(one, part)), CHUNK)
    dialogues = [turns[0][1].dialogue for turns in whole.values()]
    for part in ("f1", "precision", "recall"):
        values = zip((getattr(row, part) for row in found), dialogues, strict=True)
        rows.mean("relevance", part, list(values), f"cosine; {name_of(clip)}")
    rows.count_cut("CLIP", clip)


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


def _clip_needs(wanted: str, option: str = "--clip") -> str:
    return f"needs {wanted}: name a folder with {CLIP_FILES} by {option}"


# ------------------------------------------------------------------------------ sets of photos


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


def named_features(name: str) -> SetFeatures:
    """One of the photo world's own readers, "world:oracle" or "world:encoder": for use offline.

    Raises ConfigError for another name.
    """
    if name not in WORLD_FEATURES:
        raise ConfigError(f'no features "{name}"{did_you_mean(name, WORLD_FEATURES)}')
    reader = load_oracle(name.removeprefix("world:"))
    return SetFeatures(encode=reader.features, num_features=reader.num_features, id=name, side=64)


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
        side = features.side
        pixels = to_pixels(_reduced(image, short_side) if side is None else square(image, side))
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
