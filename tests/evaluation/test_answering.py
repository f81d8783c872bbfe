"""Any data measures any model: one pass agrees with answering, and the files score the same; a
folder for results is held, written at the end, and cleared of what a killed process left."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from conftest import build_model, collated, dialogues_with_photos, responder_of, save_vision
from showtell.data.photos import has_pixels, photo_image
from showtell.data.shards import pack
from showtell.data.sources import open_data
from showtell.dialogue import USER, Photo, Turn
from showtell.errors import ConfigError, DataError, StorageError
from showtell.evaluation import evaluate
from showtell.evaluation.answer import BATCH, answer_dialogues
from showtell.evaluation.answered import working_folder
from showtell.metrics.blind_page import export_page
from showtell.metrics.rows import Encoders
from showtell.metrics.scoring import score
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import share_logit
from showtell.models.gold import read_gold, seen_images
from showtell.papers import load_model
from showtell.papers.forms import form_named
from showtell.recipes import run_recipe

WORLD_FEATURES = Encoders(features="world:oracle")


@pytest.fixture(scope="module")
def parts(tokenizers, tmp_path_factory):
    """The base that the recipe ``parts`` makes of tiny folders; it answers shortly."""
    root = tmp_path_factory.mktemp("parts")
    model = build_model(tokenizers, bridge="pipeline")
    model.language.save_pretrained(root / "language")
    model.painter.save_pretrained(root / "painter")
    save_vision(model.photo_encoder.vision, root / "vision")
    settings = [f"{name}={root / name}" for name in ("language", "painter", "vision")]
    settings += ["qformer_layers=1", "num_photo_tokens=2"]
    base = load_model(str(run_recipe("parts", overrides=settings, out=root / "run", resume=False)))
    base.decoding = replace(base.decoding, max_new_tokens=4, num_steps=1)
    save_model(base, root / "base", recipe={"name": "parts"})
    return root / "base"


def packed(data, folder):
    pack(open_data(data), folder, source=data)
    return f"shards:{folder}"


def records(folder, name="predictions"):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------- answers


def test_one_pass_gives_the_chances_and_the_loss_that_the_model_gives(tiny_end_to_end):
    model = tiny_end_to_end
    dialogues = [form_named("dialogue")(d)[0] for d in dialogues_with_photos(2)]
    read = read_gold(model, dialogues, batch_size=2)
    moments = zip(read.dialogue_M, read.turn_M, read.shared_M, read.p_share_M, strict=True)
    for b, k, shared, chance in [each for each in moments if each[1]][:4]:
        context = dialogues[b].turns[:k]
        writing, _ = Decoder(model).read_all([context], [seen_images(model, context)])
        Decoder(model).open_turn(writing)
        alone = share_logit(writing.logits_BV, model.renderer.img).sigmoid()
        assert chance == pytest.approx(float(alone), rel=1e-3)
        assert shared == bool(dialogues[b].turns[k].photos)
    model.painter = None
    with torch.no_grad():
        loss = model(collated(model, dialogues), generator=torch.Generator())["t"]
    assert read.perplexity == pytest.approx(math.exp(float(loss)), rel=1e-4)
    told = ~read.shared_M
    places = zip(read.dialogue_M[told].tolist(), read.turn_M[told].tolist(), strict=True)
    assert set(read.turn_nll()) == set(places)


def test_many_texts_are_written_at_once_and_no_more_than_are_wanted(
    tiny_end_to_end, tmp_path, monkeypatch
):
    read, sizes = Decoder.read_all, []

    def watched(self, contexts, images):
        sizes.append(len(contexts))
        return read(self, contexts, images)

    monkeypatch.setattr(Decoder, "read_all", watched)
    dialogues = [form_named("dialogue")(d)[0] for d in dialogues_with_photos(5)]
    tiny_end_to_end.painter = None
    given = {"folder": tmp_path, "seed": 3, "turns": True, "whole": False, "most": BATCH + 2}
    found = answer_dialogues(tiny_end_to_end, dialogues, **given)
    assert sizes == [BATCH, 2] and len(found.of("text")) == BATCH + 2


def test_a_photo_that_a_captioner_cannot_see_keeps_its_caption(tokenizers, tmp_path):
    model, eyes = (build_model(tokenizers, bridge="pipeline") for _ in range(2))
    model.captioner, model.painter, model.photo_encoder = eyes, None, None
    model.decoding = replace(model.decoding, max_new_tokens=3)
    (dialogue,) = dialogues_with_photos(1)
    lost = Photo(id="lost", caption="gone", origin="user")  # no pixels anywhere
    before = Turn(speaker=USER, elements=(lost,))
    dialogue = replace(dialogue, turns=(before, *dialogue.turns))
    assert not has_pixels(lost) and any(has_pixels(photo) for photo in dialogue.photos)
    given = {"folder": tmp_path, "seed": 0, "turns": True, "whole": True, "most": None}
    found = answer_dialogues(model, [dialogue], **given)
    assert found.of("text") and found.of("answer")
    images = seen_images(model, dialogue.turns)
    (told,) = responder_of(model).describe_all([dialogue.turns], [images])
    assert told[0] == before and told != dialogue.turns


# ---------------------------------------------------------------------------------- any data


@pytest.mark.parametrize(
    ("kind", "form", "protocols", "rows"),
    [
        ("world", "", (), ["photo.attribute_accuracy", "moment.f1"]),
        ("photochat", "", (), ["description.object_f1", "baseline.keyword.f1"]),
        ("photochat", "", ("psdg",), ["text.psdg.bleu2"]),
        ("dialogcc", "", ("psdg",), ["photo.psdg.fid", "moment.f1", "moment.auprc"]),
        ("mmdialog", "dialogue", ("minigpt5",), ["text.minigpt5.bleu1"]),
        ("vist", "", ("psdg",), ["text.psdg.bleu1"]),
        ("vist", "task_end:both", ("minigpt5",), ["photo.minigpt5.fid"]),
        ("vist", "task_tell", ("standard",), ["text.standard.rouge_l", "text.perplexity"]),
        ("visdial", "photo_last:2", ("gill",), ["photo.gill.clip_i"]),
        ("cc3m", "alignment", ("psdg",), []),  # of one photo no set is measured
        ("folder", "alignment", ("minigpt5",), ["photo.minigpt5.clip_t"]),
        ("showtell", "", (), ["photo.psdg.fid", "photo.standard.kid"]),
        ("shards", "", ("psdg",), ["text.psdg.bleu1"]),
    ],
)
def test_a_base_of_library_folders_is_measured_on_every_kind_of_data(
    parts, files, tmp_path, kind, form, protocols, rows
):
    data = "world:106-109" if kind == "world" else f"{kind}:{files.get(kind)}"
    if kind == "shards":
        data = packed(f"visdial:{files['visdial']}", tmp_path / "packed")
    out, given = tmp_path / "out", {"protocols": protocols, "form": form}
    report = evaluate(str(parts), data, limit=4, out=out, encoders=WORLD_FEATURES, **given)
    assert set(rows) <= set(report.metrics)
    assert f"form: {form or 'dialogue'}" in report.notes or kind in ("world", "photochat")
    needs = [value.note for value in report.metrics.values() if value.value is None]
    assert all("needs" in n or "no prediction" in n or "not run: train.jsonl" in n for n in needs)
    ids = [record["id"] for record in records(out)]
    assert ids and len(ids) == len(set(ids)) and not list(out.glob(".*"))
    paths = (out / "predictions.jsonl", out / "references.jsonl")
    again = score(*paths, protocol="psdg", encoders=WORLD_FEATURES)
    for name in ("photo.psdg.kid", "photo.psdg.fid"):
        if (found := report.metrics.get(name)) is not None:
            assert again.metrics[name].value == pytest.approx(found.value)


def test_neither_speaker_is_the_agent_so_both_are_measured_beside_what_is_published(base, files):
    report = evaluate(str(base), f"dialogcc:{files['dialogcc']}", protocols=("psdg",))
    assert report.counts["dialogues"] == report.counts["own photos"] == 2
    assert report.counts["replies"] == 2
    assert any("psdg.fid of the end-to-end model" in row.name for row in report.reported)


def test_missing_photos_are_counted_and_substitutes_are_marked(tmp_path, base, files):
    name, given = f"photochat:{files['photochat']}", {"protocols": ("psdg",)}
    report = evaluate(str(base), name, **given)
    assert report.counts["photos to compare with that are missing"] == 2
    assert "photo.psdg.fid" not in report.metrics
    given |= {"encoders": WORLD_FEATURES, "out": tmp_path}
    report = evaluate(str(base), name, missing_photos=f"paint:{base}", **given)
    assert report.metrics["photo.psdg.fid"].value is not None
    assert any("2 of 2 photos are substitutes" in note for note in report.notes)
    with pytest.raises(DataError, match="left out|nothing to answer"):
        evaluate(str(base), name, protocols=("psdg",), missing_photos="skip")


@pytest.mark.parametrize(
    ("kind", "given", "error", "says"),
    [
        ("vist", {"protocols": ("psdgg",)}, ConfigError, 'did you mean "psdg"'),
        ("vist", {"protocols": ("mmdialog",)}, DataError, "nothing to answer"),  # told alone
        ("visdial", {"form": "task_end:both"}, DataError, "is no story"),
    ],
)
def test_what_cannot_be_measured_is_a_clear_error(base, files, kind, given, error, says):
    with pytest.raises(error, match=says):
        evaluate(str(base), f"{kind}:{files[kind]}", **given)


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [("world", "psdg"), ("visdial", "minigpt5"), ("shards", "psdg")],
)
def test_answers_go_to_the_judges_with_what_came_before_them(tmp_path, base, files, kind, protocol):
    data = "world:0-1" if kind == "world" else f"visdial:{files['visdial']}"
    data = packed(data, tmp_path / "packed") if kind == "shards" else data
    out = tmp_path / "out"
    evaluate(str(base), data, protocols=(protocol,), form="dialogue", out=out)
    ids = [record["id"] for record in records(out)]
    context = f"showtell:{out / 'context.jsonl'}"
    page = export_page(
        out / "predictions.jsonl", out / "references.jsonl", tmp_path / "p.html", context=context
    )
    assert page.items == len(ids) > 1 and not page.without_context
    before = {dialogue.id: dialogue for dialogue in open_data(context)}
    assert list(before) == ids
    whole = {d.id: form_named("dialogue")(d)[0] for d in open_data(data)}
    pairs = 0
    for name, shown in before.items():
        dialogue, _, turn = name.rpartition("-")
        turns = whole[dialogue].turns[: int(turn.removeprefix("answer"))]
        assert [turn.text for turn in shown.turns] == [turn.text for turn in turns]
        for mine, theirs in zip(shown.photos, (p for t in turns for p in t.photos), strict=True):
            assert has_pixels(mine) and photo_image(mine) == photo_image(theirs)
            pairs += 1
    assert pairs


# --------------------------------------------------------------------------------- the folder


def test_a_folder_is_found_unwritable_or_held_before_any_work(parts, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("this came after the work")

    monkeypatch.setattr("showtell.evaluation.load_model", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="name another folder|Name another folder"):
        evaluate(str(parts), "world:0-1", out=tmp_path / "file" / "out")
    with working_folder(tmp_path / "out"), pytest.raises(StorageError, match="another process"):
        evaluate(str(parts), "world:0-1", out=tmp_path / "out")


def test_what_a_killed_process_left_is_cleared_and_an_old_report_stays_whole(parts, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "showtell", "evaluate", str(parts), "world:0-400"]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    while not list(out.glob(".part/painted/*.png")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name for path in out.iterdir()] == [".part"]
    report = evaluate(str(parts), "world:106-107", out=out)
    before = (out / "report.json").read_bytes()
    assert report.counts["dialogues"] == 2 and not (out / ".part").exists()
    with pytest.raises(KeyboardInterrupt), working_folder(out) as work:
        (work / "report.json").write_text("half")
        raise KeyboardInterrupt
    assert (out / "report.json").read_bytes() == before and not (out / ".part").exists()
