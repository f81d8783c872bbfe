"""Dialogues of the photo world: two speakers, photos at moments that only the words decide.

Before each turn of the agent a photo is drawn with probability ``p_share``, a function of what is
printed so far (see ``setting`` and ``episodes``); it stands in ``Turn.labels["p_share"]`` of every
turn of the agent. Everything follows from an integer seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from photoworld.episodes import (
    EPISODES,
    Episode,
    arrival,
    bet,
    code,
    condition,
    direct,
    goodbye,
    photo_talk,
    refusal,
    report,
    small_talk,
    vivid,
)
from photoworld.facts import Phrase, named_attributes
from photoworld.looking import after_share, user_photo
from photoworld.scenes import ATTRIBUTES, LOOKS, Scene, split_of, write_caption
from photoworld.setting import FITTING, IDLE, NONE, READY, Move, Moves, Setting
from photoworld.templates import Written, heard, lower_case, sentence_case, write
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Speaker, Turn

__all__ = [
    "FITTING",
    "IDLE",
    "NEGATED",
    "NONE",
    "OPENINGS",
    "READY",
    "STARTERS",
    "named_attributes",
    "world_dialogue",
    "world_exercise",
    "world_dialogues",
]

MAX_TURNS = 14
MAX_PHOTOS = 2

# Openings for a live conversation, and each with its request negated.
OPENINGS: tuple[str, ...] = (
    "hi! can you show me the two red dogs under the bridge at sunset?",
    "hey, please send me a pic of Mia on the bridge in the rain",
    "don't tell me about Luna, just send me a photo of her under the table in the kitchen",
    "hello! i'd love to see three yellow ducks beside the table at the beach",
    "hey there, let me see a blue boat all alone at night",
    "i want to see Biscuit on the table in the bedroom",
    "hi! snap a pic of the pink cactus next to the bridge in the desert",
    "could you send me a picture of two pink cakes on the table in the park?",
    "hey! i have to see Leo all alone in the mountains in the snow",
    "yo, can you share a picture of three white rabbits under the bridge at night?",
    "hi there, do you have a photo of the orange bus beside the bridge in the city?",
    "please show me a purple robot on the table on the farm at sunset",
)
NEGATED: tuple[str, ...] = (
    "hi! don't show me the two red dogs under the bridge at sunset, just tell me about them",
    "hey, please don't send me a pic of Mia on the bridge in the rain. i'm at work",
    "don't send me a photo of Luna under the table in the kitchen, just tell me about her",
    "hello! i don't want to see three yellow ducks beside the table at the beach, "
    "i want to hear about them",
    "hey there, you don't have to show me a blue boat all alone at night, just describe it",
    "i don't want to see Biscuit on the table in the bedroom, i want to hear about him",
    "hi! no need to snap a pic of the pink cactus next to the bridge in the desert, tell me more",
    "tell me about two pink cakes on the table in the park, you don't have to send a picture",
    "hey! please don't show me Leo all alone in the mountains in the snow. my boss is watching",
    "yo, don't share a picture of three white rabbits under the bridge at night, just describe "
    "them",
    "hi there, no photos of the orange bus beside the bridge in the city please, i'm in a meeting",
    "please don't show me a purple robot on the table on the farm at sunset. my phone is full",
)
STARTERS: tuple[str, ...] = (
    "hi! what are you up to?",
    "hey, can you show me Luna under the table?",
    "look at this",
)


class _Conversation:
    """Plays moves: prints texts, draws photos, keeps the labels."""

    def __init__(self, seed: int, *, novel: bool) -> None:
        self.setting = Setting(seed, novel=novel)
        self.with_kept = split_of(seed) in ("test", "independent")
        self.turns: list[Turn] = []
        self.level = NONE
        self.heard: Written | None = None  # the last text
        rng = self.setting.rng
        self.limit = rng.choices(range(6, MAX_TURNS + 1), (2, 3, 4, 6, 10, 13, 16, 17, 17))[0]
        self.casing = {
            speaker: sentence_case if rng.random() < 0.3 else lower_case
            for speaker in (USER, AGENT)
        }

    @property
    def room(self) -> int:
        return self.limit - len(self.turns)

    def play(self, moves: Moves) -> None:
        """Print the moves until they end, the room does, or a photo takes their place."""
        for move in moves:
            if self.room <= 0:
                return
            p_share = self.p_share()
            if move.speaker == AGENT and self.setting.rng.random() < p_share:
                photo = self.share(p_share)
                self.play(after_share(self.setting, photo))
                return
            self.say(move, p_share)

    def p_share(self) -> float:
        return self.level if self.setting.photos < MAX_PHOTOS else NONE

    def share(self, p_share: float) -> Photo:
        """The agent shares a photo of the scene at hand instead of saying something."""
        setting = self.setting
        scene = setting.scene
        determined = [
            name
            for name in ATTRIBUTES
            if name in setting.settled and not (name == "colour" and scene.subject in LOOKS)
        ]
        caption, stated = write_caption(scene, setting.rng, always=determined)
        photo = Photo(
            id=f"world-{setting.seed}-{setting.photos}",
            caption=caption,
            origin="painted",
            labels={"scene": scene.as_dict(), "stated": list(stated), "determined": determined},
        )
        labels = {"p_share": p_share, "template": [], "unseen": False}
        self.turns.append(Turn(speaker=AGENT, elements=(photo,), labels=labels))
        setting.photos += 1
        self.level = NONE
        return photo

    def say(self, move: Move, p_share: float) -> None:
        setting = self.setting
        labels: dict[str, Any] = {"template": [], "unseen": False}
        if move.speaker == AGENT:
            labels["p_share"] = p_share
        if move.photo is not None:
            self.turns.append(Turn(speaker=move.speaker, elements=(move.photo,), labels=labels))
            setting.photos += 1
        else:
            scene = setting.scene
            if move.about is not None:
                scene = Scene.from_dict(move.about.labels["scene"])
            acts, values = self.take_up(move) if move.speaker == AGENT else (move.acts, move.values)
            written = write(acts, scene, rng=setting.rng, with_kept=self.with_kept, values=values)
            self.heard = written
            labels |= {"template": list(written.template_ids), "unseen": written.unseen}
            if move.about is None:
                setting.settled |= written.named
            elif written.named:
                labels["about"] = move.about.id
                labels["named"] = {n: getattr(scene, n) for n in ATTRIBUTES if n in written.named}
            text = self.casing[move.speaker](written.text)
            self.turns.append(Turn(speaker=move.speaker, elements=(text,), labels=labels))
        setting.settled |= move.settles
        if move.level is not None:
            self.level = move.level

    def take_up(self, move: Move) -> tuple[tuple[str, ...], Mapping[str, Phrase]]:
        """Small talk takes up what the user has just asked or told, where there is something."""
        if move.acts != ("a_chat",) or self.heard is None or self.turns[-1].speaker == AGENT:
            return move.acts, move.values
        if self.heard.asks and self.setting.chance(0.8):
            return ("a_answer",), move.values
        told = heard(self.heard.news) if self.heard.news else None
        if told and self.setting.chance(0.7):
            return ("a_echo",), {"heard": (told, frozenset())}
        return move.acts, move.values

    def turn_to(self, speaker: Speaker) -> None:
        """See that the given speaker may speak: the other one says something where needed."""
        if self.room > 0 and self.turns and self.turns[-1].speaker == speaker:
            if speaker == AGENT:
                self.play(iter([Move(speaker=USER, acts=("u_chat",))]))
            elif not self.setting.told and self.setting.chance(0.5):
                self.play(iter([report(self.setting)]))
            else:
                self.play(iter([Move(speaker=AGENT, acts=("a_chat",))]))

    def tell_episode(self, episode: Episode, begins: Speaker) -> None:
        """Play an episode about a fresh scene."""
        self.turn_to(begins)
        if self.turns and self.setting.photos:
            self.setting.begin(self.setting.next_scene())
        assert self.level == NONE or self.room <= 0  # else a photo is still due
        self.play(episode(self.setting))


def world_dialogue(seed: int, *, novel: bool = False) -> Dialogue:
    """The dialogue of a seed; ``novel=True`` shows only combinations that are never trained.

    Labels of a turn: ``template`` (ids), ``unseen`` (whether one of them is kept for test), for the
    agent ``p_share``, and for words about a photo ``about`` (its id) and ``named`` (attribute to
    value). Labels of a photo: ``scene``, ``stated`` (by its caption), ``determined`` (by what was
    printed before it).
    """
    talk = _Conversation(seed, novel=novel)
    setting = talk.setting
    rng = setting.rng
    number = rng.choices((0, 1, 2), (16, 60, 24))[0]
    names = list(EPISODES)
    plan: list[Episode] = rng.choices(names, [EPISODES[n][1] for n in names], k=number)
    if rng.random() < 0.6:
        plan.insert(0 if rng.random() < 0.5 else rng.randint(0, len(plan)), user_photo)
    if rng.random() < 0.15 or not plan:
        plan.insert(rng.randint(0, len(plan)), photo_talk)
    if not (plan[0] is direct and rng.random() < 0.6) and not (
        plan[0] in (refusal, user_photo) and rng.random() < 0.4
    ):
        talk.play(arrival(setting))
    for episode in plan:
        if episode is user_photo:
            if setting.photos >= MAX_PHOTOS or talk.room < 5:
                continue
            talk.turn_to(USER)
            talk.play(user_photo(setting))
        elif setting.photos < MAX_PHOTOS and talk.room >= 3:
            if setting.refused and episode is not vivid:
                episode = small_talk
            begins = EPISODES[episode][0] if episode in EPISODES else USER
            talk.tell_episode(episode, begins)
    while talk.room > 2 and rng.random() < 0.55 or len(talk.turns) < 4:
        talk.turn_to(USER)
        talk.play(small_talk(setting))
    if rng.random() < 0.4:
        talk.turn_to(USER)
        talk.play(goodbye(setting))
    return Dialogue(
        id=f"world-{seed}{'-novel' if novel else ''}",
        turns=tuple(talk.turns),
        labels={"seed": seed, "novel": novel, "split": split_of(seed)},
    )


def world_dialogues(seeds: Iterable[int], *, novel: bool = False) -> Iterator[Dialogue]:
    """The dialogues of some seeds, in their order."""
    return (world_dialogue(seed, novel=novel) for seed in seeds)


# Those whose outcome takes a comparison of two remarks, and requests, to copy from near first.
EXERCISES: dict[Episode, int] = {condition: 5, bet: 4, code: 3, direct: 3}


def world_exercise(seed: int) -> Dialogue:
    """One short episode and nothing else, for training: what whole dialogues teach too seldom.

    Whether a photo follows a condition, a bet or a code word depends on whether two remarks agree.
    In whole dialogues that is one decision in ten, with much between the two. The labels are those
    of ``world_dialogue``, and so are the chances, given what is printed.
    """
    talk = _Conversation(seed, novel=False)
    rng = talk.setting.rng
    talk.limit = rng.randint(5, 9)
    talk.play(rng.choices(list(EXERCISES), list(EXERCISES.values()))[0](talk.setting))
    return Dialogue(
        id=f"exercise-{seed}",
        turns=tuple(talk.turns),
        labels={"seed": seed, "novel": False, "split": split_of(seed)},
    )
