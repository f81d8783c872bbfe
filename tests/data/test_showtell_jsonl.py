"""showtell's own JSONL: what is written is read, and what the schema allows is what is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.data.photos import load_photo, photo_image
from showtell.data.showtell_jsonl import dialogue_as_dict, dialogue_of
from showtell.data.sources import open_data
from showtell.dialogue import Dialogue, Photo, Turn, with_photos
from showtell.errors import DataError

from . import natives

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/showtell.schema.json").read_text(encoding="utf-8"))


def allowed(value: Any, schema: dict[str, Any]) -> bool:
    """A validator for those words of JSON Schema that ours uses; any other word is a failure."""
    known = {"$schema", "title", "$defs", "$ref", "type", "properties", "required", "items"}
    known |= {"additionalProperties", "const", "enum", "oneOf", "minLength"}
    assert not set(schema) - known
    if "$ref" in schema:
        return allowed(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "oneOf" in schema:
        return sum(allowed(value, one) for one in schema["oneOf"]) == 1
    if "const" in schema:
        return value == schema["const"]
    if "enum" in schema:
        return value in schema["enum"]
    names = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "null": type(None),
    }
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if isinstance(value, bool) or not any(isinstance(value, names[kind]) for kind in kinds):
        return False
    if isinstance(value, str):
        return len(value) >= schema.get("minLength", 0)
    if isinstance(value, list):
        return all(allowed(item, schema["items"]) for item in value)
    if isinstance(value, dict) and "properties" in schema:
        properties = schema["properties"]
        if set(schema["required"]) - set(value) or set(value) - set(properties):
            return False
        return all(allowed(value[key], properties[key]) for key in properties)
    return True


def taken(value: Any) -> bool:
    try:
        dialogue_of(json.loads(json.dumps(value)), "here", None)
    except DataError:
        return False
    return True


WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=4)
LABELS = st.dictionaries(WORDS, st.integers() | WORDS | st.lists(st.booleans()), max_size=2)
PHOTOS = st.builds(
    Photo,
    id=WORDS.filter(bool),
    caption=WORDS,
    origin=st.sampled_from(["user", "painted", "album"]),
    seed=st.none() | st.integers(),
    labels=LABELS,
)
TURNS = st.builds(
    Turn,
    speaker=st.sampled_from(["user", "agent"]),
    elements=st.lists(WORDS | PHOTOS, max_size=3).map(tuple),
    labels=LABELS,
)
DIALOGUES = st.builds(
    Dialogue, id=WORDS.filter(bool), turns=st.lists(TURNS, max_size=3).map(tuple), labels=LABELS
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(DIALOGUES)
def test_every_dialogue_survives_writing_and_reading_and_fits_the_schema(dialogue):
    value = json.loads(json.dumps(dialogue_as_dict(dialogue)))
    assert allowed(value, SCHEMA)
    assert dialogue_of(value, "here", None) == dialogue


@settings(max_examples=150, deadline=None, derandomize=True)
@given(DIALOGUES, st.data())
def test_the_reader_takes_exactly_what_the_schema_allows(dialogue, data):
    value = json.loads(json.dumps(dialogue_as_dict(dialogue)))
    # labels may hold anything
    places = [place for place in natives.nodes(value) if place and "labels" not in place[:-1]]
    path = data.draw(st.sampled_from(places))
    inside = value
    for key in path[:-1]:
        inside = inside[key]
    what = data.draw(st.sampled_from(["replace", "delete", "add"]))
    if what == "delete":
        del inside[path[-1]]
    elif what == "add" and isinstance(inside, dict):
        inside[data.draw(st.sampled_from(["extra", "Id", "role"]))] = None
    else:
        inside[path[-1]] = data.draw(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, width=16)
            | WORDS
            | st.just("agent")
            | st.just([])
            | st.just({})
            | st.just({"type": "text"})
        )
    assert taken(value) == allowed(value, SCHEMA)


def test_a_world_in_files_is_read_back_as_it_was(tmp_path):
    source = open_data("world:100000-100004")
    path = natives.write_world(tmp_path / "out", source)
    for name in (path.parent, path):
        for written, read in zip(source, open_data(f"showtell:{name}"), strict=True):
            for drawn, stored in zip(written.photos, read.photos, strict=True):
                assert load_photo(stored.path).tobytes() == photo_image(drawn).tobytes()
            bare = with_photos(read, [replace(photo, path=None) for photo in read.photos])
            plain = [json.loads(json.dumps(dialogue_as_dict(d))) for d in (written, bare)]
            assert plain[0] == plain[1]
