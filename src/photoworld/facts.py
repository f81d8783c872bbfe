"""Words for what a photo shows, and the way back: which attributes a text names.

``scene_phrase`` and ``describe`` write; ``named_attributes`` reads. The two agree by law (see the
tests): what a phrase is said to state is exactly what the reader finds in it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection

from photoworld.scenes import COLOURS, LOOKS, PLURALS, SUBJECTS, Scene

Phrase = tuple[str, frozenset[str]]  # words, and the attributes that they state

NOUNS: dict[str, tuple[str, ...]] = {  # synonyms are few on purpose: a small model must learn them
    "dog": ("dog", "dog", "dog", "puppy"),
    "cat": ("cat", "cat", "cat", "kitty"),
    "rabbit": ("rabbit", "rabbit", "rabbit", "bunny"),
    "teddy bear": ("teddy bear", "teddy bear", "teddy"),
}
_MORE_PLURALS = {"puppy": "puppies", "kitty": "kitties", "bunny": "bunnies", "teddy": "teddies"}
_PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("at the beach", "on the beach"),
    "park": ("in the park", "at the park"),
    "mountains": ("in the mountains", "up in the mountains"),
    "desert": ("in the desert", "out in the desert"),
    "city": ("in the city", "downtown in the city"),
    "farm": ("on the farm", "at the farm"),
    "kitchen": ("in the kitchen",),
    "bedroom": ("in the bedroom",),
}
_TIMES: dict[str, tuple[str, ...]] = {
    "day": ("during the day", "in broad daylight"),
    "sunset": ("at sunset", "at dusk"),
    "night": ("at night", "in the dark"),
}
_TIME_IS = {
    "day": ("it's the middle of the day", "it's broad daylight"),
    "sunset": ("it's sunset", "it's dusk"),
    "night": ("it's night", "it's dark out"),
}
_WEATHERS: dict[str, tuple[str, ...]] = {
    "clear": ("in clear weather", "with a clear sky"),
    "cloudy": ("in cloudy weather", "with all those clouds"),
    "rainy": ("in the rain", "in rainy weather"),
    "snowy": ("in the snow", "in snowy weather"),
}
_WEATHER_IS = {
    "clear": ("the sky is clear", "it's clear out"),
    "cloudy": ("it's cloudy", "the sky is cloudy"),
    "rainy": ("it's raining", "it's rainy"),
    "snowy": ("it's snowing", "it's snowy"),
}
_JACKET = "in that {} jacket"
_PRONOUNS = {"Mia": "her", "Leo": "him", "Biscuit": "him", "Luna": "her"}
_COUNTED = {"one": "just one", "two": "two", "three": "three"}


def _noun(scene: Scene, rng: random.Random) -> str:
    noun = rng.choice(NOUNS.get(scene.subject, (scene.subject,)))
    if scene.count == "one":
        return noun
    return _MORE_PLURALS.get(noun) or PLURALS.get(noun) or noun + "s"


def things(scene: Scene, rng: random.Random, *, colour: bool, count: bool) -> Phrase:
    """The subject, with colour or count if wanted: ``two red dogs``, ``the red dogs``, ``Mia``."""
    if scene.subject in LOOKS:
        if not colour:
            return scene.subject, frozenset({"subject"})
        look = _JACKET if SUBJECTS[scene.subject] == "friend" else "with that {} fur"
        look = look.format(scene.colour)
        return f"{scene.subject} {look}", frozenset({"subject", "colour"})
    words = ([scene.colour] if colour else []) + [_noun(scene, rng)]
    if not count:
        head = "the"
    elif scene.count == "one":
        head = "an" if words[0][0] in "aeiou" else "a"
    else:
        head = scene.count
    named = {"subject"} | ({"colour"} if colour else set()) | ({"count"} if count else set())
    return " ".join([head, *words]), frozenset(named)


def where_to(scene: Scene, rng: random.Random) -> Phrase:
    """``under the bridge``, ``all alone``: relation and anchor."""
    both = frozenset({"relation", "anchor"})
    if scene.relation == "alone":
        return "all alone", both
    relation = rng.choice(("beside", "next to")) if scene.relation == "beside" else scene.relation
    return f"{relation} {rng.choice(('the', 'the', 'a'))} {scene.anchor}", both


def known_things(scene: Scene, rng: random.Random) -> Phrase:
    """As ``things`` in full; what is said of one by name says that there is one."""
    words, named = things(scene, rng, colour=scene.subject not in LOOKS, count=True)
    return words, named | {"count"}


def describe(scene: Scene, rng: random.Random, wanted: Collection[str], *, known: bool) -> Phrase:
    """The subject in full, then those of relation, place, time and weather that are wanted.

    Something ``known`` may be ``the two red dogs``.
    """
    phrases = [known_things(scene, rng)]
    if known and rng.random() < 0.5 and scene.subject not in LOOKS:
        words, named = phrases[0]
        words = re.sub(r"^an? ", "", words)
        phrases = [(f"the {words}", named)]
    if "relation" in wanted:
        phrases.append(where_to(scene, rng))
    phrases += [_of(name, scene, rng) for name in ("place", "time", "weather") if name in wanted]
    return " ".join(p[0] for p in phrases), frozenset().union(*(p[1] for p in phrases))


def _np_rel(scene: Scene, rng: random.Random) -> Phrase:
    return describe(scene, rng, ("relation",) if rng.random() < 0.85 else (), known=False)


def _of(name: str, scene: Scene, rng: random.Random) -> Phrase:
    tables: dict[str, dict[str, tuple[str, ...]]]
    tables = {"place": _PLACES, "time": _TIMES, "weather": _WEATHERS}
    return rng.choice(tables[name][getattr(scene, name)]), frozenset({name})


_SLOTS: dict[str, Callable[[Scene, random.Random], Phrase]] = {
    "np_rel": _np_rel,
    "place": lambda s, r: _of("place", s, r),
    "time": lambda s, r: _of("time", s, r),
    "weather": lambda s, r: _of("weather", s, r),
    "the_place": lambda s, r: (f"the {s.place}", frozenset({"place"})),
    "t_is": lambda s, r: (r.choice(_TIME_IS[s.time]), frozenset({"time"})),
    "w_is": lambda s, r: (r.choice(_WEATHER_IS[s.weather]), frozenset({"weather"})),
    "colour": lambda s, r: (s.colour, frozenset({"colour"})),
    "cnt": lambda s, r: (_COUNTED[s.count], frozenset({"count"})),
    "it": lambda s, r: (
        _PRONOUNS.get(s.subject, "it" if s.count == "one" else "them"),
        frozenset(),
    ),
    "be": lambda s, r: ("is" if s.count == "one" else "are", frozenset()),
    "was": lambda s, r: ("was" if s.count == "one" else "were", frozenset()),
}


def scene_phrase(slot: str, scene: Scene, rng: random.Random) -> Phrase | None:
    """Words for a slot that the scene fills, and the attributes that they state; else None."""
    phrase = _SLOTS.get(slot)
    return phrase(scene, rng) if phrase else None


def action_list(scene: Scene) -> str:
    """The word list of what such a subject may be doing."""
    kind = SUBJECTS[scene.subject]
    return {"animal": "act_animal", "pet": "act_animal", "friend": "act_friend"}.get(
        kind, "act_thing"
    )


# ------------------------------------------------------------------------------------- reading


def _noun_patterns() -> dict[str, tuple[str, str]]:
    """For each subject: what matches one of it, and several."""
    patterns = {}
    for subject in SUBJECTS:
        one = set(NOUNS.get(subject, (subject,)))
        if subject == "dog":
            one.add("pup")
        many = {_MORE_PLURALS.get(n) or PLURALS.get(n) or n + "s" for n in one}
        patterns[subject] = ("|".join(sorted(one, reverse=True)), "|".join(sorted(many)))
    return patterns


_COLOUR = "|".join(COLOURS)
_SUBJECT_READERS = {
    subject: re.compile(rf"\b(?:{many}|{one})\b", re.IGNORECASE)
    for subject, (one, many) in _noun_patterns().items()
}
_ONE_OF = re.compile(
    rf"\b(?:a|an|one|single) (?:(?:{_COLOUR}) )?"
    rf"(?:{'|'.join(o for s, (o, _) in _noun_patterns().items() if s not in LOOKS)})\b",
    re.IGNORECASE,
)
_READERS: dict[str, dict[str, re.Pattern[str]]] = {
    attribute: {value: re.compile(pattern, re.IGNORECASE) for value, pattern in patterns.items()}
    for attribute, patterns in {
        "colour": {colour: rf"\b{colour}\b" for colour in COLOURS},
        "count": {
            "one": r"\b(?:just|only|exactly) one\b|\ba single\b",
            "two": r"\btwo\b",
            "three": r"\bthree\b",
        },
        "place": {
            "beach": r"\bbeach\b",
            "park": r"\bpark\b",
            "mountains": r"\bmountains?\b",
            "desert": r"\bdesert\b",
            "city": r"\bcity\b",
            "farm": r"\bfarm\b",
            "kitchen": r"\bkitchen\b",
            "bedroom": r"\bbedroom\b",
        },
        "time": {
            "day": r"\bdaylight\b|\bduring the day\b|\bmiddle of the day\b",
            "sunset": r"\bsunset\b|\bdusk\b",
            "night": r"\bat night\b|\bit's night\b|\bdark out\b|\bin the dark\b",
        },
        "weather": {
            "clear": r"\bclear (?:weather|sky|out)\b|\bsky is clear\b",
            "cloudy": r"\bcloudy\b|\bclouds\b",
            "rainy": r"\brain(?:y|ing)?\b",
            "snowy": r"\bsnow(?:y|ing)?\b",
        },
        "relation": {
            "alone": r"\ball alone\b",
            "beside": r"\b(?:beside|next to) (?:the|a) (?:table|bridge)\b",
            "on": r"\bon (?:the|a) (?:table|bridge)\b",
            "under": r"\bunder (?:the|a) (?:table|bridge)\b",
        },
        "anchor": {
            "nothing": r"\ball alone\b",
            "table": r"\btable\b",
            "bridge": r"\bbridge\b",
        },
    }.items()
}


def named_attributes(text: str) -> dict[str, set[str]]:
    """Which values of which attributes the text names; attributes that it leaves open are absent.

    A bare plural says nothing of the count; ``a dog`` and ``just one`` say that there is one.
    """
    found: dict[str, set[str]] = {}
    for subject, reader in _SUBJECT_READERS.items():
        if reader.search(text):
            found.setdefault("subject", set()).add(subject)
    for attribute, readers in _READERS.items():
        for value, reader in readers.items():
            if reader.search(text):
                found.setdefault(attribute, set()).add(value)
    if _ONE_OF.search(text):
        found.setdefault("count", set()).add("one")
    return found
