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

from photoworld.scenes import LOOKS, Scene, may_use_kept, photo_of, sample_scene, split_of
from photoworld.words import sentence_case, word, write
from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Speaker, Turn

FEWEST_TURNS, MOST_TURNS = 20, 80
SESSIONS = (2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What is told in one exchange and asked for in another: ``attribute`` of ``scene``."""

    scene: Scene
    attribute: str
    told: int  # number of the exchange
    asked: int
    shown: bool  # whether a photo is asked for, or words

    @property
    def named(self) -> dict[str, str]:
        return {self.attribute: getattr(self.scene, self.attribute)}

    def say(self, what: str, rng: random.Random) -> str:
        """``tell`` it, ``ask`` for it or ``answer``."""
        subject = self.scene.subject
        thing = subject if subject in LOOKS else f"my {subject}"
        name = f"{what}_{'photo' if what == 'ask' and self.shown else self.attribute}"
        return word(name, self.scene, rng=rng, thing=(thing, frozenset()))[0]


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
    casing = {speaker: rng.choice((sentence_case, str)) for speaker in (USER, AGENT)}
    turns: list[Turn] = []

    def say(speaker: Speaker, element: Element, **labels: object) -> None:
        words = casing[speaker](element) if isinstance(element, str) else element
        labels |= {"session": session_of[len(turns) // 2]}
        if speaker == AGENT:
            labels |= {"p_share": float(isinstance(element, Photo))}
        turns.append(Turn(speaker=speaker, elements=(words,), labels={"named": {}, **labels}))

    def chat(speaker: Speaker, act: str) -> None:
        # small talk says nothing of a scene
        written = write((act,), facts[0].scene, rng=rng, with_kept=may_use_kept(seed))
        say(speaker, str(written))

    told = {fact.told: fact for fact in facts}
    asked = {fact.asked: fact for fact in facts}
    for number in range(exchanges):
        acts = ("u_chat", "a_chat")
        if number in starts:
            acts = ("u_greet", "a_hello")
        elif number + 1 in (*starts, exchanges):
            acts = ("u_bye", "a_bye")
        if fact := told.get(number):
            say(USER, fact.say("tell", rng), named={"subject": fact.scene.subject, **fact.named})
            chat(AGENT, "a_chat")
        elif fact := asked.get(number):
            labels = {
                "subject": fact.scene.subject,
                "attribute": fact.attribute,
                "value": fact.named[fact.attribute],
                "told": 2 * fact.told,
                "distance": 2 * (fact.asked - fact.told),
                "sessions": session_of[fact.asked] - session_of[fact.told],
            }
            say(USER, fact.say("ask", rng))
            if fact.shown:
                settled = ["subject", fact.attribute]
                name = f"long-{seed}-{number}"
                photo = photo_of(fact.scene, rng, id=name, determined=settled, origin="painted")
                say(AGENT, photo, asked=labels, named={})
            else:
                said = f"{fact.say('answer', rng)}. {word('news', fact.scene, rng=rng)[0]}"
                say(AGENT, said, asked=labels, named=fact.named)
        else:
            chat(USER, acts[0])
            chat(AGENT, acts[1])
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
        attribute = "place" if named or rng.random() < 0.5 else "colour"
        shown = rng.random() < 0.5
        facts.append(Fact(scene=scene, attribute=attribute, told=first, asked=second, shown=shown))
    return facts
