"""PhotoChat: what is read, moments, held-out dialogues; and bad records, of which each reader says
the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from showtell.data.jsonl import MAX_LINE_BYTES
from showtell.data.photochat import counts_of, moment_positions, read_photochat, split_held_out
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue
from showtell.errors import DataError

from . import natives

SHARED = Path(__file__).parents[3] / "shared/data/photochat"


def record(number: int = 0, share: int = 2, sharer: int = 1, **changes) -> dict:
    turns = [
        {"message": f"turn {k} of {number}", "share_photo": False, "user_id": k % 2}
        for k in range(5)
    ]
    turns[share] = {"message": "", "share_photo": True, "user_id": sharer}
    return {
        "dialogue": turns,
        "dialogue_id": number,
        "photo_description": "The photo has your niece Nadia. Objects in the photo: Girl, Café",
        "photo_url": f"https://c3.staticflickr.com/5/4141/{number}_o.jpg",
        "photo_id": f"train/{number:016x}",
        **changes,
    }


def turn(message="hi", share_photo=False, user_id=0) -> dict:
    return {"message": message, "share_photo": share_photo, "user_id": user_id}


def without(item: dict, *keys: str) -> dict:
    return {k: v for k, v in item.items() if k not in keys}


def read(folder: Path, *records: dict | str) -> list[Dialogue]:
    return list(read_photochat(natives.write_lines(folder / "dev.jsonl", list(records))))


@pytest.mark.parametrize("sharer", [0, 1])
@pytest.mark.parametrize("exchange", [False, True])
def test_the_names_do_not_tell_who_will_share(tmp_path, sharer, exchange):
    written = record(7, sharer=sharer)
    for each in written["dialogue"]:
        each["user_id"] ^= exchange
    (dialogue,) = read(tmp_path, written)
    third = AGENT if sharer else USER
    assert [each.speaker for each in dialogue.turns] == [USER, AGENT, third, AGENT, USER]
    (photo,) = dialogue.photos
    assert dialogue.turns[2].elements == (photo,) and (dialogue.id, photo.path) == ("7", None)
    assert (photo.id, photo.caption) == (f"train/{7:016x}", written["photo_description"])


def test_lines_the_original_array_and_a_folder_of_arrays_give_the_same_dialogues(tmp_path):
    records = [record(k, share=1 + k % 3) for k in range(5)]
    lines = read(tmp_path, "", *records, "  ")
    folder = tmp_path / "original"
    folder.mkdir()
    for part, some in enumerate((records[:2], records[2:])):
        (folder / f"dev_{part:02}.json").write_text(json.dumps(some, indent=1))
    assert list(read_photochat(folder / "dev_00.json")) == lines[:2]
    assert list(open_data(f"photochat:{folder}")) == lines


def test_without_photo_id_the_id_comes_from_the_address_or_the_description(tmp_path):
    records = [without(record(3), "photo_id"), without(record(4), "photo_id", "photo_url")]
    records[0]["dialogue"][2]["message"] = "look at this"
    first, second = read(tmp_path, *records)
    assert first.photos[0].id == "3_o" and second.photos[0].id.startswith("sha-")
    assert first.turns[2].elements == ("look at this", first.photos[0])


# ----------------------------------------------------------------------------------- bad input

BAD = {
    "broken JSON": '{"dialogue": [',
    "not an object": "[1, 2]",
    "a field is missing": without(record(), "photo_description"),
    "no dialogue": without(record(), "dialogue"),
    "a wrong type": record(dialogue="hello"),
    "a true id": record(dialogue_id=True),
    "no share": record(dialogue=[turn()]),
    "two shares": record(dialogue=[turn(share_photo=True)] * 2),
    "no turns": record(dialogue=[]),
    "a turn is a string": record(dialogue=["hi"]),
    "a third user": record(sharer=2),
    "share_photo is a number": record(dialogue=[turn(share_photo=1)]),
    "message is null": record(dialogue=[turn(None, share_photo=True)]),
    "an empty photo id": record(photo_id=" "),
    "an id that was there": record(0),
    "not a number": '{"dialogue_id": NaN}',
    "half a surrogate": json.dumps(record()).replace("turn 0", "\\ud800"),
    "Latin-1": json.dumps(record(), ensure_ascii=False).encode("latin-1"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(record()).encode(),
    "100,000 brackets": '{"dialogue":' + "[" * 100_000,
    "a number of 10,000 digits": '{"dialogue_id":' + "9" * 10_000 + "}",
    "a huge line": b'{"dialogue": "' + b"x" * MAX_LINE_BYTES + b'"}',
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_line_is_named_by_file_and_number_and_the_rest_can_go_on(tmp_path, bad):
    path = natives.write_lines(tmp_path / "dev.jsonl", [record(0), bad, record(2)])
    reader = read_photochat(path)
    assert next(reader).id == "0"  # streamed: the good lines before arrive
    with pytest.raises(DataError, match=r"dev\.jsonl, line 2\b") as caught:
        next(reader)
    assert len(str(caught.value)) < 500
    skipped: list[DataError] = []
    good = list(read_photochat(path, skipped=skipped))
    assert [d.id for d in good] == ["0", "2"]
    assert len(skipped) == 1 and "line 2" in str(skipped[0])


def test_a_bad_record_of_an_array_is_named_by_its_number(tmp_path):
    path = tmp_path / "dev_00.json"
    path.write_text(json.dumps([record(0), without(record(1), "dialogue"), record(2)]))
    with pytest.raises(DataError, match=r"dev_00\.json, record 2: \"dialogue\" is missing"):
        list(read_photochat(path))
    assert [d.id for d in read_photochat(path, skipped=[])] == ["0", "2"]
    path.write_text("[\n" + json.dumps(record(0)) + ",\n{,]")
    with pytest.raises(DataError, match=r"line 3: broken JSON"):
        list(read_photochat(path, skipped=[]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"[]", "is empty"),
        ("[{}]".encode("utf-16"), "UTF-16"),
        (b"{}\n{}\n", r"none of its 2 records .*line 1"),
        (None, "not there"),
    ],
)
def test_a_file_with_nothing_to_read_is_an_error_even_when_skipping(tmp_path, data, says):
    path = tmp_path / "dev.jsonl"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=says):
        list(read_photochat(path, skipped=[]))


# ------------------------------------------------------------------- moments and the hold-out


@pytest.mark.parametrize("share", [0, 1, 2, 4])
def test_a_position_stands_before_every_turn_from_the_second_to_the_share(tmp_path, share):
    (dialogue,) = read(tmp_path, record(share=share))
    positions = moment_positions(dialogue)
    assert [p.turn for p in positions] == list(range(1, share + 1))
    assert [p.shares for p in positions] == [k == share for k in range(1, share + 1)]
    for position in positions:
        assert position.context == dialogue.turns[: position.turn] != ()
        assert not any(turn.photos for turn in position.context)
    silent = replace(dialogue, turns=dialogue.turns[:share])
    assert [p.shares for p in moment_positions(silent)] == [False] * max(0, share - 1)


def test_held_out_dialogues_share_no_photo_with_the_rest_and_the_rule_ignores_order(tmp_path):
    records = [record(k, photo_url=f"https://x/{k // 2}.jpg") for k in range(60)]
    dialogues = read(tmp_path, *records)
    rest, held = split_held_out(dialogues, count=10)
    assert (len(rest), len(held)) == (50, 10)
    addresses = [{d.photos[0].labels["photo_url"] for d in some} for some in (rest, held)]
    assert not addresses[0] & addresses[1]
    assert [d.id for d in rest + held] != [d.id for d in dialogues]
    _, again = split_held_out(dialogues[::-1], count=10)
    assert {d.id for d in again} == {d.id for d in held}
    with pytest.raises(DataError, match="held out of 60"):
        split_held_out(dialogues, count=60)


@pytest.mark.skipif(not SHARED.exists(), reason="the PhotoChat files are not at hand")
def test_the_real_dev_split_has_10151_positions_of_which_1000_are_positive():
    found = counts_of(list(read_photochat(SHARED / "dev.jsonl")))
    assert (found["dialogues"], found["missing photos"]) == (1000, 1000)
    assert (found["positions"], found["positive positions"]) == (10_151, 1_000)
