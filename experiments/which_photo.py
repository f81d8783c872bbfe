"""Which photo: albums of the drawn world, real photos, and "no such photo".

    python experiments/which_photo.py --world HEADS [--real DATA] [--heads HEADS] [--albums 4]

docs/results/which.md, which it writes, has the commands that train HEADS. Of each kind of album,
one half sets the cut-off (``conformal``) and the other is measured: drawn albums of dev set that of
test; of real photos one half sets that of the other. A request is right where the photo that is
shown has all that it states; a refusal where none is shown.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from photoworld.scenes import ATTRIBUTES, LOOKS, Scene, is_novel, sample_scene, write_caption
from photoworld.words import describe, write
from showtell.agent.album_words import HOME, load_encoder
from showtell.agent.which import sentences
from showtell.album.find import AlbumEncoder, Finder, conformal
from showtell.album.index import Album, AlbumPhoto
from showtell.album.ingest import BATCH, told_vectors
from showtell.data.photos import photo_image
from showtell.data.sources import open_data
from showtell.data.storage import write_atomically
from showtell.data.world import draw_photo
from showtell.dialogue import Photo
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.moment import moment_values

WRONG = 0.1
NUM_PHOTOS, NUM_REQUESTS, NUM_NEAR, NUM_REAL = 500, 120, 3, 1000
RESULTS = Path(__file__).parents[1] / "docs/results"
PAGE = """\
# Which photo

