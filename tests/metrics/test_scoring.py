"""``score`` from files to report, without any model of ours: what counts, and what is said."""

from __future__ import annotations

import json
import re
import weakref

import pytest
from PIL import Image
from scored_files import MEAN_COLOUR, Clip, all_encoders, write_files

from showtell.cli import main
from showtell.data.photos import load_photo
from showtell.errors import ConfigError, DataError, PhotoError
from showtell.metrics.photo_rows import _reduced
from showtell.metrics.protocols import PROTOCOLS, VERSIONS
from showtell.metrics.rows import Encoders
from showtell.metrics.scoring import score


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("score"), 24)


def scored(files, protocol, **settings):
    return score(files / "said.jsonl", files / "wanted.jsonl", protocol=protocol, **settings)


NEEDS = {
    "clip_i": "clip-vit-large-patch14: name a folder with .* by --clip",
    "sbert": "all-MiniLM-L6-v2: name a folder with .* by --sentence-encoder",
    "lpips": r"lpips-alex\.safetensors: name the file by --lpips",
    "fid": r"inception.*\.safetensors: name the file by --inception",
    "meteor": "--wordnet",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_row_without_what_it_needs_says_so(files, protocol, monkeypatch):
    monkeypatch.setattr("nltk.data.path", [])
    report = scored(files, protocol, out=files / protocol)
    chosen = PROTOCOLS[protocol]
    absent = {name.split(".")[2]: v for name, v in report.metrics.items() if v.value is None}
    assert absent.keys() >= set(chosen.photo) | ({"relevance"} if chosen.relevance else set())
    for name, row in absent.items():
        assert row.n == 0 and row.note.startswith("not measured: ")
        if name in NEEDS and protocol != "mmdialog":
            assert re.search(NEEDS[name], row.note)
    text = report.to_markdown()
    assert f"{protocol} v{VERSIONS[protocol]}" in text and chosen.source in text
    assert "24 pairs, 8 dialogues" in text and "warning: 24 pairs are few" in text
    assert json.loads((files / protocol / "report.json").read_text())["notes"]


def test_encoders_are_named_and_say_how_many_texts_they_cut(files):
    report = scored(files, "mmdialog", encoders=all_encoders())
    assert report.encoders["clip"].startswith("letters and colours")
    assert "texts were longer than the encoder of clip reads" in report.to_markdown()


def test_sets_of_photos_are_read_one_photo_at_a_time(files, monkeypatch):
    opened = []  # 64 of the largest that may come would be ten gigabytes

    def opening(path):
        assert not any(image() is not None for image in opened)
        image = load_photo(path)
        opened.append(weakref.ref(image))
        return image

    monkeypatch.setattr("showtell.metrics.photo_rows.load_photo", opening)
    scored(files, "standard", encoders=Encoders(features="world:oracle"))
    assert len(opened) > 40


def memory(*rows):
    return [{"id": str(k), **row} for k, row in enumerate(rows)]


def test_a_missing_text_counts_zero_and_a_missing_reference_nothing():
    said = memory({"text": "a b"}, {"photos": []}, {"text": "surplus"})
    wanted = memory({"text": "a b"}, {"text": "a b"}, {"photos": []})
    for protocol, row in {"mmdialog": "bleu1", "minigpt5": "bleu1", "standard": "rouge_l"}.items():
        report = score(said, wanted, protocol=protocol)
        assert report.metrics[f"text.{protocol}.{row}"].value == pytest.approx(0.5)
        assert re.fullmatch(r"(\w{16}) against (?!\1)\w{16}", report.data_digest)
        assert "50.0% of the reference texts" in report.to_markdown()
    assert "each is a dialogue of its own" in score(said, wanted, protocol="minigpt5").to_markdown()


def test_the_caption_of_a_photo_is_what_clip_t_compares_and_no_text(files):
    said = memory({"photos": [files / "said0.png"]})
    wanted = memory({"photos": [files / "wanted0.png"], "caption": "a cat"})
    report = score(said, wanted, protocol="standard", encoders=Encoders(clip=Clip()))
    assert report.metrics["photo.standard.clip_t"].n == 1
    assert not any(name.startswith("text.") for name in report.metrics)


def test_a_photo_that_cannot_be_read_is_an_error_or_a_counted_pair(files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no photo")
    said = memory(
        *({"photos": [files / f"said{k}.png"]} for k in range(9)),
        {"photos": [tmp_path / "broken.png"], "text": "a"},
    )
    wanted = memory(*({"photos": [files / f"wanted{k}.png"], "text": "a"} for k in range(10)))
    settings = {"protocol": "psdg", "encoders": Encoders(features=MEAN_COLOUR)}
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
    report = scored(files, "psdg", encoders=Encoders(features="world:oracle"))
    assert report.encoders == {"features": "world:oracle"}
    assert report.metrics["photo.psdg.fid"].higher_is_better is False
    text = report.to_markdown()
    assert "not of Inception" in text and "FID of 26 photos is biased" in text


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"protocol": "psgd"}, 'did you mean "psdg"'),
        ({"protocol": "psdg", "encoders": Encoders(features="x")}, "world:oracle"),
        ({"protocol": "psdg", "encoders": Encoders(features="x", inception="y")}, "wanted one"),
        ({"protocol": "psdg", "threshold": 2.0}, "probability"),
    ],
)
def test_settings_that_do_not_exist_are_refused(files, settings, says):
    with pytest.raises(ConfigError, match=says):
        scored(files, **settings)


def test_nothing_to_score_is_said():
    with pytest.raises(DataError, match="nothing to score"):
        score(memory({"text": "a"}), memory({"photos": []}), protocol="psdg")


def test_texts_of_a_script_that_rouge_score_does_not_see_are_warned_of():
    rows = memory({"text": "собака на пляже"}, {"text": "a dog"}, {"text": "..."})
    report = score(rows, rows, protocol="standard")
    assert report.metrics["text.standard.rouge_l"].value == pytest.approx(1 / 3)  # the tool's own
    assert any(note.startswith("warning: text.standard.rouge_l: 2 texts") for note in report.notes)


def test_protocols_are_versioned_and_defined_on_the_page(request):
    page = (request.config.rootpath / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, protocol in PROTOCOLS.items():
        assert name == protocol.name and name in VERSIONS
        for row in (*protocol.text, *protocol.photo):
            assert f"`{row}`" in page, row


def test_the_verb_prints_the_report(files, capsys):
    arguments = ["score", str(files / "said.jsonl"), str(files / "wanted.jsonl")]
    assert main([*arguments, "--protocol", "psdg", "--json"]) == 0
    assert "text.psdg.bleu1" in json.loads(capsys.readouterr().out)["metrics"]
    assert main([*arguments, "--protocol", "mmdialog", "--out", str(files / "out")]) == 0
    out = capsys.readouterr().out
    assert "text.mmdialog.rouge_l" in out and f"Wrote {files / 'out'}" in out
    assert main([*arguments[:2], "none.jsonl"]) == 1
    assert "none.jsonl is not there" in capsys.readouterr().err
