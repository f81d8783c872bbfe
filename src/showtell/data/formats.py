"""The data sets that come in files: how each is read, and where its splits lie.

A folder may hold several splits; which files belong to which is told by their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from showtell.data import (
    captions,
    dialogcc,
    mmdialog,
    photochat,
    showtell_jsonl,
    visdial,
    vist,
)
from showtell.dialogue import Dialogue

Reader = Callable[..., Iterator[Dialogue]]
_SPLIT = re.compile(r"train|dev|val(?:id(?:ation)?)?|test")


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of data in files: ``read(path, skip_bad=..., on_skip=...)`` yields its dialogues.

    ``files`` are the glob patterns of its files in a folder; without any, the reader itself knows
    what to do with a folder. ``symmetric``: neither speaker is the agent, so that both are trained
    and measured.
    """

    title: str
    read: Reader
    licence: str
    files: tuple[str, ...] = ()
    symmetric: bool = False

    def splits(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """The files of each split in the folder; "" is the split of a name that tells none."""
        found: dict[str, list[Path]] = {}
        for pattern in self.files:
            for file in sorted(folder.glob(pattern)):
                if "dense_annotations" not in file.name and file.is_file():
                    found.setdefault(split_of_name(str(file.relative_to(folder))), []).append(file)
        return {split: tuple(files) for split, files in sorted(found.items())}


def split_of_name(name: str) -> str:
    """``visdial_1.0_val.json`` -> ``valid``; "" if the name tells none."""
    told = _SPLIT.search(name.lower())
    if not told:
        return ""
    return "valid" if told[0].startswith("val") else told[0]


FORMATS: dict[str, Format] = {
    "photochat": Format(
        title="PhotoChat",
        read=photochat.read_photochat,
        licence=photochat.LICENCE,
        symmetric=True,
        files=("*.json", "train.jsonl", "dev.jsonl", "test.jsonl"),
    ),
    "dialogcc": Format(
        title="DialogCC",
        read=dialogcc.read_dialogcc,
        licence=dialogcc.LICENCE,
        symmetric=True,
        files=("*.json", "train.jsonl", "valid.jsonl", "test.jsonl"),
    ),
    "mmdialog": Format(
        title="MMDialog",
        read=mmdialog.read_mmdialog,
        licence=mmdialog.LICENCE,
        symmetric=True,
        files=(
            "conversations.json",
            "*/conversations.json",
            "*_conversations.txt",
            "*/*_conversations.txt",
        ),
    ),
    "vist": Format(
        title="VIST",
        read=vist.read_vist,
        licence=vist.LICENCE,
        files=("*.story-in-sequence.json",),
    ),
    "visdial": Format(
        title="VisDial v1.0",
        read=visdial.read_visdial,
        licence=visdial.LICENCE,
        files=("visdial_1.0_*.json",),
    ),
    "cc3m": Format(
        title="CC3M-style captions",
        read=captions.read_cc3m,
        licence=captions.CC3M_LICENCE,
        files=("*.tsv",),
    ),
    "folder": Format(
        title="a folder of photos with captions",
        read=captions.read_folder,
        licence="as each record states",
    ),
    "showtell": Format(
        title="showtell's JSONL",
        read=showtell_jsonl.read_showtell,
        licence="as the dialogues state",
    ),
}
