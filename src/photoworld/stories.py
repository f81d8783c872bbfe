"""Stories of the photo world: five steps, each a text and a photo, as VIST has them; and rounds of
questions about a photo, as VisDial has them.

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

import itertools
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from photoworld.episodes import ANSWERS
from photoworld.scenes import (
    ATTRIBUTES,
    LOOKS,
    Scene,
    is_novel,
    may_use_kept,
    photo_of,
    sample_scene,
    split_of,
)
from photoworld.words import Phrase, draw_casing, known_things, things, where_to, word, write
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn

STEPS = 5
UNITS: dict[str, tuple[str, ...]] = {name: (name,) for name in ("place", "time", "weather")}
UNITS["spot"] = ("relation", "anchor")
Role = Literal["told", "seen", "moved", "turned", "planned", "open"]
ROLES: tuple[Role, ...] = ("told", "seen", "moved", "turned", "planned", "open")
SOURCES: dict[str, frozenset[str]] = {  # what a context holds, the text of the step always
    "none": frozenset({"last"}),
    "text": frozenset({"last", "text"}),
    "photos": frozenset({"last", "photos"}),
    "both": frozenset({"last", "text", "photos"}),
}

_Value = tuple[str, ...]  # of the attributes of a unit


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
        known = ATTRIBUTES["relation"][1:], ATTRIBUTES["anchor"][1:]
        return [("alone", "nothing"), *itertools.product(*known)]
    return [
        (value,)
        for value in ATTRIBUTES[unit]
        if unit != "place" or not is_novel(scene.subject, scene.colour, value)
    ]


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


# ------------------------------------------------------------------------------------- rounds

ROUNDS = 10
_ASKED = ("what", "colour", "count", "place", "time", "weather")


def world_rounds(seed: int) -> Dialogue:
    """The rounds of a seed: the user shows a photo and asks, the agent answers. Seven rounds settle
    something of the photo, the others ask for what is not in it; in any order. Labels of an answer:
    ``named`` (attribute to value); of the photo: ``scene``, ``stated``, ``determined`` (by all).
    """
    rng = random.Random(f"rounds-{seed}")
    scene = sample_scene(rng)
    asked = [what for what in (*_ASKED, "spot") if what != "colour" or scene.subject not in LOOKS]
    asked += ["nothing"] * (ROUNDS - len(asked))
    rng.shuffle(asked)
    turns: list[Turn] = []
    for what in asked:
        turns += _round(what, scene, rng, with_kept=may_use_kept(seed))
    determined = [name for name in ATTRIBUTES if any(name in t.labels["named"] for t in turns)]
    photo = photo_of(scene, rng, id=f"rounds-{seed}", determined=determined)
    return Dialogue(
        id=photo.id,
        turns=(Turn(speaker=USER, elements=(photo,)), *turns),
        labels={"seed": seed, "split": split_of(seed)},
    )


def _round(what: str, scene: Scene, rng: random.Random, *, with_kept: bool) -> list[Turn]:
    """A question and its answer."""
    named: frozenset[str] = frozenset()
    if what == "nothing":
        asked = word("round_other", scene, rng=rng)[0]
        answer = f"{word('no', scene, rng=rng)[0]}. {word('news', scene, rng=rng)[0]}"
    elif what == "spot":
        asked = word("round_where", scene, rng=rng)[0]
        words, named = where_to(scene, rng)
        answer = f"{words}. {word('c_end', scene, rng=rng)[0]}"
    else:
        question = f"q_{what}"
        seen = things(scene, rng, colour=False, count=False)
        asked = str(write((question,), scene, rng=rng, with_kept=with_kept))
        written = write((ANSWERS[question],), scene, rng=rng, with_kept=with_kept, seen=seen)
        answer, named = str(written), frozenset(written.named)
    labels = {"named": _named(scene, [(answer, named)])}
    return [
        Turn(speaker=USER, elements=(asked,), labels={"named": {}}),
        Turn(speaker=AGENT, elements=(answer,), labels=labels),
    ]
