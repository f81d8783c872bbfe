"""The data doctor finds what is wrong, counts as the paper counts, and changes nothing."""

from __future__ import annotations

import json
import random
import re
import sys
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from showtell.data.audit.counts import (
    count,
    published_counts,
    runs_merged_over_photos,
    runs_with_photos_skipped,
)
from showtell.data.audit.examine import NEAR, examine, near_pairs
from showtell.data.shards import pack
from showtell.data.showtell_jsonl import dialogue_as_dict
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError, MissingDependency, PhotoError

from . import natives

SHARED = Path(__file__).parents[3] / "shared/data/photochat"


def turns(plan: str) -> tuple[Turn, ...]:
    """``"uUa"``: the user speaks, shares a photo, the agent speaks."""
    return tuple(
        Turn(
            speaker=USER if letter in "uU" else AGENT,
            elements=(Photo(id="p"),) if letter.isupper() else (letter,),
        )
        for letter in plan
    )


def scene(path: Path, seed: int, *, size: int = 96, quality: int = 95) -> Path:
    """A photo with enough in it to have a hash of its own."""
    rng = random.Random(seed)
    image = Image.new("RGB", (96, 96), (rng.randrange(255), 90, 120))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, r = rng.randrange(96), rng.randrange(96), rng.randrange(8, 30)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.choices(range(256), k=3)))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((size, size)).save(path, quality=quality)
    return path


# ------------------------------------------------------------------------------ counts


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text("uUaA", max_size=12))
def test_both_readings_agree_with_their_slow_definitions(plan):
    texts = [letter for letter in plan if letter.islower()]
    assert runs_with_photos_skipped(turns(plan)) == len(re.findall(r"u+|a+", "".join(texts)))
    whole = ["".join(run) for _, run in groupby(plan, key=str.lower)]
    assert runs_merged_over_photos(turns(plan)) == sum(run.islower() for run in whole)


def test_utterances_that_share_a_photo_are_not_counted():
    found = count(Dialogue(id="d", turns=turns("uaAua")))
    wanted = {"dialogues": 1, "utterances": 4, "images": 1}
    assert found == wanted | {"cutter_skipped": 4, "cutter_merged": 3}


def test_the_papers_totals_are_the_sums_of_their_splits():
    # totals of table 1, which are not among our figures
    for kind, dev, totals in (
        ("photochat", "dev", (12_286, 155_995, 110_613, 12_286, 10_889)),
        ("dialogcc", "valid", (83_370, 677_390, 402_783, 129_024, 51_435)),
    ):
        rows = [published_counts(kind, split)[0] for split in ("train", dev, "test")]
        keys = ("dialogues", "utterances", "cutter", "images", "distinct_images")
        assert tuple(sum(row[key] for row in rows) for key in keys) == totals
    assert published_counts("dialogcc", "dev") == published_counts("dialogcc", "valid")
    assert published_counts("vist", "train") == ({}, "")


# ------------------------------------------------------------------------------ findings


@pytest.fixture
def sick(tmp_path):
    """A folder with one case of everything, two splits in one captions.jsonl."""
    scene(tmp_path / "a.png", 1)
    (tmp_path / "same.png").write_bytes((tmp_path / "a.png").read_bytes())
    scene(tmp_path / "near.jpg", 1, size=80, quality=70)
    scene(tmp_path / "other.png", 2)
    natives.write_photo(tmp_path / "flat.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    natives.write_lines(
        tmp_path / "captions.jsonl",
        [
            {"file": "a.png", "captions": ["a cafÃ©"], "split": "train", "licence": "CC0"},
            {"file": "same.png", "captions": ["bell \u0007"], "split": "train"},
            {"file": "near.jpg", "captions": ["near"], "split": "test"},
            {"file": "other.png", "captions": ["other"], "split": "test"},
            {"file": "flat.png", "captions": [], "split": "test"},
            {"file": "broken.png", "captions": ["broken"], "split": "test"},
            {"file": "gone.png", "captions": ["gone"], "split": "test"},
            "{broken",
        ],
    )
    return tmp_path


def test_each_sickness_is_found_once_and_nothing_is_changed(sick):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sick.iterdir()}
    report = examine(f"folder:{sick}")
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sick.iterdir()}
    read = json.loads(report.to_json())
    assert read["findings"][0]["count"] == 1 and read["splits"][0]["split"] == "test"
    counts = {finding.key: finding.count for finding in report.findings if finding.count}
    assert counts == {
        "skipped": 1,
        "corrupt": 1,
        "missing": 1,
        "same_photos": 1,
        "near_photos_leak": 1,
        "encoding": 2,  # the caption, as words and with its photo
        "control": 2,
    }
    assert "line 8" in report.finding("skipped").examples[0]
    assert "broken.png" in report.finding("corrupt").examples[0]
    assert "gone.png" in report.finding("missing").examples[0]
    assert re.search(
        r"train: .*a\.png ~ test: .*near\.jpg", report.finding("near_photos_leak").examples[0]
    )
    assert report.photos_read == 5 and report.photos_flat == 1
    assert report.licences == {"CC0": 1, "not stated": 6}
    train, test = report.splits[1], report.splits[0]
    assert (train.split, train.counts["images"], test.counts["images"]) == ("train", 2, 5)


