"""MiniGPT-5, Tables 1 to 3, in the photo world: the photos and texts of stories.

Stories of ``world:stories``: steps of a text and a photo. What a system makes of a step, after the
gold steps before it, is made once (``minigpt5_table1.py``, ``minigpt5_tables23.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import runner
from runner import ZERO_SHOT, Opener, Row
from torch import Tensor

from showtell.dialogue import Dialogue
from showtell.evaluation.compare import Column, columns_of
from showtell.papers.forms import form_named, newest_first, steps_of
from showtell.papers.minigpt5 import ABLATIONS

RUNS = "minigpt5_stories"  # of tables 1 to 4, which share rows
FINE_TUNED = "painter, fine-tuned"
PAINTERS = (ZERO_SHOT, FINE_TUNED)  # which read no photos
LLM = Row(name="LLM, fine-tuned", recipe="world_stories_text")
VOKENS = (  # the paper's
    Row(name="vokens, prefix", recipe="world_stories_prefix"),
    Row(name="vokens, LoRA", recipe="world_stories"),
    Row(name="vokens, without UAS", recipe="world_stories", settings=ABLATIONS["without_uas"]),
)
DESCRIBED = ABLATIONS["described"]
ROWS = (
    Row(name=ZERO_SHOT),
    Row(name=FINE_TUNED, recipe="world_stories_painter"),
    *VOKENS,
    Row(name="vokens, UAS alone", recipe="world_stories", settings=("stage.steps=0",)),
    *(
        replace(row, name=f"{row.name}, described", settings=(*row.settings, *DESCRIBED))
        for row in VOKENS
    ),
)
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


def photos_of(
    name: str, model: Opener, stories: Sequence[Dialogue], form: str, *, earlier: bool
) -> Tensor:
    """What a row makes in the places of the form's photos; a painter reads the step's text, and of
    ``earlier`` steps theirs."""
    if name not in PAINTERS:
        return runner.photos_in_place(model(), tasks_of(stories, form))
    steps = [steps_of(story) for story in stories]
    if form == "task_steps":
        steps = [own[: k + 1] for own in steps for k in range(len(own))]
    return runner.painted_texts(model(), [newest_first(own, earlier=earlier) for own in steps])
