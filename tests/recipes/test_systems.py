"""The systems from one base: who moves, what is measured, and what a run leaves behind."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from conftest import bridged_model, build_model, collated, dialogues_with_photos, small_bridge
from recipes.conftest import EXTRA, VOKENS, WORLD, moved, train
from showtell.album.index import Album
from showtell.batch import to_pixels
from showtell.config import override
from showtell.data.photos import photo_image
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Turn
from showtell.errors import ConfigError, MissingDependency
from showtell.models.adapters import LoraConfig, add_lora
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.models.photo_encoder import LinearPhotoEncoder
from showtell.models.reply import Preview
from showtell.models.respond import Responder
from showtell.models.vq_painter import VqPainter
from showtell.papers import BRIDGES, e2e, load_model
from showtell.papers.forms import form_named
from showtell.papers.gill import GillConfig
from showtell.papers.minigpt5 import ABLATIONS, VokensConfig
from showtell.prompt import IGNORED
from showtell.recipes import systems as values
from showtell.recipes.assemble import adapted, code_painter, with_bridge
from showtell.recipes.experiment import Experiment, start
from showtell.recipes.registry import RECIPES
from showtell.recipes.runs import Run

HELLO = (Turn(speaker=USER, elements=("hi! show me a dog",)),)


def losses_of(history: Path) -> set[str]:
    return set(json.loads(history.read_text())[-1]) - {"step", "seconds", "gradient_norm"}


# --------------------------------------------------------------------------------- whole runs


class Wanted(NamedTuple):
    """What a recipe leaves: its paper's losses; who moves; what its photos are."""

    losses: set[str]
    llm: bool = False
    unet: bool = False
    adapter: str | None = None
    paints: bool = True
    described: bool = True
    album: bool = False


LEAVES = {
    "world_vokens": Wanted({"ldm"}, adapter="LORA", described=False),  # L_cap in alignment alone
    "world_vokens_prefix": Wanted({"ldm"}, adapter="PREFIX_TUNING", described=False),
    "world_gill": Wanted({"g", "r"}, described=False, album=True),
    "world_retrieval": Wanted({"g", "r"}, paints=False, described=False, album=True),
    "world_text": Wanted({"caption"}, llm=True, paints=False),
    "world_stories_text": Wanted(set(), adapter="LORA", paints=False),
    "world_stories_painter": Wanted({"v", "caption"}, unet=True),
    "world_long": Wanted({"v", "caption"}, llm=True, unet=True),
}


