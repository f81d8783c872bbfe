"""``showtell data show`` and ``stats``: look at data as the model meets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from showtell.agent.terminal import Screen
from showtell.data.export import dialogue_as_dict
from showtell.data.sources import DataSource
from showtell.dialogue import AGENT, Dialogue
from showtell.errors import UsageError

Render = Callable[[Dialogue], list[tuple[str, bool]]]
"""A dialogue's tokens as text, each with whether it is trained (``prompt.render_for_show``)."""


def dialogue_at(source: DataSource, index: int) -> Dialogue:
    """The dialogue with that index, counted from 0."""
    if index < len(source):
        return source[index]
    raise UsageError(
        f"{source.name} has {len(source):,} dialogues, the last has the index "
        f"{len(source) - 1}; there is no {index}"
    )


def shown_dialogue(dialogue: Dialogue, screen: Screen, *, render: Render) -> str:
    """The dialogue's tokens; trained ones in green, or between braces where there is no colour."""
    runs: list[tuple[str, bool]] = []
    num_trained = 0
    for token, trained in render(dialogue):
        num_trained += trained
        if runs and runs[-1][1] == trained:
            runs[-1] = (runs[-1][0] + token, trained)
        else:
            runs.append((token, trained))
    text = "".join(
        run if not trained else screen.style(run, "trained") if screen.colour else "{" + run + "}"
        for run, trained in runs
    )
    legend = "green" if screen.colour else "between braces"
    head = (
        f"{dialogue.id}: {len(dialogue.turns)} turns, {len(dialogue.photos)} photos, "
        f"{num_trained} trained tokens ({legend})"
    )
    return f"{screen.style(head, 'bold')}\n{text}"


def shown_as_dict(dialogue: Dialogue, *, render: Render) -> dict[str, Any]:
    """The same for programs: the dialogue and its tokens, each with whether it is trained."""
    return {
        **dialogue_as_dict(dialogue),
        "tokens": [list(pair) for pair in render(dialogue)],
    }


def statistics(
    source: DataSource, dialogues: Iterable[Dialogue], *, render: Render
) -> dict[str, Any]:
    """Counts of what there is and of what is missing; ``dialogues`` come from ``source``."""
    counts = dict.fromkeys(
        ("dialogues", "turns", "agent_turns", "photo_turns", "photos", "missing_photos"), 0
    )
    num_tokens = num_trained = 0
    photo_ids: set[str] = set()
    for dialogue in dialogues:
        counts["dialogues"] += 1
        counts["turns"] += len(dialogue.turns)
        counts["agent_turns"] += sum(turn.speaker == AGENT for turn in dialogue.turns)
        counts["photo_turns"] += sum(bool(turn.photos) for turn in dialogue.turns)
        counts["photos"] += len(dialogue.photos)
        # a photo of the photo world is drawn from its scene, so it is never missing
        counts["missing_photos"] += sum(
            photo.path is None and "scene" not in photo.labels for photo in dialogue.photos
        )
        photo_ids.update(photo.id for photo in dialogue.photos)
        tokens = render(dialogue)
        num_tokens += len(tokens)
        num_trained += sum(trained for _, trained in tokens)
    return {
        "data": source.name,
        **counts,
        "distinct_photos": len(photo_ids),
        "tokens": num_tokens,
        "trained_tokens": num_trained,
        "skipped": len(source.skipped),
    }
