"""``score`` from files to report, under every protocol, without any model of ours."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from scored_files import MEAN_COLOUR, Clip, all_encoders, write_files

import showtell.metrics
from showtell.cli import main
from showtell.errors import ConfigError, DataError, PhotoError
from showtell.metrics.photo_rows import _reduced
from showtell.metrics.protocols import PROTOCOLS, VERSIONS
from showtell.metrics.rows import Encoders
from showtell.metrics.scoring import score

NUM = 24


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("score"), NUM)


def scored(files, protocol, **settings):
    return score(files / "said.jsonl", files / "wanted.jsonl", protocol=protocol, **settings)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_row_without_what_it_needs_says_so(files, protocol):
    report = scored(files, protocol, out=files / protocol)
    chosen = PROTOCOLS[protocol]
    absent = [name for name, v in report.metrics.items() if v.value is None]
    assert {name.split(".")[2] for name in absent} >= set(chosen.photo)
    for name in absent:
        row = report.metrics[name]
        assert row.n == 0 and "not measured: " in row.note
    text = report.to_markdown()
    assert f"{protocol} v{VERSIONS[protocol]}" in text and chosen.source in text
    assert "24 pairs, 8 dialogues" in text and "warning: 24 pairs are few" in text
    assert json.loads((files / protocol / "report.json").read_text())["notes"]


def test_encoders_are_named_and_say_how_many_texts_they_cut(files):
    report = scored(files, "mmdialog", encoders=all_encoders())
    assert report.encoders["clip"].startswith("letters and colours")
    text = report.to_markdown()
    assert "texts were longer than the encoder of clip reads" in text


def test_predictions_that_are_the_references_are_perfect(files):
    encoders = Encoders(clip=Clip(), relevance_clip=Clip())
    gold = files / "wanted.jsonl"
    for protocol in PROTOCOLS:
        report = score(gold, gold, protocol=protocol, encoders=encoders)
        for name, value in report.metrics.items():
            if name.split(".")[2:] and value.value is not None:
                best = name.split(".")[-1]
                if best in ("bleu1", "bleu4", "rouge_l", "clip_i", "f1") and protocol != "gill":
                    assert value.value == pytest.approx(1, abs=1e-6), name


def memory(*rows):
    return [{"id": str(k), **row} for k, row in enumerate(rows)]


def test_minigpt5_averages_turns_within_dialogues_first():
    said = memory({"text": "aa"}, {"text": "bb"}, {"text": "cc"})
    wanted = memory(
        {"text": "aa", "dialogue": "x"},
        {"text": "cc", "dialogue": "x"},
        {"text": "cc", "dialogue": "y"},
    )
    row = score(said, wanted, protocol="minigpt5").metrics["text.minigpt5.bleu1"]
    assert row.value == pytest.approx((1 / 2 + 1) / 2) and row.n == 2
    alone = score(said, memory({"text": "aa"}, {"text": "cc"}, {"text": "cc"}), protocol="minigpt5")
    assert alone.metrics["text.minigpt5.bleu1"].value == pytest.approx(2 / 3)
    assert "each is a dialogue of its own" in alone.to_markdown()


def test_a_missing_text_counts_zero_and_a_missing_reference_nothing():
    said = memory({"text": "a b"}, {"photos": []}, {"text": "surplus"})
    wanted = memory({"text": "a b"}, {"text": "a b"}, {"photos": []})
    for protocol, value in (("mmdialog", 0.5), ("minigpt5", 0.5)):
        report = score(said, wanted, protocol=protocol, only=["bleu1"])
        assert report.metrics[f"text.{protocol}.bleu1"].value == pytest.approx(value)
        assert "50.0% of the reference texts" in report.to_markdown()
    standard = score(said, wanted, protocol="standard", only=["rouge_l"])
    assert standard.metrics["text.standard.rouge_l"].value == pytest.approx(0.5)


def test_clip_i_of_missing_photos_is_each_protocols_own(tmp_path):
    for name in ("one", "two"):
        Image.new("RGB", (70, 70), "red").save(tmp_path / f"{name}.png")
    said = memory({"photos": [tmp_path / "one.png"]}, {"photos": []})
    wanted = memory(
        {"photos": [tmp_path / "one.png", tmp_path / "two.png"]}, {"photos": [tmp_path / "one.png"]}
    )
    values = {}
    for protocol in ("standard", "mmdialog", "gill"):
        report = score(
            said, wanted, protocol=protocol, encoders=Encoders(clip=Clip()), only=["clip_i"]
        )
        values[protocol] = report.metrics[f"photo.{protocol}.clip_i"]
    assert values["mmdialog"].value == pytest.approx((1 / 2 + 0) / 2) and values["mmdialog"].n == 2
    assert values["gill"].value == pytest.approx(1) and values["gill"].n == 1
    assert "2 of 3 photos missing" in values["gill"].note


def test_a_photo_that_cannot_be_read_is_an_error_or_a_counted_pair(files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no photo")
    said = memory(
        *({"photos": [files / f"said{k}.png"]} for k in range(9)),
        {"photos": [tmp_path / "broken.png"], "text": "a"},
    )
    wanted = memory(*({"photos": [files / f"wanted{k}.png"], "text": "a"} for k in range(10)))
    settings = {"protocol": "psdg", "encoders": Encoders(features=MEAN_COLOUR), "only": ["fid"]}
    with pytest.raises(PhotoError, match="broken.png"):
        score(said, wanted, **settings)
    report = score(said, wanted, **settings, skip_bad=True)
    assert report.metrics["photo.psdg.fid"].n == 9
    assert report.counts["pairs with a bad photo"] == 1 and "broken.png" in report.to_markdown()
    with pytest.raises(DataError, match="of every pair"):
        score(said[9:], wanted[9:], **settings, skip_bad=True)


def test_the_short_side_is_reduced_and_the_long_rounded_down():
    assert _reduced(Image.new("RGB", (512, 769)), 256).size == (256, 384)
    # a thin photo is not enlarged to 49 megapixels
    assert _reduced(Image.new("RGB", (6000, 8)), 256).size == (16 * 256, 256)


def test_features_of_the_photo_world_are_measured_offline_and_marked(files):
    encoders = Encoders(features="world:oracle")
    report = scored(files, "psdg", encoders=encoders, only=["fid", "kid"])
    assert len(report.metrics) == 2 and report.encoders == {"features": "world:oracle"}
    assert report.metrics["photo.psdg.fid"].higher_is_better is False
    text = report.to_markdown()
    assert "not of Inception" in text and "FID of 26 photos is biased" in text


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"protocol": "psgd"}, ConfigError, 'did you mean "psdg"'),
        ({"protocol": "psdg", "only": ["clip_i"]}, ConfigError, 'has no row "clip_i"'),
        ({"protocol": "psdg", "only": ["fid"]}, DataError, r"inception.*safetensors.*--inception"),
        ({"protocol": "gill", "only": ["lpips"]}, DataError, r"lpips-alex\.safetensors"),
        ({"protocol": "gill", "only": ["clip_i"]}, DataError, "clip-vit-large-patch14"),
        ({"protocol": "mmdialog", "only": ["relevance"]}, DataError, "clip-vit-base-patch32"),
        ({"protocol": "standard", "only": ["sbert"]}, DataError, "all-MiniLM-L6-v2"),
        ({"protocol": "psdg", "encoders": Encoders(features="x")}, ConfigError, "world:oracle"),
        ({"protocol": "psdg", "threshold": 2.0}, ConfigError, "probability"),
    ],
)
def test_what_cannot_be_measured_says_what_is_wanted(files, settings, error, says):
    with pytest.raises(error, match=says):
        score(files / "said.jsonl", files / "wanted.jsonl", **settings)


def test_nothing_to_score_and_misspelt_fields_are_said():
    with pytest.raises(DataError, match="nothing to score"):
        score(memory({"text": "a"}), memory({"photos": []}), protocol="psdg")
    said, wanted = memory({"text": "a"}, {"txet": "b"}), memory({"text": "a"}, {"text": "b"})
    with pytest.raises(DataError, match='did you mean "text"'):
        score(said, wanted, protocol="psdg")
    report = score(said, wanted, protocol="psdg", seed=3, skip_bad=True)
    assert report.counts["bad predictions"] == 1 and report.seeds == (3,)


def test_texts_of_a_script_that_rouge_score_does_not_see_are_warned_of():
    rows = memory({"text": "собака на пляже"}, {"text": "a dog"}, {"text": "..."})
    report = score(rows, rows, protocol="standard", only=["rouge_l"])
    assert report.metrics["text.standard.rouge_l"].value == pytest.approx(1 / 3)  # the tool's own
    assert any(note.startswith("warning: text.standard.rouge_l: 2 texts") for note in report.notes)
    assert score(rows, rows, protocol="psdg").metrics["text.psdg.rouge_l"].value == 1


def test_protocols_are_versioned_and_defined_on_the_page(request):
    page = (request.config.rootpath / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, protocol in PROTOCOLS.items():
        assert name == protocol.name and name in VERSIONS
        for row in (*protocol.text, *protocol.photo):
            assert f"`{row}`" in page, row
    assert "`relevance.<protocol>.f1`" in page


def test_the_verb_prints_the_report(files, capsys):
    arguments = ["score", str(files / "said.jsonl"), str(files / "wanted.jsonl")]
    assert main([*arguments, "--protocol", "psdg", "--metric", "bleu1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["metrics"]) == ["text.psdg.bleu1"] and "psdg" in found["protocols"]
    assert main([*arguments, "--metric", "rouge_l", "--out", str(files / "out")]) == 0
    out = capsys.readouterr().out
    assert "text.standard.rouge_l" in out and f"Wrote {files / 'out'}" in out
    assert main([*arguments, "--protocol", "psgd"]) == 2
    assert 'did you mean "psdg"' in capsys.readouterr().err
    assert main([*arguments[:2], "none.jsonl"]) == 1
    assert "none.jsonl is not there" in capsys.readouterr().err


def test_public_names_are_sorted_and_there():
    for name in showtell.metrics.__all__:
        found = getattr(showtell.metrics, name)
        assert callable(found) or name == "PROTOCOLS", name
    # no function bears the name of a module, which would hide it once that is imported
    assert not set(showtell.metrics.__all__) & set(showtell.metrics._HOMES.values())
    with pytest.raises(AttributeError, match="nonsense"):
        _ = showtell.metrics.nonsense