For those who want to know how often the right photo is found, and a wrong one is not shown. By
`python experiments/which_photo.py`. *right photo*: of the requests that a photo answers, those to
which one is shown that has all that is stated. *without a cut-off*: the same,
if the best one is always shown. *refusal F1*: of "no such photo".
*wrongly shown*: of the requests that no photo answers;
the cut-off is set so that it is at most {wrong:.0%}, on other albums than these
([metrics.md](../metrics.md#no-such-photo)). By `search`: the search's score; by `cosine`: the
nearest photo by the vectors of pixels and words; *own cut-off*: the one that the encoder comes
with, which knows nothing of these albums.

{table}

**drawn**: {albums} albums of 500 drawn photos, half without captions, 120 requests each in words
of talk (of test: a fifth of the phrases stand nowhere else), each with three near photos that
differ in one attribute that it states; of a third there is nothing more. The cut-off is that of
{albums} albums of dev. **real**: Flickr8k dev, 1,000 photos: of each half two thirds are an
album, half of them with their shortest caption, another annotator's words ask, and captions of
the others are put to it, too; each half sets the cut-off of the other. Captions of strangers
often suit another photo as well ("a dog runs on grass"): that counts as wrong here.

```
showtell train album_heads --set data=world:photos:0-5999 --set eyes=mini --set num_terms=800 \\
    --set dropout=0.3 --set heads.steps=800 --set heads.batch_size=256 --out runs/world_heads
showtell train album_heads --set data=folder:photos/captions.jsonl --out runs/heads
python experiments/which_photo.py --world runs/world_heads/model \\
    --real folder:photos/captions.jsonl --heads runs/heads/model
```
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An album, the requests that are put to it, and the photos that each means."""

    photos: list[Photo]
    texts: list[str]
    right: list[set[int]]


# ---------------------------------------------------------------------------------- drawn albums


def near(scene: Scene, stated: Sequence[str], rng: random.Random) -> Scene:
    """Another one, that differs in one of the stated attributes."""
    while True:
        name = rng.choice(sorted(stated))
        value = rng.choice([v for v in ATTRIBUTES[name] if v != getattr(scene, name)])
        other = replace(scene, seed=rng.randrange(2**31), **{name: value})
        fixed = name in ("subject", "colour", "count") and {scene.subject, other.subject} & {*LOOKS}
        alone = (other.relation == "alone") != (other.anchor == "nothing")
        if not (fixed or alone or is_novel(other.subject, other.colour, other.place)):
            return other


def drawn_album(name: str, *, kept: bool) -> Asked:
    """Photos of which half have captions. Each request states some attributes in words of talk, and
    has three near photos; of a third nothing more. ``kept``: phrases of test, too."""
    rng = random.Random(f"which-{name}")
    scenes: list[Scene] = []
    asked: list[tuple[str, dict[str, str]]] = []
    while len(asked) < NUM_REQUESTS:
        scene, wants = sample_scene(rng), len(asked) % 3 > 0
        told = rng.sample(("place", "time", "weather"), rng.choice((1, 2, 2, 3)))
        told += ["relation"] if rng.random() < 0.8 else []
        words, named = describe(scene, rng, told, known=False)
        text = write(["ask_plain"], scene, rng=rng, with_kept=kept, obj=(words, named))
        asked.append((str(text), {name: getattr(scene, name) for name in sorted(named)}))
        scenes += [near(scene, sorted(named), rng) for _ in range(NUM_NEAR)]
        scenes += [scene] if wants else []
    scenes += [sample_scene(rng) for _ in range(NUM_PHOTOS - len(scenes))]
    rng.shuffle(scenes)
    photos = [
        Photo(
            id=f"{name}-{m}",
            caption=write_caption(scene, rng)[0] if rng.random() < 0.5 else "",
            labels={"scene": scene.as_dict()},
        )
        for m, scene in enumerate(scenes)
    ]
    right = [
        {m for m, s in enumerate(scenes) if stated.items() <= s.attributes.items()}
        for _, stated in asked
    ]
    return Asked(photos=photos, texts=[text for text, _ in asked], right=right)


# ----------------------------------------------------------------------------------- real albums


def real_album(photos: Sequence[Photo], others: Sequence[Photo], *, seed: int) -> Asked:
    """Half of the photos have their shortest caption. Another caption of each asks for it, and
    captions of half as many other photos ask for what is not there."""
    rng = random.Random(seed)
    known, texts, right = [], [], []
    for m, photo in enumerate(photos):
        captions = sorted(photo.labels["captions"], key=len)
        known.append(replace(photo, caption=captions[0] if rng.random() < 0.5 else ""))
        texts.append(rng.choice(captions[1:]))
        right.append({m})
    for photo in others[: len(photos) // 2]:
        texts.append(rng.choice(photo.labels["captions"]))
        right.append(set())
    return Asked(photos=known, texts=texts, right=right)


# ------------------------------------------------------------------------------------- measures


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of each request: the best score, whether that photo is right, whether there is one."""

    best: list[float]
    right: list[bool]
    there: list[bool]


def searched(
    asked: Asked, encoder: AlbumEncoder, image_of: Callable[[Photo], object]
) -> dict[str, Found]:
    """By the search's score, and by the cosine of the photos' vectors alone."""
    vectors = [
        encoder.photos([image_of(photo) for photo in asked.photos[start : start + BATCH]])  # type: ignore[misc]
        for start in range(0, len(asked.photos), BATCH)
    ]
    known = [
        AlbumPhoto(id=photo.id, caption=photo.caption, source=f"IMG_{m}.jpg")
        for m, photo in enumerate(asked.photos)
    ]
    texts_ME = told_vectors(known, encoder.texts, width=encoder.width)
    album = Album(known, torch.cat(vectors), texts_ME=texts_ME, made_by=encoder.name)
    finder = Finder(album, encoder.texts, terms=encoder.terms)
    rows: dict[str, list[Tensor]] = {"search": [], "cosine": []}
    for text in asked.texts:
        evidence = finder.evidence(sentences(text) or [text])
        rows["search"].append(evidence.score_NM.amax(0))
        rows["cosine"].append(evidence.cosine_NM.amax(0))
    found = {}
    for name, scores in rows.items():
        best, photo = torch.stack(scores).max(1)
        right = [m in means for m, means in zip(photo.tolist(), asked.right, strict=True)]
        found[name] = Found(best=best.tolist(), right=right, there=[bool(m) for m in asked.right])
    return found


def joined(parts: Sequence[Mapping[str, Found]], name: str) -> Found:
    own = [part[name] for part in parts]
    return Found(
        best=[x for part in own for x in part.best],
        right=[x for part in own for x in part.right],
        there=[x for part in own for x in part.there],
    )


def cut_off_of(found: Found) -> float:
    """The conformal cut-off of the requests that no photo answers."""
    none = [b for b, there in zip(found.best, found.there, strict=True) if not there]
    return conformal(none, wrong=WRONG)


def measured(found: Found, cut_off: float) -> dict[str, Value]:
    shown = [best >= cut_off for best in found.best]
    rows = [*zip(shown, found.right, found.there, strict=True)]
    none = [not there for there in found.there]
    f1 = moment_values(none, [float(not s) for s in shown], threshold=0.5, seed=0)["moment.f1"]
    return {
        "right": mean_value([s and right for s, right, there in rows if there], seed=0),
        "first": mean_value([right for _, right, there in rows if there], seed=0),
        "refusal F1": f1,
        "wrongly shown": mean_value([s for s, _, there in rows if not there], seed=0),
    }


def real_rows(data: str, encoder: AlbumEncoder) -> dict[str, dict[str, Value]]:
    """Of the photos of dev, halves: two thirds are an album, captions of the others are strangers
    to it. Each half sets the cut-off of the other."""
    photos = [
        photo
        for dialogue in open_data(data)
        if dialogue.labels.get("split") == "dev"
        for photo in dialogue.photos
        if len(photo.labels.get("captions", ())) > 1
    ][:NUM_REAL]
    random.Random(0).shuffle(photos)
    parts = []
    for half in (photos[::2], photos[1::2]):
        size = len(half) * 2 // 3
        asked = real_album(half[:size], half[size:], seed=len(parts))
        parts.append(searched(asked, encoder, photo_image))
    rows = {}
    for way in parts[0]:
        cuts = [cut_off_of(part[way]) for part in parts]
        # as if one cut-off, 0, were that of both
        moved = [
            {way: replace(part[way], best=[b - cut for b in part[way].best])}
            for part, cut in zip(parts, reversed(cuts), strict=True)
        ]
        rows[way] = measured(joined(moved, way), 0.0)
    return rows | own_cut_off(joined(parts, "search"), encoder)


def drawn_rows(encoder: AlbumEncoder, *, albums: int) -> dict[str, dict[str, Value]]:
    dev, test = (
        [
            searched(drawn_album(f"{split}-{k}", kept=split == "test"), encoder, draw_photo)
            for k in range(albums)
        ]
        for split in ("dev", "test")
    )
    rows = {way: measured(joined(test, way), cut_off_of(joined(dev, way))) for way in test[0]}
    return rows | own_cut_off(joined(test, "search"), encoder)


def own_cut_off(found: Found, encoder: AlbumEncoder) -> dict[str, dict[str, Value]]:
    name = f"search, the encoder's own cut-off {encoder.cut_off:.2f}"
    return {name: measured(found, encoder.cut_off)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", required=True, metavar="HEADS", help="of the drawn world")
    parser.add_argument("--real", metavar="DATA", help="captioned photos with a split dev")
    parser.add_argument("--heads", metavar="HEADS", help="of real photos")
    parser.add_argument("--albums", type=int, default=4, help="drawn albums of dev, and of test")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    tables = {"drawn, `home`": drawn_rows(load_encoder(HOME), albums=options.albums)}
    tables["drawn, heads"] = drawn_rows(load_encoder(options.world), albums=options.albums)
    if options.real:
        tables["real, `home`"] = real_rows(options.real, load_encoder(HOME))
    if options.real and options.heads:
        tables["real, heads"] = real_rows(options.real, load_encoder(options.heads))
    lines = [
        "| photos, encoder | by | right photo | without a cut-off | refusal F1 | wrongly shown |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, rows in tables.items():
        for way, values in rows.items():
            told = [f"{value.printed} ({value.interval})" for value in values.values()]
            lines.append(f"| {name} | {way} | {' | '.join(told)} |")
    text = PAGE.format(table="\n".join(lines), wrong=WRONG, albums=options.albums)
    write_atomically(options.out / "which.md", text.encode())
    found = {
        name: {way: {k: vars(v) for k, v in values.items()} for way, values in rows.items()}
        for name, rows in tables.items()
    }
    written = json.dumps({"wrong": WRONG, "rows": found}, indent=1)
    write_atomically(options.out / "which.json", written.encode() + b"\n")
    print(text)


if __name__ == "__main__":
    main()
