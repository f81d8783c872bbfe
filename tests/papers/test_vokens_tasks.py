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
    wordings = {kind: set(each) for kind, each in TASKS.items()} | {"uas": set(INSTRUCTIONS)}
    counts = {"text_only": 2, "image_only": 3, "multimodal": 2, "uas": 7}
    assert {kind: len(each) for kind, each in wordings.items()} == counts
    asked = [
        story_task("s", story(2), "image_only", seed=n).turns[0].elements[-1] for n in range(40)
    ]
    assert set(asked) == {w.format(text="and then came number 1.") for w in TASKS["image_only"]}


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


def test_a_batch_has_the_losses_of_its_stage_and_learning_no_photo_captions(model, rng):
    """Of the paper's: UAS text, LDM and caption; MLS text, and LDM where a photo is made."""
    rows = [alignment_dialogue(photo.caption, photo) for photo in map(world_photo, range(2))]
    tasks = {kind: [story_task("s", story(3), kind, seed=0)] for kind in LEARNT}
    weights = {kind: {"t": 0.01, "moment": 0.0, "ldm": 1.0} for kind in LEARNT}
    del weights["text_only"]["ldm"]
    for kind, stage in (("alignment", UAS), *((kind, MLS) for kind in LEARNT)):
        wanted = weights.get(kind, {"t": 0.01, "ldm": 1.0, "cap": 0.1, "moment": 0.0})
        batch = collated(model, tasks.get(kind, rows))
        with torch.no_grad():
            losses = model(batch, generator=rng)
        assert {name: stage.weights[name] for name in losses} == wanted
        assert any(batch.captions) is (stage is UAS)  # description-free
    for task in story_dialogues("s", story(4), seed=0):
        assert not any(photo.caption for photo in task.photos)


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


@pytest.mark.parametrize("stage", [UAS, MLS])
def test_the_rate_rises_for_a_thousand_steps_and_falls_in_a_line_to_nothing(stage):
    middle = (1000 + stage.steps) // 2
    rates = [stage.rate(step) for step in (0, 999, 1000, middle, stage.steps)]
    assert rates == pytest.approx([2e-8, 2e-5, 2e-5, 1e-5, 0.0])


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
