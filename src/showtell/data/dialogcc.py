"""DialogCC (Lee et al. 2022, arXiv 2212.04119): text dialogues with photos of CC3M found for them.

Reads train.json, valid.json, test.json, a JSON array each (of up to 300 MB, streamed), or lines:

    {"dialogue_id": "bst...", "split": "train",
     "dialogue": [{"utterance_idx": 0, "utterance": "...", "speaker": ..., "rationale": ...,
                   "shared_image": ..., "description": ...}]}

CLIP found *several* photos for a moment, and a dialogue can show one: ``ChooseOne`` says which,
the same on every reading. All candidates stay in the photo's labels.

The owners' page names the fields and not what is inside ``shared_image``; read are null or "" (no
photo), an address, an object with an address under "image_url" or "url", and arrays of the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from showtell.data.photos import PhotoFolder
from showtell.data.records import (
    SKIP,
    OnSkip,
    as_object,
    field,
    filled_list,
    kind_of,
    name_field,
    named_object,
    parse_json_records,
    read_dialogues,
    text_field,
    text_of,
)
from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn
from showtell.errors import DataError

LICENCE = "CC BY-NC-SA 4.0; photos: CC3M, addresses only"
_ADDRESSES = ("image_url", "url")
_FORMAT = (
    "Wanted: DialogCC, a JSON array of dialogues "
    '({"dialogue_id": ..., "dialogue": [{"utterance": ..., "speaker": ...}]}).'
)


@dataclass(frozen=True, kw_only=True)
class ChooseOne:
    """Which of several candidate photos a moment shows.

    ``by="seed"``: one at random, settled by ``seed``, the dialogue's id and the number of the
    utterance alone, so that it does not depend on what was read before. ``by="first"``: the first.
    """

    by: Literal["seed", "first"] = "seed"
    seed: int = 0

    def index(self, num_candidates: int, *, dialogue: str, utterance: int) -> int:
        """The index of the chosen one."""
        if self.by == "first":
            return 0
        text = f"{self.seed}\n{utterance}\n{dialogue}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return number % num_candidates


def read_dialogcc(
    path: str | Path,
    *,
    choose: ChooseOne = ChooseOne(),  # noqa: B008 (frozen)
    skip_bad: bool = False,
    on_skip: OnSkip | None = None,
) -> Iterator[Dialogue]:
    """The dialogues of a file, one by one, in bounded memory.

    A photo stands in the turn of its utterance, after the words. Its pixels are looked for in
    ``images`` beside the file, under its id (the SHA-256 of its address, 16 digits) with .jpg or
    .png. Raises DataError (``read_dialogues``).
    """
    path = Path(path)
    folder = PhotoFolder(path.parent, ("images",))
    yield from read_dialogues(
        path,
        parse=parse_json_records,
        build=partial(_dialogue, folder=folder, choose=choose),
        wanted=_FORMAT,
        skip_bad=skip_bad,
        on_skip=on_skip,
    )


def photo_id(address: str) -> str:
    """The id of a photo known by its address only: the name under which its file is kept."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _dialogue(value: Any, where: str, folder: PhotoFolder, choose: ChooseOne) -> Dialogue:
    record, name, where = named_object(value, "dialogue_id", where, _FORMAT)
    utterances = filled_list(record, "dialogue", where, of="utterances")
    speakers: list[str] = []
    turns = []
    for number, item in enumerate(utterances):
        at = f"{where}, utterance {number + 1}"
        utterance = as_object(item, at, SKIP)
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
        candidates = _candidates(utterance.get("shared_image"), at)
        if candidates:
            chosen = choose.index(len(candidates), dialogue=name, utterance=number)
            elements.append(_photo(candidates, chosen, utterance, at, choose, folder))
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
            keys = [key for key in _ADDRESSES if item.get(key)]
            if not keys:
                raise DataError(
                    f'{where}: a photo in "shared_image" without "image_url" or "url". {SKIP}'
                )
            item = item[keys[0]]
        if item is None or item == "":
            continue
        if not isinstance(item, str):
            raise DataError(
                f'{where}: "shared_image" holds a {kind_of(item)}, wanted an address. {SKIP}'
            )
        addresses.append(text_of(item, "shared_image", where))
    return addresses


def _photo(
    candidates: list[str],
    chosen: int,
    utterance: dict[str, Any],
    where: str,
    choose: ChooseOne,
    folder: PhotoFolder,
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
            "chosen_by": choose.by if choose.by == "first" else f"seed {choose.seed}",
            "rationale": text_field(utterance, "rationale", where, optional=True),
        },
    )
