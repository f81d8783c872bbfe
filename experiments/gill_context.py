"""GILL's context curves in the photo world: more captions, photos between them, more rounds.

    python experiments/gill_context.py --base runs/world_base/model [--clip ...] [--steps 2000]

Stories, as the paper has VIST: the last 1 to 5 texts are read, or the same with the photos between
them, and the last photo is made. Rounds, as it has VisDial: the last 1 to 10 questions and answers
about a photo are read, and the photo is made. GILL learns from captioned photos, as published, or
from the world's dialogues; beside it the painter reads the same words. Stopped, the same command
goes on.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from _rows import Row, chosen, settle
from photo_rows import (
    ZERO_SHOT,
    Opener,
    Scored,
    columns_of,
    options_parser,
    own_photos,
    painted_texts,
    publish,
    readers,
    runs_of,
    scored_once,
    table_of,
    test_seeds,
)
from torch import Tensor

from photoworld.scenes import ATTRIBUTES, LOOKS
from photoworld.stories import ROUNDS, STEPS, world_rounds, world_story
from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.scored import Gold, Instruments
from showtell.papers.forms import form_named

STORIES, TALKS = "gill_stories", "gill_rounds"
GILL = "GILL"
ROWS = (
    Row(name=ZERO_SHOT),
    Row(name=GILL, recipe="world_gill_captions"),
    Row(
        name=f"{GILL}, on dialogues",
        recipe="world_gill",
        settings=("album_photos=0",),
    ),
)
COLUMNS = (
    *columns_of("photo.clip_i", "photo.fid", "photo.kid"),
    *columns_of("photo.attribute_accuracy_in_dialogue"),
)
PHOTOS = "and photos"
CURVE_NOTES = (
    "Attributes are all of the photo, whether the words that are read settle them or not; a name's "
    "colour is not counted.",
    "The painter reads the words, the newest first; of a text that its text tower has no room for, "
    "those words that its tokenizer has whole.",
)


def story_contexts(stories: Sequence[Dialogue]) -> dict[str, list[Dialogue]]:
    """What is read, by its name on the curve: the last texts, also with the photos between."""
    found = {}
    for count in range(1, STEPS + 1):
        part = [replace(story, turns=story.turns[-count:]) for story in stories]
        found[f"{count} captions"] = _made("story_end:text", part)
        if count > 1:
            found[f"{count} captions {PHOTOS}"] = _made("story_end:both", part)
    return found


def round_contexts(talks: Sequence[Dialogue], counts: Sequence[int]) -> dict[str, list[Dialogue]]:
    """The last rounds of each talk, then the photo."""
    return {f"{count} rounds": _made(f"photo_last:{count}", talks) for count in counts}


def _made(form: str, dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The form of each, whose photo counts in whole."""
    return [_whole(task) for dialogue in dialogues for task in form_named(form)(dialogue)]


def _whole(task: Dialogue) -> Dialogue:
    """The task, with all attributes of its photo to be counted."""
    *read, made = task.turns
    (photo,) = made.photos
    named = photo.labels["scene"]["subject"] in LOOKS
    counted = [name for name in ATTRIBUTES if not (named and name == "colour")]
    photo = replace(photo, labels={**photo.labels, "determined": counted})
    return replace(task, turns=(*read, replace(made, elements=(photo,))))


def words_of(task: Dialogue) -> str:
    """All words that are read, newest first."""
    said = [e for turn in task.turns[:-1] for e in turn.elements if isinstance(e, str)]
    return ". ".join(said[::-1])


def photos_of(name: str, model: Opener, tasks: Sequence[Dialogue]) -> Tensor:
    if name == ZERO_SHOT:
        return painted_texts(model(), [words_of(task) for task in tasks])
    return own_photos(model(), tasks)


def rows_of(
    curve: str,
    contexts: Mapping[str, list[Dialogue]],
    options: argparse.Namespace,
    found_by: Instruments,
) -> dict[str, list[Scored]]:
    """Each system at each point of a curve."""
    rows: dict[str, list[Scored]] = {}
    gold = Gold(next(iter(contexts.values())), found_by, seed=0)
    for name, run, model in runs_of(chosen(ROWS, options), options):
        for head, tasks in contexts.items():
            if name == ZERO_SHOT and head.endswith(PHOTOS):
                continue
            settings = {"tasks": len(tasks), "base": options.base}
            path = run / f"{curve}-{head.replace(' ', '-')}.safetensors"
            make = functools.partial(photos_of, name, model, tasks)
            found = scored_once(path, settings, make, gold)
            rows.setdefault(f"{name}; {head}", []).append(found)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    options = settle(options_parser(__doc__, name="gill_context", limit=200).parse_args(arguments))
    found_by = readers(options)
    stories = story_contexts([world_story(seed) for seed in test_seeds(options)])
    counts = (1, ROUNDS) if options.tiny else range(1, ROUNDS + 1)
    talks = round_contexts([world_rounds(seed) for seed in test_seeds(options)], counts)
    against = f"{GILL}; {{}}"
    for name, contexts, first, title in (
        (STORIES, stories, "1 captions", "captions of a story, with and without its photos"),
        (TALKS, talks, "1 rounds", "rounds of questions and answers"),
    ):
        publish(
            table_of(
                rows_of(name, contexts, options, found_by), COLUMNS, against=against.format(first)
            ),
            COLUMNS,
            script="gill_context",
            name=name,
            title=f"GILL in the photo world: {title}",
            against=against.format(first),
            notes=CURVE_NOTES,
            options=options,
        )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
