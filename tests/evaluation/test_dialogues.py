"""Any data measures any model: one pass agrees with answering, and the files score the same."""

from __future__ import annotations

import json
import math

import pytest
import torch

from conftest import build_model, collated, dialogues_with_photos
from data import natives
from showtell.errors import ConfigError, DataError
from showtell.evaluation import Encoders, evaluate
from showtell.evaluation.dialogues import _images, read_dialogues
from showtell.metrics import score
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import share_logit
from showtell.recipes.forms import form_named


@pytest.fixture(scope="module")
def base(tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="dvtm"), folder, recipe={"name": "tiny"})
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("natives") / "all"
    found = natives.write_all(root)
    natives.write_all_photos(root)
    return found


def test_one_pass_gives_the_chances_and_the_loss_that_the_model_gives(tiny_end_to_end):
    model = tiny_end_to_end
    dialogues = [form_named("dialogue")(d)[0] for d in dialogues_with_photos(2)]
    read = read_dialogues(model, dialogues, batch_size=2)
    for (b, k), chance in list(read.p_share.items())[:4]:
        context = dialogues[b].turns[:k]
        writing, _ = model.read(context, _images(model, context))
        model.open_turn(writing)
        alone = share_logit(writing.logits_V[None], model.renderer.img).sigmoid()
        assert chance == pytest.approx(float(alone), rel=1e-3)
        assert read.shared[b, k] == bool(dialogues[b].turns[k].photos)
    model.painter = None
    with torch.no_grad():
        loss = model(collated(model, dialogues), generator=torch.Generator())["t"]
    assert read.perplexity == pytest.approx(math.exp(float(loss)), rel=1e-4)
    assert set(read.nll) == {key for key, shared in read.shared.items() if not shared}


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
        features="world:oracle",
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
