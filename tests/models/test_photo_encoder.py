"""PhotoEncoders: what they give, what moves, and that a folder gives the same one back."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    ViTConfig,
    ViTModel,
)

from showtell.errors import CheckpointError
from showtell.models.photo_encoder import (
    CrossAttentionPhotoEncoder,
    LinearPhotoEncoder,
    QFormerPhotoEncoder,
    load_photo_encoder,
)

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 16,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def vit() -> ViTModel:
    return ViTModel(ViTConfig(**SIZES), add_pooling_layer=False)


def linear(vision=None, **settings) -> LinearPhotoEncoder:
    vision = vision or vit()
    return LinearPhotoEncoder(vision=vision, num_tokens=4, language_width=6, **settings)


def qformer(**settings) -> QFormerPhotoEncoder:
    config = Blip2QFormerConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        encoder_hidden_size=16,
        cross_attention_frequency=1,
        vocab_size=1,
    )
    return QFormerPhotoEncoder(
        vision=vit(),
        qformer=Blip2QFormerModel(config),
        num_tokens=4,
        language_width=6,
        **settings,
    )


def cross_attention() -> CrossAttentionPhotoEncoder:
    return CrossAttentionPhotoEncoder(vision=vit(), language_width=6)


KINDS = {"linear": linear, "qformer": qformer, "cross_attention": cross_attention}


def photos(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side)


def test_the_linear_photo_encoder_is_a_linear_map_of_one_feature():
    photo_encoder, pixels = linear(), photos()
    features_PF = photo_encoder.features(pixels)
    assert features_PF.shape == (2, photo_encoder.feature_width) == (2, 16)
    want = features_PF @ photo_encoder.project.weight.T + photo_encoder.project.bias
    torch.testing.assert_close(photo_encoder(pixels), want.reshape(2, 4, 6))


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_the_feature_is_the_cls_state_of_a_vit_and_the_pooled_output_of_clip(kind):
    pixels = photos()
    if kind == "vit":
        vision = vit().eval()
        want = vision(pixel_values=pixels * 2 - 1).last_hidden_state[:, 0]
        photo_encoder = linear(vision)
    else:
        vision = CLIPVisionModel(CLIPVisionConfig(**SIZES)).eval()
        mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
        want = vision(pixel_values=(pixels - mean) / std).pooler_output
        photo_encoder = linear(vision, mean=MEAN, std=STD)
    torch.testing.assert_close(photo_encoder.features(pixels), want.detach())


def test_the_vision_encoder_stays_frozen_and_in_evaluation():
    config = ViTConfig(**SIZES, hidden_dropout_prob=0.5)
    photo_encoder = linear(ViTModel(config, add_pooling_layer=False)).train()
    pixels = photos()
    torch.testing.assert_close(photo_encoder(pixels), photo_encoder(pixels))
    photo_encoder(pixels).sum().backward()
    moving = {name for name, p in photo_encoder.named_parameters() if p.requires_grad}
    assert moving == {"project.weight", "project.bias"}
    assert photo_encoder.project.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in photo_encoder.vision.parameters())


@pytest.mark.parametrize("name", KINDS)  # Llama-Vision's stands in test_llama_vision.py
def test_any_photo_encoder_gives_q_tokens_of_the_llms_width_for_any_size(name):
    photo_encoder = KINDS[name]().eval()
    assert (photo_encoder.num_tokens, photo_encoder.language_width) == (
        1 if photo_encoder.attended else 4,
        6,
    )
    for side in (32, 64):
        # what is attended to is every state: CLS and patches of 16 pixels
        count = 1 + (side // 16) ** 2 if photo_encoder.attended else 4
        assert photo_encoder(photos(side=side)).shape == (2, count, 6)
        features_PF = photo_encoder.features(photos(side=side))
        assert features_PF.shape == (2, photo_encoder.feature_width)
        assert not features_PF.requires_grad


@pytest.mark.parametrize("name", KINDS)
def test_photos_do_not_see_one_another(name):
    photo_encoder = KINDS[name]().eval()
    pixels = photos(3)
    torch.testing.assert_close(
        photo_encoder(pixels)[1:2], photo_encoder(pixels[1:2]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["qformer", "vit", "clip", "cross_attention"])
def test_a_folder_gives_the_same_photo_encoder_back(tmp_path, kind):
    if kind in ("qformer", "cross_attention"):
        photo_encoder = KINDS[kind]()
    elif kind == "vit":
        # with a pooler, which nothing reads and the folder need not keep
        photo_encoder = linear(ViTModel(ViTConfig(**SIZES)))
    else:
        clip = CLIPVisionModel(CLIPVisionConfig(**SIZES))
        photo_encoder = linear(clip, mean=MEAN, std=STD)
    photo_encoder.eval()
    photo_encoder.save_pretrained(tmp_path)
    files = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}
    again = load_photo_encoder(tmp_path).eval()
    assert type(again) is type(photo_encoder)
    pixels = photos()
    torch.testing.assert_close(again(pixels), photo_encoder(pixels))
    torch.testing.assert_close(again.features(pixels), photo_encoder.features(pixels))
    half = load_photo_encoder(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_the_pixel_statistics_are_used_and_kept(tmp_path):
    found = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    photo_encoder, pixels = qformer(**found).eval(), photos()
    photo_encoder.save_pretrained(tmp_path)
    again = load_photo_encoder(tmp_path).eval()
    torch.testing.assert_close(again(pixels), photo_encoder(pixels))
    mean, std = (torch.tensor(each)[:, None, None] for each in found.values())
    want = photo_encoder.vision(pixel_values=(pixels - mean) / std).last_hidden_state[:, 0]
    torch.testing.assert_close(again.features(pixels), want.detach())


def test_a_broken_folder_says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match="wanted perceptron.json .*projection.*qformer/"):
        load_photo_encoder(tmp_path)
    linear().save_pretrained(tmp_path)
    (tmp_path / "projection.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="one of vit, clip_vision_model.*again"):
        load_photo_encoder(tmp_path)
    (tmp_path / "perceptron.json").write_text(json.dumps({"perceptron": "liner"}))
    with pytest.raises(CheckpointError, match="KeyError.*one of qformer, linear"):
        load_photo_encoder(tmp_path)
