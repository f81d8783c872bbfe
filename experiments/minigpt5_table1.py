"""MiniGPT-5, Table 1, in the photo world: the last photo of a story, by what is read before it.

    python experiments/minigpt5_table1.py --base runs/world_base/model [--clip ...] [--steps 2000]

Read are the text of the last step and, of the steps before it, nothing, the texts, the photos or
both. The world says what each of them settles (``world/stories.py``), so that beside the paper's
CLIP-I, IS and FID stands the share of attributes that are right of those that follow from the last
text alone, from an earlier text alone, and from earlier photos alone. FID and IS need 2,000 photos:
--limit 2000. Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
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

from photoworld.stories import determined_in, determined_only_by, world_story
from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.evaluation.scored import Gold
from showtell.evaluation.table import Column
from showtell.papers.forms import form_named, newest_first, steps_of
from showtell.papers.minigpt5 import ABLATIONS

NAME, RUNS = "minigpt5_table1", "minigpt5_stories"  # the runs serve tables 2 and 3 too
CONTEXTS = {
    "none": "no context",
    "text": "text",
    "photos": "photos",
    "both": "photos and text",
}
FINE_TUNED = "painter, fine-tuned"
PAINTERS = (ZERO_SHOT, FINE_TUNED)  # which read no photos
VOKENS = (  # the paper's
    Row(name="vokens, prefix", recipe="world_stories_prefix"),
    Row(name="vokens, LoRA", recipe="world_stories"),
    Row(name="vokens, without UAS", recipe="world_stories", settings=ABLATIONS["without_uas"]),
)
ROWS = (
    Row(name=ZERO_SHOT),
    Row(name=FINE_TUNED, recipe="world_stories_painter"),
    *VOKENS,
    Row(name="vokens, UAS alone", recipe="world_stories", settings=("stage.steps=0",)),
    *(
        replace(
            row, name=f"{row.name}, described", settings=(*row.settings, *ABLATIONS["described"])
        )
        for row in VOKENS
    ),
)
SOURCES = {"last": "last text", "text": "earlier text", "photos": "earlier photos"}
PHOTO_COLUMNS = (
    *columns_of("photo.clip_i", "photo.inception_score", "photo.fid", "photo.kid"),
    Column(name="photo.attribute_accuracy_in_dialogue", head="all", group="attributes"),
)
COLUMNS = (
    *PHOTO_COLUMNS,
    Column(name="story.settled", head="settled by what was read", group="attributes"),
    *(
        Column(name=f"story.only_{source}", head=f"only {head}", group="attributes")
        for source, head in SOURCES.items()
    ),
)
PAINTER_NOTE = (
    "A painter reads the texts, the newest first; where its text tower has no room for all of it, "
    "the words that its tokenizer has whole."
)
STORY_NOTES = (
    "Attributes are read by the oracle. All: those of the last photo that follow from its text and "
    "everything before it, whatever was read; settled: those that follow from what was read, which "
    "are others in each context; only: those that nothing else settles.",
    PAINTER_NOTE,
    '"described": against the paper, photos keep their captions for L_cap in multimodal learning.',
    "Contexts are gold. MiniGPT-5 is trained with whole contexts; the others are told it as they "
    "are.",
)


def contexts_of(stories: Sequence[Dialogue], context: str) -> list[Dialogue]:
    """The task of the last photo of each story."""
    form = form_named(f"task_end:{context}")
    return [task for story in stories for task in form(story)]


def photos_in(context: str, name: str, model: Opener, stories: Sequence[Dialogue]) -> Tensor:
    """What a row makes of the last step in a context."""
    if name not in PAINTERS:
        return own_photos(model(), contexts_of(stories, context))
    texts = [newest_first(steps_of(story), earlier=context == "text") for story in stories]
    return painted_texts(model(), texts)


def rows_of(
    options: argparse.Namespace, gold: Gold, stories: Sequence[Dialogue]
) -> dict[str, list[Scored]]:
    """All rows: a system in a context."""
    counted = {
        f"story.only_{source}": [determined_only_by(story.photos[-1], source) for story in stories]
        for source in SOURCES
    }
    settings = {"stories": len(stories), "base": options.base}
    rows: dict[str, list[Scored]] = {}
    for name, run, model in runs_of(chosen(ROWS, options), options):
        for context, head in CONTEXTS.items():
            if name in PAINTERS and context in ("photos", "both"):
                continue
            make = functools.partial(photos_in, context, name, model, stories)
            settled = [determined_in(story.photos[-1], context) for story in stories]
            path = run / f"{NAME}-{context}.safetensors"
            found = scored_once(path, settings, make, gold, {**counted, "story.settled": settled})
            rows.setdefault(f"{name}; {head}", []).append(found)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    options = settle(options_parser(__doc__, name=RUNS, after_alignment=True).parse_args(arguments))
    stories = [world_story(seed) for seed in test_seeds(options)]
    gold = Gold(contexts_of(stories, "both"), readers(options), seed=0)
    rows = rows_of(options, gold, stories)
    against = f"{FINE_TUNED}; {CONTEXTS['none']}"
    publish(
        table_of(rows, COLUMNS, against=against),
        COLUMNS,
        script="minigpt5_table1",
        name=NAME,
        title="MiniGPT-5, Table 1, in the photo world: the last photo of a story",
        against=against,
        notes=STORY_NOTES,
        options=options,
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
