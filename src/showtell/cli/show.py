"""``showtell data show`` and ``stats``: look at data as the model meets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby, islice
from typing import Any

from rich.console import Console
from rich.text import Text

from showtell.data.photos import has_pixels
from showtell.data.showtell_jsonl import dialogue_as_dict
from showtell.data.sources import DataSource
from showtell.dialogue import AGENT, Dialogue
from showtell.errors import UsageError, printable

Render = Callable[[Dialogue], list[tuple[str, bool]]]
"""A dialogue's tokens as text, each with whether it is trained (``prompt.render_for_show``)."""
READERS = {"world": "mini", "photochat": "photochat_small"}


def render_of(model: str | None, source: DataSource) -> Render:
    """How a model's renderer (of the data's own, unless named) breaks a dialogue into tokens."""
    from showtell.papers import load_model
    from showtell.prompt import render_for_show

    return partial(render_for_show, load_model(model or READERS.get(source.kind, "mini")).renderer)


def dialogue_at(source: DataSource, index: int) -> Dialogue:
    """The dialogue with that index, counted from 0."""
    if source.world is not None or source.shards is not None:
        if index < len(source):
            return source[index]
    elif (found := next(islice(iter(source), index, None), None)) is not None:
        return found  # of a file no more is read
    raise UsageError(
        f"{source.name} has {len(source):,} dialogues, the last has the index "
        f"{len(source) - 1}; there is no {index}"
    )


def shown_dialogue(dialogue: Dialogue, console: Console, *, render: Render) -> Text:
    """The dialogue's tokens; trained ones in green, or between braces where there is no colour."""
    coloured = console.color_system is not None and not console.no_color
    shown = Text()
    tokens = render(dialogue)
    for trained, run in groupby(tokens, key=lambda token: token[1]):
        text = printable("".join(token for token, _ in run))
        shown.append(f"{{{text}}}" if trained and not coloured else text, "green" * trained)
    head = (
        f"{printable(dialogue.id)}: {len(dialogue.turns)} turns, {len(dialogue.photos)} photos, "
        f"{sum(trained for _, trained in tokens)} trained tokens "
        f"({'green' if coloured else 'between braces'})\n"
    )
    return Text.assemble((head, "bold"), shown)


def shown_as_dict(dialogue: Dialogue, *, render: Render) -> dict[str, Any]:
    """The same for programs: the dialogue and its tokens, each with whether it is trained."""
    return {**dialogue_as_dict(dialogue), "tokens": [list(pair) for pair in render(dialogue)]}


def statistics(
    source: DataSource, dialogues: Iterable[Dialogue], *, render: Render
) -> dict[str, Any]:
    """Counts of what there is and of what is missing; ``dialogues`` come from ``source``."""
    names = ("dialogues", "turns", "agent_turns", "photo_turns", "photos", "missing_photos")
    counts = dict.fromkeys((*names, "distinct_photos", "tokens", "trained_tokens"), 0)
    photo_ids: set[str] = set()
    for dialogue in dialogues:
        turns, photos, tokens = dialogue.turns, dialogue.photos, render(dialogue)
        counts["dialogues"] += 1
        counts["turns"] += len(turns)
        counts["agent_turns"] += sum(turn.speaker == AGENT for turn in turns)
        counts["photo_turns"] += sum(bool(turn.photos) for turn in turns)
        counts["photos"] += len(photos)
        counts["missing_photos"] += sum(not has_pixels(photo) for photo in photos)
        counts["tokens"] += len(tokens)
        counts["trained_tokens"] += sum(trained for _, trained in tokens)
        photo_ids.update(photo.id for photo in photos)
    counts["distinct_photos"] = len(photo_ids)
    return {"data": source.name, **counts, "skipped": len(source.skipped)}
