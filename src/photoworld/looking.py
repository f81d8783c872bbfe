"""Talk about a photo that lies before both speakers: what is visible, often not in its caption."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace

from photoworld.episodes import linger
from photoworld.facts import things, where_to
from photoworld.scenes import LOOKS, Scene, sample_scene, write_caption
from photoworld.setting import CIRCUMSTANCES, NONE, READY, Move, Moves, Setting
from showtell.dialogue import AGENT, USER, Photo


def seen_in(scene: Scene, rng: random.Random, stated: Collection[str]) -> Move:
    """What someone says who looks at a photo: one to three things, often not in its caption."""
    weights = {n: 1.0 if n in stated else 9.0 for n in ("count", "relation", *CIRCUMSTANCES)}
    weights["colour"] = 1.0 if "colour" in stated else 9.0
    names: set[str] = set()
    for _ in range(rng.choices((0, 1, 2), (12, 55, 33))[0]):
        left = [n for n in weights if n not in names]
        names.add(rng.choices(left, [weights[n] for n in left])[0])
    words, named = things(scene, rng, colour="colour" in names, count="count" in names)
    if "relation" in names:
        relation, both = where_to(scene, rng)
        words, named = f"{words} {relation}", named | both
    extra = tuple(f"c_{name}" for name in CIRCUMSTANCES if name in names)
    return Move(speaker=AGENT, acts=("c_main", *extra, "c_tail"), values={"seen": (words, named)})


QUESTIONS: dict[str, str] = {  # what the user asks about its photo, and the act of the answer
    "q_colour": "c_colour",
    "q_count": "c_count",
    "q_place": "c_where",
    "q_time": "c_when",
    "q_weather": "c_sky",
    "q_what": "c_what",
}


def user_photo(setting: Setting) -> Moves:
    """The user sends a photo; the agent speaks of what it sees."""
    rng = setting.rng
    scene = sample_scene(rng, novel=setting.novel)
    caption, stated = write_caption(scene, rng)
    labels = {"scene": scene.as_dict(), "stated": list(stated), "determined": []}
    photo_id = f"world-{setting.seed}-{setting.photos}"
    photo = Photo(id=photo_id, caption=caption, origin="user", labels=labels)
    if setting.chance(0.7):
        yield Move(speaker=USER, acts=("u_pre",), level=NONE)
        if setting.chance(0.45):
            yield Move(speaker=AGENT, acts=("a_sure",))
    yield Move(speaker=USER, photo=photo, level=NONE)
    if setting.chance(0.3):
        yield Move(speaker=USER, acts=("u_post",))
    yield replace(seen_in(scene, rng, stated), about=photo)
    if setting.chance(0.5):
        asked = rng.choice(list(QUESTIONS))
        yield Move(speaker=USER, acts=(asked,))
        seen, named = things(scene, rng, colour=True, count=setting.chance(0.5))
        where, both = where_to(scene, rng)
        values = {"seen": (f"{seen} {where}", named | both)}
        yield Move(speaker=AGENT, acts=(QUESTIONS[asked],), values=values, about=photo)
    else:
        yield Move(speaker=USER, acts=("u_confirm",))


def after_share(setting: Setting, photo: Photo) -> Moves:
    """Both look at the photo that the agent has just shared."""
    rng = setting.rng
    scene = setting.scene
    if setting.chance(0.4):
        yield Move(speaker=AGENT, acts=("a_after",))
    seen = seen_in(scene, rng, tuple(photo.labels["stated"]))
    yield replace(seen, speaker=USER, about=photo)
    yield Move(speaker=AGENT, acts=("a_glad",))
    if setting.photos > 1 or setting.chance(0.75):
        return
    if setting.chance(0.6):
        yield Move(speaker=USER, acts=("u_enough",), level=NONE)
        yield Move(speaker=AGENT, acts=("a_chat",))
        return
    settled = frozenset(setting.settled)
    kept = ["subject", "count"] + (["colour"] if scene.subject not in LOOKS else [])
    same = {name: scene.attributes[name] for name in kept if name in settled}
    setting.begin(setting.next_scene(**same))
    settles = frozenset(same)
    yield Move(speaker=USER, acts=("u_another",), level=READY, settles=settles)
    yield from linger(setting, ready=True)
