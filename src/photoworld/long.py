"""Long dialogues of the photo world: 20 to 80 turns in two to four sessions, in which a fact is
told at a distance and asked for later, in words or for a photo.

    user    my robot is green                        a fact
    ...     small talk; bye, and another day hello   what lies between
    user    what color is my robot?                  agent  it's green. i laughed so hard
    user    send me a pic of my robot                agent  the photo of a green robot

A fact is the colour or the place of something of the user's, or the place of one with a name; each
is told once and asked for once, and no other words name it. Everything follows from an integer
seed; splits are those of ``scenes.py``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from photoworld.scenes import LOOKS, Scene, sample_scene, split_of, write_caption
from photoworld.templates import lower_case, sentence_case, word, write
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Speaker, Turn

FEWEST_TURNS, MOST_TURNS = 20, 80
SESSIONS = (2, 3, 4)
_TELL = {
    "colour": (
        "{thing} is {value}",
        "did i say that {thing} is {value}?",
        "guess what, {thing} is {value}",
    ),
    "place": ("{thing} is {value}", "{thing} is {value} today", "guess what, {thing} is {value}"),
}
_ASK = {
    "colour": ("what color is {thing}?", "remember the color of {thing}?"),
    "place": ("where is {thing}?", "remember where {thing} is?"),
}
_SHOW = (
    "send me a pic of {thing}",
    "show me {thing} please",
    "let me see {thing}, the way i told you",
)
_ANSWER = ("{value}", "you said {value}", "i know, {value}", "that was {value}")


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What is told in one exchange and asked for in another: ``attribute`` of ``scene``."""

    scene: Scene
    attribute: str
    told: int  # number of the exchange
    asked: int
    shown: bool  # whether a photo is asked for, or words

    @property
    def thing(self) -> str:
        return self.scene.subject if self.scene.subject in LOOKS else f"my {self.scene.subject}"

    @property
    def value(self) -> str:
        return str(getattr(self.scene, self.attribute))


def long_dialogue(seed: int) -> Dialogue:
    """The long dialogue of a seed: exchanges of a user's and an agent's turn.

    Labels of a turn: ``session``, ``named`` (of a fact, where it is told or answered), of an
    agent's ``p_share``. Of the answer to a fact ``asked``: ``subject``, ``attribute``, ``value``,
    ``told`` (number of the turn), ``distance`` (turns from there to the question) and ``sessions``
    (how many later it is). Of a photo ``scene``, ``stated``, ``determined``.
    """
    rng = random.Random(f"long-{seed}")
    exchanges = rng.randint(FEWEST_TURNS // 2, MOST_TURNS // 2)
    starts = _session_starts(exchanges, rng)
    session_of = [sum(start <= n for start in starts) - 1 for n in range(exchanges)]
    facts = _facts(exchanges, starts, rng)
    casing = {speaker: rng.choice((sentence_case, lower_case)) for speaker in (USER, AGENT)}
    with_kept = split_of(seed) in ("test", "independent")
    turns: list[Turn] = []

    def say(speaker: Speaker, element: str | Photo, **labels: object) -> None:
        words = casing[speaker](element) if isinstance(element, str) else element
        labels |= {"session": session_of[len(turns) // 2]}
        if speaker == AGENT:
            labels |= {"p_share": float(isinstance(element, Photo))}
        turns.append(Turn(speaker=speaker, elements=(words,), labels={"named": {}, **labels}))

    def chat(*acts: str) -> None:
        speakers: tuple[Speaker, ...] = (USER, AGENT)
        for speaker, act in zip(speakers, acts, strict=True):
            say(speaker, write((act,), facts[0].scene, rng=rng, with_kept=with_kept).text)

    told = {fact.told: fact for fact in facts}
    asked = {fact.asked: fact for fact in facts}
    for number in range(exchanges):
        if number in starts:
            chat("u_greet", "a_hello")
        elif number + 1 in (*starts, exchanges):
            chat("u_bye", "a_bye")
        elif (fact := told.get(number)) is not None:
            say(USER, _told(fact, rng), named=_named(fact))
            say(AGENT, write(("a_chat",), fact.scene, rng=rng, with_kept=with_kept).text)
        elif (fact := asked.get(number)) is not None:
            labels = {
                "subject": fact.scene.subject,
                "attribute": fact.attribute,
                "value": fact.value,
                "told": 2 * fact.told,
                "distance": 2 * (fact.asked - fact.told),
                "sessions": session_of[fact.asked] - session_of[fact.told],
            }
            say(
                USER,
                rng.choice(_SHOW if fact.shown else _ASK[fact.attribute]).format(thing=fact.thing),
            )
            answer = (
                _photo(fact, f"long-{seed}-{number}", rng) if fact.shown else _answer(fact, rng)
            )
            say(
                AGENT,
                answer,
                asked=labels,
                named={} if fact.shown else {fact.attribute: fact.value},
            )
        else:
            chat("u_chat", "a_chat")
    labels = {"seed": seed, "split": split_of(seed), "sessions": len(starts)}
    return Dialogue(id=f"long-{seed}", turns=tuple(turns), labels=labels)


def _session_starts(exchanges: int, rng: random.Random) -> list[int]:
    """The first exchange of each session; none is shorter than four."""
    while True:
        count = rng.choice([number for number in SESSIONS if 4 * number <= exchanges])
        starts = [0, *sorted(rng.sample(range(4, exchanges - 3), count - 1))]
        if all(b - a >= 4 for a, b in zip(starts, [*starts[1:], exchanges], strict=True)):
            return starts


def _facts(exchanges: int, starts: list[int], rng: random.Random) -> list[Fact]:
    """Facts of different things, each with an exchange to be told in and a later one."""
    taken = {n for start in (*starts, exchanges) for n in (start - 1, start)}
    free = [n for n in range(exchanges) if n not in taken]
    count = rng.randint(2, min(4, len(free) // 2))
    places = rng.sample(free, 2 * count)
    facts: list[Fact] = []
    while len(facts) < count:
        scene = sample_scene(rng, fixed={"count": "one"})
        if scene.count != "one" or scene.subject in [fact.scene.subject for fact in facts]:
            continue
        first, second = sorted(places[2 * len(facts) : 2 * len(facts) + 2])
        named = scene.subject in LOOKS  # whose colour is known
        facts.append(
            Fact(
                scene=scene,
                attribute="place" if named or rng.random() < 0.5 else "colour",
                told=first,
                asked=second,
                shown=rng.random() < 0.5,
            )
        )
    return facts


def _told(fact: Fact, rng: random.Random) -> str:
    return rng.choice(_TELL[fact.attribute]).format(thing=fact.thing, value=_value(fact, rng))


def _answer(fact: Fact, rng: random.Random) -> str:
    said = rng.choice(_ANSWER).format(value=_value(fact, rng))
    return f"{said}. {word('news', fact.scene, rng=rng)[0]}"


def _value(fact: Fact, rng: random.Random) -> str:
    """``green``, ``at the beach``"""
    return word(fact.attribute, fact.scene, rng=rng)[0]


def _named(fact: Fact) -> dict[str, str]:
    return {"subject": fact.scene.subject, fact.attribute: fact.value}


def _photo(fact: Fact, name: str, rng: random.Random) -> Photo:
    determined = ["subject", fact.attribute]
    caption, stated = write_caption(fact.scene, rng, always=determined)
    labels = {"scene": fact.scene.as_dict(), "stated": list(stated), "determined": determined}
    return Photo(id=name, caption=caption, origin="painted", labels=labels)
