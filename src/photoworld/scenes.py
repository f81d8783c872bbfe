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

SUBJECTS: dict[str, str] = {  # name -> kind
    "dog": "animal",
    "cat": "animal",
    "duck": "animal",
    "rabbit": "animal",
    "car": "vehicle",
    "bus": "vehicle",
    "boat": "vehicle",
    "cake": "food",
    "ice cream": "food",
    "ball": "toy",
    "robot": "toy",
    "teddy bear": "toy",
    "flower": "plant",
    "cactus": "plant",
    "house": "building",
    "lighthouse": "building",
    "Mia": "friend",
    "Leo": "friend",
    "Biscuit": "pet",
    "Luna": "pet",
}
PLURALS = {"bus": "buses", "ice cream": "ice creams", "cactus": "cactuses"}
LOOKS: dict[str, str] = {  # the fixed colour of the named ones (what they wear or are)
    "Mia": "red",  # red jacket
    "Leo": "blue",  # blue jacket
    "Biscuit": "orange",  # an orange dog with a scarf
    "Luna": "purple",  # a purple cat with a bell
}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
COUNTS = ("one", "two", "three")
PLACES = ("beach", "park", "mountains", "desert", "city", "farm", "kitchen", "bedroom")
TIMES = ("day", "sunset", "night")
WEATHERS = ("clear", "cloudy", "rainy", "snowy")
RELATIONS = ("alone", "beside", "on", "under")
ANCHORS = ("nothing", "table", "bridge")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "subject": tuple(SUBJECTS),
    "colour": COLOURS,
    "count": COUNTS,
    "place": PLACES,
    "time": TIMES,
    "weather": WEATHERS,
    "relation": RELATIONS,
    "anchor": ANCHORS,
}

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
        if not isinstance(values, Mapping):
            raise ValueError("wanted an object with its attributes and seed")
        wanted = {*ATTRIBUTES, "seed"}
        if odd := sorted(map(str, wanted ^ set(values))):
            raise ValueError(f"missing or unknown: {', '.join(odd)[:80]}")
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
    if seed in TRAIN_SEEDS:
        return "train"
    if seed in DEV_SEEDS:
        return "dev"
    if seed >= INDEPENDENT_SEEDS_FROM:
        return "independent"
    return "test"


def is_novel(subject: str, colour: str, place: str) -> bool:
    """Whether the combination is one of those never trained (about one scene in seven).

    A pair is novel by a checksum, so no list has to be kept: subject with colour (not for the
    named ones, whose colour is fixed) or subject with place.
    """

    def held_out(*pair: str) -> bool:
        return zlib.crc32("/".join(pair).encode()) % 100 < 8

    return held_out(subject, place) or (subject not in LOOKS and held_out(subject, colour))


def sample_scene(
    rng: random.Random, *, novel: bool = False, fixed: Mapping[str, str] | None = None
) -> Scene:
    """A scene; ``fixed`` attributes are kept where the combination allows it.

    ``novel=True`` gives only combinations that are never trained, ``False`` only the others.
    """
    fixed = dict(fixed or {})
    for attempt in range(1000):
        keep = fixed if attempt < 200 else {}
        subject = keep.get("subject") or rng.choice(list(SUBJECTS))
        named = subject in LOOKS
        colour = LOOKS[subject] if named else keep.get("colour") or rng.choice(COLOURS)
        count = "one" if named else keep.get("count") or rng.choices(COUNTS, (50, 28, 22))[0]
        place = keep.get("place") or rng.choice(PLACES)
        if is_novel(subject, colour, place) != novel:
            continue
        relation = keep.get("relation") or rng.choices(RELATIONS, (30, 24, 23, 23))[0]
        anchor = keep.get("anchor") or rng.choice(ANCHORS[1:])
        if (relation == "alone") != (anchor == "nothing"):
            anchor = "nothing" if relation == "alone" else rng.choice(ANCHORS[1:])
        return Scene(
            subject=subject,
            colour=colour,
            count=count,
            place=place,
            time=keep.get("time") or rng.choice(TIMES),
            weather=keep.get("weather") or rng.choice(WEATHERS),
            relation=relation,
            anchor=anchor,
            seed=rng.randrange(2**31),
        )
    raise AssertionError(f"no scene with novel={novel} and {fixed}")


# ------------------------------------------------------------------------------------- captions

_PLACE_PHRASES = {
    "beach": ("at the beach", "on the beach"),
    "park": ("in the park", "at the park"),
    "mountains": ("in the mountains", "up in the mountains"),
    "desert": ("in the desert", "out in the desert"),
    "city": ("in the city", "downtown in the city"),
    "farm": ("on the farm", "at the farm"),
    "kitchen": ("in the kitchen", "in a kitchen"),
    "bedroom": ("in the bedroom", "in a bedroom"),
}
_TIME_PHRASES = {
    "day": ("during the day", "in daylight"),
    "sunset": ("at sunset", "at dusk"),
    "night": ("at night", "by night"),
}
_WEATHER_PHRASES = {
    "clear": ("clear sky", "in clear weather"),
    "cloudy": ("cloudy sky", "in cloudy weather"),
    "rainy": ("in the rain", "rainy weather"),
    "snowy": ("in the snow", "snowy weather"),
}


def noun_phrase(subject: str, count: str, colour: str | None) -> str:
    """``two red dogs``, ``a dog``, ``Mia``."""
    if subject in LOOKS:
        return subject
    noun = subject if count == "one" else PLURALS.get(subject, subject + "s")
    words = [colour, noun] if colour else [noun]
    if count == "one":
        return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)
    return f"{count} {' '.join(words)}"


def write_caption(
    scene: Scene, rng: random.Random, *, always: Iterable[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """A short caption and the names of the attributes that it states.

    Subject and count are always stated (a name states its count), the others by chance, ``always``
    for certain. Colour is a statement only where the look is not fixed by a name.
    """
    always = set(always)

    def says(name: str, chance: float) -> bool:
        return rng.random() < chance or name in always

    stated = ["subject", "count"]
    colour = None
    if scene.subject not in LOOKS and says("colour", 0.9):
        colour = scene.colour
        stated.append("colour")
    parts = [noun_phrase(scene.subject, scene.count, colour)]
    if scene.relation != "alone" and (says("relation", 0.93) or "anchor" in always):
        parts.append(f"{scene.relation} a {scene.anchor}")
        stated += ["relation", "anchor"]
    elif scene.relation == "alone" and "relation" in always:
        parts.append("alone")
        stated += ["relation", "anchor"]
    tail = []
    if says("place", 0.8):
        tail.append(rng.choice(_PLACE_PHRASES[scene.place]))
        stated.append("place")
    if says("time", 0.7):
        tail.append(rng.choice(_TIME_PHRASES[scene.time]))
        stated.append("time")
    if says("weather", 0.7):
        tail.append(rng.choice(_WEATHER_PHRASES[scene.weather]))
        stated.append("weather")
    if rng.random() < 0.25:
        rng.shuffle(tail)
    return ", ".join([" ".join(parts + tail[:1]), *tail[1:]]), tuple(stated)
