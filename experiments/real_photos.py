r"""Models of real photos, trained from scratch and not shipped: retrieval, captions, painting.

    showtell train photos_contrastive --set data=folder:PHOTOS
    showtell train photos_captioner --set data=folder:PHOTOS \
        --set vision=runs/photos_contrastive/model
    showtell train photos_painter --set data=folder:PHOTOS
    python experiments/real_photos.py folder:PHOTOS --out DIR [--contrastive MODEL]
        [--captioner MODEL] [--painter MODEL] [--source flickr8k]

PHOTOS holds photos and a captions.jsonl with splits "train" and "dev". Measured is what is named,
on the dev photos of ``--source``; the contact sheet shows the first of them in the file's order,
none picked: the photo, what was painted from its first caption, and the training photo nearest to
that. It shows other people's photos: look at it, and do not publish it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from showtell.data.photos import load_photo, square
from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.evaluation.photos import (
    caption_values,
    nearest,
    paint_photos,
    painted_values,
    retrieval_both_ways,
    write_captions,
)
from showtell.metrics.encoders import load_clip
from showtell.metrics.intervals import Value
from showtell.metrics.pictures import contact_sheet
from showtell.metrics.report import Report, digest, model_digest
from showtell.models.painter import LatentDiffusionPainter
from showtell.papers import load_model
from showtell.recipes.photo_sets import cached_pixels
from showtell.recipes.small import IMAGE_SIZE


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

    dev = [p for p in _captioned(options.data, "dev") if _is_from(p, options.source)]
    if not dev:
        sys.exit(f'{options.data} has no dev photo with captions and "source": "{options.source}"')
    values: dict[str, Value] = {}
    clip = load_clip(options.contrastive) if options.contrastive else None
    if clip is not None:
        values |= retrieval_both_ways(clip, dev, seed=options.seed)
    if options.captioner:
        said = write_captions(
            load_model(str(options.captioner)), dev, side=IMAGE_SIZE, told=_progress
        )
        values |= caption_values(said, [p.labels["captions"] for p in dev], seed=options.seed)
        _write(options.out / "captions.txt", "\n".join(said) + "\n")
    if options.painter:
        painter = LatentDiffusionPainter.from_pretrained(options.painter)
        painted = paint_photos(
            painter, list(map(_caption, dev[: options.measured])), seed=options.seed
        )
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


def _is_from(photo, source: str) -> bool:
    return photo.labels.get("source") == source


def _captioned(data: str, split: str) -> list[Photo]:
    found = [each.photos[0] for each in open_data(data) if each.labels.get("split") == split]
    return [photo for photo in found if photo.labels["captions"]]


def _caption(photo: Photo) -> str:
    return photo.labels["captions"][0]


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
        below += [_caption(photo), "painted from it", f"nearest: {near.caption}"]
    sheet = contact_sheet(images, below, columns=6, title="dev photo, painted, nearest trained on")
    sheet.save(options.out / "painted.png")
    print(f"wrote {options.out / 'painted.png'}")


def _progress(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"captions {done}/{total}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main()
