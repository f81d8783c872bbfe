"""What each reader makes of its native format, and that none ever fails in a way of its own."""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from showtell.data.captions import read_cc3m, read_folder
from showtell.data.dialogcc import photo_id, read_dialogcc
from showtell.data.sources import FORMATS, open_data, open_splits
from showtell.data.visdial import read_visdial
from showtell.data.vist import read_vist
from showtell.dialogue import AGENT, USER, Dialogue, Photo
from showtell.errors import DataError, PhotoError, ShowtellError, UsageError
from showtell.papers.forms import photo_last

from . import natives

# ------------------------------------------------------------------------------ what is read


def test_mmdialog_keeps_the_order_of_texts_and_photos_and_finds_the_pixels(tmp_path):
    natives.write_lines(tmp_path / "train/test_conversations.txt", [natives.mmdialog(3)])
    natives.write_photo(tmp_path / "train/key3.jpg")
    (dialogue,) = open_data(f"mmdialog:{tmp_path}/train")
    assert [turn.speaker for turn in dialogue.turns] == [USER, AGENT, USER]
    kinds = [[type(e) for e in turn.elements] for turn in dialogue.turns]
    assert kinds == [[str, Photo], [Photo, str], [str]]
    assert dialogue.photos[0].path == str(tmp_path / "train/key3.jpg")
    assert dialogue.photos[1].path is None


def test_mmdialog_with_both_names_in_a_folder_asks_which(tmp_path):
    for name in ("conversations.json", "test_conversations.txt"):
        natives.write_lines(tmp_path / name, [natives.mmdialog()])
    with pytest.raises(UsageError, match="wanted one of them"):
        open_data(f"mmdialog:{tmp_path}")
    (tmp_path / "conversations.json").rename(tmp_path / "valid_conversations.txt")
    (tmp_path / "test_conversations.txt").rename(tmp_path / "val_conversations.txt")
    with pytest.raises(DataError, match="a split is one file.*Name the file itself"):
        open_data(f"mmdialog:{tmp_path}")


def test_dialogcc_reads_each_known_form_of_a_shared_image_in_arrays_and_lines(tmp_path):
    address = "https://x/a.jpg"
    forms = [address, [address], {"image_url": address}, [{"url": address}, None, ""]]
    records = [natives.dialogcc(number, shared) for number, shared in enumerate(forms)]
    for write in (natives.write_json, natives.write_lines):
        dialogues = list(read_dialogcc(write(tmp_path / "train.json", records)))
        assert [[photo.labels["url"] for photo in d.photos] for d in dialogues] == [[address]] * 4
        assert {d.photos[0].id for d in dialogues} == {photo_id(address)}
    assert [turn.speaker for turn in dialogues[0].turns] == [USER, AGENT]
    text, photo = dialogues[0].turns[1].elements
    assert text == "Show me!" and photo.caption == "a dog in a park"
    assert (dialogues[0].id, dialogues[0].labels["split"]) == ("bst:0", "train")


def test_dialogcc_chooses_one_of_the_candidates_by_the_seed_whatever_was_read_before(tmp_path):
    addresses = tuple(f"https://x/{k}.jpg" for k in range(4))
    records = [natives.dialogcc(k, addresses) for k in range(200)]
    path = natives.write_json(tmp_path / "train.json", records)
    tail = natives.write_json(tmp_path / "tail.json", records[150:])

    def chosen(file):
        return [addresses.index(d.photos[0].labels["url"]) for d in read_dialogcc(file)]

    first = chosen(path)
    assert chosen(path) == first and chosen(tail) == first[150:]
    # each of four is drawn 50 times of 200 in the mean, with a deviation of 6
    assert all(20 < first.count(k) < 80 for k in range(4))
    assert next(iter(read_dialogcc(path))).photos[0].labels["candidates"] == addresses


@pytest.mark.parametrize("images_first", [True, False])
def test_a_vist_story_is_told_in_the_workers_order_with_addresses(tmp_path, images_first):
    path = natives.write_json(
        tmp_path / "val.story-in-sequence.json", natives.vist(images_first=images_first)
    )
    natives.write_photo(tmp_path / "images/01.png")
    dialogues = list(read_vist(path))
    assert [d.id for d in dialogues] == ["s0", "s1"]
    for number, dialogue in enumerate(dialogues):
        assert [turn.text for turn in dialogue.turns] == [f"step {k} of [male] ." for k in range(5)]
        assert [photo.id for photo in dialogue.photos] == [f"{number}{k}" for k in range(5)]
        assert {turn.speaker for turn in dialogue.turns} == {AGENT}
    photos = dialogues[0].photos
    assert photos[3].labels == {"url": "https://flickr/03.jpg", "licence": "Flickr licence 3"}
    assert [photo.path is not None for photo in photos] == [False, True, False, False, False]


