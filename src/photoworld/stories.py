"""Stories of the photo world: five steps, each a text and a photo, as VIST has them.

What stays and what changes is told in words, or can only be seen, so that the last photo follows
partly from its own text, partly from earlier texts, partly from earlier photos. One *role* is drawn
for each of place, time, weather and spot (relation and anchor):

    role      over the five steps                             the last photo follows from
    told      stays; the first text says it                   text, photos
    seen      stays; no text says it                          photos
    moved     changes at a step between, whose text says so   text, photos
    turned    changes at the last step, whose text says so    last
    planned   changes at the last step; an earlier text said  text
              what the last photo would be
    open      is another at every step; no text says it       (nothing)

Every story has at least one of seen, turned and planned. Subject, count and colour stay; the first
text may name them. What is not said to change stays as it was. Everything follows from an integer
seed; splits are those of ``scenes.py``.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from photoworld.facts import Phrase, known_things, things, where_to
from photoworld.scenes import (
    ANCHORS,
    ATTRIBUTES,
    LOOKS,
    PLACES,
    RELATIONS,
    TIMES,
    WEATHERS,
    Scene,
    is_novel,
    photo_of,
    sample_scene,
    split_of,
)
from photoworld.words import draw_casing, word
from showtell.dialogue import AGENT, Dialogue, Photo, Turn

STEPS = 5
UNITS: dict[str, tuple[str, ...]] = {
    "place": ("place",),
    "time": ("time",),
    "weather": ("weather",),
    "spot": ("relation", "anchor"),
}
Role = Literal["told", "seen", "moved", "turned", "planned", "open"]
ROLES: tuple[Role, ...] = ("told", "seen", "moved", "turned", "planned", "open")
SOURCES: dict[str, frozenset[str]] = {  # what a context holds, the text of the step always
    "none": frozenset({"last"}),
    "text": frozenset({"last", "text"}),
    "photos": frozenset({"last", "photos"}),
    "both": frozenset({"last", "text", "photos"}),
}

_Value = tuple[str, ...]  # of the attributes of a unit
_SPOTS: tuple[_Value, ...] = (
    ("alone", "nothing"),
    *((relation, anchor) for relation in RELATIONS[1:] for anchor in ANCHORS[1:]),
)


@dataclass(frozen=True, kw_only=True)
class _Thread:
    """One unit through the story: its value at each step, the steps whose text says it, and the
    step whose text says what it will be at the last."""

    values: tuple[_Value, ...]
    said: frozenset[int]
    planned_at: int | None = None

    def sources(self, step: int) -> list[str]:
        """What each by itself settles the value at a step: its own text ("last"), the texts
        before it, the photos before it."""
        here = self.values[step]
        told = any(
            earlier < step and set(self.values[earlier : step + 1]) == {here}
            for earlier in self.said
        )
        found = ["last"] if step in self.said else []
        if told or (self.planned_at is not None and step == STEPS - 1):
            found.append("text")
        if step and self.values[step - 1] == here:
            found.append("photos")
        return found


def world_story(seed: int) -> Dialogue:
    """The story of a seed: five turns of the agent, each a text and its photo.

    Labels of a turn: ``named`` (what its text says of its photo), ``planned`` (of the last one).
    Labels of a photo: ``scene``, ``stated`` (by its caption), ``sources`` (attribute to what
    settles it by itself, see ``_Thread``), ``determined`` (those with any source). Labels of the
    story: ``roles``.
    """
    rng = random.Random(f"story-{seed}")
    first = sample_scene(rng)
    roles = _draw_roles(rng)
    threads = {unit: _thread(unit, role, first, rng) for unit, role in roles.items()}
    introduction = _introduction(first, rng)
    casing = draw_casing(rng)
    scenes = [_scene_at(step, first, threads, seed=rng.randrange(2**31)) for step in range(STEPS)]
    turns = []
    for step, scene in enumerate(scenes):
        begins = "story_last" if step == STEPS - 1 else "story_next"
        said = [word(begins, scene, rng=rng) if step else introduction]
        told = [unit for unit, thread in threads.items() if step in thread.said]
        clauses = [_clause(unit, scene, rng, now=step > 0) for unit in told]
        rng.shuffle(clauses)
        said += clauses
        last = scenes[-1]
        plans = [
            word("story_plan", last, rng=rng, plan_of=_value(unit, last, rng))
            for unit, thread in threads.items()
            if step == thread.planned_at
        ]
        news = word("news", scene, rng=rng)[0]
        text = ". ".join([*(words for words, _ in (*said, *plans)), news])
        labels = {"named": _named(scene, said), "planned": _named(last, plans)}
        sources = _sources(step, scene, threads, introduced=introduction[1])
        settled = [attribute for attribute, found in sources.items() if found]
        name = f"story-{seed}-{step}"
        photo = photo_of(scene, rng, id=name, determined=settled, sources=sources)
        turns.append(Turn(speaker=AGENT, elements=(casing(text), photo), labels=labels))
    return Dialogue(
        id=f"story-{seed}",
        turns=tuple(turns),
        labels={"seed": seed, "split": split_of(seed), "roles": roles},
    )


def determined_in(photo: Photo, context: str) -> tuple[str, ...]:
    """The attributes of a story's photo that are settled where of the steps before it ``context``
    is read: a key of ``SOURCES``."""
    held = SOURCES[context]
    return tuple(name for name, found in photo.labels["sources"].items() if held & set(found))


def determined_only_by(photo: Photo, source: str) -> tuple[str, ...]:
    """The attributes that nothing but ``source`` settles: "last", "text" or "photos"."""
    return tuple(name for name, found in photo.labels["sources"].items() if found == [source])


# --------------------------------------------------------------------------------- how it goes


def _draw_roles(rng: random.Random) -> dict[str, Role]:
    """A role for each unit; planned, turned and seen are always among them."""
    units = list(UNITS)
    rng.shuffle(units)
    roles: tuple[Role, ...] = ("planned", "turned", "seen", rng.choice(ROLES))
    drawn = dict(zip(units, roles, strict=True))
    return {unit: drawn[unit] for unit in UNITS}


def _thread(unit: str, role: Role, first: Scene, rng: random.Random) -> _Thread:
    before: _Value = tuple(getattr(first, name) for name in UNITS[unit])
    after = rng.choice([value for value in _options(unit, first) if value != before])
    change = rng.randrange(1, STEPS - 1) if role == "moved" else STEPS - 1
    planned_at = rng.randrange(STEPS - 1) if role == "planned" else None
    said = {"told": {0}, "moved": {change}, "turned": {change}}.get(role, set())
    if role in ("moved", "turned", "planned") and rng.random() < 0.3:
        said = said | {0}
    values = [before] * change + [after] * (STEPS - change)
    if role in ("told", "seen"):
        values = [before] * STEPS
    elif role == "open":
        values = [before]
        while len(values) < STEPS:
            values.append(rng.choice([v for v in _options(unit, first) if v != values[-1]]))
    return _Thread(values=tuple(values), said=frozenset(said), planned_at=planned_at)


def _options(unit: str, scene: Scene) -> list[_Value]:
    """Values that a unit may have beside the subject of ``scene``: none that is never trained."""
    if unit == "spot":
        return list(_SPOTS)
    if unit == "place":
        return [(p,) for p in PLACES if not is_novel(scene.subject, scene.colour, p)]
    return [(value,) for value in {"time": TIMES, "weather": WEATHERS}[unit]]


def _scene_at(step: int, first: Scene, threads: Mapping[str, _Thread], *, seed: int) -> Scene:
    changed: dict[str, Any] = {"seed": seed}
    for unit, thread in threads.items():
        changed |= zip(UNITS[unit], thread.values[step], strict=True)
    return replace(first, **changed)


def _sources(
    step: int, scene: Scene, threads: Mapping[str, _Thread], *, introduced: Collection[str]
) -> dict[str, list[str]]:
    """What settles each attribute at a step. A name has its colour: that is not counted."""
    found = {}
    for name in ("subject", "colour", "count"):
        if name != "colour" or scene.subject not in LOOKS:
            said = frozenset({0} if name in introduced else ())
            stays = _Thread(values=((getattr(scene, name),),) * STEPS, said=said)
            found[name] = stays.sources(step)
    for unit, thread in threads.items():
        found |= dict.fromkeys(UNITS[unit], thread.sources(step))
    return {name: found[name] for name in ATTRIBUTES if name in found}


# --------------------------------------------------------------------------------- the words


def _introduction(scene: Scene, rng: random.Random) -> Phrase:
    """The first words: of whom the story is, or nothing of that."""
    if rng.random() < 0.4:
        return word("story_unnamed", scene, rng=rng)
    if scene.subject in LOOKS:
        whom = known_things(scene, rng)
    else:
        # one thing by a bare noun would say its count
        count = scene.count == "one" or rng.random() < 0.5
        whom = things(scene, rng, colour=rng.random() < 0.3, count=count)
    return word("story_start", scene, rng=rng, whom=whom)


def _value(unit: str, scene: Scene, rng: random.Random) -> Phrase:
    return where_to(scene, rng) if unit == "spot" else word(unit, scene, rng=rng)


def _clause(unit: str, scene: Scene, rng: random.Random, *, now: bool) -> Phrase:
    """The value of a unit as a clause of its own; ``now``: it is not the first of the story."""
    if unit in ("time", "weather"):
        words, named = word({"time": "t_is", "weather": "w_is"}[unit], scene, rng=rng)
    else:
        words, named = _value(unit, scene, rng)
        words = f"look, {words}" if unit == "spot" else f"i'm {words}"
    return (f"now {words}" if now and unit != "spot" else words), named


def _named(scene: Scene, phrases: Sequence[Phrase]) -> dict[str, str]:
    return {name: getattr(scene, name) for _, named in phrases for name in sorted(named)}
