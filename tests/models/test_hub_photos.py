"""What sees photos, out of the hub's folders: it sees what the library sees, learns, and talks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hub_llms import write_hub_llm
from hub_vision_folders import FAMILIES, MEAN, STD, write_hub_vision
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, Blip2QFormerModel

from conftest import responder_of
from showtell.batch import collate, to_pixels
from showtell.config import override
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import CheckpointError, ConfigError
from showtell.models.checkpoint import save_model
from showtell.models.gold import read_gold, seen_images, seen_pixels
from showtell.models.hub_photos import hub_photo_encoder
from showtell.models.photo_encoder import load_photo_encoder
from showtell.papers import load_model
from showtell.recipes import run_recipe
from showtell.recipes.hub_parts import PARTS as PARTS_RECIPE

WHOLE = ("vit", "clip", "siglip", "blip2", "llama_vision")


def picture(size=(90, 60), seed: int = 0) -> Image.Image:
    noise = torch.rand(3, size[1] // 5, size[0] // 5, generator=torch.Generator().manual_seed(seed))
    small = (noise * 255).byte().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(small).resize(size)


@pytest.fixture(scope="module", params=[each for each in FAMILIES if each != "llama_vision"])
def hub(request, tmp_path_factory):
    """(family, its folder, the library's own model)"""
    return request.param, *write_hub_vision(tmp_path_factory.mktemp("hub"), request.param)


@torch.no_grad()
def test_it_sees_what_the_library_sees(hub):
    family, folder, model = hub
    encoder = hub_photo_encoder(folder, language_width=32, qformer_layers=1).eval()
    images = [picture(), picture((50, 80), 1)]
    given = AutoImageProcessor.from_pretrained(folder, backend="pil")(images, return_tensors="pt")
    looked = [encoder.look(image) for image in images]
    pixels_P3HW = torch.stack([to_pixels(each) for each in looked])
    torch.testing.assert_close(encoder.normalized(pixels_P3HW), given["pixel_values"])
    assert [encoder.look(each) for each in looked] == looked
    assert (encoder.mean, encoder.std) == (tuple(MEAN), tuple(STD))
    if family == "blip2":
        said = model.get_image_features(**given).pooler_output
        torch.testing.assert_close(encoder(pixels_P3HW), said, rtol=1e-4, atol=1e-4)
        want = model.vision_model(**given).last_hidden_state[:, 0]
    elif family.startswith("vit"):
        want = getattr(model, "vit", model)(**given).last_hidden_state[:, 0]
    else:
        want = getattr(model, "vision_model", model)(**given).pooler_output
    torch.testing.assert_close(encoder.features(pixels_P3HW), want, rtol=1e-4, atol=1e-4)


def test_a_folder_gives_it_back_with_its_look_and_its_type(hub, tmp_path):
    _, folder, _ = hub
    encoder = hub_photo_encoder(
        folder, language_width=32, qformer_layers=1, dtype=torch.bfloat16
    ).eval()
    encoder.save_pretrained(tmp_path)
    again = load_photo_encoder(tmp_path, dtype=torch.bfloat16).eval()
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    pixels_P3HW = to_pixels(again.look(picture()))[None]
    assert again.look(picture()) == encoder.look(picture())
    with torch.no_grad():
        assert torch.equal(again(pixels_P3HW), encoder(pixels_P3HW))


def test_bf16_stays_bf16(tmp_path):
    folder, model = write_hub_vision(tmp_path, "blip2", dtype=torch.bfloat16)
    encoder = hub_photo_encoder(folder, language_width=32, dtype="auto")
    assert {p.dtype for p in encoder.parameters()} == {torch.bfloat16}
    assert torch.equal(encoder.queries_QC, model.query_tokens[0])


# ------------------------------------------------------------------------------------- in a model


@pytest.mark.parametrize("family", WHOLE)
def test_a_model_of_it_is_trained_saved_loaded_and_talks(tmp_path, family):
    write_hub_vision(tmp_path / "vision", family)
    settings = [f"vision={tmp_path / 'vision'}", "painter=none", "qformer_layers=1"]
    if family == "llama_vision":
        settings += [f"language={tmp_path / 'vision'}", "template=chat"]
    else:
        settings += [f"language={write_hub_llm(tmp_path / 'language', 'opt')}"]
        settings += [] if family == "blip2" else ["num_photo_tokens=3"]
    run = run_recipe("parts", overrides=settings, out=tmp_path / "run", resume=False)
    model = load_model(str(run))
    model.decoding = replace(model.decoding, max_new_tokens=4)
    kind = {"clip": "Linear", "siglip": "Linear", "llama_vision": "LlamaVision"}
    assert type(model.photo_encoder).__name__.startswith(kind.get(family, "QFormer"))
    picture().save(tmp_path / "p.png")
    photo = Photo(id="p", caption="a dog", path=str(tmp_path / "p.png"))
    talk = (
        Turn(speaker=USER, elements=("look", photo)),
        Turn(speaker=AGENT, elements=("a dog at the beach",)),
    )
    batch = collate(
        [model.renderer.render_turns(talk)],
        pad_id=model.language.tokenizer.pad_token_id,
        pixels_of=seen_pixels(model),
        paint=False,
    )
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(moving, lr=0.01), []
    for _ in range(2):
        loss = model.train()(batch, generator=torch.Generator().manual_seed(0))["t"]
        loss.backward()
        assert model.photo_encoder.project.weight.grad.abs().max() > 0
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    save_model(model.eval(), tmp_path / "m", recipe={})
    again = load_model(str(tmp_path / "m"))
    with torch.no_grad():
        assert torch.equal(again.states(batch).hidden_BTD, model.states(batch).hidden_BTD)
        dark = replace(batch, seen_pixels_P3HW=torch.zeros_like(batch.seen_pixels_P3HW))
        assert not torch.equal(again.states(dark).hidden_BTD, again.states(batch).hidden_BTD)
    images = seen_images(again, talk)
    assert images["p"] == again.photo_encoder.look(photo_image(photo))
    replies = [
        responder_of(each, max_new_tokens=4, share_threshold=1.0).respond(
            talk[:1], images={"p": photo_image(photo)}, seed=0
        )
        for each in (model, again)
    ]
    assert replies[0].turns == replies[1].turns and replies[0].turns
    gold = [read_gold(each, [Dialogue(id="d", turns=talk)]) for each in (model, again)]
    assert gold[0].perplexity == gold[1].perplexity > 1


# ---------------------------------------------------------------------------- what does not fit

PARTS = {
    "vit": ("encoder.layer.1.", "layernorm.weight"),
    "clip": ("vision_model.encoder.layers.1.", "vision_model.post_layernorm.weight"),
    "siglip": ("vision_model.encoder.layers.1.", "vision_model.head.probe"),
    "blip2": ("vision_model.encoder.layers.1.", "vision_model.post_layernorm.weight"),
    "blip2 Q-Former": ("qformer.encoder.layer.1.", "qformer.layernorm.weight"),
    "blip2 queries": ("", "query_tokens"),
    "blip2 projection": ("", "language_projection.weight"),
}


@pytest.mark.parametrize("fault", ["more", "less", "shape"])
@pytest.mark.parametrize("part", PARTS)
def test_a_weight_without_a_place_and_a_place_without_a_weight_are_errors(tmp_path, part, fault):
    folder, _ = write_hub_vision(tmp_path, part.split()[0])
    weights, (layer, name) = load_file(folder / "model.safetensors"), PARTS[part]
    said = name.split(".", 1)[-1] if part in ("clip", "siglip") else name
    if fault == "less":
        del weights[name]
    elif fault == "shape":
        weights[name] = weights[name].flatten()[:5].clone()
    elif not layer:
        weights["vision_projection.weight"], said = torch.ones(3), "vision_projection.weight"
    else:
        for key in [key for key in weights if key.startswith(layer)]:
            weights[key.replace(".1.", ".2.", 1)] = weights[key].clone()
        said = r"layers?\.2\."
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=said) as told:
        hub_photo_encoder(folder, language_width=32, qformer_layers=1)
    assert str(folder) in str(told.value)


