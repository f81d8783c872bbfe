"""album_heads: what is learnt, saved, taken up again, and asked by an album."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from data import natives
from recipes.conftest import train
from showtell.agent import album_words
from showtell.agent.album_words import load_encoder, open_finder
from showtell.album.find import CUT_OFF
from showtell.album.shown import terms_of
from showtell.cli import main
from showtell.data.world import captioned_photo, draw_photo
from showtell.errors import CheckpointError, ConfigError, DataError
from showtell.models.classifier import Seen
from showtell.models.two_heads import AlbumHeads, HeadsConfig
from showtell.papers import load_model
from showtell.recipes import album_heads
from showtell.recipes.album_heads import Captioned, HeadsTask, eyes_of
from word_vectors import word_vectors

COLOURS = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250), "yellow": (240, 230, 10)}
TINY = [
    "num_held=4",
    "heads.steps=60",
    "heads.batch_size=8",
    "heads.warmup=1",
    "hidden_width=64",
    "dropout=0",
]


texts = partial(word_vectors, width=24)


class Pixels(torch.nn.Module):
    """A classifier whose features are the first pixel's colour."""

    def forward(self, images):
        pixels = torch.tensor([image.getpixel((0, 0)) for image in images]).float() / 255
        return Seen(logits_PC=pixels, features_PF=pixels)


@pytest.fixture
def parts(monkeypatch):
    for module in (album_heads, album_words):
        monkeypatch.setattr(module, "index_part", lambda name, told: name)
        monkeypatch.setattr(module, "load_classifier", lambda folder: Pixels())
        monkeypatch.setattr(module, "load_sentence_encoder", lambda folder: texts)
    monkeypatch.setattr(album_words, "fetch_parts", lambda *names, say: None)


