"""GILL's context curves in the photo world: more captions, photos between them, more rounds.

    python experiments/gill_context.py --base runs/world_base/model [--clip ...] [--steps 2000]

Stories, as the paper has VIST: the last 1 to 5 texts are read, or the same with the photos between
them, and the last photo is made. Rounds, as it has VisDial: the last 1 to 10 questions and answers
about a photo are read, and the photo is made. GILL learns from captioned photos, as published, or
from the world's dialogues; beside it the painter reads the same words. Stopped, the same command
goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from runner import CLIP_NOTES, ZERO_SHOT, Bench, Point, Row, Rows, Sheet, table

from photoworld.scenes import ATTRIBUTES, LOOKS
from photoworld.stories import ROUNDS, STEPS
from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.compare import columns_of
from showtell.evaluation.world_gold import Gold
from showtell.papers.forms import form_named

STORIES, TALKS = "gill_stories", "gill_rounds"
ROWS = (
    ZERO_SHOT,
    Row(name="GILL", recipe="world_gill_captions"),
    Row(name="GILL, on dialogues", recipe="world_gill", settings=("album_photos=0",)),
)


def read(form: str, dialogues: Sequence[Dialogue], *, painter: bool = True) -> Point:
    """What is read in a form, with all attributes of its photo to be counted; by a painter all
    words, the newest first."""
    tasks, texts = [], []
    for task in (task for dialogue in dialogues for task in form_named(form)(dialogue)):
        *turns, last = task.turns
        (photo,) = last.photos
        named = photo.labels["scene"]["subject"] in LOOKS
        counted = [name for name in ATTRIBUTES if not (named and name == "colour")]
        photo = replace(photo, labels={**photo.labels, "determined": counted})
        tasks.append(replace(task, turns=(*turns, replace(last, elements=(photo,)))))
        said = [e for turn in turns for e in turn.elements if isinstance(e, str)]
        texts.append(". ".join(said[::-1]))
    return Point(tasks=tasks, texts=texts if painter else ())


def captions(bench: Bench, rows: Sequence[Row]) -> Rows:
    """The last texts of stories, also with the photos between."""
    points, stories = {}, bench.data("stories")
    for count in range(1, STEPS + 1):
        part = [replace(story, turns=story.turns[-count:]) for story in stories]
        points[f"{count} captions"] = read("story_end:text", part)
        if count > 1:
            both = read("story_end:both", part, painter=False)
            points[f"{count} captions and photos"] = both
    return bench.shown(STORIES, rows, points, Gold(points["1 captions"].tasks, bench.readers))


def rounds(bench: Bench, rows: Sequence[Row]) -> Rows:
    """The last rounds of each talk."""
    talks = bench.data("rounds")
    counts = (1, ROUNDS) if bench.tiny else range(1, ROUNDS + 1)
    points = {f"{count} rounds": read(f"photo_last:{count}", talks) for count in counts}
    return bench.shown(TALKS, rows, points, Gold(points["1 rounds"].tasks, bench.readers))


SHEETS = tuple(
    Sheet(
        name=name,
        title=f"GILL in the photo world: {title}",
        rows=ROWS,
        columns=columns_of(
            "photo.clip_i", "photo.fid", "photo.kid", "photo.attribute_accuracy_in_dialogue"
        ),
        against=f"GILL; {first}",
        measure=measure,
        notes=(
            "Attributes are all of the photo, whether the words that are read settle them or not; "
            "a name's colour is not counted.",
            "The painter reads the words, the newest first; of a text that its text tower has no "
            "room for, those words that its tokenizer has whole.",
            *CLIP_NOTES,
        ),
    )
    for name, measure, first, title in (
        (STORIES, captions, "1 captions", "captions of a story, with and without its photos"),
        (TALKS, rounds, "1 rounds", "rounds of questions and answers"),
    )
)
main = table(__file__, __doc__, *SHEETS, runs="gill", limit=200)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
