"""Photos for the words of a model that has no painter and asks no album in vectors of its own."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from conftest import words_alone
from keyword_model import words_to
from showtell.agent.looks import Looks
from showtell.agent.prompts import prompts
from showtell.agent.session import Session, responder
from showtell.agent.when import When
from showtell.agent.which import PhotosInWords, Together, Which, sentences
from showtell.album.index import AlbumPhoto, Hit
from showtell.dialogue import Photo
from showtell.errors import EngineError, UsageError
from showtell.models.decoder import Decoder
from showtell.models.reply import Dial, PhotoDue, PhotoHere, Wish
from showtell.models.respond import Responder


class Scores:
    """Stands for a finder: its photos have scores for sentences, or one for all."""

    cut_off = 1.0

    def __init__(self, *every: str, **of: dict[str, float]) -> None:
        self.every, self.of, self.asked, self.album = dict.fromkeys(every, 9.0), of, [], self
        ids = [*every, *(id for found in of.values() for id in found)]
        self.photos = [AlbumPhoto(id=id, path=f"{id}.png", caption=f"my {id}") for id in ids]

    def find(self, text, *, top_k, cut_off):
        self.asked.append(text)
        found = self.every or self.of.get(text.rstrip(".?!").replace(" ", "_"), {})
        best = sorted(self.photos, key=lambda photo: -found.get(photo.id, -1.0))
        hits = [Hit(photo=photo, score=found.get(photo.id, -1.0)) for photo in best]
        return [hit for hit in hits if hit.score >= cut_off][:top_k]

    def of_id(self, id):
        return next((photo for photo in self.photos if photo.id == id), None)

    def photo(self, hit, *, folder):
        photo = hit.photo
        path = str(folder / photo.path)
        return Photo(id=photo.id, path=path, caption=photo.caption, origin="album")


class Paints:
    name = "paints"

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
    written = Decoder.caption

    def in_words(self):  # whatever an untrained model says
        yield from written(self)
        return "my dog"

    monkeypatch.setattr(Decoder, "caption", in_words)
    return model


def session(model, **sources) -> Session:
    return Session(Responder(Decoder(model), photos=Which(**sources)), seed=1)


@pytest.fixture
def album(tmp_path):
    """An album of photos that fit every sentence, or, by keyword, some with a score."""

    def made(*every, damaged=(), **of):
        finder = Scores(*every, **of)
        for photo in finder.photos:
            Image.new("RGB", (8, 8), "red").save(tmp_path / photo.path)
        for name in damaged:
            (tmp_path / f"{name}.png").write_text("damaged")
        return PhotosInWords(finder, tmp_path)

    return made


def test_who_asks_is_shown_photos_of_their_own_albums(model, album):
    mine, shared = album("a"), album("b")
    photos = Which(album=shared)
    photos.albums = {"me": Together([mine, shared]), "you": Together([shared]), "no": None}.get
    for who, want in (("me", {"a", "b"}), ("you", {"b"})):
        talk = Session(responder(model))
        talk.model.photos = photos
        talk.dial = Dial(album=who)
        talk.say("show me your dog")
        talk.say("and another photo, please")
        assert set(talk.images) == want, who
    talk = Session(responder(model))
    talk.model.photos, talk.dial = photos, Dial(album="no")
    talk.say("show me your dog")
    assert not talk.images


def test_the_albums_photo_comes_first_and_none_comes_twice_unless_asked_again(model, album):
    painter, own = Paints(), album("a", "b")
    talk = Session(responder(model, painter=painter))
    talk.model.photos.album = own
    asked = ("show me your dog", "and another photo, please", "show me a dog once more")
    photos = [talk.say(text).turns[0].photos[0] for text in asked]
    assert [photo.id for photo in photos] == ["a", "b", "a"] and painter.asked == []
    assert all(photo.id in talk.images for photo in photos)
    assert talk.hits == {"a": (("a", 9.0), ("b", 9.0)), "b": (("a", 9.0), ("b", 9.0))}
    painted = talk.say("show me your dog").turns[0].photos[0]
    assert painted.origin == "painted"
    assert talk.say("send me that photo again").turns[0].photos[0].id == painted.id
    talk.model.photos.painter = None
    reply = talk.say("show me your dog")
    assert [turn.text for turn in reply.turns] == [prompts()["itself"]["no_other"]]


def test_what_was_considered_is_told_with_the_photo_and_kept(model, album, tmp_path):
    sources = Which(album=album(show_me_your_dog={"a": 3.0, "b": 0.5}, a_cat={"c": 0.2}))
    talk = Session(Responder(Decoder(model), photos=sources, when=When(threshold=0.5)))
    heard = []
    talk.say("show me your dog", tell=heard.append)
    (here,) = [event for event in heard if isinstance(event, PhotoHere)]
    assert here.hits[:2] == (("a", 3.0), ("b", 0.5)) and here.photo.id == "a"
    reply = talk.say("do you have a photo of a cat?", tell=heard.append)
    due = [event for event in heard if isinstance(event, PhotoDue)][-1]
    assert list(reply.hits) == [due.id] and not reply.images  # below the cut-off, and said why
    assert talk.hits["a"] == here.hits and due.id in talk.hits
    talk.save(tmp_path / "kept")
    assert Session.open(talk.model, tmp_path / "kept").hits == talk.hits


def test_what_the_album_lacks_is_painted_from_the_models_words(model, album):
    painter = Paints()
    talk = session(model, album=album(my_dog={}), painter=painter)
    reply = talk.say("how was your day?")
    photo = next(photo for turn in reply.turns for photo in turn.photos)
    assert photo.origin == "painted" and talk.images[photo.id].size == (4, 4)
    assert painter.asked == [("my dog", photo.seed)] and photo.caption == "my dog"


@pytest.mark.parametrize("has", [False, True])
def test_to_whom_asked_for_a_photo_that_is_not_there_it_says_so(model, album, has):
    said: list[str] = []
    sources = Which(album=album(cat={"a": 3.0}) if has else None)
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


def test_a_row_without_a_photo_leaves_the_others_as_they_were(model, album):
    own = album("a")

    class Some(Which):
        def share(self, description, *, seed, **more):
            here = Which(album=own if seed == 1 else None)
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


def test_an_album_is_asked_without_the_words_that_open_every_description(album):
    own = album("a")
    Which(album=own).share(
        "Objects in the photo: Dog, Ball", wish=Wish(), photo_id="p", seed=0, shown=(), notes=[]
    )
    assert own.finder.asked == ["Dog, Ball"]


def test_what_the_user_says_of_photos_counts_before_the_models_chance(monkeypatch, album):
    model = words_alone(["hello there my dog ran on the beach", "a cake"])  # it never shares
    monkeypatch.setattr(Decoder, "p_share", lambda self, writing: 0 * writing.logits_BV[:, 0])
    own = album("a", "b")
    answers = responder(model)
    answers.photos = Which(album=own)
    talk = Session(answers, seed=1)
    assert not any(turn.photos for turn in talk.say("How was your day?").turns)
    written = []
    caption = Decoder.caption
    monkeypatch.setattr(Decoder, "caption", lambda self: written.append(1) or caption(self))
    assert talk.say("Please show me a photo of your dog!").turns[0].photos
    assert own.finder.asked == ["Please show me a photo of your dog!"]  # none of the model's own
    assert not written
    monkeypatch.setattr(Decoder, "p_share", lambda self, writing: 0 * writing.logits_BV[:, 0] + 1)
    assert not any(turn.photos for turn in talk.say("No more photos, please.").turns)
    assert not any(turn.photos for turn in talk.say("How was your day?").turns)
    assert talk.say("ok, send me a picture of the dog").turns[0].photos


def test_the_best_photo_for_the_sentences_that_ask_and_name_something(album):
    scores = {"Do_you_have_a_photo_of_a_dog": {"a": 3.0}, "It_ran_on_the_beach": {"b": 6.0}}
    words = "Hi! It ran on the beach. Do you have a photo of a dog?"
    assert sentences(words) == ["Do you have a photo of a dog?"]
    assert sentences("It ran on the beach. Can you send me a photo of it, please?") == [
        "It ran on the beach."
    ]
    said = "show me a dog, my uncle won't believe me"
    assert sentences(said) == ["show me a dog"]
    for nothing in ("Can you send me a photo?", "ok, show me another one of him", "Hi there!"):
        assert sentences(nothing) == []
    own = album(**scores)
    assert [(hit.photo.id, hit.score) for hit in own.hits(words, top_k=1)] == [("a", 3.0)]


def test_a_photo_that_cannot_be_read_gives_way_to_the_next(album):
    sources = Which(album=album(Dog={"gone": 6.0, "a": 5.0, "b": 4.0}, damaged=["gone"]))
    assert sources.look_up("Dog", wish=Wish(), shown=()).photo.id == "a"
    assert sources.look_up("Dog", wish=Wish(), shown=("a",)).photo.id == "b"


def test_a_request_that_names_something_is_all_that_the_album_is_asked(model, album):
    own = album(my_dog={"a": 9.0}, show_me_a_giraffe={"a": 0.0})
    talk = Session(Responder(Decoder(model), photos=Which(album=own), when=When(threshold=0.5)))
    assert not talk.say("show me a giraffe").images  # and not the dog that the model thinks of
    assert own.finder.asked == ["show me a giraffe"]
    assert talk.say("can you send me a photo?").turns[0].photos[0].id == "a"
    assert own.finder.asked[1:] == ["my dog"]


def test_that_one_again_is_the_photo_that_was_shown_last(model, album):
    talk = Session(Responder(Decoder(model), photos=Which(album=album("a", "b"))))
    talk.model.when = When(threshold=0.5)
    for text, id in (("a photo of a dog, please", "a"), ("a photo of a cat, please", "b")):
        assert talk.say(text).turns[0].photos[0].id == id
    for text in ("show me that one again", "can I see it once more?", "send me it again, please"):
        assert talk.say(text).turns[0].photos[0].id == "b"


def test_a_model_that_paints_looks_in_an_album_of_words_first(tiny_end_to_end, album, monkeypatch):
    monkeypatch.setattr(Decoder, "p_share", lambda self, writing: 0 * writing.logits_BV[:, 0])
    seen, push = [], Decoder.push_photos

    def pushed(self, writing, images, rows_B):
        seen.extend(images)
        push(self, writing, images, rows_B)

    monkeypatch.setattr(Decoder, "push_photos", pushed)
    own = album(show_me_a_dog={"a": 9.0}, show_me_a_giraffe={"a": 0.1})
    talk = Session(responder(tiny_end_to_end))
    talk.model.photos.album = own
    found = talk.say("show me a dog").turns[0].photos[0]
    assert (found.id, found.origin) == ("a", "album") and seen[-1] is talk.images["a"]
    painted = talk.say("show me a giraffe").turns[0].photos[0]
    assert painted.origin == "painted" and talk.hits[painted.id] == (("a", 0.1),)


def test_an_offer_is_said_after_the_words_and_a_yes_brings_the_photo(model, album):
    sources = Which(album=album("a"))
    when = When(threshold=0.0)
    talk = Session(Responder(Decoder(model), photos=sources, when=when), seed=1)
    talk.dial = Dial(kind="offer")
    said: list[str] = []
    reply = talk.say("how was your day?", tell=words_to(said))
    assert not reply.images and reply.turns[-1].text == prompts()["itself"]["offer"]
    assert "".join(said).strip().endswith(reply.turns[-1].text)
    assert len(reply.turns) == len(reply.decisions)
    assert talk.say("yes please").images


def test_where_nothing_paints_no_word_is_written_of_what_the_album_lacks(model, album, monkeypatch):
    sources = Which(album=album(a_dog={"a": 3.0}))
    talk = Session(Responder(Decoder(model), photos=sources, when=When(threshold=2.0)), seed=1)
    monkeypatch.setattr(Decoder, "announcement", None)  # it would write one
    reply = talk.say("show me a giraffe please")
    assert [turn.text for turn in reply.turns] == [prompts()["itself"]["no_photo"]]
    assert 'a photo was due ("show me a giraffe please")' in talk.notes[0]


def test_u2_who_wants_the_photo_alone_gets_no_word(model, album, monkeypatch):
    sources = Which(album=album("a"))
    model.decoding = replace(model.decoding, max_turns=5)
    talk = Session(Responder(Decoder(model), photos=sources, when=When(threshold=2.0)), seed=1)
    said: list[str] = []
    reply = talk.say("Only the picture of your dog, no words", tell=words_to(said))
    assert [bool(turn.photos) for turn in reply.turns] == [True] and not said


@pytest.mark.parametrize("edits", [True, False])
def test_a_photo_to_start_from_reaches_the_painter_and_one_that_does_not_edit_says_so(edits):
    class Edits(Paints):
        def paint(self, words, *, seed, on_step=None, start=None, strength=1.0):
            self.begun = start, strength
            return super().paint(words, seed=seed)

    painter, notes, photo = Edits(), [], Image.new("RGB", (4, 4), "red")
    painter.edits = edits
    wish = Wish(share=True, start=photo, strength=0.4)
    how = {"photo_id": "p", "seed": 1, "shown": (), "notes": notes}
    shared = Which(painter=painter).share("a dog at night", wish=wish, **how)
    assert shared.photo.origin == "painted" and painter.begun == (photo, 0.4)
    assert notes == ([] if edits else ["paints cannot start from a photo, so it was painted anew"])
