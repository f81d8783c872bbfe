"""Tiny data sets in the formats of their owners, written by the tests; all text is ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from showtell.data.dialogcc import photo_id
from showtell.data.photos import photo_image, save_photo
from showtell.data.showtell_jsonl import dialogue_as_dict
from showtell.dialogue import Dialogue, with_photos


def write_photo(path: Path, colour: tuple[int, int, int] = (200, 30, 30), size: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), colour).save(path)
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return path


def write_lines(path: Path, records: list[Any]) -> Path:
    """JSON lines; texts and bytes stand as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [r if isinstance(r, str | bytes) else json.dumps(r) for r in records]
    lines = [text if isinstance(text, bytes) else text.encode() for text in texts]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def nodes(value: object, path: tuple = ()) -> list[tuple]:
    """The paths of all values inside a JSON value."""
    found = [path]
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            found += nodes(inner, (*path, key))
    return found


def photochat(number: int = 0) -> dict[str, Any]:
    said = [(f"Hi {number}", False, 0), ("", True, 1), ("Lovely é!", False, 0)]
    return {
        "dialogue": [
            {"message": text, "share_photo": shares, "user_id": user} for text, shares, user in said
        ],
        "dialogue_id": number,
        "photo_description": "Objects in the photo: Plate",
        "photo_url": f"https://x/{number}.jpg",
        "photo_id": f"train/{number}",
    }


def dialogcc(number: int = 0, shared: Any = ("https://x/a.jpg", "https://x/b.jpg")) -> dict:
    shared = list(shared) if isinstance(shared, tuple) else shared
    keys = ("utterance_idx", "utterance", "speaker", "shared_image", "description")
    rows = [
        (0, "I walked my dog.", "A", None, None),
        (1, "Show me!", "B", shared, "a dog in a park"),
    ]
    dialogue = [dict(zip(keys, row, strict=True)) for row in rows]
    return {"dialogue_id": f"bst:{number}", "split": "train", "dialogue": dialogue}


def mmdialog(number: int = 0) -> dict[str, Any]:
    return {
        "conversation_id": f"c{number}",
        "conversation": [
            {"turn": [{"__TEXT__": "look :smile:"}, {"__MEDIA__": f"key{number}"}]},
            {"turn": [{"__MEDIA__": f"other{number}"}, {"__TEXT__": "nice"}]},
            {"turn": [{"__TEXT__": "thanks"}]},
        ],
    }


def vist(num_stories: int = 2, *, images_first: bool = True) -> dict[str, Any]:
    images = [
        {"id": f"{s}{k}", "url_o": f"https://flickr/{s}{k}.jpg", "license": str(k)}
        for s in range(num_stories)
        for k in range(5)
    ]
    annotations = [
        [
            {
                "story_id": f"s{s}",
                "photo_flickr_id": f"{s}{k}",
                "text": f"step {k} of [male] .",
                "worker_arranged_photo_order": k,
            }
        ]
        for s in range(num_stories)
        for k in (2, 0, 1, 4, 3)
    ]
    parts = [("images", images), ("annotations", annotations)]
    return {"type": "vist", **dict(parts if images_first else parts[::-1]), "info": {"a": [1]}}


def visdial(num_dialogues: int = 2, *, texts_first: bool = True) -> dict[str, Any]:
    dialogs = [
        {
            "image_id": 100 + d,
            "caption": f"a dog by a tree, {d}",
            "dialog": [
                {"question": k, "answer": 9 - k, "answer_options": [9 - k, 0, 1]} for k in range(10)
            ],
        }
        for d in range(num_dialogues)
    ]
    parts = [
        ("questions", [f"is it number {k}" for k in range(10)]),
        ("answers", [f"no, {k}" for k in range(10)]),
        ("dialogs", dialogs),
    ]
    data = dict(parts if texts_first else parts[::-1])
    return {"version": "1.0", "split": "val", "data": data}


def folder_record(number: int = 0) -> dict[str, Any]:
    return {
        "file": f"images/{number}.png",
        "captions": ["A red thing .", "Something red"],
        "split": "train",
        "licence": "CC0",
        "subject": "thing",
    }


