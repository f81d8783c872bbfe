"""``home``, the agent for real life: the shipped adapter on parts out of a package index's wheels.

Who names no model gets it. Where its parts cannot be had, one line says so, and ``mini`` answers.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from showtell.errors import CheckpointError, FetchError, MissingDependency
from showtell.models.hub import fetch_parts

if TYPE_CHECKING:
    from showtell.agent.demo import Talk
    from showtell.agent.engines import WordPainter
    from showtell.agent.session import Answering
    from showtell.agent.zero_shot import ZeroShot

HOME, MINI = "home", "mini"


def agent_of(
    name: str | None,
    *,
    say: Callable[[str], None],
    album: str | PathLike[str] | None = None,
    painter: WordPainter | None = None,
) -> Answering:
    """The agent of that name or path; of no name ``home``, or else ``mini``, as ``say`` is told.

    Raises what ``load_model`` and ``responder`` raise.
    """
    from showtell.agent.session import responder
    from showtell.papers import load_model
    from showtell.runtime import fitting, in_dtype, the_dtype

    if name is None:
        name = HOME if home_is_here(say=say) else MINI
    with in_dtype(fitting() if name == HOME and the_dtype() is None else None):
        model = load_model(name)
    return responder(model, album=album, painter=painter)


def llm_agent(
    lm: str,
    *,
    painter: WordPainter | None = None,
    album: str | Path | None = None,
    calibration: Path | None = None,
) -> ZeroShot:
    """Any LLM as the agent, untrained: a folder, an id, or an address. ``calibration``: what was
    found out about it; without one its threshold is asked of the LLM itself.

    Raises UsageError, EngineError, CheckpointError, DataError.
    """
    from showtell.agent.engines import open_language
    from showtell.agent.which import Which
    from showtell.agent.zero_shot import Calibration, ZeroShot, read_calibration, threshold_of

    own = None if calibration is None else read_calibration(calibration, lm=lm)
    found = None
    if album is not None:
        from showtell.agent.album_words import open_photos
        from showtell.progress import terminal_progress

        found = open_photos(album, told=terminal_progress)
    language = open_language(lm)
    photos = Which(album=found, painter=painter)
    own = own or Calibration(threshold=threshold_of(language))
    return ZeroShot(language, photos=photos, calibration=own)


def home_is_here(*, say: Callable[[str], None]) -> bool:
    """Fetch what ``home`` lacks, its sizes said first; False, and one line, where that fails."""
    from showtell.models.checkpoint import model_folder
    from showtell.models.two_heads import PHOTOS, TEXTS

    try:
        model_folder(HOME)
        fetch_parts("smollm2-135m-instruct", TEXTS, PHOTOS, say=say)
    except (FetchError, MissingDependency, CheckpointError) as error:
        say(f"{HOME} cannot be had, and {MINI} goes on: {error}")
        return False
    return True


def demo_agents(
    name: str | None, *, seed: int, say: Callable[[str], None]
) -> list[tuple[Answering, list[Talk]]]:
    """Who talks in the demonstration, and what about: ``home`` over the sample album, where it can
    be had, and ``mini``; or the one that is named. Raises what ``agent_of`` raises."""
    from showtell.agent.demo import home_talks, mini_talks

    agents = []
    if name == HOME or (name is None and home_is_here(say=say)):
        agents.append((agent_of(HOME, say=say, album="sample"), home_talks(seed)))
    if name != HOME:
        agents.append((agent_of(name or MINI, say=say), mini_talks(seed)))
    return agents
