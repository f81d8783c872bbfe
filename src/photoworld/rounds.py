"""Ten questions and answers about a photo of the world, as VisDial has them.

Seven rounds settle something of the photo (subject, colour, count, place, time, weather, spot),
the others ask for what is not in it; in any order. The form is that of ``data/visdial.py``: the
user shows the photo and asks, the agent answers; ``photo_last`` there makes GILL's task of it.
Everything follows from an integer seed; splits are those of ``scenes.py``.
"""

from __future__ import annotations

import random

from photoworld.facts import things, where_to
from photoworld.scenes import (
    ATTRIBUTES,
    LOOKS,
    Scene,
    may_use_kept,
    photo_of,
    sample_scene,
    split_of,
)
from photoworld.words import word, write
from showtell.dialogue import AGENT, USER, Dialogue, Turn

ROUNDS = 10
_ASKED = {  # what is asked, and the acts of question and answer
    "subject": ("q_what", "c_what"),
    "colour": ("q_colour", "c_colour"),
    "count": ("q_count", "c_count"),
    "place": ("q_place", "c_where"),
    "time": ("q_time", "c_when"),
    "weather": ("q_weather", "c_sky"),
}


def world_rounds(seed: int) -> Dialogue:
    """The rounds of a seed. Labels of an answer: ``named`` (attribute to value); of the photo:
    ``scene``, ``stated``, ``determined`` (by all rounds)."""
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
        question, told = _ASKED[what]
        seen = {"seen": things(scene, rng, colour=False, count=False)}
        asked = str(write((question,), scene, rng=rng, with_kept=with_kept))
        written = write((told,), scene, rng=rng, with_kept=with_kept, values=seen)
        answer, named = str(written), frozenset(written.named)
    labels = {"named": {name: getattr(scene, name) for name in sorted(named)}}
    return [
        Turn(speaker=USER, elements=(asked,), labels={"named": {}}),
        Turn(speaker=AGENT, elements=(answer,), labels=labels),
    ]
