"""What is counted in data, as the papers count it.

Figures of others: *reported*. Table 1 of arXiv 2408.08650 for PhotoChat and DialogCC; arXiv
2211.05719 for MMDialog.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from showtell.dialogue import Dialogue, Turn

COLUMNS = {
    "dialogues": "Dial",
    "utterances": "Utter",
    "cutter_skipped": "CUtter (photo turn skipped)",
    "cutter_merged": "CUtter (runs merged over it)",
    "images": "Img",
    "distinct_images": "DImg",
}
"""Key of a count -> column. CUtter are the utterances "when counting consecutive utterances from
the same speaker as one", with those "in which photos are shared" excluded; the paper does not say
which comes first, so there are two readings."""

_TABLE_1 = "arXiv 2408.08650, table 1"
_KEYS = ("dialogues", "utterances", "cutter", "images", "distinct_images")


def _rows(**rows: tuple[int, int, int, int, int]) -> dict[str, dict[str, int]]:
    return {split: dict(zip(_KEYS, row, strict=True)) for split, row in rows.items()}


PUBLISHED: dict[str, tuple[str, dict[str, dict[str, int]]]] = {
    "photochat": (
        _TABLE_1,
        _rows(
            train=(10_286, 130_459, 92_479, 10_286, 8_889),
            dev=(1_000, 12_695, 9_045, 1_000, 1_000),
            test=(1_000, 12_841, 9_089, 1_000, 1_000),
        ),
    ),
    "dialogcc": (
        _TABLE_1,
        _rows(
            train=(68_402, 553_990, 329_969, 106_198, 38_743),
            valid=(7_644, 63_140, 37_181, 11_669, 6_413),
            test=(7_324, 60_260, 35_633, 11_157, 6_279),
        ),
    ),
    "mmdialog": (
        "arXiv 2211.05719",
        {
            # 2.59 images a dialogue would be 2.7 million in train: these must be distinct ones
            "train": {"dialogues": 1_059_117, "distinct_images": 1_509_284},
            "valid": {"dialogues": 10_000, "distinct_images": 23_812},
            "test": {"dialogues": 10_000, "distinct_images": 23_772},
        },
    ),
}


def published_counts(kind: str, split: str) -> dict[str, int]:
    """What is reported for a split; empty where nothing is."""
    rows = PUBLISHED.get(kind, ("", {}))[1]
    other = {"dev": "valid", "valid": "dev"}.get(split, split)
    return rows.get(split) or rows.get(other) or {}


def runs_with_photos_skipped(turns: Sequence[Turn]) -> int:
    """CUtter, first reading: photo turns are left out, then runs of one speaker are counted."""
    return sum(1 for _ in groupby(turn.speaker for turn in turns if not turn.photos))


def runs_merged_over_photos(turns: Sequence[Turn]) -> int:
    """CUtter, second reading: runs of one speaker, photo turns included, are one utterance each;
    then those in which a photo is shared are left out."""
    runs = (list(run) for _, run in groupby(turns, key=lambda turn: turn.speaker))
    return sum(not any(turn.photos for turn in run) for run in runs)


def count(dialogue: Dialogue) -> dict[str, int]:
    """The counts of one dialogue, by the keys of COLUMNS, but for the distinct images."""
    return {
        "dialogues": 1,
        "utterances": sum(not turn.photos for turn in dialogue.turns),
        "cutter_skipped": runs_with_photos_skipped(dialogue.turns),
        "cutter_merged": runs_merged_over_photos(dialogue.turns),
        "images": len(dialogue.photos),
    }
