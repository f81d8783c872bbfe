"""Dialogues as JSON objects, and dialogues of the photo world as a folder of JSONL and PNG."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import length_hint
from pathlib import Path
from typing import Any

from showtell.data.photos import photo_image, save_photo
from showtell.data.storage import new_folder
from showtell.dialogue import Dialogue, Element, Photo, with_photos
from showtell.progress import Progress, quiet

FILE_NAME = "dialogues.jsonl"


def dialogue_as_dict(dialogue: Dialogue) -> dict[str, Any]:
    """Everything that a dialogue holds, labels included, with ordered elements."""
    return {
        "id": dialogue.id,
        "turns": [
            {
                "speaker": turn.speaker,
                "elements": [element_as_dict(element) for element in turn.elements],
                "labels": dict(turn.labels),
            }
            for turn in dialogue.turns
        ],
        "labels": dict(dialogue.labels),
    }


def element_as_dict(element: Element) -> dict[str, Any]:
    """A text, or a photo with all that is known of it."""
    if isinstance(element, str):
        return {"type": "text", "text": element}
    return {
        "type": "photo",
        "id": element.id,
        "path": element.path,
        "origin": element.origin,
        "caption": element.caption,
        "seed": element.seed,
        "labels": dict(element.labels),
    }


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written where."""

    path: Path
    dialogues: int
    photos: int


def export_world(dialogues: Iterable[Dialogue], out: Path, *, told: Progress = quiet) -> Export:
    """Write ``out/dialogues.jsonl`` and ``out/photos/*.png``; ``out`` must not hold them yet.

    Everything is written into a folder beside ``out`` first, so an interrupted export leaves
    nothing half done and nothing that was there is touched.
    """
    num_dialogues = num_photos = 0
    with new_folder(out) as part, open(part / FILE_NAME, "w", encoding="utf-8") as file:
        (part / "photos").mkdir()
        for dialogue in dialogues:
            photos = []
            for photo in dialogue.photos:
                path = f"photos/{_file_name(photo)}"
                save_photo(photo_image(photo), part / path)
                photos.append(replace(photo, path=path))
            record = dialogue_as_dict(with_photos(dialogue, photos))
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            num_photos += len(photos)
            num_dialogues += 1
            told("dialogues", num_dialogues, length_hint(dialogues))
    return Export(path=out, dialogues=num_dialogues, photos=num_photos)


def _file_name(photo: Photo) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in photo.id) + ".png"
