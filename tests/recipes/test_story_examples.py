"""What the small experiments on stories and captions are trained on."""

from __future__ import annotations

from photoworld.stories import STEPS, world_story
from showtell.dialogue import USER
from showtell.papers.forms import newest_first, steps_of
from showtell.papers.minigpt5 import undescribed
from showtell.recipes.world_experiments import (
    SETTINGS,
    caption_example,
    narration_example,
    painter_example,
    story_example,
)


def test_the_examples_of_stories_are_all_tasks_and_leave_descriptions_out():
    found = [story_example(seed) for seed in range(26)]
    kinds = {example.labels["task"] for example in found}
    assert kinds == {"text_only", "image_only", "multimodal"}
    assert not any(photo.caption for example in found for photo in example.photos)
    # described: the photos that are made, and not those that are read
    for seed, plain in enumerate(found):
        example = story_example(seed, described=True)
        made = {photo.id for turn in example.turns[1:] for photo in turn.photos}
        assert {photo.id for photo in example.photos if photo.caption} == made
        assert undescribed(example) == plain
    told = [narration_example(seed) for seed in range(16)]
    assert all(not photo for d in told for photo in [d.turns[-1].photos]) and all(
        len(d.turns) == 2 for d in told
    )


def test_a_painter_learns_from_the_step_alone_and_from_all_texts():
    for seed in range(10):
        (photo,) = painter_example(seed).photos
        steps = steps_of(world_story(seed))[: 1 + seed % STEPS]
        assert photo.labels["scene"] == steps[-1].photo.labels["scene"]
        assert photo.caption == newest_first(steps, earlier=bool(seed % 2))
        assert photo.caption.startswith(steps[-1].text)
        assert (steps[0].text in photo.caption) is (len(steps) == 1 or bool(seed % 2))


def test_gill_learns_from_captions_that_are_read():
    dialogue = caption_example(5)
    assert dialogue.turns[0].speaker == USER
    assert dialogue.photos[0].caption == dialogue.turns[0].text


def test_only_the_unet_of_the_fine_tuned_painter_moves():
    config = SETTINGS["world_stories_painter"]
    moved = {
        name: config.stage.multiplier(name)
        for name in ("language.model.x", "photo_encoder.x", "painter.text.x", "painter.unet.x")
    }
    assert moved.pop("painter.unet.x") == 1.0 and set(moved.values()) == {0.0}
