"""Real photos from a folder: the three recipes from end to end, and what their tasks promise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from showtell.dialogue import Photo
from showtell.errors import CheckpointError, DataError
from showtell.evaluation.photos import (
    caption_values,
    nearest,
    paint_photos,
    painted_values,
    retrieval_both_ways,
    two_way_ranks,
    write_captions,
)
from showtell.metrics.encoders import load_clip
from showtell.models.painter import LatentDiffusionPainter
from showtell.papers import load_model
from showtell.recipes import run_recipe
from showtell.recipes.photos import captioned, find_photos, photo_set, split_photos
from showtell.recipes.photos_tasks import random_crops


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for n in range(16):
        pixels = rng.integers(0, 256, size=(70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        captions = [f"a red dog number {n} .", f"dog {n} runs"] if n != 3 else []
        split = "train" if n < 12 else "dev"
        lines.append({"file": f"{n}.png", "captions": captions, "split": split, "source": "mine"})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def settings(folder, *stages):
    tiny = [f"{stage}.{key}=2" for stage in stages for key in ("steps", "batch_size")]
    return [f"data=folder:{folder}", "held_out=4", *tiny]


def test_photos_are_split_by_name_and_decoded_once(folder, tmp_path):
    photos = find_photos(f"folder:{folder}", "train")
    assert len(photos) == 12 and len(captioned(photos)) == 11
    rest, held = split_photos(captioned(photos), 4)
    again = split_photos(captioned(photos)[::-1], 4)
    assert {p.id for p in held} == {p.id for p in again[1]} and not set(map(id, rest)) & set(
        map(id, held)
    )
    first = photo_set(held, side=32, cache=tmp_path / "c")
    for photo in held:
        Path(photo.path).unlink()
    assert (photo_set(held, side=32, cache=tmp_path / "c").pixels == first.pixels).all()
    with pytest.raises(DataError, match="no photo of the split"):
        find_photos(f"folder:{folder}", "validation")
    with pytest.raises(DataError, match="held_out"):
        split_photos(photos, 12)


def test_a_crop_of_the_whole_photo_is_the_photo_or_its_mirror_image(rng):
    pixels = torch.rand(12, 3, 8, 8, generator=rng)
    whole = random_crops(pixels, side=8, least=1.0, generator=rng)
    kept = [torch.allclose(a, b, atol=1e-5) for a, b in zip(whole, pixels, strict=True)]
    turned = [torch.allclose(a, b.flip(2), atol=1e-5) for a, b in zip(whole, pixels, strict=True)]
    assert all(k or t for k, t in zip(kept, turned, strict=True)) and any(kept) and any(turned)


def test_a_crop_stays_inside_the_photo(rng):
    pixels = torch.rand(30, 3, 8, 8, generator=rng) + 1
    crops = random_crops(pixels, side=16, least=0.5, generator=rng)
    assert crops.min() >= 1 and crops.max() <= pixels.max()
    # a ramp from left to right: what a crop shows is half of it at least
    ramp = torch.linspace(0, 1, 64).expand(30, 3, 64, 64)
    shown = random_crops(ramp, side=64, least=0.5, generator=rng)
    widths = shown.amax((1, 2, 3)) - shown.amin((1, 2, 3))
    assert widths.min() > 0.45 and widths.max() < 1.01 and widths.std() > 0.05


def test_a_photo_counts_at_its_first_caption_and_every_caption_for_itself():
    scores = np.array([[0.1, 0.9, 0.5, 0.4], [0.2, 0.3, 0.6, 0.1]])
    owners = np.array([0, 0, 1, 1])
    first_N, own_T = two_way_ranks(scores, owners)
    assert first_N.tolist() == [1, 1]  # 0.9 before all; 0.6 before all
    assert own_T.tolist() == [2, 1, 1, 2]
    with pytest.raises(DataError, match="no caption"):
        two_way_ranks(scores, np.array([0, 0, 0, 0]))


def test_the_nearest_photo_is_found_mirrored_too():
    pixels = np.random.default_rng(0).integers(0, 256, size=(9, 8, 8, 3), dtype=np.uint8)
    wanted = [Image.fromarray(pixels[4]), Image.fromarray(pixels[7][:, ::-1])]
    assert nearest(wanted, pixels) == [4, 7]


def test_a_contrastive_encoder_and_a_captioner_that_starts_from_it(folder, tmp_path):
    small = ["width=16", "layers=1", "projection=8", "patch=32"]
    clip = run_recipe(
        "photos_contrastive",
        overrides=[*settings(folder, "stage"), *small, "stage.evaluate_every=2"],
        out=tmp_path / "clip",
        resume=False,
    )
    dev = find_photos(f"folder:{folder}", "dev")
    values = retrieval_both_ways(load_clip(clip), dev, seed=0)
    assert values["retrieval.photo_to_caption.r10"].n == 4
    assert values["retrieval.caption_to_photo.r10"].n == 8
    assert values["retrieval.caption_to_photo.r10"].value == 1  # of four photos

    overrides = [*settings(folder, "stage"), "stage.evaluate_every=2", "num_photo_tokens=2"]
    with pytest.raises(CheckpointError, match="showtell train photos_contrastive"):
        run_recipe(
            "photos_captioner",
            overrides=[*overrides, f"vision={folder}"],
            out=tmp_path / "none",
            resume=False,
        )
    out = run_recipe(
        "photos_captioner",
        overrides=[
            *overrides,
            f"vision={clip}",
            'stage.learning_rates={"photo_encoder.vision":0.0}',
        ],
        out=tmp_path / "captioner",
        resume=False,
    )
    model = load_model(str(out))
    seen = {name: value for name, value in model.photo_encoder.vision.named_parameters()}
    learnt = load_clip(clip).model.vision_model
    assert all(value.equal(seen[name]) for name, value in learnt.named_parameters())
    said = write_captions(model, dev[:2], side=64, told=lambda done, total: None)
    values = caption_values(said, [photo.labels["captions"] for photo in dev[:2]], seed=0)
    assert 0 <= values["caption.cider_d"].value <= 10 and values["text.standard.bleu4"].n == 2


def test_what_was_painted_is_held_against_the_next_caption_and_the_true_photo(tmp_path):
    named = {"a red one": (1.0, 0.0), "a blue one": (0.0, 1.0), "a mixed one": (0.6, 0.8)}
    photos = []
    for number, (caption, (red, blue)) in enumerate(named.items()):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (8, 8), (round(250 * red), 0, round(250 * blue))).save(path)
        photos.append(Photo(id=str(number), path=str(path), labels={"captions": (caption,)}))

    class Colours:
        def texts(self, texts):
            return torch.tensor([named[text] for text in texts])

        def photos(self, photos):
            pixels = [(p if isinstance(p, Image.Image) else Image.open(p)) for p in photos]
            return torch.tensor([p.getpixel((0, 0))[::2] for p in pixels]).float()

    painted = [Image.new("RGB", (8, 8), (250, 0, 0))] * 3  # a painter that reads nothing
    values = painted_values(Colours(), painted, photos, seed=0)
    assert values["painted.clip_t"].value == pytest.approx(1.6 / 3)
    assert values["baseline.next_photo.painted.clip_t"].value == pytest.approx(1.6 / 3)
    assert values["baseline.true.painted.clip_t"].value == pytest.approx(1)


def test_captions_are_held_against_themselves_under_the_next_photo():
    references = [["a black dog runs ."], ["two men talk by a car ."], ["a girl swims there ."]]
    values = caption_values([several[0] for several in references], references, seed=0)
    assert values["caption.cider_d"].value == pytest.approx(10)
    assert values["text.standard.bleu1"].value == pytest.approx(1)
    # shared with the photo before are "a" and the full stop: 2 of 5, of 7 and of 5
    assert values["baseline.next_photo.text.standard.bleu1"].value == pytest.approx(6 / 17)


def test_a_painter_paints(folder, tmp_path):
    out = run_recipe(
        "photos_painter",
        overrides=settings(folder, "vae", "vae_whole", "painter"),
        out=tmp_path / "painter",
        resume=False,
    )
    latents = np.load(tmp_path / "painter" / "painter" / "latents.npy")
    assert len(latents) == 2 * 11  # every captioned photo, and its mirror image
    painter = LatentDiffusionPainter.from_pretrained(out)
    images = paint_photos(painter, ["a dog", "a cat"], num_steps=2)
    assert [image.size for image in images] == [(64, 64)] * 2
    alone = paint_photos(painter, ["a dog"], num_steps=2)[0]
    assert np.abs(np.asarray(alone, int) - np.asarray(images[0], int)).max() <= 2