def test_photos_and_dialogues_shared_between_splits_are_found(tmp_path):
    shared = natives.photochat(0)
    words = natives.photochat(5) | {"photo_id": "train/other"}
    words["dialogue"].append({"message": "And now?", "share_photo": False, "user_id": 1})
    natives.write_lines(tmp_path / "train.jsonl", [shared, natives.photochat(1), words])
    again = natives.photochat(7) | {"dialogue": words["dialogue"]}
    natives.write_lines(
        tmp_path / "dev.jsonl", [natives.photochat(9) | {"photo_id": "train/0"}, again]
    )
    natives.write_lines(tmp_path / "surrogates_train.jsonl", [{"dialogue_id": 0}])
    report = examine(f"photochat:{tmp_path}")
    assert [split.split for split in report.splits] == ["dev", "train"]
    (example,) = report.finding("shared_photos").examples
    assert '"train/0" in dev (dialogue 9) and train (dialogue 0)' in example
    (example,) = report.finding("shared_dialogues").examples
    assert example == "train, dialogue 5 says the same as dev, dialogue 7"
    assert report.finding("missing").count == 5


def test_two_photos_may_have_the_same_caption(tmp_path):
    records = [{"file": f"{k}.png", "captions": ["two dogs"], "split": "t" * k} for k in (1, 2)]
    natives.write_lines(tmp_path / "captions.jsonl", records)
    report = examine(f"folder:{tmp_path}", photos=False)
    assert not report.finding("shared_dialogues").count


def test_empty_turns_doubled_dialogues_and_one_speaker_in_a_row(tmp_path):
    record = natives.mmdialog(0)
    record["conversation"].append({"turn": [{"__TEXT__": " "}]})
    again = record | {"conversation_id": "again"}
    natives.write_lines(tmp_path / "train/conversations.json", [record, again])
    report = examine(f"mmdialog:{tmp_path}", photos=False)
    assert report.finding("empty_turns").count == 2
    assert report.finding("doubled_dialogues").examples == [
        "train, dialogue again says the same as train, dialogue c0",
    ]
    assert report.splits[0].counts["same_speaker"] == 0
    assert report.splits[0].difference("dialogues") == 2 - 1_059_117
    assert "The pixels were not looked at." in report.to_text()


def test_a_limit_reads_the_first_of_each_split_and_unreadable_data_are_an_error(tmp_path):
    assert examine("world:0-50", limit=7).splits[0].counts["dialogues"] == 7
    (tmp_path / "captions.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="none of its 1 records"):
        examine(f"folder:{tmp_path}")


def test_without_imagehash_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    natives.write_lines(tmp_path / "captions.jsonl", [natives.folder_record()])
    with pytest.raises(MissingDependency, match=r"--no-photos.*pip install .*data"):
        examine(f"folder:{tmp_path}")
    assert examine(f"folder:{tmp_path}", photos=False).finding("missing").count == 1


@pytest.mark.parametrize("scene", [{}, {"subject": "dog", "colour": "loud"}, [], "x"])
def test_a_scene_that_cannot_be_drawn_is_found_and_not_packed(tmp_path, scene):
    photo = Photo(id="p", labels={"scene": scene})
    dialogue = Dialogue(id="d", turns=(Turn(speaker=USER, elements=("hi", photo)),))
    record = json.dumps(dialogue_as_dict(dialogue))
    natives.write_lines(tmp_path / "dialogues.jsonl", [record])
    report = examine(f"showtell:{tmp_path}")
    assert report.finding("corrupt").count == 1
    with pytest.raises(PhotoError, match="dialogue d: .*scene"):
        pack(open_data(f"showtell:{tmp_path}"), tmp_path / "out", source="x")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_near_pairs_are_all_pairs_within_the_distance(data):
    hashes = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
    for _ in range(data.draw(st.integers(0, 8))):  # some that are near
        bits = data.draw(st.lists(st.integers(0, 63), max_size=NEAR + 2))
        value = data.draw(st.sampled_from(hashes))
        for bit in bits:
            value ^= 1 << bit
        hashes.append(value)
    slow = {
        ((hashes[a] ^ hashes[b]).bit_count(), a, b)
        for a in range(len(hashes))
        for b in range(a + 1, len(hashes))
        if (hashes[a] ^ hashes[b]).bit_count() <= NEAR
    }
    found = list(near_pairs(hashes))
    assert set(found) == slow and len(found) == len(slow)


def test_ids_that_come_again_in_another_file_of_a_split_are_found(tmp_path):
    for name, numbers in (("train_00", (0, 1)), ("train_01", (1, 2)), ("dev_00", (0, 7))):
        natives.write_lines(tmp_path / f"{name}.json", [natives.photochat(n) for n in numbers])
    report = examine(f"photochat:{tmp_path}", photos=False)
    assert report.finding("doubled_ids").examples == ["train, dialogue 1"]


@pytest.mark.skipif(not SHARED.exists(), reason="the PhotoChat files are not at hand")
def test_photochat_is_counted_as_the_paper_counts_it():
    report = examine(f"photochat:{SHARED}", photos=False)
    dev, train = report.splits
    for split in (dev, train):
        for key in ("dialogues", "utterances", "images", "distinct_images"):
            assert split.difference(key) == 0, (split.split, key)
    assert (dev.counts["cutter_skipped"], dev.counts["cutter_merged"]) == (9_531, 8_982)
    assert report.finding("shared_photos").count == 12
