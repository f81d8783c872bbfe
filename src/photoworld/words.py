"""The words that the dialogues and captions of the photo world are made of."""

from __future__ import annotations

import functools
import json
import re
from importlib import resources

from photoworld.scenes import ATTRIBUTES, PLURALS


@functools.cache
def world_words() -> frozenset[str]:
    """All of them in lower case, slots of templates left out."""
    talk = resources.files("photoworld").joinpath("talk.json").read_text(encoding="utf-8")
    texts = [*_strings(json.loads(talk)), *PLURALS.values()]
    texts += [value for values in ATTRIBUTES.values() for value in values]
    found: set[str] = set()
    for text in texts:
        found.update(re.findall(r"[^\W\d_]+", re.sub(r"\{[^}]*\}", " ", text.lower())))
    return frozenset(found)


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value
    return [text for child in children for text in _strings(child)]  # type: ignore[attr-defined]
