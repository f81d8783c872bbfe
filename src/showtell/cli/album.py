"""album: photos that are found by words, or by a model that shares them in a chat."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from showtell.cli import options as opt
from showtell.errors import UsageError
from showtell.progress import terminal_progress

album_app = opt.verbs("album", "Photos of your own, found by words or by a model (GILL).")
ENCODER = "home|DIR|ID"
ALBUM = opt.argument("ALBUM", "The album's folder.")


@album_app.command("add", epilog="Example: showtell album add ~/Pictures/2024 --into album")
def add(
    photos: Path = opt.argument("FOLDER", "Photos, also in subfolders."),
    into: Path = opt.out(..., "ALBUM", "The album's folder.", flag="into"),
    encoder: str | None = opt.option(
        None, "encoder", ENCODER, "To be found by words: home (the default), or a CLIP or SigLIP."
    ),
    model: str | None = opt.option(
        None, "model", "NAME|PATH", "In place of an encoder: the model that is to find them."
    ),
    no_dates: bool = opt.switch("no-dates", "Do not keep when photos were taken."),
    no_places: bool = opt.switch("no-places", "Do not keep in which cities they were taken."),
    skip_bad: bool = opt.SKIP_BAD,
    device: str | None = opt.DEVICE,
    json: bool = opt.JSON,
) -> None:
    """Add the photos of a folder to an album, old or new.

    Copies are kept, without their metadata; the photos themselves are left as they are. The album's
    list keeps their names, when and in which city each was taken, and the captions of the folder's
    captions.jsonl, if there is one; added again, photos get the captions of now. Stopped, the same
    command goes on.
    """
    from showtell.album.ingest import add_photos

    if encoder is not None and model is not None:
        raise UsageError(
            "both --encoder and --model; wanted one of them: --encoder for a search by words, "
            "--model for a model that finds photos"
        )
    makes: dict[str, Any]
    if model is None:
        from showtell.agent.album_words import HOME, fetch_for, load_encoder

        fetch_for(encoder or HOME, say=partial(opt.say, file=sys.stderr))
        maker = load_encoder(encoder or HOME, told=terminal_progress)
        makes = {"width": maker.width, "embed": maker.photos, "texts": maker.texts}
        makes["made_by"] = maker.name
    else:
        from showtell.album.ingest import embed_with
        from showtell.papers import load_model

        loaded = load_model(model)
        embed = embed_with(loaded.bridge.photo_keys, look=loaded.look)
        makes = {"width": loaded.album_width, "embed": embed, "made_by": loaded.name}
    found = add_photos(
        photos,
        into=into,
        days=not no_dates,
        places=not no_places,
        skip_bad=skip_bad,
        told=terminal_progress,
        **makes,
    )
    opt.emit(
        json,
        {
            "album": str(into),
            "photos": len(found.album),
            "added": found.added,
            "known": found.duplicates,
            "recaptioned": found.recaptioned,
            "refused": list(map(str, found.refused)),
            "left_out": list(found.left_out),
            "unplaced": found.unplaced,
        },
        *(
            [f"{found.unplaced:,} photos without their places: {found.no_places}"]
            if found.unplaced
            else []
        ),
        *(f"left out: {reason}" for reason in (*found.refused, *found.left_out)),
        f"Wrote {into}: {len(found.album):,} photos, {found.added:,} of them new; "
        f"{found.duplicates:,} there already (the same pixels)"
        + f", {found.recaptioned:,} with another caption now" * bool(found.recaptioned)
        + f", {len(found.refused) + len(found.left_out):,} left out",
    )


@album_app.command(
    "search", epilog='Example: showtell album search "our dog at the beach" --album album'
)
def search(
    text: str = opt.argument("TEXT", "What is looked for."),
    album: str = opt.option(
        ..., "album", "ALBUM|sample", "The album's folder; the one that ships; or immich:ADDRESS."
    ),
    encoder: str | None = opt.option(
        None, "encoder", ENCODER, "The one that made the album (as the album says)."
    ),
    limit: int = opt.option(5, "limit", "N", "At most N photos.", min=1),
    cut_off: float | None = opt.option(
        None, "cut-off", "X", "Only photos of this score or more; lower finds more."
    ),
    device: str | None = opt.DEVICE,
    json: bool = opt.JSON,
) -> None:
    """Find photos by what they show, their captions, names and days.

    A score is counted in standard deviations above what everyday phrases have. That there is no
    such photo is an answer, too.
    """
    from showtell.agent.album_words import HOME, SAMPLE, fetch_for, open_photos

    if album == SAMPLE:
        fetch_for(HOME, say=partial(opt.say, file=sys.stderr))
    opened = open_photos(album, encoder=encoder, told=terminal_progress)
    finder, folder = opened.finder, opened.folder
    least = finder.cut_off if cut_off is None else cut_off
    hits = finder.find(text, top_k=limit, cut_off=least)
    opt.emit(
        json,
        {
            "text": text,
            "cut_off": least,
            "photos": [
                {
                    "id": hit.photo.id,
                    "score": round(hit.score, 3),
                    "path": None if hit.photo.path is None else str(folder / hit.photo.path),
                    "caption": hit.photo.caption,
                    "source": hit.photo.source,
                    "taken": hit.photo.taken,
                    "place": hit.photo.place,
                }
                for hit in hits
            ],
        },
        *(
            f"{hit.score:5.1f}  {folder / hit.photo.path if hit.photo.path else hit.photo.id}  "
            f"{hit.photo.caption or hit.photo.source}"
            for hit in hits
        ),
        *([] if hits else [f"No such photo among {len(finder.album):,} (cut-off {least:g})"]),
    )


@album_app.command(
    "evaluate",
    epilog="Example: showtell album evaluate folder:photos/captions.jsonl --encoder home",
)
def evaluate_album(
    data: str = opt.argument("DATA", "Photos with captions: folder:PATH, cc3m:PATH."),
    encoder: str = opt.option("home", "encoder", ENCODER, "Whose search is measured."),
    split: str = opt.option("", "split", "NAME", "Only photos whose records name this split."),
    limit: int | None = opt.option(None, "limit", "N", "Only the first N photos.", min=2),
    seed: int = opt.SEED,
    device: str | None = opt.DEVICE,
    json: bool = opt.JSON,
    out: Path | None = opt.REPORT,
) -> None:
    """Measure how often a caption finds its photo, beside chance."""
    from showtell.agent.album_words import fetch_for, load_encoder
    from showtell.evaluation.album_search import evaluate_search

    fetch_for(encoder, say=partial(opt.say, file=sys.stderr))
    report = evaluate_search(
        data,
        load_encoder(encoder, told=terminal_progress),
        split=split,
        limit=limit,
        seed=seed,
        out=out,
        told=terminal_progress,
    )
    opt.print_report(report, json=json, out=out)


@album_app.command("list", epilog="Example: showtell album list album")
def list_photos(album: Path = ALBUM, json: bool = opt.JSON) -> None:
    """The photos of an album, and the files that they were made from."""
    from dataclasses import asdict

    from showtell.album.ingest import finish

    found = finish(album)
    opt.emit(
        json,
        {"made_by": found.made_by, "photos": [asdict(photo) for photo in found.photos]},
        *(
            f"{p.id}  {p.source or p.path or '(no file)'}  {p.caption}".rstrip()
            for p in found.photos
        ),
        f"{len(found):,} photos, for {found.made_by or 'an unnamed model'}",
    )


@album_app.command("remove", epilog="Example: showtell album remove album album-0123456789abcdef")
def remove_photos(
    album: Path = ALBUM,
    ids: list[str] = opt.argument("ID...", 'See "showtell album list".'),
    json: bool = opt.JSON,
) -> None:
    """Remove photos for good: entries, words, vectors and copies."""
    from showtell.album.ingest import remove

    left = len(remove(album, ids))
    opt.emit(json, {"album": str(album), "photos": left}, f"Wrote {album}: {left:,} photos left")


@album_app.command("stats", epilog="Example: showtell album stats album")
def stats(album: Path = ALBUM, json: bool = opt.JSON) -> None:
    """How many photos an album has, and what is known of them."""
    from showtell.album.ingest import finish

    found = finish(album)
    photos = found.photos
    days = sorted(photo.taken[:10] for photo in photos if photo.taken)
    places = {photo.place for photo in photos if photo.place}
    shots = [photo.shot for photo in photos if photo.shot]
    alike = len(shots) - len(set(shots))
    captioned = sum(bool(photo.caption) for photo in photos)
    num_bytes = sum(path.stat().st_size for path in album.rglob("*") if path.is_file())
    told = {
        "made_by": found.made_by,
        "photos": len(photos),
        "captioned": captioned,
        "dated": len(days),
        "first_day": days[0] if days else "",
        "last_day": days[-1] if days else "",
        "places": len(places),
        "alike": alike,
        "bytes": num_bytes,
    }
    opt.emit(
        json,
        told,
        f"{len(photos):,} photos, for {found.made_by or 'an unnamed model'}",
        f"{captioned:,} with captions",
        f"{len(days):,} with a day" + (f", {days[0]} to {days[-1]}" if days else ""),
        f"{len(places):,} places",
        f"{alike:,} nearly the same as another",
        f"{num_bytes / 1e6:,.1f} MB on the disk",
    )