@pytest.fixture
def photos(tmp_path):
    """Two dozen photos; that a colour's word means the colour is nowhere but in their captions."""
    records = []
    for number in range(24):
        (word, colour) = list(COLOURS.items())[number % 4]
        natives.write_photo(tmp_path / f"in/{number}.png", (*colour[:2], colour[2] + number // 4))
        told = [f"it is {word}", f"a {word} one"]
        records.append({"file": f"{number}.png", "captions": told, "split": "train"})
    natives.write_lines(tmp_path / "in/captions.jsonl", records)
    return tmp_path / "in"


def test_heads_learn_what_words_mean_and_an_album_is_asked_by_them(
    parts, photos, tmp_path, capsys, monkeypatch
):
    heads = train("album_heads", tmp_path / "o", f"data=folder:{photos}", *TINY)
    assert {p.name for p in heads.iterdir()} == {
        *("album_heads.json", "album_heads.safetensors", "report.json")
    }
    before = (heads / "album_heads.safetensors").read_bytes()
    with monkeypatch.context() as patch:  # what is seen already needs no part
        for name in ("load_classifier", "index_parts"):
            patch.delattr(album_heads, name)
        assert train("album_heads", tmp_path / "o", resume=True) == heads
    assert (heads / "album_heads.safetensors").read_bytes() == before
    album = str(tmp_path / "album")
    (photos / "captions.jsonl").unlink()  # nothing is told of the photos but what they show
    assert main(["album", "add", str(photos), "--into", album, "--encoder", str(heads)]) == 0
    finder = open_finder(album)
    assert finder.album.width == 384
    for number, word in enumerate(COLOURS):
        (hit,) = finder.find(f"it is {word}", top_k=1, cut_off=-9.0)  # of a shot one is found
        assert int(hit.photo.source[:-4]) % 4 == number
    assert main(["album", "search", "red", "--album", album, "--encoder", "home"]) == 2
    assert "wanted the encoder that made it" in capsys.readouterr().err


def test_terms_are_read_off_photos_by_a_models_own_eyes(parts, tmp_path, base, monkeypatch):
    data = ["data=world:photos:0-15", f"eyes={base}", "num_terms=30"]
    heads = train("album_heads", tmp_path / "o", *data, *TINY)
    told = json.loads((heads / "album_heads.json").read_text())
    assert 0 < len(told["terms"]) <= 30 and told["eyes"] == str(base)
    assert told["cut_off"] is None  # of four photos nothing can be promised
    monkeypatch.setattr(album_words, "load_classifier", lambda folder: pytest.fail("not needed"))
    encoder = load_encoder(str(heads))
    assert encoder.terms.names == tuple(told["terms"]) and encoder.cut_off == CUT_OFF
    photo = captioned_photo(3).photos[0]
    word = next(t for t in encoder.terms.names if t in terms_of(photo.labels["full_caption"]))
    shown_P = encoder.terms.shown(
        word, encoder.photos([draw_photo(photo)]), with_term=lambda term: []
    )
    assert -8 <= float(shown_P[0]) <= 0
    blind = load_model(base)
    blind.photo_encoder = None
    monkeypatch.setattr("showtell.papers.load_model", lambda name: blind)
    with pytest.raises(ConfigError, match="eyes=.*no photo encoder"):
        eyes_of(str(base))


def test_the_loss_is_that_of_photo_and_caption_among_those_of_the_batch(rng):
    config = HeadsConfig(photo_width=3, text_width=5, hidden_width=4, width=6, dropout=0.0)
    first = [0, 2, 3, 5]
    photos_PF, texts_CW = (torch.randn(n, w, generator=rng).numpy() for n, w in ((3, 3), (5, 5)))
    shown = Captioned(photos_PF, texts_CW, first)
    none_PV = torch.zeros(3, 0)
    task = HeadsTask(AlbumHeads(config).eval().requires_grad_(False), shown, shown, none_PV)
    found = float(task.losses([2, 0, 1], generator=torch.Generator().manual_seed(1))["contrastive"])
    heads = task.module
    options = []
    for two in (3, 4):  # captions of photo 2, of photo 0; photo 1 has one
        for nought in (0, 1):
            x = heads.photos(torch.tensor(photos_PF[[2, 0, 1]]))
            y = heads.texts(torch.tensor(texts_CW[[two, nought, 2]]))
            cosines = (y @ x.T) * heads.log_scale.exp()
            terms = [-(cosines[i, i] - cosines[i].logsumexp(0)) for i in range(3)]
            terms += [-(cosines[i, i] - cosines[:, i].logsumexp(0)) for i in range(3)]
            options.append(float(sum(terms) / 6))
    assert min(abs(found - option) for option in options) < 1e-5
    ranks = [
        sum(
            float(task.module.photos(torch.tensor(photos_PF))[q] @ vector)
            >= float(task.module.photos(torch.tensor(photos_PF))[p] @ vector)
            for q in range(3)
        )
        for p in range(3)
        for vector in task.module.texts(torch.tensor(texts_CW[first[p] : first[p + 1]]))
    ]
    assert task.validate()["held_out_r1"] == pytest.approx(np.mean([rank <= 1 for rank in ranks]))


def test_what_cannot_be_trained_or_read_says_so(parts, photos, tmp_path):
    data = f"data=folder:{photos}"
    with pytest.raises(ConfigError, match="dropout 1.0; wanted widths"):
        train("album_heads", tmp_path / "a", data, "dropout=1.0")
    with pytest.raises(DataError, match="24 photos .* num_held lower"):
        train("album_heads", tmp_path / "b", data, "num_held=24")
    config = HeadsConfig(photo_width=3, text_width=24, hidden_width=4, width=6, dropout=0.0)
    folder = AlbumHeads(config).save(tmp_path / "heads")
    assert load_encoder(str(folder)).width == 6
    weights = load_file(folder / "album_heads.safetensors")
    save_file(weights | {"more": torch.ones(1)}, folder / "album_heads.safetensors")
    with pytest.raises(CheckpointError, match="more"):
        load_encoder(str(folder))
    (folder / "album_heads.json").write_text(json.dumps({"width": 6}))
    with pytest.raises(CheckpointError, match="album_heads.json and"):
        load_encoder(str(folder))
