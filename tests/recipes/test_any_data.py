"""Any data trains any model: what is left out is counted, and shards go on at the exact example."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch

from conftest import build_model
from data import natives
from recipes.conftest import learnt
from showtell.data.photos import square
from showtell.data.shards import pack
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import ConfigError, DataError
from showtell.papers import load_model
from showtell.papers.forms import form_named
from showtell.recipes import run_recipe
from showtell.recipes.experiment import task_of
from showtell.recipes.systems import DIALOGUES
from showtell.training.examples import (
    Alternating,
    Loader,
    Needs,
    photo_looks,
    read_examples,
    square_pixels,
)

STEPS = ["stage.steps=1", "stage.batch_size=2", "stage.warmup=1", "threads=1"]
STEPS += ["calibration_dialogues=0"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack(open_data("world:0-12"), out, source="world:0-12", shard_bytes=30_000)
    return out


def train(name, base, data, out, *settings):
    overrides = [f"base={base}", f"data={data}", *STEPS, *settings]
    model = run_recipe(name, overrides=overrides, out=out, resume=False)
    return model, json.loads((out / "data.json").read_text())


# ------------------------------------------------------------------- what other data tests leave

SMALL = ("bridge.width=16", "bridge.num_layers=1", "bridge.num_heads=2", "bridge.album_width=8")


def test_gill_trains_on_captions(tmp_path, base, files):
    name = "gill_captions"
    model, _ = train(name, base, f"folder:{files['folder']}", tmp_path / "o", *SMALL)
    loaded = load_model(str(model))
    assert loaded.renderer.span_ids and loaded.name == name


def test_the_second_stage_of_vokens_needs_no_captions_and_moves_its_adapter_alone(
    tmp_path, base, files
):
    first, _ = train("vokens_alignment", base, f"folder:{files['folder']}", tmp_path / "a")
    model, passport = train("vokens_learning", first, f"vist:{files['vist']}", tmp_path / "b")
    assert passport["counts"]["examples"] == 2 * (1 + 4 * 3)
    assert (found := learnt(first, model))
    assert all(name.startswith(("bridge.", "language.new_tokens")) for name in found)
    assert any("lora_" in name for name, _ in load_model(str(model)).named_parameters())
    # MMDialog's photos have no captions either
    plain = ["stage.form=dialogue", "adapter=prefix"]
    _, passport = train(
        "vokens_learning", first, f"mmdialog:{files['mmdialog']}", tmp_path / "c", *plain
    )
    assert passport["counts"]["examples"] == 2


# ------------------------------------------------------------------------------ what is left out


def test_what_cannot_be_used_is_counted_by_reason(tokenizers, tmp_path):
    model = build_model(tokenizers, bridge="dvtm")
    path = str(natives.write_photo(tmp_path / "a.png"))
    hi, photo = Turn(speaker=USER, elements=("hi",)), Photo(id="a", caption="a dog", path=path)

    def shares(photo: Photo) -> tuple[Turn, ...]:
        return hi, Turn(speaker=AGENT, elements=(photo,))

    cases = {
        None: shares(photo),
        "nothing that the agent says": (hi,),
        "a photo is missing": shares(dataclasses.replace(photo, path=None)),
        "a photo to share has no caption": shares(dataclasses.replace(photo, caption=" ")),
        "a turn longer than the model reads": (hi, Turn(speaker=AGENT, elements=("dog " * 2000,))),
    }
    needs = Needs.of(model, captions=False)
    for wanted, turns in cases.items():
        assert needs.lacking(Dialogue(id="d", turns=turns), Counter()) == wanted
    seen = Turn(speaker=USER, elements=(dataclasses.replace(photo, path=None),))
    context = Dialogue(id="d", turns=(seen, Turn(speaker=AGENT, elements=("nice",))))
    assert needs.lacking(context, Counter()) == "a photo is missing"
    model.photo_encoder = None  # reads captions, so it does not miss the pixels of the context
    assert Needs.of(model, captions=False).lacking(context, Counter()) is None
    counts: Counter[str] = Counter()
    long = Turn(speaker=AGENT, elements=("dog " * 150,))
    assert needs.lacking(Dialogue(id="d", turns=(hi, *[long] * 9)), counts) is None
    assert counts["turns dropped, the oldest of dialogues too long"] > 0


def test_data_that_leave_nothing_say_why(tmp_path, base, files):
    with pytest.raises(DataError, match="2 left out: a photo to share has no caption"):
        train("dialogues", base, f"mmdialog:{files['mmdialog']}", tmp_path / "a")
    with pytest.raises(DataError, match="2 dialogues left out for missing photos"):
        train("dialogues", base, f"photochat:{files['photochat']}", tmp_path / "b")
    with pytest.raises(DataError, match="missing-photos=skip"):
        train(
            "dialogues",
            base,
            f"photochat:{files['photochat']}",
            tmp_path / "c",
            "missing_photos=error",
        )


def test_painted_substitutes_are_marked_in_the_passport(tmp_path, base, files):
    _, passport = train(
        "dialogues",
        base,
        f"photochat:{files['photochat']}",
        tmp_path / "o",
        f"missing_photos=paint:{base}",
    )
    assert passport["counts"]["examples"] == 2
    assert "2 of 2 photos are substitutes" in passport["notes"][0]
    assert len(list((tmp_path / "o" / "substitutes").glob("*.png"))) == 2


def test_held_out_dialogues_settle_the_threshold_and_are_not_trained_on(tmp_path, base):
    natives.write_world(tmp_path / "w", open_data("world:0-11"))
    model, passport = train(
        "dialogues", base, f"showtell:{tmp_path / 'w'}", tmp_path / "o", "calibration_dialogues=8"
    )
    assert passport["counts"] == {"dialogues": 12, "examples": 4, "examples held out": 8}
    assert load_model(str(model)).decoding.share_threshold != 0.5


# ---------------------------------------------------------------------------------------- shards


def whole(task, indices):
    """The losses of a batch in one part."""
    generator = torch.Generator().manual_seed(0)
    ((losses, _),) = task.parts(indices, count=1, generator=generator)
    return losses


def small_task(tokenizers, data, *, threads):
    model = build_model(tokenizers, bridge="dvtm")
    stage = replace(DIALOGUES.stage, accumulate=1)
    experiment = replace(DIALOGUES, threads=threads, calibration_dialogues=0)
    return task_of(model, experiment, stage, open_data(data))[0]


def test_packed_photos_train_as_the_drawn_ones(tokenizers, packed):
    task = small_task(tokenizers, f"shards:{packed}", threads=2)
    task.prefetch([0, 1, 2])
    packed_losses = whole(task, [0, 1, 2])
    same = small_task(tokenizers, "world:0-12", threads=0)
    losses = whole(same, [0, 1, 2])
    assert losses.keys() == packed_losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, packed_losses[name])


def test_photos_read_ahead_are_those_read_on_the_spot(tokenizers, packed):
    model = build_model(tokenizers, bridge="dvtm")
    source = open_data(f"shards:{packed}")
    examples, _ = read_examples(
        source, form=form_named("dialogue"), needs=Needs.of(model, captions=False)
    )
    assert set(photo_looks(model)) == {"seen", "made"}
    loader = Loader(examples, model, threads=2)
    loader.looks["made"] = partial(square, size=32)
    loader.prefetch([3, 1])
    assert set(loader.coming) == {3, 1}
    for index in (3, 1, 2):
        dialogue = loader.dialogue(index)
        assert dialogue == examples[index]
        for turn in dialogue.turns:
            for photo in turn.photos:
                assert loader.seen_pixels(photo).equal(square_pixels(photo, 64))
                made = loader.made_pixels(photo)
                assert made.shape == (3, 32, 32) and made.equal(square_pixels(photo, 32))
    assert not loader.coming


def test_substitutes_belong_into_the_shards(tmp_path, base, packed):
    with pytest.raises(ConfigError, match="data pack"):
        train("dialogues", base, f"shards:{packed}", tmp_path, f"missing_photos=paint:{base}")


def test_data_made_on_demand_give_each_form_in_turn_and_are_not_looked_at(tokenizers):
    model = build_model(tokenizers, bridge="dvtm")
    source = open_data("world:stories:0-9")
    form = form_named("story")
    needs = Needs.of(model, captions=False)
    examples, held = read_examples(source, form=form, needs=needs, limit=8, held_out=2)
    assert len(examples) == 6 and len(held) == 2 * 13
    assert [examples[n] for n in range(6)] == [form(source[n])[n] for n in range(6)]
    both = Alternating(examples, examples)
    assert len(both) == 6 and both[2] == examples[2] and both[3] == examples[3]


def test_captions_beside_dialogues_come_at_every_second_visit(tokenizers):
    model = build_model(tokenizers, bridge="dvtm")
    stage = replace(DIALOGUES.stage, captions="world:photos:0-3", paint=False)
    model.painter = None
    task, _, _ = task_of(model, DIALOGUES, stage, open_data("world:0-300"))
    shown = [task.dialogue(n) for n in range(6)]
    assert [d.id.startswith("caption-") for d in shown] == [False, True] * 3
    assert [task.excerpt_only(n) for n in range(4)] == [False, True] * 2
    told = shown[1].turns[1].photos[0].caption  # the fullest that there is
    assert told == open_data("world:photos:0-3")[1].photos[0].labels["full_caption"]
    losses = whole(task, [1, 3])
    assert "moment" not in losses and losses["caption"] > 0
