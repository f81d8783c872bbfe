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
``answer_options`` (texts) and ``gt_index``, and ``relevance`` where the dense annotations
(NAME_dense_annotations.json, beside the file) have them. ``photo_last`` gives GILL's task instead.

Questions and answers are read in a first pass and kept (some tens of MB for train); the dialogues
are streamed in a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from showtell.data.json_stream import parse_json_items
from showtell.data.photos import PhotoFolder
from showtell.data.records import (
    SKIP,
    OnSkip,
    Parsed,
    Record,
    as_object,
    field,
    filled_list,
    kind_of,
    read_dialogues,
    short_name,
    text_field,
    text_of,
)
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError

LICENCE = "text: see its owners' page; photos: COCO and Flickr, each under its own licence"
_FORMAT = (
    "Wanted: VisDial v1.0, one JSON object with data.questions, data.answers and data.dialogs "
    "(visdial_1.0_val.json)."
)
_PLACES = (
    "VisualDialog_val2018/VisualDialog_val2018_",
    "VisualDialog_test2018/VisualDialog_test2018_",
    "train2014/COCO_train2014_",
    "val2014/COCO_val2014_",
    "images/",
)
Relevance = dict[tuple[int, int], tuple[float, ...]]  # (image, round) -> 100 numbers


def read_visdial(
    path: str | Path, *, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> Iterator[Dialogue]:
    """The dialogues of a file, in order, one by one.

    Photos are looked for beside the file, in the folders of the owners' archives
    (VisualDialog_val2018, VisualDialog_test2018, COCO's train2014 and val2014) and in ``images``
    as twelve digits with .jpg. Raises DataError (``read_dialogues``).
    """
    path = Path(path)
    folder = PhotoFolder(path.parent)
    texts: dict[str, list[str]] = {"data.questions": [], "data.answers": []}

    def parse(file: BinaryIO, name: str) -> Parsed:
        for known in texts.values():
            known.clear()
        for item in parse_json_items(file, name):
            if item.path in texts:
                where = f"{name}, {item.path} {item.number}"
                if not isinstance(item.value, str):  # a hole would shift all that come after it
                    raise DataError(f"{where}: a {kind_of(item.value)}, wanted a text.")
                texts[item.path].append(text_of(item.value, item.path, where))
        file.seek(0)
        for item in parse_json_items(file, name):
            if item.path == "data.dialogs":
                yield Record(item.value, f"{name}, dialogue {item.number}")

    relevance = _relevance(path.with_name(f"{path.stem}_dense_annotations.json"))
    yield from read_dialogues(
        path,
        parse=parse,
        build=partial(_dialogue, texts=texts, relevance=relevance, folder=folder),
        wanted=_FORMAT,
        skip_bad=skip_bad,
        on_skip=on_skip,
    )


def _dialogue(
    value: Any,
    where: str,
    texts: dict[str, list[str]],
    relevance: Relevance,
    folder: PhotoFolder,
) -> Dialogue:
    record = as_object(value, where, _FORMAT)
    image = field(record, "image_id", (int,), where)
    if not 0 <= image < 10**12:
        raise DataError(f'{where}: "image_id" is {str(image)[:40]}, wanted twelve digits. {SKIP}')
    where = f"{where} (image {image})"
    rounds = filled_list(record, "dialog", where, of="rounds")
    names = (f"{place}{image:012}.jpg" for place in _PLACES)
    photo = Photo(
        id=str(image),
        caption=text_field(record, "caption", where),
        path=next((found for name in names if (found := folder.find(name, where))), None),
    )
    turns = [Turn(speaker=USER, elements=(photo,))]
    for number, item in enumerate(rounds, start=1):
        at = f"{where}, round {number}"
        talk = as_object(item, at, SKIP)
        turns.append(Turn(speaker=USER, elements=(_said(talk, "question", texts, at),)))
        if "answer" not in talk and number == len(rounds):
            break
        turns.append(
            Turn(
                speaker=AGENT,
                elements=(_said(talk, "answer", texts, at),),
                labels=_labels(talk, texts, relevance.get((image, number)), at),
            )
        )
    return Dialogue(id=str(image), turns=tuple(turns), labels={"licence": LICENCE})


def _said(talk: dict[str, Any], key: str, texts: dict[str, list[str]], where: str) -> str:
    return _looked_up(field(talk, key, (int,), where), f"data.{key}s", texts, where)


def _looked_up(number: int, path: str, texts: dict[str, list[str]], where: str) -> str:
    if not 0 <= number < len(texts[path]):
        raise DataError(
            f"{where}: number {str(number)[:40]} of {path}, which has {len(texts[path]):,}; wanted "
            f"one that is there. {SKIP}"
        )
    return texts[path][number]


def _labels(
    talk: dict[str, Any],
    texts: dict[str, list[str]],
    relevance: tuple[float, ...] | None,
    where: str,
) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    if "answer_options" in talk:
        options = []
        for number in field(talk, "answer_options", (list,), where):
            if not isinstance(number, int):
                raise DataError(f'{where}: "answer_options" wants whole numbers. {SKIP}')
            options.append(_looked_up(number, "data.answers", texts, where))
        labels["answer_options"] = tuple(options)
        if "gt_index" in talk:
            index = field(talk, "gt_index", (int,), where)
            if not 0 <= index < len(options):
                raise DataError(f'{where}: "gt_index" {index} of {len(options)} options. {SKIP}')
            labels["gt_index"] = index
    if relevance is not None:
        labels["relevance"] = relevance
    return labels


def _relevance(path: Path) -> Relevance:
    """The dense annotations, if they are there; they are never skipped in part."""
    if not path.exists():
        return {}
    name = short_name(path)
    known: Relevance = {}
    try:
        with open(path, "rb") as file:
            for item in parse_json_items(file, name):
                where = f"{name}, record {item.number}"
                record = as_object(item.value, where, "Get the file again.")
                key = "gt_relevance" if "gt_relevance" in record else "relevance"
                numbers = field(record, key, (list,), where)
                if not all(isinstance(number, int | float) for number in numbers):
                    raise DataError(f'{where}: "{key}" wants numbers. Get the file again.')
                image = field(record, "image_id", (int,), where)
                known[image, field(record, "round_id", (int,), where)] = tuple(map(float, numbers))
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}. Check it.") from error
    except OverflowError as error:  # a whole number that no float holds
        raise DataError(f"{name}: a number beyond all bounds. Get the file again.") from error
    return known
