"""What there is in the photo world: scenes, their captions, and who may see which seed.

A scene is eight attributes plus a drawing seed (pose, size, position). Everything random comes from
an integer seed, so a scene, its photo and its captions are the same on every machine.

Seeds:  0-99,999 train;  100,000-199,999 test;  200,000-299,999 dev;  900,000 and above are kept for
independent measurement. Some combinations of subject with colour or place ("novel") are never drawn
from the other seeds.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from photoworld import load_table
from showtell.dialogue import Origin, Photo

_KINDS: dict[str, tuple[str, ...]] = {
    "animal": ("dog", "cat", "duck", "rabbit"),
    "vehicle": ("car", "bus", "boat"),
    "food": ("cake", "ice cream"),
    "toy": ("ball", "robot", "teddy bear"),
    "plant": ("flower", "cactus"),
    "building": ("house", "lighthouse"),
    "friend": ("Mia", "Leo"),
    "pet": ("Biscuit", "Luna"),
}
SUBJECTS = {subject: kind for kind, subjects in _KINDS.items() for subject in subjects}
LOOKS: dict[str, str] = {  # the fixed colour of the named ones (what they wear or are)
    "Mia": "red",  # red jacket
    "Leo": "blue",  # blue jacket
    "Biscuit": "orange",  # an orange dog with a scarf
    "Luna": "purple",  # a purple cat with a bell
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "subject": tuple(SUBJECTS),
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "count": ("one", "two", "three"),
    "place": ("beach", "park", "mountains", "desert", "city", "farm", "kitchen", "bedroom"),
    "time": ("day", "sunset", "night"),
    "weather": ("clear", "cloudy", "rainy", "snowy"),
    "relation": ("alone", "beside", "on", "under"),
    "anchor": ("nothing", "table", "bridge"),
}
_WEIGHTS = {"count": (50, 28, 22), "relation": (30, 24, 23, 23)}  # the others are as likely

TRAIN_SEEDS = range(0, 100_000)
TEST_SEEDS = range(100_000, 200_000)
DEV_SEEDS = range(200_000, 300_000)
INDEPENDENT_SEEDS_FROM = 900_000


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that a photo shows; ``seed`` moves pose, size and position only."""

    subject: str
    colour: str
    count: str
    place: str
    time: str
    weather: str
    relation: str
    anchor: str
    seed: int

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Scene:
        """The scene that ``as_dict`` gave, from a file as well. Raises ValueError."""
        wanted = {*ATTRIBUTES, "seed"}
        if not isinstance(values, Mapping) or set(values) != wanted:
            raise ValueError(f"wanted {', '.join(ATTRIBUTES)} and seed, and nothing else")
        for name, known in ATTRIBUTES.items():
            if values[name] not in known:
                raise ValueError(
                    f"{name} is {str(values[name])[:40]!r}, wanted {' or '.join(known)}"
                )
        if type(values["seed"]) is not int:
            raise ValueError(f"seed is {str(values['seed'])[:40]!r}, wanted a whole number")
        return cls(**values)

    @property
    def attributes(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ATTRIBUTES}


def split_of(seed: int) -> str:
    """``train``, ``dev``, ``test`` or ``independent``."""
    if seed >= INDEPENDENT_SEEDS_FROM:
        return "independent"
    return "train" if seed in TRAIN_SEEDS else "dev" if seed in DEV_SEEDS else "test"


def may_use_kept(seed: int) -> bool:
    """Whether the dialogue of a seed may use templates that are kept for test."""
    return split_of(seed) in ("test", "independent")


def is_novel(subject: str, colour: str, place: str) -> bool:
    """Whether the combination is one of those never trained (about one scene in seven).

    A pair is novel by a checksum, so no list has to be kept: subject with colour (not for the
    named ones, whose colour is fixed) or subject with place.
    """
    pairs = [(subject, place)] + ([(subject, colour)] if subject not in LOOKS else [])
    return any(zlib.crc32("/".join(pair).encode()) % 100 < 8 for pair in pairs)


def sample_scene(
    rng: random.Random, *, novel: bool = False, fixed: Mapping[str, str] | None = None
) -> Scene:
    """A scene; ``fixed`` attributes are kept where the combination allows it.

    ``novel=True`` gives only combinations that are never trained, ``False`` only the others.
    """
    fixed = dict(fixed or {})
    for attempt in range(1000):
        keep = fixed if attempt < 200 else {}

        def draw(name: str, keep: Mapping[str, str] = keep) -> str:
            known = ATTRIBUTES[name]
            if name in keep or name not in _WEIGHTS:
                return keep.get(name) or rng.choice(known[1:] if name == "anchor" else known)
            return rng.choices(known, _WEIGHTS[name])[0]

        subject = draw("subject")
        named = subject in LOOKS
        colour = LOOKS[subject] if named else draw("colour")
        count = "one" if named else draw("count")
        place = draw("place")
        if is_novel(subject, colour, place) != novel:
            continue
        relation = draw("relation")
        anchor = draw("anchor")
        if (relation == "alone") != (anchor == "nothing"):
            anchor = "nothing" if relation == "alone" else rng.choice(ATTRIBUTES["anchor"][1:])
        values = (subject, colour, count, place, draw("time"), draw("weather"), relation, anchor)
        return Scene(**dict(zip(ATTRIBUTES, values, strict=True)), seed=rng.randrange(2**31))
    raise AssertionError(f"no scene with novel={novel} and {fixed}")


# ------------------------------------------------------------------------------------- captions


def plural(noun: str) -> str:
    return str(load_table("phrases")["plurals"].get(noun, noun + "s"))


def write_caption(
    scene: Scene, rng: random.Random, *, always: Iterable[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """A short caption and the names of the attributes that it states.

    Subject and count are always stated (a name states its count), the others by chance, ``always``
    for certain. Colour is a statement only where the look is not fixed by a name.
    """
    always = set(always)
    stated = ["subject", "count"]

    def says(name: str, chance: float) -> bool:
        return rng.random() < chance or name in always

    if scene.subject in LOOKS:
        parts = [scene.subject]
    else:
        parts = [scene.subject if scene.count == "one" else plural(scene.subject)]
        if says("colour", 0.9):
            parts.insert(0, scene.colour)
            stated.append("colour")
        number = ("an" if parts[0][0] in "aeiou" else "a") if scene.count == "one" else scene.count
        parts.insert(0, number)
    if scene.relation != "alone" and (says("relation", 0.93) or "anchor" in always):
        parts.append(f"{scene.relation} a {scene.anchor}")
        stated += ["relation", "anchor"]
    elif scene.relation == "alone" and "relation" in always:
        parts.append("alone")
        stated += ["relation", "anchor"]
    tail = []
    for name, chance in (("place", 0.8), ("time", 0.7), ("weather", 0.7)):
        if says(name, chance):
            tail.append(rng.choice(load_table("phrases")["caption"][name][getattr(scene, name)]))
            stated.append(name)
    if rng.random() < 0.25:
        rng.shuffle(tail)
    return ", ".join([" ".join(parts + tail[:1]), *tail[1:]]), tuple(stated)


def photo_of(
    scene: Scene,
    rng: random.Random,
    *,
    id: str,
    determined: Iterable[str] = (),
    origin: Origin = "user",
    **labels: Any,
) -> Photo:
    """The photo of a scene; its caption states what is ``determined`` (by what is said of it)."""
    caption, stated = write_caption(scene, rng, always=determined)
    labels = {"scene": scene.as_dict(), "stated": list(stated), **labels}
    return Photo(
        id=id, caption=caption, origin=origin, labels=labels | {"determined": list(determined)}
    )
