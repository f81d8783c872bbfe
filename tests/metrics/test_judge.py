"""A blind page for raters, and their votes unblinded."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from PIL import Image

from showtell.cli import main
from showtell.data.showtell_jsonl import dialogue_as_dict
from showtell.dialogue import Dialogue, Photo, Turn
from showtell.errors import DataError, PhotoError, StorageError
from showtell.metrics.blind_page import export_page
from showtell.metrics.preference import QUESTIONS, score_ratings


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def save_photo(path, colour, size):
    exif = Image.Exif()
    exif[0x010E] = "made by system one"
    Image.new("RGB", size, colour).save(path, exif=exif)


@pytest.fixture
def files(tmp_path):
    """Ten pairs: A says aK, B says bK, each with a photo; and two without any."""
    for system, colour in (("a", "red"), ("b", "blue")):
        save_photo(
            tmp_path / f"{system}-secret.jpg", colour, (900, 300) if system == "a" else (64, 64)
        )
        rows = [
            {"id": f"d{k}", "text": f"{system}{k}", "photos": [f"{system}-secret.jpg"]}
            for k in range(10)
        ]
        rows += [{"id": f"t{k}", "text": f"{system} only text"} for k in range(2)]
        write(tmp_path / f"{system}.jsonl", *rows)
    return tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "page.html"


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def exported(files, **more):
    done = export_page(*files, **more)
    return data_of(done.page.read_text()), json.loads(done.key.read_text())


def first_text(parts):
    return next(part["text"] for part in parts if "text" in part)


def test_the_key_alone_tells_who_stood_left_and_which_record_it_was(files):
    data, key = exported(files)
    for item in data["items"]:
        known = key["items"][item["id"]]
        assert first_text(item["left"]).startswith(known["left"].lower())
        assert first_text(item["right"]).startswith({"A": "b", "B": "a"}[known["left"]])
        # of photos nothing is asked where there are none
        text_only = known["id"].startswith("t")
        assert item["questions"] == (["language_continuity"] if text_only else list(QUESTIONS))
    for secret in ("secret", "a.jsonl", "b.jsonl", '"d3"', "system one"):
        assert secret not in files[2].read_text()
    # each photo once, reduced, and without metadata
    assert sorted(uri[:15] for uri in data["photos"]) == ["data:image/jpeg", "data:image/png;"]
    assert sum(map(len, data["photos"])) < 100_000
    for uri in data["photos"]:
        assert b"system one" not in base64.b64decode(uri.partition(",")[2])


def test_sides_and_order_are_drawn_from_the_seed_and_no_other_key_is_overwritten(files):
    data, key = exported(files, seed=1)
    page = files[2].read_bytes()
    assert exported(files, seed=1) and files[2].read_bytes() == page
    lefts = [row["left"] for row in key["items"].values()]
    assert lefts.count("A") == lefts.count("B") == 6
    with pytest.raises(StorageError, match="another study"):
        export_page(*files, seed=5)
    other, _ = exported((*files[:2], files[2].with_name("other.html")), seed=2)
    assert [i["left"] for i in data["items"]] != [i["left"] for i in other["items"]]
    assert len(exported((*files[:2], files[2].with_name("few.html")), limit=3)[0]["items"]) == 3


def test_hostile_texts_cannot_leave_the_data_and_the_page_runs_its_own_script_only(files, tmp_path):
    evil = "</script><script>alert(1)</script><!-- @DATA@ \u2028"
    write(tmp_path / "a.jsonl", {"id": "1", "text": evil})
    write(tmp_path / "b.jsonl", {"id": "1", "text": "@TITLE@"})
    page = export_page(*files).page.read_text()
    assert page.count("<script") == page.count("</script>") == 2
    (item,) = data_of(page)["items"]
    assert {first_text(item["left"]), first_text(item["right"])} == {evil, "@TITLE@"}
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "default-src 'none'" in page
    assert not re.search(r"https?://|//cdn|innerHTML|@SCRIPT_HASH@", page)


def test_what_came_before_is_shown_up_to_the_answer(files, tmp_path):
    photo, lost = Photo(id="p", path="a-secret.jpg"), Photo(id="q", caption="a lost cat")
    turn = Turn(speaker="user", elements=("look", photo, lost))
    write(tmp_path / "before.jsonl", dialogue_as_dict(Dialogue(id="d3", turns=(turn,))))
    done = export_page(*files, context=f"showtell:{tmp_path / 'before.jsonl'}")
    assert done.without_context == 11
    key = json.loads(done.key.read_text())["items"]
    contexts = {key[i["id"]]["id"]: i["context"] for i in data_of(done.page.read_text())["items"]}
    ((shown),) = contexts["d3"]
    assert shown["speaker"] == "user" and shown["parts"][0] == {"text": "look"}
    assert "photo" in shown["parts"][1] and shown["parts"][2] == {"missing": "a lost cat"}


def test_a_photo_that_cannot_be_read_is_an_error_or_a_counted_skip(files, tmp_path):
    (tmp_path / "a-secret.jpg").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"a\.jsonl, line \d+.*secret"):
        export_page(*files)
    done = export_page(*files, skip_bad=True)
    assert (done.items, done.skipped) == (2, 10)
    write(tmp_path / "b.jsonl", {"id": "elsewhere", "text": "x"})
    with pytest.raises(DataError, match="wanted the same ids"):
        export_page(*files)


# ---------------------------------------------------------------------------------------- votes


def ratings(path, data, key, rater, choose):
    """What a rater saves; ``choose(question, record)`` is "A", "B" or "tie"."""
    answers = {}
    for item in data["items"]:
        known = key["items"][item["id"]]
        sides = {known["left"]: "left", "tie": "tie", {"A": "B", "B": "A"}[known["left"]]: "right"}
        answers[item["id"]] = {q: sides[choose(q, known["id"])] for q in item["questions"]}
    saved = {"format": "showtell judge ratings 1", "study": data["study"], "rater": rater}
    path.write_text(json.dumps(saved | {"answers": answers}))
    return path


@pytest.fixture
def study(files, tmp_path):
    """(ratings of a rater who chooses so, as a file; the key)."""
    data, key = exported(files)

    def rated(name, choose=lambda question, record: "A", rater=None):
        return ratings(tmp_path / f"{name}.json", data, key, rater or name, choose)

    return rated, tmp_path / "page.key.json"


def test_votes_are_unblinded_whatever_the_side(study):
    rated, key = study

    def choose(question, record):
        return {"language_continuity": "A", "image_quality": "B"}.get(question, "tie")

    report = score_ratings([rated("ann", choose), rated("bo", choose)], key)
    unfinished = json.loads((key.parent / "bo.json").read_text())
    unfinished["answers"] = dict(list(unfinished["answers"].items())[:4])
    (key.parent / "bo.json").write_text(json.dumps(unfinished))
    half = score_ratings([key.parent / "ann.json", key.parent / "bo.json"], key)
    assert half.metrics["judge.language_continuity.win"].n == 16
    assert "bo: 4 of 12 pairs" in half.notes
    value = {name: v.value for name, v in report.metrics.items()}
    assert value["judge.language_continuity.win"] == 1
    assert value["judge.image_quality.loss"] == 1
    assert value["judge.multimodal_coherence.tie"] == 1
    assert report.metrics["judge.language_continuity.win"].n == 24
    assert report.metrics["judge.image_quality.win"].n == 20
    assert "ann: 12 of 12 pairs" in report.notes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"study": "other"}, "ratings of the study 'other'"),
        ({"rater": " "}, "wanted '.*' by someone"),
        ({"rater": 7}, "rater: Input should be a valid string, met 7"),
        ({"format": "x"}, "is no ratings of a study"),
        ({"answers": []}, "answers: Input should be a valid dictionary"),
        ({"answers": {}}, "no answer at all"),
        ({"answers": {"x": {"image_quality": "left"}}}, "not of this study"),
        ({"answers": {"t1": {"image_quality": "left"}}}, "not of this study"),  # without a photo
        *(({"answer": answer}, "should be 'left', 'tie' or 'right'") for answer in ("A", None, 1)),
    ],
)
def test_ratings_that_do_not_fit_are_refused(study, change, words):
    rated, key = study
    path = rated("ann")
    saved = json.loads(path.read_text()) | change
    items = json.loads(key.read_text())["items"]
    names = {row["id"]: name for name, row in items.items()}
    if isinstance(saved["answers"], dict):
        saved["answers"] = {names.get(i, i): row for i, row in saved["answers"].items()}
    if "answer" in change:
        next(iter(saved["answers"].values()))["language_continuity"] = change["answer"]
    path.write_text(json.dumps(saved))
    with pytest.raises(DataError, match=words):
        score_ratings([path], key)


def test_one_rater_counts_once_and_a_key_that_is_none_is_refused(study, tmp_path):
    rated, key = study
    saved = [rated("1", rater="ann"), rated("2", rater=" ann ")]
    with pytest.raises(DataError, match=r'"ann" has ratings in .*1\.json already'):
        score_ratings(saved, key)
    for bad in ("{", "[]", '{"format": "showtell judge key 1", "study": "x"}', "\x00"):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(DataError):
            score_ratings(saved[:1], tmp_path / "bad.json")
    with pytest.raises(DataError, match="No such file"):
        score_ratings(saved[:1], tmp_path / "absent.json")


def test_names_that_are_not_utf8_are_written_as_json_escapes_them(files, tmp_path, study):
    rated, key = study
    report = score_ratings([rated("ann", rater="\ud800\n# x")], key)
    written, page = report.write(tmp_path / "out")
    assert "\ud800 # x: 12 of 12 pairs" in json.loads(written.read_text())["notes"]
    assert "- \\ud800 # x: 12" in page.read_text()
    odd = files[0].rename(tmp_path / "a\udcff.jsonl")
    done = export_page(odd, files[1], tmp_path / "odd.html")
    assert json.loads(done.key.read_text())["A"]["file"] == str(odd)


def test_the_command_line_leads_from_answers_to_counts(files, tmp_path, capsys):
    a, b, page = map(str, files)
    assert main(["judge", "export", a, b, "--out", page, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["items"] == 12 and done["without_context"] == 12
    data = data_of((tmp_path / "page.html").read_text())
    key = json.loads((tmp_path / "page.key.json").read_text())
    saved = ratings(tmp_path / "ann.json", data, key, "ann", lambda q, r: "A")
    assert main(["judge", "score", str(saved), "--key", done["key"], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metrics"]["judge.language_continuity.win"]["value"] == 1
    assert main(["judge", "score", str(saved), "--key", page]) == 1
    assert "Traceback" not in capsys.readouterr().err
