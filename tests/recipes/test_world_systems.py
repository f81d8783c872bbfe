"""MiniGPT-5, GILL and their baselines from one base: who moves, and what a run leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import build_model, collated, dialogues_with_photos
from showtell.album.index import Album
from showtell.batch import to_pixels
from showtell.dialogue import AGENT, USER, Turn
from showtell.errors import ConfigError, MissingDependency
from showtell.models import adapters
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.papers import BRIDGE_CONFIGS, GillConfig, VokensConfig, load_model
from showtell.papers.minigpt5 import ABLATIONS, undescribed
from showtell.recipes import RECIPES, run_recipe
from showtell.recipes.bridged import with_bridge
from showtell.recipes.world_dialogue import WorldDialogue, start_model
from showtell.recipes.world_systems import WorldGill, alignment_example
from showtell.training.features import photo_scene

SMALL = ["bridge.num_layers=1", "bridge.num_heads=2"]
SETTINGS = ["stage.steps=2", "stage.batch_size=3", "num_dialogues=24", "calibration_dialogues=30"]
VOKENS = [*SMALL, "bridge.num_vokens=3", "num_pairs=8", "alignment.steps=1"]
GILL = [*SMALL, "bridge.num_tokens=2", "bridge.width=16", "bridge.album_width=8"]
GILL += ["album_photos=200", "decision_dialogues=16"]
EXTRA = {
    "world_vokens": [*VOKENS, "alignment.batch_size=3"],
    "world_vokens_prefix": [*VOKENS, "adapter.hidden=8", "alignment.steps=0"],
    "world_gill": GILL,
    "world_retrieval": GILL,
    "world_text": [],
}
HELLO = (Turn(speaker=USER, elements=("hi! show me a dog",)),)


@pytest.fixture(scope="module")
def base(tokenizers, tmp_path_factory) -> Path:
    """A tiny world_base."""
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="pipeline"), folder, recipe={})
    return folder


def train(name: str, base: Path, out: Path, *, settings: list[str] | None = None) -> Path:
    chosen = [f"base={base}", *SETTINGS, *EXTRA[name], *(settings or [])]
    return run_recipe(name, overrides=chosen, out=out, resume=False)


# --------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module", params=EXTRA)
def run(request, base, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp(request.param) / "out"
    train(request.param, base, out)
    return request.param, out


def test_a_run_leaves_a_model_that_answers_and_shares_by_its_own_tokens(run):
    name, out = run
    model = load_model(str(out))
    assert model.name == name and 0 <= model.decoding.share_threshold <= 1
    model.decoding = replace(model.decoding, share_threshold=0.0, num_steps=1, max_new_tokens=3)
    reply = Responder(Decoder(model)).respond(HELLO, images={}, seed=0)
    photo, *_ = (photo for turn in reply.turns for photo in turn.photos)
    assert bool(photo.caption) is (name == "world_text")  # the others' spans have no words
    assert (photo.id in reply.images) is (name not in ("world_text", "world_retrieval"))
    assert (model.painter is not None) is (photo.id in reply.images)
    if name == "world_text":
        assert not model.renderer.config.own_pixels and model.photo_encoder is not None


def test_the_llm_and_the_painter_of_all_but_text_stand_still(run, base):
    name, out = run
    before, after = (
        load_file(folder / "language_model" / "model.safetensors")
        for folder in (base, out / "model")
    )
    assert before.keys() == after.keys()
    same = all(torch.equal(before[key], after[key]) for key in before)
    assert same is (name != "world_text")
    if (painter := out / "model" / "painter" / "unet").is_dir():
        (file,) = painter.glob("*.safetensors")
        found, old = load_file(file), load_file(base / "painter" / "unet" / file.name)
        assert all(torch.equal(found[key], old[key]) for key in old)


def test_what_a_run_trains_is_measured_by_its_papers_losses(run):
    name, out = run
    (history,) = [p for p in out.glob("*/history.json") if p.parent.name != "unimodal_alignment"]
    losses = set(json.loads(history.read_text())[-1]) - {"step", "seconds", "gradient_norm"}
    own = {"world_text": {"caption"}, "world_gill": {"g", "r"}, "world_retrieval": {"g", "r"}}
    # description-free: L_cap is measured in alignment alone
    assert losses == {"t", "moment"} | own.get(name, {"ldm"})
    if name == "world_vokens":
        aligned = json.loads((out / "unimodal_alignment" / "history.json").read_text())[-1]
        assert {"t", "ldm", "cap"} < set(aligned)


def test_the_adapter_is_a_part_of_the_model(run):
    name, out = run
    folder = out / "model" / "language_model" / "adapter"
    kinds = {"world_vokens": "LORA", "world_vokens_prefix": "PREFIX_TUNING"}
    assert folder.is_dir() is (name in kinds)
    if name in kinds:
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert settings["peft_type"] == kinds[name]
        assert settings["base_model_name_or_path"] is None  # no path of the machine that trained


def test_gill_and_retrieval_leave_an_album_of_training_photos(run):
    name, out = run
    if name not in ("world_gill", "world_retrieval"):
        assert not (out / "album").exists()
        return
    album, model = Album.load(out / "album"), load_model(str(out))
    assert len(album) == 200 and album.made_by == name and model.bridge.features is not None
    for number, photo in list(enumerate(album.photos))[:3]:
        image = Image.open(out / "album" / photo.path)
        key_1E = model.bridge.photo_keys(to_pixels(image)[None])
        torch.testing.assert_close(key_1E[0].detach(), album.embeddings_ME[number])
        assert photo.id == f"photo-{number}" and photo_scene(number).place in photo.caption
    # what the agent says finds photos; the nearest by the query, whatever else is in the batch
    decoder = Decoder(model)
    writing, _ = decoder.read_all([HELLO], [{}])
    decoder.open_turn(writing)
    (hits,) = album.search(model.bridge.query(decoder.announce(writing)).detach(), top_k=2)
    assert len(hits) == 2 and hits[0].score >= hits[1].score
    query_1E = model.bridge.query(model.spoken_spans(["a dog"])).detach()
    (other,) = album.search(query_1E, without={hits[0].photo.id}, top_k=300)
    assert hits[0].photo.id not in {hit.photo.id for hit in other} and len(other) == 199


def test_a_gill_that_paints_decides_and_keeps_its_head_when_saved_again(run, tmp_path):
    name, out = run
    model = load_model(str(out))
    assert (getattr(model.bridge, "decision", None) is not None) is (name == "world_gill")
    if name != "world_gill":
        return
    spans = model.spoken_spans(["a dog"])
    (p_retrieve,) = model.bridge(spans, model.painter, generator=torch.Generator()).retrieve_N
    assert 0 < p_retrieve < 1
    save_model(model, tmp_path / "again", recipe={})
    again = load_model(str(tmp_path / "again"))
    (same,) = again.bridge(spans, again.painter, generator=torch.Generator()).retrieve_N
    assert same == p_retrieve


def test_a_killed_run_of_two_stages_goes_on_where_it_was(base, tmp_path):
    whole = train("world_vokens", base, tmp_path / "whole")
    settings = [f"base={base}", *SETTINGS, *EXTRA["world_vokens"]]
    half = run_recipe(
        "world_vokens", overrides=[*settings, "stage.steps=1"], out=tmp_path / "h", resume=False
    )
    run_recipe(
        "world_vokens", overrides=[*settings, "stage.warmup=100"], out=tmp_path / "h", resume=True
    )
    for file in ("bridge.safetensors", "language_model/new_tokens.safetensors"):
        one, two = load_file(whole / file), load_file(half / file)
        for key in one:
            torch.testing.assert_close(one[key], two[key], rtol=0, atol=0)


def test_one_alignment_serves_several_runs_of_multimodal_learning(base, tmp_path):
    whole = train("world_vokens", base, tmp_path / "whole")
    aligned = train("world_vokens", base, tmp_path / "aligned", settings=["stage.steps=0"])
    assert not (aligned / "language_model/adapter").exists()
    later = train("world_vokens", aligned, tmp_path / "later", settings=["alignment.steps=0"])
    for file in ("bridge.safetensors", "language_model/new_tokens.safetensors"):
        one, two = load_file(whole / file), load_file(later / file)
        assert one.keys() == two.keys()
        for key in one:
            torch.testing.assert_close(one[key], two[key], rtol=0, atol=0)


def test_multimodal_learning_reads_captions_where_it_is_told_to(base, tmp_path):
    described = ["alignment.steps=0", *ABLATIONS["described"]]
    model = train("world_vokens", base, tmp_path / "described", settings=described)
    history = tmp_path / "described" / "multimodal_learning" / "history.json"
    assert json.loads(history.read_text())[-1]["cap"] > 0
    plain = train("world_vokens", base, tmp_path / "plain", settings=described[:1])
    one, two = (load_file(folder / "bridge.safetensors") for folder in (model, plain))
    assert any(not torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(ConfigError, match='no weight for the loss "cap"'):
        train("world_vokens", base, tmp_path / "weightless", settings=described[:2])


# ----------------------------------------------------------------------------- parts and settings


@pytest.mark.parametrize("photo_encoder", ["qformer", "caption"])
@pytest.mark.parametrize("name", ["dvtm", "pipeline", "vokens", "gill"])
def test_any_bridge_stands_on_any_photo_encoder(tokenizers, name, photo_encoder, rng):
    base = build_model(tokenizers, bridge="pipeline")
    if photo_encoder == "caption":
        base.captioner = build_model(tokenizers, bridge="pipeline")
        base.captioner.painter, base.photo_encoder = None, None
        base.renderer.config = replace(base.renderer.config, perceive="caption")
    choices = {"num_layers": 1, "num_heads": 2} if name in ("vokens", "gill") else {}
    model = with_bridge(base, BRIDGE_CONFIGS[name](**choices), seed=0)
    with torch.no_grad():
        losses = model(collated(model, dialogues_with_photos(1)), generator=rng)
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert set(model.bridge.loss_names) <= set(losses)


def test_the_same_seed_gives_the_same_rows_and_mapper(tokenizers):
    def build(seed):
        base = build_model(tokenizers, bridge="pipeline")
        model = with_bridge(base, VokensConfig(num_layers=1, num_heads=2), seed=seed)
        return {**model.bridge.state_dict(), "rows": model.language.new_tokens.input_nD}

    one, same, other = build(1), build(1), build(2)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["rows"], other["rows"])
    assert not torch.equal(one["mapper.queries_SC"], other["mapper.queries_SC"])


def test_a_trained_bridge_is_kept_or_its_other_settings_are_named(tokenizers):
    small = VokensConfig(num_layers=1, num_heads=2)
    base = with_bridge(build_model(tokenizers, bridge="pipeline"), small, seed=0)
    again = with_bridge(base, small, seed=1)
    assert again.bridge is base.bridge
    assert again.renderer.config.span_tokens == small.tokens
    with pytest.raises(ConfigError, match=r"states 'after', and 'before' is wanted"):
        with_bridge(base, replace(small, states="before"), seed=0)


@pytest.mark.parametrize("bridge", [VokensConfig, GillConfig])
def test_a_new_mapper_is_started_by_captions_and_a_trained_one_is_not(base, tmp_path, bridge):
    small = bridge(num_layers=1, num_heads=2)

    def started(folder: Path, captions: int):
        config = WorldDialogue(base=str(folder), bridge=small, start_captions=captions)
        model = start_model(config, name="m")
        return model, {k: v.clone() for k, v in model.bridge.mapper.state_dict().items()}

    model, mapper = started(base, 8)
    assert all(torch.equal(value, mapper[key]) for key, value in started(base, 8)[1].items())
    as_built = started(base, 0)[1]
    moved = {key.split(".")[0] for key in mapper if not torch.equal(mapper[key], as_built[key])}
    assert moved == (
        {"mlp", "queries_SC"} if bridge is VokensConfig else {"project", "out", "queries_SW"}
    )
    save_model(model, tmp_path / "trained", recipe={})
    again = started(tmp_path / "trained", 8)[1]
    assert all(torch.equal(again[key], mapper[key]) for key in mapper)


@pytest.mark.parametrize("captions", [-1, 1])
def test_one_caption_starts_no_mapper(base, captions):
    with pytest.raises(ConfigError, match=f"start_captions is {captions}; wanted 2 or more"):
        start_model(WorldDialogue(base=str(base), start_captions=captions), name="m")


def test_dialogues_of_multimodal_learning_tell_nothing_of_the_agents_photos():
    (dialogue,) = dialogues_with_photos(1)
    plain = undescribed(dialogue)
    for turn, old in zip(plain.turns, dialogue.turns, strict=True):
        captions = [photo.caption for photo in turn.photos]
        assert captions == [p.caption if turn.speaker == USER else "" for p in old.photos]
        assert turn.text == old.text and turn.labels == old.labels
    assert any(turn.photos for turn in plain.turns if turn.speaker == AGENT)


def test_alignment_reads_every_caption_once_and_every_hundredth_twice():
    examples = [alignment_example(index, num_pairs=250) for index in range(253)]
    assert len({example.id for example in examples}) == 253
    assert [e.id for e in examples[250:]] == ["ask-photo-0", "ask-photo-100", "ask-photo-200"]
    for plain, asked in ((examples[100], examples[251]),):
        (photo,), (again,) = plain.turns[1].photos, asked.turns[1].photos
        assert photo == again and photo.caption == plain.turns[0].text
        assert photo.caption in asked.turns[0].text


def test_the_systems_see_the_same_dialogues_for_as_many_steps():
    world = RECIPES["world_mini"].config()
    for name in EXTRA:
        found = RECIPES[name].config()
        for key in ("base", "num_dialogues", "excerpts", "seed", "calibration_dialogues"):
            assert getattr(found, key) == getattr(world, key), (name, key)
        for key in ("steps", "batch_size", "seed"):
            assert getattr(found.stage, key) == getattr(world.stage, key), (name, key)
        assert found.stage.weights["moment"] == world.stage.weights["moment"]


def test_gill_moves_its_maps_and_rows_alone():
    stage = WorldGill().stage
    moves = ("photo_encoder.project.x", "language.new_tokens.input_nD", "bridge.mapper.x")
    still = (
        "photo_encoder.qformer.x",
        "photo_encoder.queries_QC",
        "language.model.x",
        "painter.text.x",
    )
    assert [stage.multiplier(name) for name in (*moves, *still)] == [1] * 3 + [0] * 4


# --------------------------------------------------------------------------------------- bad input


def test_an_album_of_zero_photos_is_refused_where_nothing_else_gives_a_photo(base, tmp_path):
    with pytest.raises(ConfigError, match="album_photos is 0"):
        train("world_retrieval", base, tmp_path / "o", settings=["album_photos=0"])


def test_a_model_without_painter_or_eyes_is_named(tokenizers):
    base = build_model(tokenizers, bridge="pipeline")
    base.name, base.photo_encoder = "blind", None
    with pytest.raises(ConfigError, match='"blind" has no vision encoder'):
        with_bridge(base, GillConfig(), seed=0)
    base.painter = None
    with pytest.raises(ConfigError, match='"blind" has no latent diffusion painter'):
        with_bridge(base, VokensConfig(), seed=0)


def test_a_bridge_that_makes_no_query_is_named(tiny_end_to_end):
    with pytest.raises(ConfigError, match="Dvtm, makes no query"):
        _ = tiny_end_to_end.album_width


def test_a_missing_adapter_library_is_told_before_anything_is_trained(base, tmp_path, monkeypatch):
    def absent():
        raise MissingDependency("LoRA and prefix tuning need peft")

    monkeypatch.setattr(adapters, "_peft", absent)
    with pytest.raises(MissingDependency, match="need peft"):
        train("world_vokens", base, tmp_path / "o")
    assert not (tmp_path / "o" / "unimodal_alignment").exists()
