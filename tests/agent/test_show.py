"""Data as the model meets it."""

import io

import pytest

from showtell.agent.terminal import console_of
from showtell.cli.show import dialogue_at, shown_as_dict, shown_dialogue, statistics
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import UsageError

DIALOGUE = Dialogue(
    id="d",
    turns=(
        Turn(speaker=USER, elements=("hi there",)),
        Turn(speaker=AGENT, elements=("see this", Photo(id="p"))),
        Turn(speaker=AGENT, elements=(Photo(id="p", labels={"scene": {}}),)),
    ),
)


def render(dialogue):
    return [
        (word + " ", turn.speaker == AGENT) for turn in dialogue.turns for word in turn.text.split()
    ]


def test_trained_tokens_are_green_or_between_braces(monkeypatch):
    pipe = console_of(io.StringIO())
    assert shown_dialogue(DIALOGUE, pipe, render=render).plain.endswith("hi there {see this }")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = console_of(io.StringIO())
    screen.print(shown_dialogue(DIALOGUE, screen, render=render))
    assert "\x1b[32msee this \x1b[0m" in screen.file.getvalue()
    assert shown_as_dict(DIALOGUE, render=render)["tokens"][2] == ["see ", True]


def test_counts_add_up_and_drawn_photos_are_not_missing():
    counts = statistics(open_data("world:test"), [DIALOGUE, DIALOGUE], render=render)
    assert counts["turns"] == 6 and counts["agent_turns"] == 4 and counts["photo_turns"] == 4
    assert counts["photos"] == 4 and counts["distinct_photos"] == 1
    assert counts["missing_photos"] == 2
    assert counts["tokens"] == 8 and counts["trained_tokens"] == 4 and counts["skipped"] == 0


def test_an_index_beyond_the_end_is_misuse_and_says_the_last():
    source = open_data("world:5-6")
    assert dialogue_at(source, 1).id == list(source)[1].id
    with pytest.raises(UsageError, match="last has the index 1"):
        dialogue_at(source, 2)
