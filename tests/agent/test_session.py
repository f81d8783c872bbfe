"""A session remembers, refuses, says what went unread, and can be kept."""

import io
import json
import threading
import time

import pytest
from PIL import Image

from keyword_model import KeywordModel
from showtell.agent.chat import save_shared
from showtell.agent.known_words import unknown_words
from showtell.agent.session import Session, checked_text
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Photo
from showtell.errors import DataError, PhotoError, ShowtellError, StorageError, UsageError


def test_a_session_remembers_turns_images_and_p_share():
    session = Session(KeywordModel())
    session.say("Hi!")
    session.say("Send me a photo please")
    assert [turn.speaker for turn in session.turns] == [USER, AGENT, USER, AGENT, AGENT]
    assert len(session.p_share) == len(session.turns)
    assert [p is None for p in session.p_share] == [True, False, True, False, False]
    assert set(session.images) == {photo.id for turn in session.turns for photo in turn.photos}


def test_the_same_seed_asks_the_model_with_the_same_seeds_and_another_with_others():
    def seeds(seed):
        session = Session(KeywordModel(), seed=seed)
        for line in ("Hi!", "Hi!", "Hi!"):
            session.say(line)
        return [request["seed"] for request in session.model.requests]

    assert seeds(1) == seeds(1)
    assert len({*seeds(1), *seeds(2)}) == 6


def test_what_fails_leaves_the_session_as_it_was(tmp_path):
    session = Session(KeywordModel())
    session.say("Hi!")
    before = (session.turns, dict(session.images), list(session.p_share))
    with pytest.raises(PhotoError):
        session.say("Look", [tmp_path / "missing.png"])
    with pytest.raises(UsageError):
        session.say("")
    assert (session.turns, session.images, session.p_share) == before


@pytest.mark.parametrize(
    "text",
    ["", " \n\t", "x" * 20_001, "a\x00b", "bell\a", "\x1b[31mred", "a\x7fb", "a\x9bb", "\udce9"]
    + [None, b"hi"],
)
def test_text_that_cannot_be_taken_is_refused(text):
    with pytest.raises(UsageError):
        checked_text(text)


@pytest.mark.parametrize("text", ["x" * 20_000, "a\nb\tc", "Zoë 😀 日本語", "no-break\u00a0space"])
def test_other_text_comes_back_unchanged(text):
    assert checked_text(text) == text


def test_a_photo_is_a_path_bytes_or_an_image_and_is_kept_as_it_was_brought(tmp_path):
    clear = Image.new("RGBA", (90, 70), (255, 0, 0, 0))
    clear.save(tmp_path / "a.png")
    data = io.BytesIO()
    Image.new("L", (300, 20), 7).save(data, format="PNG")
    session = Session(KeywordModel())
    session.say("Look", [tmp_path / "a.png", str(tmp_path / "a.png"), data.getvalue(), clear])
    shown = [photo for turn in session.turns for photo in turn.photos]
    assert [photo.path for photo in shown] == [*[str(tmp_path / "a.png")] * 2, None, None]
    images = [session.images[photo.id] for photo in shown]
    assert [image.size for image in images] == [(90, 70), (90, 70), (300, 20), (90, 70)]
    assert [image.mode for image in images] == ["RGB"] * 4
    assert images[0].getpixel((0, 0)) == images[3].getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("photos", "says"),
    [
        ([None], "photo 1 is of type NoneType"),
        ([[[1, 2], [3, 4]]], "of type list"),
        ([b"hello"], "photo 1 is not a photo"),
        ([b""], "photo 1"),
        ([Image.new("RGB", (0, 5))], "no pixels"),
        ([Image.new("F", (5, 5))], "floating-point"),
        ("dog.png", "a list of photos"),
        (Image.new("RGB", (5, 5)), "a list of photos"),
    ],
)
def test_any_other_photo_is_a_clear_error(photos, says):
    model = KeywordModel()
    with pytest.raises((UsageError, PhotoError), match=says):
        Session(model).say("Look", photos)
    assert not model.requests


