"""Divter from the base of every other run: photos as codes, a translator, a ranker, dialogues."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import VQModel
from safetensors.torch import load_file

from conftest import build_model, collated, dialogues_with_photos
from photoworld.drawing import draw
from showtell.dialogue import USER, Photo, Turn
from showtell.errors import ConfigError
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.models.photo_encoder import LinearPhotoEncoder
from showtell.models.respond import Responder
from showtell.models.vq_painter import VqPainter
from showtell.papers import DivterConfig, load_model
from showtell.recipes import run_recipe
from showtell.recipes.bridged import with_bridge
from showtell.recipes.codes_tasks import VqTask, start_codebook, with_untrained_translator
from showtell.recipes.small import build_vision
from showtell.recipes.tasks import LabelledVision
from showtell.recipes.world_dialogue import WorldDialogue, start_model
from showtell.recipes.world_divter import WorldDivter
from showtell.training.features import photo_scene

CODES = [
    *("num_photos=12", "num_dev=6", "num_codes=20", "code_width=4", "width=32", "layers=1"),
    *("num_samples=2", "vq.steps=2", "vq.batch_size=4", "vq.evaluate_every=2"),
    *("translator.steps=2", "translator.batch_size=4", "translator.evaluate_every=2"),
    *("ranker.num_photos=6", "ranker.num_dev=4", "ranker.width=16", "ranker.layers=1"),
    *("ranker.projection=8", "ranker.stage.steps=1", "ranker.stage.batch_size=4"),
]
DIALOGUES = ["stage.steps=2", "stage.batch_size=3", "num_dialogues=24", "calibration_dialogues=30"]
STEP = ("steps", "batch_size")
HELLO = (Turn(speaker=USER, elements=("hi! show me a dog",)),)


@pytest.fixture(scope="module")
def base(tokenizers, tmp_path_factory) -> Path:
    """A tiny world_base."""
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="pipeline"), folder, recipe={})
    return folder


@pytest.fixture(scope="module")
def codes(base, tmp_path_factory) -> Path:
    """A tiny world_codes."""
    out = tmp_path_factory.mktemp("codes") / "out"
    return run_recipe("world_codes", overrides=[f"base={base}", *CODES], out=out, resume=False)


@pytest.fixture(scope="module")
def divter(base, codes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("divter") / "out"
    return run_recipe(
        "world_divter",
        overrides=[f"base={base}", f"codes={codes}", *DIALOGUES],
        out=out,
        resume=False,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in folder.rglob("*.safetensors"):
        part = file.parent.relative_to(folder)
        found |= {f"{part}/{name}": value for name, value in load_file(file).items()}
    return found


# ------------------------------------------------------------------------------------- world_codes


def test_codes_are_of_the_bases_vae_and_a_resumed_run_is_the_same(base, codes):
    painter = VqPainter.from_pretrained(codes)
    assert painter.image_size == 64 and painter.side == 16 and painter.num_samples == 2
    before = weights(base / "painter" / "vae")
    after = weights(codes / "vae")
    assert before and all(torch.equal(after[name], before[name]) for name in before)
    measures = json.loads((codes / "report.json").read_text())["measures"]
    assert measures["dev_v"] > 0
    again = run_recipe(
        "world_codes", overrides=[f"base={base}", *CODES], out=codes.parent, resume=True
    )
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(codes).items())


def test_every_code_of_a_started_codebook_is_chosen_by_some_photo():
    torch.manual_seed(0)
    vq = VQModel(
        in_channels=2,
        out_channels=2,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        num_vq_embeddings=30,
        sample_size=8,
        norm_num_groups=4,
        mid_block_add_attention=False,
    )
    latents = np.random.default_rng(0).normal(size=(8, 2, 8, 8)).astype(np.float16)
    few = VqTask(vq, latents, latents).validate()["dev_codes_used"]
    start_codebook(vq, latents, seed=0)
    with pytest.raises(ConfigError, match="16 places for a code, and the codebook has 30"):
        start_codebook(vq, latents[:1], seed=0)
    task = VqTask(vq, latents, latents)
    assert task.validate()["dev_codes_used"] == 1 > few
    losses = task.losses([0, 1], generator=torch.Generator(), epoch=0.0)
    assert set(losses) == {"latents", "codes"}
    sum(losses.values()).backward()
    for part in (vq.encoder.conv_in, vq.decoder.conv_out, vq.quantize.embedding):
        assert bool(part.weight.grad.abs().sum() > 0)  # through the choice of a code as well


def test_the_row_without_pre_training_has_the_same_v_and_a_new_f(codes):
    trained = VqPainter.from_pretrained(codes)
    fresh = with_untrained_translator(copy.deepcopy(trained), seed=3)
    same = with_untrained_translator(copy.deepcopy(trained), seed=3)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
        if not name.startswith("translator."):
            assert torch.equal(value, trained.state_dict()[name])
    assert not torch.equal(fresh.text.token_table_UC, trained.text.token_table_UC)
    table = fresh.translator.get_input_embeddings().weight
    assert fresh.text.token_table_UC.data_ptr() == table.data_ptr()  # the new F's own words


# ------------------------------------------------------------------------------------ world_divter


def test_a_run_trains_g_and_f_and_leaves_v_the_ranker_and_the_captioner(base, codes, divter):
    before, after = weights(codes), weights(divter / "painter")
    assert before.keys() == after.keys()
    moved = {name.split("/")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"translator"}
    first, last = weights(base / "language_model"), weights(divter / "language_model")
    assert any(not torch.equal(first[name], last[name]) for name in first)
    captioner = weights(divter / "captioner" / "language_model")
    assert all(torch.equal(first[name], captioner[name]) for name in first)
    (history,) = divter.parent.glob("divter/history.json")
    losses = set(json.loads(history.read_text())[-1]) - {"step", "seconds", "gradient_norm"}
    assert losses == {"t", "moment", "caption", "v"}


def test_a_saved_run_reads_captions_shares_and_paints_the_best_of_two(divter):
    model = load_model(str(divter))
    assert model.name == "world_divter" and model.photo_encoder is None
    model.decoding = replace(model.decoding, share_threshold=0.0, num_steps=4, max_new_tokens=3)
    steps = []
    photo = Photo(id="mine", origin="user")
    shown = (*HELLO, Turn(speaker=USER, elements=(photo,)))
    reply = Responder(Decoder(model)).respond(
        shown,
        images={"mine": draw(photo_scene(0))},
        seed=0,
        on_photo_step=lambda step, total: steps.append((step, total)),
    )
    (shared,) = (photo for turn in reply.turns for photo in turn.photos)
    assert shared.caption and reply.images[shared.id].size == (64, 64)
    assert steps == [(step, 4) for step in range(1, 5)]
    best = Responder(Decoder(model)).paint_captions([shared.caption], seeds=[0])
    model.painter.num_samples = 1
    samples = torch.cat(
        [
            Responder(Decoder(model)).paint_captions([shared.caption], seeds=[s * 1_000_003])
            for s in range(2)
        ]
    )
    chosen = int(model.painter.rank(samples, [shared.caption] * 2).argmax())
    torch.testing.assert_close(best[0], samples[chosen])


def test_the_photo_loss_reaches_f_and_neither_the_llm_nor_a_photo_encoder(tokenizers, codes, rng):
    base = build_model(tokenizers, bridge="pipeline").train()
    model = with_bridge(base, DivterConfig(), seed=0)
    model.painter = VqPainter.from_pretrained(codes)
    batch = collated(model, dialogues_with_photos(1))
    model(batch, generator=rng)["v"].backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient
    assert all(name.startswith("painter.translator.") for name in with_gradient)


def test_the_weight_of_the_photo_loss_is_the_papers():
    weights = WorldDivter().stage.weights
    assert weights["v"] == 0.2 and weights["t"] == 1
    assert {**weights, "v": 1.0} == WorldDialogue().stage.weights
    rates = WorldDivter().stage
    moves = ("language.model.x", "painter.translator.x")
    still = ("painter.vq.x", "painter.vae.x", "painter.rank.clip.x", "captioner.language.x")
    assert [rates.multiplier(name) for name in (*moves, *still)] == [1] * 2 + [0] * 4


# -------------------------------------------------------------------- photo_encoders, bad input


@pytest.mark.parametrize("photo_encoder", ["qformer", "linear", "caption"])
def test_any_photo_encoder_is_a_setting_of_the_same_base(base, photo_encoder, rng):
    model = start_model(WorldDialogue(base=str(base), photo_encoder=photo_encoder), name="x")
    assert isinstance(model.photo_encoder, LinearPhotoEncoder) is (photo_encoder == "linear")
    assert (model.captioner is not None) is (photo_encoder == "caption")
    batch = collated(model, dialogues_with_photos(1))
    losses = model(batch, generator=rng)
    sum(losses.values()).backward()
    if photo_encoder == "linear":
        assert model.photo_encoder.num_tokens == model.renderer.config.num_photo_tokens
        assert bool(model.photo_encoder.project.weight.grad.abs().sum() > 0)


def test_a_photo_encoder_that_is_not_there_is_told_with_a_suggestion(base, tmp_path):
    for settings, told in (
        (["photo_encoder=capton"], 'did you mean "caption"'),
        (["codes=nowhere"], "showtell train world_codes"),
    ):
        with pytest.raises(ConfigError, match=told):
            run_recipe(
                "world_divter",
                overrides=[f"base={base}", *settings],
                out=tmp_path / "o",
                resume=False,
            )


def test_several_samples_without_a_ranker_are_refused_before_anything_is_trained(
    base, codes, tmp_path
):
    painter = VqPainter.from_pretrained(codes)
    painter.rank, painter.num_samples = None, 1
    painter.save_pretrained(tmp_path / "codes")
    with pytest.raises(ConfigError, match="no ranker to choose"):
        run_recipe(
            "world_divter",
            overrides=[f"base={base}", f"codes={tmp_path / 'codes'}", "num_samples=4"],
            out=tmp_path / "o",
            resume=False,
        )
    assert not (tmp_path / "o" / "divter").exists()


def test_a_base_may_read_by_a_linear_map(base, tmp_path):
    still = [f"{stage}.steps=0" for stage in ("vae", "vae_whole", "painter", "language")]
    once = [f"{stage}.{key}=1" for stage in ("vision", "photo_encoder") for key in STEP]
    folder = run_recipe(
        "world_base",
        overrides=["num_photos=4", "num_dialogues=4", f"start={base}", "reader=linear"]
        + ["num_photo_tokens=2", *still, *once],
        out=tmp_path / "base",
        resume=False,
    )
    model = load_model(str(folder))
    assert (
        isinstance(model.photo_encoder, LinearPhotoEncoder) and model.photo_encoder.num_tokens == 2
    )
    assert (tmp_path / "base" / "vision").exists() and not (tmp_path / "base" / "qformer").exists()
    with pytest.raises(ConfigError, match='photo_encoder is "qformer"'):
        start_model(WorldDialogue(base=str(folder)), name="x")
    linear = WorldDialogue(base=str(folder), photo_encoder="linear")
    kept = start_model(linear, name="x")
    assert kept.photo_encoder.project.weight.equal(model.photo_encoder.project.weight)
    other = start_model(replace(linear, photo_tokens=3), name="x")
    assert other.photo_encoder.num_tokens == other.renderer.config.num_photo_tokens == 3
    for wrong in (replace(linear, photo_tokens=0), WorldDialogue(base=str(base), photo_tokens=3)):
        with pytest.raises(ConfigError, match="photo_tokens is"):
            start_model(wrong, name="x")


def test_a_vit_for_a_linear_map_learns_its_labels_at_cls():
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for at_cls in (False, True):
        module = LabelledVision(build_vision(), at_cls=at_cls)
        seen = []
        module.vision.register_forward_hook(lambda m, a, out: seen.append(out.last_hidden_state))  # noqa: B023
        (logits, *_) = module(pixels).values()
        (gradient,) = torch.autograd.grad(logits.sum(), seen[0])
        read = gradient.abs().sum((0, 2)) > 0
        assert bool(read[0]) is at_cls and bool(read[1:].any()) is not at_cls
