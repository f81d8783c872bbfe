"""Long worlds: is a fact remembered over 2 to 78 turns, in words and in a photo?

    python experiments/long_worlds.py --base runs/world_base/model [--steps 2000] [--limit 500]

Dialogues of 20 to 80 turns in 2 to 4 sessions (``world/long.py``): the user tells the colour or the
place of something, and asks for it later. Right is an answer that names the value and no other, or
a photo in which the oracle reads it; by the distance from fact to question in turns. What no longer
fits into the LLM's context is wrong as well: how much of it is printed. Stopped, the same command
goes on.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence

from _rows import Row, chosen, kept, settle
from photo_rows import (
    Opener,
    Scored,
    kept_photos,
    options_parser,
    own_photos,
    publish,
    readers,
    runs_of,
    table_of,
    test_seeds,
)

from photoworld.facts import named_attributes
from photoworld.long import long_dialogue
from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.scored import Instruments
from showtell.evaluation.table import Column
from showtell.evaluation.world import first_texts
from showtell.evaluation.world_photos import described, images_of
from showtell.metrics.paired import scores
from showtell.models.dialogue_model import PhotoDialogueModel

NAME = "long_worlds"
SHORT = "end to end"
ROWS = (
    Row(name="the base", settings=("stage.steps=0",)),
    Row(name=SHORT),
    Row(name="end to end, long dialogues", recipe="world_long"),
    Row(name="vokens, LoRA", recipe="world_vokens"),
    Row(name="GILL, on dialogues", recipe="world_gill", settings=("album_photos=0",)),
)
DISTANCES = {"2 to 9": (2, 9), "10 to 19": (10, 19), "20 to 39": (20, 39), "40 on": (40, 80)}
KINDS = {"words": "in words", "photo": "in a photo"}
COLUMNS = (
    *(
        Column(name=f"long.{kind}.{head}", head=f"{kind}, {head} turns", group=group)
        for kind, group in KINDS.items()
        for head in DISTANCES
    ),
    *(
        Column(
            name=f"long.forgotten.{head}",
            head=f"forgotten, {head} turns",
            group="no longer in the context",
            higher_is_better=False,
        )
        for head in DISTANCES
    ),
)
LONG_NOTES = (
    "There are eight colours and eight places: a guess is right in 12.5%.",
    "Rows but the one on long dialogues have never read a dialogue of more than 14 turns, nor been "
    "asked for a fact. Small talk between names no colour and no place.",
)
Asked = tuple[int, int, Mapping[str, object], bool]  # dialogue, turn, what, whether a photo


def asked_in(dialogues: Sequence[Dialogue]) -> list[Asked]:
    """Every fact that is asked for, in the order of dialogues and turns."""
    return [
        (number, k, turn.labels["asked"], bool(turn.photos))
        for number, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if "asked" in turn.labels
    ]


def texts_of(model: Opener, dialogues: Sequence[Dialogue], asked: Sequence[Asked]) -> list[str]:
    """What a system answers in words, in gold contexts."""
    read = described(model(), dialogues)
    contexts = [read[number].turns[:k] for number, k, _, photo in asked if not photo]
    return first_texts(model(), contexts, [images_of(context) for context in contexts], seed=0)


def forgotten_of(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], asked: Sequence[Asked]
) -> list[bool]:
    """Whether the turn of each fact was dropped from the context of its question."""
    return [
        model.renderer.render_turns(dialogues[number].turns[:k]).dropped_turns > int(what["told"])  # type: ignore[call-overload]
        for number, k, what, _ in asked
    ]


def scored(
    said: Sequence[str],
    read: Sequence[Mapping[str, str]],
    forgotten: Sequence[bool],
    asked: Sequence[Asked],
) -> Scored:
    """Right or wrong for each fact, by distance; ``read`` is what the oracle read in the photos."""
    texts, photos = iter(said), iter(read)
    rows: dict[str, list[tuple[int, bool]]] = {}
    for (number, _, what, photo), lost in zip(asked, forgotten, strict=True):
        attribute, value = str(what["attribute"]), what["value"]
        if photo:
            right = next(photos)[attribute] == value
        else:
            right = named_attributes(next(texts)).get(attribute) == {value}
        head = next(h for h, (low, high) in DISTANCES.items() if low <= what["distance"] <= high)  # type: ignore[operator]
        rows.setdefault(f"long.{'photo' if photo else 'words'}.{head}", []).append((number, right))
        rows.setdefault(f"long.forgotten.{head}", []).append((number, lost))
    return Scored(
        scores={
            name: scores("mean", [n for n, _ in found], [right for _, right in found])
            for name, found in rows.items()
        }
    )


def rows_of(
    options: argparse.Namespace, dialogues: Sequence[Dialogue], found_by: Instruments
) -> dict[str, list[Scored]]:
    """Each system on the same facts."""
    asked = asked_in(dialogues)
    settings = {"dialogues": len(dialogues), "base": options.base}
    rows: dict[str, list[Scored]] = {}
    for name, run, model in runs_of(chosen(ROWS, options), options):
        make = functools.partial(texts_of, model, dialogues, asked)
        said = kept(run / f"{NAME}-words.json", settings, make)
        photos_N3HW = kept_photos(
            run / f"{NAME}-photos.safetensors",
            settings,
            functools.partial(_photos, model, dialogues),
        )
        forgotten = functools.partial(_forgotten, model, dialogues, asked)
        lost = kept(run / f"{NAME}-forgotten.json", settings, forgotten)
        read = found_by.oracle.read(photos_N3HW)
        rows.setdefault(name, []).append(scored(said, read, lost, asked))
    return rows


def _photos(model: Opener, dialogues: Sequence[Dialogue]):
    return own_photos(model(), dialogues)


def _forgotten(model: Opener, dialogues: Sequence[Dialogue], asked: Sequence[Asked]) -> list[bool]:
    return forgotten_of(model(), dialogues, asked)


def main(arguments: Sequence[str] | None = None) -> int:
    options = settle(options_parser(__doc__, name=NAME, after_alignment=True).parse_args(arguments))
    dialogues = [long_dialogue(seed) for seed in test_seeds(options)]
    publish(
        table_of(rows_of(options, dialogues, readers(options)), COLUMNS, against=SHORT),
        COLUMNS,
        script="long_worlds",
        name=NAME,
        title="Long worlds: a fact, told at a distance and asked for",
        against=SHORT,
        notes=LONG_NOTES,
        options=options,
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