def write_all(root: Path) -> dict[str, Path]:
    """One small file of each format, by the kind of DATA."""
    (root / "mm").mkdir(parents=True)
    (root / "vd").mkdir()
    (root / "vist").mkdir()
    files = {
        "photochat": write_lines(root / "pc/dev.jsonl", [photochat(0), photochat(1)]),
        "dialogcc": root / "mm/train.json",
        "mmdialog": write_lines(root / "mm/conversations.json", [mmdialog(0), mmdialog(1)]),
        "vist": root / "vist/val.story-in-sequence.json",
        "visdial": root / "vd/visdial_1.0_val.json",
        "cc3m": root / "cc/Train_GCC-training.tsv",
        "folder": write_lines(root / "fo/captions.jsonl", [folder_record(0), folder_record(1)]),
        "showtell": root / "st/dialogues.jsonl",
    }
    files["dialogcc"].write_text(json.dumps([dialogcc(0), dialogcc(1)], indent=1))
    files["vist"].write_text(json.dumps(vist()))
    files["visdial"].write_text(json.dumps(visdial()))
    files["cc3m"].parent.mkdir()
    files["cc3m"].write_text("a dog\thttps://x/1.jpg\na cat\tphotos/2.png\n")
    turn = {"speaker": "user", "elements": [{"type": "text", "text": "hé"}], "labels": {}}
    photo = {"type": "photo", "id": "p", "path": "photos/p.png", "origin": "painted", "seed": None}
    photo |= {"caption": "a dog", "labels": {}}
    shared = {"speaker": "agent", "elements": [photo], "labels": {"p_share": 0.5}}
    turns = [turn, shared]
    write_lines(
        files["showtell"], [{"id": f"d{k}", "turns": turns, "labels": {}} for k in range(2)]
    )
    return files


def write_world(folder: Path, dialogues: Iterable[Dialogue]) -> Path:
    """Dialogues of the photo world as showtell's JSONL, with their photos."""
    records = []
    for dialogue in dialogues:
        photos = [replace(photo, path=f"photos/{photo.id}.png") for photo in dialogue.photos]
        for drawn, stored in zip(dialogue.photos, photos, strict=True):
            save_photo(photo_image(drawn), folder / str(stored.path))
        records.append(
            dialogue_as_dict(replace(dialogue, turns=with_photos(dialogue.turns, photos)))
        )
    return write_lines(folder / "dialogues.jsonl", records)


def write_all_photos(root: Path) -> None:
    """The photos that the files of ``write_all`` name, but for PhotoChat's and an address."""
    names = [f"mm/{kind}{k}.jpg" for kind in ("key", "other") for k in range(2)]
    names += [f"mm/images/{photo_id(f'https://x/{name}.jpg')}.jpg" for name in "ab"]
    names += [f"fo/images/{k}.png" for k in range(2)]
    names += [f"vd/images/{100 + k:012}.jpg" for k in range(2)]
    names += [f"vist/images/{story}{step}.jpg" for story in range(2) for step in range(5)]
    names += ["cc/photos/2.png", "st/photos/p.png"]
    for number, name in enumerate(names):
        write_photo(root / name, (number * 9, 40, 90), size=40)


def write_fetched(root: Path) -> None:
    """Two examples of each data set, named as ``showtell data fetch`` leaves them, with photos."""
    for number, split in enumerate(("train", "test")):
        write_lines(root / f"photochat/{split}.jsonl", [photochat(2 * number + k) for k in (0, 1)])
        write_lines(root / f"dialogcc/{split}.json", [dialogcc(0), dialogcc(1)])
        write_lines(root / f"mmdialog/{split}/conversations.json", [mmdialog(0), mmdialog(1)])
        for name in ("key0", "key1", "other0", "other1"):
            write_photo(root / f"mmdialog/{split}/{name}.jpg")
    for name in "ab":
        write_photo(root / f"dialogcc/images/{photo_id(f'https://x/{name}.jpg')}.jpg")
    for split in ("train", "val"):
        write_lines(root / f"vist/{split}.story-in-sequence.json", [vist()])
    for story in range(2):
        for step in range(5):
            write_photo(root / f"vist/images/{story}{step}.jpg", (story * 90, step * 40, 9))
    write_lines(root / "visdial/visdial_1.0_val.json", [visdial()])
    for number in range(2):
        write_photo(
            root / f"visdial/VisualDialog_val2018/VisualDialog_val2018_{100 + number:012}.jpg"
        )
    for table in ("GCC-training.tsv", "GCC-1.1.0-Validation.tsv"):
        write_lines(root / "cc3m" / table, ["a dog\tphotos/1.png", "a cat\tphotos/2.png"])
    for number in (1, 2):
        write_photo(root / f"cc3m/photos/{number}.png", (90 * number, 9, 9))
