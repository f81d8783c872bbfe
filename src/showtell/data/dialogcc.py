"""DialogCC (Lee et al. 2022, arXiv 2212.04119): text dialogues with photos of CC3M found for them.

Reads train.json, valid.json, test.json, a JSON array each (of up to 300 MB, streamed), or lines:

    {"dialogue_id": "bst...", "split": "train",
     "dialogue": [{"utterance_idx": 0, "utterance": "...", "speaker": ..., "rationale": ...,
                   "shared_image": ..., "description": ...}]}

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
from typing import Any

from showtell.data.jsonl import SKIP
from showtell.data.photos import PhotoFolder
from showtell.data.readers import (
    Reader,
    as_object,
    field,
    filled_list,
    kind_of,
    name_field,
    named_object,
    text_field,
)
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


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    record, name, where = named_object(value, "dialogue_id", where, _FORMAT)
    speakers: list[str] = []
    turns = []
    for number, item in enumerate(filled_list(record, "dialogue", where, of="utterances")):
        at = f"{where}, utterance {number + 1}"
        utterance = as_object(item, at)
        if "utterance_idx" in utterance:
            index = field(utterance, "utterance_idx", (int,), at)
            if index != number:
                raise DataError(f'{at}: "utterance_idx" is {index}, wanted {number}. {SKIP}')
        speaker = name_field(utterance, "speaker", at)
        if speaker not in speakers:
            speakers.append(speaker)
        if len(speakers) > 2:
            raise DataError(f'{at}: a third speaker, "{speaker[:40]}"; wanted two. {SKIP}')
        elements: list[Element] = [text_field(utterance, "utterance", at)]
        if candidates := _candidates(utterance.get("shared_image"), at):
            drawn = hashlib.sha256(f"{SEED}\n{number}\n{name}".encode()).digest()[:8]
            chosen = int.from_bytes(drawn, "big") % len(candidates)
            elements.append(_photo(candidates, chosen, utterance, at, folder))
        turns.append(
            Turn(speaker=AGENT if speakers.index(speaker) else USER, elements=tuple(elements))
        )
    labels = {"licence": LICENCE}
    if split := text_field(record, "split", where, optional=True):
        labels["split"] = split
    return Dialogue(id=name, turns=tuple(turns), labels=labels)


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
            raise DataError(
                f'{where}: "shared_image" holds a {kind_of(item)}, wanted an address. {SKIP}'
            )
        addresses.append(item)
    return addresses


def _photo(
    candidates: list[str], chosen: int, utterance: dict[str, Any], where: str, folder: PhotoFolder
) -> Photo:
    name = photo_id(candidates[chosen])
    return Photo(
        id=name,
        caption=text_field(utterance, "description", where, optional=True),
        path=folder.find(name, where, endings=(".jpg", ".png")),
        labels={
            "url": candidates[chosen],
            "candidates": tuple(candidates),
            "chosen": chosen,
            "chosen_by": f"seed {SEED}",
            "rationale": text_field(utterance, "rationale", where, optional=True),
        },
    )


read_dialogcc = Reader(
    title="DialogCC",
    licence=LICENCE,
    wanted=_FORMAT,
    build=_dialogue,
    files=("*.json", "train.jsonl", "valid.jsonl", "test.jsonl"),
    symmetric=True,
)
