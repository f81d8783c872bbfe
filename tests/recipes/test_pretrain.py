"""A pretraining: from nothing to an answer; parts that are kept; codes, a CLIP."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import VQModel
from transformers import CLIPModel

from data import natives
from recipes.conftest import CODES, RANKER, learnt, moved, train, weights
from showtell.data.sources import open_data
from showtell.dialogue import USER, Turn
from showtell.errors import CheckpointError, ConfigError, DataError
from showtell.models.decoder import Decoder
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.respond import Responder
from showtell.models.vq_painter import VqPainter
from showtell.papers import load_model
from showtell.recipes import pretrain_tasks
from showtell.recipes.photo_sets import (
    cached_latents,
    cached_pixels,
    captions_of,
    choose_photos,
)
from showtell.recipes.pretrain_tasks import TranslatorTask, VqTask, start_codebook

STAGES = ("vae", "vae_whole", "painter", "language", "vision", "qformer", "photo_encoder")
TINY = [
    *("num_photos=24", "num_dialogues=24", "num_held=6"),
    *(f"{stage}.{key}=2" for stage in STAGES for key in ("steps", "batch_size")),
]


def still(*moving: str) -> list[str]:
    return [f"{stage}.steps=0" for stage in STAGES if stage not in moving]


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A world_base of two steps each."""
    return train("world_base", tmp_path_factory.mktemp("first") / "o", *TINY)


def test_from_nothing_to_an_answer(first, tmp_path):
    assert train("world_base", first.parent, resume=True) == first
    settings = [f"base={first}", "stage.steps=2", "stage.batch_size=3", "num_dialogues=24"]
    for name in ("world_mini", "world_pipeline"):
        out = train(name, tmp_path / name, *settings, "calibration_dialogues=30")
        model = load_model(str(out))
        assert (model.captioner is not None) is (name == "world_pipeline")
        assert list((tmp_path / name).rglob("history.json"))
        hello = (Turn(speaker=USER, elements=("hi",)),)
        assert Responder(Decoder(model)).respond(hello, images={}, seed=0).turns


def test_a_base_starts_from_a_models_parts_and_a_stage_of_no_steps_leaves_its_own(first, tmp_path):
    again = train("world_base", tmp_path, *TINY, f"start={first}", *still("qformer"))
    assert (found := learnt(first, again))
    assert all(name.startswith("photo_encoder.") for name in found)
    assert not any(name.startswith("photo_encoder.vision") for name in found)


def test_a_base_may_have_an_lm_of_another_size_beside_the_parts_it_starts_from(first, tmp_path):
    settings = [*TINY, *still("language", "photo_encoder"), f"start={first}"]
    with pytest.raises(CheckpointError, match='no model "nowhere"'):
        train("world_base", tmp_path / "a", "start=nowhere")
    with pytest.raises(ConfigError, match="language_width 100"):
        train("world_base", tmp_path / "b", *settings, "language_width=100")
    size = ["language_layers=2", "language_width=64"]
    small = train("world_base", tmp_path / "c", *settings, *size)
    before, after = load_model(str(first)), load_model(str(small))
    assert (after.language.width, after.photo_encoder.language_width) == (64, 64)
    assert len(after.language.base.layers) == 2
    assert after.language.tokenizer.get_vocab() == before.language.tokenizer.get_vocab()
    painter = dict(after.painter.unet.named_parameters())
    assert all(v.equal(painter[n]) for n, v in before.painter.unet.named_parameters())


def test_photos_without_labels_teach_no_vision(tmp_path, photos):
    with pytest.raises(DataError, match="no labels that say what they show"):
        settings = [*TINY, *still("vision"), f"photos=folder:{photos}", "num_held=2", "held=none"]
        train("world_base", tmp_path, *settings)


# ---------------------------------------------------------------------------------------- photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Eight photos with two captions each; one of the test split, one untold, one not there."""
    root = tmp_path_factory.mktemp("captioned")
    records = []
    for number in range(11):
        file = f"images/{number}.png"
        if number != 10:
            natives.write_photo(root / file, (23 * number, 255 - 23 * number, 90))
        captions = [] if number == 9 else [f"thing {number}", f"a red thing, {number}"]
        split = "test" if number == 8 else "train"
        records.append({"file": file, "captions": captions, "split": split})
    natives.write_lines(root / "captions.jsonl", records)
    return root


def test_photos_are_chosen_by_their_names_whatever_their_order(photos):
    source = open_data(f"folder:{photos}")
    chosen, held = choose_photos(source, num_photos=3, held_out=2)
    again = choose_photos(list(source)[::-1], num_photos=3, held_out=2)
    assert [p.id for p in chosen] == [p.id for p in again[0]] and len(chosen) == 3
    assert not {p.id for p in chosen} & {p.id for p in held}
    whole, _ = choose_photos(source, num_photos=None, held_out=2)
    assert len(whole) == 6  # the test photo, the untold and the missing one are left out
    assert [p.id for p in whole[:3]] == [p.id for p in chosen]
    assert set(captions_of(held[0])) == set(held[0].labels["captions"])
    assert list(captions_of(replace(held[0], labels={}))) == [held[0].caption]