def test_blip2s_projection_is_used_where_it_fits_else_refused_or_new(tmp_path):
    folder, model = write_hub_vision(tmp_path, "blip2")
    own = hub_photo_encoder(folder, language_width=32)
    assert torch.equal(own.project.weight, model.language_projection.weight)
    with pytest.raises(
        ConfigError, match="makes 32 numbers of 24.*want 48 numbers.*projection=new"
    ):
        hub_photo_encoder(folder, language_width=48)
    new = hub_photo_encoder(folder, language_width=48, projection="new")
    assert new.project.weight.shape == (48, 24)
    assert torch.equal(new.queries_QC, model.query_tokens[0])
    for name, value in model.qformer.named_parameters():
        assert torch.equal(new.qformer.get_parameter(name), value)
    with pytest.raises(ConfigError, match="num_photo_tokens is 3.*5 query tokens.*leave"):
        hub_photo_encoder(folder, language_width=32, num_tokens=3)
    alone = hub_photo_encoder(folder, language_width=48, kind="linear", num_tokens=3)
    assert not any(isinstance(each, Blip2QFormerModel) for each in alone.modules())


@pytest.fixture
def minigpt4(tmp_path):
    """Its projection as it was released: what a training kept, its settings and steps beside it."""
    torch.manual_seed(1)
    own = torch.nn.Linear(24, 48)
    kept = {f"llama_proj.{name}": value for name, value in own.state_dict().items()}
    path = tmp_path / "pretrained_minigpt4.pth"
    torch.save({"model": kept, "config": {"run": {"lr": 1e-4}}, "scaler": None, "iters": 3}, path)
    return path, own, kept


