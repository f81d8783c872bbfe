"""Llama-3.2-Vision out of its own folder: it says of photos what the library says of them."""

from __future__ import annotations

import json

import pytest
import torch
from hub_llms import write_hub_llm
from hub_vision_folders import NUM_WORDS, write_hub_vision
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from showtell.batch import collate, stacked, to_pixels
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import CheckpointError, ConfigError
from showtell.models.cross_attention import has_cross_attention
from showtell.models.decoder import Decoder
from showtell.models.hub_photos import hub_photo_encoder
from showtell.models.language import LanguageModel
from showtell.prompt import RendererConfig
from showtell.recipes import run_recipe
from showtell.recipes.assemble import words_first
from showtell.recipes.hub_parts import with_marks

IMAGE = NUM_WORDS
SIZES = {"broad": (150, 40), "square": (50, 48), "high": (30, 90), "two by two": (100, 90)}


def picture(size) -> Image.Image:
    noise = torch.rand(size[1], size[0], 3, generator=torch.Generator().manual_seed(sum(size)))
    return Image.fromarray((noise * 255).byte().numpy())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(its folder, the library's own model)"""
    return write_hub_vision(tmp_path_factory.mktemp("hub"), "llama_vision")


@pytest.fixture(scope="module")
def model(whole):
    language = LanguageModel.from_pretrained(whole[0])
    language.check()
    encoder = hub_photo_encoder(whole[0], language_width=language.width)
    with_marks(language, seed=0, template="chat", photo=encoder.photo_token)
    settings = RendererConfig(num_photo_tokens=1, template="chat", photo_token=encoder.photo_token)
    return words_first(language, settings, photo_encoder=encoder, name="eyes").eval()


@torch.no_grad()
def logits_of(model, ids_BT, images) -> torch.Tensor:
    encoder = model.photo_encoder
    pixels_P3HW = stacked([to_pixels(encoder.look(each)) for row in images for each in row])
    row_P, start_P = (torch.tensor(ids_BT) == IMAGE).nonzero(as_tuple=True)
    embeds_BTD, photos = model.put_photos(
        model.language.embed(torch.tensor(ids_BT)),
        encoder(pixels_P3HW),
        row_P=row_P,
        start_P=start_P,
    )
    return model.language.head(model.language.hidden(embeds_BTD, None, photos=photos))


@torch.no_grad()
def library_says(whole, ids_BT, images) -> torch.Tensor:
    folder, library = whole
    given = AutoImageProcessor.from_pretrained(folder, backend="pil")(images, return_tensors="pt")
    mask = convert_sparse_cross_attention_mask_to_dense(
        [get_cross_attention_token_mask(ids, IMAGE) for ids in ids_BT],
        num_tiles=[[int(n) for n in row if n] for row in given["aspect_ratio_mask"].sum(-1)],
        max_num_tiles=4,
        length=len(ids_BT[0]),
    )
    names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
    said = library(
        input_ids=torch.tensor(ids_BT),
        cross_attention_mask=torch.tensor(mask),
        **{name: given[name] for name in names},
    )
    return said.logits


WORDS = list(range(20, 32))


@pytest.mark.parametrize(
    ("ids_BT", "sizes"),
    [
        ([[IMAGE, 1, *WORDS]], [["square"]]),
        ([[IMAGE, 1, *WORDS]] * 2, [["broad"], ["high"]]),
        ([[IMAGE, IMAGE, *WORDS]], [["broad", "two by two"]]),
        ([[IMAGE, *WORDS[:5], IMAGE, *WORDS[5:]]] * 2, [["high", "square"], ["square", "broad"]]),
    ],
)
def test_logits_are_the_librarys_for_photos_of_any_shape(whole, model, ids_BT, sizes):
    images = [[picture(SIZES[size]) for size in row] for row in sizes]
    want_BTV = library_says(whole, ids_BT, images)
    got_BTV = logits_of(model, ids_BT, images)[..., :NUM_WORDS]
    torch.testing.assert_close(got_BTV, want_BTV, rtol=1e-4, atol=1e-4)
    others = [[picture((w + 9, h + 7)) for w, h in map(SIZES.get, row)] for row in sizes]
    assert (logits_of(model, ids_BT, others)[..., :NUM_WORDS] - got_BTV).abs().max() > 1e-3


@pytest.mark.parametrize("size", SIZES.values())
def test_a_photo_is_cut_into_the_librarys_tiles(whole, model, size):
    given = AutoImageProcessor.from_pretrained(whole[0], backend="pil")(
        picture(size), return_tensors="pt"
    )
    look = model.photo_encoder.look
    broad = torch.full((3, 32, 128), torch.nan)
    pixels_P3HW = stacked([to_pixels(look(picture(size))), broad[:, :, :32].nan_to_num(), broad])
    tiles_PM3HW, number_P, there_PM = model.photo_encoder.tiles(pixels_P3HW[:2])
    torch.testing.assert_close(tiles_PM3HW[0], given["pixel_values"][0, 0])
    assert int(number_P[0]) == int(given["aspect_ratio_ids"])
    assert there_PM[0].long().tolist() == given["aspect_ratio_mask"][0, 0].tolist()
    assert (int(number_P[1]), there_PM[1].tolist()) == (1, [True, False, False, False])
    assert look(look(picture(size))) == look(picture(size))


def test_shut_gates_see_nothing(whole):
    language = LanguageModel.from_pretrained(whole[0])
    assert has_cross_attention(language)
    encoder = hub_photo_encoder(whole[0], language_width=language.width)
    ids = [[IMAGE, 1, *WORDS]]
    seen = [encoder(to_pixels(encoder.look(picture(size)))[None]) for size in ((50, 48), (90, 30))]
    assert not torch.equal(*seen)
    with torch.no_grad():
        for name, value in language.model.named_parameters():
            if name.endswith(("attn_gate", "mlp_gate")):
                assert value.abs() > 0
                value.zero_()
    with_marks(language, seed=0, template="chat", photo="<|image|>")
    settings = RendererConfig(num_photo_tokens=1, template="chat", photo_token="<|image|>")
    model = words_first(language, settings, photo_encoder=encoder).eval()
    one, other = (logits_of(model, ids, [[picture(size)]]) for size in ((50, 48), (90, 30)))
    torch.testing.assert_close(one, other)


def test_answering_reads_with_a_cache_what_is_read_at_once(model, tmp_path):
    """A photo of the user's, one that the agent shares, then words: each sees the last one."""
    photos = []
    for number, size in enumerate(SIZES.values()):
        picture(size).save(tmp_path / f"{number}.png")
        path = str(tmp_path / f"{number}.png")
        photos.append(Photo(id=str(number), caption="a dog", path=path))
    talk = (
        Turn(speaker=USER, elements=("look", *photos[:2])),
        Turn(speaker=AGENT, elements=(photos[2],)),
    )
    renderer, decoder = model.renderer, Decoder(model)
    pixels = {p.id: to_pixels(model.photo_encoder.look(photo_image(p))) for p in photos}
    row = renderer.render_turns(talk)
    pad_id = model.language.tokenizer.pad_token_id
    batch = collate([row], pad_id=pad_id, pixels_of=lambda photo: pixels[photo.id], paint=False)
    end = row.seen[-1].start
    with torch.no_grad():
        want_TD = model.states(batch).hidden_BTD[0]
    images = {p.id: photo_image(p) for p in photos}
    writing, _ = decoder.read_all([talk[:1]], [images])
    decoder.open_turn(writing)
    decoder.push(writing, [renderer.open, *renderer.words("a dog"), renderer.close])
    torch.testing.assert_close(writing.hidden_BD[0], want_TD[end - 1], rtol=1e-4, atol=1e-4)
    decoder.push_photos(writing, [images["2"]], writing.all_rows_B)
    torch.testing.assert_close(writing.hidden_BD[0], want_TD[end], rtol=1e-4, atol=1e-4)
    decoder.push(writing, row.ids[end + 1 :])
    torch.testing.assert_close(writing.hidden_BD[0], want_TD[-1], rtol=1e-4, atol=1e-4)


def test_its_own_token_stands_for_a_photo_and_is_never_said(model):
    renderer = model.renderer
    assert renderer.photo == IMAGE in renderer.special
    assert "<|photo|>" not in model.language.tokenizer.get_vocab()
    logits_1V = model.language.head(model.language.embed(torch.tensor([IMAGE])))
    assert logits_1V.shape[-1] == len(model.language.tokenizer)
    assert float(logits_1V.detach().softmax(-1)[0, IMAGE]) == 0


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("vision_model.patch_embedding.weight", "patch_embedding.weight is missing"),
        ("multi_modal_projector.bias", "bias is missing"),
        ("+vision_model.extra", "vision_model.extra finds no place"),
        ("+audio_model.extra", "audio_model.extra finds no place"),
        ("config.json", "name the same folder as language"),
        ("preprocessor_config.json", "2 tiles.*sees 4"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, file, says):
    folder, _ = write_hub_vision(tmp_path, "llama_vision")
    width = 32
    if file == "preprocessor_config.json":
        told = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**told, "max_image_tiles": 2}))
    elif file == "config.json":
        width = 48
    else:
        weights = load_file(folder / "model.safetensors")
        if file.startswith("+"):
            weights[file[1:]] = torch.ones(3)
        else:
            del weights[file]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises((CheckpointError, ConfigError), match=says):
        hub_photo_encoder(folder, language_width=width)
    if file.startswith("+audio"):
        with pytest.raises(CheckpointError, match="audio_model.extra finds no place"):
            LanguageModel.from_pretrained(folder)


def test_its_eyes_need_its_own_language_model_and_no_other_settings(whole, tmp_path):
    opt = write_hub_llm(tmp_path / "opt", "opt")
    settings = [f"language={opt}", f"vision={whole[0]}", "painter=none"]
    with pytest.raises(ConfigError, match="no cross-attention layers.*same folder as language"):
        run_recipe("parts", overrides=settings, out=tmp_path / "run", resume=False)
    with pytest.raises(ConfigError, match="leave photo_encoder"):
        hub_photo_encoder(whole[0], language_width=32, kind="linear")