@pytest.fixture(scope="module", params=LEAVES)
def run(request, pipeline_base, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp(request.param) / "out"
    train(request.param, out, f"base={pipeline_base}", *WORLD, *EXTRA.get(request.param, ()))
    return request.param, out


def test_a_run_trains_what_its_paper_trains_and_leaves_a_model_that_answers(run, pipeline_base):
    name, out = run
    wanted = LEAVES[name]
    (history,) = [p for p in out.glob("*/history.json") if p.parent.name != "alignment"]
    assert losses_of(history) == {"t", "moment"} | wanted.losses
    found = moved(pipeline_base, out / "model")
    assert any(key.startswith("language_model/model.") for key in found) is wanted.llm
    if wanted.paints:  # else there is none
        assert any(key.startswith("painter/unet") for key in found) is wanted.unet
    folder = out / "model" / "language_model" / "adapter"
    assert folder.is_dir() is (wanted.adapter is not None)
    if wanted.adapter:
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert settings["peft_type"] == wanted.adapter
        assert settings["base_model_name_or_path"] is None  # no path of the machine that trained
    model = load_model(str(out))
    assert model.name == name and 0 <= model.decoding.share_threshold <= 1
    assert (getattr(model.bridge, "decision", None) is not None) is (name == "world_gill")
    assert (model.painter is not None) is wanted.paints
    assert model.renderer.config.own_pixels is (wanted.paints or wanted.album)
    assert model.photo_encoder is not None and model.card["words"] == "world"
    model.decoding = replace(model.decoding, share_threshold=0.0, num_steps=1, max_new_tokens=3)
    reply = Responder(Decoder(model)).respond(HELLO, images={}, seed=0)
    photo, *_ = (photo for turn in reply.turns for photo in turn.photos)
    assert bool(photo.caption) is wanted.described  # else their spans have no words
    assert (photo.id in reply.images) is wanted.paints


@pytest.mark.parametrize("name", ["world_vokens_gathered", "world_gill_gathered"])
def test_an_llm_gathers_first_and_then_stands_still(name, pipeline_base, tmp_path, monkeypatch):
    """Gathering moves the whole LLM by words and captions, and never asks the painter; the last
    stage moves what its paper moves."""
    asked = []
    seen = []

    def watch(task):
        model = task.module
        told = {
            "language": copy.deepcopy(model.language.model.state_dict()),
            "idle": set(model.bridge.unweighted),
            "ends": [bool(task.dialogue(n).turns[-1].photos) for n in range(4)],
        }
        seen.append(told)
        loss = model.painter.loss
        model.painter.loss = lambda *a, **k: (asked.append(len(seen)), loss(*a, **k))[1]
        return task

    short = ["stage.steps=1", "gathering.steps=2", "gathering.batch_size=3", "gathering.warmup=1"]
    settings = [f"base={pipeline_base}", *WORLD, *EXTRA[name.removesuffix("_gathered")], *short]
    settings += ["bridge.ridge_rank=4", "stage.warmup=0"]
    train(name, tmp_path / "whole", *settings, watch=watch)
    losses = {"world_vokens_gathered": {"cap"}, "world_gill_gathered": {"g", "r"}}[name]
    assert losses_of(tmp_path / "whole/gathering/history.json") - {"moment"} == {"t"} | losses
    *_, before, after = (told["language"] for told in seen)
    assert len(seen) == len(RECIPES[name].config.stages)
    assert all(seen[-2]["ends"]) and not all(seen[-1]["ends"])
    after = {key.replace(".base_layer", ""): v for key, v in after.items() if "lora" not in key}
    assert not any(torch.equal(value, before[key]) for key, value in after.items() if "proj" in key)
    if name == "world_vokens_gathered":
        assert seen[-2]["idle"] == {"ldm", "moment"} and len(seen) - 1 not in asked
        assert len(seen) in asked
    ended = load_model(str(tmp_path / "whole")).language.model.state_dict()
    kept = {key.replace(".base_layer", ""): value for key, value in ended.items()}
    assert all(torch.equal(kept[key], value) for key, value in after.items())


def test_the_words_of_both_speakers_are_learnt_where_it_is_set(pipeline_base, tmp_path):
    """As PSDG's release does: every turn has labels, in training alone."""
    learnt = {}

    def watch(task):
        model = task.module
        ids = model.renderer.render(task.dialogue(0)).labels
        learnt[model.renderer.config.speakers] = sum(label != IGNORED for label in ids)
        return task

    settings = [f"base={pipeline_base}", *WORLD, "start_captions=0", "stage.steps=1"]
    train("world_text", tmp_path / "a", *settings, watch=watch)
    train("world_text", tmp_path / "b", *settings, "learnt=both", watch=watch)
    assert 0 < learnt[(AGENT,)] < learnt[USER, AGENT]
    assert load_model(str(tmp_path / "b")).renderer.config.speakers == (AGENT,)


def test_what_psdg_released_is_a_list_of_settings(tokenizers):
    """Beside the paper's: no photos read, all words learnt, LoRA 32 on q, k and v with table and
    head, 16 a batch, 400 steps of warm-up, half the rate where BLEU-2 is no better."""
    paper = RECIPES["dialogues_end_to_end"].config
    assert override(paper, e2e.ABLATIONS["paper"]) == paper
    config = override(paper, e2e.ABLATIONS["release"])
    assert config.bridge == e2e.PRESETS["release"]
    assert (config.photo_encoder, config.learnt, config.adapter) == ("none", "both", "lora")
    targets = ("q_proj", "k_proj", "v_proj")
    assert config.lora == LoraConfig(rank=32, alpha=32, dropout=0.1, targets=targets)
    stage = config.stage
    assert (stage.batch_size, stage.clip, stage.patience) == (16, 400, 6)
    assert (stage.decay, stage.decay_factor, stage.patience_metrics) == ("plateau", 0.5, ("bleu2",))
    rates = [stage.rate(step) for step in (0, 199, 399, 20_000)]
    assert rates == pytest.approx([1.25e-7, 2.5e-5, 5e-5, 5e-5])
    model = bridged_model(tokenizers, "dvtm")
    add_lora(model.language, config.lora)
    names = dict(model.named_parameters())
    moving = {name for name in names if adapted(stage, model.language).multiplier(name) > 0}
    where = {n.split(".lora_")[0].rpartition(".")[2] for n in moving if "lora" in n}
    assert where == set(targets)
    tables = [n for n in moving if n.startswith("language.") and "lora" not in n]
    assert tables == ["language.model.model.embed_tokens.weight"]  # the head is the same here
    assert any(n.startswith("painter.unet") for n in moving)
    assert not any(n.startswith(("painter.text", "painter.vae")) for n in moving)


def test_gill_and_retrieval_leave_an_album_of_training_photos(run):
    name, out = run
    assert (out / "album").exists() is LEAVES[name].album
    if not LEAVES[name].album:
        return
    album, model = Album.load(out / "album"), load_model(str(out))
    assert len(album) == 200 and album.made_by == name
    shown = open_data("world:photos:train")
    for number, photo in list(enumerate(album.photos))[:3]:
        image = Image.open(out / "album" / photo.path)
        key_1E = model.bridge.photo_keys(to_pixels(image)[None])
        torch.testing.assert_close(key_1E[0].detach(), album.embeddings_ME[number])
        assert photo.id == f"photo-{number}"
        assert shown[number].photos[0].labels["scene"]["place"] in photo.caption
    # what the agent says finds photos; the nearest by the query, whatever else is in the batch
    decoder = Decoder(model)
    writing, _ = decoder.read_all([HELLO], [{}])
    decoder.open_turn(writing)
    (hits,) = album.search(model.bridge.query(decoder.announce(writing)).detach(), top_k=2)
    assert len(hits) == 2 and hits[0].score >= hits[1].score
    query_1E = model.bridge.query(model.spoken_spans(["a dog"])).detach()
    (others,) = album.search(query_1E, top_k=300)
    assert len(others) == 200


def test_each_stage_reads_its_own_data_in_its_own_form(pipeline_base, tmp_path):
    read: list[set[str]] = []

    def watch(task):
        read.append({turn.speaker + "/" + task.dialogue(n).id.split("-")[0]
                     for n in range(6) for turn in task.dialogue(n).turns})  # fmt: skip
        return task

    settings = [f"base={pipeline_base}", *WORLD, *VOKENS, "alignment.steps=0", "stage.steps=0"]
    train("world_vokens", tmp_path, *settings, watch=watch)
    assert read == [{"user/align", "agent/align"}, {"user/world", "agent/world"}]


def test_one_alignment_serves_several_runs_of_multimodal_learning(pipeline_base, tmp_path):
    base = f"base={pipeline_base}"
    whole = train("world_vokens", tmp_path / "whole", base, *WORLD, *VOKENS)
    first = train("world_vokens", tmp_path / "a", base, *WORLD, *VOKENS, "stage.steps=0")
    assert not (first / "language_model/adapter").exists()
    assert {"t", "ldm", "cap"} <= losses_of(tmp_path / "a" / "alignment" / "history.json")
    rest = [f"base={first}", *WORLD, *VOKENS, "alignment.steps=0"]
    later = train("world_vokens", tmp_path / "later", *rest)
    assert not moved(whole, later) and not moved(later, whole)
    # against the paper: captions are read where that is asked for, and then L_cap wants a weight
    train("world_vokens", tmp_path / "described", *rest, *ABLATIONS["described"])
    assert "cap" in losses_of(tmp_path / "described" / "learning" / "history.json")
    with pytest.raises(ConfigError, match='no weight for the loss "cap"'):
        train("world_vokens", tmp_path / "weightless", *rest, ABLATIONS["described"][0])


def test_v2_sees_first_and_learns_together_after(pipeline_base, tmp_path, monkeypatch):
    """A Llama that stands still while what is new learns to see; then the whole moves."""
    states, trained = [], Run.train

    def watched(self, stage, task):
        def note():
            states.append({k: v.detach().clone() for k, v in task.module.named_parameters()})

        note()
        history = trained(self, stage, task)
        note()
        return history

    monkeypatch.setattr(Run, "train", watched)
    settings = [f"base={pipeline_base}", *WORLD, "cross_attention_layers=[1]"]
    out = train("world_v2", tmp_path, *settings, "seeing.steps=2", "seeing.batch_size=4")
    model = load_model(str(out))
    assert model.photo_encoder.attended and model.painter is not None
    model.decoding = replace(model.decoding, share_threshold=0.0, num_steps=1, max_new_tokens=3)
    photo = replace(next(p for d in dialogues_with_photos(1) for p in d.photos), origin="user")
    turns, images = (Turn(speaker=USER, elements=(photo,)),), {photo.id: photo_image(photo)}
    assert len(Responder(Decoder(model)).respond(turns, images=images, seed=0).images) == 1
    before, after, again, end = states
    seen = {name for name, value in before.items() if not torch.equal(value, after[name])}
    layer = "language.model.model.layers.1"
    assert {"photo_encoder.project.weight", f"{layer}.cross_attn_attn_gate"} <= seen
    assert all(name.startswith(("photo_encoder.", layer)) for name in seen)
    whole = {name for name, value in again.items() if not torch.equal(value, end[name])}
    assert "language.model.model.layers.0.mlp.up_proj.weight" in whole
    assert any(name.startswith("painter.unet") for name in whole)


def test_paper_settings_stop_by_bleu2_and_fid(pipeline_base, tmp_path):
    settings = [f"base={pipeline_base}", *WORLD, "stage.evaluate_every=1"]
    train("world_paper", tmp_path, *settings, "validation_dialogues=4")
    history = json.loads((tmp_path / "paper" / "history.json").read_text())
    measured = [record for record in history if "bleu2" in record]
    assert [record["step"] for record in measured] == [1, 2]
    assert all(0 <= record["bleu2"] <= 1 and record["fid"] > 0 for record in measured)
    assert (tmp_path / "paper" / "best.safetensors").exists()


# --------------------------------------------------------------------------------------- Divter


@pytest.fixture(scope="module")
def divter(pipeline_base, codes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("divter") / "out"
    return train("world_divter", out, f"base={pipeline_base}", f"codes={codes}", *WORLD)


def test_divter_trains_g_and_f_and_leaves_v_the_ranker_and_the_captioner(
    pipeline_base, codes, divter
):
    assert {name.split("/")[0] for name in moved(codes, divter / "painter")} == {"translator"}
    assert moved(pipeline_base / "language_model", divter / "language_model")
    captioner = divter / "captioner" / "language_model"
    assert not moved(pipeline_base / "language_model", captioner)
    assert losses_of(divter.parent / "divter" / "history.json") == {"t", "moment", "caption", "v"}


def test_divter_reads_captions_shares_and_paints(divter):
    model = load_model(str(divter))
    assert model.name == "world_divter" and model.photo_encoder is None
    model.decoding = replace(model.decoding, share_threshold=0.0, num_steps=4, max_new_tokens=3)
    steps = []
    photo = replace(open_data("world:photos:train")[0].photos[0], id="mine", origin="user")
    reply = Responder(Decoder(model)).respond(
        (*HELLO, Turn(speaker=USER, elements=(photo,))),
        images={"mine": photo_image(photo)},
        seed=0,
        tell=lambda e: steps.append((e.step, e.of)) if isinstance(e, Preview) else None,
    )
    (shared,) = (photo for turn in reply.turns for photo in turn.photos)
    assert shared.caption and reply.images[shared.id].size == (64, 64)
    assert steps == [(step, 4) for step in range(1, 5)]


def test_the_row_without_pre_training_has_the_same_v_and_a_new_f(codes):
    trained = VqPainter.from_pretrained(codes)
    fresh, same = (
        code_painter(str(codes), pretrained=False, num_samples=None, seed=3) for _ in range(2)
    )
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
        if not name.startswith("translator."):
            assert torch.equal(value, trained.state_dict()[name])
    assert not torch.equal(fresh.text.token_table_UC, trained.text.token_table_UC)
    table = fresh.translator.get_input_embeddings().weight
    assert fresh.text.token_table_UC.data_ptr() == table.data_ptr()  # the new F's own words


def test_codes_that_cannot_serve_are_told_before_anything_is_trained(
    pipeline_base, codes, tmp_path
):
    base = f"base={pipeline_base}"
    for name, wanted in (("world_divter", "world_codes"), ("dialogues_divter", "photo_codes")):
        with pytest.raises(ConfigError, match=f"showtell train .*{wanted}"):
            train(name, tmp_path / name, base, "codes=nowhere", "data=world:0-3")
    painter = copy.deepcopy(VqPainter.from_pretrained(codes))
    painter.rank, painter.num_samples = None, 1
    painter.save_pretrained(tmp_path / "codes")
    with pytest.raises(ConfigError, match="no ranker to choose"):
        settings = (base, f"codes={tmp_path / 'codes'}", "num_samples=4")
        train("world_divter", tmp_path / "o", *settings)
    assert not (tmp_path / "o" / "divter").exists()


# --------------------------------------------------------------------------- parts and settings


@pytest.mark.parametrize("photo_encoder", ["base", "linear", "caption", "none"])
@pytest.mark.parametrize("bridge", BRIDGES)
def test_any_bridge_stands_on_any_photo_encoder(pipeline_base, bridge, photo_encoder, rng):
    if bridge == "gill" and photo_encoder == "none":
        return  # it compares with what one sees
    config = replace(
        values.DIALOGUES,
        base=str(pipeline_base),
        bridge=small_bridge(bridge),
        photo_encoder=photo_encoder,
    )
    model = start(config, name="x")
    assert isinstance(model.photo_encoder, LinearPhotoEncoder) is (photo_encoder == "linear")
    assert (model.captioner is not None) is (photo_encoder == "caption")
    losses = model(collated(model, dialogues_with_photos(1)), generator=rng)
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert set(model.bridge.loss_names) <= set(losses)
    sum(losses.values()).backward()
    if photo_encoder == "linear":
        assert model.photo_encoder.num_tokens == model.renderer.config.num_photo_tokens
        assert bool(model.photo_encoder.project.weight.grad.abs().sum() > 0)


def test_a_linear_map_is_kept_or_made_anew_for_another_number_of_tokens(pipeline_base, tmp_path):
    linear = replace(
        values.DIALOGUES, base=str(pipeline_base), photo_encoder="linear", photo_tokens=2
    )
    first = start(linear, name="x")
    save_model(first, tmp_path / "model", recipe={})
    kept = start(replace(linear, base=str(tmp_path / "model")), name="x")
    assert kept.photo_encoder.project.weight.equal(first.photo_encoder.project.weight)
    other = start(replace(linear, photo_tokens=3), name="x")
    assert other.photo_encoder.num_tokens == other.renderer.config.num_photo_tokens == 3


def test_a_trained_bridge_is_kept_or_its_other_settings_are_named(tokenizers):
    small = small_bridge("vokens")
    base = bridged_model(tokenizers, "vokens")
    again = with_bridge(base, small, seed=1)
    assert again.bridge is base.bridge
    assert again.renderer.config.span_tokens == small.tokens
    with pytest.raises(ConfigError, match=r"states 'after', and 'before' is wanted"):
        with_bridge(base, replace(small, states="before"), seed=0)


@pytest.mark.parametrize("bridge", ["vokens", "gill"])
def test_a_new_mapper_is_started_by_captions_and_a_trained_one_is_not(
    pipeline_base, tmp_path, bridge
):
    def started(folder: Path, captions: int):
        settings = {"bridge": small_bridge(bridge), "start_captions": captions}
        config = replace(values.WORLD_MINI, base=str(folder), **settings)
        model = start(config, name="m")
        return model, {k: v.clone() for k, v in model.bridge.mapper.state_dict().items()}

    model, mapper = started(pipeline_base, 8)
    again = started(pipeline_base, 8)[1]
    assert all(torch.equal(value, mapper[key]) for key, value in again.items())
    as_built = started(pipeline_base, 0)[1]
    changed = {key.split(".")[0] for key in mapper if not torch.equal(mapper[key], as_built[key])}
    started_by = {"vokens": {"mlp", "queries_SC"}, "gill": {"project", "out", "queries_SW"}}
    assert changed == started_by[bridge]
    save_model(model, tmp_path / "trained", recipe={})
    again = started(tmp_path / "trained", 8)[1]
    assert all(torch.equal(again[key], mapper[key]) for key in mapper)


def test_a_mapper_is_started_by_captions_and_by_photos_within_dialogues(pipeline_base, monkeypatch):
    """One state for each photo that is shared, after all that was said, whatever the batch."""
    given = {}

    def note(self, spans, cond_NSC, *, empty_SC):
        given.update(spans=spans, cond=cond_NSC, empty=empty_SC)

    bridge = small_bridge("vokens")
    monkeypatch.setattr(BRIDGES["vokens"], "start", note)
    config = replace(
        values.WORLD_MINI,
        base=str(pipeline_base),
        bridge=bridge,
        start_captions=5,
        start_dialogues=24,
    )
    model = start(config, name="m")
    source = open_data(config.data)
    ends = [e for n in range(24) for e in form_named("shares")(source[n])]
    earlier = [p for e in ends for t in e.turns if t.speaker == AGENT for p in t.photos]
    shown = [open_data("world:photos:train")[n].photos[0] for n in range(5)]
    assert given["spans"].captions == [photo.caption for photo in (*shown, *earlier)]
    last = collated(model, ends[-1:])
    with torch.no_grad():
        alone = model.gather_spans(model.states(last), last).after_NKD
    torch.testing.assert_close(given["spans"].after_NKD[-len(alone) :], alone)
    assert given["cond"].shape[0] == len(given["spans"].after_NKD) == 5 + len(earlier)
    assert torch.equal(given["empty"], model.painter.text.encode([""])[0])


def test_the_systems_see_the_same_dialogues_for_as_many_steps():
    world = RECIPES["world_mini"].config
    for name in (*list(LEAVES)[:5], "world_pipeline", "world_divter", "world_v2"):
        found = RECIPES[name].config
        for key in ("base", "data", "num_dialogues", "dev", "seed", "calibration_dialogues"):
            assert getattr(found, key) == getattr(world, key), (name, key)
        for key in ("steps", "batch_size", "seed", "excerpts"):
            assert getattr(found.stage, key) == getattr(world.stage, key), (name, key)
        assert found.stage.weights["moment"] == world.stage.weights["moment"]


@pytest.mark.parametrize("where", ["world", "dialogues"])
def test_divter_differs_from_the_pipeline_in_painter_and_weight_alone(where):
    """L = L_G + lambda L_F, lambda 0.2"""
    divter, pipeline = (RECIPES[f"{where}_{name}"].config for name in ("divter", "pipeline"))
    assert divter.stage.weights == {**pipeline.stage.weights, "v": 0.2}
    assert divter.photo_encoder == pipeline.photo_encoder == "caption"
    same = {key: getattr(pipeline.stage, key) for key in ("name", "weights", "learning_rates")}
    assert replace(divter.stage, **same) == pipeline.stage


def test_every_stage_of_dialogues_has_weights_for_what_it_always_measures():
    for name, recipe in RECIPES.items():
        if isinstance(recipe.config, Experiment):
            for stage in recipe.config.stages:
                assert form_named(stage.form) and {"t", "moment"} <= set(stage.weights), name


def test_the_temperature_falls_over_the_steps_that_are_trained(pipeline_base, tmp_path):
    """However few of an epoch they are; the paper's three epochs are a setting."""
    taus = []

    def watch(task):
        advance = task.advance
        task.advance = lambda *a, **k: (
            advance(*a, **k),
            taus.append(float(task.module.bridge.temperature)),
        )
        return task

    settings = [f"base={pipeline_base}", *WORLD, "stage.steps=5"]
    train("world_mini", tmp_path / "a", *settings, watch=watch)
    assert taus == pytest.approx([1 - 0.99 * k / 5 for k in range(5)])
    taus.clear()
    train("world_mini", tmp_path / "b", *settings, "bridge.annealing_epochs=3", watch=watch)
    assert taus == pytest.approx([1 - 0.99 * k * 3 / 24 / 3 for k in range(5)])


# ------------------------------------------------------------------------------------- bad input


def test_settings_that_contradict_each_other_are_refused(pipeline_base, tmp_path):
    world = f"base={pipeline_base}"
    for name, settings, told in (
        ("world_retrieval", ["album_photos=0"], "album_photos is 0"),
        ("world_mini", ["start_captions=-1"], "start_captions is -1; wanted 0 or more"),
        ("world_mini", ["start_captions=1"], "start_captions is 1; wanted 2 or more"),
        ("world_mini", ["photo_tokens=3"], "photo_tokens is 3"),
        ("world_mini", ["photo_encoder=linear", "photo_tokens=0"], "photo_tokens is 0"),
        ("world_mini", ["photo_encoder=capton"], 'did you mean "caption"'),
        ("world_mini", ["photos=none"], "name some with photos=DATA"),
        ("world_mini", ["stage.form=alignmnt"], 'did you mean "alignment"'),
    ):
        with pytest.raises(ConfigError, match=told):
            train(name, tmp_path / "o", world, *settings, resume=(tmp_path / "o").exists())


def test_a_model_without_painter_or_eyes_is_named(tokenizers):
    base = build_model(tokenizers, bridge="pipeline")
    base.name, base.photo_encoder = "blind", None
    with pytest.raises(ConfigError, match='"blind" has no vision encoder'):
        with_bridge(base, GillConfig(), seed=0)
    base.painter = None
    with pytest.raises(ConfigError, match='"blind" has no latent diffusion painter'):
        with_bridge(base, VokensConfig(), seed=0)


def test_a_missing_adapter_library_is_told_before_anything_is_trained(
    pipeline_base, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match="peft"):
        train("world_vokens", tmp_path / "o", f"base={pipeline_base}", *WORLD, *VOKENS)
    assert not (tmp_path / "o" / "alignment").exists()


def test_dialogues_of_multimodal_learning_tell_nothing_of_the_agents_photos():
    (dialogue,) = dialogues_with_photos(1)
    (plain,) = form_named("undescribed")(dialogue)
    for turn, old in zip(plain.turns, dialogue.turns, strict=True):
        captions = [photo.caption for photo in turn.photos]
        assert captions == [p.caption if turn.speaker == USER else "" for p in old.photos]
        assert turn.text == old.text and turn.labels == old.labels
    assert any(turn.photos for turn in plain.turns if turn.speaker == AGENT)
