"""Reading predictions and references: every broken line names its file and number."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from showtell.errors import DataError
from showtell.metrics.answers import FIELDS, match, read_records

GOOD = '{"id": "1", "text": "a"}'
HUGE = "1" + "0" * 400


def read(path, bad=None):
    return list(read_records(path, bad=bad))


def write(path, *lines):
    data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    path.write_bytes(data)
    return path


def test_a_record_is_text_and_photos_or_ordered_elements(tmp_path):
    elements = ["Look!", {"photo": "b.png"}, {"text": "Cute"}, {"type": "photo", "path": "c.png"}]
    path = write(
        tmp_path / "p.jsonl",
        '{"id": 7, "text": "Hi", "photos": ["a.png", "/far/b.png"], "dialogue": "d"}',
        "",
        json.dumps({"id": "8", "elements": elements}),
        '{"id": "9", "text": ["one", "two"], "caption": "a dog", "p_share": 0.5}',
    )
    first, second, third = read(path)
    assert (first.id, first.dialogue, first.text) == ("7", "d", "Hi")
    assert [str(p) for p in first.photos] == [str(tmp_path / "a.png"), "/far/b.png"]
    assert second.elements == ("Look!", tmp_path / "b.png", "Cute", tmp_path / "c.png")
    assert second.dialogue == "8" and second.text == "Look! Cute"
    assert third.text == "one" and third.alternatives == ("two",)
    assert third.caption == "a dog" and third.numbers == {"p_share": 0.5}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "broken JSON at column"),
        ("[1]", "valid dictionary"),
        ('{"text": "a"}', '"id" is missing'),
        *((f'{{"id": {id}, "text": "a"}}', '"id') for id in ("null", HUGE, '""')),
        ('{"id": true}', '"id": Input should be a valid string or a valid integer, met true'),
        ('{"id": "1", "txet": "a"}', "unknown field 'txet'; did you mean \"text\""),
        ('{"id": "1", "te\\u0000\\u001bxt": "a"}', r"unknown field 'te\\x00\\x1bxt'"),
        ('{"id": "1", "text": 5}', "valid string or a valid list, met 5"),
        (
            '{"id": "1", "text": []}',
            r"valid string or List should have at least 1 item.*, met \[\]",
        ),
        ('{"id": "1", "text": "\\ud800"}', "surrogate"),
        ('{"id": "1", "photos": "a.png"}', "valid list"),
        ('{"id": "1", "photos": [3]}', "valid string, met 3"),
        ('{"id": "1", "photos": ["a\\u0000"]}', "no path"),
        ('{"id": "1", "photos": ["../a.png"]}', "leads out of the folder"),
        ('{"id": "1", "photos": ["link/a.png"]}', "leads out of the folder"),
        ('{"id": "1", "photos": ["loop"]}', "cannot be found"),
        ('{"id": "1", "elements": [{}]}', "without a text and without a photo"),
        ('{"id": "1", "elements": [], "text": "a"}', "beside"),
        *(
            (f'{{"id": "1", "{key}": {value}}}', f'"{key}": Input should')
            for key, value in {
                "p_share": 1.5,
                "share": 1,
                "rank": 0,
                "nll": -1,
                "tokens": HUGE,
            }.items()
        ),
        ('{"id": "1", "decision": ""}', '"decision": String should'),
        ('{"id": "1", "text": "' + "a b " * 3000 + '"}', "6,000 words; wanted at most"),
        ('{"id": "1", "elements": ["' + '", "'.join(["a b"] * 3000) + '"]}', "6,000 words"),
        ('{"id": "1", "text": "' + "a" * 9_000_000 + '"}', "9,000,000 characters; wanted"),
    ],
)
def test_a_bad_line_names_itself_and_may_be_skipped(tmp_path, line, says):
    (tmp_path / "link").symlink_to(tmp_path.parent)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    path = write(tmp_path / "p.jsonl", GOOD.replace("1", "0"), line, GOOD)
    with pytest.raises(DataError, match=rf"p\.jsonl, line 2.*{says}"):
        read(path)
    skipped = []
    assert [r.id for r in read(path, bad=skipped)] == ["0", "1"]
    assert len(skipped) == 1 and str(skipped[0]).isprintable()


def test_records_in_memory_are_checked_alike():
    for bad in ({"id": True}, {"id": "1", "nll": HUGE}, {"id": 1, 2: 3}, 7):
        with pytest.raises(DataError, match="predictions, record 1") as caught:
            match([bad], [{"id": "1"}])
        assert str(caught.value).isprintable()


# ------------------------------------------------------------------------------------- matching


def rows(*ids):
    return [{"id": id, "text": f"text {id}"} for id in ids]


def test_missing_and_double_ids_are_named_with_file_and_line(tmp_path):
    said = write(tmp_path / "said.jsonl", *(json.dumps(r) for r in rows("a", "b", "a")))
    gold = write(tmp_path / "gold.jsonl", *(json.dumps(r) for r in rows("a", "c", "b")))
    with pytest.raises(DataError, match=r"said\.jsonl, line 3.*'a' occurs twice.*line 1"):
        match(said, gold)
    write(said, *(json.dumps(r) for r in rows("a", "b")))
    with pytest.raises(
        DataError, match=r"gold\.jsonl, line 2.*1 of 3 references.*prediction \('c'"
    ):
        match(said, gold)
    write(said, *(json.dumps(r) for r in rows("a", "b", "c", "x")))
    with pytest.raises(DataError, match=r"said\.jsonl, line 4.*have no reference \('x'"):
        match(said, gold)


def test_skipping_counts_everything_that_is_left_out():
    said = [*rows("a", "b", "x"), {"id": "b", "text": "again"}, {"text": "no id"}]
    matched = match(said, rows("b", "a", "c", "d"), skip_bad=True)
    # in the references' order; the first of two counts
    assert [(a.id, b.id) for a, b in matched.pairs] == [("b", "b"), ("a", "a")]
    assert matched.pairs[0][0].text == "text b"
    assert list(matched.skipped.values()) == [2, 2, 1] and "occurs twice" in matched.first_bad
    with pytest.raises(DataError, match="no id is in both"):
        match(rows("a"), rows("b"), skip_bad=True)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
keys = st.sampled_from(FIELDS)
lines = st.one_of(
    st.binary(max_size=60), st.dictionaries(keys, values).map(lambda v: json.dumps(v).encode())
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)
@given(st.lists(lines, max_size=4))
def test_nothing_but_data_errors_comes_out_of_any_bytes(tmp_path, some):
    path = write(tmp_path / "any.jsonl", *some)
    try:
        good = read(path, bad=[])
    except DataError as error:
        assert "any.jsonl" in str(error)
        return
    assert all(isinstance(record.id, str) for record in good)