def test_minigpt4s_projection_stands_on_blip2s_qformer(tmp_path, minigpt4):
    path, own, kept = minigpt4
    folder, model = write_hub_vision(tmp_path / "blip2", "blip2")
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")(
        picture(), return_tensors="pt"
    )
    save_file(kept, tmp_path / "same.safetensors")
    for file in (path, tmp_path / "same.safetensors"):
        encoder = hub_photo_encoder(folder, language_width=48, projection=file).eval()
        assert torch.equal(encoder.project.bias, own.bias)
        with torch.no_grad():
            asked = model.get_image_features(**images).qformer_outputs.last_hidden_state
            got = encoder(to_pixels(encoder.look(picture()))[None])
            torch.testing.assert_close(got, own(asked), rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="makes 48 numbers of 24.*want 32 numbers"):
        hub_photo_encoder(folder, language_width=32, projection=path)
    vit, _ = write_hub_vision(tmp_path / "vit", "vit")
    with pytest.raises(ConfigError, match="no Q-Former of BLIP-2.*name a blip-2 as vision"):
        hub_photo_encoder(vit, language_width=48, qformer_layers=1, projection=path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda kept: kept.pop("llama_proj.bias"), "llama_proj.bias is missing"),
        (lambda kept: kept.update(proj=torch.ones(2)), "proj finds no place"),
        (lambda kept: kept.update({"llama_proj.bias": Turn}), "showtell.dialogue.Turn"),
        (None, "no file"),
    ],
)
def test_another_file_is_no_projection_of_minigpt4(tmp_path, minigpt4, change, says):
    path, _, kept = minigpt4
    folder, _ = write_hub_vision(tmp_path / "blip2", "blip2")
    if change is None:
        path.unlink()
    else:
        change(kept)
        torch.save({"model": kept}, path)
    with pytest.raises(CheckpointError, match=says):
        hub_photo_encoder(folder, language_width=48, projection=path)


def change(path, **settings) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize(
    ("file", "settings", "says"),
    [
        ("config.json", {"model_type": "bert"}, "model_type is bert.*wanted config.json of one of"),
        ("config.json", {"model_type": "siglip2"}, "model_type is siglip2"),
        ("preprocessor_config.json", None, "no preprocessor_config.json.*side, crop"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, "image_mean"),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}, "image_std"),
        ("preprocessor_config.json", {"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ("preprocessor_config.json", {"crop_size": 48}, "makes photos 48 x 48.*sees 32 x 32"),
    ],
)
def test_what_does_not_say_how_it_sees_is_refused(tmp_path, file, settings, says):
    folder, _ = write_hub_vision(tmp_path, "clip")
    if settings is None:
        (folder / file).unlink()
    else:
        change(folder / file, **settings)
    with pytest.raises(CheckpointError, match=says):
        hub_photo_encoder(folder, language_width=32)


def test_a_photo_of_extreme_shape_is_cut_before_it_is_enlarged(tmp_path):
    folder, _ = write_hub_vision(tmp_path, "clip")
    look = hub_photo_encoder(folder, language_width=32).own_look
    sizes, processor = [], look.processor

    def watched(image, **how):
        sizes.append(image.size)
        return processor(image, **how)

    look.processor = watched
    watched.do_center_crop = True
    assert look(Image.new("RGB", (6000, 8))).size == (32, 32)
    assert sizes == [(128, 8)]


def test_how_photos_are_read_is_a_choice_or_left_to_the_folder():
    for said, found in (("linear", "linear"), ("none", None)):
        assert override(PARTS_RECIPE, [f"photo_encoder={said}"]).photo_encoder == found
    with pytest.raises(ConfigError, match='did you mean "linear"'):
        override(PARTS_RECIPE, ["photo_encoder=liner"])
