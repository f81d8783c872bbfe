"""What the speakers have before them, and the moves that a conversation is made of."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from photoworld.scenes import ATTRIBUTES, Scene, sample_scene
from photoworld.words import Phrase, describe, word
from showtell.dialogue import AGENT, USER, Photo, Speaker

READY = 0.68  # asked for, accepted, or its condition has come true
FITTING = 0.45  # something vivid, a camera at hand, an excited listener
IDLE = 0.02  # there is something to show, but nobody asked
NONE = 0.0  # nothing to show, refused, or still waiting for a condition

CIRCUMSTANCES = ("place", "time", "weather")


@dataclass(frozen=True, kw_only=True)
class Move:
    """One turn to come: whose, made of which acts, and the level that holds once it is printed.

    ``level=None`` leaves the level as it is. ``photo`` is a photo that the user sends; ``about`` is
    the photo of whose scene the words speak. ``settles`` are attributes of the current scene that
    the words settle beside those that their slots state.
    """

    speaker: Speaker
    acts: tuple[str, ...] = ()
    level: float | None = None
    values: Mapping[str, Phrase] = field(default_factory=dict)
    photo: Photo | None = None
    about: Photo | None = None
    settles: frozenset[str] = frozenset()


def _move(speaker: Speaker, *acts: str, **given: Any) -> Move:
    """``given``: fields of the move, and words for slots of its acts by their names."""
    fields = {name: given.pop(name) for name in ("level", "about", "settles") if name in given}
    return Move(speaker=speaker, acts=acts, values=given, **fields)


user, agent = partial(_move, USER), partial(_move, AGENT)


class Setting:
    """What the speakers have before them: the scene at hand, and what was told about it."""

    def __init__(self, seed: int, *, novel: bool) -> None:
        self.seed = seed
        self.novel = novel
        self.rng = random.Random(f"talk-{seed}{'-novel' if novel else ''}")
        self.scene = sample_scene(self.rng, novel=novel)
        self.told: set[str] = set()  # circumstances told: they hold for every later scene
        self.settled: set[str] = set()  # attributes of this scene that the printed words settle
        self.photos = 0
        self.refused = False

    def next_scene(self, **fixed: str) -> Scene:
        """Another scene under the same circumstances."""
        here = {name: getattr(self.scene, name) for name in CIRCUMSTANCES}
        for _ in range(100):
            scene = sample_scene(self.rng, novel=self.novel, fixed={**here, **fixed})
            if all(getattr(scene, name) == value for name, value in here.items()):
                return scene
        raise AssertionError(f"no scene under {here} with {fixed}")

    def begin(self, scene: Scene) -> None:
        """The talk turns to another scene."""
        self.scene = scene
        self.settled = set(self.told)

    def other(self, attribute: str) -> Scene:
        """The scene with another value of one attribute: for what is not the case."""
        values = [v for v in ATTRIBUTES[attribute] if v != getattr(self.scene, attribute)]
        changed: dict[str, Any] = {attribute: self.rng.choice(values)}
        return replace(self.scene, **changed)

    def untold(self) -> list[str]:
        return [name for name in CIRCUMSTANCES if name not in self.told]

    def object(self, *, hiding: str | None = None) -> Phrase:
        """The thing to show, with where it is and some circumstances that were not told yet."""
        wanted = ["relation"] if self.rng.random() < 0.85 else []
        wanted += [n for n in self.untold() if n != hiding and self.rng.random() < 0.55]
        return describe(self.scene, self.rng, wanted, known=True)

    def phrase(self, name: str, scene: Scene | None = None) -> Phrase:
        """Words about the scene at hand, or about a scene that is not the case."""
        text, named = word(name, scene or self.scene, rng=self.rng)
        return text, frozenset() if scene else named

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability
