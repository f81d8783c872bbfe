r"""Models of real photos, trained from scratch and not shipped: retrieval, captions, painting.

    showtell train photos_contrastive --set photos=folder:PHOTOS
    showtell train photos_captioner --set photos=folder:PHOTOS \
        --set start=runs/photos_contrastive/model
    showtell train photos_painter --set photos=folder:PHOTOS
    python experiments/real_photos.py folder:PHOTOS --out DIR [--contrastive MODEL]
        [--captioner MODEL] [--painter MODEL] [--source flickr8k]

PHOTOS holds photos and a captions.jsonl with splits "train" and "dev". Measured is what is named,
on the dev photos of ``--source``; the contact sheet shows the first of them in the file's order,
none picked: the photo, what was painted from its first caption, and the training photo nearest to
that. It shows other people's photos: look at it, and do not publish it.

Retrieval: a photo ranks the captions of all photos and is right at the rank of the first of its
own; each caption ranks all photos, and intervals draw photos. Letters: N photos, T captions of all
photos, E width.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from showtell.batch import to_image
from showtell.cli.exits import exit_code_of
from showtell.data.photos import load_photo, square
from showtell.data.sources import open_data
from showtell.data.storage import write_atomically
from showtell.dialogue import Photo
from showtell.errors import DataError
from showtell.metrics.cider import cider_d
from showtell.metrics.encoders import ClipEncoder, load_clip
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.pictures import contact_sheet, save_picture
from showtell.metrics.report import Report, digest, model_digest
from showtell.metrics.retrieval import ranks, retrieval_values
from showtell.metrics.text import text_values
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.parts import Conditioning
from showtell.models.respond import Responder
from showtell.papers import load_model
from showtell.recipes.photo_sets import cached_pixels
from showtell.recipes.small import IMAGE_SIZE


def retrieval_both_ways(
    clip: ClipEncoder, photos: Sequence[Photo], *, seed: int
) -> dict[str, Value]:
    """``retrieval.photo_to_caption.*`` and ``retrieval.caption_to_photo.*``."""
    captions = [caption for photo in photos for caption in photo.labels["captions"]]
    owners_T = np.repeat(np.arange(len(photos)), [len(p.labels["captions"]) for p in photos])
    photos_NE = _unit(clip.photos([photo.path or "" for photo in photos]))
    captions_TE = _unit(clip.texts(captions))
    to_caption_N, to_photo_T = two_way_ranks(photos_NE @ captions_TE.T, owners_T)
    return {
        **retrieval_values(to_caption_N, seed=seed, prefix="retrieval.photo_to_caption"),
        **retrieval_values(
            to_photo_T,
            seed=seed,
            prefix="retrieval.caption_to_photo",
            groups=[photo.id for photo in photos for _ in photo.labels["captions"]],
        ),
    }


def two_way_ranks(scores_NT: np.ndarray, owners_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rank of the first of each photo's captions, rank of each caption's photo), (N,) and (T,).

    Raises DataError where a photo has no caption.
    """
    if not np.array_equal(np.unique(owners_T), np.arange(len(scores_NT))):
        raise DataError(
            "a photo has no caption, so nothing can find it; wanted one or more of each. "
            "Leave such photos out."
        )
    first_N = np.full(len(scores_NT), scores_NT.shape[1])
    np.minimum.at(first_N, owners_T, ranks(scores_NT[owners_T], np.arange(len(owners_T))))
    return first_N, ranks(scores_NT.T, owners_T)


