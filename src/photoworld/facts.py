"""Words for what a photo shows, and the way back: which attributes a text names.

``scene_phrase`` and ``describe`` write; ``named_attributes`` reads. The two agree by law (see the
tests): what a phrase is said to state is exactly what the reader finds in it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from functools import cache

from photoworld import load_table
from photoworld.scenes import ATTRIBUTES, LOOKS, SUBJECTS, Scene, plural

Phrase = tuple[str, frozenset[str]]  # words, and the attributes that they state


def nouns(subject: str) -> list[str]:
    """What a subject is called, as often as it is; few synonyms: a small model must learn them."""
    found: list[str] = load_table("phrases")["nouns"].get(subject, [subject])
    return found


def things(scene: Scene, rng: random.Random, *, colour: bool, count: bool) -> Phrase:
    """The subject, with colour or count if wanted: ``two red dogs``, ``the red dogs``, ``Mia``."""
    named = {"subject"} | ({"colour"} if colour else set())
    if scene.subject in LOOKS:
        look = " in that {} jacket" if SUBJECTS[scene.subject] == "friend" else " with that {} fur"
        return scene.subject + (look.format(scene.colour) if colour else ""), frozenset(named)
    noun = rng.choice(nouns(scene.subject))
    words = [scene.colour] if colour else []
    words.append(noun if scene.count == "one" else plural(noun))
    if not count:
        return " ".join(["the", *words]), frozenset(named)
    head = ("an" if words[0][0] in "aeiou" else "a") if scene.count == "one" else scene.count
    return " ".join([head, *words]), frozenset(named | {"count"})


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
    words, named = known_things(scene, rng)
    if known and rng.random() < 0.5 and scene.subject not in LOOKS:
        words = "the " + re.sub(r"^an? ", "", words)
    phrases = [(words, named)]
    if "relation" in wanted:
        phrases.append(where_to(scene, rng))
    phrases += [_told(name, scene, rng) for name in ("place", "time", "weather") if name in wanted]
    return " ".join(p[0] for p in phrases), frozenset().union(*(p[1] for p in phrases))


_SLOTS = {  # which the scene fills, and the attribute that their words state
    **{"place": "place", "time": "time", "weather": "weather", "t_is": "time", "w_is": "weather"},
    **{"the_place": "place", "colour": "colour", "cnt": "count", "it": "", "be": "", "was": ""},
}


def _told(slot: str, scene: Scene, rng: random.Random) -> Phrase:
    name = _SLOTS[slot]
    words = load_table("phrases")["talk"][slot][getattr(scene, name)]
    return rng.choice(words), frozenset({name})


def scene_phrase(slot: str, scene: Scene, rng: random.Random) -> Phrase | None:
    """Words for a slot that the scene fills, and the attributes that they state; else None."""
    if slot == "np_rel":
        return describe(scene, rng, ("relation",) if rng.random() < 0.85 else (), known=False)
    if slot not in _SLOTS:
        return None
    if slot in load_table("phrases")["talk"]:
        return _told(slot, scene, rng)
    one, named = scene.count == "one", _SLOTS[slot]
    words = {
        "the_place": f"the {scene.place}",
        "colour": scene.colour,
        "cnt": "just one" if one else scene.count,
        "it": load_table("phrases")["pronouns"].get(scene.subject, "it" if one else "them"),
        "be": "is" if one else "are",
        "was": "was" if one else "were",
    }
    return words[slot], frozenset({named} if named else ())


def action_list(scene: Scene) -> str:
    """The word list of what such a subject may be doing."""
    lists = {"animal": "act_animal", "pet": "act_animal", "friend": "act_friend"}
    return lists.get(SUBJECTS[scene.subject], "act_thing")


# ------------------------------------------------------------------------------------- reading


@cache
def _readers() -> list[tuple[str, str, re.Pattern[str]]]:
    """Attribute, value and what finds it in a text, in the order in which they are named."""
    colours = ATTRIBUTES["colour"]
    patterns = {"subject": dict.fromkeys(SUBJECTS, ""), "colour": {c: rf"\b{c}\b" for c in colours}}
    patterns |= load_table("phrases")["read"]
    singles = []
    for subject in SUBJECTS:
        one = {*nouns(subject), *(["pup"] if subject == "dog" else [])}
        single = "|".join(sorted(one, reverse=True))
        several = "|".join(sorted(plural(noun) for noun in one))
        patterns["subject"][subject] = rf"\b(?:{several}|{single})\b"
        singles += [single] if subject not in LOOKS else []
    # a bare plural says nothing of the count; "a dog" says that there is one
    a_thing = rf"\b(?:a|an|one|single) (?:(?:{'|'.join(colours)}) )?(?:{'|'.join(singles)})\b"
    found = [(name, value, p) for name, values in patterns.items() for value, p in values.items()]
    return [
        (name, value, re.compile(pattern, re.IGNORECASE))
        for name, value, pattern in [*found, ("count", "one", a_thing)]
    ]


def named_attributes(text: str) -> dict[str, set[str]]:
    """Which values of which attributes the text names; attributes that it leaves open are absent.

    A bare plural says nothing of the count; ``a dog`` and ``just one`` say that there is one.
    """
    found: dict[str, set[str]] = {}
    for attribute, value, reader in _readers():
        if reader.search(text):
            found.setdefault(attribute, set()).add(value)
    return found
