"""What MiniGPT-5's Tables 1 to 4 share in the photo world: their rows, and the steps of stories.

Stories of ``world:stories``: steps of a text and a photo. Rows that a table has trained are not
trained again by another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner import ZERO_SHOT, Row

from showtell.dialogue import Dialogue
from showtell.evaluation.compare import Column, columns_of
from showtell.papers.forms import form_named, newest_first
from showtell.papers.minigpt5 import ABLATIONS, Step

RUNS = "minigpt5_stories"
LLM = Row(name="LLM, fine-tuned", recipe="world_stories_text")
PAINTER = Row(name="painter, fine-tuned", recipe="world_stories_painter", paints_texts=True)
VOKENS = Row(name="vokens, LoRA", recipe="world_stories")
PAPERS = (
    Row(name="vokens, prefix", recipe="world_stories_prefix"),
    VOKENS,
    replace(VOKENS, name="vokens, without UAS", settings=ABLATIONS["without_uas"]),
)
WITH_VOKENS = (
    *PAPERS,
    replace(VOKENS, name="vokens, UAS alone", settings=("stage.steps=0",)),
    *(
        replace(row, name=f"{row.name}, described", settings=row.settings + ABLATIONS["described"])
        for row in PAPERS
    ),
)
ROWS = (ZERO_SHOT, PAINTER, *WITH_VOKENS)
PHOTO_COLUMNS = (
    *columns_of("photo.clip_i", "photo.inception_score", "photo.fid", "photo.kid"),
    Column(name="photo.attribute_accuracy_in_dialogue", head="all", group="attributes"),
)
PAINTER_NOTE = (
    "A painter reads the texts, the newest first; where its text tower has no room for all of it, "
    "the words that its tokenizer has whole."
)


def tasks_of(stories: Sequence[Dialogue], form: str) -> list[Dialogue]:
    made = form_named(form)
    return [task for story in stories for task in made(story)]


def painters_read(shown: Iterable[Sequence[Step]], *, earlier: bool) -> list[str]:
    """The last of some steps as a painter reads it, of ``earlier`` ones their texts too."""
    return [newest_first(steps, earlier=earlier) for steps in shown]
