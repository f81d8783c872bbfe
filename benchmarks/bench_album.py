"""The sample album by words: right photos, refusals, and how long a search takes; and how long
with many photos, and how many a second come in.

    python benchmarks/bench_album.py [--runs 20] [--threads 2] [--json FILE]
    python benchmarks/bench_album.py --photos 100000 --threads 1
    python benchmarks/bench_album.py --ingest 256 --threads 1

The requests (experiments/album_requests.jsonl) were written before any score was seen: sixty before
the captions, sixty after them. A third of each asks for what the album does not have. Beside the
search stands the nearest photo by plain cosines, which refuses nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from importlib.resources import files
from itertools import groupby
from pathlib import Path

import bench
import numpy as np
import torch
from PIL import Image

from showtell.agent.album_words import HOME, SAMPLE, album_folder, load_encoder, open_finder
from showtell.album.find import CUT_OFF, Finder
from showtell.album.index import Album, AlbumPhoto
from showtell.album.ingest import BATCH, Embed, add_photos
from showtell.data.photos import load_photo
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.moment import moment_values
from showtell.progress import terminal_progress

REQUESTS = Path(__file__).parents[1] / "experiments/album_requests.jsonl"


WIDTH, MADE_UP, SIZE = 384, 20_000, (640, 480)


def many(options: argparse.Namespace, folder: Path) -> None:
    """A search among ``--photos`` rows."""
    home, count = load_encoder(HOME), options.photos
    rng = np.random.default_rng(0)
    everyday = files("showtell.album").joinpath("everyday.txt").read_text("utf-8").split()
    words = [*everyday, *(f"w{n}" for n in range(MADE_UP))]
    # a few are in many captions, most in a few
    chosen = np.minimum(rng.pareto(0.5, (count, 7)), len(words) - 1).astype(int)
    photos = [
        AlbumPhoto(
            id=f"album-{n:020}",
            path=f"photos/{n}.jpg",
            caption=" ".join(words[w] for w in chosen[n]) if n % 2 else "",
            source=f"IMG_{n}.jpg",
            taken=f"20{n % 20 + 4:02}-{n % 12 + 1:02}-{n % 28 + 1:02}",
        )
        for n in range(count)
    ]
    vectors_TME = torch.from_numpy(rng.standard_normal((2, count, WIDTH), dtype=np.float32))
    vectors_TME[1, ::2] = 0
    Album(photos, vectors_TME[0], texts_ME=vectors_TME[1], made_by=HOME).save(folder)
    album = Album.load(folder)
    finder = Finder(album, home.texts)
    rows_ME = np.ascontiguousarray(album.vectors_MTE[:, 0])
    texts = [
        "our dog at the beach",
        "a photo of w17 in july 2019",
        "two friends laughing at a table",
    ]

    def flat() -> None:
        scores_M = rows_ME @ home.texts(texts[:1]).numpy()[0]
        np.argpartition(-scores_M, 5)[:5]

    def before() -> None:
        (query_E,) = torch.nn.functional.normalize(home.texts(texts[:1]), dim=1)
        scores_M = torch.full((count,), -9.0)
        for rows_ME in (album.embeddings_ME, album.texts_ME):
            usual_KM = finder.everyday_KE @ rows_ME.mT
            counted_M = (rows_ME @ query_E - usual_KM.mean()) / usual_KM.std()
            scores_M = torch.maximum(scores_M, counted_M)
        scores_M.sort(descending=True, stable=True)

    ways = {
        "the request's vector alone": lambda: home.texts(texts[:1]),
        "a plain product, best five": flat,
        "the search": lambda: finder.find(texts[0], top_k=5),
        "the search as it was before": before,
    }
    took = bench.in_turn(
        ways,
        runs=options.runs,
        before=lambda: texts.append(texts.pop(0)),
        clock=time.process_time,
    )
    spreads = {name: bench.spread(seconds, middle=True) for name, seconds in took.items()}
    print(f"{count:,} photos, {options.threads} threads, seconds of the processor")
    bench.show(spreads, head="middle half")
    bench.written(options, photos=count, **spreads)


def come_in(options: argparse.Namespace, folder: Path) -> None:
    """``--ingest`` photos into a new album, by the second."""
    home, source, count = load_encoder(HOME), folder / "in", options.ingest
    rng = np.random.default_rng(0)
    source.mkdir()
    for n in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(source / f"{n}.jpg", quality=90)
    paths, albums = sorted(source.iterdir()), itertools.count()

    def add(embed: Embed) -> None:
        into = folder / f"album{next(albums)}"
        add_photos(source, into=into, embed=embed, texts=home.texts, width=WIDTH, made_by="x")

    def look() -> None:
        for at in range(0, count, BATCH):
            home.photos([load_photo(path) for path in paths[at : at + BATCH]])

    ways = {
        "an album by home": lambda: add(home.photos),
        "an album by an encoder that looks at nothing": lambda: add(
            lambda images: torch.ones(len(images), WIDTH)
        ),
        "decoded and looked at alone": look,
    }
    took = bench.in_turn(ways, runs=options.runs, clock=time.process_time)
    rates = {name: [count / each for each in seconds] for name, seconds in took.items()}
    spreads = {name: bench.spread(values, middle=True) for name, values in rates.items()}
    print(f"photos a second of the processor, {options.threads} threads, {options.runs} runs")
    for name, row in spreads.items():
        print(f"{name}: {row['median']:.0f} ({row['low']:.0f} to {row['high']:.0f})")
    bench.written(options, photos=count, **spreads)


def main() -> None:
    parser = bench.parser(__doc__, runs=20, threads=2)
    parser.add_argument("--photos", type=int, help="a search among so many")
    parser.add_argument("--ingest", type=int, help="so many come in")
    options = bench.parsed(parser)
    with tempfile.TemporaryDirectory() as folder:
        if options.photos or options.ingest:
            return (many if options.photos else come_in)(options, Path(folder))
    of_sample(options)


def of_sample(options: argparse.Namespace) -> None:
    folder = album_folder(SAMPLE, told=terminal_progress)
    finder = open_finder(folder, told=terminal_progress)
    names = [photo.source for photo in finder.album.photos]
    requests = [json.loads(line) for line in REQUESTS.read_text("utf-8").splitlines()]
    rows: dict[str, tuple[Value, Value]] = {}
    groups = {kind: list(own) for kind, own in groupby(requests, key=lambda each: each["set"])}
    for kind, asked in {**groups, "all": requests}.items():
        evidence = finder.evidence([request["text"] for request in asked])
        ways = {
            "search": (evidence.score_NM, CUT_OFF),
            "cosine with the caption and names, no cut-off": (evidence.told_NM, -1e9),
            "cosine with the photo, no cut-off": (evidence.cosine_NM, -1e9),
        }
        for way, (scores_NM, cut_off) in ways.items():
            best_N, photo_N = scores_NM.max(1)
            refused = (best_N < cut_off).tolist()
            right = [
                not no and names[m] in request["photos"]
                for no, m, request in zip(refused, photo_N.tolist(), asked, strict=True)
                if request["photos"]
            ]
            none = [not request["photos"] for request in asked]
            f1 = moment_values(none, [float(no) for no in refused], threshold=0.5, seed=0)
            rows[f"{kind}, {way}"] = mean_value(right, seed=0), f1["moment.f1"]
    print(f"| {len(names)} photos, {len(requests)} requests | right photo | refusal F1 |")
    print("|---|--:|--:|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{v.printed} ({v.interval})" for v in values) + " |")
    texts = [request["text"] for request in requests]
    search = {"find": lambda: finder.find(texts[0], top_k=3)}
    took = bench.in_turn(search, runs=options.runs, before=lambda: texts.append(texts.pop(0)))
    spreads = {f"a search ({options.threads} threads)": bench.spread(took["find"], middle=True)}
    bench.show(spreads, head="middle half")
    found = {name: [vars(value) for value in values] for name, values in rows.items()}
    bench.written(options, requests=found, **spreads)


if __name__ == "__main__":
    main()
