"""Long worlds: is a fact remembered over 2 to 78 turns, in words and in a photo?

    python experiments/long_worlds.py --base runs/world_base/model [--steps 2000] [--limit 500]

Dialogues of 20 to 80 turns in 2 to 4 sessions (``photoworld/long.py``): the user tells the colour
or the place of something, and asks for it later. Right is an answer that names the value and no
other, or a photo in which the oracle reads it; by the distance from fact to question in turns. What
no longer fits into the LLM's context is wrong as well: how much of it is printed. Stopped, the same
command goes on.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import runner
from runner import CLIP_NOTES, Bench, Opener, Row, Rows, Sheet

from photoworld.words import named_attributes
from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.answer import write_texts
from showtell.evaluation.compare import Column
from showtell.evaluation.score_runs import Run
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described

NAME, SHORT = "long_worlds", "end to end"
ROWS = (
    Row(name="the base", settings=("stage.steps=0",)),
    Row(name=SHORT),
    Row(name="end to end, long dialogues", recipe="world_long"),
    Row(name="vokens, LoRA", recipe="world_vokens"),
    Row(name="GILL, on dialogues", recipe="world_gill", settings=("album_photos=0",)),
)
DISTANCES = {"2 to 9": (2, 9), "10 to 19": (10, 19), "20 to 39": (20, 39), "40 on": (40, 80)}
KINDS = {"words": "in words", "photo": "in a photo", "forgotten": "no longer in the context"}
Asked = tuple[int, int, Mapping[str, Any], bool]  # dialogue, turn, what, whether a photo


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
    return write_texts(Decoder(model()), contexts, seed=0)


def forgotten_of(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], asked: Sequence[Asked]
) -> list[bool]:
    """Whether the turn of each fact was dropped from the context of its question."""
    return [
        model.renderer.render_turns(dialogues[number].turns[:k]).dropped_turns > what["told"]
        for number, k, what, _ in asked
    ]


def scored(
    said: Sequence[str],
    read: Sequence[Mapping[str, str]],
    forgotten: Sequence[bool],
    asked: Sequence[Asked],
) -> Run:
    """Right or wrong for each fact, by distance; ``read`` is what the oracle read in the photos."""
    texts, photos = iter(said), iter(read)
    rows: dict[str, list[tuple[int, float]]] = {}
    for (number, _, what, photo), lost in zip(asked, forgotten, strict=True):
        attribute, value = what["attribute"], what["value"]
        if photo:
            right = next(photos)[attribute] == value
        else:
            right = named_attributes(next(texts)).get(attribute) == {value}
        head = next(h for h, (low, high) in DISTANCES.items() if low <= what["distance"] <= high)
        rows.setdefault(f"long.{'photo' if photo else 'words'}.{head}", []).append((number, right))
        rows.setdefault(f"long.forgotten.{head}", []).append((number, lost))
    return Run(scores={k: v for name in rows for k, v in runner.means(name, rows[name]).items()})


def rows_of(bench: Bench) -> Rows:
    """Each system on the same facts."""
    dialogues = bench.data("long")
    asked, num = asked_in(dialogues), len(dialogues)
    rows: dict[str, list[Run]] = {}
    for name, run, model in bench.runs_of(bench.chosen(ROWS)):

        def forget(model: Opener = model) -> list[bool]:
            return forgotten_of(model(), dialogues, asked)

        def paint(model: Opener = model) -> Any:
            return runner.photos_in_place(model(), dialogues)

        write = functools.partial(texts_of, model, dialogues, asked)
        said = bench.kept(run / f"{NAME}-words.json", write, num)
        photos_N3HW = bench.kept_photos(run / f"{NAME}-photos.safetensors", paint, num)
        lost = bench.kept(run / f"{NAME}-forgotten.json", forget, num)
        read = bench.readers.oracle.read(photos_N3HW)
        rows.setdefault(name, []).append(scored(said, read, lost, asked))
    return rows


SHEET = Sheet(
    name=NAME,
    title="Long worlds: a fact, told at a distance and asked for",
    against=SHORT,
    rows=rows_of,
    columns=tuple(
        Column(
            name=f"long.{kind}.{head}",
            head=f"{kind}, {head} turns",
            group=group,
            higher_is_better=kind != "forgotten",
        )
        for kind, group in KINDS.items()
        for head in DISTANCES
    ),
    notes=(
        "There are eight colours and eight places: a guess is right in 12.5%.",
        "Rows but the one on long dialogues have never read a dialogue of more than 14 turns, nor "
        "been asked for a fact. Small talk between names no colour and no place.",
        *CLIP_NOTES[2:],
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    return runner.main([SHEET], runner.parser(__doc__, runs=NAME), arguments)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
