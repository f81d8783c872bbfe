"""GILL's context curves in the photo world: more captions, photos between them, more rounds.

    python experiments/gill_context.py --base runs/world_base/model [--clip ...] [--steps 2000]

Stories, as the paper has VIST: the last 1 to 5 texts are read, or the same with the photos between
them, and the last photo is made. Rounds, as it has VisDial: the last 1 to 10 questions and answers
about a photo are read, and the photo is made. GILL learns from captioned photos, as published, or
from the world's dialogues; beside it the painter reads the same words. Stopped, the same command
goes on.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import runner
from runner import CLIP_NOTES, ZERO_SHOT, Bench, Opener, Row, Rows, Sheet
from torch import Tensor

from photoworld.scenes import ATTRIBUTES, LOOKS
from photoworld.stories import ROUNDS, STEPS
from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.compare import columns_of
from showtell.evaluation.world_gold import Gold
from showtell.papers.forms import form_named

STORIES, TALKS, GILL = "gill_stories", "gill_rounds", "GILL"
ROWS = (
    Row(name=ZERO_SHOT),
    Row(name=GILL, recipe="world_gill_captions"),
    Row(name=f"{GILL}, on dialogues", recipe="world_gill", settings=("album_photos=0",)),
)
PHOTOS = "and photos"


def story_contexts(bench: Bench) -> dict[str, list[Dialogue]]:
    """What is read, by its name on the curve: the last texts, also with the photos between."""
    found, stories = {}, bench.data("stories")
    for count in range(1, STEPS + 1):
        part = [replace(story, turns=story.turns[-count:]) for story in stories]
        found[f"{count} captions"] = made("story_end:text", part)
        if count > 1:
            found[f"{count} captions {PHOTOS}"] = made("story_end:both", part)
    return found


def round_contexts(bench: Bench) -> dict[str, list[Dialogue]]:
    """The last rounds of each talk, then the photo."""
    counts = (1, ROUNDS) if bench.tiny else range(1, ROUNDS + 1)
    talks = bench.data("rounds")
    return {f"{count} rounds": made(f"photo_last:{count}", talks) for count in counts}


def made(form: str, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The form of each, with all attributes of its photo to be counted."""
    found = []
    for task in (task for dialogue in dialogues for task in form_named(form)(dialogue)):
        *read, last = task.turns
        (photo,) = last.photos
        named = photo.labels["scene"]["subject"] in LOOKS
        counted = [name for name in ATTRIBUTES if not (named and name == "colour")]
        photo = replace(photo, labels={**photo.labels, "determined": counted})
        found.append(replace(task, turns=(*read, replace(last, elements=(photo,)))))
    return found


def photos_of(name: str, model: Opener, tasks: Sequence[Dialogue]) -> Tensor:
    """A row's photos; the painter reads all words, the newest first."""
    if name != ZERO_SHOT:
        return runner.photos_in_place(model(), tasks)
    said = [
        [e for t in task.turns[:-1] for e in t.elements if isinstance(e, str)] for task in tasks
    ]
    return runner.painted_texts(model(), [". ".join(texts[::-1]) for texts in said])


def curve(bench: Bench, name: str, contexts: Mapping[str, list[Dialogue]]) -> Rows:
    """Each system at each point of a curve."""
    rows, gold = {}, Gold(next(iter(contexts.values())), bench.readers)
    for row, run, model in bench.runs_of(bench.chosen(ROWS)):
        for head, tasks in contexts.items():
            if row == ZERO_SHOT and head.endswith(PHOTOS):
                continue
            make = functools.partial(photos_of, row, model, tasks)
            path = run / f"{name}-{head.replace(' ', '-')}.safetensors"
            rows.setdefault(f"{row}; {head}", []).append(bench.photos(path, make, gold))
    return rows


SHEETS = tuple(
    Sheet(
        name=name,
        title=f"GILL in the photo world: {title}",
        columns=columns_of(
            "photo.clip_i", "photo.fid", "photo.kid", "photo.attribute_accuracy_in_dialogue"
        ),
        against=f"{GILL}; {first}",
        rows=lambda bench, name=name, contexts=contexts: curve(bench, name, contexts(bench)),
        notes=(
            "Attributes are all of the photo, whether the words that are read settle them or not; "
            "a name's colour is not counted.",
            "The painter reads the words, the newest first; of a text that its text tower has no "
            "room for, those words that its tokenizer has whole.",
            *CLIP_NOTES,
        ),
    )
    for name, contexts, first, title in (
        (STORIES, story_contexts, "1 captions", "captions of a story, with and without its photos"),
        (TALKS, round_contexts, "1 rounds", "rounds of questions and answers"),
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    return runner.main(SHEETS, runner.parser(__doc__, runs="gill_context", limit=200), arguments)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