def test_what_several_threads_say_is_queued_and_nothing_is_lost():
    class Slow(KeywordModel):
        def respond(self, turns, **arguments):
            time.sleep(0.02)
            return super().respond(turns, **arguments)

    session = Session(Slow())
    image = Image.new("RGB", (8, 8))
    lines = [f"line {k}" for k in range(6)]
    threads = [threading.Thread(target=session.say, args=(line, [image])) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [turn.text for turn in session.turns if turn.speaker == USER and turn.text]
    assert sorted(said) == lines and len(session.turns) == 18 == len(session.p_share)
    assert len(session.images) == 6
    assert [len(request["turns"]) for request in session.model.requests] == [2, 5, 8, 11, 14, 17]
    assert len({request["seed"] for request in session.model.requests}) == 6


def test_an_album_belongs_to_a_session_and_the_model_sees_photos_at_its_own_side(
    tiny_end_to_end, monkeypatch
):
    monkeypatch.setattr("showtell.agent.album_words.open_photos", lambda folder, told: folder)
    sessions = [Session(tiny_end_to_end, album=album) for album in ("a", "b", None)]
    assert [session.model.photos.album for session in sessions] == ["a", "b", None]
    with pytest.raises(UsageError, match="Responder"):
        Session(sessions[0].model, album="c")
    image = Image.effect_noise((90, 70), 80)
    cut = image.crop((10, 0, 80, 70)).resize((64, 64), Image.Resampling.LANCZOS, reducing_gap=None)
    replies = [
        Session(tiny_end_to_end).say("Look", [photo]).p_share for photo in (image, cut.convert("L"))
    ]
    assert replies[0] == pytest.approx(replies[1], abs=1e-3)  # the middle square of the photo


def test_words_that_are_unknown_are_named_once():
    session = Session(KeywordModel())
    session.say("Please send a photo of the Eiffel tower, that tower!")
    assert '"eiffel", "tower"' in session.notes[0] and "keyword" in session.notes[0]
    session.say("Nice!")
    assert session.notes == []
    session.say("Hello from Paris")
    assert session.model.card["limits"] not in session.notes[0]  # it has been said
    assert unknown_words("anything at all", []) == []


def test_a_model_that_cannot_see_says_so():
    session = Session(KeywordModel(sees=False))
    session.say("Look at this", [Image.new("RGB", (8, 8))])
    assert session.notes == ["keyword cannot see photos; tell it what is on yours"]


def test_a_context_that_is_too_long_is_said():
    session = Session(KeywordModel(max_turns=2))
    session.say("Hi!")
    assert session.notes == []
    session.say("Nice!")
    assert "oldest 1 turn went unread" in session.notes[0]


# ------------------------------------------------------------------------------------- on disk


def held(tmp_path, folder="kept"):
    """A conversation with a photo by each, kept."""
    session = Session(KeywordModel(), seed=5)
    session.say('Look\nat "this" é', [Image.new("RGB", (90, 70), "blue")])
    session.say("Send me a photo please")
    return session, session.save(tmp_path / folder)


def test_a_session_that_was_kept_goes_on_as_if_nothing_had_been(tmp_path):
    session, folder = held(tmp_path)
    opened = Session.open(KeywordModel(), folder)
    assert opened.p_share == session.p_share and opened.notes == []
    for one in (session, opened):
        one.say("And another photo please")
    mine, theirs = session.model.requests[-1], opened.model.requests[-1]
    assert mine["seed"] == theirs["seed"]
    assert [turn.text for turn in mine["turns"]] == [turn.text for turn in theirs["turns"]]
    assert {id: image.tobytes() for id, image in mine["images"].items()} == {
        id: image.tobytes() for id, image in theirs["images"].items()
    }
    assert [p.caption for t in opened.turns for p in t.photos] == [
        p.caption for t in session.turns for p in t.photos
    ]


def test_keeping_again_replaces_and_leaves_nothing_behind(tmp_path):
    session, folder = held(tmp_path)
    session.say("Send me a photo please")
    assert session.save(folder) == folder
    assert len(Session.open(KeywordModel(), folder).turns) == len(session.turns)
    (folder / "photos" / "mine.png").write_bytes(b"not of the conversation")
    Session(KeywordModel()).save(folder)
    assert Session.open(KeywordModel(), folder).turns == ()
    assert {path.name for path in folder.rglob("*")} == {"dialogues.jsonl", "photos", "mine.png"}


def test_what_is_kept_is_data_and_another_model_is_named(tmp_path):
    session, folder = held(tmp_path)
    (dialogue,) = open_data(f"showtell:{folder}")
    assert [turn.text for turn in dialogue.turns] == [turn.text for turn in session.turns]
    assert (
        "until here keyword answered, now other"
        in Session.open(KeywordModel(name="other"), folder).notes[0]
    )


def changed(folder, change):
    path = folder / "dialogues.jsonl"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record) + "\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "dialogues.jsonl").write_text("{}\n"), "dialogues.jsonl"),
        (lambda f: changed(f, lambda r: r["labels"].clear()), "no conversation"),
        (lambda f: changed(f, lambda r: r["labels"]["session"].update(seed=-1)), "no conversation"),
        (lambda f: changed(f, lambda r: r["labels"]["session"].update(seed="x")), "no conversat"),
        (lambda f: changed(f, lambda r: r["labels"]["session"].update(hits={"a": 1})), "no conv"),
        (lambda f: changed(f, lambda r: r["turns"][2]["labels"].update(p_share=7)), "no conversat"),
        (lambda f: next(f.glob("photos/*")).unlink(), "lacks 1 of its 2 photos"),
        (lambda f: next(f.glob("photos/*")).write_bytes(b"hello"), "not a photo"),
    ],
)
def test_a_folder_that_was_spoilt_is_a_clear_error(tmp_path, spoil, says):
    _, folder = held(tmp_path)
    spoil(folder)
    with pytest.raises(DataError, match=says):
        Session.open(KeywordModel(), folder)


def test_other_folders_are_neither_opened_nor_overwritten(tmp_path):
    (tmp_path / "file").write_text("here")
    session = Session(KeywordModel())
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(DataError):
            Session.open(KeywordModel(), folder)
    for folder in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ShowtellError):
            session.save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "here"


def test_a_session_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    session, folder = held(tmp_path)
    num_turns = len(session.turns)
    session.say("Hi!")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError):
        session.save(folder)
    assert len(Session.open(KeywordModel(), folder).turns) == num_turns


def test_photos_are_saved_beside_each_other_and_only_painted_ones_are_marked(tmp_path):
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    photo = Photo(id="../p 1", caption="a red “square”", origin="painted")
    first, again, second = (save_shared(photo, image, tmp_path) for image in (red, red, blue))
    assert first == again != second and first.parent == second.parent == tmp_path
    with Image.open(first) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
        assert image.info["Description"] == photo.caption
    assert b"trainedAlgorithmicMedia" in first.read_bytes()
    album = save_shared(Photo(id="mine", origin="album"), red, tmp_path)
    assert b"trainedAlgorithmicMedia" not in album.read_bytes()
    (tmp_path / "file").write_text("here")
    with pytest.raises(StorageError):
        save_shared(Photo(id="p"), red, tmp_path / "file")