def test_a_vist_story_that_is_not_five_different_steps_is_bad(tmp_path):
    data = natives.vist(3)
    del data["annotations"][7]
    data["annotations"][2][0]["worker_arranged_photo_order"] = 2
    path = natives.write_json(tmp_path / "val.story-in-sequence.json", data)
    with pytest.raises(DataError, match=r"annotation 1 \(story s0\).*5 annotations for 4"):
        list(read_vist(path))
    skipped: list[DataError] = []
    assert [d.id for d in read_vist(path, skipped=skipped)] == ["s2"]
    assert len(skipped) == 2 and "4 annotations for 4" in str(skipped[1])


@pytest.mark.parametrize("texts_first", [True, False])
def test_visdial_joins_questions_and_answers_wherever_they_stand_in_the_file(tmp_path, texts_first):
    path = natives.write_json(
        tmp_path / "visdial_1.0_val.json", natives.visdial(texts_first=texts_first)
    )
    name = "VisualDialog_val2018/VisualDialog_val2018_000000000100.png"
    natives.write_photo(tmp_path / name).rename((tmp_path / name).with_suffix(".jpg"))
    first, second = read_visdial(path)
    assert len(first.turns) == 21 and first.photos[0].caption == "a dog by a tree, 0"
    assert first.photos[0].path is not None and second.photos[0].path is None
    assert [t.text for t in first.turns[1:5]] == [
        "is it number 0",
        "no, 9",
        "is it number 1",
        "no, 8",
    ]
    assert [t.speaker for t in first.turns[:4]] == [USER, USER, AGENT, USER]
    last = photo_last(first)
    assert last.turns[:-1] == first.turns[1:] and last.turns[-1].photos == first.photos
    assert last.turns[-1].speaker == AGENT


@pytest.mark.parametrize(
    ("split", "beside", "key"),
    [
        ("test", "dense_annotations", "gt_relevance"),
        ("train", "dense_sample", "relevance"),  # and no split of its own
    ],
)
def test_visdial_takes_relevance_and_the_open_end_of_test_dialogues(tmp_path, split, beside, key):
    data = natives.visdial(1)
    del data["data"]["dialogs"][0]["dialog"][9]["answer"]
    natives.write_json(tmp_path / f"visdial_1.0_{split}.json", data)
    rows = [{"image_id": 100, "round_id": 2, key: [0.5, 0, 1]}]
    natives.write_json(tmp_path / f"visdial_1.0_{split}_{beside}.json", rows)
    natives.write_json(tmp_path / "visdial_1.0_val.json", natives.visdial(2))
    splits = open_splits(f"visdial:{tmp_path}")
    assert {name: len(source) for name, source in splits.items()} == {split: 1, "valid": 2}
    (dialogue,) = splits[split]
    assert dialogue.turns[-1].text == "is it number 9"
    assert dialogue.turns[4].labels["relevance"] == (0.5, 0.0, 1.0)
    assert "relevance" not in dialogue.turns[2].labels


def test_a_number_that_no_list_has_is_bad(tmp_path):
    data = natives.visdial(2)
    data["data"]["dialogs"][0]["dialog"][3]["answer"] = 10
    data["data"]["dialogs"][1]["dialog"][0]["question"] = -1
    path = natives.write_json(tmp_path / "visdial_1.0_val.json", data)
    with pytest.raises(
        DataError, match=r"dialogue 1 \(image 100\), round 4: number 10 of data.ans"
    ):
        list(read_visdial(path))
    with pytest.raises(DataError, match="none of its 2 records"):
        list(read_visdial(path, skipped=[]))


@pytest.mark.parametrize("head", ["", "caption\timage\n"])
def test_a_table_of_captions_knows_addresses_from_paths(tmp_path, head):
    (tmp_path / "cc.tsv").write_text(f"{head}a dog\thttps://x/1.jpg\na caption\tp/2.png\n")
    natives.write_photo(tmp_path / "p/2.png")
    first, second = read_cc3m(tmp_path / "cc.tsv")
    assert first.photos[0].labels["url"] == "https://x/1.jpg" and first.photos[0].path is None
    assert second.photos[0].path == str(tmp_path / "p/2.png")
    assert [t.speaker for t in second.turns] == [USER, AGENT]
    assert second.turns[0].text == second.photos[0].caption == "a caption"


