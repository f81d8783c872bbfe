"""DialogCC (Lee et al. 2022, arXiv 2212.04119): text dialogues with photos of CC3M found for them.

Reads train.json, valid.json, test.json, a JSON array each (of up to 300 MB, streamed), or lines:

    {"dialogue_id": "bst...", "split": "train",
     "dialogue": [{"utterance_idx": 0, "utterance": "...", "speaker": ..., "shared_image": ...,
                   "description": ...}]}

CLIP found *several* photos for a moment, and a dialogue can show one: one is drawn, settled by the
dialogue's id and the number of the utterance alone, so that it does not depend on what was read
before. All candidates stay in the photo's labels.

A photo stands in the turn of its utterance, after the words. Its pixels are looked for in
``images`` beside the file, under its id (the SHA-256 of its address, 16 digits) with .jpg or .png.

The owners' page names the fields and not what is inside ``shared_image``; read are null or "" (no
photo), an address, an object with an address under "image_url" or "url", and arrays of the two.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import Field

from showtell.data.jsonl import SKIP
from showtell.data.photos import PhotoFolder
from showtell.data.readers import Fields, Name, Reader, checked
from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn
from showtell.errors import DataError

LICENCE = "CC BY-NC-SA 4.0; photos: CC3M, addresses only"
SEED = 0
_FORMAT = (
    "Wanted: DialogCC, a JSON array of dialogues "
    '({"dialogue_id": ..., "dialogue": [{"utterance": ..., "speaker": ...}]}).'
)


def photo_id(address: str) -> str:
    """The id of a photo known by its address only: the name under which its file is kept."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


class _Utterance(Fields):
    utterance: str
    speaker: Name
    utterance_idx: int | None = None
    shared_image: Any = None
    description: str | None = None


class _Record(Fields):
    dialogue_id: Name
    dialogue: Annotated[list[_Utterance], Field(min_length=1)]
    split: str | None = None


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    record = checked(_Record, value, where, wanted=_FORMAT)
    speakers = list(dict.fromkeys(said.speaker for said in record.dialogue))
    where = f"{where} (dialogue {record.dialogue_id[:40]})"
    if len(speakers) > 2:
        raise DataError(f'{where}: a third speaker, "{speakers[2][:40]}"; wanted two. {SKIP}')
    turns = []
    for number, said in enumerate(record.dialogue):
        at = f"{where}, utterance {number + 1}"
        if said.utterance_idx not in (None, number):
            raise DataError(
                f'{at}: "utterance_idx" is {said.utterance_idx}, wanted {number}. {SKIP}'
            )
        elements: list[Element] = [said.utterance]
        if candidates := _candidates(said.shared_image, at):
            drawn = hashlib.sha256(f"{SEED}\n{number}\n{record.dialogue_id}".encode()).digest()[:8]
            url = candidates[int.from_bytes(drawn, "big") % len(candidates)]
            photo = Photo(
                id=photo_id(url),
                caption=said.description or "",
                path=folder.find(photo_id(url), at, endings=(".jpg", ".png")),
                labels={"url": url, "candidates": tuple(candidates)},
            )
            elements.append(photo)
        turns.append(
            Turn(speaker=AGENT if speakers.index(said.speaker) else USER, elements=tuple(elements))
        )
    labels = {"licence": LICENCE, **({"split": record.split} if record.split else {})}
    return Dialogue(id=record.dialogue_id, turns=tuple(turns), labels=labels)


def _candidates(shared: Any, where: str) -> list[str]:
    """The addresses of the candidate photos, in order."""
    addresses = []
    for item in shared if isinstance(shared, list) else [shared]:
        if isinstance(item, dict):
            item = item.get("image_url") or item.get("url")
            if not item:
                raise DataError(
                    f'{where}: a photo in "shared_image" without "image_url" or "url". {SKIP}'
                )
        if item is None or item == "":
            continue
        if not isinstance(item, str):
            raise DataError(f'{where}: "shared_image" holds no address but {item!s:.40}. {SKIP}')
        addresses.append(item)
    return addresses


read_dialogcc = Reader(
    title="DialogCC",
    licence=LICENCE,
    wanted=_FORMAT,
    build=_dialogue,
    files=("*.json", "train.jsonl", "valid.jsonl", "test.jsonl"),
    symmetric=True,
)
