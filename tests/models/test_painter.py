"""The painter's text tower takes soft tokens; models survive the way to disk, and only whole."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from conftest import responder_of
from showtell.dialogue import USER, Turn
from showtell.errors import CheckpointError, ConfigError
from showtell.metrics.report import model_digest
from showtell.models.checkpoint import load_model_folder, save_model
from showtell.models.parts import Conditioning
from showtell.models.reply import Preview
from showtell.papers import read_bridge


def test_one_hot_rows_give_what_ids_give_and_let_the_gradient_through(tiny_end_to_end):
    text = tiny_end_to_end.painter.text
    tokens = text.tokenize(["a red dog at the beach", ""])
    onehot = F.one_hot(tokens.ids_NS, len(text.tokenizer)).float().requires_grad_()
    soft = text(tokens, onehot @ text.token_table_UC)
    torch.testing.assert_close(soft, text(tokens), atol=1e-6, rtol=0)
    soft.square().sum().backward()
    assert float(onehot.grad.abs().sum()) > 0


def test_a_long_caption_is_cut_and_offsets_name_its_characters(tiny_end_to_end):
    text = tiny_end_to_end.painter.text
    caption = "a red dog beside a bridge " * 30
    tokens = text.tokenize([caption, "Two Cats"])
    assert tokens.ids_NS.shape == (2, text.length)
    spans = [tuple(o) for o in tokens.offsets_NS2[1][tokens.content_NS[1]].tolist()]
    assert "".join("Two Cats"[a:b] for a, b in spans) == "TwoCats"


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("snr_gamma", [None, 5.0])
def test_the_loss_is_zero_for_a_denoiser_that_knows(tiny_end_to_end, rng, kind, snr_gamma):
    painter = tiny_end_to_end.painter
    latents = torch.randn(2, 4, 32, 32, generator=rng)
    cond = painter.text.encode(["a", "b"])
    painter.scheduler.register_to_config(prediction_type=kind)
    alphas = painter.scheduler.alphas_cumprod

    def knows(noisy, steps, cond_NSC, *, guidance):
        assert noisy.dtype == torch.float32
        alpha = alphas[steps].view(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * latents) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        told = {"epsilon": noise, "v_prediction": velocity, "sample": latents}
        return told[kind]

    painter.predict = knows
    # what a VAE gives under autocast has few digits, and the noise keeps its own
    loss = painter.latent_loss(cond, latents, generator=rng, snr_gamma=snr_gamma)
    assert float(loss) < 1e-6
    coarse = latents.bfloat16()
    latents = coarse.float()
    assert float(painter.latent_loss(cond, coarse, generator=rng)) < 1e-6


@pytest.mark.parametrize("steps", [1, 48, 61, 122])
def test_as_many_steps_are_painted_as_were_asked_for(tiny_end_to_end, steps, monkeypatch):
    painter, times, heard = tiny_end_to_end.painter, [], []
    forward = type(painter.unet).forward

    def seen(self, noisy, time, *rest, **more):
        times.append(int(time))
        return forward(self, noisy, time, *rest, **more)

    monkeypatch.setattr(type(painter.unet), "forward", seen)
    painter.paint(
        Conditioning(cond_NSC=painter.text.encode(["a dog"])),
        num_steps=steps,
        guidance=1.0,
        seeds=[1],
        callback=lambda step, latents: heard.append(step),
    )
    assert heard == list(range(1, steps + 1)) and len(times) == steps and times[-1] >= 0
    with pytest.raises(ConfigError, match="num_steps is 0; wanted 1 to 1000"):
        painter.paint(Conditioning(cond_NSC=None), num_steps=0, guidance=1.0, seeds=[1])


def test_what_is_known_of_a_photo_on_the_way_ends_as_the_photo(tiny_end_to_end):
    painter, heard = tiny_end_to_end.painter, []
    photo = painter.paint(
        Conditioning(cond_NSC=painter.text.encode(["a dog"])),
        num_steps=8,
        guidance=1.0,
        seeds=[1],
        callback=lambda step, clean: heard.append(painter.decode_photos(clean)),
    )
    away = [float((each - photo).abs().mean()) for each in heard]
    assert away[-1] < 1e-4 < away[0] and len(heard) == 8


def test_previews_are_told_with_images_and_a_listener_that_leaves_ends_the_painting(
    tiny_end_to_end,
):
    responder, told = responder_of(tiny_end_to_end, share_threshold=0.0, num_steps=8), []
    turns = (Turn(speaker=USER, elements=("hi",)),)
    responder.respond(turns, images={}, seed=1, tell=told.append)
    steps = [event for event in told if isinstance(event, Preview)]
    assert [event.step for event in steps] == list(range(1, 9))
    assert [event.step for event in steps if event.image is not None] == [1, 4, 6]

    class Gone(Exception):
        pass

    def leave(event):
        told.append(event)
        if isinstance(event, Preview):
            raise Gone

    told.clear()
    with pytest.raises(Gone):
        responder.respond(turns, images={}, seed=1, tell=leave)
    assert sum(isinstance(event, Preview) for event in told) == 1


@pytest.fixture
def saved(tiny_model, tmp_path):
    save_model(tiny_model, tmp_path / "model", recipe={"name": "test"})
    return tmp_path / "model"


def test_a_saved_model_paints_and_speaks_the_same(tiny_model, saved):
    again = load_model_folder(saved, bridge_of=read_bridge)
    assert type(again.bridge) is type(tiny_model.bridge)
    one, two = (responder_of(m).paint_captions(["a dog"], seeds=[1]) for m in (tiny_model, again))
    assert torch.equal(one, two)
    old, new = (dict(m.language.named_parameters()) for m in (tiny_model, again))
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert not list(saved.rglob("*.bin")) and not list(saved.rglob("*.pkl"))


def test_saving_again_replaces_whole_and_the_digest_follows_the_weights(tiny_model, saved):
    before = model_digest(saved)
    save_model(tiny_model, saved, recipe={"name": "test"})
    assert model_digest(saved) == before
    with torch.no_grad():
        next(tiny_model.language.parameters()).add_(1)
    save_model(tiny_model, saved, recipe={"name": "test"})
    assert model_digest(saved) != before
    assert sorted(p.name for p in saved.parent.iterdir()) == ["model"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: (m / "showtell.json").unlink(),
        lambda m: (m / "showtell.json").write_text("{"),
        lambda m: (m / "showtell.json").write_text(json.dumps({"format": 99})),
        lambda m: next((m / "language_model").glob("*.safetensors")).write_bytes(b"\x00" * 9),
        lambda m: next((m / "painter/unet").glob("*.safetensors")).write_bytes(b""),
        lambda m: (m / "painter/vae/config.json").unlink(),
        lambda m: (m / "perceptron/projection.safetensors").unlink(),
    ],
)
def test_a_damaged_model_is_a_clear_error(saved, damage):
    damage(saved)
    with pytest.raises(CheckpointError, match="again|train|recipes"):
        load_model_folder(saved, bridge_of=read_bridge)
