"""How well words find their photo in an album, on any photos with captions."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from showtell.album.find import AlbumEncoder, Evidence, Finder
from showtell.album.index import Album, AlbumPhoto
from showtell.album.ingest import BATCH, told_vectors
from showtell.data.photos import photo_image
from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.errors import DataError
from showtell.metrics.intervals import Value
from showtell.metrics.report import Report
from showtell.metrics.retrieval import CUTS, ranks, retrieval_values
from showtell.progress import Progress, quiet


def evaluate_search(
    data: str,
    encoder: AlbumEncoder,
    *,
    split: str = "",
    limit: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    told: Progress = quiet,
) -> Report:
    """The photos of ``data`` that have captions and, where asked for, are of the ``split``: every
    caption asks for its photo among all of them.

    ``cosine`` knows the pixels alone, ``score`` the names, too. Where photos have two captions or
    more, the second of each asks, and ``captioned`` knows the first. Raises DataError for less than
    two photos.
    """
    began = time.perf_counter()
    source = open_data(data)
    photos: dict[str, Photo] = {}
    for dialogue in source:
        for photo in dialogue.photos if split in ("", dialogue.labels.get("split")) else ():
            if _captions(photo):
                photos.setdefault(photo.id, photo)
    chosen = list(photos.values())[:limit]
    if len(chosen) < 2:
        raise DataError(
            f"{data} has {len(chosen)} photos with captions"
            + (f' in the split "{split}"' if split else "")
            + '; wanted two at least, as {"file": "a.jpg", "captions": ["..."]} a line. '
            "Name other data."
        )
    vectors = []
    for start in range(0, len(chosen), BATCH):
        told("photos", start, len(chosen))
        vectors.append(encoder.photos([photo_image(p) for p in chosen[start : start + BATCH]]))
    told("photos", len(chosen), len(chosen))
    embeddings_ME = torch.cat(vectors)

    def ask(queries: list[tuple[int, str]], *, captioned: bool) -> Evidence:
        known = [
            AlbumPhoto(id=p.id, source=p.id, caption=_captions(p)[0] if captioned else "")
            for p in chosen
        ]
        texts_ME = told_vectors(known, encoder.texts, width=encoder.width)
        album = Album(known, embeddings_ME, texts_ME=texts_ME, made_by=encoder.name)
        finder = Finder(album, encoder.texts, terms=encoder.terms)
        return finder.evidence([text for _, text in queries])

    every = [(m, text) for m, photo in enumerate(chosen) for text in _captions(photo)]
    found = ask(every, captioned=False)
    rows = {"cosine": (every, found.cosine_NM), "score": (every, found.score_NM)}
    second = [(m, _captions(p)[1]) for m, p in enumerate(chosen) if len(_captions(p)) > 1]
    if second:
        rows["captioned"] = (second, ask(second, captioned=True).score_NM)
    chance = {
        f"chance.r{k}": Value(value=min(1, k / len(chosen)), n=len(chosen), higher_is_better=None)
        for k in CUTS
    }
    report = Report(
        metrics=chance
        | {
            f"{name}.{key.removeprefix('retrieval.')}": value
            for name, (queries, scores_NM) in rows.items()
            for key, value in retrieval_values(
                ranks(scores_NM, [m for m, _ in queries]),
                seed=seed,
                groups=[str(m) for m, _ in queries],
            ).items()
        },
        recipe=f"album search by {encoder.name}",
        data=data + (f", split {split}" if split else ""),
        data_digest=source.digest(),
        seeds=(seed,),
        seconds=time.perf_counter() - began,
        counts={"photos": len(chosen), "captions": len(every)},
        notes=(
            "cosine: the photos' pixels alone; score: their files' names, too; captioned: the "
            "score where the first caption is known and the second asks",
        ),
        encoders={"album": encoder.name},
    )
    if out is not None:
        report.write(out)
    return report


def _captions(photo: Photo) -> list[str]:
    told = photo.labels.get("captions") or (photo.caption,)
    return [text for text in told if text.strip()]
