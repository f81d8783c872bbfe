"""VisDial v1.0 (Das et al. 2017): ten questions and answers about a photo.

Reads visdial_1.0_{train,val,test}.json, one large JSON object each, streamed:

    {"version": "1.0", "split": "val", "data": {
      "questions": ["..."], "answers": ["..."],
      "dialogs": [{"image_id": 1, "caption": "...", "dialog": [{"question": 0, "answer": 0}]}]}}

What becomes of it: the user shows the photo, whose caption is the given one, asks, and the agent
answers. Questions are stored without their question mark, and stay so. The last answer of a test
dialogue is not public; there the dialogue ends with the question. The options of the ranking task
are not read. The label ``relevance`` of an answer's turn rates its 100 options, where a file of
dense annotations beside the dialogues has it: NAME_dense_annotations.json (val),
NAME_dense_sample.json (train); rounds count from 1. Photos are looked for beside the file, in the
folders of the owners' archives and in ``images``, as twelve digits with .jpg.

Questions and answers are read in a first pass and kept (some tens of MB for train); the dialogues
are streamed in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

from pydantic import AliasChoices, Field

from showtell.data.jsonl import SKIP, Parsed, Record, opened, parse_json_items, short_name
from showtell.data.photos import PhotoFolder
from showtell.data.readers import Fields, Reader, checked
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError

LICENCE = "text: see its owners' page; photos: COCO and Flickr, each under its own licence"
_FORMAT = (
    "Wanted: VisDial v1.0, one JSON object with data.questions, data.answers and data.dialogs "
    "(visdial_1.0_val.json)."
)
_PHOTOS = (
    "VisualDialog_val2018/VisualDialog_val2018_",
    "VisualDialog_test2018/VisualDialog_test2018_",
    "train2014/COCO_train2014_",
    "val2014/COCO_val2014_",
    "images/",
)
_RELEVANCE = ("_dense_annotations.json", "_dense_sample.json")


class _Known(NamedTuple):
    """What a first pass over the files finds: texts by "question" and "answer", relevance."""

    texts: Mapping[str, list[str]]
    relevance: Mapping[tuple[int, int], tuple[float, ...]]  # (image, round) -> 100 numbers


def _parse(file: BinaryIO, name: str) -> Parsed:
    texts: dict[str, list[str]] = {"question": [], "answer": []}
    lists = {f"data.{key}s": known for key, known in texts.items()}
    for item in parse_json_items(file, name):
        if item.path in lists:
            if isinstance(item.value, DataError):
                raise item.value
            if not isinstance(item.value, str):  # a hole would shift all that come after it
                raise DataError(f"{name}, {item.path} {item.number}: no text, wanted one.")
            lists[item.path].append(item.value)
    known = _Known(texts, _relevance(Path(file.name)))
    file.seek(0)
    for item in parse_json_items(file, name):
        if item.path == "data.dialogs":
            where = f"{name}, dialogue {item.number}"
            bad = isinstance(item.value, DataError)
            yield item.value if bad else Record((item.value, known), where)


class _Dense(Fields):
    image_id: int
    round_id: int
    relevance: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        validation_alias=AliasChoices("gt_relevance", "relevance")
    )


def _relevance(path: Path) -> dict[tuple[int, int], tuple[float, ...]]:
    """The dense annotations, if they are there; they are never skipped in part."""
    wanted = "Wanted: VisDial's dense annotations, with image_id, round_id and relevance."
    known = {}
    for beside in (path.with_name(path.stem + ending) for ending in _RELEVANCE):
        if beside.exists():
            with opened(beside, wanted=wanted) as file:
                for item in parse_json_items(file, short_name(beside)):
                    if isinstance(item.value, DataError):
                        raise item.value
                    where = f"{short_name(beside)}, record {item.number}"
                    row = checked(_Dense, item.value, where, wanted=wanted)
                    known[row.image_id, row.round_id] = tuple(row.relevance)
    return known


class _Round(Fields):
    question: int
    answer: int | None = None


class _Record(Fields):
    image_id: Annotated[int, Field(ge=0, lt=10**12)]
    caption: str
    dialog: Annotated[list[_Round], Field(min_length=1)]


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    record = checked(_Record, value[0], where, wanted=_FORMAT)
    known: _Known = value[1]
    image = record.image_id
    where = f"{where} (image {image})"
    names = (f"{place}{image:012}.jpg" for place in _PHOTOS)
    photo = Photo(
        id=str(image),
        caption=record.caption,
        path=next((found for name in names if (found := folder.find(name, where))), None),
    )
    turns = [Turn(speaker=USER, elements=(photo,))]
    for number, talk in enumerate(record.dialog, start=1):
        at = f"{where}, round {number}"
        question = _looked_up(talk.question, "question", known.texts, at)
        turns.append(Turn(speaker=USER, elements=(question,)))
        if talk.answer is not None or number < len(record.dialog):
            answer = _looked_up(talk.answer, "answer", known.texts, at)
            relevance = known.relevance.get((image, number))
            labels = {} if relevance is None else {"relevance": relevance}
            turns.append(Turn(speaker=AGENT, elements=(answer,), labels=labels))
    return Dialogue(id=str(image), turns=tuple(turns), labels={"licence": LICENCE})


def _looked_up(number: int | None, kind: str, texts: Mapping[str, list[str]], where: str) -> str:
    if number is None or not 0 <= number < len(texts[kind]):
        raise DataError(
            f"{where}: number {str(number)[:40]} of data.{kind}s, which has {len(texts[kind]):,}; "
            f"wanted one that is there. {SKIP}"
        )
    return texts[kind][number]


read_visdial = Reader(
    title="VisDial v1.0",
    licence=LICENCE,
    wanted=_FORMAT,
    parse=_parse,
    build=_dialogue,
    places=("",),
    files=tuple(f"visdial_1.0_{split}.json" for split in ("train", "val", "test")),
)
