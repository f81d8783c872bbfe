"""The two stages and three tasks of 2310.02239 as data, and their losses on a tiny model."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from conftest import bridged_model, collated
from photoworld.scenes import sample_scene, write_caption
from showtell.config import override
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import ConfigError, DataError
from showtell.models.adapters import LoraConfig, add_lora
from showtell.papers.forms import form_named
from showtell.papers.minigpt5 import (
    ABLATIONS,
    INSTRUCTIONS,
    MLS,
    PRESETS,
    SYSTEM,
    TASKS,
    UAS,
    Step,
    alignment_dialogue,
    story_dialogues,
    story_task,
)
from showtell.recipes.assemble import adapted
from showtell.recipes.systems import WORLD_VOKENS


def world_photo(seed: int) -> Photo:
    scene = sample_scene(random.Random(seed))
    caption, _ = write_caption(scene, random.Random(seed))
    return Photo(id=f"p{seed}", caption=caption, labels={"scene": scene.as_dict()})


def story(num_steps: int = 3) -> list[Step]:
    return [Step(text=f"and then came number {k}.", photo=world_photo(k)) for k in range(num_steps)]


LEARNT = {"text_only": [str], "image_only": [Photo], "multimodal": [str, Photo]}


@pytest.fixture(scope="module")
def model(tokenizers):
    """Read by all tests of this file and changed by none."""
    return bridged_model(tokenizers, "vokens")


# -------------------------------------------------------------------------------------- the data


def test_the_wordings_are_as_many_as_released_and_all_are_used():
    assert len(INSTRUCTIONS) == len(set(INSTRUCTIONS)) == 7
    assert {kind: len(set(wordings)) for kind, wordings in TASKS.items()} == {
        "text_only": 2,
        "image_only": 3,
        "multimodal": 2,
    }
    for kind, wordings in TASKS.items():
        used = Counter(
            task.turns[0].elements[-2 if kind == "text_only" else -1]
            for seed in range(40)
            for task in [story_task("s", story(2), kind, seed=seed)]
        )
        assert set(used) == {w.format(text="and then came number 1.") for w in wordings}
    assert all("{caption}" in wording for wording in INSTRUCTIONS)


def test_a_story_of_five_steps_gives_thirteen_tasks():
    tasks = story_dialogues("s", story(5), seed=0)
    assert Counter(task.labels["task"] for task in tasks) == {
        "image_only": 5,
        "multimodal": 4,
        "text_only": 4,
    }
    assert len({task.id for task in tasks}) == 13
    assert tasks == story_dialogues("s", story(5), seed=0) != story_dialogues("s", story(5), seed=1)


@pytest.mark.parametrize("kind", LEARNT)
def test_a_task_reads_the_steps_before_and_learns_its_own(kind):
    steps = story(3)
    task = story_task("s", steps, kind, seed=0)
    read, *answers = task.turns
    assert read.speaker == USER and {turn.speaker for turn in answers} == {AGENT}
    assert [type(e) for turn in answers for e in turn.elements] == LEARNT[kind]
    assert read.elements[0] == SYSTEM
    past = read.elements[1:5]
    assert [e if isinstance(e, str) else e.id for e in past] == [
        steps[0].text,
        "p0",
        steps[1].text,
        "p1",
    ]
    shown = [e for e in read.elements[5:] if isinstance(e, Photo)]
    asked = " ".join(e for e in read.elements[5:] if isinstance(e, str))
    # of its own step a task reads what it does not learn, and nothing else
    assert [p.id for p in shown] == (["p2"] if kind == "text_only" else [])
    assert (steps[2].text in asked) is (kind == "image_only")


def test_braces_in_a_text_stay_braces():
    step = replace(story(1)[0], text="a {strange} text}")
    assert "a {strange} text}" in str(story_task("s", [step], "image_only", seed=0).turns[0])


def test_a_pair_is_read_alone_and_every_hundredth_is_also_asked_for():
    form, rows = form_named("alignment", seed=0), []
    for n in range(600):
        shown = Turn(speaker=USER, elements=(Photo(id=f"p{n}", caption=f"caption {n}"),))
        rows += form(Dialogue(id=f"d{n}", turns=(shown,)))
    counts = Counter(row.labels["task"] for row in rows)
    assert counts["alignment"] == 600 and 1 <= counts["instruction"] <= 18
    assert rows[0].turns[0].text == "caption 0" == rows[0].turns[1].photos[0].caption
    pairs = [(f"caption {n}", Photo(id=f"p{n}")) for n in range(100)]
    asked = [alignment_dialogue(*pair, seed=0) for pair in pairs]
    wordings = {row.turns[0].text.replace(row.turns[1].photos[0].caption, "") for row in asked}
    assert len(wordings) == len(INSTRUCTIONS)


# ------------------------------------------------------------------------------------- the losses


def test_unimodal_alignment_weighs_text_ldm_and_caption(model, rng):
    photos = [world_photo(n) for n in range(2)]
    rows = [alignment_dialogue(photo.caption, photo) for photo in photos]
    batch = collated(model, rows)
    assert batch.captions == tuple(p.caption for p in photos)
    with torch.no_grad():
        losses = model(batch, generator=rng)
    weighed = {name: UAS.weights[name] for name in losses}
    assert weighed == {"t": 0.01, "ldm": 1.0, "cap": 0.1, "moment": 0.0}
    assert all(float(losses[name]) > 0 for name in ("t", "ldm", "cap"))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("text_only", {"t", "moment"}),
        ("image_only", {"t", "moment", "ldm"}),
        ("multimodal", {"t", "moment", "ldm"}),
    ],
)
def test_multimodal_learning_has_no_caption_loss_and_a_text_only_task_no_photo_loss(
    model, rng, kind, names
):
    with torch.no_grad():
        losses = model(collated(model, [story_task("s", story(3), kind, seed=0)]), generator=rng)
    assert set(losses) == names
    weighed = {name: MLS.weights[name] for name in losses}
    assert weighed == {name: w for name, w in MLS.weights.items() if name in names}
    assert MLS.weights == {"t": 0.01, "moment": 0.0, "ldm": 1.0}


def test_multimodal_learning_holds_no_photo_captions(model):
    """Description-free: whatever the captions of a story's photos, the batches are the same."""
    steps = story(4)
    assert all(step.photo.caption for step in steps)
    other = [
        replace(step, photo=replace(step.photo, caption=f"quite another {n}"))
        for n, step in enumerate(steps)
    ]
    tasks = story_dialogues("s", steps, seed=0)
    batch = collated(model, tasks)
    assert set(batch.captions) == {""} and len(batch.captions) == 4 + 3
    again = collated(model, story_dialogues("s", other, seed=0))
    assert torch.equal(batch.ids_BT, again.ids_BT) and torch.equal(batch.labels_BT, again.labels_BT)
    assert batch.captions == again.captions
    assert torch.equal(batch.span_pixels_N3HW, again.span_pixels_N3HW)
    assert torch.equal(batch.seen_pixels_P3HW, again.seen_pixels_P3HW)
    for task in tasks:
        assert all(not photo.caption for photo in task.photos)


