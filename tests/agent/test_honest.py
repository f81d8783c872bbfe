"""What a model cannot show or see, it says."""

import pytest
import torch
from PIL import Image

from showtell import Session, load_model
from showtell.agent.beside import photo_of
from showtell.agent.honest import CANNOT_SEE, asked_for, cannot_show, in_words_of
from showtell.agent.session import responder
from showtell.agent.when import wish_of
from showtell.batch import to_pixels
from showtell.data.sources import open_data
from showtell.data.world import load_oracle
from showtell.dialogue import USER, Photo, Turn
from showtell.errors import UsageError
from showtell.models.reply import Shared

CARD = {"words": "world"}
OUTSIDE = """
send me a photo of a giraffe
can you show me a giraffe?
please draw me a spaceship
manda una foto de una jirafa
send a photo of my wedding
I'd love to see the eiffel tower at night
send me two photos of a zebra please
do you have a picture of a unicorn?
""".strip().splitlines()
INSIDE = """
send me a photo of a dog
sned me a pciture of a dgo
manda una foto de un perro azul
show me your grandmother's house
show me your new cars at the beach
can i see you?
show me a picture
send me a pic of it please
show me something at night
what does your kitchen look like? send me a pic
send me a photo of Mia
""".strip().splitlines()


@pytest.fixture(scope="module")
def mini():
    return responder(load_model("mini"))


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_is_not_of_its_world_it_says_that_it_cannot_show(text):
    said = cannot_show(asked_for(text), CARD)
    assert said.startswith("I know no ") and "drawings of a small world" in said


@pytest.mark.parametrize("text", INSIDE)
def test_what_is_or_says_nothing_is_left_to_the_model(text):
    assert cannot_show(asked_for(text), CARD) == ""


def test_words_alone_are_judged_alike_and_other_models_not_at_all():
    assert "giraffe" in cannot_show("a giraffe in space", CARD)
    assert cannot_show("a blue dog at night", CARD) == ""
    assert cannot_show("a giraffe in space", {"words": ["a", "dog"]}) == ""


def test_no_request_of_its_own_world_is_refused():
    """So mini answers them as it did."""
    texts = [t.text for d in open_data("world:200000-200999") for t in d.turns if t.speaker == USER]
    asks = [text for text in texts if wish_of([turn(text)]).share]
    assert len(asks) > 100
    assert [text for text in asks if cannot_show(asked_for(text), CARD)] == []


def turn(text):
    return Turn(speaker=USER, elements=(text,))


def test_a_giraffe_is_not_painted_as_mia(mini):
    session = Session(mini, seed=0)
    reply = session.say("hi! send me a photo of a giraffe please")
    assert not reply.images and reply.turns[0].text.startswith("I know no giraffe")
    assert len(reply.turns) == len(reply.decisions) == 1
    assert session.say("ok, send me a photo of a cake please").images


def test_an_album_that_has_a_giraffe_shows_it(mini):
    class Zoo:
        paints = False

        def look_up(self, words, *, wish, shown):
            photo = Photo(id="g", caption="a giraffe", origin="album")
            return (
                Shared(photo=photo, image=Image.new("RGB", (64, 64)))
                if "giraffe" in words
                else None
            )

    agent = responder(mini.model)
    agent.photos = Zoo()
    reply = Session(agent, seed=0).say("hi! send me a photo of a giraffe please")
    assert list(reply.images) == ["g"]


def test_a_real_photo_is_not_seen_and_that_is_said(mini):
    session = Session(mini, seed=0)
    reply = session.say("look at this", [Image.new("RGB", (640, 480), "gray")])
    assert [each.text for each in reply.turns] == [CANNOT_SEE]
    reply = session.say("make it snowy")  # nor painted over by guess
    assert not reply.images and reply.turns[0].text.startswith("I cannot see that photo")
    ((image),) = session.say("make mine darker").images.values()
    assert image.size == (640, 480) and image.getpixel((0, 0)) == (76, 76, 76)


def test_a_request_in_spanish_is_painted_by_a_model_that_knows_english(mini):
    text = "hola! manda una foto de un gato azul en la playa, de noche"
    assert in_words_of(asked_for(text), text, CARD) == "a blue cat at the beach, at night"
    (image,) = Session(mini, seed=0).say(text).images.values()
    found = load_oracle("oracle").read(torch.stack([to_pixels(image)]))[0]
    assert [found[name] for name in ("subject", "place", "time")] == ["cat", "beach", "night"]


def test_nor_where_a_photo_of_words_is_asked_for(mini):
    with pytest.raises(UsageError, match="I know no giraffe and no violin, so"):
        photo_of(mini, "a giraffe and a violin", seed=0)
    assert photo_of(mini, "a red dog", seed=0).image is not None
