from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from showtell.data.jsonl import MAX_LINE_BYTES
from showtell.data.photochat import (
    moment_positions,
    read_photochat,
    split_held_out,
    summarise,
)
from showtell.dialogue import AGENT, USER
from showtell.errors import DataError

SHARED = Path(__file__).parents[3] / "shared/data/photochat"


def record(number: int = 0, share: int = 2, num_turns: int = 5, sharer: int = 1, **changes) -> dict:
    turns = [
        {"message": f"turn {k} of {number}", "share_photo": False, "user_id": k % 2}
        for k in range(num_turns)
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


def write_lines(path: Path, *records: dict | str | bytes) -> Path:
    lines = []
    for item in records:
        if isinstance(item, dict):
            item = json.dumps(item, ensure_ascii=False)
        lines.append(item if isinstance(item, bytes) else item.encode())
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def without(item: dict, key: str) -> dict:
    return {k: v for k, v in item.items() if k != key}


# ------------------------------------------------------------------------------ what is read


def test_the_photo_is_missing_not_made_up(tmp_path):
    (dialogue,) = read_photochat(write_lines(tmp_path / "dev.jsonl", record(7)))
    assert dialogue.id == "7"
    (photo,) = dialogue.photos
    assert dialogue.turns[2].elements == (photo,)
    assert photo.path is None
    assert photo.id == f"train/{7:016x}"
    assert photo.caption == "The photo has your niece Nadia. Objects in the photo: Girl, Café"


@pytest.mark.parametrize("sharer", [0, 1])
@pytest.mark.parametrize("exchange", [False, True])
def test_the_names_do_not_tell_who_will_share(tmp_path, sharer, exchange):
    written = record(7, sharer=sharer)
    for turn in written["dialogue"]:
        turn["user_id"] ^= exchange
    (dialogue,) = read_photochat(write_lines(tmp_path / "dev.jsonl", written))
    third = AGENT if sharer else USER
    assert [turn.speaker for turn in dialogue.turns] == [USER, AGENT, third, AGENT, USER]


def test_lines_and_the_original_array_give_the_same_dialogues(tmp_path):
    records = [record(k, share=1 + k % 3) for k in range(5)]
    lines = write_lines(tmp_path / "dev.jsonl", *records)
    array = tmp_path / "dev_00.json"
    array.write_text(json.dumps(records, indent=1))
    assert list(read_photochat(lines)) == list(read_photochat(array))


def test_a_folder_of_original_files_is_read_in_order(tmp_path):
    for part in range(3):
        (tmp_path / f"train_{part:02}.json").write_text(json.dumps([record(part)]))
    assert [d.id for d in read_photochat(tmp_path)] == ["0", "1", "2"]


def test_without_photo_id_the_id_comes_from_the_address_and_is_stable(tmp_path):
    old = without(record(3), "photo_id")
    bare = without(old | {"dialogue_id": 4}, "photo_url")
    first = list(read_photochat(write_lines(tmp_path / "a.jsonl", old, bare)))
    again = list(read_photochat(write_lines(tmp_path / "b.jsonl", old, bare)))
    assert first == again
    assert first[0].photos[0].id == "3_o"
    assert first[1].photos[0].id.startswith("sha-")


def test_blank_lines_and_words_in_the_share_turn_are_kept_in_order(tmp_path):
    spoken = record(1)
    spoken["dialogue"][2]["message"] = "look at this"
    (dialogue,) = read_photochat(write_lines(tmp_path / "dev.jsonl", "", spoken, "  "))
    assert dialogue.turns[2].elements == ("look at this", dialogue.photos[0])


# ----------------------------------------------------------------------------------- bad input

BAD = {
    "broken JSON": '{"dialogue": [',
    "not an object": "[1, 2]",
    "a field is missing": without(record(), "photo_description"),
    "no dialogue": without(record(), "dialogue"),
    "a wrong type": record(dialogue="hello"),
    "a true id": record(dialogue_id=True),
    "no share": record(
        dialogue=[{"message": "hi", "share_photo": False, "user_id": 0}],
    ),
    "two shares": record(
        dialogue=[{"message": "", "share_photo": True, "user_id": 0}] * 2,
    ),
    "no turns": record(dialogue=[]),
    "a turn is a string": record(dialogue=["hi"]),
    "a third user": record(sharer=2),
    "share_photo is a number": record(
        dialogue=[{"message": "", "share_photo": 1, "user_id": 0}],
    ),
    "message is null": record(
        dialogue=[{"message": None, "share_photo": True, "user_id": 0}],
    ),
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
    path = write_lines(tmp_path / "dev.jsonl", record(0), bad, record(2))
    with pytest.raises(DataError, match=r"dev\.jsonl, line 2\b") as caught:
        list(read_photochat(path))
    assert len(str(caught.value)) < 500
    skipped: list[DataError] = []
    good = list(read_photochat(path, skip_bad=True, on_skip=skipped.append))
    assert [d.id for d in good] == ["0", "2"]
    assert len(skipped) == 1 and "line 2" in str(skipped[0])
    assert summarise(good, skipped=len(skipped)).skipped == 1


def test_a_bad_record_of_an_array_is_named_by_its_number(tmp_path):
    path = tmp_path / "dev_00.json"
    path.write_text(json.dumps([record(0), without(record(1), "dialogue"), record(2)]))
    with pytest.raises(DataError, match=r"dev_00\.json, record 2 .*\"dialogue\" is missing"):
        list(read_photochat(path))
    assert [d.id for d in read_photochat(path, skip_bad=True)] == ["0", "2"]
    path.write_text("[\n" + json.dumps(record(0)) + ",\n{,]")
    with pytest.raises(DataError, match=r"line 3: broken JSON"):
        list(read_photochat(path, skip_bad=True))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"[]", "is empty"),
        ("[{}]".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_with_nothing_to_read_is_an_error_even_when_skipping(tmp_path, data, says):
    path = tmp_path / "dev.jsonl"
    path.write_bytes(data)
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=says):
            list(read_photochat(path, skip_bad=skip_bad))


def test_a_file_that_is_not_there_or_all_bad_is_an_error(tmp_path):
    with pytest.raises(DataError, match="not there"):
        list(read_photochat(tmp_path / "no.jsonl", skip_bad=True))
    with pytest.raises(DataError, match="without any"):
        list(read_photochat(tmp_path, skip_bad=True))
    path = write_lines(tmp_path / "dev.jsonl", "{}", "{}")
    with pytest.raises(DataError, match=r"none of its 2 records .*line 1"):
        list(read_photochat(path, skip_bad=True))


def test_reading_streams_so_that_the_good_lines_before_a_bad_one_arrive(tmp_path):
    reader = read_photochat(write_lines(tmp_path / "dev.jsonl", record(0), "{"))
    assert next(reader).id == "0"
    with pytest.raises(DataError):
        next(reader)


# ------------------------------------------------------------------- moments and the hold-out


@pytest.mark.parametrize("share", [0, 1, 2, 4])
def test_a_position_stands_before_every_turn_from_the_second_to_the_share(tmp_path, share):
    (dialogue,) = read_photochat(write_lines(tmp_path / "dev.jsonl", record(share=share)))
    positions = moment_positions(dialogue)
    assert [p.turn for p in positions] == list(range(1, share + 1))
    assert [p.shares for p in positions] == [k == share for k in range(1, share + 1)]
    for position in positions:
        assert position.context == dialogue.turns[: position.turn] != ()
        assert not any(turn.photos for turn in position.context)


def test_a_dialogue_without_a_photo_has_no_positive_position(tmp_path):
    (dialogue,) = read_photochat(write_lines(tmp_path / "dev.jsonl", record(share=4)))
    silent = replace(dialogue, turns=dialogue.turns[:4])
    assert [p.shares for p in moment_positions(silent)] == [False] * 3


def test_held_out_dialogues_share_no_photo_with_the_rest_and_the_rule_ignores_order(tmp_path):
    records = [record(k, photo_url=f"https://x/{k // 2}.jpg") for k in range(60)]
    dialogues = list(read_photochat(write_lines(tmp_path / "train.jsonl", *records)))
    rest, held = split_held_out(dialogues, count=10)
    assert (len(rest), len(held)) == (50, 10)

    def addresses(some):
        return {d.photos[0].labels["photo_url"] for d in some}

    assert not addresses(rest) & addresses(held)
    assert [d.id for d in rest + held] != [d.id for d in dialogues]
    _, again = split_held_out(dialogues[::-1], count=10)
    assert {d.id for d in again} == {d.id for d in held}
    with pytest.raises(DataError, match="held out of 60"):
        split_held_out(dialogues, count=60)


def test_the_reader_does_not_load_torch():
    code = (
        "import sys, showtell.data.photochat, showtell.data.photos; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not SHARED.exists(), reason="the PhotoChat files are not at hand")
def test_the_real_dev_split_has_10151_positions_of_which_1000_are_positive():
    summary = summarise(read_photochat(SHARED / "dev.jsonl"))
    assert (summary.dialogues, summary.missing_photos) == (1000, 1000)
    assert (summary.positions, summary.positive_positions) == (10_151, 1_000)
