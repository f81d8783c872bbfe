"""Which photo of a talk a request is about, and what is to be otherwise in it."""

import pytest
from PIL import Image

from showtell.agent.changes import changed, changes_in, subject, toned
from showtell.agent.memory import UNSEEN, remembered, request_in
from showtell.agent.when import wish_of
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Photo, Turn

MINE, YOURS = Image.new("RGB", (8, 8), (200, 100, 0)), Image.new("RGB", (8, 8), (0, 100, 200))
ELSE = """
it's me again
again! show me another
can you show me another one?
i saw the same movie at night
we watched the same game in the rain
ok i'm home now, photos are fine again
I made it to the beach at night
can you make me a cake?
i said it was a blue car
i wanted a blue one but they had only red
the first one was better
show me a blue dog at night
make a photo of a dog at night
the second one, definitely
no, i wanted to go to the beach
do it again
nice! it looks darker than I thought
""".strip().splitlines()
SECOND = "a red cat on a table in the park, at sunset"


def photo(id, caption="", *, seed=None):
    return Photo(id=id, caption=caption, origin="user" if seed is None else "painted", seed=seed)


def talk(text):
    """The user's photo, two of the agent's, and a text; the pixels of all."""
    said = [
        (USER, "look at this"),
        (USER, photo("u")),
        (AGENT, "so nice"),
        (USER, "and yours?"),
        (AGENT, photo("p1", "a brown dog at the beach", seed=1)),
        (AGENT, photo("p2", SECOND, seed=2)),
        (USER, text),
    ]
    turns = [Turn(speaker=who, elements=(what,)) for who, what in said]
    return turns, {"u": MINE, "p1": YOURS, "p2": YOURS}


def wish_in(text, look=lambda image: ""):
    turns, images = talk(text)
    return remembered(wish_of(turns), turns, images, look)


def of(wish):
    return wish.caption, wish.seed, wish.start


@pytest.mark.parametrize(
    ("text", "caption", "seed"),
    [
        ("the second one again but at night", "a red cat on a table in the park, at night", 2),
        ("otra vez el segundo pero de noche", "a red cat on a table in the park, at night", 2),
        ("the same dog at night", "a brown dog at the beach, at night", 1),
        ("el mismo perro de noche", "a brown dog at the beach, at night", 1),
        ("could you show me the first one again, but in the snow?", None, 1),
        ("can you make it blue?", "a blue cat on a table in the park, at sunset", 2),
        ("hazla azul", "a blue cat on a table in the park, at sunset", 2),
        ("another of the same dog", "a brown dog", None),
        ("otra foto del mismo perro", "a brown dog", None),
        ("one more of the same puppy in the rain", "a brown dog in the rain", None),
        ("no, I wanted a blue one", "a blue cat on a table in the park, at sunset", None),
        ("no, la quería azul", "a blue cat on a table in the park, at sunset", None),
    ],
)
def test_a_reference_becomes_the_caption_of_what_is_painted(text, caption, seed):
    wish = wish_in(text)
    assert wish.share is True
    assert (wish.seed, wish.start, wish.same) == (seed, None, None)
    assert wish.caption == (caption or "a brown dog at the beach, in the snow")


@pytest.mark.parametrize("text", ["show me the first again", "send the first one again, please"])
def test_again_is_the_photo_itself(text):
    same = wish_in(text).same
    assert (same.photo.id, same.image) == ("p1", YOURS)


@pytest.mark.parametrize(
    ("text", "photo_id", "image"),
    [
        ("make yours darker", "p2", YOURS),
        ("make mine darker", "u", MINE),
        ("make mine darker, not yours", "u", MINE),
        ("no no, not yours! make my photo darker", "u", MINE),
        ("haz la mía más oscura", "u", MINE),
        ("haz la tuya más oscura, no la mía", "p2", YOURS),
    ],
)
def test_U4_mine_and_yours_are_told_apart(text, photo_id, image):
    same = wish_in(text).same
    assert same.photo.id == f"{photo_id}-darker"
    assert same.photo.origin == ("user" if photo_id == "u" else "painted")
    assert same.image.tobytes() == toned(image, changes_in("darker")[0]).tobytes()