def _unit(rows: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(rows.float(), dim=-1).numpy()


def write_captions(model: PhotoDialogueModel, photos: Sequence[Photo], *, side: int) -> list[str]:
    """What the model sees in each photo, greedy."""
    images = [square(load_photo(photo.path or ""), side) for photo in photos]
    return Responder(Decoder(model)).captions(photos, images)


def caption_values(
    said: Sequence[str], references: Sequence[Sequence[str]], *, seed: int
) -> dict[str, Value]:
    """``text.standard.*`` against all captions of a photo, and ``caption.cider_d`` (0 to 10); and
    both once more as ``baseline.next_photo.*``, of each caption put under the next photo: what
    captions of this kind score that have not seen theirs.

    Flickr8k's captions end in " ." and are split into words; sacrebleu splits both sides alike.
    """

    def values(said: Sequence[str]) -> dict[str, Value]:
        scores_N = cider_d(said, references)
        return {
            "caption.cider_d": mean_value(scores_N, seed=seed, unit="", note="0 to 10"),
            **text_values(said, references, protocol="standard", seed=seed),
        }

    blind = values([*said[-1:], *said[:-1]])
    return values(said) | {f"baseline.next_photo.{name}": v for name, v in blind.items()}


def paint_photos(
    painter: LatentDiffusionPainter,
    captions: Sequence[str],
    *,
    seed: int,
) -> list[Image.Image]:
    """One photo a caption, each from its own seed (``seed`` and its number)."""
    images = []
    for start in range(0, len(captions), 16):
        some = list(captions[start : start + 16])
        with torch.no_grad():
            painted = painter.paint(
                Conditioning(cond_NSC=painter.encode_text(some)),
                num_steps=25,
                guidance=3.0,
                seeds=range(seed + start, seed + start + len(some)),
            )
        images += [to_image(pixels) for pixels in painted]
    return images


def painted_values(
    clip: ClipEncoder,
    painted: Sequence[Image.Image],
    photos: Sequence[Photo],
    *,
    seed: int,
) -> dict[str, Value]:
    """``painted.clip_t``: the cosine of a painted photo with the caption it was made of.

    ``baseline.next_photo.painted.clip_t`` with the caption of the next one, which a painter that
    reads nothing would score as high; ``baseline.true.painted.clip_t`` of the true photo.
    """
    own_NE = _unit(clip.texts([photo.labels["captions"][0] for photo in photos]))
    painted_NE = _unit(clip.photos(painted))
    true_NE = _unit(clip.photos([photo.path or "" for photo in photos]))
    found = {
        "painted.clip_t": (painted_NE * own_NE).sum(-1),
        "baseline.next_photo.painted.clip_t": (painted_NE * np.roll(own_NE, 1, axis=0)).sum(-1),
        "baseline.true.painted.clip_t": (true_NE * own_NE).sum(-1),
    }
    return {name: mean_value(values, seed=seed, unit="") for name, values in found.items()}


def nearest(images: Sequence[Image.Image], pixels_NHW3: np.ndarray) -> list[int]:
    """The number of the photo with the least squared difference to each image, mirrored or not."""
    found = []
    for image in images:
        wanted = np.asarray(image.convert("RGB"), dtype=np.float32)
        best, least = 0, np.inf
        for start in range(0, len(pixels_NHW3), 512):
            some = pixels_NHW3[start : start + 512].astype(np.float32)
            for shown in (wanted, wanted[:, ::-1]):
                errors = ((some - shown) ** 2).mean((1, 2, 3))
                if errors.min() < least:
                    best, least = start + int(errors.argmin()), float(errors.min())
        found.append(best)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="folder:PATH")
    parser.add_argument("--contrastive", type=Path, help="the model of photos_contrastive")
    parser.add_argument("--captioner", type=Path, help="the model of photos_captioner")
    parser.add_argument("--painter", type=Path, help="the model of photos_painter")
    parser.add_argument("--source", default="flickr8k", help="which dev photos, by their source")
    parser.add_argument("--painted", type=int, default=12, help="photos on the contact sheet")
    parser.add_argument("--measured", type=int, default=200, help="photos that are painted")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and of the photos")
    parser.add_argument("--out", type=Path, required=True, help="where everything is written")
    options = parser.parse_args()
    began = time.monotonic()

    dev = _captioned(options.data, "dev")
    dev = [photo for photo in dev if photo.labels.get("source") == options.source]
    if not dev:
        sys.exit(f'{options.data} has no dev photo with captions and "source": "{options.source}"')
    values: dict[str, Value] = {}
    clip = load_clip(options.contrastive) if options.contrastive else None
    if clip is not None:
        values |= retrieval_both_ways(clip, dev, seed=options.seed)
    if options.captioner:
        said = write_captions(load_model(str(options.captioner)), dev, side=IMAGE_SIZE)
        values |= caption_values(said, [p.labels["captions"] for p in dev], seed=options.seed)
        write_atomically(options.out / "captions.txt", ("\n".join(said) + "\n").encode())
    if options.painter:
        painter = LatentDiffusionPainter.from_pretrained(options.painter)
        captions = [photo.labels["captions"][0] for photo in dev[: options.measured]]
        painted = paint_photos(painter, captions, seed=options.seed)
        if clip is not None:
            values |= painted_values(clip, painted, dev[: len(painted)], seed=options.seed)
        _show(options, dev[: options.painted], painted)
    for name, value in values.items():
        print(f"{name:<48}{value.printed:>8}  [{value.interval}]  n {value.n:,}")
    named = [m for m in (options.contrastive, options.captioner, options.painter) if m]
    file = Path(options.data.partition(":")[2])
    report = Report(
        metrics=values,
        recipe="photos",
        checkpoint=", ".join(map(str, named)),
        model_digest=", ".join(map(model_digest, named)),
        data=f"{options.data}, dev photos of {options.source}",
        data_digest=digest([file / "captions.jsonl" if file.is_dir() else file]),
        seeds=(options.seed,),
        seconds=time.monotonic() - began,
        command="python experiments/real_photos.py folder:PHOTOS",
        counts={"photos": len(dev)},
        notes=("chance of R@10 is 10 / photos; photos of the training split were trained on",),
    )
    for path in report.write(options.out):
        print(f"wrote {path}")


def _captioned(data: str, split: str) -> list[Photo]:
    found = [each.photos[0] for each in open_data(data) if each.labels.get("split") == split]
    return [photo for photo in found if photo.labels["captions"]]


def _show(
    options: argparse.Namespace, wanted: Sequence[Photo], painted: Sequence[Image.Image]
) -> None:
    """The contact sheet of the first photos."""
    cache = options.out / "cache"
    train = cached_pixels(_captioned(options.data, "train"), side=IMAGE_SIZE, cache=cache)
    shown = painted[: len(wanted)]
    images, below = [], []
    for photo, image, number in zip(wanted, shown, nearest(shown, train.pixels), strict=True):
        near = train.photos[number]
        images += [square(load_photo(photo.path or ""), IMAGE_SIZE), image]
        images.append(square(load_photo(near.path or ""), IMAGE_SIZE))
        below += [photo.labels["captions"][0], "painted from it", f"nearest: {near.caption}"]
    sheet = contact_sheet(images, below, columns=6, title="dev photo, painted, nearest trained on")
    save_picture(sheet, options.out / "painted.png")
    print(f"wrote {options.out / 'painted.png'}")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
