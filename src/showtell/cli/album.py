"""album: photos that a model may find and share in a chat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from showtell.cli.options import DeviceOption, JsonOption, SkipOption, print_json, progress
from showtell.errors import printable

album_app = typer.Typer(
    name="album",
    help="Photos of your own, for a model that finds them (GILL).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AlbumArgument = Annotated[Path, typer.Argument(metavar="ALBUM", help="The album's folder.")]


@album_app.command(
    "add", epilog="Example: showtell album add ~/Pictures/2024 --into album --model runs/world_gill"
)
def add(
    photos: Annotated[Path, typer.Argument(metavar="FOLDER", help="Photos, also in subfolders.")],
    into: Annotated[Path, typer.Option("--into", metavar="ALBUM", help="The album's folder.")],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|PATH", help="Whose album it is to be.")
    ],
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
        width = loaded.album_width
        found = add_photos(
            photos,
            into=into,
            embed=embed_with(loaded.bridge.photo_keys, size=loaded.seen_side or SIDE),
            width=width,
            made_by=loaded.name,
            skip_bad=skip_bad,
            told=partial(progress(), "photos"),
        )
    if json:
        print_json(
            {
                "album": str(into),
                "photos": len(found.album),
                "added": found.added,
                "known": found.duplicates,
                "refused": list(map(str, found.refused)),
                "left_out": list(found.left_out),
            }
        )
        return
    for reason in (*map(str, found.refused), *found.left_out):
        print(f"left out: {printable(reason)}")
    print(
        f"Wrote {into}: {len(found.album):,} photos, {found.added:,} of them new; "
        f"{found.duplicates:,} known before, {len(found.refused) + len(found.left_out):,} left out"
    )


@album_app.command("list", epilog="Example: showtell album list album")
def list_photos(album: AlbumArgument, json: JsonOption = False) -> None:
    """The photos of an album."""
    from showtell.album.ingest import finish

    found = finish(album)
    if json:
        print_json(
            {
                "made_by": found.made_by,
                "photos": [
                    {"id": photo.id, "path": photo.path, "caption": photo.caption}
                    for photo in found.photos
                ],
            }
        )
        return
    for photo in found.photos:
        print(printable(f"{photo.id}  {photo.path or '(no file)'}  {photo.caption}".rstrip()))
    print(f"{len(found):,} photos, for {found.made_by or 'an unnamed model'}")


@album_app.command("forget", epilog="Example: showtell album forget album album-0123456789abcdef")
def forget_photos(
    album: AlbumArgument,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help='See "showtell album list".')],
    json: JsonOption = False,
) -> None:
    """Remove photos for good: from the list, the vectors, and their copies from the disk."""
    from showtell.album.ingest import forget

    left = forget(album, ids)
    if json:
        print_json({"album": str(album), "photos": len(left)})
    else:
        print(f"Wrote {album}: {len(left):,} photos left")
