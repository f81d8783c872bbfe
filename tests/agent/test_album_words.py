"""showtell album add|search|evaluate by words: home's parts and folders of CLIP and SigLIP."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from showtell.agent import album_words
from showtell.agent.album_words import album_folder, load_encoder, open_finder, open_photos
from showtell.album.index import Album, empty_album
from showtell.album.told import captions_in
from showtell.cli import main
from showtell.errors import CheckpointError, MissingDependency, UsageError
from showtell.evaluation.album_search import evaluate_search
from showtell.models.checkpoint import SHIPPED
from showtell.models.classifier import Seen
from word_vectors import word_vectors

COLOURS = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250)}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "green", "blue"]
SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


texts = partial(word_vectors, width=64)


class Colours(torch.nn.Module):
    classes = tuple(COLOURS)

    def forward(self, images):
        logits = torch.tensor([image.getpixel((0, 0)) for image in images]).float() / 10
        return Seen(logits_PC=logits, features_PF=logits)


@pytest.fixture
def home(monkeypatch, tmp_path):
    """The parts of home, which no test fetches; what was asked of the index."""
    asked = []
    monkeypatch.setattr(album_words, "index_part", lambda name, told: asked.append(name) or name)
    monkeypatch.setattr(album_words, "load_sentence_encoder", lambda folder: texts)
    monkeypatch.setattr(album_words, "load_classifier", lambda folder: Colours())
    monkeypatch.setattr(
        album_words, "fetch_parts", lambda *names, say: [say(f"size of {name}") for name in names]
    )
    monkeypatch.setenv("SHOWTELL_CACHE", str(tmp_path / "cache"))
    return asked


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    with open(folder / "captions.jsonl", "w") as file:
        for name, colour in COLOURS.items():
            Image.new("RGB", (20, 16), colour).save(folder / f"IMG_{name[0]}.png")
            told = [f"something {name}", f"all is {name} here"]
            record = {"file": f"IMG_{name[0]}.png", "captions": told, "split": "dev"}
            file.write(json.dumps(record) + "\n")
    return folder


def said(capsys, *words, code=0):
    assert main(list(map(str, words))) == code
    out = capsys.readouterr()
    return out.err if code else out.out


def test_home_adds_and_finds_without_training_or_hub(home, photos, tmp_path, capsys):
    album = tmp_path / "album"
    (photos / "captions.jsonl").unlink()
    assert main(["album", "add", str(photos), "--into", str(album)]) == 0
    told = capsys.readouterr()
    assert told.err == "size of efficientnet-lite0\nsize of all-minilm-l6-v2\n"
    assert "3 of them new" in told.out
    assert home == ["all-minilm-l6-v2", "efficientnet-lite0"]
    told = json.loads(said(capsys, "album", "search", "green", "--album", album, "--json"))
    (first, *_) = told["photos"]
    assert first["source"] == "IMG_g.png" and first["score"] >= told["cut_off"]
    with Image.open(first["path"]) as image:
        assert image.getpixel((0, 0)) == COLOURS["green"]
    assert home[2:] == ["all-minilm-l6-v2"]  # words alone need no classifier
    search = ("album", "search", "a submarine", "--album", album)
    assert "No such photo among 3" in said(capsys, *search)
    everything = said(capsys, *search, "--cut-off", "-99", "--limit", "2")
    assert everything.count("IMG_") == 2


def test_the_sample_album_is_indexed_once_and_asked_like_any_other(home, tmp_path, capsys):
    search = ("album", "search", "the rubber duck", "--album", "sample", "--json")
    (first, *_) = json.loads(said(capsys, *search))["photos"]
    assert first["source"].startswith("duck_toy") and "duck" in first["caption"]
    (folder,) = (tmp_path / "cache").iterdir()
    assert Path(first["path"]).parent.parent == folder
    album = Album.load(folder)
    assert len(album) == 29 and all(photo.caption for photo in album.photos)
    home.clear()
    assert album_folder("sample") == folder and album_folder("album") == Path("album")
    assert home == []
    album.without_photos([photo.id for photo in album.photos[5:]]).save(folder)  # a killed one
    photos = open_photos("sample")
    assert len(Album.load(folder)) == 29
    (hit,) = photos.hits("a photo of the plush husky on the lawn", top_k=1)
    photo, image = photos.opened(hit)
    assert photo.caption == "The plush husky lying on the lawn" and image.size == (512, 512)


def test_what_ships_is_small_described_and_attributed():
    shipped = SHIPPED / "album"
    names = {path.name for path in shipped.glob("*.jpg")}
    assert names == set(captions_in(shipped)) and all(captions_in(shipped).values())
    assert sum(path.stat().st_size for path in shipped.iterdir()) <= 3_000_000
    about = (shipped / "ATTRIBUTION.md").read_text()
    assert all(name[:-7] in about for name in names) and "CC BY 4.0" in about
    assert "Attribution 4.0 International" in (shipped / "LICENSE.md").read_text()
    requests = Path(__file__).parents[2] / "experiments/album_requests.jsonl"
    asked = [json.loads(line) for line in requests.read_text().splitlines()]
    assert {name for request in asked for name in request["photos"]} == names
    assert sum(not request["photos"] for request in asked) * 3 == len(asked) == 120


@pytest.mark.parametrize("package", ["sentence_transformers", "efficientnet_lite_pytorch"])
def test_a_missing_package_is_told_before_anything_is_fetched(home, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=rf"{package}.*showtell\[home\]"):
        load_encoder("home")
    assert home == []


def test_what_cannot_be_searched_says_why(home, photos, tmp_path, capsys):
    album = tmp_path / "album"
    add = ("album", "add", photos, "--into", album)
    both = said(capsys, *add, "--encoder", "home", "--model", "mini", code=2)
    assert "both --encoder and --model" in both
    assert '"hom", which is no folder here' in said(capsys, *add, "--encoder", "hom", code=2)
    assert not album.exists()
    search = ("album", "search", "red", "--album", album)
    assert "is no album" in said(capsys, *search, code=1)
    empty_album(width=64, made_by="gill").save(album)
    for more in ((), ("--encoder", "home")):
        assert 'made by "gill"' in said(capsys, *search, *more, code=2)
    assert 'made by "gill"' in said(capsys, *add, code=1)
    empty_album(width=64, made_by="home").save(album)
    assert "asks for nothing" in said(capsys, *search[:2], " ", *search[3:], code=2)
    assert "No such photo among 0" in said(capsys, *search)


def test_captions_find_their_photos_and_the_report_says_what_chance_is(home, photos, capsys):
    verb = ("album", "evaluate", f"folder:{photos}", "--split", "dev", "--json")
    rows = json.loads(said(capsys, *verb))["metrics"]
    assert rows["chance.r1"]["value"] == pytest.approx(1 / 3)
    for name, n in {"cosine": 6, "score": 6, "captioned": 3}.items():
        assert (rows[f"{name}.r1"]["value"], rows[f"{name}.r1"]["n"]) == (1.0, n)
    assert "0 photos with captions in the split" in said(capsys, *verb[:-2], "test", code=1)


def test_a_scorer_that_knows_nothing_is_last(home, photos):
    encoder = load_encoder("home")
    blind = type(encoder)(
        name="blind", width=64, texts=texts, photos=lambda images: torch.ones(len(images), 64)
    )
    report = evaluate_search(f"folder:{photos}", blind, seed=0)
    assert report.metrics["cosine.r1"].value == 0.0
    assert report.metrics["captioned.r1"].value == 1.0


# ---------------------------------------------------------------------------- folders of a library


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(dict(zip(WORDS, range(8), strict=True)), "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]"
    )


@pytest.fixture(params=["clip", "siglip"])
def folder(request, tmp_path):
    import transformers as hf

    torch.manual_seed(0)
    text = SIZE | {"vocab_size": 8, "max_position_embeddings": 8, "eos_token_id": 3}
    vision = SIZE | {"image_size": 32, "patch_size": 16}
    if request.param == "clip":
        config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        model, processor = hf.CLIPModel(config), hf.CLIPImageProcessorPil
    else:
        config = hf.SiglipConfig(text_config=text | {"projection_size": 16}, vision_config=vision)
        model, processor = hf.SiglipModel(config), hf.SiglipImageProcessorPil
    model.save_pretrained(tmp_path / request.param)
    tokenizer().save_pretrained(tmp_path / request.param)
    processor(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(
        tmp_path / request.param
    )
    return tmp_path / request.param


def test_a_folder_of_clip_or_siglip_makes_and_asks_an_album(folder, photos, tmp_path, capsys):
    from transformers import AutoImageProcessor, AutoModel

    album = tmp_path / "album"
    said(capsys, "album", "add", photos, "--into", album, "--encoder", folder)
    told = said(capsys, "album", "search", "something red", "--album", album, "--cut-off=-99")
    assert told.count("something") == 3
    encoder = load_encoder(str(folder))
    library = AutoModel.from_pretrained(folder).eval()
    images = [Image.open(path) for path in sorted(photos.glob("*.png"))]
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images, return_tensors="pt")
    filled = {"padding": "max_length", "max_length": 8} if folder.name == "siglip" else {}
    ids = tokenizer()(["a red"], return_tensors="pt", **filled)
    with torch.no_grad():
        want = library(**pixels, **ids)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(encoder.photos(images)), want.image_embeds)
    torch.testing.assert_close(unit(encoder.texts(["a red"])), want.text_embeds)
    moved = folder.rename(tmp_path / "elsewhere")
    search = ("album", "search", "something red", "--album", album, "--cut-off=-99")
    assert "wanted the encoder that made it (if it was moved" in said(capsys, *search, code=2)
    assert said(capsys, *search, "--encoder", moved) == told
    add = ("album", "add", photos, "--into", album, "--encoder", moved)
    assert "0 of them new; 3 there already" in said(capsys, *add)
    assert said(capsys, *search) == told  # the album knows now where it is
    text = (moved / "config.json").read_text()
    (moved / "config.json").write_text(text + " ")  # another one in its place
    assert "wanted the encoder that made it" in said(capsys, *search, code=2)
    assert "made by" in said(capsys, *add, code=1)
    (moved / "config.json").write_text(text)
    moved.rename(folder)
    with pytest.raises(UsageError, match="wanted the encoder that made it"):
        empty_album(width=3, made_by=str(folder)).save(tmp_path / "other")
        open_finder(tmp_path / "other")


def test_a_model_without_texts_and_photos_in_one_space_is_refused(tmp_path):
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**SIZE, vocab_size=8)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="bert has no texts and photos.*--encoder FOLDER"):
        load_encoder(str(tmp_path))
