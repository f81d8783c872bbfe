"""Any data trains any model: what is left out is counted, and shards go on at the exact example."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import replace
from itertools import chain

import pytest
import torch

from conftest import build_model
from data import natives
from recipes.conftest import learnt
from showtell.data.shards import pack
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import ConfigError, DataError
from showtell.models.checkpoint import read_description
from showtell.papers import load_model
from showtell.papers.forms import form_named
from showtell.recipes import run_recipe
from showtell.recipes.experiment import task_of
from showtell.recipes.systems import DIALOGUES
from showtell.training.examples import (
    Alternating,
    Loader,
    Needs,
    photo_sides,
    read_examples,
    square_pixels,
)
from showtell.training.loop import run_stage
from showtell.training.stage import Stage
from showtell.training.task import batch_indices

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


# --------------------------------------------------------------------------------- all the data


@pytest.mark.parametrize(
    ("kind", "form", "examples"),
    [
        ("dialogcc", "dialogue", 2),
        ("vist", "dialogue", 2),
        ("visdial", "dialogue", 2),
        ("cc3m", "alignment", 1),  # the other photo is an address
        ("folder", "caption_pairs", 4),
        ("showtell", "dialogue", 2),
    ],
)
def test_every_kind_of_data_trains_a_model_that_loads(tmp_path, base, files, kind, form, examples):
    model, passport = train(
        "dialogues", base, f"{kind}:{files[kind]}", tmp_path / "o", f"stage.form={form}"
    )
    assert passport["counts"]["examples"] == examples
    other = "photo_encoder" if kind == "visdial" else "painter"
    assert {"language", other} <= {name.split(".")[0] for name in learnt(base, model)}
    assert read_description(model)["recipe"]["data"] == passport


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


def small_task(tokenizers, data, *, threads):
    model = build_model(tokenizers, bridge="dvtm")
    stage = replace(DIALOGUES.stage, swap=False, accumulate=1)
    experiment = replace(DIALOGUES, threads=threads, calibration_dialogues=0)
    return task_of(model, experiment, stage, open_data(data))[0]


def test_packed_photos_train_as_the_drawn_ones(tokenizers, packed):
    task = small_task(tokenizers, f"shards:{packed}", threads=2)
    task.prefetch([0, 1, 2])
    packed_losses = task.losses([0, 1, 2], generator=torch.Generator().manual_seed(0))
    same = small_task(tokenizers, "world:0-12", threads=0)
    losses = same.losses([0, 1, 2], generator=torch.Generator().manual_seed(0))
    assert losses.keys() == packed_losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, packed_losses[name])


def test_a_run_on_shards_cut_in_the_middle_of_an_epoch_goes_on_with_the_same_examples_and_losses(
    tokenizers, packed, tmp_path
):
    stage = Stage(
        name="s", steps=5, batch_size=2, warmup=1, learning_rate=1e-3, autocast=False,
        weights={"t": 1.0, "moment": 0.5, "caption": 0.5, "v": 1.0},
    )  # fmt: skip

    def run(out, *, resume=False, stop_after=None):
        task = small_task(tokenizers, f"shards:{packed}", threads=2)
        visited, dialogue = [], task.dialogue

        def watched(index):
            found = dialogue(index)
            visited.append((index, found.id))
            return found

        task.dialogue = watched
        history = run_stage(stage, task, out=out, resume=resume, stop_after=stop_after)
        return visited, history, [p.detach().clone() for p in task.module.parameters()]

    whole, history, weights = run(tmp_path / "a")
    first, _, _ = run(tmp_path / "b", stop_after=3)
    rest, again, resumed = run(tmp_path / "b", resume=True)
    assert first + rest == whole and len(set(whole)) == 10
    assert again[-1]["t"] == history[-1]["t"] and again[-1]["v"] == history[-1]["v"]
    assert all(torch.equal(a, b) for a, b in zip(weights, resumed, strict=True))


def test_two_processes_share_an_epoch_of_shards_exactly(tokenizers, packed):
    task = small_task(tokenizers, f"shards:{packed}", threads=0)
    blocks = task.blocks
    assert len(blocks) > 2 and list(chain(*blocks)) == list(range(len(task)))
    steps = range(3 * len(task) // 6)
    of_rank = [
        [batch_indices(len(task), 6, step, 5, blocks=blocks)[rank::2] for step in steps]
        for rank in range(2)
    ]
    visits = Counter(index for rank in of_rank for batch in rank for index in batch)
    whole_epochs = [
        i for step in steps for i in batch_indices(len(task), 6, step, 5, blocks=blocks)
    ]
    assert visits == Counter(whole_epochs)
    first = whole_epochs[: len(task)]
    assert sorted(first) == list(range(len(task)))
    shard_of = {index: k for k, block in enumerate(blocks) for index in block}
    changes = sum(shard_of[a] != shard_of[b] for a, b in zip(first, first[1:], strict=False))
    assert changes == len(blocks) - 1  # one shard after the other
    assert first != whole_epochs[len(task) : 2 * len(task)]


def test_photos_read_ahead_are_those_read_on_the_spot(tokenizers, packed):
    model = build_model(tokenizers, bridge="dvtm")
    source = open_data(f"shards:{packed}")
    examples, _ = read_examples(
        source, form=form_named("dialogue"), needs=Needs.of(model, captions=False)
    )
    assert photo_sides(model) == (64, 64)
    loader = Loader(examples, model, threads=2)
    loader.made, loader.of_agent = 32, {64, 32}
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
    losses = task.losses([1, 3], generator=torch.Generator().manual_seed(0))
    assert "moment" not in losses and losses["caption"] > 0
