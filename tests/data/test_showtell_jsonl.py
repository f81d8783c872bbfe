"""showtell's own JSONL: what is written is read, and the schema is the reader's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.data.photos import load_photo, photo_image
from showtell.data.showtell_jsonl import _Dialogue, dialogue_as_dict, dialogue_of
from showtell.data.sources import open_data
from showtell.dialogue import Dialogue, Photo, Turn, with_photos
from showtell.errors import DataError

from . import natives

SCHEMA = Path(__file__).parents[2] / "docs/showtell.schema.json"


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
def test_every_dialogue_survives_writing_and_reading(dialogue):
    value = json.loads(json.dumps(dialogue_as_dict(dialogue)))
    assert dialogue_of(value, "here", None) == dialogue
    for wrong in (value | {"role": 1}, {**value, "id": ""}, {**value, "labels": None}):
        with pytest.raises(DataError):
            dialogue_of(wrong, "here", None)


def test_the_schema_in_docs_is_that_of_the_reader():
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == _Dialogue.model_json_schema(), (
        f"wanted json.dumps(_Dialogue.model_json_schema(), indent=2) in {SCHEMA}"
    )


def test_a_world_in_files_is_read_back_as_it_was(tmp_path):
    source = open_data("world:100000-100004")
    path = natives.write_world(tmp_path / "out", source)
    for name in (path.parent, path):
        for written, read in zip(source, open_data(f"showtell:{name}"), strict=True):
            for drawn, stored in zip(written.photos, read.photos, strict=True):
                assert load_photo(stored.path).tobytes() == photo_image(drawn).tobytes()
            bare = replace(
                read,
                turns=with_photos(read.turns, [replace(p, path=None) for p in read.photos]),
            )
            plain = [json.loads(json.dumps(dialogue_as_dict(d))) for d in (written, bare)]
            assert plain[0] == plain[1]
