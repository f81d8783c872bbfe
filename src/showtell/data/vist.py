"""VIST (Huang et al. 2016): stories told over five photos (SIS, stories of images in sequence).

Reads {train,val,test}.story-in-sequence.json, one large JSON object each, streamed:

    {"images": [{"id": "...", "url_o": "...", "license": "..."}, ...],
     "annotations": [[{"story_id": "...", "photo_flickr_id": "...", "text": "...",
                       "worker_arranged_photo_order": 0}], ...]}

What becomes of it: a story is a Dialogue that the agent tells alone, one turn a step in the
worker's order: its text, then its photo. The text is the tokenised one, with people's names
replaced by [male] and the like, on which published figures are computed. A story that has not
five different steps is a bad record. Photos are looked for beside the file, in ``images`` and in a
folder named as the split, as ID.jpg or ID.png. Addresses and licences of the photos are read in a
first pass and kept (a few tens of MB for all of VIST); the stories are streamed in a second.
"""

from __future__ import annotations

from typing import Annotated, Any, BinaryIO

from pydantic import Field

from showtell.data.jsonl import SKIP, Parsed, Record, parse_json_items
from showtell.data.photos import PhotoFolder
from showtell.data.readers import Fields, Name, Reader, checked
from showtell.dialogue import AGENT, Dialogue, Photo, Turn
from showtell.errors import DataError

LICENCE = "text: see its owners' page; photos: Flickr, each under its own licence"
STEPS = 5
_FORMAT = (
    "Wanted: VIST's stories of images in sequence, one JSON object with "
    '"images" and "annotations" (train.story-in-sequence.json).'
)
_Images = dict[str, tuple[str, str]]  # id -> (address, licence)


def _parse(file: BinaryIO, name: str) -> Parsed:
    images: _Images = {}
    for item in parse_json_items(file, name):
        if item.path == "images":
            try:
                image = checked(_Image, item.value, f"{name}, image {item.number}")
                images[image.id] = image.url_o or image.url_m or "", image.license or ""
            except DataError as error:
                yield error
    file.seek(0)
    yield from _stories(file, name, images)


class _Image(Fields):
    id: Name
    url_o: str | None = None
    url_m: str | None = None
    license: Name | None = None


class _Step(Fields):
    story_id: Name
    photo_flickr_id: Name
    text: str
    worker_arranged_photo_order: Annotated[int, Field(strict=False)]


def _stories(file: BinaryIO, name: str, images: _Images) -> Parsed:
    """The annotations of a story, which stand one after the other, as one record."""
    story: list[_Step] = []
    current, first = "", 0
    for item in parse_json_items(file, name):
        if item.path != "annotations":
            continue
        where = f"{name}, annotation {item.number}"
        try:
            value = item.value
            if not isinstance(value, list) or len(value) != 1:
                raise DataError(f"{where}: wanted an array that holds one object. {SKIP}")
            step = checked(_Step, value[0], where)
        except DataError as error:
            yield error
            continue
        key = step.story_id
        if story and (key != current or len(story) > STEPS):
            yield Record((story, images), f"{name}, annotation {first} (story {current[:40]})")
            story = []
        if not story:
            current, first = key, item.number or 0
        story.append(step)
    if story:
        yield Record((story, images), f"{name}, annotation {first} (story {current[:40]})")


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    story: list[_Step] = value[0]
    images: _Images = value[1]
    by_order: dict[int, Turn] = {}
    for step in story:
        address, licence = images.get(step.photo_flickr_id, ("", ""))
        photo = Photo(
            id=step.photo_flickr_id,
            caption=step.text,
            path=folder.find(step.photo_flickr_id, where, endings=(".jpg", ".png")),
            labels={"url": address, "licence": f"Flickr licence {licence}" if licence else ""},
        )
        turn = Turn(speaker=AGENT, elements=(step.text, photo))
        by_order[step.worker_arranged_photo_order] = turn
    if len(story) != STEPS or len(by_order) != STEPS:
        raise DataError(
            f"{where}: {len(story)} annotations for {len(by_order)} different steps, wanted "
            f"{STEPS} of each. {SKIP}"
        )
    return Dialogue(
        id=story[0].story_id,
        turns=tuple(by_order[place] for place in sorted(by_order)),
        labels={"licence": LICENCE},
    )


read_vist = Reader(
    title="VIST",
    licence=LICENCE,
    wanted=_FORMAT,
    parse=_parse,
    build=_dialogue,
    places=("images", "images/{split}", "{split}", ""),
    files=("*.story-in-sequence.json",),
)
