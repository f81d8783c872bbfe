"""What the papers' small experiments train, beside the systems of the comparison, from one base.

world_stories           MiniGPT-5 on the world's stories (2310.02239, tables 1-3), with LoRA
world_stories_prefix    the same with prefix tuning
world_stories_text      its baseline, the fine-tuned LLM: the same texts, no photo is made
world_stories_painter   its baseline, the fine-tuned painter: texts to a photo
world_gill_captions     GILL on the captioned photos that unimodal alignment reads
world_long              the end-to-end model on long dialogues (``world/long.py``)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from photoworld.long import long_dialogue
from photoworld.stories import world_story
from showtell.dialogue import AGENT, USER, Dialogue, Turn
from showtell.errors import ConfigError
from showtell.models.adapters import LoraConfig, add_lora, require_peft
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.parts import TextTower, painter_sizes
from showtell.papers import PipelineConfig
from showtell.papers.forms import newest_first, steps_of
from showtell.papers.minigpt5 import story_dialogues
from showtell.recipes.bridged import adapted
from showtell.recipes.world_base import StageRunner
from showtell.recipes.world_dialogue import (
    WorldDialogue,
    dialogue_task,
    finish_model,
    run_world_dialogue,
    start_model,
)
from showtell.recipes.world_systems import (
    PREFIX,
    WorldGill,
    WorldVokens,
    alignment_example,
    run_world_gill,
    run_world_vokens,
)
from showtell.training.stage import Stage

_VOKENS = WorldVokens().stage


# --------------------------------------------------------------------------------------- stories


def story_example(seed: int, *, described: bool = False) -> Dialogue:
    """One of the tasks of the story of a seed: each kind and step in its turn."""
    story = world_story(seed)
    tasks = story_dialogues(story.id, steps_of(story), seed=seed, described=described)
    return tasks[seed % len(tasks)]


def narration_example(seed: int) -> Dialogue:
    """The same where only words are to be made: a step's text, from its photo or from none."""
    story = world_story(seed)
    told = [
        task
        for task in story_dialogues(story.id, steps_of(story), seed=seed)
        if task.turns[1].text  # text_only and multimodal
    ]
    task = told[seed % len(told)]
    return replace(task, turns=task.turns[:2])


def painter_example(seed: int, *, read: Callable[[str], str] = str) -> Dialogue:
    """A step's photo, whose caption is the step's text, on every second visit the earlier ones
    too; ``read``: what of it the painter reads."""
    story = world_story(seed)
    steps = steps_of(story)[: 1 + seed % len(story.turns)]
    photo = replace(steps[-1].photo, caption=read(newest_first(steps, earlier=bool(seed % 2))))
    # the words are for the painter, which reads the caption; the LLM stands still
    turns = (
        Turn(speaker=USER, elements=("show me",)),
        Turn(speaker=AGENT, elements=(photo,)),
    )
    return Dialogue(id=photo.id, turns=turns)


def readable(text: str, tower: TextTower) -> str:
    """What a painter's text tower reads of a text: all of it, if there is room, else the words that
    its tokenizer has whole. The small one's was counted on captions, so that every other word falls
    to letters and takes the room of five that say what to paint."""
    _, room = painter_sizes(tower)
    if len(tower.tokenizer(text, verbose=False)["input_ids"]) <= room:
        return text
    words = re.findall(r"\w+", text)
    pieces = tower.tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    return " ".join(word for word, ids in zip(words, pieces, strict=True) if len(ids) == 1) or text


@dataclass(frozen=True, kw_only=True)
class StoryText(WorldDialogue):
    """``adapter`` learns the texts; LLM and photo_encoder stand still as in MiniGPT-5."""

    excerpts: float = 0.0
    bridge: PipelineConfig = PipelineConfig()
    adapter: LoraConfig = LoraConfig(dropout=0.0)
    stage: Stage = field(
        default=replace(_VOKENS, name="narration", weights={"t": 1.0, "moment": 0.0})
    )


def run_story_text(config: StoryText, *, out: Path, resume: bool, name: str) -> Path:
    """Train and write ``out/model``, which paints nothing."""
    require_peft()
    model = start_model(config, name=name)
    model.painter = None
    torch.manual_seed(config.seed)
    add_lora(model.language, config.adapter)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    task = dialogue_task(model, config, dialogue=narration_example)
    run.run(adapted(config.stage, model.language), task)
    return finish_model(model, config, out=out, dialogue=story_example)


PAINTER = WorldDialogue(
    excerpts=0.0,
    bridge=PipelineConfig(),
    stage=replace(
        WorldDialogue().stage,
        name="painter",
        learning_rates={"": 0.0, "painter.unet": 1.0},
        weights={"t": 0.0, "moment": 0.0, "caption": 0.0, "v": 1.0},
    ),
)


def _run_painter(config: WorldDialogue, *, out: Path, resume: bool, name: str) -> Path:
    model = start_model(config, name=name)
    if not isinstance(model.painter, LatentDiffusionPainter):
        raise ConfigError(f'"{config.base}" has no painter that reads texts; name a base with one')
    read = partial(readable, tower=model.painter.text)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    run.run(
        config.stage, dialogue_task(model, config, dialogue=partial(painter_example, read=read))
    )
    return finish_model(model, config, out=out)


# ------------------------------------------------------------------------------ captions, and long


def caption_example(seed: int) -> Dialogue:
    """A drawn photo and its caption, as unimodal alignment has them."""
    return alignment_example(seed, num_pairs=seed + 1)


_GILL = WorldGill()
GILL_CAPTIONS = replace(
    _GILL,
    excerpts=0.0,
    album_photos=0,
    decision_dialogues=0,
    stage=replace(_GILL.stage, weights={**_GILL.stage.weights, "moment": 0.0}),
)
# the whole dialogue is read: an excerpt would leave out what was told long before
LONG = replace(
    WorldDialogue(), excerpts=0.0, stage=replace(WorldDialogue().stage, name="long", batch_size=8)
)


def _run_vokens(config: WorldVokens, *, out: Path, resume: bool, name: str) -> Path:
    example = partial(story_example, described=config.described)
    return run_world_vokens(config, out=out, resume=resume, name=name, dialogue=example)


def _run_gill(config: WorldGill, *, out: Path, resume: bool, name: str) -> Path:
    return run_world_gill(config, out=out, resume=resume, name=name, dialogue=caption_example)


def _run_long(config: WorldDialogue, *, out: Path, resume: bool, name: str) -> Path:
    return run_world_dialogue(config, out=out, resume=resume, name=name, dialogue=long_dialogue)


SETTINGS: dict[str, Any] = {
    "world_stories": replace(WorldVokens(), excerpts=0.0),
    "world_stories_prefix": replace(PREFIX, excerpts=0.0),
    "world_stories_text": StoryText(),
    "world_stories_painter": PAINTER,
    "world_gill_captions": GILL_CAPTIONS,
    "world_long": LONG,
}
RUNS: dict[str, Callable[..., Path]] = {
    "world_stories": _run_vokens,
    "world_stories_prefix": _run_vokens,
    "world_stories_text": run_story_text,
    "world_stories_painter": _run_painter,
    "world_gill_captions": _run_gill,
    "world_long": _run_long,
}