def test_a_folder_is_read_with_all_its_captions_and_labels(tmp_path):
    natives.write_lines(
        tmp_path / "captions.jsonl", [natives.folder_record(0), {"file": "b.png", "captions": []}]
    )
    natives.write_photo(tmp_path / "images/0.png")
    first, second = open_data(f"folder:{tmp_path}")
    (photo,) = first.photos
    assert photo.path == str(tmp_path / "images/0.png") and photo.labels["subject"] == "thing"
    assert photo.labels["captions"] == ("A red thing .", "Something red")
    assert first.labels == {"licence": "CC0", "split": "train"}
    assert [turn.text for turn in second.turns] == [""] and second.labels["licence"] == "not stated"


# ------------------------------------------------------------------------------ names of data


def test_every_format_is_data_by_its_name(tmp_path):
    for kind, path in natives.write_all(tmp_path).items():
        source = open_data(f"{kind}:{path}")
        assert source.kind == kind and len(list(source)) == 2, kind
        assert all(dialogue.labels.get("licence") for dialogue in source) or kind == "showtell"


def test_a_folder_with_several_splits_asks_which_one(tmp_path):
    for split in ("train", "test"):
        natives.write_lines(tmp_path / split / "conversations.json", [natives.mmdialog()])
    with pytest.raises(UsageError, match="holds the splits test, train.*train/conversations"):
        open_data(f"mmdialog:{tmp_path}")
    splits = open_splits(f"mmdialog:{tmp_path}")
    assert {name: len(list(source)) for name, source in splits.items()} == {"test": 1, "train": 1}
    assert len(list(open_data(f"mmdialog:{tmp_path}/train"))) == 1


def test_a_path_with_nothing_to_read_is_an_error(tmp_path):
    for name in (f"vist:{tmp_path}", "vist:" + "x" * 300, "cc3m:a\0b"):
        with pytest.raises(DataError):
            open_data(name)


# ------------------------------------------------------------------------------------ bad input

PHOTO_RECORDS = {
    "mmdialog": lambda name: (
        natives.mmdialog() | {"conversation": [{"turn": [{"__MEDIA__": name}]}]}
    ),
    "folder": lambda name: {"file": name, "captions": ["x"]},
}


@pytest.mark.parametrize("kind", PHOTO_RECORDS)
@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../secret", "a\\b", "a\0b", "", "./a", "x" * 300]
)
def test_a_path_that_climbs_out_of_the_folder_is_refused(tmp_path, kind, name):
    natives.write_photo(tmp_path / "secret.jpg.png").rename(tmp_path / "secret.jpg")
    path = natives.write_lines(tmp_path / "in/data.jsonl", [PHOTO_RECORDS[kind](name)])
    with pytest.raises(DataError, match=r"in/data\.jsonl"):
        list(FORMATS[kind](path))


def test_links_whether_file_or_folder_and_pipes_are_refused(tmp_path):
    outside = natives.write_photo(tmp_path / "outside/a.png")
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "link.png").symlink_to(outside)
    (inside / "links").symlink_to(outside.parent)
    for name in ("link.png", "links/a.png"):
        path = natives.write_lines(inside / "captions.jsonl", [{"file": name, "captions": ["x"]}])
        with pytest.raises(PhotoError, match="symbolic link"):
            list(read_folder(path))
    # the folder that the user names may itself be a link
    (tmp_path / "way").symlink_to(outside.parent)
    natives.write_lines(outside.parent / "metadata.jsonl", [{"file_name": "a.png", "text": "x"}])
    (dialogue,) = open_data(f"folder:{tmp_path}/way")
    assert dialogue.photos[0].path is not None and dialogue.photos[0].caption == "x"
    os.mkfifo(inside / "pipe.png")
    path = natives.write_lines(inside / "captions.jsonl", [{"file": "pipe.png", "text": "x"}])
    with pytest.raises(PhotoError, match="no file"):
        list(read_folder(path))


