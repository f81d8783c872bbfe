"""Any data measures any model: one pass agrees with answering, and the files score the same."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from conftest import build_model, collated, dialogues_with_photos, responder_of
from showtell.data.photos import has_pixels, photo_image
from showtell.data.shards import pack
from showtell.data.sources import open_data
from showtell.dialogue import USER, Photo, Turn
from showtell.errors import ConfigError, DataError
from showtell.evaluation import evaluate
from showtell.evaluation.answer import BATCH, answer_dialogues, write_texts
from showtell.metrics import score
from showtell.metrics.blind_page import export_page
from showtell.metrics.rows import Encoders
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import share_logit
from showtell.models.gold import read_gold, seen_images
from showtell.papers.forms import form_named


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


def test_texts_are_those_of_answering_alone_and_many_are_written_at_once(
    tiny_model, tmp_path, monkeypatch
):
    model = tiny_model
    read, sizes = Decoder.read_all, []

    def watched(self, contexts, images):
        sizes.append(len(contexts))
        return read(self, contexts, images)

    dialogues = [form_named("dialogue")(d)[0] for d in dialogues_with_photos(5)]
    model.painter = None
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "read_all", watched)
        found = answer_dialogues(
            model, dialogues, folder=tmp_path, seed=3, turns=True, whole=False, most=BATCH + 2
        )  # fmt: skip
    said = found.of("text")
    assert sizes == [BATCH, 2] and len(said) == BATCH + 2
    alone = []
    for b, k in (answer.place for answer in said):
        context = dialogues[b].turns[:k]
        decoder = responder_of(model, temperature=0.0).decoder
        alone += write_texts(decoder, [context], seed=0)
    assert found.texts("text") == alone
    assert len(set(alone)) > 1


def test_a_photo_that_a_captioner_cannot_see_keeps_its_caption(tokenizers, tmp_path):
    model, eyes = (build_model(tokenizers, bridge="pipeline") for _ in range(2))
    model.captioner, model.painter, model.photo_encoder = eyes, None, None
    model.decoding = replace(model.decoding, max_new_tokens=3)
    (dialogue,) = dialogues_with_photos(1)
    lost = Photo(id="lost", caption="gone", origin="user")  # no pixels anywhere
    before = Turn(speaker=USER, elements=(lost,))
    dialogue = replace(dialogue, turns=(before, *dialogue.turns))
    assert not has_pixels(lost) and any(has_pixels(photo) for photo in dialogue.photos)
    found = answer_dialogues(
        model, [dialogue], folder=tmp_path, seed=0, turns=True, whole=True, most=None
    )  # fmt: skip
    assert found.of("text") and found.of("answer")
    images = seen_images(model, dialogue.turns)
    (told,) = responder_of(model).describe_all([dialogue.turns], [images])
    assert told[0] == before and told != dialogue.turns


def test_a_report_on_files_is_what_score_makes_of_its_own_predictions(tmp_path, base, files):
    out = tmp_path / "o"
    report = evaluate(
        str(base),
        f"dialogcc:{files['dialogcc']}",
        protocols=("psdg",),
        encoders=Encoders(features="world:oracle"),
        out=out,
    )
    again = score(
        out / "predictions.jsonl", out / "references.jsonl", protocol="psdg", only=("fid", "kid"),
        encoders=Encoders(features="world:oracle"),
    )  # fmt: skip
    for name in ("photo.psdg.fid", "photo.psdg.kid"):
        assert report.metrics[name].value == pytest.approx(again.metrics[name].value)
    assert report.counts["own photos"] == 2 and report.counts["dialogues"] == 2
    # neither speaker is the agent: what the first says is measured as well
    lines = (out / "predictions.jsonl").read_text().splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert len(ids) == len(set(ids)) == 4
    assert {"moment.f1", "moment.auprc", "text.perplexity", "text.psdg.bleu1"} <= set(
        report.metrics
    )
    assert any("psdg.fid of the end-to-end model" in row.name for row in report.reported)
    assert list((out / "photos").glob("*.png"))


@pytest.mark.parametrize(
    ("kind", "form", "protocols", "rows"),
    [
        ("vist", "task_end:both", ("minigpt5",), ["photo.minigpt5.fid"]),
        ("vist", "task_tell", ("standard",), ["text.standard.rouge_l", "text.perplexity"]),
        ("visdial", "photo_last:2", ("gill",), ["photo.gill.clip_i"]),
        ("mmdialog", "dialogue", ("minigpt5",), ["text.minigpt5.bleu1"]),
        ("showtell", "dialogue", (), ["photo.psdg.fid", "photo.standard.kid"]),
        ("folder", "alignment", ("minigpt5",), ["photo.minigpt5.clip_t"]),
    ],
)
def test_every_kind_of_data_is_measured(base, files, kind, form, protocols, rows):
    report = evaluate(
        str(base),
        f"{kind}:{files[kind]}",
        protocols=protocols,
        form=form,
        limit=2,
        encoders=Encoders(features="world:oracle"),
    )
    assert set(rows) <= set(report.metrics)
    assert f"form: {form}" in report.notes
    needs = [v.note for v in report.metrics.values() if v.value is None]
    assert all("needs" in note or "no prediction" in note for note in needs)


def test_missing_photos_are_counted_and_substitutes_are_marked(tmp_path, base, files):
    name, encoders = f"photochat:{files['photochat']}", Encoders(features="world:oracle")
    report = evaluate(str(base), name, protocols=("psdg",), out=tmp_path / "a")
    assert report.counts["photos to compare with that are missing"] == 2
    assert "photo.psdg.fid" not in report.metrics
    report = evaluate(
        str(base), name, protocols=("psdg",), out=tmp_path / "b", encoders=encoders,
        missing_photos=f"paint:{base}",
    )  # fmt: skip
    assert report.metrics["photo.psdg.fid"].value is not None
    assert any("2 of 2 photos are substitutes" in note for note in report.notes)
    with pytest.raises(DataError, match="left out|nothing to answer"):
        evaluate(str(base), name, protocols=("psdg",), missing_photos="skip")


def test_what_cannot_be_measured_is_a_clear_error(base, files):
    with pytest.raises(ConfigError, match='did you mean "psdg"'):
        evaluate(str(base), f"vist:{files['vist']}", protocols=("psdgg",))
    with pytest.raises(DataError, match="nothing to answer"):
        evaluate(str(base), f"vist:{files['vist']}", protocols=("mmdialog",))  # told alone
    with pytest.raises(DataError, match="is no story"):
        evaluate(str(base), f"visdial:{files['visdial']}", form="task_end:both")


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [("world", "psdg"), ("visdial", "minigpt5"), ("shards", "psdg")],
)
def test_answers_go_to_the_judges_with_what_came_before_them(tmp_path, base, files, kind, protocol):
    data = "world:0-1" if kind == "world" else f"visdial:{files['visdial']}"
    if kind == "shards":
        pack(open_data(data), tmp_path / "packed", source=data)
        data = f"shards:{tmp_path / 'packed'}"
    out = tmp_path / "out"
    evaluate(str(base), data, protocols=(protocol,), form="dialogue", out=out)
    ids = [json.loads(line)["id"] for line in (out / "predictions.jsonl").read_text().splitlines()]
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