# ------------------------------------------------------------------------------------- the stages


def moving(module, stage) -> set[str]:
    return {name for name, _ in module.named_parameters() if stage.multiplier(name) > 0}


def test_alignment_moves_the_new_rows_and_the_mapper(model):
    names = moving(model, UAS)
    assert names == {"language.new_tokens.input_nD"} | {
        f"bridge.{name}" for name, _ in model.bridge.named_parameters()
    }
    assert UAS.learning_rate * UAS.multiplier("bridge.mapper.queries_SC") == pytest.approx(2e-4)
    assert UAS.learning_rate * UAS.multiplier("language.new_tokens.input_nD") == 2e-5


@pytest.mark.parametrize("ablation", ["full", "release"])
def test_learning_moves_the_adapter_too_and_in_the_release_less_of_the_mapper(tokenizers, ablation):
    model = bridged_model(tokenizers, "vokens")
    add_lora(model.language, LoraConfig())
    settings = [s for s in ABLATIONS[ablation] if s.startswith("stage.")]
    stage = override(replace(WORLD_VOKENS, stages=(MLS,)), settings).stage
    names = moving(model, adapted(stage, model.language))
    lora = {name for name in names if "lora_" in name}
    assert len(lora) == 2 * 2 * 2  # two layers, q and v, A and B
    mapper = {name for name in names if name.startswith("bridge.")}
    still = {f"bridge.{n}" for n, _ in model.bridge.named_parameters()} - mapper
    assert {name.split(".")[2] for name in still} == (
        {"mlp", "queries_SC"} if ablation == "release" else set()
    )
    assert names == lora | mapper | {"language.new_tokens.input_nD"}


def test_the_ablations_change_what_they_say_and_nothing_else():
    full = WORLD_VOKENS
    alignment, stage = full.stages
    found = {name: override(full, settings) for name, settings in ABLATIONS.items()}
    assert found["full"] == full
    free = replace(full.bridge, drop=0.0, negative="empty")
    assert found["without_cfg"] == replace(full, bridge=free)

    def without(stage, loss):
        assert stage.weights[loss] > 0
        return replace(stage, weights={**stage.weights, loss: 0.0})

    assert found["without_cap"].stages == (without(alignment, "cap"), stage)
    assert found["without_ldm"].stages == (without(alignment, "ldm"), without(stage, "ldm"))
    assert found["without_uas"].stages == (replace(alignment, steps=0), stage)
    assert found["described"].stage.form == "dialogue" and stage.form == "undescribed"
    assert found["vokens_4"].bridge == replace(full.bridge, num_vokens=4)
    assert found["release"].bridge == PRESETS["release"]


# -------------------------------------------------------------------------------------- bad input


def test_bad_input_is_named(model):
    with pytest.raises(DataError, match='"p7" has no caption'):
        alignment_dialogue("  ", Photo(id="p7"))
    with pytest.raises(DataError, match="no steps"):
        story_task("s", [], "image_only", seed=0)
    with pytest.raises(ConfigError, match='did you mean "image_only"'):
        story_task("s", story(1), "image", seed=0)
