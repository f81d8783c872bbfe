"""The photos of a folder, and what else is there."""

from __future__ import annotations

from pathlib import Path

from showtell.data.pixels import ENDINGS, kind_of_file
from showtell.errors import DataError


def photo_paths(folder: Path) -> tuple[list[Path], list[str]]:
    """(photos in this folder and below, sorted; what else is there and why it is left out).

    A photo is told by its first bytes, and by the ending where these are of none: it is then
    damaged. Hidden files are passed over; nothing outside of the folder is looked at.
    """
    if not folder.is_dir():
        raise DataError(
            f'"{folder}" is not a folder; wanted one with photos in it. Check the name.'
        )
    root = folder.resolve()
    paths, others = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or path.is_dir():
            continue
        if not path.is_file():
            others.append(f"{name}: no file")
        elif not path.resolve().is_relative_to(root):
            others.append(f"{name}: a link out of the folder")
        elif (kind := _kind(path)) == "photo":
            paths.append(path)
        else:
            others.append(f"{name}: {kind}")
    return paths, others


def _kind(path: Path) -> str:
    try:
        kind = kind_of_file(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not kind and path.suffix.lower() in ENDINGS:
        return "photo"
    return kind or "no photo"
