"""Which words a model was trained on, by its card."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any


def known_words(card: Mapping[str, Any]) -> frozenset[str]:
    """The words a model was trained on, by its card; empty if that does not say."""
    if (words := card.get("words", ())) == "world":
        from showtell.data.world import world_words

        words = world_words()
    return frozenset(word.lower() for word in words)


def unknown_words(text: str, known: Collection[str]) -> list[str]:
    """Words of four letters or more that are not known, in order; none if nothing is known."""
    found = dict.fromkeys(re.findall(r"[^\W\d_]{4,}", text.lower()) if known else ())
    return [word for word in found if word not in known and word.removesuffix("s") not in known]
