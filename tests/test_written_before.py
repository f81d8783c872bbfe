"""What commit 2bc476d wrote is read: an album, shards, predictions; mini, which is older still."""

import json
from pathlib import Path

import pytest

from showtell.album.index import Album
from showtell.cli import main
from showtell.data.photos import photo_image
from showtell.data.sources import open_data
from showtell.models.checkpoint import SHIPPED, read_description

BEFORE = Path(__file__).parent / "written_before"


def test_an_album_is_read_with_its_photos():
    album = Album.load(BEFORE / "album")
    assert [photo.caption for photo in album.photos] == ["photo 0", "photo 1"]
    assert album.width == 4


def test_shards_are_read_with_their_photos():
    source = open_data(f"shards:{BEFORE / 'shards'}")
    assert [dialogue.id for dialogue in source] == ["world-3", "world-4"]
    assert {photo_image(photo).size for photo in source[0].photos} == {(64, 64)}


def test_predictions_score_as_they_did(capsys):
    said = BEFORE / "said"
    files = [str(said / name) for name in ("predictions.jsonl", "references.jsonl")]
    assert main(["score", *files, "--protocol", "psdg", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)["metrics"]["text.psdg.bleu1"]
    assert value["value"] == pytest.approx(0.10916410041039917, abs=1e-15)


def test_a_checkpoint_is_read():
    assert read_description(SHIPPED / "mini")["format"] == 1  # its weights are loaded everywhere