@pytest.mark.parametrize("kind", sorted(FORMATS))
@pytest.mark.parametrize(
    "form", ["utf-16", "bom", "latin", "nul", "empty", "cut", "folder", "pipe", "zero"]
)
def test_wrong_encodings_and_what_is_no_file_are_errors_that_name_it(tmp_path, kind, form):
    path = natives.write_all(tmp_path)[kind]
    text = path.read_text()
    contents = {
        "utf-16": text.encode("utf-16"),
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "latin": b'{"x": "caf\xe9"}\n' + text.encode(),
        "nul": b"\0" * 100,
        "empty": b"",
        "cut": text[: text.rindex("\t") if kind == "cc3m" else len(text) * 2 // 3].encode(),
    }
    path.unlink()
    if form in contents:
        path.write_bytes(contents[form])
    elif form == "folder":
        path.mkdir()
    elif form == "pipe":  # refused at once: it may keep us waiting for ever
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    says = " is a device or a pipe" if form in ("pipe", "zero") else ""
    with pytest.raises(DataError, match=re.escape(path.name) + says):
        list(FORMATS[kind](path))


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ('"x": 1e999', "beyond all numbers"),
        ('"x": "\\ud800"', "half a surrogate"),
        ('"\\udfff": 1', "half a surrogate"),
        ('"captoins": []', '"captions" is missing'),
    ],
)
def test_what_no_label_can_hold_and_misspelt_fields_are_refused(tmp_path, field, says):
    captions = "" if "captoins" in field else ', "captions": ["a"]'
    good = natives.folder_record()
    lines = [good, f'{{"file": "b.png", {field}{captions}}}']
    path = natives.write_lines(tmp_path / "captions.jsonl", lines)
    with pytest.raises(DataError, match=f"line 2.*{says}"):
        list(read_folder(path))
    assert len(list(read_folder(path, skipped=[]))) == 1
    if "\\u" in field:  # in an array it is one bad record, too
        records = [
            json.dumps(natives.dialogcc(0)),
            json.dumps(natives.dialogcc(1) | {"x": "\ud800"}),
        ]
        (tmp_path / "train.json").write_text(f"[{','.join(records)}]")
        assert len(list(read_dialogcc(tmp_path / "train.json", skipped=[]))) == 1


@pytest.mark.parametrize("kind", ["dialogcc", "mmdialog", "photochat", "showtell", "folder"])
def test_an_id_that_was_there_already_is_a_counted_skip(tmp_path, kind):
    path = natives.write_all(tmp_path)[kind]
    if kind == "dialogcc":
        natives.write_json(path, json.loads(path.read_text()) * 2)
    else:
        path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match="was there already"):
        list(FORMATS[kind](path))
    source = open_data(f"{kind}:{path}", skip_bad=True)
    assert len(list(source)) == 2 and len(source.skipped) == 2
    assert all(path.name in str(error) for error in source.skipped[:3])


def test_all_skips_are_counted_and_only_the_first_hundred_kept(tmp_path):
    path = natives.write_lines(tmp_path / "a.jsonl", [natives.mmdialog(), *["{}"] * 250])
    source = open_data(f"mmdialog:{path}", skip_bad=True)
    for _ in range(2):  # counted anew each time it is read
        assert len(list(source)) == 1
        assert len(source.skipped) == 250 and len(source.skipped[:]) == 100


# ------------------------------------------------------------------------- mutated input (a law)

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(min_value=10**18),
    st.floats(allow_nan=True),
    st.text(max_size=8),
    st.sampled_from(["../x", "/x", "a\0", "\ud800", "", " ", "x" * 400]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


def changed(value: object, path: tuple, new: object, *, delete: bool) -> object:
    if not path:
        return new
    value = copy.copy(value)
    if len(path) == 1 and delete:
        del value[path[0]]
    else:
        value[path[0]] = changed(value[path[0]], path[1:], new, delete=delete)
    return value


def records_of(path: Path) -> list:
    text = path.read_text()
    if path.suffix == ".jsonl" or path.name == "conversations.json":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    files = natives.write_all(tmp_path_factory.mktemp("originals") / "all")
    return {kind: (path, path.read_bytes()) for kind, path in files.items()}


@pytest.mark.parametrize("kind", sorted(FORMATS))
@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mutated_input_gives_dialogues_or_an_error_of_ours(kind, data, originals):
    original, whole = originals[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / original.name
        path.write_bytes(whole)
        if kind != "cc3m" and data.draw(st.booleans()):
            value = records_of(path)
            as_lines = path.read_text().count("\n") == len(value) and isinstance(value, list)
            for _ in range(data.draw(st.integers(1, 3))):
                place = data.draw(st.sampled_from(natives.nodes(value)))
                value = changed(value, place, data.draw(VALUES), delete=data.draw(st.booleans()))
            if as_lines and isinstance(value, list):
                path.write_text("\n".join(json.dumps(record) for record in value) + "\n")
            else:
                path.write_text(json.dumps(value))
        else:
            text = bytearray(path.read_bytes())
            for _ in range(data.draw(st.integers(1, 4))):
                start = data.draw(st.integers(0, max(0, len(text) - 1)))
                length = data.draw(st.integers(0, 20))
                text[start : start + length] = data.draw(st.binary(max_size=6))
            path.write_bytes(text)
        for skip_bad in (False, True):
            errors: list[DataError] = []
            try:
                read = list(FORMATS[kind](path, skipped=errors if skip_bad else None))
            except ShowtellError as error:
                assert len(str(error)) < 2000
            else:
                assert read and all(isinstance(dialogue, Dialogue) for dialogue in read)
                assert all(t.speaker in (USER, AGENT) for d in read for t in d.turns)
                assert len({d.id for d in read}) == len(read)
            assert skip_bad or not errors
