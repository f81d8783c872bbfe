"""A session remembers, refuses, and says what went unread."""

import pytest
from PIL import Image

from showtell.agent.fakes import FakeReply, KeywordModel
from showtell.agent.session import Session, checked_text, save_photo, unknown_words
from showtell.dialogue import AGENT, USER, Photo
from showtell.errors import PhotoError, StorageError, UsageError


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
    ["", " \n\t", "x" * 20_001, "a\x00b", "bell\a", "\x1b[31mred", "a\x7fb", "a\x9bb", "\udce9"],
)
def test_text_that_cannot_be_taken_is_refused(text):
    with pytest.raises(UsageError):
        checked_text(text)


@pytest.mark.parametrize("text", ["x" * 20_000, "a\nb\tc", "Zoë 😀 日本語", "no-break\u00a0space"])
def test_other_text_comes_back_unchanged(text):
    assert checked_text(text) == text


def test_words_that_are_unknown_are_named_once():
    session = Session(KeywordModel())
    session.say("Please send a photo of the Eiffel tower, that tower!")
    assert '"eiffel", "tower"' in session.notes[0] and "keyword" in session.notes[0]
    session.say("Nice!")
    assert session.notes == []
    session.say("Hello from Paris")
    assert session.model.card["limits"] not in session.notes[0]  # it has been said
    assert unknown_words("anything at all", []) == []


def test_a_context_that_is_too_long_is_said():
    session = Session(KeywordModel(max_turns=2))
    session.say("Hi!")
    assert session.notes == []
    session.say("Nice!")
    assert "oldest 1 turn went unread" in session.notes[0]


def test_photos_are_saved_beside_each_other_and_only_painted_ones_are_marked(tmp_path):
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    photo = Photo(id="../p 1", caption="a red “square”", origin="painted")
    first, again, second = (save_photo(photo, image, tmp_path) for image in (red, red, blue))
    assert first == again != second and first.parent == second.parent == tmp_path
    with Image.open(first) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)
        assert image.info["Description"] == photo.caption
    assert b"trainedAlgorithmicMedia" in first.read_bytes()
    album = save_photo(Photo(id="mine", origin="album"), red, tmp_path)
    assert b"trainedAlgorithmicMedia" not in album.read_bytes()


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(StorageError):
        save_photo(Photo(id="p"), Image.new("RGB", (4, 4)), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "here"


def test_the_fake_reply_has_the_fields_of_the_real_one():
    real = pytest.importorskip("showtell.models.respond", reason="no model yet").Reply
    assert set(FakeReply.__dataclass_fields__) == set(real.__dataclass_fields__)
