"""Where the owners of each data set keep it, under what terms, and what becomes of their files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from showtell.data import captions, dialogcc, photochat, vist
from showtell.data.fetch import FetchSource, RemoteFile, photo_file
from showtell.data.jsonl import parse_json_records
from showtell.data.readers import Reader
from showtell.data.storage import write_atomically
from showtell.errors import DataError, UsageError, did_you_mean

_GITHUB = "https://raw.githubusercontent.com"
_OPEN_IMAGES = "https://s3.amazonaws.com/open-images-dataset"
_DROPBOX = "https://www.dropbox.com/s"
_HUB = "https://huggingface.co/datasets"
_CC3M = {"GCC-training.tsv": "Train", "GCC-1.1.0-Validation.tsv": "Validation"}
_PHOTOCHAT_FILES = {"train": 21, "dev": 2, "test": 2}


def source_of(name: str) -> FetchSource:
    """The data set of that name; UsageError if there is none."""
    if name not in SOURCES:
        raise UsageError(f'there is no data set "{name}" to fetch{did_you_mean(name, SOURCES)}')
    return SOURCES[name]


def _join_photochat(folder: Path) -> None:
    """The original arrays as train.jsonl, dev.jsonl and test.jsonl; files there already stay."""
    for split, count in _PHOTOCHAT_FILES.items():
        if (folder / f"{split}.jsonl").exists():
            continue
        lines = []
        for number in range(count):
            name = f"{split}_{number:02}.json"
            with open(folder / "original" / name, "rb") as file:
                for record in parse_json_records(file, name):
                    if isinstance(record, DataError):
                        raise record
                    lines.append(json.dumps(record.value, ensure_ascii=False) + "\n")
        write_atomically(folder / f"{split}.jsonl", "".join(lines).encode())


def _photos(read: Reader, *names: str) -> Callable[[Path], Iterator[RemoteFile]]:
    """The photos of some files, under their ids; of DialogCC all candidates.

    Those of Open Images come from its mirror, as PhotoChat's owners advise, else by address.
    """

    def photos(folder: Path) -> Iterator[RemoteFile]:
        for name in names:
            for dialogue in read(folder / name, skip_bad=True):
                for photo in dialogue.photos:
                    known = re.fullmatch(r"(train|validation|test)/[0-9a-f]{16}", photo.id)
                    mirror = f"{_OPEN_IMAGES}/{photo.id}.jpg" if known else ""
                    url = photo.labels.get("url", "")
                    yield photo_file(f"images/{photo.id}.jpg", mirror, url)
                    for other in photo.labels.get("candidates", ()):
                        yield photo_file(f"images/{dialogcc.photo_id(other)}.jpg", other)

    return photos


def _file(path: str, *urls: str, **more: Any) -> RemoteFile:
    return RemoteFile(path=path, urls=urls, **more)


def _visdial(split: str, key: str) -> RemoteFile:
    name = f"visdial_1.0_{split}"
    url = f"{_DROPBOX}/{key}/{name}.zip?dl=1"
    return _file(f"{name}.zip", url, unpack=rf"{re.escape(name)}\.json")


_PARTI = {
    "google-research/parti/main/PartiPrompts.tsv": (
        "fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb"
    ),
    "kohjingyu/gill/main/data/PartiPromptsAllDecisions_Alignment.tsv": (
        "d4b4db42cede8fca6a84a88a4a4d238d113109482391615417c1c1eef441cc37"
    ),
    "kohjingyu/gill/main/data/PartiPromptsAllDecisions_Realism.tsv": (
        "28eadd13856a5703c9fde212aad05336f554293824081d7b7d2e68fd23185dd8"
    ),
    "kohjingyu/gill/main/data/PartiPromptsDecisionsConfident.tsv": (
        "b88488b398e831c0f73bc9551ed6978d3ebb1e708f8403dcbd95c7ca290c9545"
    ),
}
SOURCES = {
    "photochat": FetchSource(
        notice=f"PhotoChat (Zang et al. 2021): {photochat.LICENCE}.",
        page="https://github.com/google-research/google-research/tree/master/multimodalchat",
        files=tuple(
            _file(
                f"original/{split}_{number:02}.json",
                f"{_GITHUB}/google-research/google-research/master/multimodalchat/photochat/"
                f"{split}/{split}_{number:02}.json",
                max_bytes=20_000_000,
            )
            for split, count in _PHOTOCHAT_FILES.items()
            for number in range(count)
        ),
        finish=_join_photochat,
        photos=_photos(photochat.read_photochat, *(f"{s}.jsonl" for s in _PHOTOCHAT_FILES)),
    ),
    "dialogcc": FetchSource(
        notice=f"DialogCC (Lee et al. 2022): {dialogcc.LICENCE}.",
        page="https://huggingface.co/datasets/passing2961/dialogcc",
        files=tuple(
            _file(f"{split}.json", f"{_HUB}/passing2961/dialogcc/resolve/main/{split}.json")
            for split in ("train", "valid", "test")
        ),
        photos=_photos(dialogcc.read_dialogcc, *(f"{s}.json" for s in ("train", "valid", "test"))),
    ),
    "mmdialog": FetchSource(
        notice="MMDialog (Feng et al. 2022): on application to its owners, academic use only.",
        page="https://github.com/victorsungo/MMDialog",
        instead="MMDialog is not to be had by a program. Its owners give it on application, for "
        "academic use: write to them as https://github.com/victorsungo/MMDialog says. Then put "
        "each split into a folder of its own (train, valid, test), with its conversations.json and "
        "the photos as KEY.jpg, and read it as mmdialog:FOLDER.",
    ),
    "vist": FetchSource(
        notice=f"VIST (Huang et al. 2016), stories of images in sequence: {vist.LICENCE}.",
        page="https://visionandlanguage.net/VIST/dataset.html",
        files=(
            _file(
                "SIS-with-labels.tar.gz",
                "https://visionandlanguage.net/VIST/json_files/story-in-sequence/"
                "SIS-with-labels.tar.gz",
                max_bytes=500_000_000,
                unpack=r"(train|val|test)\.story-in-sequence\.json",
            ),
        ),
        photos=_photos(
            vist.read_vist, *(f"{s}.story-in-sequence.json" for s in ("train", "val", "test"))
        ),
    ),
    "visdial": FetchSource(
        notice="VisDial v1.0 (Das et al. 2017): its owners' page names the terms of the text; the "
        "photos are COCO's, each under its own licence. Those of train are to be had as train2014 "
        "and val2014 from COCO's page (20 GB) and are not fetched here.",
        page="https://visualdialog.org/data",
        files=(
            _visdial("train", "ix8keeudqrd8hn8"),
            _visdial("val", "ibs3a0zhw74zisc"),
            _visdial("test", "o7mucbre2zm7i5n"),
        ),
        photo_files=(
            _file(
                "VisualDialog_val2018.zip",
                f"{_DROPBOX}/twmtutniktom7tu/VisualDialog_val2018.zip?dl=1",
                unpack=r"VisualDialog_val2018_\d{12}\.jpg",
                to="VisualDialog_val2018",
            ),
        ),
    ),
    "cc3m": FetchSource(
        notice="Conceptual Captions (Sharma et al. 2018): free to use, as its owners' page says; "
        "the photos are addresses on the web, each under its own licence.",
        page="https://ai.google.com/research/ConceptualCaptions/download",
        files=tuple(
            _file(name, f"https://storage.googleapis.com/gcc-data/{folder}/{name}")
            for name, folder in _CC3M.items()
        ),
        photos=_photos(captions.read_cc3m, *_CC3M),
    ),
    "parti": FetchSource(
        notice="PartiPrompts (Yu et al. 2022) and the votes of GILL (Koh et al. 2023): Apache-2.0.",
        page="https://github.com/google-research/parti and https://github.com/kohjingyu/gill",
        files=tuple(
            _file(Path(url).name, f"{_GITHUB}/{url}", sha256=sha256, max_bytes=5_000_000)
            for url, sha256 in _PARTI.items()
        ),
    ),
}
