"""The album that an earlier showtell wrote: a list in JSON, and safetensors. The next verb that may
change it writes it anew.

    album.json                            format 2: who made the vectors, their file, the photos
    embeddings-0123456789ab.safetensors
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from showtell.album.index import Album, AlbumPhoto
from showtell.errors import DataError

DESCRIPTION = "album.json"
_FORMAT = 2


def has_old(folder: Path) -> bool:
    return (folder / DESCRIPTION).is_file()


def read_old(folder: Path) -> Album:
    """Raises DataError for a broken one."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if (found := description["format"]) != _FORMAT:
            raise DataError(
                f'the album in "{folder}" is of format {found}, wanted {_FORMAT}; it was '
                "written by another version of showtell. Index the photos again."
            )
        photos = [AlbumPhoto(**photo) for photo in description["photos"]]
        name = PurePosixPath(description["embeddings"]).name  # in this folder and no other
        vectors = load((folder / name).read_bytes())
        embeddings_ME, made_by = vectors["embeddings"], description["made_by"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f'the album in "{folder}" cannot be read ({type(error).__name__}: {error}); wanted '
            f"{DESCRIPTION} and the vectors that it names. Index the photos again."
        ) from error
    return Album(photos, embeddings_ME, texts_ME=vectors.get("texts"), made_by=made_by)


def remove_old(folder: Path) -> None:
    """Once the album is written anew."""
    for path in (folder / DESCRIPTION, *folder.glob("embeddings-*.safetensors")):
        path.unlink(missing_ok=True)
