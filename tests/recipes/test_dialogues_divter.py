"""Divter on data in files: codes of captioned photos, then dialogues, with pre-training or not."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data import natives
from showtell.data.sources import open_data
from showtell.dialogue import USER, Turn
from showtell.errors import ConfigError, DataError
from showtell.models.decoder import Decoder
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.ranker import ClipRanker
from showtell.models.respond import Responder
from showtell.models.vq_painter import VqPainter
from showtell.papers import Divter, load_model
from showtell.recipes import codes_tasks, run_recipe
from showtell.recipes.codes_tasks import TranslatorTask, with_untrained_translator
from showtell.recipes.dialogues import VARIANTS
from showtell.recipes.photo_codes import caption_of, choose_photos, photo_latents

CODES = [
    *("num_photos=6", "num_dev=2", "num_codes=20", "code_width=4", "width=32", "layers=1"),
    *("num_samples=2", "vq.steps=1", "vq.batch_size=2", "vq.warmup=1"),
    *("translator.steps=1", "translator.batch_size=2", "translator.warmup=1"),
]
DIALOGUES = ["stage.steps=1", "stage.batch_size=2", "stage.warmup=1", "held_out=0", "threads=1"]


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


@pytest.fixture(scope="module")
def ranker(tmp_path_factory) -> Path:
    """A tiny untrained CLIP."""
    out = tmp_path_factory.mktemp("ranker") / "out"
    tiny = ["num_photos=2", "num_dev=2", "width=16", "layers=1", "projection=8"]
    return run_recipe(
        "world_contrastive", overrides=[*tiny, "stage.steps=0"], out=out, resume=False
    )


@pytest.fixture(scope="module")
def codes(base, photos, ranker, tmp_path_factory) -> Path:
    """A tiny photo_codes."""
    out = tmp_path_factory.mktemp("codes") / "out"
    settings = [f"base={base}", f"data=folder:{photos}", f"ranker={ranker}", *CODES]
    return run_recipe("photo_codes", overrides=settings, out=out, resume=False)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in folder.rglob("*.safetensors"):
        part = file.parent.relative_to(folder)
        found |= {f"{part}/{name}": value for name, value in load_file(file).items()}
    return found


# ------------------------------------------------------------------------------------ photo_codes


def test_photos_are_chosen_by_id_alone_and_none_is_on_both_sides(photos):
    source = open_data(f"folder:{photos}")
    train, held = choose_photos(source, num_photos=100, held_out=3)
    names = {photo.id for photo in (*train, *held)}
    assert names == {f"images/{number}.png" for number in range(8)}
    assert (len(train), len(held)) == (5, 3)
    fewer, same = choose_photos(source, num_photos=2, held_out=3)
    assert (fewer, same) == (train[:2], held)
    turned = list(reversed(list(source))) * 2  # another order, and every photo twice
    source._read = lambda: iter(turned)
    assert choose_photos(source, num_photos=100, held_out=3) == (train, held)
    told = {caption_of(held[0], random.Random(seed)) for seed in range(20)}
    assert told == set(held[0].labels["captions"])
    assert caption_of(replace(held[0], labels={}), random.Random(0)) == held[0].caption


def test_latents_are_those_of_each_photo_alone_and_are_computed_once(base, photos, tmp_path):
    painter = LatentDiffusionPainter.from_pretrained(base / "painter")
    found, _ = choose_photos(open_data(f"folder:{photos}"), num_photos=3, held_out=1)
    latents = photo_latents(painter, found, cache=tmp_path, threads=2)
    for number, photo in enumerate(found):
        (alone,) = photo_latents(painter, [photo], cache=tmp_path, threads=1)
        torch.testing.assert_close(
            torch.tensor(latents[number]), torch.tensor(alone), atol=2e-3, rtol=2e-3
        )
        assert alone.std() > 0
    missing = [replace(photo, path=None) for photo in found]
    assert (photo_latents(painter, missing, cache=tmp_path, threads=1) == latents).all()


def test_codes_are_of_the_bases_vae_and_a_resumed_run_is_the_same(base, photos, ranker, codes):
    painter = VqPainter.from_pretrained(codes)
    assert painter.image_size == 64 and painter.num_samples == 2
    before, after = weights(base / "painter" / "vae"), weights(codes / "vae")
    assert before and all(torch.equal(after[name], before[name]) for name in before)
    report = json.loads((codes / "report.json").read_text())
    assert report["measures"]["dev_v"] > 0
    assert (report["data"]["photos"], report["data"]["held_out"]) == (6, 2)
    settings = [f"base={base}", f"data=folder:{photos}", f"ranker={ranker}", *CODES]
    again = run_recipe("photo_codes", overrides=settings, out=codes.parent, resume=True)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(codes).items())


def test_the_loss_of_held_out_photos_does_not_depend_on_how_many_go_at_once(codes, monkeypatch):
    painter = VqPainter.from_pretrained(codes)
    held = np.random.default_rng(0).integers(0, 20, (5, painter.side**2)).astype(np.int16)
    captions = [f"thing {number}" for number in range(5)]
    task = TranslatorTask(painter, held, lambda index, rng: captions[index], held, captions)
    whole = task.validate()
    with torch.no_grad():
        loss = painter.codes_loss(painter.encode_text(captions), torch.from_numpy(held).long())
    monkeypatch.setattr(codes_tasks, "MEASURED_AT_ONCE", 2)  # 2, 2 and 1
    assert task.validate() == pytest.approx(whole) == {"dev_v": pytest.approx(float(loss))}


def test_without_a_ranker_one_photo_is_painted(base, photos, tmp_path):
    settings = [f"base={base}", f"data=folder:{photos}", *CODES]
    out = run_recipe("photo_codes", overrides=settings, out=tmp_path / "o", resume=False)
    painter = VqPainter.from_pretrained(out)
    assert painter.num_samples == 1 and painter.rank is None


def test_too_few_photos_and_a_missing_painter_are_told(base, photos, files, tmp_path):
    for settings, error, told in (
        ([f"data=folder:{photos}", "num_dev=8"], DataError, "has 8 photos .* num_dev lower"),
        ([f"data=mmdialog:{files['mmdialog']}"], DataError, "has 0 photos"),  # no captions
        ([f"data=folder:{photos}", "num_dev=0"], ConfigError, "wanted one photo"),
    ):
        with pytest.raises(error, match=told):
            run_recipe(
                "photo_codes",
                overrides=[f"base={base}", *CODES, *settings],
                out=tmp_path / "o",
                resume=False,
            )


# --------------------------------------------------------------------------------------- dialogues


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_run_trains_g_and_f_and_its_model_answers_and_paints(
    base, codes, files, tmp_path, pretrained
):
    settings = [f"base={base}", f"codes={codes}", f"data=showtell:{files['showtell']}", *DIALOGUES]
    if not pretrained:
        settings.append("pretrained=false")
    out = run_recipe("dialogues_divter", overrides=settings, out=tmp_path / "o", resume=False)
    (history,) = (tmp_path / "o").glob("divter/history.json")
    losses = set(json.loads(history.read_text())[-1]) - {"step", "seconds", "gradient_norm"}
    assert losses == {"t", "moment", "caption", "v"}

    # one step of 5e-5 from where F starts, and V and the ranker stay
    before, after = weights(codes), weights(out / "painter")
    moved = {name.split("/")[0] for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and moved == {"translator"}
    start = VqPainter.from_pretrained(codes)
    if not pretrained:
        start = with_untrained_translator(start, seed=0)
    last = VqPainter.from_pretrained(out / "painter").translator.state_dict()
    for name, value in start.translator.state_dict().items():
        torch.testing.assert_close(last[name], value, atol=1e-4, rtol=0)

    model = load_model(str(out))
    assert isinstance(model.bridge, Divter) and model.name == "dialogues_divter"
    assert model.photo_encoder is None and model.captioner is not None
    assert isinstance(model.painter.rank, ClipRanker) and model.painter.num_samples == 2
    model.decoding = replace(model.decoding, share_threshold=0.0, num_steps=2, max_new_tokens=3)
    reply = Responder(Decoder(model)).respond(
        (Turn(speaker=USER, elements=("show me a dog",)),), images={}, seed=0
    )
    (shared,) = (photo for turn in reply.turns for photo in turn.photos)
    assert shared.caption and reply.images[shared.id].size == (64, 64)


def test_the_two_rows_differ_from_the_pipeline_in_painter_and_weight_alone():
    divter, pipeline = (VARIANTS[f"dialogues_{name}"]() for name in ("divter", "pipeline"))
    assert divter.stage.weights == {**pipeline.stage.weights, "v": 0.2}
    assert divter.perceive == pipeline.perceive == "caption"
    same = ("name", "weights", "learning_rates")
    assert replace(divter.stage, **{key: getattr(pipeline.stage, key) for key in same}) == (
        pipeline.stage
    )
    moves = ("language.model.x", "painter.translator.x")
    still = ("painter.vq.x", "painter.vae.x", "painter.rank.clip.x", "captioner.language.x")
    assert [divter.stage.multiplier(name) for name in (*moves, *still)] == [1] * 2 + [0] * 4


def test_codes_that_are_not_there_say_how_to_get_them(base, files, tmp_path):
    data = f"data=showtell:{files['showtell']}"
    with pytest.raises(ConfigError, match="showtell train photo_codes"):
        run_recipe(
            "dialogues_divter",
            overrides=[f"base={base}", "codes=nowhere", data],
            out=tmp_path / "o",
            resume=False,
        )
