"""Recipes by name; and a whole small training, from nothing to an answer."""

from __future__ import annotations

import json

import pytest
import torch

from showtell.dialogue import USER, Turn
from showtell.errors import CheckpointError, ConfigError
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.papers import load_model
from showtell.recipes import RECIPES, run_recipe
from showtell.recipes.tasks import DialogueTask, captioning_example, world_pixels

STAGES = ("vae", "vae_whole", "painter", "language", "vision", "qformer", "photo_encoder")
TINY = [
    "num_photos=24",
    "num_dialogues=24",
    *(f"{stage}.{key}=2" for stage in STAGES for key in ("steps", "batch_size")),
]


def test_an_unknown_recipe_or_key_is_answered_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match='did you mean "world_mini"'):
        run_recipe("world_mimi", overrides=[], out=tmp_path, resume=False)
    with pytest.raises(ConfigError, match='did you mean "painter"'):
        run_recipe("world_base", overrides=["panter.steps=3"], out=tmp_path, resume=False)


def test_a_run_is_never_overwritten(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ConfigError, match="--resume"):
        run_recipe("world_base", overrides=[], out=tmp_path, resume=False)
    assert (tmp_path / "note").read_text() == "mine"


def test_a_missing_base_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match="showtell train world_base"):
        run_recipe(
            "world_mini", overrides=[f"base={tmp_path}/none"], out=tmp_path / "o", resume=False
        )


def test_every_recipe_has_a_configuration_and_says_what_it_does():
    for recipe in RECIPES.values():
        assert recipe.config() == recipe.config()
        assert recipe.summary and recipe.hours


@pytest.mark.parametrize("name", ["nothing", "/no/such/folder"])
def test_a_model_that_is_not_there_is_a_clear_error(name):
    with pytest.raises(CheckpointError, match="there is no model"):
        load_model(name)


def test_from_nothing_to_an_answer(tmp_path):
    base = run_recipe("world_base", overrides=TINY, out=tmp_path / "base", resume=False)
    assert run_recipe("world_base", overrides=TINY, out=tmp_path / "base", resume=True) == base
    settings = [
        f"base={base}",
        "stage.steps=2",
        "stage.batch_size=3",
        "num_dialogues=24",
        "calibration_dialogues=30",
    ]
    for name in ("world_mini", "world_pipeline"):
        out = run_recipe(name, overrides=settings, out=tmp_path / name, resume=False)
        model = load_model(str(out))
        assert (model.captioner is not None) is (name == "world_pipeline")
        assert list((tmp_path / name).rglob("loss.png"))
        reply = Responder(Decoder(model)).respond(
            (Turn(speaker=USER, elements=("hi",)),), images={}, seed=0
        )
        assert reply.turns
    settings += ["stage.evaluate_every=1", "validation_dialogues=4"]
    run_recipe("world_paper", overrides=settings, out=tmp_path / "paper", resume=False)
    history = json.loads((tmp_path / "paper" / "paper" / "history.json").read_text())
    measured = [record for record in history if "bleu2" in record]
    assert [record["step"] for record in measured] == [1, 2]
    assert all(0 <= record["bleu2"] <= 1 and record["fid"] > 0 for record in measured)
    assert (tmp_path / "paper" / "paper" / "best.safetensors").exists()


def test_a_base_starts_from_a_models_parts_and_a_stage_of_no_steps_leaves_its_own(tmp_path):
    first = run_recipe("world_base", overrides=TINY, out=tmp_path / "first", resume=False)
    still = [f"{stage}.steps=0" for stage in STAGES if stage not in ("qformer", "photo_encoder")]
    again = run_recipe(
        "world_base",
        overrides=[*TINY, f"start={first}", *still, "photo_encoder.steps=0"],
        out=tmp_path / "again",
        resume=False,
    )
    before, after = (dict(load_model(str(m)).named_parameters()) for m in (first, again))
    moved = {name for name, value in after.items() if not value.equal(before[name])}
    assert moved and all(name.startswith("photo_encoder.") for name in moved)
    assert not any(name.startswith("photo_encoder.vision") for name in moved)


def test_a_base_may_have_an_lm_of_another_size_beside_the_parts_it_starts_from(tmp_path):
    first = run_recipe("world_base", overrides=TINY, out=tmp_path / "first", resume=False)
    still = [f"{s}.steps=0" for s in STAGES if s not in ("language", "photo_encoder")]
    settings = [*TINY, *still, f"start={first}"]
    with pytest.raises(CheckpointError, match='no model "nowhere"'):
        run_recipe("world_base", overrides=["start=nowhere"], out=tmp_path / "o", resume=False)
    with pytest.raises(ConfigError, match="language_width 100"):
        run_recipe(
            "world_base",
            overrides=[*settings, "language_width=100"],
            out=tmp_path / "odd",
            resume=False,
        )
    small = run_recipe(
        "world_base",
        overrides=[*settings, "language_layers=2", "language_width=64"],
        out=tmp_path / "small",
        resume=False,
    )
    before, after = load_model(str(first)), load_model(str(small))
    assert (after.language.width, after.photo_encoder.language_width) == (64, 64)
    assert len(after.language.base.layers) == 2
    assert after.language.tokenizer.get_vocab() == before.language.tokenizer.get_vocab()
    painter = dict(after.painter.unet.named_parameters())
    assert all(v.equal(painter[n]) for n, v in before.painter.unet.named_parameters())


def test_captioning_examples_are_read_as_excerpts_so_they_do_not_teach_to_share(tiny_end_to_end):
    tiny_end_to_end.painter = None  # as in world_base: a caption is an answer in words
    task = DialogueTask(
        tiny_end_to_end,
        dialogue=captioning_example,
        length=8,
        pixels_of=world_pixels,
        excerpt_only=lambda index: True,
    )
    losses = task.losses(range(4), generator=torch.Generator().manual_seed(0), epoch=0.0)
    assert "moment" not in losses and losses["caption"] > 0


def test_a_batch_in_parts_of_like_length_has_the_same_losses(tiny_end_to_end):
    import torch

    from photoworld.talk import world_dialogue
    from showtell.recipes.tasks import DialogueTask, world_pixels

    tiny_end_to_end.painter = None  # its noise is drawn in another order
    found = []
    for parts in (1, 3):
        task = DialogueTask(
            tiny_end_to_end, dialogue=world_dialogue, length=9, pixels_of=world_pixels, parts=parts
        )
        with torch.no_grad():
            found.append(task.losses(range(9), generator=torch.Generator(), epoch=0.0))
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], atol=1e-5, rtol=1e-4)


def test_a_contrastive_run_is_a_clip_of_the_library(tmp_path):
    from transformers import CLIPModel

    settings = ["num_photos=12", "num_dev=6", "width=16", "layers=1", "projection=8"]
    settings += ["stage.steps=2", "stage.batch_size=4", "stage.evaluate_every=2"]
    out = run_recipe("world_contrastive", overrides=settings, out=tmp_path / "o", resume=False)
    model = CLIPModel.from_pretrained(out, use_safetensors=True)
    assert model.config.projection_dim == 8
    report = json.loads((out / "report.json").read_text())
    assert all(0 <= share <= 1 for share in report["measures"].values())
