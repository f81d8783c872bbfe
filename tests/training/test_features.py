"""Frozen encoders are run once: what is kept gives the same losses, and is never another's."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch

from conftest import build_model
from photoworld.talk import world_dialogue
from showtell.recipes.assemble import reading_linearly
from showtell.training.dialogue_task import DialogueTask
from showtell.training.examples import square_pixels
from showtell.training.features import FeatureStore, features_kept
from showtell.training.loop import run_stage
from showtell.training.stage import Stage

STILL = {"painter": 0.0, "photo_encoder.vision": 0.0}
STAGE = Stage(
    name="kept",
    steps=4,
    batch_size=4,
    learning_rates=STILL,
    warmup=1,
    autocast=False,
    weights={"t": 1.0, "v": 1.0, "moment": 0.5, "caption": 0.5},
)


def task(tokenizers, *, linear=False):
    torch.manual_seed(0)
    model = build_model(tokenizers, bridge="dvtm")
    if linear:
        model = reading_linearly(model, num_tokens=2)
    pixels = partial(square_pixels, side=64)
    return DialogueTask(model, world_dialogue, length=8, pixels_of=pixels)


def counted(model):
    """How often each encoder is run, photo by photo."""
    counts = dict.fromkeys(("vae", "vision"), 0)
    for name, part in (("vae", model.painter.vae.encoder), ("vision", model.photo_encoder.vision)):

        def count(module, args, kwargs, out, name=name):
            counts[name] += len(args[0] if args else kwargs["pixel_values"])

        inner = part if name == "vae" else part.embeddings
        inner.register_forward_hook(count, with_kwargs=True)
    return counts


@pytest.mark.parametrize("linear", [False, True])
def test_kept_features_train_as_encoders_in_the_loop_and_run_them_once(
    tmp_path, tokenizers, linear
):
    found = []
    for folder in (None, "features", "features"):
        own = task(tokenizers, linear=linear)
        counts = counted(own.module)
        stage = Stage(**{**STAGE.__dict__, "features": folder and str(tmp_path / folder)})
        (tmp_path / "run").mkdir(exist_ok=True)
        history = run_stage(stage, own, out=tmp_path / "run", resume=False)
        found.append((history[-1], dict(own.module.named_parameters()), counts))
    (plain, weights, often), (first, kept, once), (_, again, never) = found
    for name in STAGE.weights:
        assert first[name] == pytest.approx(plain[name], rel=1e-4), name
    for name, value in weights.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-3, atol=1e-5, msg=name)
        assert torch.equal(again[name], kept[name]), name
    assert all(0 < once[key] < often[key] and never[key] == 0 for key in often)


def test_another_encoder_and_other_pixels_have_features_of_their_own(tmp_path, tokenizers):
    model = task(tokenizers).module.requires_grad_(False)
    pixels = torch.rand(2, 3, 64, 64)

    def moments(photos):
        with features_kept(model, tmp_path):
            return model.painter.vae.encode(photos).latent_dist.parameters

    first = moments(pixels)
    torch.testing.assert_close(first, model.painter.vae.encode(pixels).latent_dist.parameters)
    assert torch.equal(moments(pixels.flip(0)), first.flip(0))
    assert not torch.equal(moments(pixels + 1e-6), first)
    with torch.no_grad():
        model.painter.vae.quant_conv.bias.add_(1.0)
    torch.testing.assert_close(moments(pixels), model.painter.vae.encode(pixels)[0].parameters)
    assert not torch.equal(moments(pixels), first)


def test_what_searches_an_album_sees_the_same_feature(tmp_path, tokenizers):
    for linear in (False, True):
        eyes = task(tokenizers, linear=linear).module.requires_grad_(False)
        features, pixels = eyes.photo_encoder.features, torch.rand(2, 3, 64, 64)
        with features_kept(eyes, tmp_path):
            kept = features(pixels)
        torch.testing.assert_close(kept, features(pixels))


def test_an_encoder_that_moves_is_run_each_time(tmp_path, tokenizers):
    model = task(tokenizers).module.requires_grad_(True)
    with features_kept(model, tmp_path) as store:
        model.painter.vae.encode(torch.rand(2, 3, 64, 64))
        model.photo_encoder(torch.rand(2, 3, 64, 64))
        assert store.computed == 0
    assert not list(tmp_path.iterdir())


def test_captions_are_kept_by_their_words(tmp_path, tokenizers):
    model = task(tokenizers).module.requires_grad_(False)
    captions = ["a red dog", "two cakes", "a red dog"]
    with features_kept(model, tmp_path) as store:
        first = model.painter.text.encode(captions)
        assert store.computed == 2
    torch.testing.assert_close(first, model.painter.text.encode(captions))
    with features_kept(model, tmp_path) as store:
        assert torch.equal(model.painter.text.encode(captions), first)
        assert store.computed == 0


def test_what_a_killed_run_wrote_is_gone_on_with_and_a_damaged_shard_is_computed_again(
    tmp_path, capsys
):
    def rows(store, numbers):
        return store.rows(
            "e", [str(n).encode() for n in numbers], lambda which: made(numbers, which)
        )

    def made(numbers, which):
        return torch.tensor([[float(numbers[n])] * 4 for n in which])

    store = FeatureStore(tmp_path, shard_bytes=32)
    for start in (0, 2, 4):
        rows(store, [start, start + 1])
    rows(store, [9])  # waits, and is lost
    assert len(shards := sorted(tmp_path.glob("*.safetensors"))) == 3
    half = tmp_path / f".features.{'0' * 32}.part"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    again = FeatureStore(tmp_path)
    assert rows(again, range(6)).tolist() == [[float(n)] * 4 for n in range(6)]
    assert again.computed == 0 and not list(tmp_path.glob(".*"))
    shards[0].write_bytes(shards[0].read_bytes()[:-3])
    hurt = FeatureStore(tmp_path)
    assert "is damaged" in capsys.readouterr().err
    assert rows(hurt, range(6)).tolist() == [[float(n)] * 4 for n in range(6)]
    assert hurt.computed == 2
