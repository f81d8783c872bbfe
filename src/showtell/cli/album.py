"""album: photos that a model may find and share in a chat."""

from __future__ import annotations

from pathlib import Path

from showtell.cli import options as opt
from showtell.progress import terminal_progress

album_app = opt.verbs("album", "Photos of your own, for a model that finds them (GILL).")
ALBUM = opt.argument("ALBUM", "The album's folder.")


@album_app.command(
    "add", epilog="Example: showtell album add ~/Pictures/2024 --into album --model runs/world_gill"
)
def add(
    photos: Path = opt.argument("FOLDER", "Photos, also in subfolders."),
    into: Path = opt.out(..., "ALBUM", "The album's folder.", flag="into"),
    model: str = opt.option(..., "model", "NAME|PATH", "Whose album it is to be."),
    skip_bad: bool = opt.SKIP_BAD,
    device: str | None = opt.DEVICE,
    json: bool = opt.JSON,
) -> None:
    """Add the photos of a folder to an album, old or new.

    Copies are kept, without their metadata; the photos themselves are left as they are. Stopped,
    the same command goes on.
    """
    from showtell.album.ingest import add_photos, embed_with
    from showtell.models.respond import SIDE
    from showtell.papers import load_model

    loaded = load_model(model)
    found = add_photos(
        photos,
        into=into,
        width=loaded.album_width,
        embed=embed_with(loaded.bridge.photo_keys, size=loaded.seen_side or SIDE),
        made_by=loaded.name,
        skip_bad=skip_bad,
        told=terminal_progress,
    )
    opt.emit(
        json,
        {
            "album": str(into),
            "photos": len(found.album),
            "added": found.added,
            "known": found.duplicates,
            "refused": list(map(str, found.refused)),
            "left_out": list(found.left_out),
        },
        *(f"left out: {reason}" for reason in (*found.refused, *found.left_out)),
        f"Wrote {into}: {len(found.album):,} photos, {found.added:,} of them new; "
        f"{found.duplicates:,} there already (the same pixels), "
        f"{len(found.refused) + len(found.left_out):,} left out",
    )


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


@album_app.command("forget", epilog="Example: showtell album forget album album-0123456789abcdef")
def forget_photos(
    album: Path = ALBUM,
    ids: list[str] = opt.argument("ID...", 'See "showtell album list".'),
    json: bool = opt.JSON,
) -> None:
    """Remove photos for good: entries, vectors and copies."""
    from showtell.album.ingest import forget

    left = len(forget(album, ids))
    opt.emit(json, {"album": str(album), "photos": left}, f"Wrote {album}: {left:,} photos left")