def test_pixels_and_latents_are_of_each_photo_alone_and_made_once(pipeline_base, photos, tmp_path):
    painter = LatentDiffusionPainter.from_pretrained(pipeline_base / "painter")
    found, _ = choose_photos(open_data(f"folder:{photos}"), num_photos=3, held_out=1)

    latents = partial(cached_latents, painter, cache=tmp_path)
    rows = latents(found)
    for row, photo in zip(rows, found, strict=True):
        (alone,) = latents([photo])
        torch.testing.assert_close(torch.tensor(row), torch.tensor(alone), atol=2e-3, rtol=2e-3)
        assert alone.std() > 0
    pixels = cached_pixels(found, side=32, cache=tmp_path).pixels
    missing = [replace(photo, labels={"gone": True}) for photo in found]
    assert (latents(missing) == rows).all()
    assert (cached_pixels(missing, side=32, cache=tmp_path).pixels == pixels).all()


def test_too_few_photos_and_a_missing_painter_are_told(pipeline_base, photos, files, tmp_path):
    for number, (settings, error, told) in enumerate(
        (
            (
                [f"photos=folder:{photos}", "num_held=8"],
                DataError,
                "has 8 photos .* num_held lower",
            ),
            ([f"photos=mmdialog:{files['mmdialog']}"], DataError, "has 0 photos"),  # no captions
            ([f"photos=folder:{photos}", "num_held=0"], ConfigError, "wanted one photo"),
            (["start=photochat_small"], ConfigError, "name a model that paints"),
        )
    ):
        with pytest.raises(error, match=told):
            wanted = [f"start={pipeline_base}", *CODES, "num_held=2", *settings]
            train("photo_codes", tmp_path / str(number), *wanted)


# ----------------------------------------------------------------------------------------- codes


def test_codes_are_of_the_bases_vae_and_a_resumed_run_is_the_same(pipeline_base, codes):
    painter = VqPainter.from_pretrained(codes)
    assert painter.image_size == 64 and painter.side == 16 and painter.num_samples == 2
    assert not moved(pipeline_base / "painter" / "vae", codes / "vae")
    assert json.loads((codes / "report.json").read_text())["measures"]["dev_v"] > 0
    before = weights(codes)
    again = weights(train("world_codes", codes.parent, resume=True))
    assert all(torch.equal(value, again[name]) for name, value in before.items())


@pytest.mark.parametrize("ranked", [True, False])
def test_codes_of_photos_in_files_take_a_ranker_that_is_there(
    pipeline_base, photos, codes, tmp_path, ranked
):
    settings = [f"start={pipeline_base}", f"photos=folder:{photos}", *CODES]
    settings += ["num_photos=6", "num_held=2", "vq.batch_size=2", "translator.batch_size=2"]
    settings += [f"ranker={codes.parent / 'ranker' / 'model'}"] if ranked else []
    painter = VqPainter.from_pretrained(out := train("photo_codes", tmp_path, *settings))
    assert (painter.rank is not None, painter.num_samples) == (ranked, 2 if ranked else 1)
    data = json.loads((out / "report.json").read_text())["data"]
    assert (data["photos"], data["held_out"]) == (6, 2)


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
    losses = task.losses([0, 1], generator=torch.Generator())
    assert set(losses) == {"latents", "codes"}
    sum(losses.values()).backward()
    for part in (vq.encoder.conv_in, vq.decoder.conv_out, vq.quantize.embedding):
        assert bool(part.weight.grad.abs().sum() > 0)  # through the choice of a code as well


def test_the_loss_of_held_out_photos_does_not_depend_on_how_many_go_at_once(codes, monkeypatch):
    painter = VqPainter.from_pretrained(codes)
    held = np.random.default_rng(0).integers(0, 20, (5, painter.side**2)).astype(np.int16)
    captions = [f"thing {number}" for number in range(5)]
    task = TranslatorTask(painter, held, lambda index, rng: captions[index], held, captions)
    whole = task.validate()
    with torch.no_grad():
        loss = painter.codes_loss(painter.text.encode(captions), torch.from_numpy(held).long())
    monkeypatch.setattr(pretrain_tasks, "AT_ONCE", 2)  # 2, 2 and 1
    assert task.validate() == pytest.approx(whole) == {"dev_v": pytest.approx(float(loss))}


# ------------------------------------------------------------------------------------------ CLIP


def test_a_contrastive_run_is_a_clip_of_the_library(tmp_path):
    settings = ["num_photos=12", "num_held=6", *RANKER, "stage.evaluate_every=1"]
    out = train("world_contrastive", tmp_path, *settings)
    assert CLIPModel.from_pretrained(out, use_safetensors=True).config.projection_dim == 64
    report = json.loads((out / "report.json").read_text())
    assert all(0 <= share <= 1 for share in report["measures"].values())
    assert report["measures"]["held_out_r10"] == 1  # of six
