"""album: photos that a model may find and share in a chat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from showtell.cli.options import (
    DeviceOption,
    JsonOption,
    SkipOption,
    argument,
    emit,
    option,
    progress,
    verbs,
    writable,
)

album_app = verbs("album", "Photos of your own, for a model that finds them (GILL).")
AlbumArgument = Annotated[Path, argument("ALBUM", "The album's folder.")]


@album_app.command(
    "add", epilog="Example: showtell album add ~/Pictures/2024 --into album --model runs/world_gill"
)
def add(
    photos: Annotated[Path, argument("FOLDER", "Photos, also in subfolders.")],
    into: Annotated[Path, option("into", "ALBUM", "The album's folder.", callback=writable)],
    model: Annotated[str, option("model", "NAME|PATH", "Whose album it is to be.")],
    skip_bad: SkipOption = False,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Add the photos of a folder to an album, which is made if it is not there.

    Copies are kept, without their metadata; the photos themselves are left as they are. Stopped,
    the same command goes on.
    """
    from functools import partial

    from showtell.album.ingest import add_photos, embed_with
    from showtell.models.respond import SIDE
    from showtell.papers import load_model
    from showtell.runtime import on_device

    with on_device(device):
        loaded = load_model(model)
        found = add_photos(
            photos,
            into=into,
            width=loaded.album_width,
            embed=embed_with(loaded.bridge.photo_keys, size=loaded.seen_side or SIDE),
            made_by=loaded.name,
            skip_bad=skip_bad,
            told=partial(progress(), "photos"),
        )
    emit(
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
        f"{found.duplicates:,} known before, "
        f"{len(found.refused) + len(found.left_out):,} left out",
    )


@album_app.command("list", epilog="Example: showtell album list album")
def list_photos(album: AlbumArgument, json: JsonOption = False) -> None:
    """The photos of an album."""
    from showtell.album.ingest import finish

    found = finish(album)
    photos = [{"id": p.id, "path": p.path, "caption": p.caption} for p in found.photos]
    emit(
        json,
        {"made_by": found.made_by, "photos": photos},
        *(f"{p.id}  {p.path or '(no file)'}  {p.caption}".rstrip() for p in found.photos),
        f"{len(found):,} photos, for {found.made_by or 'an unnamed model'}",
    )


@album_app.command("forget", epilog="Example: showtell album forget album album-0123456789abcdef")
def forget_photos(
    album: AlbumArgument,
    ids: Annotated[list[str], argument("ID...", 'See "showtell album list".')],
    json: JsonOption = False,
) -> None:
    """Remove photos for good: from the list, the vectors, and their copies from the disk."""
    from showtell.album.ingest import forget

    left = len(forget(album, ids))
    emit(json, {"album": str(album), "photos": left}, f"Wrote {album}: {left:,} photos left")
