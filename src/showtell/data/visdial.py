"""VisDial v1.0 (Das et al. 2017): ten questions and answers about a photo.

Reads visdial_1.0_{train,val,test}.json, one large JSON object each, streamed:

    {"version": "1.0", "split": "val", "data": {
      "questions": ["..."], "answers": ["..."],
      "dialogs": [{"image_id": 1, "caption": "...",
                   "dialog": [{"question": 0, "answer": 0, "answer_options": [100 numbers],
                               "gt_index": 0}]}]}}

What becomes of it: the user shows the photo, whose caption is the given one, asks, and the agent
answers. Questions are stored without their question mark, and stay so. The last answer of a test
dialogue is not public; there the dialogue ends with the question. An answer's turn has the labels
``answer_options`` (texts) and ``gt_index``, and ``relevance`` where a file of dense annotations
beside the dialogues has them: NAME_dense_annotations.json (val), NAME_dense_sample.json (train).
Rounds count from 1. Photos are looked for beside the file, in the folders of the owners' archives
and in ``images``, as twelve digits with .jpg.

Questions and answers are read in a first pass and kept (some tens of MB for train); the dialogues
are streamed in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from showtell.data.jsonl import SKIP, Parsed, Record, opened, parse_json_items, short_name
from showtell.data.photos import PhotoFolder
from showtell.data.readers import Reader, as_object, field, filled_list, kind_of, text_field
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
                raise DataError(
                    f"{name}, {item.path} {item.number}: a {kind_of(item.value)}, wanted a text."
                )
            lists[item.path].append(item.value)
    known = _Known(texts, _relevance(Path(file.name)))
    file.seek(0)
    for item in parse_json_items(file, name):
        if item.path == "data.dialogs":
            where = f"{name}, dialogue {item.number}"
            bad = isinstance(item.value, DataError)
            yield item.value if bad else Record((item.value, known), where)


def _relevance(path: Path) -> dict[tuple[int, int], tuple[float, ...]]:
    """The dense annotations, if they are there; they are never skipped in part."""
    known = {}
    again = "Get the file again."
    for beside in (path.with_name(path.stem + ending) for ending in _RELEVANCE):
        if not beside.exists():
            continue
        with opened(beside, wanted="Wanted: VisDial's dense annotations.") as file:
            for item in parse_json_items(file, short_name(beside)):
                where = f"{short_name(beside)}, record {item.number}"
                record = as_object(item.value, where, again)
                key = "gt_relevance" if "gt_relevance" in record else "relevance"
                numbers = field(record, key, (list,), where)
                if not all(type(number) in (int, float) and abs(number) < 2 for number in numbers):
                    raise DataError(f'{where}: "{key}" wants numbers from 0 to 1. {again}')
                place = (
                    field(record, "image_id", (int,), where),
                    field(record, "round_id", (int,), where),
                )
                known[place] = tuple(map(float, numbers))
    return known


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    value, known = value
    record = as_object(value, where, _FORMAT)
    image = field(record, "image_id", (int,), where)
    if not 0 <= image < 10**12:
        raise DataError(f'{where}: "image_id" is {str(image)[:40]}, wanted twelve digits. {SKIP}')
    where = f"{where} (image {image})"
    rounds = filled_list(record, "dialog", where, of="rounds")
    names = (f"{place}{image:012}.jpg" for place in _PHOTOS)
    photo = Photo(
        id=str(image),
        caption=text_field(record, "caption", where),
        path=next((found for name in names if (found := folder.find(name, where))), None),
    )
    turns = [Turn(speaker=USER, elements=(photo,))]
    for number, item in enumerate(rounds, start=1):
        at = f"{where}, round {number}"
        talk = as_object(item, at)
        question = _looked_up(talk.get("question"), "question", known, at)
        turns.append(Turn(speaker=USER, elements=(question,)))
        if "answer" in talk or number < len(rounds):
            answer = _looked_up(talk.get("answer"), "answer", known, at)
            labels = _options(talk, known, at)
            if (image, number) in known.relevance:
                labels["relevance"] = known.relevance[image, number]
            turns.append(Turn(speaker=AGENT, elements=(answer,), labels=labels))
    return Dialogue(id=str(image), turns=tuple(turns), labels={"licence": LICENCE})


def _looked_up(number: Any, kind: str, known: _Known, where: str) -> str:
    texts = known.texts[kind]
    if type(number) is not int or not 0 <= number < len(texts):
        raise DataError(
            f"{where}: number {str(number)[:40]} of data.{kind}s, which has {len(texts):,}; wanted "
            f"one that is there. {SKIP}"
        )
    return texts[number]


def _options(talk: dict[str, Any], known: _Known, where: str) -> dict[str, Any]:
    if "answer_options" not in talk:
        return {}
    numbers = field(talk, "answer_options", (list,), where)
    options = tuple(_looked_up(number, "answer", known, where) for number in numbers)
    if "gt_index" not in talk:
        return {"answer_options": options}
    index = field(talk, "gt_index", (int,), where)
    if not 0 <= index < len(options):
        raise DataError(f'{where}: "gt_index" {index} of {len(options)} options. {SKIP}')
    return {"answer_options": options, "gt_index": index}


read_visdial = Reader(
    title="VisDial v1.0",
    licence=LICENCE,
    wanted=_FORMAT,
    parse=_parse,
    build=_dialogue,
    places=("",),
    files=("visdial_1.0_*.json",),
)
