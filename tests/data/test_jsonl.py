"""The incremental decoder gives what json.loads gives, and says where it went wrong."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.data import jsonl
from showtell.data.jsonl import parse_json_items
from showtell.errors import DataError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # numbers at the edge of a window are where a decoder reads half of one
    | st.sampled_from([1e300, -0.5e-7, 123456789012345678901234567890])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


def items(text: str) -> list[tuple]:
    return [tuple(item) for item in parse_json_items(io.BytesIO(text.encode()), "a.json")]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(JSON_VALUES, max_size=5), st.integers(1, 40), st.sampled_from([None, 1]))
def test_an_array_gives_its_elements_whatever_the_window(values, window, indent):
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "WINDOW", window)
        found = items(text)
    assert found == [("", k, value) for k, value in enumerate(json.loads(text), start=1)]


def test_an_object_gives_the_elements_of_its_arrays_and_of_the_nested_data():
    text = '{"a": [1, [2]], "b": {"c": [3]}, "data": {"d": [4, 5], "e": "f"}, "g": [], "h": null}'
    assert items(text) == [
        ("a", 1, 1),
        ("a", 2, [2]),
        ("b", None, {"c": [3]}),
        ("data.d", 1, 4),
        ("data.d", 2, 5),
        ("data.e", None, "f"),
        ("h", None, None),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1,\n2,\n", "line 3: the file is cut short"),
        ('[1,\n"half', "line 2: the file is cut short"),
        ("[1,\n2,]", "line 2: broken JSON"),
        ("[1 2]", "wanted , or ]"),
        ("[1]\n[2]", "line 2: broken JSON .something stands after"),
        ('{"a" 1}', "wanted :"),
        ("{a: 1}", "name in quotes"),
        ("12", r"wanted \[ or {"),
        ("[NaN]", "NaN is no JSON"),
        ("[" + "[" * 100_000, "a.json"),
        ("[" + "1" * 10_000 + "]", "a.json"),
    ],
)
def test_what_is_broken_is_named_by_its_line(text, says):
    with pytest.raises(DataError, match=says):
        items(text)


def test_a_record_without_end_is_given_up_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    with pytest.raises(DataError, match="line 1: a record that is broken"):
        items('["' + "x" * 3_000_000)


def test_elements_arrive_before_the_file_is_read_to_its_end():
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b'[{"a": 1},' + b'{"a": 1},' * (size // 9)

    assert next(parse_json_items(Endless(), "a.json")).value == {"a": 1}
