"""Photos for the words of a model that has no painter and asks no album in vectors of its own."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from conftest import words_alone
from keyword_model import words_to
from showtell.agent.prompts import prompts
from showtell.agent.session import Session, responder
from showtell.agent.shares import Looks, PhotosInWords, PhotoSources
from showtell.agent.when import When
from showtell.dialogue import Photo
from showtell.errors import EngineError, UsageError
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder


class Found:
    """Stands for an album: it has a photo for every word, or for none."""

    def __init__(self, *photos: Photo) -> None:
        self.photos, self.asked = photos, []

    def find(self, words, *, without):
        self.asked.append(words)
        left = [photo for photo in self.photos if photo.id not in without] or self.photos
        return (left[0], Image.new("RGB", (8, 8), "red")) if left else None


class Paints:
    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, []

    def paint(self, words, *, seed, on_step=None):
        self.asked.append((words, seed))
        if self.error:
            raise self.error
        return Image.new("RGB", (4, 4), "blue")


@pytest.fixture
def model(monkeypatch):
    """It shares a photo in the first turn of every answer."""
    model = words_alone(["hello there my dog ran on the beach", "a cake"])
    monkeypatch.setattr(
        Decoder, "p_share", lambda self, writing: writing.logits_BV.new_ones(len(writing.logits_BV))
    )
    written = Decoder.write_captions

    def in_words(self, writing, **more):  # whatever an untrained model says
        return ["my dog" for _ in written(self, writing, **more)]

    monkeypatch.setattr(Decoder, "write_captions", in_words)
    return model


def session(model, **sources) -> Session:
    return Session(Responder(Decoder(model), photos=PhotoSources(**sources)), seed=1)


def test_the_albums_photo_comes_first_and_one_not_shown_before_another(model):
    album = Found(Photo(id="a", caption="my dog"), Photo(id="b", caption="my cake"))
    painter = Paints()
    talk = session(model, album=album, painter=painter)
    replies = [talk.say("show me your dog"), talk.say("and another")]
    shared = [turn.photos[0] for reply in replies for turn in reply.turns if turn.photos]
    assert [photo.id for photo in shared[:2]] == ["a", "b"] and painter.asked == []
    assert all(photo.id in talk.images for photo in shared)
    assert album.asked[0] and replies[0].seconds_to_photo is not None


def test_what_the_album_lacks_is_painted_from_the_same_words(model):
    album, painter = Found(), Paints()
    talk = session(model, album=album, painter=painter)
    reply = talk.say("show me your dog")
    photo = next(photo for turn in reply.turns for photo in turn.photos)
    assert photo.origin == "painted" and talk.images[photo.id].size == (4, 4)
    assert painter.asked == [(album.asked[0], photo.seed)] and photo.caption == album.asked[0]


@pytest.mark.parametrize("album", [None, Found()])
def test_to_whom_asked_for_a_photo_that_is_not_there_it_says_so(model, album):
    said: list[str] = []
    sources = PhotoSources(album=album)
    talk = Session(Responder(Decoder(model), photos=sources, when=When(threshold=0.5)), seed=1)
    reply = talk.say("show me your dog", tell=words_to(said))
    assert [turn.text for turn in reply.turns] == [prompts()["itself"]["no_photo"]]
    assert "".join(said).strip() == reply.turns[0].text
    assert not reply.images and reply.seconds_to_photo is None
    assert "a photo was due" in talk.notes[0]
    talk.say("ok")  # and the talk goes on


def test_where_nobody_asked_and_there_is_none_it_answers_in_words(model):
    said: list[str] = []
    reply = session(model).say("how was your day?", tell=words_to(said))
    assert len(reply.turns) == len(reply.p_share) >= 1 and not reply.images
    assert all(turn.text and not turn.photos for turn in reply.turns)
    assert prompts()["itself"]["no_photo"] not in "".join(said)
    assert "".join(said).split() == " ".join(turn.text for turn in reply.turns).split()


def test_a_photo_that_does_not_come_is_late_and_nothing_is_lost(model):
    talk = session(model, painter=Paints(EngineError("the painter answered 503")))
    reply = talk.say("show me your dog")
    photo = next(photo for turn in reply.turns for photo in turn.photos)
    assert photo.id not in talk.images and "the photo is late" in talk.notes[0]


def test_a_row_without_a_photo_leaves_the_others_as_they_were(model):
    album = Found(Photo(id="a", caption="my dog"))

    class Some(PhotoSources):
        def share(self, description, *, seed, **more):
            here = PhotoSources(album=album if seed == 1 else None)
            return here.share(description, seed=seed, **more)

    talk = session(model)
    talk.say("hi")
    context = talk.turns[:1]
    both = Responder(Decoder(model), photos=Some()).respond_all(
        [context, context], images=[{}, {}], seeds=[1, 2]
    )
    assert [bool(reply.images) for reply in both] == [True, False]
    alone = Responder(Decoder(model), photos=Some()).respond(context, images={}, seed=1)
    assert both[0].turns == alone.turns


def test_a_model_that_paints_takes_no_other_painter(tiny_model):
    with pytest.raises(UsageError, match="paints by itself"):
        responder(tiny_model, painter=Paints())


class Sure:
    """Stands for a classifier: it is sure of one photo and undecided about another."""

    classes = ("golden retriever", "tennis ball", "teapot")

    def __call__(self, images):
        chances = {"red": [0.9, 0.08, 0.02], "blue": [0.4, 0.35, 0.25]}
        told = [chances["red" if image.getpixel((0, 0))[0] else "blue"] for image in images]
        return SimpleNamespace(logits_PC=torch.tensor(told).log())


def test_the_users_photo_is_told_by_what_is_in_it_as_photochat_tells_photos(model, monkeypatch):
    looks = Looks("a-part")
    looks.classifier = Sure()
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    assert looks([red, blue]) == [
        "Objects in the photo: Golden retriever",
        "Objects in the photo: Golden retriever, Tennis ball, Teapot",
    ]
    model.card["looks"] = "a-part"
    answers = responder(model)
    assert answers.sees and not responder(words_alone(["a"])).sees
    answers.looks = looks
    read: list[str] = []
    told = Responder.describe_all

    def heard(self, contexts, images):
        turns = told(self, contexts, images)
        read.extend(photo.caption for turn in turns[0] for photo in turn.photos)
        return turns

    monkeypatch.setattr(Responder, "describe_all", heard)
    talk = Session(answers, seed=1)
    talk.say("look at him", [red])
    assert "Objects in the photo: Golden retriever" in read
    assert not any("cannot see" in note for note in talk.notes)


def test_an_album_is_asked_without_the_words_that_open_every_description():
    album = Found()
    PhotoSources(album=album).share(
        "Objects in the photo: Dog, Ball", photo_id="p", seed=0, without=(), notes=[]
    )
    assert album.asked == ["Dog, Ball"]


def test_what_the_user_says_of_photos_counts_before_the_models_chance(monkeypatch):
    model = words_alone(["hello there my dog ran on the beach", "a cake"])  # it never shares
    monkeypatch.setattr(Decoder, "p_share", lambda self, writing: 0 * writing.logits_BV[:, 0])
    album = Found(Photo(id="a", caption="my dog"))
    answers = responder(model)
    answers.photos = PhotoSources(album=album)
    talk = Session(answers, seed=1)
    assert not any(turn.photos for turn in talk.say("How was your day?").turns)
    written = []
    caption = Decoder.write_captions
    monkeypatch.setattr(
        Decoder, "write_captions", lambda self, *a, **k: written.append(1) or caption(self, *a, **k)
    )
    assert talk.say("Please show me a photo of your dog!").turns[0].photos
    assert album.asked == ["Please show me a photo of your dog!"]  # and none of the model's own
    assert not written
    monkeypatch.setattr(Decoder, "p_share", lambda self, writing: 0 * writing.logits_BV[:, 0] + 1)
    assert not any(turn.photos for turn in talk.say("No more photos, please.").turns)
    assert not any(turn.photos for turn in talk.say("How was your day?").turns)
    assert talk.say("ok, send me a picture").turns[0].photos


class Scores:
    """Stands for a finder: its photos have scores for sentences."""

    def __init__(self, **of: dict[str, float]) -> None:
        self.of, self.asked, self.album = of, [], self

    def find(self, text, *, top_k, without=()):
        self.asked.append(text)
        found = self.of.get(text.rstrip(".?!").replace(" ", "_"), {})
        return [
            SimpleNamespace(score=score, photo=SimpleNamespace(id=name))
            for name, score in found.items()
            if name not in without
        ]

    def photo(self, hit, *, folder):
        return Photo(id=hit.photo.id, path=str(folder / f"{hit.photo.id}.png"))


def test_the_best_photo_for_any_sentence_of_a_request_that_names_something(tmp_path):
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    finder = Scores(Do_you_have_a_dog={"a": 3.0}, It_ran_on_the_beach={"b": 5.0, "gone": 6.0})
    album = PhotosInWords(finder, tmp_path)
    words = "Do you have a dog? Send me a photo! It ran on the beach."
    photo, _ = album.find(words, without=())
    assert photo.id == "b" and "Send me a photo!" not in finder.asked  # "gone" cannot be read
    assert album.find(words, without={"b"})[0].id == "a"
    assert album.find("Do you have a dog?", without={"a"})[0].id == "a"  # the only one, once more
    assert album.find("Can you send me a photo?", without=()) is None


def test_a_request_that_the_album_lacks_leaves_it_to_the_models_words(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    album = PhotosInWords(Scores(Dog={"a": 3.0}), tmp_path)
    sources = PhotoSources(album=album)
    share = partial(sources.share, photo_id="p", seed=0, without=(), notes=[])
    assert sources.look_up("Can you send me a photo of him?", without=()) is None
    assert share("Dog").photo.id == "a" and share("Giraffe").photo is None
    assert sources.look_up("Dog", without=()).photo.id == "a"
