"""What is counted in data, as the papers count it.

Figures of others, *reported*, are in published.csv: Table 1 of arXiv 2408.08650 for PhotoChat and
DialogCC; arXiv 2211.05719 for MMDialog (at its 2.59 images a dialogue there would be 2.7 million in
train: those that it gives must be distinct ones).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

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


def published_counts(kind: str, split: str) -> tuple[dict[str, int], str]:
    """(what is reported for a split, where); empty where nothing is."""
    with open(Path(__file__).with_name("published.csv"), encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found, of, source = row.pop("data"), row.pop("split"), row.pop("source")
            if found == kind and of.replace("dev", "valid") == split.replace("dev", "valid"):
                return {key: int(number) for key, number in row.items() if number}, source
    return {}, ""


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