def test_an_edit_of_the_users_photo_stays_the_users():
    turns, images = talk("make mine darker")
    first = remembered(wish_of(turns), turns, images, lambda image: "a cat")
    assert first.same.photo.caption == "a cat, darker"
    here = Turn(speaker=AGENT, elements=(first.same.photo,))
    turns = [*turns, here, Turn(speaker=USER, elements=("and make yours brighter",))]
    images |= {first.same.photo.id: first.same.image}
    assert remembered(wish_of(turns), turns, images, str).same.photo.id == "p2-brighter"


def test_what_was_darkened_is_painted_anew_without_that():
    turns, images = talk("make yours darker")
    same = remembered(wish_of(turns), turns, images, str).same
    assert same.photo.caption == f"{SECOND}, darker"
    turns += [Turn(speaker=AGENT, elements=(same.photo,))]
    turns += [Turn(speaker=USER, elements=("no, I wanted one at night",))]
    wish = remembered(wish_of(turns), turns, images, str)
    assert wish.caption == "a red cat on a table in the park, at night"


def test_a_photo_of_the_users_is_painted_over_as_it_is_seen():
    wish = wish_in("make mine snowy", look=lambda image: "a dog in the park, clear sky")
    assert of(wish) == ("a dog in the park, in the snow", None, MINE)
    assert wish_in("make mine snowy").instead == UNSEEN


@pytest.mark.parametrize(
    "text", ["the fourth one again", "another of the same giraffe", "make the second one blue"]
)
def test_what_is_not_clear_is_asked(text):
    wish = wish_in(text)  # the second of all is not the second of the agent's
    assert "Which photo do you mean?" in wish.instead
    assert SECOND in wish.instead
    assert not wish.caption


@pytest.mark.parametrize("text", ELSE)
def test_what_is_about_no_photo_leaves_the_wish_alone(text):
    turns, images = talk(text)
    assert remembered(wish_of(turns), turns, images, str) == wish_of(turns)


def test_nothing_is_remembered_where_nothing_was_shown_or_photos_are_refused():
    alone = [Turn(speaker=USER, elements=("the second one again but at night",))]
    assert remembered(wish_of(alone), alone, {}, str) == wish_of(alone)
    turns, images = talk("no more photos please")
    turns += [
        Turn(speaker=AGENT, elements=("ok",)),
        Turn(speaker=USER, elements=("turn it blue",)),
    ]
    assert remembered(wish_of(turns), turns, images, str).share is False


def test_the_talks_of_the_world_are_about_no_photo_that_was_shown():
    """So a model that was trained on them answers as it did."""
    texts = [t.text for d in open_data("world:200000-200299") for t in d.turns if t.speaker == USER]
    assert len(texts) > 1_000
    assert [text for text in texts if request_in(text)] == []


@pytest.mark.parametrize(
    ("caption", "text", "after"),
    [
        ("Mia, at dusk, in the rain", "de noche", "Mia, at night, in the rain"),
        ("a cat", "an orange one", "an orange cat"),
        ("an orange cat", "make it blue", "a blue cat"),
        ("Mia at the beach", "a blue one", "Mia at the beach"),
        ("a dog on a table", "in a spaceship", "a dog on a table in a spaceship"),
        ("two dogs in a kitchen", "in the park, yellow", "two yellow dogs in the park"),
    ],
)
def test_a_change_takes_the_place_of_its_like(caption, text, after):
    assert changed(caption, changes_in(text)) == after


def test_a_subject_has_no_place():
    assert subject("two red dogs under a bridge, at night") == "two red dogs"
    assert subject("at the beach") == "at the beach"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no more pics please", True),
        ("please stop sending photos", True),
        ("no more photos please. how was your day?", False),
        ("how was your day?", False),
    ],
)
def test_a_refusal_alone_is_answered_by_what_is_done(text, said):
    """A small model's own words deny it: "That is not possible." """
    turns, images = talk(text)
    wish = remembered(wish_of(turns), turns, images, lambda image: "")
    assert wish.instead == ("All right, no photos until you ask for one." if said else "")
    later = [*turns, Turn(speaker=AGENT, elements=("ok",)), Turn(speaker=USER, elements=("hm",))]
    assert not remembered(wish_of(later), later, images, lambda image: "").instead
    world = {"words": "world"}  # mini has learnt what to say
    assert not remembered(wish_of(turns), turns, images, lambda image: "", card=world).instead
