"""showtell album add|list|stats|remove, and a chat that shares what was added."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

import showtell.papers
from conftest import build_model
from showtell.album.index import Album, empty_album
from showtell.cli import main
from showtell.papers.gill import GillConfig
from showtell.recipes.assemble import with_bridge

COLOURS = {"red": (250, 0, 0), "blue": (0, 0, 250)}


@pytest.fixture
def model(tokenizers, monkeypatch):
    config = GillConfig(num_tokens=2, num_layers=1, num_heads=2, width=16, album_width=8)
    model = with_bridge(build_model(tokenizers, bridge="pipeline"), config, seed=0).eval()
    model.decoding = dataclasses.replace(
        model.decoding, num_steps=1, max_new_tokens=2, share_threshold=0.0, album_cut_off=-2.0
    )
    monkeypatch.setattr(showtell.papers, "load_model", lambda name: model)
    return model


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "mine"
    (folder / "deeper").mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (120, 90), colour).save(folder / "deeper" / f"{name}.png")
    return folder


def test_an_album_is_added_to_listed_counted_shared_from_and_removed(
    model, photos, tmp_path, capsys
):
    album = str(tmp_path / "album")
    add = ["album", "add", str(photos), "--into", album, "--model", "gill", "--json"]
    assert main(add) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["photos"], first["added"], first["known"], first["refused"]) == (2, 2, 0, [])
    (photos / "broken.png").write_bytes(b"no photo")
    assert main(add) == 1 and "broken.png" in capsys.readouterr().err
    assert main([*add[:-1], "--skip-bad"]) == 0
    said = capsys.readouterr().out
    assert (
        "left out: " in said
        and "2 photos, 0 of them new; 2 there already (the same pixels), 1 left out" in said
    )

    assert main(["album", "list", album, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["photos"]
    assert [photo["source"] for photo in listed] == ["deeper/blue.png", "deeper/red.png"]

    assert main(["album", "stats", album, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    on_disk = sum(path.stat().st_size for path in Path(album).rglob("*") if path.is_file())
    assert counted == {
        **{"made_by": "tiny", "photos": 2, "captioned": 0, "dated": 0},
        **{"places": 0, "alike": 0},
        **{"first_day": "", "last_day": "", "bytes": on_disk},
    }
    assert main(["album", "stats", album]) == 0
    assert "2 photos, for" in capsys.readouterr().out

    chat = ["chat", "--model", "gill", "--say", "show me", "--json", "--album", album]
    assert main([*chat, "--photos-dir", str(tmp_path / "painted")]) == 0
    (shown,) = [p for p in json.loads(capsys.readouterr().out)["parts"] if p["type"] == "photo"]
    assert shown["origin"] == "album" and shown["id"] in {photo["id"] for photo in listed}
    with Image.open(shown["path"]) as image:
        assert image.size == (120, 90)  # as it was brought, and not as the model sees it
    assert not (tmp_path / "painted").exists()

    assert main(["album", "remove", album, listed[0]["id"]]) == 0
    assert [photo.id for photo in Album.load(album).photos] == [listed[1]["id"]]
    assert not (Path(album) / listed[0]["path"]).exists()
    assert main(["album", "remove", album, "album-no"]) == 1
    assert "album-no" in capsys.readouterr().err


def test_an_album_of_another_model_is_left_as_it_is(model, photos, tmp_path, capsys):
    album = tmp_path / "album"
    empty_album(width=8, made_by="another").save(album)
    assert main(["album", "add", str(photos), "--into", str(album), "--model", "gill"]) == 1
    assert 'made by "another"' in capsys.readouterr().err
    assert len(Album.load(album)) == 0


def test_a_model_that_asks_no_album_says_so(tokenizers, monkeypatch, photos, tmp_path, capsys):
    plain = build_model(tokenizers, bridge="pipeline")
    monkeypatch.setattr(showtell.papers, "load_model", lambda name: plain)
    into = tmp_path / "album"
    assert main(["album", "add", str(photos), "--into", str(into), "--model", "plain"]) == 2
    assert "showtell train world_gill" in capsys.readouterr().err
    assert not into.exists()
