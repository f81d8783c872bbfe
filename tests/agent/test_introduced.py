"""Who a talk has introduced, and that photos of them show it."""

import identity
import pytest
from test_zero_shot import Paints, Scripted

from showtell import Session, load_model
from showtell.agent.changes import changes_in
from showtell.agent.introduced import known_in, meant_by, told_of
from showtell.agent.memory import remembered
from showtell.agent.session import responder
from showtell.agent.when import wish_of
from showtell.agent.which import Which
from showtell.agent.zero_shot import ZeroShot
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Photo, Turn


def talk(*said):
    """The user and the agent in turn; a photo by its caption in brackets."""
    turns = []
    for number, text in enumerate(said):
        what = Photo(id=str(number), caption=text[1:-1]) if text.startswith("[") else text
        turns.append(Turn(speaker=AGENT if number % 2 else USER, elements=(what,)))
    return turns


def amended(turns, caption):
    wish = remembered(wish_of(turns), turns, {}, str)
    return wish.amend(caption) if wish.amend else caption


SAID = """
my dog Rex is blue | so cute | show me Rex | a dog at the beach | a blue dog at the beach
mi perro Rex es azul | qué lindo | manda una foto de Rex | a red dog | a blue dog
my dog Rex is blue | so cute | show me my dog | a red puppy | a blue puppy
my dog Rex is blue | so cute | send me a photo of him | a red dog | a blue dog
Rex is my dog. my dog is blue! | aww | show me Rex at night | a dog by day | a blue dog at night
i have a green teddy bear | aww | show me my teddy bear | a pink teddy bear | a green teddy bear
my robot is in the park | ok | show me my robot | a robot at the beach | a robot in the park
my robot is in the park | ok | show me my robot in the desert | a robot | a robot in the desert
my robot is green | ok | show me my robot | two dogs at night | a green robot at night
my robot is green | oh | no, my robot is pink. show me my robot | a robot | a pink robot
my robot is green | oh | show me a photo of a robot | a red robot | a red robot
hi | my cat is black | show me your cat | a cat | a black cat
hi | my cat is black | show me my cat | a cat | a cat
my favorite color is blue | ok | show me a dog | a dog | a dog
my boss is angry | ok | show me my boss | a man | a man
""".strip().splitlines()


@pytest.mark.parametrize("said", SAID)
def test_a_photo_of_somebody_who_was_introduced_shows_their_looks(said):
    *texts, caption, after = said.split(" | ")
    assert amended(talk(*texts), caption) == after


def test_U1_the_agents_own_dog_stays_the_one_that_it_showed():
    turns = talk("show me your dog", "[a black dog at the beach]", "show me your dog in the snow")
    assert amended(turns, "a white dog in the snow") == "a black dog in the snow"
    turns = talk("show me a dog", "[a black dog at the beach]", "show me a dog in the snow")
    assert amended(turns, "a white dog in the snow") == "a white dog in the snow"


def test_a_name_that_an_album_has_not_heard_of_becomes_what_it_is():
    turns = talk("my dog Rex is blue", "aww", "show me a photo of Rex please")
    assert (
        remembered(wish_of(turns), turns, {}, str).words == "show me a photo of a blue dog please"
    )


def test_who_is_known_is_told_in_one_line():
    known = known_in(talk("my dog Rex is blue", "my cat is at the beach"))
    assert told_of(known) == (
        "You know from this chat: the friend's dog Rex (blue); your cat (at the beach). "
    )
    assert told_of([]) == ""


def test_the_requests_of_the_world_mention_nobody_who_was_introduced():
    """So a model that was trained on them answers as it did."""
    for dialogue in open_data("world:200000-200149"):
        for stop in range(1, len(dialogue.turns)):
            turns = dialogue.turns[:stop]
            who = meant_by(turns, known_in(turns)) if turns[-1].speaker == USER else None
            assert who is None or not who.looks


def test_an_llm_is_told_and_what_it_says_of_a_photo_is_put_right():
    language = Scripted(0.1, "Cute!", "a brown dog on a beach", "There!")
    paints = Paints()
    session = Session(ZeroShot(language, photos=Which(painter=paints)))
    session.say("my dog Rex is blue")
    session.say("Send me a photo of Rex please")
    assert paints.asked == ["a blue dog on a beach"]
    assert "the friend's dog Rex (blue)" in language.heard[-1][0]["content"]


def test_a_model_says_the_caption_that_was_put_right_as_its_own():
    session = Session(responder(load_model("mini")), seed=1)
    session.say("hi! my robot is green")
    reply = session.say("oh i love cake. show me a photo of my robot at night")
    (photo,) = [photo for turn in reply.turns for photo in turn.photos]
    assert "green robot" in photo.caption and "at night" in photo.caption
    assert photo.id in reply.images and len(reply.turns) == len(reply.decisions)


def test_the_experiment_writes_its_page(tmp_path, monkeypatch):
    whole = identity.talk_of(200_000)
    assert len(whole.asks) == identity.PHOTOS and sum(whole.place in s for s in whole.said) == 1
    assert [bool(changes_in(text)) for text in whole.said[:4]] == [True, False, True, False]

    def short(seed):
        said = [*whole.said[:4:2], whole.said[whole.asks[1]]]
        scene, place = whole.scene, whole.place
        return identity.Talk(seed=seed, scene=scene, said=said, asks=[2], place=place)

    monkeypatch.setattr(identity, "talk_of", short)
    identity.main(["--dialogues", "1", "--first", "200000", "--out", str(tmp_path)])
    assert "| identity |" in (tmp_path / "identity.md").read_text()
