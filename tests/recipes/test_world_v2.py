"""world_v2 from a tiny base: what moves in which stage, and what a run leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import build_model, dialogues_with_photos
from showtell.data.photos import photo_image
from showtell.dialogue import USER, Turn
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.papers import load_model
from showtell.recipes import run_recipe
from showtell.recipes.bridged import attending
from showtell.recipes.tasks import DialogueTask, captioning_example, world_pixels
from showtell.recipes.world_base import StageRunner
from showtell.recipes.world_v2 import WorldV2, opening, still

SETTINGS = ["num_dialogues=24", "calibration_dialogues=30", "cross_attention_layers=[1]"]
SETTINGS += ["stage.steps=1", "stage.batch_size=3", "seeing.steps=2", "seeing.batch_size=4"]


@pytest.fixture(scope="module")
def base(tokenizers, tmp_path_factory) -> Path:
    """A tiny world_base."""
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="pipeline"), folder, recipe={})
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """(the finished run, the parameters before and after each of its stages)."""
    states = []
    run_stage = StageRunner.run

    def snapshot(task) -> None:
        states.append({k: v.detach().clone() for k, v in task.module.named_parameters()})

    def watched(self, stage, task):
        snapshot(task)
        history = run_stage(self, stage, task)
        snapshot(task)
        return history

    out = tmp_path_factory.mktemp("v2") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageRunner, "run", watched)
        run_recipe("world_v2", overrides=[f"base={base}", *SETTINGS], out=out, resume=False)
    return out, states


def test_a_run_leaves_a_model_that_attends_to_photos(run):
    model = load_model(str(run[0]))
    assert model.name == "world_v2" and model.photo_encoder.attended and model.painter is not None
    model.decoding = replace(model.decoding, share_threshold=0.0, num_steps=1, max_new_tokens=3)
    photo = replace(next(p for d in dialogues_with_photos(1) for p in d.photos), origin="user")
    turns = (Turn(speaker=USER, elements=(photo,)),)
    reply = Responder(Decoder(model)).respond(turns, images={photo.id: photo_image(photo)}, seed=0)
    assert len(reply.images) == 1


def test_llama_stands_still_while_the_new_layers_learn_to_see(run):
    before, after, again, end = run[1]
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    layer = "language.model.model.layers.1"
    assert {"photo_encoder.project.weight", f"{layer}.cross_attn_attn_gate"} <= moved
    assert all(name.startswith(("photo_encoder.", layer)) for name in moved)
    moved = {name for name, value in again.items() if not torch.equal(value, end[name])}
    assert "language.model.model.layers.0.mlp.up_proj.weight" in moved
    assert any(name.startswith("painter.unet") for name in moved)


def test_the_longest_name_lets_a_new_layer_move():
    stage = still(WorldV2().seeing, (1, 4))
    assert stage.multiplier("language.model.model.layers.4.cross_attn.q_proj.weight") == 1
    assert stage.multiplier("language.model.model.layers.40.mlp.up_proj.weight") == 0
    assert stage.multiplier("photo_encoder.project.weight") == 1


def test_gates_open_faster_than_the_rest_of_their_layers_moves():
    layer = "language.model.model.layers.4"
    for stage in (still(WorldV2().seeing, (1, 4)), WorldV2().stage):
        opened = opening(stage, (1, 4), rate=20.0)
        assert opened.multiplier(f"{layer}.cross_attn_attn_gate") == 20
        assert opened.multiplier(f"{layer}.cross_attn_mlp_gate") == 20
        for name in (f"{layer}.cross_attn.q_proj.weight", "language.model.model.layers.0.mlp"):
            assert opened.multiplier(name) == stage.multiplier(name)


def test_while_gates_are_shut_nothing_else_in_their_layers_has_a_gradient(tokenizers):
    model = attending(build_model(tokenizers, bridge="pipeline"), layers=(1,))
    model.painter = None
    task = DialogueTask(model, dialogue=captioning_example, length=2, pixels_of=world_pixels)
    sum(task.losses([0, 1], generator=torch.Generator(), epoch=0.0).values()).backward()
    found = {
        name: float(value.grad.abs().max())
        for name, value in model.language.model.model.layers[1].named_parameters()
        if value.grad is not None
    }
    assert found.pop("cross_attn_attn_gate") > 0 and found.pop("cross_attn_mlp_gate") > 0
    assert found and not any(found.values())
