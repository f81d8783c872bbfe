"""Dialogues of the photo world: two speakers, photos at moments that only the words decide.

Before each turn of the agent a photo is drawn with probability ``p_share``, a function of what is
printed so far (see ``setting`` and ``episodes``); it stands in ``Turn.labels["p_share"]`` of every
turn of the agent. Everything follows from an integer seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from photoworld import episodes, load_table
from photoworld.episodes import EPISODES, Episode
from photoworld.scenes import ATTRIBUTES, LOOKS, Scene, may_use_kept, photo_of, split_of
from photoworld.setting import NONE, Move, Setting, agent, user
from photoworld.words import Phrase, Text, draw_casing, heard, write
from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Speaker, Turn

MAX_TURNS = 14
MAX_PHOTOS = 2

# Openings for a live conversation, and each with its request negated.
OPENINGS: tuple[str, ...] = tuple(load_table("phrases")["openings"])
NEGATED: tuple[str, ...] = tuple(load_table("phrases")["negated"])


class _Conversation(Setting):
    """Plays moves: prints texts, draws photos, keeps the labels."""

    def __init__(self, seed: int, *, novel: bool) -> None:
        super().__init__(seed, novel=novel)
        self.turns: list[Turn] = []
        self.level = NONE
        self.heard: Text | None = None  # the last text
        self.limit = self.rng.choices(range(6, MAX_TURNS + 1), (2, 3, 4, 6, 10, 13, 16, 17, 17))[0]
        self.casing = {speaker: draw_casing(self.rng) for speaker in (USER, AGENT)}

    def dialogue(self, name: str) -> Dialogue:
        labels = {"seed": self.seed, "novel": self.novel, "split": split_of(self.seed)}
        return Dialogue(id=name, turns=tuple(self.turns), labels=labels)

    @property
    def room(self) -> int:
        return self.limit - len(self.turns)

    def play(self, moves: Iterable[Move]) -> None:
        """Print the moves until they end, the room does, or a photo takes their place."""
        for move in moves:
            if self.room <= 0:
                return
            p_share = self.level if self.photos < MAX_PHOTOS else NONE
            if move.speaker == AGENT and self.rng.random() < p_share:
                photo = self.share(p_share)
                self.play(episodes.after_share(self, photo))
                return
            self.say(move, p_share)

    def add(self, speaker: Speaker, element: Element, labels: Mapping[str, Any]) -> None:
        self.turns.append(Turn(speaker=speaker, elements=(element,), labels=labels))
        self.photos += isinstance(element, Photo)

    def share(self, p_share: float) -> Photo:
        """The agent shares a photo of the scene at hand instead of saying something."""
        settled = [name for name in ATTRIBUTES if name in self.settled]
        if "colour" in settled and self.scene.subject in LOOKS:
            settled.remove("colour")
        name = f"world-{self.seed}-{self.photos}"
        photo = photo_of(self.scene, self.rng, id=name, determined=settled, origin="painted")
        self.add(AGENT, photo, {"p_share": p_share, "template": [], "unseen": False})
        self.level = NONE
        return photo

    def say(self, move: Move, p_share: float) -> None:
        scene = self.scene
        labels: dict[str, Any] = {"template": [], "unseen": False}
        if move.speaker == AGENT:
            labels["p_share"] = p_share
        if move.photo is not None:
            self.add(move.speaker, move.photo, labels)
        else:
            if move.about is not None:
                scene = Scene.from_dict(move.about.labels["scene"])
            acts, values = self.take_up(move) if move.speaker == AGENT else (move.acts, move.values)
            text = write(acts, scene, rng=self.rng, with_kept=may_use_kept(self.seed), **values)
            labels["template"] = [template.id for template in text.templates]
            labels["unseen"] = any(template.kept for template in text.templates)
            if move.about is None:
                self.settled |= text.named
            elif text.named:
                labels["about"] = move.about.id
                labels["named"] = {n: getattr(scene, n) for n in ATTRIBUTES if n in text.named}
            self.heard = text
            self.add(move.speaker, self.casing[move.speaker](str(text)), labels)
        self.settled |= move.settles
        if move.level is not None:
            self.level = move.level

    def take_up(self, move: Move) -> tuple[tuple[str, ...], Mapping[str, Phrase]]:
        """Small talk takes up what the user has just asked or told, where there is something."""
        if move.acts != ("a_chat",) or self.heard is None or self.turns[-1].speaker == AGENT:
            return move.acts, move.values
        if self.heard.asks and self.chance(0.8):
            return ("a_answer",), move.values
        told = heard(self.heard.news) if self.heard.news else None
        if told and self.chance(0.7):
            return ("a_echo",), {"heard": (told, frozenset())}
        return move.acts, move.values

    def turn_to(self, speaker: Speaker) -> None:
        """See that the given speaker may speak: the other one says something where needed."""
        if self.room > 0 and self.turns and self.turns[-1].speaker == speaker:
            if speaker == AGENT:
                move = user("u_chat")
            elif not self.told and self.chance(0.5):
                move = episodes.report(self)
            else:
                move = agent("a_chat")
            self.play([move])

    def tell(self, episode: Episode) -> None:
        """Play an episode about a fresh scene."""
        self.turn_to(EPISODES[episode][0] if episode in EPISODES else USER)
        if self.turns and self.photos:
            self.begin(self.next_scene())
        assert self.level == NONE or self.room <= 0  # else a photo is still due
        self.play(episode(self))


def world_dialogue(seed: int, *, novel: bool = False) -> Dialogue:
    """The dialogue of a seed; ``novel=True`` shows only combinations that are never trained.

    Labels of a turn: ``template`` (ids), ``unseen`` (whether one of them is kept for test), for the
    agent ``p_share``, and for words about a photo ``about`` (its id) and ``named`` (attribute to
    value). Labels of a photo: ``scene``, ``stated`` (by its caption), ``determined`` (by what was
    printed before it).
    """
    talk = _Conversation(seed, novel=novel)
    rng = talk.rng
    number = rng.choices((0, 1, 2), (16, 60, 24))[0]
    names = list(EPISODES)
    plan: list[Episode] = rng.choices(names, [EPISODES[n][1] for n in names], k=number)
    if rng.random() < 0.6:
        plan.insert(0 if rng.random() < 0.5 else rng.randint(0, len(plan)), episodes.user_photo)
    if rng.random() < 0.15 or not plan:
        plan.insert(rng.randint(0, len(plan)), episodes.photo_talk)
    if not (plan[0] is episodes.direct and rng.random() < 0.6) and not (
        plan[0] in (episodes.refusal, episodes.user_photo) and rng.random() < 0.4
    ):
        talk.play(episodes.arrival(talk))
    for episode in plan:
        if episode is episodes.user_photo:
            if talk.photos >= MAX_PHOTOS or talk.room < 5:
                continue
            talk.turn_to(USER)
            talk.play(episodes.user_photo(talk))
        elif talk.photos < MAX_PHOTOS and talk.room >= 3:
            if talk.refused and episode is not episodes.vivid:
                episode = episodes.small_talk
            talk.tell(episode)
    while talk.room > 2 and rng.random() < 0.55 or len(talk.turns) < 4:
        talk.turn_to(USER)
        talk.play(episodes.small_talk(talk))
    if rng.random() < 0.4:
        talk.turn_to(USER)
        talk.play(episodes.goodbye(talk))
    return talk.dialogue(f"world-{seed}{'-novel' if novel else ''}")
